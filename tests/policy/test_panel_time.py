"""How long a panel waits, and what is left when it is left."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from relay.content import Budgets, Policy
from relay.errors import Code, Reason, RelayError, StreamReset
from relay.policy.panel import MARGIN_S, Panel
from relay.policy.panel_errors import TooFewAnswers
from tests.fakes.legs import NEVER_S, Fails, FakeLegs, Says, Script
from tests.fakes.scenario import request
from tests.fakes.virtual_time import START_S, run
from tests.policy.panels import always, asked, decided, majority, panel, prefers

SLOW = {"x": Says("1", whole_s=1), "y": Says("2", whole_s=2), "z": Says("2", whole_s=3)}


def within(seconds: float) -> dict[str, Any]:
    return {"policy": Policy(budgets=Budgets(first_token_s=seconds))}


def test_without_a_limit_it_waits() -> None:
    assert decided(majority(), SLOW)[2] == 3.0


def test_the_first_n_decide() -> None:
    label, legs, after_s = decided(majority(first_n=2), SLOW)
    assert (label, after_s) == ("a", 2.0)
    assert legs.outcomes()["c"] == "not_needed"
    assert (legs.decision.outcome, legs.decision.reason) == ("plurality", "tie")


def test_failures_are_no_answers_for_first_n() -> None:
    broken = Fails(StreamReset("cut"))
    label, _, after_s = decided(majority(first_n=2), {**SLOW, "x": broken})
    assert (label, after_s) == ("b", 3.0)


def test_after_wait_ms_those_decide_who_have_answered() -> None:
    label, legs, after_s = decided(majority(wait_ms=1500), SLOW)
    assert (label, after_s) == ("a", 1.5)
    assert legs.outcomes() == {"a": "ok", "b": "late", "c": "late"}
    assert legs.leg("b").cancelled_s == START_S + 1.5


def too_few(one: Panel, scripts: Mapping[str, Script | Sequence[Script]], **fields: Any) -> Any:
    async def main() -> tuple[TooFewAnswers, float]:
        legs = FakeLegs(scripts)
        with pytest.raises(TooFewAnswers) as failed:
            await asked(one, legs, **fields)
        legs.check(given=0)
        return failed.value, round(legs.clock() - START_S, 6)

    return run(main())


def test_nobody_has_answered_after_wait_ms() -> None:
    error, after_s = too_few(majority(wait_ms=500), SLOW)
    assert after_s == 0.5
    assert error.status_code is Code.DEADLINE_EXCEEDED
    assert error.reason is Reason.ATTEMPT_TIMEOUT
    assert "a (x): no whole answer after 500 ms" in error.public_message


def test_any_waits_on_for_the_first() -> None:
    one = majority(wait_ms=500, on_too_few="any", min_answers=2)
    label, legs, after_s = decided(one, SLOW)
    assert (label, after_s) == ("a", 1.0)
    assert (legs.decision.outcome, legs.decision.reason) == ("too_few", "any")


def test_any_waits_no_longer_than_the_budget() -> None:
    one = majority(wait_ms=500, on_too_few="any", min_answers=2)
    _, after_s = too_few(one, {name: Says("1", whole_s=9) for name in "xyz"}, **within(2))
    assert after_s == 2 - MARGIN_S


def test_after_wait_ms_any_takes_what_is_there() -> None:
    one = majority(wait_ms=1500, on_too_few="any", min_answers=2)
    label, _, after_s = decided(one, SLOW)
    assert (label, after_s) == ("a", 1.5)


def test_the_budget_of_the_request_bounds_the_waiting() -> None:
    label, legs, after_s = decided(majority(), SLOW, **within(2.5))
    assert (label, after_s) == ("a", 2.5 - MARGIN_S)
    assert legs.outcomes()["c"] == "late"
    _, after_s = too_few(majority(), SLOW, **within(0.5))
    assert after_s == 0.5 - MARGIN_S


def test_a_budget_counts_from_the_receipt() -> None:
    async def main() -> None:
        legs = FakeLegs(SLOW, received_s=START_S - 1)
        await legs.run(majority(), request(model="three", **within(2.5)))
        assert legs.clock() == START_S + 1.5 - MARGIN_S

    run(main())


def test_a_budget_that_is_over_is_told_at_once() -> None:
    _, after_s = too_few(majority(), SLOW, **within(0.01))
    assert after_s == 0.0


def test_a_judge_has_its_part_of_the_budget() -> None:
    one = panel({"judge": {"model": "judge", "timeout_ms": 1000}})
    scripts = {**SLOW, "judge": prefers("2\n", whole_s=0.9)}
    label, legs, after_s = decided(one, scripts, **within(3.5))
    assert label == "b"
    assert after_s == round(3.5 - MARGIN_S - 1.0 + 0.9, 6)
    assert legs.decision.reason == "judge"


def test_a_judge_has_half_of_a_short_budget_at_most() -> None:
    one = panel({"judge": {"model": "judge", "timeout_ms": 10_000}})
    scripts = {**SLOW, "y": Says("2", whole_s=1), "judge": always("A", whole_s=9)}
    label, legs, after_s = decided(one, scripts, **within(3))
    assert (label, after_s) == ("a", 3 - MARGIN_S)
    assert legs.decision.reason == "judge_failed"
    assert legs.leg("judge.1").cancelled_s == START_S + 3 - MARGIN_S


def test_a_member_that_never_answers_holds_nobody_up() -> None:
    never = Says("1", whole_s=NEVER_S)
    label, _, after_s = decided(majority(wait_ms=4000), {**SLOW, "x": never})
    assert (label, after_s) == ("b", 3.0)


def test_early_stop_may_be_off() -> None:
    same = {"x": Says("1"), "y": Says("1", whole_s=0.1), "z": Says("2", whole_s=5)}
    assert decided(majority(), same)[2] == 0.1
    label, legs, after_s = decided(majority(early_stop=False), same)
    assert (label, after_s) == ("a", 5.0)
    assert (legs.decision.outcome, legs.decision.reason) == ("agreed", "quorum")


def test_a_lead_that_cannot_be_lost_is_enough() -> None:
    models = ["x", "y", "z", "w", "v"]
    scripts = {
        "x": Says("1"),
        "y": Says("1", whole_s=0.1),
        "z": Says("2", whole_s=0.2),
        "w": Fails(StreamReset("cut"), at_s=0.3),
        "v": Fails(StreamReset("cut"), at_s=9),
    }
    label, legs, after_s = decided(majority(models), scripts)
    assert (label, after_s) == ("a", 9.0)  # the fifth may make it a quorum, or a tie
    label, legs, after_s = decided(majority(models, quorum=4), scripts)
    assert (label, after_s) == ("a", 9.0)
    scripts["z"] = Fails(StreamReset("cut"), at_s=0.2)
    label, legs, after_s = decided(majority(models, quorum=4), scripts)
    assert (label, after_s) == ("a", 0.3)
    assert (legs.decision.outcome, legs.decision.reason) == ("plurality", "lead")


# --- left in the middle ---------------------------------------------------------------------

JUDGED = panel({"judge": {"model": "judge"}})
RATED = panel({"best_of": {"judge": {"model": "judge"}}})
TIED = majority(on_tie="judge", judge={"model": "judge"})
SCHEMA = panel({"best_of": {"schema": {"type": "object"}}})

CASES: list[tuple[Panel, dict[str, Any]]] = [
    (majority(), {}),
    (majority(wait_ms=1500), {}),
    (JUDGED, {"judge": prefers("2\n")}),
    (JUDGED, {"judge": always("Hm")}),
    (RATED, {"judge": always("7")}),
    (TIED, {"z": Says("3", whole_s=3), "judge": prefers("3\n")}),
    (SCHEMA, {"x": Says('{"a": 1}', whole_s=1)}),
]


@pytest.mark.parametrize("case", range(len(CASES)))
def test_a_cancellation_at_any_moment_leaves_nothing_behind(case: int) -> None:
    """In every iteration of the loop, until the panel is done before it."""
    one, more = CASES[case]
    for step in range(1, 200):
        is_done = run(_cancelled_at(one, {**SLOW, **more}, step))
        if is_done:
            break
    else:
        pytest.fail("it was never done")
    assert step > 5


async def _cancelled_at(one: Panel, scripts: Any, step: int) -> bool:
    """Whether it was done before that iteration."""
    loop: Any = asyncio.get_running_loop()
    legs = FakeLegs(scripts)
    task = asyncio.ensure_future(asked(one, legs))
    loop.at_step(loop.steps + step, task.cancel)
    try:
        answer = await task
    except asyncio.CancelledError:
        legs.check(given=0)
        assert all(row["outcome"] for row in legs.decision.legs)
        return False
    answer.abort()
    legs.check()
    return True


def test_a_leg_that_is_stopped_by_its_owner_is_a_failure() -> None:
    """A worker that shuts down ends the legs itself."""

    async def main() -> None:
        legs = FakeLegs({name: Says("1", whole_s=9) for name in "xyz"})
        task = asyncio.ensure_future(asked(majority(), legs))
        await asyncio.sleep(1)
        for leg in legs.started:
            leg.cancel("drained")
        with pytest.raises(RelayError):
            await task
        legs.check(given=0)

    run(main())
