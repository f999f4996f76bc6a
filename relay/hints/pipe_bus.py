"""Hints by the supervisor: to the other workers of this machine, and wherever it passes them on."""

from __future__ import annotations

from typing import Any

from relay.hints.bus import Take
from relay.workers.link import SupervisorLink


class PipeBus:
    """Over a worker's link, which is not closed with it."""

    def __init__(self, link: SupervisorLink, take: Take) -> None:
        self._link = link
        self._lost = 0
        link.on_hint = take

    def publish(self, hint: dict[str, Any]) -> bool:
        """See `HintBus`. Lost is what a supervisor that is stuck or gone does not read."""
        is_sent = self._link.hint(hint)
        self._lost += not is_sent
        return is_sent

    async def aclose(self) -> None:
        """Hear nothing more."""
        self._link.on_hint = None

    def describe(self) -> dict[str, Any]:
        """See `HintBus`."""
        return {"by": "supervisor", "lost": self._lost}
