"""Doors in turn: fair to all of them, within the bound, and true about what went wrong."""

from __future__ import annotations

import math

import pytest

from relay.errors import ConnectError, Retry, StreamReset
from relay.measuring.prompts import SHORT_TOKENS, Shape
from relay.measuring.rounds import FAULTS_IN_A_ROW, Dials, worst_of
from relay.measuring.samples import figures
from relay.transport.base import Origin
from tests.fakes.memory_transport import FakeEndpoint
from tests.fakes.relay_under_test import DONE, chunk
from tests.fakes.scenario import answer
from tests.fakes.virtual_time import now_s, on_virtual_time
from tests.measuring.world import COST, World, counted


def good(first_s: float = 0.1) -> FakeEndpoint:
    return FakeEndpoint(chunks=counted(first_s))


def failing(status: int, message: str, **headers: str) -> FakeEndpoint:
    body = b'{"error": {"message": "%s", "code": "x"}}' % message.encode()
    head = [("content-type", "application/json"), *headers.items()]
    return FakeEndpoint(status=status, headers=head, chunks=[(0.0, body)])


@on_virtual_time
async def test_each_round_asks_every_door_once_with_one_length() -> None:
    world = World({"a": good(0.1), "b": good(0.2), "c": good(0.3)})
    rounds = world.rounds(6)
    assert await rounds.run() == "complete"
    for start in range(0, 18, 3):
        assert sorted(world.asked[start : start + 3]) == ["a", "b", "c"]
    orders = {tuple(world.asked[start : start + 3]) for start in range(0, 18, 3)}
    assert len(orders) > 1, "nobody always comes first"
    sizes = [len(attempt.request.body) for attempt in world.transport.attempts]
    for start in range(0, 18, 6):
        assert max(sizes[start : start + 3]) * 4 < min(sizes[start + 3 : start + 6])
    for result, first_s in zip(rounds.results, (0.1, 0.2, 0.3), strict=True):
        assert result.asked == len(result.warm) == 6
        assert [s.ttft_s for s in result.samples] == pytest.approx([first_s] * 6)
        assert [s.is_long for s in result.samples] == [False, True] * 3
        assert result.spent_micro == pytest.approx(6 * COST)
        assert not result.faults
    assert not world.transport.unfinished
    assert len(world.said) == 6


@on_virtual_time
async def test_no_request_is_sent_that_could_go_over_the_bound() -> None:
    world = World({"a": good(), "b": good()})
    worst = worst_of(world.doors[0], 2, Shape())
    rounds = world.rounds(100, max_usd=5 * worst / 1e6)
    assert await rounds.run() == "bound"
    assert 0 < rounds.spent_micro <= 5 * worst
    counts = [result.asked for result in rounds.results]
    assert abs(counts[0] - counts[1]) <= 1
    assert rounds.spent_micro == pytest.approx(sum(counts) * COST)
    one = worst_of(world.doors[0], 1, Shape())
    assert rounds.spent_micro + worst - one > 5 * worst - 2 * one - COST, "it did not stop early"


@on_virtual_time
async def test_a_bound_below_one_request_sends_none() -> None:
    world = World({"a": good()})
    rounds = world.rounds(10, max_usd=1e-6)
    assert await rounds.run() == "bound"
    assert world.asked == []


@on_virtual_time
async def test_an_answer_without_account_is_booked_at_its_worst() -> None:
    world = World({"a": FakeEndpoint(chunks=answer("OK"))})
    rounds = world.rounds(2)
    await rounds.run()
    assert rounds.spent_micro == pytest.approx(worst_of(world.doors[0], 2, Shape()), rel=0.1)


@on_virtual_time
async def test_what_has_no_price_is_asked_and_not_counted() -> None:
    world = World({"a": good()}, {"a": {"prices": {}}})
    rounds = world.rounds(4, max_usd=1e-6)
    assert await rounds.run() == "complete"
    assert rounds.spent_micro == 0
    assert len(rounds.results[0].warm) == 4


@pytest.mark.parametrize(
    ("end", "asked", "said"),
    [
        (failing(401, "bad key"), 1, "misconfigured: bad key"),
        (failing(404, "no such deployment"), 1, "no such deployment"),
        (failing(500, "boom"), FAULTS_IN_A_ROW, "failed: boom"),
        (FakeEndpoint(fault=ConnectError("refused"), fault_at="connect"), 3, "unreachable"),
        (FakeEndpoint(headers_s=math.inf), FAULTS_IN_A_ROW, "first token timeout"),
    ],
    ids=["key", "model", "broken", "away", "silent"],
)
def test_a_door_that_fails_is_told_and_left(end: FakeEndpoint, asked: int, said: str) -> None:
    @on_virtual_time
    async def scene() -> None:
        world = World({"bad": end, "ok": good()})
        rounds = world.rounds(8)
        assert await rounds.run() == "complete"
        bad, ok = rounds.results
        assert bad.asked == asked
        assert bad.left
        assert bad.samples == []
        ((fault, count),) = bad.faults.items()
        assert said in fault
        assert count == asked
        assert figures(bad.warm) is None
        assert len(ok.warm) == 8, "the others go on"
        assert not ok.left

    scene()


