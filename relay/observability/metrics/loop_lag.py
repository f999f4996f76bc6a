"""How late the event loop is: a timer that says when it should have come."""

from __future__ import annotations

import asyncio
from typing import Final

from relay.observability.metrics.histogram import Histogram

EVERY_S: Final = 0.1
"""Some microseconds of CPU each."""
BOUNDS_S: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
WINDOW_S: Final = 10.0


class LoopLag:
    """Made and used in one loop; `start` it, `aclose` it."""

    def __init__(self) -> None:
        self.histogram = Histogram(BOUNDS_S)
        self._timer: asyncio.TimerHandle | None = None
        self._due_s = 0.0
        self._worst_s = 0.0
        self._before_s = 0.0
        self._window_ends_s = 0.0

    def start(self) -> None:
        """Begin to measure."""
        loop = asyncio.get_running_loop()
        self._window_ends_s = loop.time() + WINDOW_S
        self._due_s = loop.time() + EVERY_S
        self._timer = loop.call_at(self._due_s, self._tick)

    def aclose(self) -> None:
        """Stop. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def late(self, lag_s: float, now_s: float) -> None:
        """A timer came so late."""
        self.histogram.observe(max(0.0, lag_s))
        if now_s >= self._window_ends_s:
            self._before_s, self._worst_s = self._worst_s, 0.0
            self._window_ends_s = now_s + WINDOW_S
        self._worst_s = max(self._worst_s, lag_s)

    @property
    def worst_s(self) -> float:
        """In this window and the one before."""
        return max(self._worst_s, self._before_s)

    def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        now_s = loop.time()
        self.late(now_s - self._due_s, now_s)
        self._due_s = now_s + EVERY_S
        self._timer = loop.call_at(self._due_s, self._tick)
