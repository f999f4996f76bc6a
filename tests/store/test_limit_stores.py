"""What every store of limits holds to, in memory, in SQLite and in Redis."""

from __future__ import annotations

import asyncio

import pytest

from relay.store.limit_store import LEASE, RATE, Charge, LimitSpent, LimitStore
from tests.store.limit_worlds import LEASE_S, World

SECOND_US = 1_000_000


def rate(bucket: str, limit: int, amount: int = 1) -> Charge:
    return Charge(bucket, limit, amount, RATE)


def lease(bucket: str, limit: int, amount: int = 1) -> Charge:
    return Charge(bucket, limit, amount, LEASE)


async def refused(store: LimitStore, world: World, *charges: Charge) -> LimitSpent:
    with pytest.raises(LimitSpent) as raised:
        await store.take(charges, world.now_us)
    return raised.value


async def told(store: LimitStore, world: World) -> None:
    """Corrections and leases are there for everybody: a batch of later has been done."""
    await store.take([rate("told", 1_000_000)], world.now_us)


async def test_a_bucket_holds_a_minutes_worth_and_fills_evenly(world: World) -> None:
    store = await world.store("a")
    taken = await store.take([rate("b", 60, 60)], world.now_us)
    assert list(taken.levels) == [0]
    error = await refused(store, world, rate("b", 60))
    assert error.retry_after_s == 1.0
    assert error.charge == rate("b", 60)
    assert list(error.standing.levels) == [0]
    world.set_time(world.now_us + SECOND_US - 1)
    await refused(store, world, rate("b", 60))
    world.set_time(world.now_us + 1)
    taken = await store.take([rate("b", 60)], world.now_us)
    assert list(taken.levels) == [0]
    world.set_time(world.now_us + 3600 * SECOND_US)
    await store.take([rate("b", 60, 60)], world.now_us)
    await refused(store, world, rate("b", 60))


async def test_all_or_nothing(world: World) -> None:
    store = await world.store("a")
    await store.take([rate("full", 5, 5)], world.now_us)
    await refused(store, world, rate("a", 5, 5), lease("l", 1), rate("full", 5), rate("z", 5, 5))
    taken = await store.take([rate("a", 5, 5), lease("l", 1), rate("z", 5, 5)], world.now_us)
    assert list(taken.levels) == [0, 1, 0]
    await refused(store, world, rate("y", 5, 5), lease("l", 1))
    await store.take([rate("y", 5, 5)], world.now_us)


async def test_the_one_that_waits_longest_is_told(world: World) -> None:
    store = await world.store("a")
    await store.take([rate("fast", 60, 60), rate("slow", 1), lease("l", 1)], world.now_us)
    error = await refused(store, world, rate("fast", 60), lease("l", 1), rate("slow", 1))
    assert (error.charge.bucket, error.retry_after_s) == ("slow", 60.0)
    assert list(error.standing.levels) == [0, 1, 0]
    world.set_time(world.now_us + 60 * SECOND_US)
    error = await refused(store, world, rate("fast", 60), lease("l", 1), rate("slow", 1))
    assert (error.charge.bucket, error.retry_after_s) == ("l", 1.0)


async def test_more_than_the_limit_at_once_is_never_granted(world: World) -> None:
    store = await world.store("a")
    error = await refused(store, world, rate("b", 10, 11), rate("c", 10))
    assert (error.charge.bucket, error.retry_after_s) == ("b", None)
    error = await refused(store, world, lease("l", 2, 3))
    assert error.retry_after_s is None


async def test_debt_is_paid_back_before_anything_is_granted(world: World) -> None:
    store = await world.store("a")
    await store.take([rate("b", 60, 10)], world.now_us)
    store.correct("b", 60, 80, world.now_us)
    await told(store, world)
    error = await refused(store, world, rate("b", 60))
    assert error.retry_after_s == 31.0
    world.set_time(world.now_us + 30 * SECOND_US)
    world.set_time(world.now_us + SECOND_US)
    await store.take([rate("b", 60)], world.now_us)


async def test_a_debt_ends_at_an_hours_worth(world: World) -> None:
    store = await world.store("a")
    store.correct("b", 60, 10**12, world.now_us)
    await told(store, world)
    error = await refused(store, world, rate("b", 60))
    assert error.retry_after_s == 3601.0