@on_virtual_time
async def test_a_door_that_fails_now_and_then_stays() -> None:
    ends = [good(), failing(500, "boom"), failing(500, "boom")] * 2 + [good()]
    world = World({"a": ends})
    rounds = world.rounds(10)
    await rounds.run()
    (result,) = rounds.results
    assert (result.asked, len(result.warm), sum(result.faults.values())) == (10, 6, 4)
    assert not result.left


@on_virtual_time
async def test_an_answer_without_a_word_is_no_first_token() -> None:
    thinks = [(0.1, chunk({"reasoning_content": "hm"})), (0.1, chunk(finish="length")), (0.0, DONE)]
    world = World({"a": FakeEndpoint(chunks=thinks)})
    rounds = world.rounds(5)
    await rounds.run()
    (result,) = rounds.results
    assert result.samples == []
    assert result.asked == FAULTS_IN_A_ROW
    (fault,) = result.faults
    assert "without a word in 16 tokens" in fault


@on_virtual_time
async def test_an_answer_that_breaks_off_is_a_first_token_and_a_fault() -> None:
    cut = FakeEndpoint(
        chunks=answer("OK", first_s=0.3)[:2],
        fault=StreamReset("cut", headers_received=True),
        fault_at="body",
    )
    world = World({"a": [good(), cut]})
    rounds = world.rounds(2)
    await rounds.run()
    (result,) = rounds.results
    assert [s.ttft_s for s in result.samples] == pytest.approx([0.1, 0.3])
    assert sum(result.faults.values()) == 1


@on_virtual_time
async def test_a_stale_connection_is_tried_once_more() -> None:
    stale = StreamReset("gone", headers_received=False)
    stale.retry = Retry.IF_REUSED
    world = World({"a": [FakeEndpoint(fault=stale, fault_at="headers"), good()]})
    rounds = world.rounds(2)
    await rounds.run()
    (result,) = rounds.results
    assert (result.asked, len(result.samples), sum(result.faults.values())) == (2, 2, 0)
    assert len(world.asked) == 3


@on_virtual_time
async def test_the_limit_of_a_row_is_waited_for() -> None:
    world = World({"a": good(0.0)}, {"a": {"rpm": 30}})
    began_s = now_s()
    rounds = world.rounds(40)
    assert await rounds.run() == "complete"
    assert len(rounds.results[0].warm) == 40
    assert not rounds.results[0].faults
    assert now_s() - began_s > 10


@pytest.mark.parametrize(("after_s", "asked"), [(7, 3), (600, 1)])
def test_a_provider_that_asks_for_a_pause_gets_it(after_s: int, asked: int) -> None:
    @on_virtual_time
    async def scene() -> None:
        busy = failing(429, "slow down", **{"retry-after": str(after_s)})
        world = World({"a": [busy, good()]})
        rounds = world.rounds(3)
        await rounds.run()
        (result,) = rounds.results
        assert result.asked == asked
        assert sum(result.faults.values()) == 1
        if asked > 1:
            first, second = world.transport.attempts[:2]
            assert second.started_s - first.started_s >= after_s
        else:
            assert "pause of" in result.left

    scene()


@on_virtual_time
async def test_it_stops_between_two_requests() -> None:
    world = World({"a": good(), "b": good()})
    rounds = world.rounds(50, is_stopped=lambda: len(world.transport.attempts) >= 5)
    assert await rounds.run() == "stopped"
    assert len(world.asked) == 5
    assert sum(len(result.warm) for result in rounds.results) == 5


@on_virtual_time
async def test_samples_that_had_to_dial_are_in_no_figure() -> None:
    """A live worker's connections are warm; a dial would be a straggler that is none."""
    dialling = FakeEndpoint(connect_s=0.2, chunks=counted(0.1))
    world = World({"a": [good(), dialling, good(), dialling]})
    rounds = world.rounds(4)
    await rounds.run()
    (result,) = rounds.results
    assert [s.is_cold for s in result.samples] == [False, True, False, True]
    assert [s.ttft_s for s in result.warm] == pytest.approx([0.1, 0.1])


def test_a_dial_beside_a_request_is_not_its_own() -> None:
    origin, at_s = Origin("https", "a.test", 443), 5.0
    dials = Dials(lambda: at_s)
    assert not dials.was_within(origin, 0.0, 9.0)
    dials(origin, 0.1)
    assert dials.was_within(origin, 4.0, 5.0)
    assert not dials.was_within(origin, 5.1, 9.0)
    assert not dials.was_within(origin, 1.0, 4.9)
    assert not dials.was_within(origin._replace(host="b.test"), 4.0, 5.0)


@on_virtual_time
async def test_prompts_are_never_the_same_and_as_long_as_asked() -> None:
    world = World({"a": good(), "b": good()})
    await world.rounds(10, shape=Shape(long_tokens=500)).run()
    bodies = [attempt.request.body for attempt in world.transport.attempts]
    beginnings = {body.partition(b'"content"')[2][:60] for body in bodies}
    assert len(beginnings) == len(bodies) == 20
    words = sorted(len(body.split()) for body in bodies)
    assert words[0] >= SHORT_TOKENS
    assert 500 <= words[-1] < 600
