"""The cascade's table: sums that can be done by hand, and answers that are the ones released."""

from __future__ import annotations

import pytest

from bench.cascade import arms
from bench.cascade.world import LARGE, PROMPT_TOKENS, SMALL, answer_of, questions

COUNT = 120


def test_stated_shares_are_met() -> None:
    asked = questions(3000, 3)
    hard = [one for one in asked if one.task.is_hard]
    wrong = sum(not answer_of(LARGE, one, 3).is_right for one in hard)
    assert wrong / len(hard) == pytest.approx(LARGE.wrong_hard, abs=0.02)
    sure = [answer_of(SMALL, one, 3) for one in asked]
    right = [sum(one.logprobs) / len(one.logprobs) for one in sure if one.is_right]
    not_right = [sum(one.logprobs) / len(one.logprobs) for one in sure if not one.is_right]
    in_order = sum(a > b for a in right[:300] for b in not_right[:300])
    pairs = len(right[:300]) * len(not_right[:300])
    assert in_order / pairs == pytest.approx(SMALL.auroc, abs=0.05)


@pytest.mark.parametrize("name", ["refusal (default)", "logprobs of 8", "self-check", "rule"])
def test_an_arm(name: str) -> None:
    asked = questions(COUNT, 1)
    tally = arms.run(name, asked, 1)
    large = arms.alone("large", asked, 1)
    assert len(tally.ttft_s) == COUNT
    assert tally.right + tally.missed <= COUNT
    assert 0 < tally.cost < large.cost
    assert tally.false <= tally.escalated <= COUNT
    assert tally.wasted == 0.0
    assert tally.right > arms.alone("small", asked, 1).right


def test_a_large_model_beside_every_request_costs_its_prompts() -> None:
    asked = questions(COUNT, 1)
    tally = arms.run("logprobs, large at once", asked, 1)
    assert tally.started_large >= COUNT - 1
    not_needed = tally.started_large - tally.escalated
    assert tally.wasted >= not_needed * LARGE.cost(PROMPT_TOKENS, 0) * 0.99


def test_a_budget_holds() -> None:
    asked = questions(COUNT, 1)
    tally = arms.run("logprobs, large at once, 20 %", asked, 1)
    whole = LARGE.cost(PROMPT_TOKENS, 50)
    assert tally.wasted <= 10 * whole + 0.1 * COUNT * whole
