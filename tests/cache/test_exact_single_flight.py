"""Equal requests at once: one leader, nobody forgotten."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.cache.single_flight import Flights, Follower, Landed, Leader
from tests.fakes.properties import examples
from tests.fakes.virtual_time import on_virtual_time, run, since_start_s

KEY = b"k"


def lead(flights: Flights[str], key: bytes = KEY) -> Leader[str]:
    place = flights.fly(key)
    assert isinstance(place, Leader)
    return place


def follow(
    flights: Flights[str], limit_s: float = 10.0, key: bytes = KEY
) -> asyncio.Task[Landed[str] | Leader[str] | None]:
    place = flights.fly(key)
    assert isinstance(place, Follower)
    return asyncio.ensure_future(place.wait(limit_s))


@on_virtual_time
async def test_all_who_wait_have_what_landed() -> None:
    flights: Flights[str] = Flights()
    leader = lead(flights)
    waiting = [follow(flights) for _ in range(3)]
    await asyncio.sleep(1)
    leader.land("answer")
    given = [await task for task in waiting]
    assert [one.answer for one in given if isinstance(one, Landed)] == ["answer"] * 3
    assert len(flights) == 0
    assert not leader.is_leading
    leader.land("again")
    leader.give_up()
    assert isinstance(flights.fly(KEY), Leader)


@on_virtual_time
async def test_other_keys_do_not_wait() -> None:
    flights: Flights[str] = Flights()
    assert lead(flights, b"a") is not lead(flights, b"b")
    assert flights.is_flying(b"a")
    assert not flights.is_flying(b"c")


@on_virtual_time
async def test_the_one_that_waited_longest_takes_over_and_the_others_wait_on() -> None:
    flights: Flights[str] = Flights()
    leader = lead(flights)
    first, second, third = (follow(flights) for _ in range(3))
    await asyncio.sleep(1)
    leader.give_up()
    await asyncio.sleep(1)
    assert [task.done() for task in (first, second, third)] == [True, False, False]
    new = await first
    assert isinstance(new, Leader)
    leader.give_up()
    leader.land("stale")
    assert new.is_leading, "who gave up has no more to say"
    new.land("answer")
    assert isinstance(await second, Landed)
    assert isinstance(await third, Landed)


@on_virtual_time
async def test_of_answers_that_are_not_kept_nobody_waits_for_the_next() -> None:
    flights: Flights[str] = Flights()
    leader = lead(flights)
    waiting = [follow(flights) for _ in range(3)]
    await asyncio.sleep(1)
    leader.scatter()
    assert [await task for task in waiting] == [None, None, None], "each asks alone, at once"
    assert (since_start_s(), len(flights)) == (1.0, 0)
    leader.land("late")
    assert not leader.is_leading


@on_virtual_time
async def test_nobody_waits_longer_than_he_wants() -> None:
    flights: Flights[str] = Flights()
    leader = lead(flights)
    assert await follow(flights, 2.0) is None
    assert since_start_s() == 2.0
    leader.give_up()
    assert len(flights) == 0, "who waits no more is nobody's follower"


@on_virtual_time
async def test_who_is_cancelled_in_the_moment_of_his_turn_passes_it_on() -> None:
    flights: Flights[str] = Flights()
    leader = lead(flights)
    first, second = follow(flights), follow(flights)
    await asyncio.sleep(1)
    leader.give_up()
    first.cancel()
    await asyncio.wait([first])
    assert first.cancelled()
    assert isinstance(await second, Leader)


@on_virtual_time
async def test_who_asks_alone_may_be_first() -> None:
    flights: Flights[str] = Flights()
    leader = lead(flights)
    waiting = follow(flights)
    await asyncio.sleep(0)
    flights.landed(KEY, "answer")
    flights.landed(b"nobody's", "answer")
    assert isinstance(await waiting, Landed)
    leader.land("late")
    assert len(flights) == 0


@dataclass
class Rider:
    """One request: when it comes, what it does when it leads, and when it is cancelled."""

    comes_s: float
    works_s: float
    succeeds: bool
    patience_s: float
    cancelled_s: float | None


moments = st.integers(0, 8).map(lambda tick: tick / 2)
riders = st.builds(
    Rider, moments, moments, st.booleans(), moments, st.none() | st.integers(0, 16).map(float)
)


@examples(150, full=2500)
@given(st.lists(riders, min_size=1, max_size=8))
def test_one_leads_at_a_time_and_all_come_to_an_end(crowd: Sequence[Rider]) -> None:
    flights: Flights[str] = Flights()
    leading: list[Rider] = []
    most_leading = 0

    async def ride(rider: Rider) -> str:
        nonlocal most_leading
        await asyncio.sleep(rider.comes_s)
        place = flights.fly(KEY)
        if isinstance(place, Follower):
            began_s = since_start_s()
            given_ = await place.wait(rider.patience_s)
            assert since_start_s() - began_s <= rider.patience_s
            if isinstance(given_, Landed):
                return given_.answer
            if given_ is None:
                return "alone"
            place = given_
        leading.append(rider)
        most_leading = max(most_leading, len(leading))
        try:
            assert place.is_leading
            await asyncio.sleep(rider.works_s)
            if rider.succeeds:
                place.land("answer")
                return "answer"
        finally:
            leading.remove(rider)
            place.give_up()
        return "failed"

    async def story() -> None:
        tasks = [asyncio.ensure_future(ride(rider)) for rider in crowd]
        for rider, task in zip(crowd, tasks, strict=True):
            if rider.cancelled_s is not None:
                asyncio.get_running_loop().call_later(rider.cancelled_s, task.cancel)
        done, _ = await asyncio.wait(tasks)
        assert all(task.cancelled() or task.exception() is None for task in done)

    run(story())
    assert most_leading <= 1
    assert len(flights) == 0, "nothing is left behind"


@pytest.mark.parametrize("step", range(1, 30))
def test_cancelled_at_any_await_it_leaves_the_others_their_turn(step: int) -> None:
    """Each of three followers in turn, at each iteration of the loop."""
    for victim in range(4):
        ends: list[str] = []
        tasks: list[asyncio.Task[None]] = []

        async def story(tasks: list[asyncio.Task[None]], ends: list[str]) -> None:
            flights: Flights[str] = Flights()

            async def ride(works: bool) -> None:
                place = flights.fly(KEY)
                if isinstance(place, Follower):
                    given_ = await place.wait(100)
                    if isinstance(given_, Landed):
                        ends.append(given_.answer)
                        return
                    assert given_ is not None
                    place = given_
                try:
                    for _ in range(3):
                        await asyncio.sleep(0)
                    if works:
                        place.land("answer")
                        ends.append("led")
                finally:
                    place.give_up()

            tasks += [asyncio.ensure_future(ride(works)) for works in (False, True, True, True)]
            await asyncio.wait(tasks)
            assert since_start_s() < 100
            assert len(flights) == 0

        run(
            story(tasks, ends),
            at_step={step: lambda tasks=tasks, victim=victim: tasks and tasks[victim].cancel()},  # type: ignore[misc]
        )
        cancelled = sum(task.cancelled() for task in tasks)
        assert cancelled <= 1
        assert len(ends) == 3 - (cancelled if victim else 0)
        assert ends.count("led") == 1
