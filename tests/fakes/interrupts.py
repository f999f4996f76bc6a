"""A coroutine that is interrupted at a chosen await point, in every way that Python has.

A task's own cancellation reaches only `CancelledError`, and only where it happens to wait. Here a
coroutine is driven by hand inside of a real task: at its n-th suspension the exception is thrown in
where the answer would have come. `CancelledError` goes as asyncio sends it, which cancels what is
waited for first. An interruption before the first step is that of a task that never ran.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

T = TypeVar("T")

INTERRUPTIONS: Final[tuple[type[BaseException], ...]] = (
    asyncio.CancelledError,
    GeneratorExit,
    KeyboardInterrupt,
    MemoryError,
)


@dataclass
class Outcome(Generic[T]):
    """What became of one that was interrupted."""

    points: int
    """How many times it had waited before."""
    was_interrupted: bool
    """False: it ended before it came to the point."""
    result: T | None = None
    error: BaseException | None = None


class _Driven(Generic[T]):
    """Awaited in place of the coroutine."""

    def __init__(
        self, coroutine: Coroutine[Any, Any, T], at: int, interruption: type[BaseException]
    ) -> None:
        self._coroutine = coroutine
        self._at = at
        self._interruption = interruption
        self.points = 0
        self.was_interrupted = False

    def __await__(self) -> Generator[Any, Any, T]:
        inner = self._coroutine
        if self._at == 0:
            self.was_interrupted = True
            inner.close()
            raise self._interruption
        try:
            waited_for = inner.send(None)
            while True:
                self.points += 1
                if self.points == self._at:
                    self.was_interrupted = True
                    waited_for = self._throw(waited_for)
                    continue
                try:
                    answer = yield waited_for
                except BaseException as error:  # noqa: BLE001 - it is the coroutine's
                    waited_for = inner.throw(error)
                else:
                    waited_for = inner.send(answer)
        except StopIteration as stop:
            result: T = stop.value
            return result

    def _throw(self, waited_for: Any) -> Any:
        if asyncio.isfuture(waited_for):
            waited_for._asyncio_future_blocking = False  # the task never gets to see it
            if self._interruption is asyncio.CancelledError:
                waited_for.cancel()
        return self._coroutine.throw(self._interruption())


async def interrupted(
    coroutine: Coroutine[Any, Any, T], at: int, interruption: type[BaseException]
) -> Outcome[T]:
    """Run a coroutine and interrupt it at its `at`-th suspension, counted from 1; 0: before it
    begins. Whatever it raises is in the outcome."""
    driven = _Driven(coroutine, at, interruption)
    try:
        result = await driven
    except BaseException as error:  # noqa: BLE001 - what is asked for
        return Outcome(driven.points, driven.was_interrupted, error=error)
    return Outcome(driven.points, driven.was_interrupted, result=result)


def ways(most_points: int) -> Sequence[tuple[int, type[BaseException]]]:
    """Every point up to so many, with every interruption."""
    return [(at, kind) for at in range(most_points + 1) for kind in INTERRUPTIONS]
