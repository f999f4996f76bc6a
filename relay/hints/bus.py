"""What carries hints from a worker to the others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

Take = Callable[[dict[str, Any]], None]
"""Is given a hint of another worker, as JSON data; must not raise."""


class HintBus(Protocol):
    """One way out, and in. Hints that it cannot carry are lost, and counted."""

    def publish(self, hint: dict[str, Any]) -> bool:
        """Hand a hint over; never waits, never raises. False if it was lost at once."""
        ...

    async def aclose(self) -> None:
        """Idempotent, bounded in time."""
        ...

    def describe(self) -> dict[str, Any]:
        """For people: no secrets, no addresses."""
        ...