async def test_what_was_charged_too_much_comes_back_and_no_more(world: World) -> None:
    store = await world.store("a")
    await store.take([rate("b", 60, 50)], world.now_us)
    store.correct("b", 60, -30, world.now_us)
    await told(store, world)
    taken = await store.take([rate("b", 60)], world.now_us)
    assert list(taken.levels) == [39_000]
    store.correct("b", 60, -1000, world.now_us)
    await told(store, world)
    taken = await store.take([rate("b", 60)], world.now_us)
    assert list(taken.levels) == [59_000]


async def test_a_clock_that_steps_back_gives_nothing(world: World) -> None:
    store = await world.store("a")
    await store.take([rate("b", 60, 59)], world.now_us)
    began_us = world.now_us
    world.set_time(began_us - 5 * SECOND_US)
    await store.take([rate("b", 60)], world.now_us)
    world.set_time(began_us + SECOND_US - 1)
    await refused(store, world, rate("b", 60))
    world.set_time(began_us + SECOND_US)
    await store.take([rate("b", 60)], world.now_us)
    # An hour back: it fills from there on, and does not wait for the hour to pass again.
    world.set_time(began_us - 3600 * SECOND_US)
    await refused(store, world, rate("b", 60))
    world.set_time(world.now_us + SECOND_US)
    await store.take([rate("b", 60)], world.now_us)
    await refused(store, world, rate("b", 60))


async def test_limits_may_change_while_buckets_are_in_use(world: World) -> None:
    store = await world.store("a")
    await store.take([rate("b", 100, 10)], world.now_us)
    taken = await store.take([rate("b", 20, 15)], world.now_us)  # lowered: 20 at most are left
    assert list(taken.levels) == [5_000]
    taken = await store.take([rate("b", 1000, 5)], world.now_us)  # raised: it fills faster
    assert list(taken.levels) == [0]
    world.set_time(world.now_us + 60_000)
    await store.take([rate("b", 1000, 1)], world.now_us)


async def test_a_bucket_that_is_written_all_the_time_fills_as_fast(world: World) -> None:
    store = await world.store("a")
    await store.take([rate("b", 1)], world.now_us)
    for _ in range(40):  # each step is worth less than a thousandth
        world.set_time(world.now_us + 59_999)
        taken = await store.take([rate("b", 1, 0)], world.now_us)
    assert list(taken.levels) == [39]


async def test_large_numbers_are_exact(world: World) -> None:
    store = await world.store("a")
    limit = 10**9
    await store.take([rate("b", limit, limit)], world.now_us)
    store.correct("b", limit, 59 * limit + 123_456_789, world.now_us)
    await told(store, world)
    world.set_time(world.now_us + 3_600_000_001)
    taken = await store.take([rate("b", limit, 876_543_211)], world.now_us)
    # 60 minutes of a billion, and a microsecond's 16,666 thousandths.
    assert list(taken.levels) == [16_666]


async def test_leases_are_given_back(world: World) -> None:
    store = await world.store("a")
    for _ in range(3):
        await store.take([lease("l", 3)], world.now_us)
    await refused(store, world, lease("l", 3))
    store.give_back("l", 1)
    await store.take([lease("l", 3)], world.now_us)
    store.give_back("l", 3)
    taken = await store.take([lease("l", 3, 3)], world.now_us)
    assert list(taken.levels) == [3]
    store.give_back("l", 99)  # more than there is: nothing is left, not less
    taken = await store.take([lease("l", 3)], world.now_us)
    assert list(taken.levels) == [1]


async def test_nothing_to_charge_is_granted(world: World) -> None:
    store = await world.store("a")
    assert list((await store.take([], world.now_us)).levels) == []


async def test_many_at_once_get_exactly_the_limit(world: World) -> None:
    stores = [await world.store(name) for name in ("a", "b", "c", "d")]
    charges = [rate("b", 20), lease("l", 1000), rate("c", 1000, 7)]
    answers = await asyncio.gather(
        *(store.take(charges, world.now_us) for _ in range(50) for store in stores),
        return_exceptions=True,
    )
    refusals = [answer for answer in answers if isinstance(answer, LimitSpent)]
    assert len(answers) - len(refusals) == 20
    assert len(refusals) == 180
    await told(stores[0], world)
    taken = await stores[0].take([lease("l", 1000), rate("c", 1000, 0)], world.now_us)
    assert list(taken.levels) == [21, (1000 - 140) * 1000]


