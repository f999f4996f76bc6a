"""Several workers as one picture."""

from __future__ import annotations

from typing import Any

from relay.observability.live.joined import PAUSE_S, Joined
from relay.observability.live.recorder import Recorder
from tests.observability.live.ends import request, tell, won
from tests.observability.live.fleet import Fleet, state, target_state
from tests.observability.live.test_recorder import Clock


def worker(number: int, clock: Clock, instance: str = "", **more: Any) -> Recorder:
    return Recorder(number, instance or f"i_{number}", "voice".__eq__, lambda: state(**more), clock)


def joined(fleet: Fleet, clock: Clock) -> Joined:
    return Joined(fleet, clock, clock)


async def test_counts_of_two_workers_add_up_and_quantiles_are_of_both() -> None:
    clock = Clock()
    one, other = worker(0, clock), worker(1, clock)
    for first_us in (100_000, 100_000, 100_000):
        tell(one, won(first_us), request(), "gen_a", "generate")
    for first_us in (900_000, 900_000):
        tell(other, won(first_us), request(), "gen_b", "generate")
    both = joined(Fleet(one, other), clock)
    fresh = await both.look(state=True)
    assert [row["worker"] for row in fresh] == [0, 0, 0, 1, 1]
    picture = both.snapshot()
    assert picture["generations"] == 2
    north = picture["targets"]["north/a"]["minute"]
    assert (north["started"], north["won"]) == (5, 5)
    assert 95 < north["ttft"]["p50"] < 105
    assert 860 < north["ttft"]["p95"] < 940
    assert picture["total"]["minute"]["generations"] == 5
    assert picture["aliases"]["voice"]["minute"]["race"]["north/a"]["won"] == 5
    (point,) = both.points()["north/a"]
    assert point[1] == 5
    assert await both.look(state=True) == []
    assert both.snapshot()["total"]["minute"]["generations"] == 5  # and nothing twice


async def test_what_comes_later_into_a_slice_is_seen() -> None:
    clock = Clock()
    one = worker(0, clock)
    board = joined(Fleet(one), clock)
    tell(one, won(), request(), "gen_1", "generate")
    await board.look(state=True)
    assert board.points(1)["north/a"][0][1] == 1
    tell(one, won(), request(), "gen_2", "generate")
    await board.look(state=False)
    assert board.points(1)["north/a"][0][1] == 2
    clock.now_s += 120
    assert board.snapshot()["targets"]["north/a"]["minute"]["started"] == 0
    assert board.snapshot()["targets"]["north/a"]["before"]["started"] == 2
    clock.now_s += 900
    assert board.snapshot()["targets"] == {}


async def test_one_that_does_not_answer_is_named_and_the_others_are_shown() -> None:
    clock = Clock()
    fleet = Fleet(worker(0, clock), worker(1, clock))
    board = joined(fleet, clock)
    await board.look(state=True)
    fleet.gone = {1}
    await board.look(state=True)
    picture = board.snapshot()
    assert [row["why"] for row in picture["workers"]] == ["", "no answer within 1 s"]
    assert picture["generations"] == 1
    fleet.gone = set()
    await board.look(state=True)
    assert [row["why"] for row in board.snapshot()["workers"]] == ["", ""]


async def test_one_that_was_replaced_begins_anew_and_what_the_old_one_said_stays() -> None:
    clock = Clock()
    old = worker(0, clock)
    for _ in range(3):
        tell(old, won(), request(), "gen_old", "generate")
    fleet = Fleet(old)
    board = joined(fleet, clock)
    await board.look(state=True)
    fleet.recorders[0] = new = worker(0, clock, "i_new")
    tell(new, won(), request(), "gen_new", "generate")
    assert [row["id"] for row in await board.look(state=True)] == ["gen_new"]
    assert board.snapshot()["total"]["minute"]["generations"] == 4


async def test_after_a_pause_everything_is_asked_for_anew() -> None:
    clock = Clock()
    one = worker(0, clock)
    tell(one, won(), request(), "gen_1", "generate")
    board = joined(Fleet(one), clock)
    assert len(await board.look(state=True)) == 1
    clock.now_s += PAUSE_S + 1
    assert len(await board.look(state=True)) == 1
    assert len(board.recent) == 1


async def test_breakers_are_told_by_how_many_and_by_the_worst() -> None:
    clock = Clock()
    opened = target_state("open", breaker={"retry_in_s": 7.0, "reason": "ratio", "share": 0.0})
    fleet = Fleet(
        worker(0, clock, targets={"north/a": target_state(in_flight=2)}),
        worker(1, clock, targets={"north/a": opened}),
    )
    board = joined(fleet, clock)
    await board.look(state=True)
    row = board.snapshot()["targets"]["north/a"]
    assert row["breakers"] == {"closed": 1, "open": 1}
    assert (row["breaker"], row["reason"], row["retry_in_s"]) == ("open", "ratio", 7.0)
    assert (row["in_flight"], row["limit"]) == (2, 200)
