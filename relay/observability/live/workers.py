"""The workers, as who shows them asks: those of a supervisor, or the one that is all there is."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, Protocol


class Workers(Protocol):
    """`relay.supervisor.Supervisor` is one."""

    async def ask(
        self, what: str, *given: Any, of: Callable[[int], bool] = ...
    ) -> Mapping[int, Any]:
        """Answers by the worker's number; an exception from those that have none."""
        ...

    def places(self) -> Mapping[int, dict[str, Any]]:
        """What is known of each without asking: `status`, `restarts` and more."""
        ...


class OwnWorker:
    """A worker that is alone, asked in its own loop.

    Args:
        status: `ready` or `draining`.
    """

    def __init__(self, answers: Mapping[str, Callable[..., Any]], status: Callable[[], str]):
        self._answers = answers
        self._status = status

    async def ask(
        self, what: str, *given: Any, of: Callable[[int], bool] = lambda _: True
    ) -> dict[int, Any]:
        return {0: self._answers[what](*given)} if of(0) else {}

    def places(self) -> dict[int, dict[str, Any]]:
        return {0: {"status": self._status(), "restarts": 0, "pid": os.getpid(), "silent_s": 0.0}}
