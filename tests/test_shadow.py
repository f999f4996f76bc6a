"""Shadow mode: what a hedge would have done, by the rules and at the moments of active mode."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from relay.content import Budgets, GenerateRequest, HedgeWish, Policy, Sampling
from relay.errors import ClientCancelled
from relay.outcome import AttemptRole, GenerationEnd
from relay.race_plan import AliasState
from relay.resilience.common_mode import CommonMode
from relay.target_state import TargetState
from tests.fakes.memory_transport import FakeEndpoint
from tests.fakes.scenario import Rows, Scenario, answer, request
from tests.fakes.virtual_time import now_s, on_virtual_time

SLOW = FakeEndpoint(headers_s=1.0, chunks=answer("Hello"))
FAST = FakeEndpoint(headers_s=0.25, chunks=answer("Howdy"))
LATE_FAILURE = FakeEndpoint(status=503, headers_s=1.0, chunks=[(0.0, b"{}")])
EARLY_FAILURE = FakeEndpoint(status=503, headers_s=0.25, chunks=[(0.0, b"{}")])

PRICES = {"m": {"input": 1.0, "output": 4.0}}
STOPS = {"prices": PRICES, "cancel_billing": "stops"}
IN_FULL = {"prices": PRICES, "cancel_billing": "full"}


def world(rows: Rows, mode: str = "shadow", **hedge: Any) -> Scenario:
    return Scenario(
        rows,
        rows_more={"a": STOPS, "b": STOPS, **hedge.pop("rows_more", {})},
        alias_more={"hedge": {"mode": mode, "delay": 500, **hedge}},
    )


def state_of(scenario: Scenario, name: str) -> TargetState:
    target = next(
        t
        for t in scenario.services.catalog.routes["fast"].candidates
        if t.endpoint.provider == name
    )
    return scenario.services.planner.states.of(target, now_s())


def learn(scenario: Scenario, name: str, *times_s: float) -> None:
    """The target has been seen to take so long, each of them fifty times."""
    state = state_of(scenario, name)
    for time_s in times_s * 50:
        state.latency.record(time_s, 0, 0, now_s())
    state.refresh(now_s())


def alias(scenario: Scenario) -> AliasState:
    return scenario.services.planner.alias("fast")


async def played(scenario: Scenario, wanted: GenerateRequest | None = None) -> GenerationEnd:
    _, end = await scenario.generate(wanted)
    await scenario.settled()
    scenario.check()
    assert end.hedge is not None
    return end


@on_virtual_time
async def test_a_hedge_whose_time_comes_is_noted_and_not_sent() -> None:
    scenario = world({"a": SLOW, "b": FAST})
    learn(scenario, "b", 0.25, 0.75)
    end = await played(scenario)
    assert end.hedge is not None
    assert end.hedge.would_fire
    assert end.hedge.second == "b/m"
    # Half a second is left for it: the first half of what is known of it makes that.
    assert end.hedge.would_win == pytest.approx(0.5, abs=0.01)
    assert (end.hedge.fired, end.hedge.won, end.hedge.refused) == (0, False, "")
    assert scenario.started == [("a", 0.0)]


@on_virtual_time
async def test_a_first_token_before_the_delay_fires_nothing() -> None:
    scenario = world({"a": FAST, "b": FAST})
    end = await played(scenario)
    assert end.hedge is not None
    assert end.hedge.would_fire is False
    assert end.hedge.would_win is None
    assert alias(scenario).budgets.operator.hedges == 0


@on_virtual_time
async def test_nothing_is_said_of_a_second_that_is_not_known() -> None:
    scenario = world({"a": SLOW, "b": FAST})
    end = await played(scenario)
    assert end.hedge is not None
    assert (end.hedge.would_fire, end.hedge.would_win) == (True, None)
    assert alias(scenario).counters.would_unrated == 1


@on_virtual_time
async def test_a_failure_before_the_delay_is_a_failover_and_no_hedge() -> None:
    scenario = world({"a": EARLY_FAILURE, "b": FAST})
    end = await played(scenario)
    assert end.hedge is not None
    assert end.hedge.would_fire is False
    assert [record.role for record in end.attempts] == [AttemptRole.PRIMARY, AttemptRole.FAILOVER]
    assert alias(scenario).counters.failovers == 1


@on_virtual_time
async def test_a_failure_after_the_delay_is_one_that_the_hedge_would_have_replaced() -> None:
    scenario = world({"a": LATE_FAILURE, "b": FAST})
    learn(scenario, "b", 0.25, 0.75)
    end = await played(scenario)
    assert end.hedge is not None
    assert (end.hedge.would_fire, end.hedge.would_win) == (True, 1.0)


@on_virtual_time
async def test_a_client_that_leaves_ends_what_the_second_had_time_for() -> None:
    scenario = world({"a": FakeEndpoint(chunks=answer("Hello", first_s=3.0)), "b": FAST})
    learn(scenario, "b", 0.25, 0.75)
    generation = scenario.generation()
    asyncio.get_running_loop().call_later(1.0, lambda: generation.cancel(ClientCancelled("enough")))
    async with generation:
        assert not await generation.commit()
    assert generation.end is not None
    assert generation.end.hedge is not None
    assert generation.end.hedge.would_fire
    assert generation.end.hedge.would_win == pytest.approx(0.5, abs=0.01)
    await scenario.settled()


# --- credit and money -----------------------------------------------------------------------


async def fired(mode: str, requests: int, **hedge: Any) -> tuple[list[bool], AliasState]:
    """Which of these slow requests were hedged, or would have been."""
    scenario = world({"a": SLOW, "b": FAST}, mode, **hedge)
    learn(scenario, "a", 1.0, 1.0)  # as slow as ever: no breaker's business
    learn(scenario, "b", 0.25, 0.25)
    found = []
    for _ in range(requests):
        end = await played(scenario)
        assert end.hedge is not None
        found.append(bool(end.hedge.would_fire if mode == "shadow" else end.hedge.fired))
        assert (end.hedge.refused == "") == found[-1]
    return found, alias(scenario)


@pytest.mark.parametrize(
    "hedge",
    [
        pytest.param({}, id="requests"),
        pytest.param({"max_extra_requests": 0.5, "max_extra_cost": 0.05}, id="money"),
        pytest.param(
            {"max_extra_requests": 0.5, "max_extra_cost": 0.2, "rows_more": {"b": IN_FULL}},
            id="money, and one who does not stop",
        ),
    ],
)
@on_virtual_time
async def test_credit_is_used_as_in_active_mode(hedge: dict[str, Any]) -> None:
    noted, shadow = await fired("shadow", 60, **hedge)
    sent, active = await fired("active", 60, **hedge)
    assert noted == sent
    assert any(noted)
    assert not all(noted)
    assert shadow.budgets.operator.credit == active.budgets.operator.credit
    assert shadow.budgets.operator.money == pytest.approx(active.budgets.operator.money)
    # The same in the counters, by the words of each mode.
    assert shadow.counters.would_fire == active.counters.fired == sum(sent)
    assert shadow.counters.would_win == pytest.approx(active.counters.won)
    assert shadow.counters.refused == active.counters.refused
    assert shadow.counters.budget_exhausted == 60 - sum(sent)
    assert shadow.counters.would_cost == pytest.approx(active.counters.extra_cost)
    assert shadow.counters.would_cost_upper == pytest.approx(active.counters.extra_cost_upper)
    assert shadow.counters.fired == 0


@on_virtual_time
async def test_cost_is_of_the_one_that_loses() -> None:
    scenario = world({"a": SLOW, "b": FAST}, rows_more={"b": IN_FULL})
    learn(scenario, "b", 0.25, 0.75)
    wanted = request(sampling=Sampling(max_output_tokens=100))
    end = await played(scenario, wanted)
    assert end.hedge is not None
    prompt = 6  # estimated tokens of the prompt, at a micro-dollar each
    full = prompt + 100 * 4.0
    # Half of the time the first loses, which stops; else the second, which is paid in full.
    assert end.hedge.would_cost == pytest.approx(0.5 * prompt + 0.5 * full, rel=0.02)
    assert end.hedge.would_cost_upper == pytest.approx(full)


@on_virtual_time
async def test_a_deadline_takes_from_its_own_share() -> None:
    scenario = world({"a": SLOW, "b": FAST}, delay="auto")
    learn(scenario, "a", 0.25, 4.0)
    learn(scenario, "b", 0.25, 0.25)
    wanted = request(policy=Policy(budgets=Budgets(first_token_s=4.5)))
    # Planned for 4.0 at the latest, past the first's p75: not before 4.0 s, so nothing fires.
    end = await played(scenario, wanted)
    assert end.hedge is not None
    assert end.hedge.would_fire is False
    budget = alias(scenario).budgets.operator
    before = budget._deadline_credit
    wish = HedgeWish(delay_s=4.0)
    wanted = request(policy=Policy(budgets=Budgets(first_token_s=1.2), hedge=wish))
    learn(scenario, "a", 0.25, 0.25, 0.25, 0.25, 0.25, 0.25)
    end = await played(scenario, wanted)
    assert end.hedge is not None
    assert (end.hedge.reason, end.hedge.would_fire) == ("deadline", True)
    assert budget._deadline_credit < before


# --- common mode ----------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["active", "shadow"])
@pytest.mark.parametrize(
    ("delay", "usual_s", "is_beyond"),
    [
        pytest.param(500, 1.0, False, id="as slow as ever, though its fixed delay has passed"),
        pytest.param(500, 0.25, True, id="later than its own learned delay"),
        pytest.param("auto", 0.25, True, id="the same when that is the delay"),
    ],
)
@on_virtual_time
async def test_a_first_is_judged_once_by_its_own_learned_delay(
    delay: object, usual_s: float, is_beyond: bool, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[bool] = []
    monkeypatch.setattr(CommonMode, "judged", lambda *_, is_beyond: said.append(is_beyond))
    scenario = world({"a": SLOW, "b": FAST}, mode, delay=delay)
    learn(scenario, "a", usual_s, usual_s)
    await played(scenario)
    # One that lost the race before it was late says nothing.
    assert said == ([is_beyond] if is_beyond or mode == "shadow" else [])


# --- what is shown --------------------------------------------------------------------------


@on_virtual_time
async def test_counters_are_shown_by_alias() -> None:
    scenario = world({"a": SLOW, "b": FAST})
    learn(scenario, "b", 0.25, 0.75)
    await played(scenario)
    shown = scenario.services.planner.describe(["fast", "never asked"])
    assert list(shown["aliases"]) == ["fast"]
    row = shown["aliases"]["fast"]
    assert (row["requests"], row["fired"], row["won"], row["failovers"]) == (1, 0, 0, 0)
    assert row["by_reason"] == {"fixed": 1}
    assert row["shadow"]["would_fire"] == 1
    assert row["shadow"]["would_win"] == pytest.approx(0.5, abs=0.01)
    assert row["credit_requests"] == pytest.approx(9.05)
    assert shown["common_mode"]["suspended"] is False


@on_virtual_time
async def test_who_would_win_is_not_said_while_nobody_knows() -> None:
    scenario = world({"a": SLOW, "b": FAST})
    await played(scenario)

    def shown() -> dict[str, Any]:
        described = scenario.services.planner.describe(["fast"])
        row: dict[str, Any] = described["aliases"]["fast"]["shadow"]
        return row

    assert (shown()["would_fire"], shown()["unrated"], shown()["would_win"]) == (1, 1, None)
    learn(scenario, "b", 0.75, 0.75)
    await played(scenario)
    assert (shown()["would_fire"], shown()["unrated"], shown()["would_win"]) == (2, 1, 0.0)


@on_virtual_time
async def test_records_of_a_race_that_the_client_left_are_final_with_its_end() -> None:
    scenario = world({"a": SLOW, "b": SLOW}, "active")
    generation = scenario.generation()
    asyncio.get_running_loop().call_later(
        0.75, lambda: generation.cancel(ClientCancelled("enough"))
    )
    async with generation:
        assert not await generation.commit()
    assert generation.end is not None
    assert [record.ended_us for record in generation.end.attempts] == [750_000, 750_000]
    assert [record.cost for record in generation.end.attempts] == [6.0, 6.0]
    assert not any(record.is_loser for record in generation.end.attempts)
    await scenario.settled()
    scenario.check()
