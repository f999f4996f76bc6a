"""Limits over a place that is slow, away, forgetful or broken: what an admission waits, and what
the place and this instance know afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from structlog.testing import capture_logs

from relay.store.base import StoreUnavailable
from relay.store.limit_backend import INSTANCES
from relay.store.limit_store import LEASE, RATE, Charge, LimitSpent
from relay.store.shared_limits import PROBE_S, SharedLimits
from tests.fakes.virtual_time import now_s, on_virtual_time, run, since_start_s
from tests.store.scripted_backend import Place, ScriptedBackend

PATIENCE_S = 0.25
RPM = Charge("rpm", 60, 1, RATE)
SLOT = Charge("slot", 4, 1, LEASE)
BOTH = (RPM, SLOT)


def now_us() -> int:
    return round(now_s() * 1e6)


@asynccontextmanager
async def started(place: Place, **settings: object) -> AsyncIterator[SharedLimits]:
    limits = SharedLimits(
        ScriptedBackend(place),
        patience_s=PATIENCE_S,
        lease_s=15.0,
        draw=lambda: 0.5,
        **settings,  # type: ignore[arg-type]
    )
    await limits.start()
    try:
        yield limits
    finally:
        await limits.aclose()


async def granted(limits: SharedLimits, *charges: Charge) -> bool:
    try:
        await limits.take(charges or BOTH, now_us())
    except LimitSpent:
        return False
    return True


async def until_up(limits: SharedLimits) -> None:
    for _ in range(100):
        if not limits.describe()["is_down"]:
            return
        await asyncio.sleep(PROBE_S / 4)
    raise AssertionError("still down")


@on_virtual_time
async def test_admissions_of_one_moment_go_out_together() -> None:
    place = Place()
    async with started(place) as limits:
        before = len(place.batches)
        await asyncio.gather(*(limits.take([RPM], now_us()) for _ in range(50)))
        assert len(place.batches) - before == 1


@on_virtual_time
async def test_away_at_the_start_it_is_no_error_and_later_it_is_there() -> None:
    place = Place()
    place.is_down = True
    with capture_logs() as lines:
        async with started(place) as limits:
            assert await granted(limits)
            assert since_start_s() == 0.0
            assert place.total("slot") == 0
            place.is_down = False
            await until_up(limits)
            assert place.total("slot") == 1
            assert place.total(INSTANCES) == 1
            assert 59_000 <= place.level("rpm", 60) < 60_000
            assert await granted(limits)
            assert place.total("slot") == 2
    assert [line["event"] for line in lines] == ["limits_store_down", "limits_store_back"]


@pytest.mark.parametrize("delay_s", [0.3, 0.5, 10.0])
@on_virtual_time
async def test_a_slow_place_costs_one_patience_and_nobody_after(delay_s: float) -> None:
    place = Place()
    async with started(place) as limits:
        place.delay_s = delay_s
        began_s = now_s()
        assert await granted(limits)
        assert now_s() - began_s == pytest.approx(PATIENCE_S)
        for _ in range(20):  # decided here, also while it is tried again
            began_s = now_s()
            await granted(limits)
            assert now_s() == began_s
            await asyncio.sleep(0.3)
        assert limits.describe()["is_down"]
        place.delay_s = 0.001
        await until_up(limits)
        began_s = now_s()
        await granted(limits)
        assert now_s() - began_s < 0.01


@on_virtual_time
async def test_those_that_wait_together_are_let_go_together() -> None:
    place = Place()
    async with started(place) as limits:
        place.delay_s = 10.0
        began_s = now_s()

        async def one(after_s: float) -> float:
            await asyncio.sleep(after_s)
            await limits.take([RPM], now_us())
            return now_s() - began_s

        ended_s = await asyncio.gather(*(one(0.05 * i) for i in range(5)))
        assert max(ended_s) <= 0.3 + 0.001


@on_virtual_time
async def test_a_late_answer_is_neither_charged_twice_nor_not_at_all() -> None:
    place = Place()
    async with started(place) as limits:
        place.delay_s = 0.3  # later than an admission waits, sooner than a batch is given up
        assert await granted(limits, Charge("rpm", 60, 50, RATE), SLOT)
        place.delay_s = 0.001
        await until_up(limits)
        assert 10_000 <= place.level("rpm", 60) <= 10_000 + 1000 * since_start_s()
        assert place.total("slot") == 1
        limits.give_back("slot", 1)
        await asyncio.sleep(0.1)
        assert place.total("slot") == 0


@on_virtual_time
async def test_away_an_instance_has_its_share() -> None:
    place = Place()
    place.held[INSTANCES] = {"other": 1, "third": 1, "fourth": 1}
    async with started(place) as limits:
        assert limits.instances == 4
        place.is_down = True
        rates = [await granted(limits, RPM) for _ in range(20)]
        assert rates.count(True) == 15
        slots = [await granted(limits, SLOT) for _ in range(3)]
        assert slots == [True, False, False]
        # A limit is never shared out to nothing, and what is larger than the share is not refused
        # for ever: it is owed.
        small, large = Charge("small", 2, 1, RATE), Charge("large", 60, 40, RATE)
        assert [await granted(limits, small) for _ in range(2)] == [True, False]
        assert [await granted(limits, large) for _ in range(2)] == [True, False]
        with pytest.raises(LimitSpent) as raised:
            await limits.take([large], now_us())
        assert raised.value.retry_after_s == pytest.approx(40 / (15 / 60))
        with pytest.raises(LimitSpent) as raised:
            await limits.take([Charge("large", 60, 61, RATE)], now_us())
        assert raised.value.retry_after_s is None


@on_virtual_time
async def test_what_was_granted_without_it_is_owed_to_it() -> None:
    place = Place()
    async with started(place) as limits:
        place.is_down = True
        for _ in range(30):
            assert await granted(limits, RPM)
        limits.correct("rpm", 60, 10, now_us())
        place.is_down = False
        began_s = now_s()
        await until_up(limits)
        assert place.level("rpm", 60) <= 20_000 + 1000 * (now_s() - began_s)


@on_virtual_time
async def test_told_to_refuse_it_refuses_and_comes_back() -> None:
    place = Place()
    async with started(place, when_down="refuse") as limits:
        place.is_down = True
        with pytest.raises(StoreUnavailable, match="place"):
            await limits.take(BOTH, now_us())
        with pytest.raises(StoreUnavailable):
            await limits.take(BOTH, now_us())
        place.is_down = False
        await until_up(limits)
        assert await granted(limits)
        assert place.total("slot") == 1


@on_virtual_time
async def test_leases_are_told_again_a_few_times_a_lease() -> None:
    place = Place()
    async with started(place) as limits:
        assert await granted(limits)
        place.forget()
        await asyncio.sleep(5.1)
        assert place.total("slot") == 1
        assert place.total(INSTANCES) == 1


@on_virtual_time
async def test_an_emptied_place_is_told_at_the_next_admission() -> None:
    place = Place()
    async with started(place) as limits:
        for _ in range(3):
            assert await granted(limits)
        place.forget()
        assert await granted(limits)
        await asyncio.sleep(0.05)
        assert place.total("slot") == 4
        assert not await granted(limits)


@on_virtual_time
async def test_a_batch_whose_answer_is_lost_gives_nothing_twice() -> None:
    place = Place()
    async with started(place) as limits:
        assert await granted(limits, Charge("rpm", 60, 50, RATE), SLOT)
        place.fails_after_doing = True
        limits.correct("rpm", 60, -40, now_us())
        await asyncio.sleep(0.01)
        assert place.level("rpm", 60) // 1000 == 50
        place.fails_after_doing = False
        await until_up(limits)
        await asyncio.sleep(0.01)
        assert place.level("rpm", 60) // 1000 <= 10 + 40 + since_start_s()
        assert place.total("slot") == 1


@on_virtual_time
async def test_a_bug_in_the_backend_ends_no_admissions() -> None:
    place = Place()
    async with started(place) as limits:
        place.bug = RuntimeError("a bug")
        with capture_logs() as lines:
            assert await granted(limits)
        assert [line["event"] for line in lines] == ["limits_bug", "limits_store_down"]
        place.bug = None
        await until_up(limits)
        assert place.total("slot") == 1


@on_virtual_time
async def test_before_the_start_and_after_the_end_it_decides_alone() -> None:
    place = Place()
    limits = SharedLimits(ScriptedBackend(place), patience_s=PATIENCE_S)
    assert await granted(limits)
    await limits.start()
    await limits.aclose()
    assert await granted(limits)
    assert place.total("slot") == 0
    with pytest.raises(TypeError):
        limits.take_nowait(BOTH, now_us())


@on_virtual_time
async def test_closing_a_place_that_hangs_is_bounded() -> None:
    place = Place()
    async with started(place):
        place.delay_s = 1e6
        began_s = now_s()
    assert now_s() - began_s <= 2.0


@on_virtual_time
async def test_closing_lets_those_go_that_wait() -> None:
    place = Place()
    async with started(place) as limits:
        place.delay_s = 0.2
        waiting = asyncio.get_running_loop().create_task(limits.take(BOTH, now_us()))
        await asyncio.sleep(0.01)
    assert (await waiting).levels == [59_000, 1]


@pytest.mark.parametrize("fails_after_doing", [False, True])
def test_cancelled_between_any_two_steps_nothing_stays_taken(fails_after_doing: bool) -> None:
    """The take is cancelled at every iteration of the loop in turn, while its answer comes or is
    lost; then the place is as if it had never been asked, or was granted and given back."""

    async def scenario(tasks: list[asyncio.Task[object]]) -> bool:
        place = Place()
        async with started(place) as limits:
            place.fails_after_doing = fails_after_doing
            task = asyncio.get_running_loop().create_task(limits.take(BOTH, now_us()))
            tasks.append(task)
            await asyncio.wait([task])
            is_cancelled = task.cancelled()
            place.fails_after_doing = False
            if not is_cancelled:
                limits.give_back("slot", 1)
                limits.correct("rpm", 60, -1, now_us())
            await asyncio.sleep(0.05)
            await until_up(limits)
            await asyncio.sleep(20.0)  # two renewals: whatever was doubtful is told again
            assert place.total("slot") == 0
            assert await granted(limits, Charge("slot", 4, 4, LEASE))
            assert place.total("slot") == 4
        return is_cancelled

    outcomes = set()
    for step in range(1, 40):
        tasks: list[asyncio.Task[object]] = []

        def cancel(tasks: list[asyncio.Task[object]] = tasks) -> None:
            for task in tasks:
                task.cancel()

        outcomes.add(run(scenario(tasks), at_step={step: cancel}))
    assert outcomes == {True, False}
