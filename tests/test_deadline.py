"""Deadlines, scopes, timers and the watchdog: who is told, when, and which cause wins."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from relay.deadline import GRACE_S, LATE_S, Deadline, Scope, Timer, Watchdog
from relay.errors import (
    ClientCancelled,
    DeadlineExceeded,
    LocalProtocolError,
    RelayError,
    SlowConsumer,
    StreamStalled,
)
from tests.fakes.virtual_time import now_s, on_virtual_time, since_start_s, stand_still

FIRST = ClientCancelled("first")
SECOND = DeadlineExceeded("second")


def soon(callback: Callable[[], object], delay_s: float = 0.25) -> None:
    asyncio.get_running_loop().call_later(delay_s, callback)


# --- Deadline -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "at_s"),
    [((), None), ((None,), None), ((2.0,), 12.0), ((None, 3.0, 2.0), 12.0), ((0.0, 5.0), 10.0)],
)
def test_deadline_is_the_soonest_limit(
    limits: tuple[float | None, ...], at_s: float | None
) -> None:
    assert Deadline.after(10.0, *limits).at_s == at_s


def test_remaining_time_is_never_negative() -> None:
    deadline = Deadline.after(10.0, 2.0)
    assert deadline.remaining_s(11.5) == 0.5
    assert deadline.remaining_s(99.0) == 0.0
    assert Deadline(None).remaining_s(99.0) is None


# --- Scope ----------------------------------------------------------------------------------


async def wait_in(scope: Scope) -> RelayError | None:
    """Wait inside; the cause when the scope was cancelled, raises when somebody else did it."""
    scope.enter()
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        cause = scope.caught()
        if cause is None:
            raise
        return cause
    finally:
        scope.leave()
    return None


@on_virtual_time
async def test_cancelled_scope_tells_its_cause() -> None:
    scope = Scope()
    soon(lambda: scope.cancel(FIRST))
    assert await wait_in(scope) is FIRST
    assert since_start_s() == 0.25
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0, "the task goes on as if nothing had been"


@on_virtual_time
async def test_first_cause_wins() -> None:
    scope = Scope()
    answers: list[bool] = []
    soon(lambda: answers.append(scope.cancel(FIRST)))
    soon(lambda: answers.append(scope.cancel(SECOND)))
    assert await wait_in(scope) is FIRST
    assert answers == [True, False]


@on_virtual_time
async def test_cancel_before_enter_interrupts_nothing_and_is_remembered() -> None:
    scope = Scope()
    assert scope.cancel(FIRST)
    assert not scope.cancel(SECOND)
    scope.enter()
    await asyncio.sleep(1)
    assert scope.cause is FIRST
    scope.leave()


@on_virtual_time
async def test_cancel_after_leave_does_nothing() -> None:
    scope = Scope()
    scope.enter()
    scope.leave()
    assert not scope.cancel(FIRST)
    assert scope.cause is None
    await asyncio.sleep(0)


@on_virtual_time
async def test_task_does_not_cancel_its_own_scope() -> None:
    scope = Scope()
    scope.enter()
    with pytest.raises(LocalProtocolError):
        scope.cancel(FIRST)
    scope.leave()


def test_scope_is_entered_in_a_task() -> None:
    async def nothing() -> None:
        pass

    loop = asyncio.new_event_loop()
    failures: list[BaseException] = []

    def enter() -> None:
        try:
            Scope().enter()
        except LocalProtocolError as error:
            failures.append(error)
        loop.stop()

    loop.call_soon(enter)
    loop.run_forever()
    loop.close()
    assert len(failures) == 1


@on_virtual_time
async def test_outside_cancel_passes_through() -> None:
    scope = Scope()
    task = asyncio.ensure_future(wait_in(scope))
    soon(task.cancel)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert scope.cause is None


@pytest.mark.parametrize("scope_first", [True, False])
def test_outside_cancel_in_the_same_tick_goes_first(scope_first: bool) -> None:
    @on_virtual_time
    async def check() -> None:
        scope = Scope()
        task = asyncio.ensure_future(wait_in(scope))
        acts: list[Callable[[], object]] = [lambda: scope.cancel(FIRST), task.cancel]
        for act in acts if scope_first else reversed(acts):
            soon(act)
        with pytest.raises(asyncio.CancelledError):
            await task

    check()


@on_virtual_time
async def test_outer_scope_wins_over_an_inner_one_in_the_same_tick() -> None:
    outer, inner = Scope(), Scope()
    soon(lambda: inner.cancel(FIRST))
    soon(lambda: outer.cancel(SECOND))
    outer.enter()
    try:
        await wait_in(inner)
    except asyncio.CancelledError:
        assert outer.caught() is SECOND
    else:
        pytest.fail("the inner scope swallowed the outer one's cancellation")
    finally:
        outer.leave()
    await asyncio.sleep(0)


@on_virtual_time
async def test_inner_scope_leaves_the_outer_one_alone() -> None:
    outer, inner = Scope(), Scope()
    soon(lambda: inner.cancel(FIRST))
    outer.enter()
    assert await wait_in(inner) is FIRST
    assert outer.cause is None
    soon(lambda: outer.cancel(SECOND))
    with pytest.raises(asyncio.CancelledError):
        await asyncio.sleep(5)
    assert outer.caught() is SECOND
    outer.leave()


@on_virtual_time
async def test_scopes_and_asyncio_timeouts_nest() -> None:
    scope = Scope()
    soon(lambda: scope.cancel(FIRST), 0.5)
    scope.enter()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.25):
            await asyncio.sleep(5)
    try:
        async with asyncio.timeout(5):
            await asyncio.sleep(5)
    except asyncio.CancelledError:
        assert scope.caught() is FIRST
    scope.leave()
    assert since_start_s() == 0.5


@on_virtual_time
async def test_scope_that_is_left_by_another_exception_gives_its_cancel_back() -> None:
    """What is called inside may turn a cancellation into an error of its own."""
    scope = Scope()
    soon(lambda: scope.cancel(FIRST))
    scope.enter()
    try:
        await asyncio.sleep(5)
    except asyncio.CancelledError:
        pass  # swallowed; `caught` is never asked
    scope.leave()
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    outer = Scope()
    soon(lambda: outer.cancel(SECOND))
    assert await wait_in(outer) is SECOND


# --- Timer ----------------------------------------------------------------------------------


@on_virtual_time
async def test_timer_cancels_with_its_error_on_time() -> None:
    scope = Scope()
    timer = Timer(scope, 1.5, lambda: SECOND)
    assert await wait_in(scope) is SECOND
    assert since_start_s() == 1.5
    timer.stop()


@on_virtual_time
async def test_stopped_timer_and_timer_without_a_delay_do_nothing() -> None:
    scope = Scope()
    for timer in (Timer(scope, 0.5, lambda: SECOND), Timer(scope, None, lambda: SECOND)):
        timer.stop()
        timer.stop()
    scope.enter()
    await asyncio.sleep(1)
    scope.leave()
    assert scope.cause is None


# --- standing still -------------------------------------------------------------------------


async def heard_after(pause_s: float, comes_s: float | None) -> RelayError | None:
    """Wait for something under a timer of 1 s in a process that stands still for `pause_s` of it
    and after which it is read `comes_s` later; what ended the wait."""
    scope, came = Scope(), asyncio.Event()
    timer = Timer(scope, 1.0, lambda: SECOND)
    loop = asyncio.get_running_loop()

    def pause() -> None:
        stand_still(pause_s)
        if comes_s is not None:
            loop.call_later(comes_s, came.set)

    loop.call_later(0.5, pause)
    scope.enter()
    try:
        await came.wait()
        return None
    except asyncio.CancelledError:
        return scope.caught()
    finally:
        timer.stop()
        scope.leave()


@pytest.mark.parametrize(
    ("pause_s", "comes_s", "is_ended"),
    [
        pytest.param(3.0, 0.0, False, id="what came meanwhile is read"),
        pytest.param(3.0, GRACE_S * 0.9, False, id="within the grace"),
        pytest.param(3.0, GRACE_S * 1.1, True, id="after the grace"),
        pytest.param(3.0, None, True, id="nothing came"),
        pytest.param(0.5 + LATE_S * 0.9, 0.01, True, id="hardly late"),
        pytest.param(0.4, 0.2, True, id="not late"),
    ],
)
@pytest.mark.parametrize("ends", ["timer", "watchdog"])
def test_who_stood_still_looks_again_before_it_ends_anything(
    pause_s: float, comes_s: float | None, is_ended: bool, ends: str
) -> None:
    @on_virtual_time
    async def by_timer() -> None:
        assert (await heard_after(pause_s, comes_s) is SECOND) is is_ended

    @on_virtual_time
    async def by_watchdog() -> None:
        scope = Scope()
        dog = Watchdog(scope, (1.0,), overdue, now_s)
        loop = asyncio.get_running_loop()

        def pause() -> None:
            stand_still(pause_s)
            if comes_s is not None:
                loop.call_later(comes_s, lambda: dog.enter(0, now_s()))

        loop.call_later(0.5, pause)
        scope.enter()
        try:
            await asyncio.sleep(max(0.5 + pause_s, 1.0) + GRACE_S * 1.5)
            if is_ended and comes_s is None:
                await asyncio.sleep(3600)
        except asyncio.CancelledError:
            assert isinstance(scope.caught(), StreamStalled)
            assert is_ended
        else:
            assert not is_ended
        finally:
            scope.leave()
            dog.stop()

    (by_timer if ends == "timer" else by_watchdog)()


# --- Watchdog -------------------------------------------------------------------------------

UPSTREAM, DOWNSTREAM = 0, 1


def overdue(state: int) -> RelayError:
    return StreamStalled("upstream") if state == UPSTREAM else SlowConsumer("downstream")


async def play(
    limits_s: tuple[float | None, ...], moves: list[tuple[float, int]]
) -> tuple[type[RelayError] | None, float]:
    """Enter states at times, wait up to an hour; which error ended it, and when."""
    scope = Scope()
    dog = Watchdog(scope, limits_s, overdue, now_s)
    for at_s, state in moves:
        soon(lambda state=state: dog.enter(state, now_s()), at_s)  # type: ignore[misc]
    scope.enter()
    try:
        await asyncio.sleep(3600)
    except asyncio.CancelledError:
        cause = scope.caught()
        assert cause is not None
        return type(cause), since_start_s()
    finally:
        scope.leave()
        dog.stop()
        dog.stop()
    return None, since_start_s()


@pytest.mark.parametrize(
    ("limits_s", "moves", "expected"),
    [
        pytest.param((2.0, 8.0), [], (StreamStalled, 2.0), id="first state"),
        pytest.param((2.0, 8.0), [(1.5, 0), (3.0, 0)], (StreamStalled, 5.0), id="progress"),
        pytest.param((2.0, 8.0), [(1.0, 1)], (SlowConsumer, 9.0), id="longer state"),
        pytest.param((8.0, 2.0), [(7.5, 1)], (SlowConsumer, 9.5), id="shorter state"),
        pytest.param((8.0, 2.0), [(7.5, 1), (9.25, 0)], (StreamStalled, 17.25), id="back again"),
        pytest.param((None, 2.0), [(100.0, 1)], (SlowConsumer, 102.0), id="no limit at first"),
        pytest.param((2.0, None), [(1.0, 1)], (None, 3600.0), id="a state without a limit"),
        pytest.param((None, None), [(1.0, 1)], (None, 3600.0), id="no limits at all"),
    ],
)
def test_watchdog_fires_when_a_state_has_lasted_its_limit(
    limits_s: tuple[float | None, ...],
    moves: list[tuple[float, int]],
    expected: tuple[type[RelayError] | None, float],
) -> None:
    @on_virtual_time
    async def check() -> None:
        kind, at_s = await play(limits_s, moves)
        assert kind is expected[0]
        assert expected[1] <= at_s <= expected[1] + 0.001

    check()


@on_virtual_time
async def test_watchdog_that_waits_long_wakes_rarely() -> None:
    """The hot path only assigns: a stream of an hour costs a wake-up a limit, not one an event."""
    looks = 0

    def clock() -> float:
        nonlocal looks
        looks += 1
        return now_s()

    scope = Scope()
    dog = Watchdog(scope, (10.0, 30.0), overdue, clock)
    for _ in range(3600):
        await asyncio.sleep(1)
        dog.enter(UPSTREAM, now_s())
    dog.stop()
    assert looks < 3 * 3600 / 9
