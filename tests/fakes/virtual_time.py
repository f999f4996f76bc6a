"""An event loop whose clock jumps to the next timer whenever nothing is ready: no test sleeps.

    @on_virtual_time
    async def test_something() -> None:
        began_s = now_s()
        await asyncio.sleep(3600)
        assert now_s() - began_s == 3600

Time is rounded to nanoseconds, so sums of decimal delays compare equal to their literals. It
begins at `START_S` and not at 0, so that a forgotten origin shows. Waiting for what can never
happen raises `NothingLeft` instead of hanging.

`run` does the same for a coroutine made elsewhere (one loop an example of a property test), and
can call something between two given iterations of the loop, which is how the cancellation tests
reach every await point. Both check what `conftest` checks of other tests: no task is left behind,
nothing was raised in a callback.
"""

from __future__ import annotations

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

T = TypeVar("T")
P = ParamSpec("P")

START_S = 1000.0


class NothingLeft(Exception):
    """Every task waits and no timer is set: nothing will ever happen again."""


class _JumpingSelector(selectors.SelectSelector):
    """Asked to wait for file descriptors, it moves the clock instead."""

    def __init__(self) -> None:
        super().__init__()
        self.loop: VirtualLoop | None = None

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if self.loop is not None:
            self.loop.step(timeout, is_idle=not ready)
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """See the module."""

    def __init__(self) -> None:
        self._now_s = START_S
        self.steps = 0
        """Iterations of the loop so far."""
        self._at_step: dict[int, Callable[[], None]] = {}
        selector = _JumpingSelector()
        super().__init__(selector)
        selector.loop = self
        self._clock_resolution = 1e-9

    def time(self) -> float:
        return self._now_s

    def at_step(self, step: int, callback: Callable[[], None]) -> None:
        """Call back at the beginning of that iteration, before what is ready in it."""
        self._at_step[step] = callback

    def stand_still(self, pause_s: float) -> None:
        """Time goes on and nothing runs, as in a process that the machine leaves without a core."""
        self._now_s = round(self._now_s + pause_s, 9)

    def step(self, timeout: float | None, *, is_idle: bool) -> None:
        """One iteration begins (the selector's)."""
        self.steps += 1
        callback = self._at_step.pop(self.steps, None)
        if callback is not None:
            callback()
            return  # what it made ready runs before the clock moves
        if not is_idle or timeout == 0:
            return
        if timeout is None:
            raise NothingLeft(f"{len(asyncio.all_tasks(self))} tasks wait, no timer is set")
        self._now_s = round(self._now_s + timeout, 9)


def stand_still(pause_s: float) -> None:
    """See `VirtualLoop.stand_still`; of the running loop."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    loop.stand_still(pause_s)


def now_s() -> float:
    """The virtual time of the running loop."""
    return asyncio.get_running_loop().time()


def since_start_s() -> float:
    """The same, counted from the loop's own beginning."""
    return round(now_s() - START_S, 9)


def run(main: Coroutine[Any, Any, T], *, at_step: dict[int, Callable[[], None]] | None = None) -> T:
    """Run to the end on a loop of its own.

    Args:
        at_step: what to call between iterations, by the iteration's number.
    """
    failures: list[dict[str, Any]] = []
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, VirtualLoop)
        loop.set_exception_handler(lambda _, context: failures.append(context))
        for step, callback in (at_step or {}).items():
            loop.at_step(step, callback)
        try:
            result = runner.run(main)
        finally:
            # A coroutine that never ran must not be reported beside the real failure.
            main.close()
        left = runner.run(_left_behind())
    assert not left, f"tasks left behind: {left}"
    assert not failures, f"exceptions in the loop: {failures}"
    return result


async def _left_behind() -> set[asyncio.Task[Any]]:
    for _ in range(10):  # callbacks of tasks that just ended
        await asyncio.sleep(0)
    left = {task for task in asyncio.all_tasks() if task is not asyncio.current_task()}
    if left:
        _, left = await asyncio.wait(left, timeout=2.0)
    return left


def on_virtual_time(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Decorator: the async test runs on a virtual clock."""

    @functools.wraps(test)
    def runs(*args: P.args, **kwargs: P.kwargs) -> None:
        run(test(*args, **kwargs))

    return runs
