"""Hedging among faults: stale connections, absurd counts, targets that may not be asked."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from relay.content import HedgeWish, Policy
from relay.errors import ConnectError, StreamReset
from relay.outcome import AttemptRole, GenerationEnd
from relay.resilience.breaker import BreakerState
from relay.target_state import TargetState
from tests.fakes.memory_transport import FakeEndpoint
from tests.fakes.relay_under_test import DONE, chunk
from tests.fakes.scenario import Chunks, Rows, Scenario, answer, request
from tests.fakes.virtual_time import now_s, on_virtual_time

FAST = FakeEndpoint(headers_s=0.25, chunks=answer("Hi", first_s=0.25))
SLOW = FakeEndpoint(headers_s=0.25, chunks=answer("Hi", first_s=2.75))
BROKEN = FakeEndpoint(fault=ConnectError("refused"), fault_at="connect")
STALE = FakeEndpoint(headers_s=0.01, fault=StreamReset("gone", reused=True))
BLACK_HOLE = FakeEndpoint(connect_s=60.0, chunks=answer("Hi"))
PRICES = {
    "prices": {"m": {"input": 1.0, "output": 10.0}},
    "cancel_billing": "stops",
}


def hedged(rows: Rows, *, fallbacks: tuple[str, ...] = (), **hedge: Any) -> Scenario:
    more = {"mode": "active", "delay": 1000, "max_extra_requests": 1.0, "max_extra_cost": 10.0}
    rows_more = hedge.pop("rows_more", {})
    return Scenario(
        rows,
        fallbacks=fallbacks,
        alias_more={"hedge": {**more, **hedge}},
        rows_more={name: {**PRICES, **rows_more.get(name, {})} for name in rows},
    )


def state_of(scenario: Scenario, name: str) -> TargetState:
    target = scenario.services.catalog.resolve(f"{name}/m").candidates[0]
    return scenario.services.planner.states.of(target, now_s())


def eject(scenario: Scenario, *names: str) -> None:
    for name in names:
        for _ in range(5):
            permit = state_of(scenario, name).breaker.permit(now_s())
            assert permit is not None
            permit.failure(now_s())


async def played(scenario: Scenario, **fields: Any) -> GenerationEnd:
    _, end = await scenario.generate(request(**fields))
    return end


def counting(prompt: int, completion: int) -> Chunks:
    """An answer whose provider counts so."""
    usage = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }
    return [(0.25, chunk({"content": "Hi"})), (0.0, chunk(finish="stop", usage=usage)), (0.0, DONE)]


# --- stale connections ----------------------------------------------------------------------


@on_virtual_time
async def test_a_connection_that_was_stale_says_nothing_of_the_target() -> None:
    scenario = hedged({"a": [STALE] * 8 + [FAST]})
    ends = await asyncio.gather(*[played(scenario) for _ in range(8)])
    assert [end.error for end in ends] == [None] * 8
    assert state_of(scenario, "a").breaker.state is BreakerState.CLOSED
    await scenario.settled()
    scenario.check()


@on_virtual_time
async def test_a_probe_over_a_stale_connection_is_made_again_by_its_retry() -> None:
    scenario = hedged({"a": [STALE, FAST], "b": FAST})
    eject(scenario, "a")
    await asyncio.sleep(37)
    await played(scenario)
    await asyncio.sleep(1)  # it has lost, and runs on
    assert state_of(scenario, "a").breaker.state is BreakerState.RAMP
    await scenario.settled()


@on_virtual_time
async def test_a_retry_that_breaks_again_is_a_failure() -> None:
    scenario = hedged({"a": STALE})
    for _ in range(5):
        await played(scenario)
    assert state_of(scenario, "a").breaker.state is BreakerState.OPEN
    await scenario.settled()


@on_virtual_time
async def test_a_hedge_that_wins_by_its_free_retry_has_won() -> None:
    scenario = hedged({"a": SLOW, "b": [STALE, FAST]})
    end = await played(scenario)
    assert [record.role for record in end.attempts] == [
        AttemptRole.PRIMARY,
        AttemptRole.HEDGE,
        AttemptRole.RETRY,
    ]
    assert end.hedge is not None
    assert (end.provider, end.hedge.fired, end.hedge.won) == ("b", 1, True)
    await scenario.settled()


# --- who may be asked -----------------------------------------------------------------------


@on_virtual_time
async def test_somebody_is_asked_when_all_are_ejected_fallbacks_too() -> None:
    scenario = hedged({"a": FAST, "x": FAST}, fallbacks=("x",))
    eject(scenario, "a", "x")
    end = await played(scenario)
    assert end.error is None
    assert end.provider == "a"
    await scenario.settled()


@on_virtual_time
async def test_no_hedge_goes_to_one_that_is_ejected_and_none_is_paid() -> None:
    scenario = hedged({"a": SLOW, "b": SLOW, "c": FAST}, max_attempts=3, delay=500)
    eject(scenario, "c")
    for _ in range(5):
        end = await played(scenario)
        assert [record.provider for record in end.attempts] == ["a", "b"]
    assert scenario.services.planner.alias("fast").throttle.admits
    await scenario.settled()


@on_virtual_time
async def test_a_probe_that_cannot_even_connect_has_failed() -> None:
    scenario = hedged({"a": BLACK_HOLE, "b": FAST})
    eject(scenario, "a")
    await asyncio.sleep(37)
    ends = [await played(scenario) for _ in range(3)]
    assert [end.attempts[0].provider for end in ends] == ["a", "b", "b"]
    await asyncio.sleep(2)
    assert state_of(scenario, "a").breaker.state is BreakerState.OPEN
    await scenario.settled()
    scenario.check()


@pytest.mark.parametrize(
    ("hedge", "policy"),
    [
        pytest.param({"max_extra_requests": 0.0}, Policy(), id="no credit"),
        pytest.param({}, Policy(hedge=HedgeWish(mode="off")), id="not wanted"),
        pytest.param({}, Policy(hedge=HedgeWish(max_attempts=1)), id="one at a time"),
        pytest.param({}, Policy(speculative=True), id="speculative"),
    ],
)
def test_without_another_standing_by_no_request_is_a_probe(
    hedge: dict[str, Any], policy: Policy
) -> None:
    @on_virtual_time
    async def play() -> None:
        scenario = hedged({"a": SLOW, "b": FAST}, **hedge)
        eject(scenario, "a")
        await played(scenario)  # so that the budget knows its shares
        await asyncio.sleep(37)
        end = await played(scenario, policy=policy)
        assert [record.provider for record in end.attempts] == ["b"]
        await scenario.settled()

    play()


# --- races ----------------------------------------------------------------------------------


@on_virtual_time
async def test_a_race_says_nothing_of_who_was_first() -> None:
    """All at once is no sign of slowness: others' hedges go on."""
    scenario = hedged({"a": FAST, "b": FAST})
    for name in ("a", "b"):
        state = state_of(scenario, name)
        for _ in range(150):
            state.latency.record(0.5, 0, 0, now_s())
        state.refresh(now_s())
    for _ in range(24):
        await played(scenario, policy=Policy(hedge=HedgeWish(mode="race")))
    described = scenario.services.planner.describe(["fast"])
    assert described["common_mode"]["slow_first_token"] == []
    assert described["aliases"]["fast"]["by_reason"] == {"race": 24}
    await scenario.settled()


