"""What a plan earns and settles: the money of hedges, by what they really added."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from relay.content import Sampling, Usage
from relay.errors import ConnectError, RelayError, StreamReset
from relay.outcome import AttemptOutcome, AttemptRecord, AttemptRole, refused
from relay.race_plan import AliasState, RacePlan
from relay.resilience.hedge_budget import HedgeBudget
from tests.fakes.memory_transport import FakeEndpoint
from tests.fakes.scenario import Scenario, answer, request
from tests.fakes.virtual_time import now_s, on_virtual_time

ROW = {"prices": {"m": {"input": 1.0, "cached_input": 0.1, "output": 5.0}}}
OUTPUT = 20
WHOLE = 10 + 5.0 * OUTPUT
"""Of an answer at either target, to a prompt that is not cached."""


def scenario(hedge: dict[str, Any] | None = None, rows: dict[str, Any] | None = None) -> Scenario:
    row = FakeEndpoint(chunks=answer("Hello"))
    more = {"mode": "active", "max_extra_requests": 1.0, "max_extra_cost": 0.2, **(hedge or {})}
    return Scenario(
        {"a": row, "b": row, "c": row},
        rows_more=rows or {"a": ROW, "b": ROW, "c": ROW},
        alias_more={"hedge": more},
    )


def alias_of(one: Scenario) -> AliasState:
    return one.services.planner.alias("fast")


def budget_of(one: Scenario) -> HedgeBudget:
    return alias_of(one).budgets.operator


def tried(
    name: str, cost: float | None, outcome: str = "ignored", role: str = "hedge", **more: Any
) -> AttemptRecord:
    """One attempt; `outcome` may be `won`."""
    has_won = outcome == "won"
    return AttemptRecord(
        provider=name,
        model="m",
        started_us=0,
        outcome=AttemptOutcome.SUCCESS if has_won else AttemptOutcome(outcome),
        is_winner=has_won,
        role=AttemptRole(role),
        cost=cost,
        **{"cost_upper": cost, "is_loser": outcome == "ignored", **more},
    )


def end(plan: RacePlan, *records: AttemptRecord, output: int = OUTPUT) -> None:
    """The generation ends with these attempts."""
    has_answer = any(record.is_winner for record in records)
    plan.ended(
        replace(
            refused(RelayError("none")),
            error=None if has_answer else StreamReset("it broke"),
            usage=Usage(10, output, 10 + output) if has_answer else None,
            attempts=tuple(records),
        )
    )


# --- what a primary earns -------------------------------------------------------------------


@on_virtual_time
async def test_a_primary_earns_by_what_answers_cost_and_not_by_their_limit() -> None:
    one = scenario()
    wanted = request(sampling=Sampling(max_output_tokens=4000))
    for _ in range(500):
        end(one.plan(wanted), tried("a", WHOLE, "won", "primary"))
    plan = one.plan(wanted)
    first = plan.attempts[0].target
    assert plan.money.whole(first, now_s()) == pytest.approx(WHOLE, rel=0.01)
    assert plan.money.output.most == 4000
    lost = plan.money.lost(first, now_s(), 0)
    assert lost is not None
    assert lost.likely == pytest.approx(WHOLE, rel=0.01), "nobody knows whether it stops"
    assert lost.upper == 10 + 5.0 * 4000
    assert budget_of(one).money == pytest.approx(20 * WHOLE, rel=0.2), "full, at their real worth"
    plan.withdrawn()


@on_virtual_time
async def test_a_small_limit_bounds_what_an_answer_is_reckoned_to_cost() -> None:
    plan = scenario().plan(request(sampling=Sampling(max_output_tokens=3)))
    assert plan.money.output == (3, 3)
    assert plan.money.hedge(plan.attempts[1].target, now_s()) == 10 + 5.0 * 3
    plan.withdrawn()


@on_virtual_time
async def test_an_answer_that_broke_teaches_no_length() -> None:
    one = scenario()
    before = alias_of(one).output_tokens
    end(one.plan(), tried("a", 5.0, "failure", "primary"))
    assert alias_of(one).output_tokens == before


# --- what a hedge adds ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("records", "added"),
    [
        pytest.param(
            [tried("a", WHOLE, "won", "primary"), tried("b", 10.0)], 10.0, id="the hedge has lost"
        ),
        pytest.param(
            [tried("a", 10.0, role="primary"), tried("b", WHOLE, "won")], 10.0, id="it has won"
        ),
        pytest.param(
            [tried("a", 10.0, role="primary"), tried("b", 400.0, "won")],
            410.0 - WHOLE,
            id="a dear one has won",
        ),
        pytest.param(
            [tried("a", 10.0, role="primary"), tried("b", 20.0, "won")],
            0.0,
            id="a cheap one has won: nothing is given back",
        ),
        pytest.param(
            [tried("a", 0.0, "failure", "primary"), tried("b", 400.0, "won")],
            0.0,
            id="the first failed: another would have been asked anyway",
        ),
        pytest.param(
            [tried("a", 10.0, "success", "primary", is_loser=True), tried("b", 400.0, "won")],
            410.0 - WHOLE,
            id="the first was a probe that ran on after it had lost",
        ),
        pytest.param(
            [tried("a", WHOLE, "won", "primary"), tried("b", 10.0), tried("c", 30.0)],
            40.0,
            id="two have lost",
        ),
        pytest.param(
            [
                tried("a", 0.0, "failure", "primary", error=ConnectError("reset")),
                tried("a", WHOLE, "won", "retry"),
                tried("b", 10.0),
            ],
            10.0,
            id="the first needed its free retry",
        ),
        pytest.param(
            [tried("a", 10.0, role="primary"), tried("b", 15.0)], 15.0, id="the client has left"
        ),
    ],
)
def test_a_hedge_is_settled_with_what_it_added(records: list[AttemptRecord], added: float) -> None:
    @on_virtual_time
    async def play() -> None:
        one = scenario({"max_attempts": 3})
        plan = one.plan()
        hedges = [record for record in records if record.role is AttemptRole.HEDGE]
        before = budget_of(one).money
        for _ in hedges:
            assert plan.may_hedge(plan.attempts[1])
        end(plan, *records)
        assert before is not None
        assert budget_of(one).money == pytest.approx(before - added)
        assert plan.hedge.added_cost == pytest.approx(added)
        assert alias_of(one).counters.extra_cost == pytest.approx(added)

    play()


@on_virtual_time
async def test_a_replaced_hedge_is_one_more_request_and_not_one_more_beside() -> None:
    one = scenario({"max_attempts": 3})
    plan = one.plan()
    step, before = plan.attempts[1], budget_of(one).credit
    assert plan.may_hedge(step)
    assert plan.may_replace_hedge(step)
    assert (plan.hedge.fired, budget_of(one).credit) == (2, before - 2)
    assert plan.may_hedge(step), "the second of two that may run beside the first"
    assert not plan.may_hedge(step)
    while plan.may_replace_hedge(step):
        assert budget_of(one).credit >= 0
    assert plan.hedge.refused.startswith("budget_")


@on_virtual_time
async def test_the_upper_bound_is_over_what_the_first_alone_would_have_cost() -> None:
    one = scenario()
    plan = one.plan()
    assert plan.may_hedge(plan.attempts[1])
    end(plan, tried("a", WHOLE, "won", "primary"), tried("b", 10.0, cost_upper=1510.0))
    assert plan.hedge.added_cost_upper == pytest.approx(1510.0)


@on_virtual_time
async def test_without_a_price_a_hedge_costs_what_was_put_aside() -> None:
    one = scenario(rows={"a": ROW, "b": ROW})
    plan = one.plan()
    assert plan.may_hedge(plan.attempts[1])
    after = budget_of(one).money
    end(plan, tried("a", WHOLE, "won", "primary"), tried("c", None))
    assert budget_of(one).money == after
    assert plan.hedge.added_cost is None
