"""The race for the first content event.

The model is happy eyeballs (RFC 8305) as trio writes it: start an attempt, start the next when it
fails or when its delay has passed, commit to the first that is ready and move the ownership of its
stream to the caller. Three things differ from connecting sockets. After a failure of the request
itself (`Retry.NO`) nobody else is asked, since most providers would say the same; one that is being
asked already may still answer (candidates differ in context length and filters). While its hedge
lives, a failed attempt is not replaced: the hedge is its replacement. A hedge that fails while
another attempt lives is replaced at once, by one more hedge: what it was sent for has not been
done. And a second attempt costs money, so a gate is asked when the moment has come, not before.

Without hedges the attempts run in the caller's own task, one after another: a request that may not
be hedged pays for no task and no wake-up. With them each attempt has a task; if several are ready
in one turn of the loop, the one that started first wins (its prompt cache is the warm one).

Losers are booked as losers before they are stopped, so that no breaker and no log takes them for
failures or for a client that went away; the reaper waits for them, never the winner.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, NamedTuple, Protocol, TypeVar

from relay.errors import AdmissionError, AllAttemptsFailed, RelayError, Retry, UnsupportedFeature
from relay.outcome import AttemptRecord, AttemptRole
from relay.reaper import Reaper
from relay.routing.plan import PlannedAttempt


class Contender(Protocol):
    """An attempt as the race sees it."""

    record: AttemptRecord

    async def run_until_ready(self) -> None:
        """Start, and return when there is content to hand over.

        Raises:
            RelayError: it failed, and has released everything.

        Cancelled: it has released everything.
        """
        ...

    def overdue(self) -> None:
        """A further attempt is due, though this one has not failed: whoever learns how slow it is
        may know now. May be told more than once."""
        ...

    def lose(self) -> bool:
        """Another won: note that, and stop. Idempotent, never waits.

        Returns whether it runs on instead, for what is learnt of it: `run_until_ready` then ends by
        itself, in bounded time, and leaves nothing behind.
        """
        ...

    def abort(self) -> None:
        """Nobody wants it any more: stop, also if it is ready. Idempotent, never waits."""
        ...


C = TypeVar("C", bound=Contender)


class TimedStart(NamedTuple):
    """A further attempt to be started beside those that run."""

    delay_s: float
    """After the start of the attempt before it."""
    step: PlannedAttempt | None
    """Where; if it has been tried already, or None, the next candidate that has not."""
    again_s: float | None = None
    """Ask again so long after the gate said no, as often as that takes; None: do without."""


class Gate(Protocol):
    """Whether a further attempt may be paid for; asked when it would start."""

    def may_hedge(self, step: PlannedAttempt) -> bool:
        """A second attempt beside one that runs; True has paid for it."""
        ...

    def may_replace_hedge(self, step: PlannedAttempt) -> bool:
        """A hedge in place of one that failed, beside an attempt that runs; True has paid for it,
        beside what was paid for the failed one."""
        ...

    def may_fail_over(self, step: PlannedAttempt) -> bool:
        """An attempt in place of one that failed; True has paid for it."""
        ...


class OpenGate:
    """Pays for everything."""

    def may_hedge(self, step: PlannedAttempt) -> bool:
        return True

    def may_replace_hedge(self, step: PlannedAttempt) -> bool:
        return True

    def may_fail_over(self, step: PlannedAttempt) -> bool:
        return True


OPEN_GATE = OpenGate()


async def run_race(
    planned: Sequence[PlannedAttempt],
    start: Callable[[PlannedAttempt, AttemptRole], C],
    *,
    hedges: Sequence[TimedStart] = (),
    gate: Gate = OPEN_GATE,
    reaper: Reaper | None = None,
) -> C:
    """Try the planned attempts until one is ready, and return it.

    An attempt on a reused connection that broke before any response byte is tried once more at
    the same target, free: the provider never saw the request.

    Args:
        planned: at least one, in the order to try.
        start: makes the attempt's object; called once for each attempt that starts.
        hedges: when further attempts start although none has failed, in order.
        gate: asked before a hedge and before a failover.
        reaper: takes the losers; needed with `hedges`.

    Raises:
        AllAttemptsFailed: every attempt failed, and nobody else is left or none could mend it.

    Cancelled: what runs is aborted; it is gone within this turn of the loop or the next.
    """
    if not hedges or reaper is None:
        return await _one_by_one(planned, start, gate)
    return await _Race(planned, start, hedges, gate, reaper).run()


async def _one_by_one(
    planned: Sequence[PlannedAttempt],
    start: Callable[[PlannedAttempt, AttemptRole], C],
    gate: Gate,
) -> C:
    failures: list[RelayError] = []
    role = AttemptRole.PRIMARY
    for step in planned:
        if failures and not gate.may_fail_over(step):
            break
        reset: RelayError | None = None
        while True:
            attempt = start(step, role)
            role = AttemptRole.FAILOVER
            try:
                await attempt.run_until_ready()
            except RelayError as error:
                if error.retry is Retry.IF_REUSED and reset is None:
                    reset = error
                    role = AttemptRole.RETRY
                    continue
                failures.append(_telling(reset, error))
                if _ends_the_race(error):
                    raise _all_failed(failures) from _group(failures)
                break
            attempt.record.is_winner = True
            return attempt
    raise _all_failed(failures) from _group(failures)


def _telling(reset: RelayError | None, error: RelayError) -> RelayError:
    """Of a free retry: if it was not even admitted, the reset before it is what happened."""
    return reset if reset is not None and isinstance(error, AdmissionError) else error


def _ends_the_race(error: RelayError) -> bool:
    """Whether no other target can mend it. What one wire cannot say, the next one may."""
    return error.retry is Retry.NO and not isinstance(error, UnsupportedFeature)


def _all_failed(failures: Sequence[RelayError]) -> AllAttemptsFailed:
    return AllAttemptsFailed(failures)


def _group(failures: Sequence[RelayError]) -> BaseException:
    return failures[0] if len(failures) == 1 else ExceptionGroup("attempts", failures)


class _Runner(NamedTuple, Generic[C]):
    attempt: C
    step: PlannedAttempt
    is_hedge: bool
    """Or the free retry of one."""
    reset: RelayError | None
    """What it is the free retry after."""


class _Race(Generic[C]):
    """One race whose attempts run beside each other; bound to the task that runs it."""

    def __init__(
        self,
        planned: Sequence[PlannedAttempt],
        start: Callable[[PlannedAttempt, AttemptRole], C],
        hedges: Sequence[TimedStart],
        gate: Gate,
        reaper: Reaper,
    ) -> None:
        self._left = deque(planned)
        self._start = start
        self._hedges = deque(hedges)
        self._gate = gate
        self._reaper = reaper
        self._loop = asyncio.get_running_loop()
        self._running: dict[asyncio.Task[None], _Runner[C]] = {}  # in the order of their starts
        self._failures: list[RelayError] = []
        self._timer: asyncio.TimerHandle | None = None
        self._is_hedge_due = False
        self._failed_hedges = 0
        """That are not replaced yet."""
        self._is_refused = False
        """The request itself: nobody else is asked."""
        self._changed: asyncio.Future[None] | None = None

    async def run(self) -> C:
        """See `run_race`."""
        winner: C | None = None
        try:
            self._launch(self._left.popleft(), AttemptRole.PRIMARY)
            while winner is None:
                await self._until_changed()
                winner = self._ready()
                if winner is None:
                    self._bury()
                    self._go_on()
            winner.record.is_winner = True
            return winner
        finally:
            if self._timer is not None:
                self._timer.cancel()
            for task, runner in self._running.items():
                attempt = runner.attempt
                if attempt is winner:
                    continue
                if winner is None:
                    # Also what is ready and was not taken: its task is over, its stream is not.
                    attempt.abort()
                    task.cancel()
                elif not attempt.lose():
                    task.cancel()
                self._reaper.take(_gone(task))

    # --- waiting ----------------------------------------------------------------------------

    async def _until_changed(self) -> None:
        """Return when an attempt has ended, or a hedge is due."""
        if self._is_hedge_due or any(task.done() for task in self._running):
            return
        self._changed = self._loop.create_future()
        try:
            await self._changed
        finally:
            self._changed = None

    def _wake(self, _: object = None) -> None:
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)

    def _on_timer(self) -> None:
        self._timer = None
        self._is_hedge_due = True
        self._wake()

    # --- what has happened ------------------------------------------------------------------

    def _ready(self) -> C | None:
        """The attempt that wins: of those that are ready, the one that started first."""
        for task, runner in self._running.items():
            if task.done() and not task.cancelled() and task.exception() is None:
                return runner.attempt
        return None

    def _bury(self) -> None:
        """Take out what has failed.

        Raises:
            BaseException: a bug in an attempt.
        """
        for task in [task for task in self._running if task.done()]:
            runner = self._running.pop(task)
            error = task.exception()  # a cancelled one raises: nobody cancels them but us
            if not isinstance(error, RelayError):
                raise error or RuntimeError("an attempt is ready and was not taken")
            if error.retry is Retry.IF_REUSED and runner.reset is None and not self._is_refused:
                self._launch(runner.step, AttemptRole.RETRY, error, is_hedge=runner.is_hedge)
                continue
            self._failed_hedges += runner.is_hedge
            self._failures.append(_telling(runner.reset, error))
            if _ends_the_race(error):
                self._is_refused = True

    def _go_on(self) -> None:
        """Start what is due: a hedge whose time has come or whose like has failed, or the next one
        when none lives.

        Raises:
            AllAttemptsFailed: none lives and none may be started.
        """
        failed_hedges, self._failed_hedges = self._failed_hedges, 0
        if self._running:
            if not self._is_refused:
                for _ in range(failed_hedges):
                    self._start_beside(self._candidates_left(), self._gate.may_replace_hedge)
                if self._is_hedge_due:
                    self._hedge(self._hedges.popleft())
            self._is_hedge_due = False
            return
        self._is_hedge_due = False
        if self._is_refused or not self._left or not self._gate.may_fail_over(self._left[0]):
            raise _all_failed(self._failures) from _group(self._failures)
        self._launch(self._left.popleft(), AttemptRole.FAILOVER)

    def _hedge(self, hedge: TimedStart) -> None:
        for runner in self._running.values():
            runner.attempt.overdue()
        step = hedge.step
        if step is None or (step.is_planned and step not in self._left):
            steps = self._candidates_left()
        else:
            steps = [step]
        if self._start_beside(steps, self._gate.may_hedge):
            return
        if hedge.again_s is not None and steps:
            self._hedges.appendleft(hedge._replace(delay_s=hedge.again_s))
        self._arm()

    def _candidates_left(self) -> list[PlannedAttempt]:
        """Who may be asked beside one that runs. Fallbacks are another class of answer: they come
        when all candidates have failed."""
        return [left for left in self._left if not left.is_fallback]

    def _start_beside(
        self, steps: Sequence[PlannedAttempt], may_start: Callable[[PlannedAttempt], bool]
    ) -> bool:
        """Start the first of these that can be paid for."""
        for step in steps:
            if may_start(step):
                if step in self._left:
                    self._left.remove(step)
                self._launch(step, AttemptRole.HEDGE, is_hedge=True)
                return True
        return False

    def _launch(
        self,
        step: PlannedAttempt,
        role: AttemptRole,
        reset: RelayError | None = None,
        *,
        is_hedge: bool = False,
    ) -> None:
        attempt = self._start(step, role)
        task = self._loop.create_task(attempt.run_until_ready())
        self._running[task] = _Runner(attempt, step, is_hedge, reset)
        task.add_done_callback(self._wake)
        self._arm()

    def _arm(self) -> None:
        """Set the timer of the next hedge anew; it counts from the last start."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._hedges:
            self._timer = self._loop.call_later(self._hedges[0].delay_s, self._on_timer)


async def _gone(task: asyncio.Task[None]) -> None:
    """Wait for a loser that was told to go; what it raises on the way is no news.

    Cancelled: one that runs on is stopped too.
    """
    try:
        await asyncio.wait([task])
    except asyncio.CancelledError:
        task.cancel()
        await asyncio.wait([task])
        raise
    if not task.cancelled():
        task.exception()