@on_virtual_time
async def test_a_race_that_cannot_be_paid_is_hedged_when_it_can() -> None:
    scenario = hedged({"a": SLOW, "b": FAST}, max_extra_requests=0.02)
    for _ in range(10):  # the burst of a new worker
        await played(scenario, policy=Policy(hedge=HedgeWish(mode="race")))
    race = asyncio.create_task(played(scenario, policy=Policy(hedge=HedgeWish(mode="race"))))
    await asyncio.sleep(0.1)
    without = Policy(hedge=HedgeWish(mode="off"))
    others = [asyncio.create_task(played(scenario, policy=without)) for _ in range(600)]
    end = await race
    assert [(r.provider, r.started_us) for r in end.attempts] == [("a", 0), ("b", 2_000_000)]
    assert end.hedge is not None
    assert (end.hedge.reason, end.hedge.refused) == ("race", "")
    await asyncio.gather(*others)
    await scenario.settled()


@on_virtual_time
async def test_losers_that_run_on_end_with_the_worker() -> None:
    scenario = hedged(
        {"a": FakeEndpoint(headers_s=30.0), "b": FAST},
        rows_more={"a": {"cancel_billing": "full"}},
    )
    await played(scenario)
    assert scenario.transport.unfinished
    await scenario.reaper.aclose(grace_s=0.5)
    scenario.check()
    assert asyncio.all_tasks() == {asyncio.current_task()}


# --- counts that cannot be ------------------------------------------------------------------


@on_virtual_time
async def test_an_absurd_count_of_output_leaves_budgets_and_limits_alone() -> None:
    absurd = FakeEndpoint(chunks=counting(10, 10**9))
    scenario = hedged(
        {"a": [SLOW, *[FAST] * 100], "b": absurd},
        rows_more={"b": {"tpm": 100_000}},
        max_extra_cost=1.0,
    )
    end = await played(scenario)
    assert end.provider == "b"
    assert state_of(scenario, "b").headroom.own_wait_s(now_s()) == 0
    alias = scenario.services.planner.alias("fast")
    assert alias.output_tokens < 1000
    for _ in range(60):
        await played(scenario)
    money = alias.budgets.operator.money
    assert money is not None
    assert money > 0, "the debt is paid off"
    await scenario.settled()


@on_virtual_time
async def test_an_absurd_count_of_the_prompt_teaches_nothing() -> None:
    scenario = hedged({"a": [FakeEndpoint(chunks=counting(10**9, 1)), FAST]})
    state = state_of(scenario, "a")
    for at in range(300):
        prompt = (100, 20_000, 50_000)[at % 3]
        state.latency.record(0.5 * (1 + 0.05 * prompt / 1000), prompt, 0, now_s())
    state.refresh(now_s())
    before = state.latency.scale(50_000, 0)
    await played(scenario)
    state.refresh(now_s())
    assert state.latency.scale(50_000, 0) == pytest.approx(before, rel=0.05)
    assert state.prompt_tokens(100) == 100
    await scenario.settled()
