"""Cascades and time: a large model that is started before the verdict, and limits for the small."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from relay.policy.cascade_budget import SpeculationBudgets
from tests.fakes.scripted_legs import FAILED, Script, ScriptedLegs, words
from tests.fakes.virtual_time import VirtualLoop, on_virtual_time, since_start_s
from tests.policy.cascades import cascade, read, request, text_of

LOGPROBS = {"logprobs": {"tokens": 4, "mean_below": -0.5}}
SURE = words("one ", "two ", "three ", "four ", "five", first_s=0.2, gap_s=0.1, logprob=-0.1)
UNSURE = words("one ", "two ", "three ", "four ", "five", first_s=0.2, gap_s=0.1, logprob=-0.9)
GUESS = {"after_ms": 100, "max_share": 1.0, "max_extra_cost": 1.0}


def legs_of(small: Any, large_s: float = 0.3, **more: Any) -> ScriptedLegs:
    scripts = {
        "small": [Script(small, cost=10.0)],
        "large": [Script(words("la", "rge", first_s=large_s, gap_s=0.1), cost=100.0)],
    }
    return ScriptedLegs({**scripts, **more.pop("scripts", {})}, price=100.0, **more)


@on_virtual_time
async def test_a_start_that_was_needed_saves_the_small_ones_time_and_costs_nothing_extra() -> None:
    budgets, legs = SpeculationBudgets(), legs_of(UNSURE)
    made = cascade(budgets, escalate=LOGPROBS, speculate=GUESS)
    assert made.budget is not None
    answer = await made.compose(request(), legs)
    assert since_start_s() == pytest.approx(0.5)  # verdict; the large one is there since 0.4
    assert text_of(await read(answer)) == "large"
    assert legs.of("large")[0].started_s - legs.received_s == pytest.approx(0.1)
    assert made.budget.operator.money == pytest.approx(10 * 100.0 + 100.0)


@on_virtual_time
async def test_a_start_that_was_not_is_stopped_at_once_and_paid() -> None:
    budgets, legs = SpeculationBudgets(), legs_of(SURE, large_s=0.2)
    made = cascade(budgets, escalate=LOGPROBS, speculate=GUESS, commit_after_tokens=1)
    assert made.budget is not None
    answer = await made.compose(request(), legs)
    large = legs.of("large")[0]
    assert (large.outcome, large.cancelled_s) == ("not_needed", legs.received_s + 0.5)
    assert made.budget.operator.money == pytest.approx(1000.0)  # 100 earned, 100 put aside
    assert text_of(await read(answer)) == "one two three four five"
    assert made.budget.operator.money == pytest.approx(1100.0 - large.cost)  # type: ignore[operator]


@on_virtual_time
async def test_a_stake_is_settled_where_the_answer_is_left() -> None:
    legs = legs_of(SURE, large_s=9.0)
    made = cascade(escalate=LOGPROBS, speculate=GUESS, commit_after_tokens=1)
    assert made.budget is not None
    answer = await made.compose(request(), legs)
    answer.abort()
    answer.abort()
    assert made.budget.operator.money == pytest.approx(1100.0)


@on_virtual_time
async def test_the_share_of_requests_is_held() -> None:
    made = cascade(escalate=LOGPROBS, speculate={**GUESS, "max_share": 0.1}, commit_after_tokens=1)
    starts = 0
    for _ in range(200):
        legs = legs_of(SURE)
        await read(await made.compose(request(), legs))
        starts += len(legs.of("large"))
    assert 20 <= starts <= 31  # a tenth, and half the credit of the beginning


@on_virtual_time
async def test_money_is_held() -> None:
    made = cascade(
        escalate=LOGPROBS, speculate={**GUESS, "max_extra_cost": 0.02}, commit_after_tokens=1
    )
    spent = 0.0
    for _ in range(300):
        legs = legs_of(SURE, large_s=0.05)
        await read(await made.compose(request(), legs))
        spent += sum(leg.cost or 0.0 for leg in legs.of("large"))
    assert 0 < spent <= 1000.0 + 0.02 * 300 * 100.0


@on_virtual_time
async def test_no_share_no_start() -> None:
    for none in ({"max_share": 0.0}, {"max_share": 0.1}):
        made = cascade(escalate=LOGPROBS, speculate={**GUESS, **none})
        assert made.budget is not None
        while none["max_share"] and made.budget.take("t", 0.0):
            pass
        legs = legs_of(UNSURE)
        answer = await made.compose(request(), legs)
        assert text_of(await read(answer)) == "large"
        assert legs.of("large")[0].started_s - legs.received_s == pytest.approx(0.5)


@on_virtual_time
async def test_a_budget_outlives_a_configuration() -> None:
    budgets = SpeculationBudgets()
    first = cascade(budgets, speculate=GUESS)
    second = cascade(budgets, speculate={**GUESS, "max_share": 0.0})
    assert first.budget is second.budget
    assert second.budget is not None
    assert second.budget.operator.max_extra_requests == 0.0


@on_virtual_time
async def test_first_words_that_look_unsure_start_it() -> None:
    values = [-0.4, -0.4, -0.4, -0.4, -0.1, -0.1, -0.1, -0.1]
    small = words(*"abcdefgh", first_s=0.2, gap_s=0.1, logprob=values)
    speculate = {"unsure_below": -0.3, "max_share": 1.0}
    escalate = {"logprobs": {"tokens": 8, "mean_below": -0.5}}
    legs = legs_of(small)
    await read(await cascade(escalate=escalate, speculate=speculate).compose(request(), legs))
    large = legs.of("large")[0]
    assert large.started_s - legs.received_s == pytest.approx(0.5)  # four tokens
    assert legs.decision.outcome == "small"
    assert large.outcome == "not_needed"


@on_virtual_time
async def test_sure_ones_do_not() -> None:
    speculate = {"unsure_below": -0.3, "max_share": 1.0}
    legs = legs_of(SURE)
    await read(await cascade(escalate=LOGPROBS, speculate=speculate).compose(request(), legs))
    assert legs.of("large") == []


@on_virtual_time
async def test_a_speculative_start_that_fails_leaves_the_small_one_alone() -> None:
    for script in (Script(error=FAILED), Script(start_error=FAILED)):
        legs = legs_of(SURE, scripts={"large": [script]})
        made = cascade(escalate=LOGPROBS, speculate=GUESS)
        assert text_of(await read(await made.compose(request(), legs))).startswith("one")
        legs.check()


@on_virtual_time
async def test_and_is_not_tried_again() -> None:
    legs = legs_of(UNSURE, scripts={"large": [Script(error=FAILED), Script(words("large"))]})
    answer = await cascade(escalate=LOGPROBS, speculate=GUESS).compose(request(), legs)
    assert text_of(await read(answer)) == "one two three four five"
    assert (legs.decision.outcome, legs.decision.reason) == ("small_after_failure", "logprobs")
    assert len(legs.of("large")) == 1


# --- limits for the small one ---------------------------------------------------------------


@pytest.mark.parametrize("how", ["budget", "within"])
def test_a_small_one_that_is_late(how: str) -> None:
    @on_virtual_time
    async def is_passed() -> None:
        legs = legs_of(words("slow", first_s=5.0))
        more: dict[str, Any] = {"small_within_ms": 400} if how == "within" else {}
        wanted = request(first_token_s=0.8 if how == "budget" else None)
        answer = await cascade(**more).compose(wanted, legs)
        assert since_start_s() == pytest.approx(0.7)
        assert text_of(await read(answer)) == "large"
        assert (legs.decision.outcome, legs.decision.reason) == ("escalated", "deadline")
        assert legs.of("small")[0].outcome == "late"
        legs.check()

    is_passed()


@on_virtual_time
async def test_a_small_one_that_is_late_may_still_be_the_first() -> None:
    legs = legs_of(words("slow", first_s=0.5), large_s=0.3)
    answer = await cascade(small_within_ms=400).compose(request(), legs)
    assert text_of(await read(answer)) == "slow"
    assert (legs.decision.outcome, legs.of("large")[0].outcome) == ("small", "not_needed")


@on_virtual_time
async def test_a_large_one_that_fails_then_leaves_it_to_the_small_one() -> None:
    legs = legs_of(words("slow", first_s=5.0), scripts={"large": [Script(error=FAILED)]})
    answer = await cascade(small_within_ms=400).compose(request(), legs)
    assert text_of(await read(answer)) == "slow"
    assert legs.decision.outcome == "small"


@on_virtual_time
async def test_the_classifiers_time_is_the_small_ones() -> None:
    classifier = {"model": "c", "beside_small": False, "timeout_ms": 5000}
    scripts = {"classifier": [Script(never=True)]}
    legs = legs_of(words("small", first_s=0.1), scripts=scripts)
    made = cascade(escalate={"classifier": classifier}, small_within_ms=400)
    answer = await made.compose(request(), legs)
    assert since_start_s() == pytest.approx(0.7)
    assert text_of(await read(answer)) == "large"
    legs.check()


@on_virtual_time
async def test_a_request_that_is_late_already_asks_both_at_once() -> None:
    legs = legs_of(words("slow", first_s=5.0))
    legs.received_s -= 10.0
    answer = await cascade(small_within_ms=400).compose(request(), legs)
    assert text_of(await read(answer)) == "large"
    assert [leg.started_s for leg in legs.started] == [legs.received_s + 10.0] * 2


@on_virtual_time
async def test_it_takes_no_speculative_start() -> None:
    legs = legs_of(words("slow", first_s=5.0))
    made = cascade(small_within_ms=400, speculate={**GUESS, "after_ms": 2000})
    await read(await made.compose(request(), legs))
    assert made.budget is not None
    assert made.budget.operator.hedges == 0


@on_virtual_time
async def test_nothing_turns_while_both_are_waited_for() -> None:
    """A moment for a speculative start that has passed is not waited for again and again."""
    legs = legs_of(words("slow", first_s=5.0), large_s=4.0)
    made = cascade(small_within_ms=100, speculate={**GUESS, "after_ms": 500})
    await read(await made.compose(request(), legs))
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    assert loop.steps < 60
