"""An event loop that never waits: its clock jumps to the next timer. No selector, no sockets."""

from __future__ import annotations

import asyncio
from typing import Any


class SimulatedLoop(asyncio.BaseEventLoop):
    """See the module. `asyncio`'s own loop turns; only what waits is replaced."""

    def __init__(self, start_s: float = 1000.0) -> None:
        super().__init__()
        self._now_s = start_s
        self._selector = self  # what a loop asks to wait
        self._clock_resolution = 1e-9

    def time(self) -> float:
        return self._now_s

    def select(self, timeout: float | None) -> list[Any]:
        """Nothing is ready for `timeout`: it is over."""
        if timeout is None:
            raise RuntimeError("every task waits and no timer is set")
        if timeout > 0:
            self._now_s = max(self._now_s, self._scheduled[0].when())  # type: ignore[attr-defined]
        return []

    def _process_events(self, event_list: list[Any]) -> None:
        pass

    def _write_to_self(self) -> None:
        pass