async def test_a_cancelled_take_leaves_nothing_taken(world: World) -> None:
    store = await world.store("a")
    charges = [rate("b", 10, 10), lease("l", 1)]
    for turns in range(12):
        task = asyncio.get_running_loop().create_task(store.take(charges, world.now_us))
        for _ in range(turns):
            await asyncio.sleep(0.0005 if turns > 6 else 0)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            pass
        else:
            store.give_back("l", 1)
            store.correct("b", 10, -10, world.now_us)
        await told(store, world)
        await told(store, world)
        taken = await store.take(charges, world.now_us)
        assert list(taken.levels) == [0, 1]
        store.give_back("l", 1)
        store.correct("b", 10, -10, world.now_us)
        await told(store, world)


async def test_instances_share_rates_and_leases(shared_world: World) -> None:
    one, two = await shared_world.store("a"), await shared_world.store("b")
    await one.take([rate("b", 10, 6), lease("l", 3, 2)], shared_world.now_us)
    await refused(two, shared_world, rate("b", 10, 5))
    taken = await two.take([rate("b", 10, 4), lease("l", 3)], shared_world.now_us)
    assert list(taken.levels) == [0, 3]
    await refused(two, shared_world, lease("l", 3))
    one.give_back("l", 1)
    await told(one, shared_world)
    await two.take([lease("l", 3)], shared_world.now_us)


async def test_leases_of_the_dead_run_out_and_those_of_the_living_do_not(
    shared_world: World,
) -> None:
    alive, other = await shared_world.store("alive"), await shared_world.store("other")
    dead = await shared_world.store("dead")
    await alive.take([lease("l", 3)], shared_world.now_us)
    await dead.take([lease("l", 3, 2)], shared_world.now_us)
    kill(dead)
    for _ in range(4):
        await refused(other, shared_world, lease("l", 3))
        shared_world.set_time(shared_world.now_us + round(LEASE_S / 4 * 1e6))
        await renewed(alive, shared_world)
    taken = await other.take([lease("l", 3)], shared_world.now_us)
    assert list(taken.levels) == [2]
    for _ in range(9):
        shared_world.set_time(shared_world.now_us + round(LEASE_S / 4 * 1e6))
        await renewed(alive, shared_world)
        await renewed(other, shared_world)
    taken = await other.take([lease("l", 3)], shared_world.now_us)
    assert list(taken.levels) == [3]


async def test_leases_after_a_clock_that_stepped_back_run_out_in_time(shared_world: World) -> None:
    dead, other = await shared_world.store("dead"), await shared_world.store("other")
    await dead.take([lease("l", 1)], shared_world.now_us)
    kill(dead)
    shared_world.set_time(shared_world.now_us - 3600 * SECOND_US)
    await refused(other, shared_world, lease("l", 1))
    await renewed(other, shared_world)
    shared_world.set_time(shared_world.now_us + round(LEASE_S * 1e6) + 1)
    await other.take([lease("l", 1)], shared_world.now_us)


async def test_who_leaves_gives_its_leases_up(shared_world: World) -> None:
    one, two = await shared_world.store("a"), await shared_world.store("b")
    await one.take([lease("l", 1)], shared_world.now_us)
    await refused(two, shared_world, lease("l", 1))
    await one.aclose()
    await one.aclose()
    await two.take([lease("l", 1)], shared_world.now_us)


def kill(store: LimitStore) -> None:
    """As SIGKILL would: it says nothing any more."""
    store._sender.cancel()  # type: ignore[attr-defined]
    store._timer.cancel()  # type: ignore[attr-defined]
    store._is_down = True  # type: ignore[attr-defined]


async def renewed(store: LimitStore, world: World) -> None:
    """The timer of its leases has fired, and everything is told."""
    store._tell_everything()  # type: ignore[attr-defined]
    await told(store, world)
