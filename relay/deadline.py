"""Points in time, and the two ways a task is told that its time is up.

`Scope` is `asyncio.timeout` for any reason: somebody else (a timer, a client's cancel frame, a
drain) cancels the task inside with a `RelayError`, and the task learns which. `Watchdog` is one
lazy timer for a whole stream: the hot path only assigns attributes, the timer looks at them when
it happens to fire and re-arms itself for the time that is left.

A timer that is heard late says that we stood still (a paused machine, a starved process), and then
what was waited for may have come meanwhile and not been read yet: timers that are over `LATE_S`
late wait `GRACE_S` more before they end anything. Else one pause of a second would fail everything
in flight, and teach the breakers that every provider is dead.

Time is `clock()`, monotonic seconds; `loop.time()` is not used for readings, since uvloop caches
it in whole milliseconds per iteration of the loop.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Final, NamedTuple

from relay.errors import LocalProtocolError, RelayError

LATE_S: Final = 0.1
"""Of a timer: later than loops are under load."""
GRACE_S: Final = 0.05
"""For what has come meanwhile to be read: some turns of the loop, and of the engine's thread."""

Clock = Callable[[], float]
"""Monotonic seconds: `time.monotonic`, or the virtual clock of a test."""


class Deadline(NamedTuple):
    """An absolute point on the monotonic clock; `at_s` None is "never"."""

    at_s: float | None

    @classmethod
    def after(cls, now_s: float, *limits_s: float | None) -> Deadline:
        """The soonest of the limits counted from `now_s`; None entries do not limit."""
        given = [limit for limit in limits_s if limit is not None]
        return cls(now_s + min(given)) if given else cls(None)

    def remaining_s(self, now_s: float) -> float | None:
        """Seconds left, never negative; None without a deadline."""
        return None if self.at_s is None else max(0.0, self.at_s - now_s)


class Scope:
    """A part of one task's life that others may end, with a cause.

    Enter it in the task; hand it to whoever may cancel. In the task, catch `CancelledError` and
    ask `caught()`: the cause if the cancellation was ours, None if it came from outside and must
    be raised again. Scopes of one task may nest, like `asyncio.timeout`.
    """

    __slots__ = ("_base", "_has_left", "_is_requested", "_task", "cause")

    def __init__(self) -> None:
        self._task: asyncio.Task[object] | None = None
        self._base = 0
        self._is_requested = False
        self._has_left = False
        self.cause: RelayError | None = None
        """Why the scope was cancelled; None while it was not. Cancelled before it was entered, a
        scope interrupts nothing: look here after `enter`."""

    def enter(self) -> None:
        """Bind the scope to the running task; it leaves with `leave`, in a `finally`.

        Raises:
            LocalProtocolError: no task is running.
        """
        task = asyncio.current_task()
        if task is None:
            raise LocalProtocolError("a scope is entered in a task")
        self._task = task
        self._base = task.cancelling()

    def leave(self) -> None:
        """The task has left; later `cancel` calls do nothing.

        A cancellation that nobody asked `caught()` about (something inside turned it into an
        error of its own) is taken back, so that it cannot be mistaken for somebody else's.
        """
        if self._is_requested and self._task is not None:
            self._is_requested = False
            self._task.uncancel()
        self._task = None
        self._has_left = True

    def cancel(self, cause: RelayError) -> bool:
        """Cancel the task inside with this cause; the first cause wins.

        Returns whether this call is the one that counts. Called by a callback or by another task,
        never by the task inside, which can simply raise.

        Raises:
            LocalProtocolError: called by the task inside.
        """
        if self.cause is not None or self._has_left:
            return False
        if self._task is None:
            self.cause = cause
            return True
        if asyncio.current_task() is self._task:
            raise LocalProtocolError("a task does not cancel the scope it is in")
        self.cause = cause
        self._is_requested = True
        self._task.cancel()
        return True

    def caught(self) -> RelayError | None:
        """After `CancelledError`: the cause if it was this scope's doing alone, else None."""
        if not self._is_requested or self._task is None:
            return None
        self._is_requested = False
        if self._task.uncancel() > self._base:
            return None  # somebody outside wants the task to end too; that goes first
        return self.cause


class Timer:
    """One shot: cancels a scope with an error unless stopped before."""

    __slots__ = ("_due_s", "_handle", "_loop", "_make", "_scope")

    def __init__(self, scope: Scope, delay_s: float | None, make: Callable[[], RelayError]) -> None:
        self._handle: asyncio.TimerHandle | None = None
        if delay_s is None:
            return
        self._scope = scope
        self._make = make
        self._loop = loop = asyncio.get_running_loop()
        self._due_s = loop.time() + delay_s
        self._handle = loop.call_later(delay_s, self._fire)

    def _fire(self) -> None:
        loop = self._loop
        if loop.time() - self._due_s > LATE_S:
            self._due_s = math.inf
            self._handle = loop.call_later(GRACE_S, self._fire)
            return
        self._handle = None
        self._scope.cancel(self._make())

    def stop(self) -> None:
        """Idempotent."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None


class Watchdog:
    """Ends a scope when the task has waited in one state for longer than that state's limit.

    The hot path calls `enter(state, now)`: two assignments. States are small integers that
    index `limits_s` (seconds); a limit of None never fires. It runs from its construction, in
    state 0, until it fires or `stop` is called.
    """

    __slots__ = ("_clock", "_due_s", "_handle", "_limits_s", "_make", "_scope", "since_s", "state")

    def __init__(
        self,
        scope: Scope,
        limits_s: tuple[float | None, ...],
        make: Callable[[int], RelayError],
        clock: Clock,
    ) -> None:
        self._scope = scope
        self._limits_s = limits_s
        self._make = make
        self._clock = clock
        self.state = 0
        self.since_s = clock()
        self._handle: asyncio.TimerHandle | None = None
        self._arm()

    def _arm(self) -> None:
        """Look again when the present state could first be over its limit.

        Another state entered meanwhile may have a shorter limit, so no nap is longer than the
        shortest limit of all.
        """
        limits = [limit for limit in self._limits_s if limit is not None]
        if not limits:
            return
        left_s = min(limits)
        limit_s = self._limits_s[self.state]
        if limit_s is not None:
            left_s = min(left_s, self.since_s + limit_s - self._clock())
        loop = asyncio.get_running_loop()
        left_s = max(left_s, 0.001)
        self._due_s = loop.time() + left_s
        self._handle = loop.call_later(left_s, self._look)

    def _look(self) -> None:
        limit_s = self._limits_s[self.state]
        if limit_s is not None and self._clock() - self.since_s >= limit_s:
            loop = asyncio.get_running_loop()
            if loop.time() - self._due_s > LATE_S:
                self._due_s = math.inf
                self._handle = loop.call_later(GRACE_S, self._look)
                return
            self._handle = None
            self._scope.cancel(self._make(self.state))
            return
        self._arm()

    def enter(self, state: int, now_s: float) -> None:
        """The task waits in `state` from now on."""
        self.state = state
        self.since_s = now_s

    def stop(self) -> None:
        """Idempotent."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
