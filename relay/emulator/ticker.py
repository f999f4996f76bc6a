"""One timer for all streams.

Performances ask to be resumed at absolute monotonic times, so a late tick never delays the next
one (no drift). All dues sit in one heap and a single loop timer waits for the earliest: a timer
per token and stream costs a future, a handle and a task switch each, this costs a heap push.

libuv timers count whole milliseconds of a clock read at the start of a loop iteration, so they
fire up to a millisecond early. A due that close is taken now: waiting for the rest would be a
spin of zero-length timers (measured: it doubled the CPU per token). Tokens are stamped when they
are written, so this moves no measurement.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Callable

_EARLY_S = 0.001


class Ticker:
    """Calls functions at absolute times of `time.monotonic()`."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._sequence = 0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due_s = float("inf")

    def at(self, due_s: float, function: Callable[[], None]) -> None:
        """Call `function` at `due_s`, or at once in the next tick if that has passed."""
        self._sequence += 1
        heapq.heappush(self._heap, (due_s, self._sequence, function))
        if due_s < self._timer_due_s - _EARLY_S:
            self._arm(due_s)

    def _arm(self, due_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_due_s = due_s
        self._timer = self._loop.call_later(max(0.0, due_s - time.monotonic()), self._tick)

    def _tick(self) -> None:
        self._timer = None
        # Dues pushed by the functions below are found by this loop; no timer must be armed.
        self._timer_due_s = float("-inf")
        heap = self._heap
        limit_s = time.monotonic() + _EARLY_S
        # Taken out first: a stream whose next due has passed too waits for the next tick, so
        # that one without gaps between its tokens cannot starve the others.
        due = []
        while heap and heap[0][0] <= limit_s:
            due.append(heapq.heappop(heap)[2])
        try:
            due.reverse()
            while due:
                due.pop()()
        finally:
            # Left over only when one raised: that is for the loop to report, not for the others
            # to suffer from.
            for function in reversed(due):
                self._loop.call_soon(function)
            self._timer_due_s = float("inf")
            if heap:
                self._arm(heap[0][0])
