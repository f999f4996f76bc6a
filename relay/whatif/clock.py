"""An event loop on a simulated clock: when nothing is ready, time jumps to the next timer.

The race is written for asyncio, so it is run by asyncio, unmodified; only time is not real. Nothing
here waits for sockets, so the selector is never asked for any.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

T = TypeVar("T")

START_S: Final = 1000.0
"""Not 0, so that a forgotten origin shows."""


class NothingLeft(Exception):
    """Every task waits and no timer is set: nothing will ever happen again."""


class _Jump(selectors.SelectSelector):
    """Asked to wait for file descriptors, it moves the clock instead."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = START_S

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise NothingLeft("all tasks wait, and no timer is set")
        if timeout > 0:
            self.now_s += timeout
        return []


class SimulatedLoop(asyncio.SelectorEventLoop):
    """See the module. Threads and sockets do not work in it."""

    def __init__(self) -> None:
        self._jump = _Jump()
        super().__init__(self._jump)
        self._clock_resolution = 1e-9

    def time(self) -> float:
        """Simulated seconds."""
        return self._jump.now_s


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run to the end on a simulated loop of its own.

    Raises:
        NothingLeft: it waits for what cannot happen.
    """
    with asyncio.Runner(loop_factory=SimulatedLoop) as runner:
        return runner.run(main)
