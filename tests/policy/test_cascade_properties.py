"""Cascades over scripts drawn at random: one answer, of one leg; nothing left; money held."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from relay.content import FinishReason, TextDelta
from relay.errors import NoCandidates, RelayError
from relay.policy.cascade_budget import SpeculationBudgets
from relay.resilience.hedge_budget import CAP_REQUESTS, MIN_HARD_COUNT
from tests.fakes.properties import examples
from tests.fakes.scripted_legs import FAILED, Script, ScriptedLegs, Step, refusal, words
from tests.fakes.virtual_time import run, since_start_s
from tests.policy.cascades import cascade, has_logprobs, request

PRICE = 100.0
TIMES = st.sampled_from([0.0, 0.05, 0.1, 0.25, 0.4, 1.0])


@st.composite
def answers(draw: st.DrawFn, mark: str) -> list[Step]:
    """Text in which every piece bears the leg's mark, so that none can be mixed unseen."""
    kind = draw(st.sampled_from(["text", "text", "text", "refusal", "empty"]))
    if kind == "refusal":
        return refusal(mark, draw(TIMES))
    if kind == "empty":
        return words(first_s=draw(TIMES))
    pieces = [f"{mark}{number} " for number in range(draw(st.integers(1, 8)))]
    return words(
        *pieces,
        first_s=draw(TIMES),
        gap_s=draw(TIMES),
        logprob=draw(st.sampled_from([None, -0.1, -0.3, -0.9])),
        finish=draw(st.sampled_from([FinishReason.STOP, FinishReason.STOP, FinishReason.LENGTH])),
    )


@st.composite
def scripts(draw: st.DrawFn, mark: str) -> Script:
    steps = draw(answers(mark))
    kind = draw(st.sampled_from(["whole", "whole", "whole", "broken", "refused"]))
    if kind == "refused":
        return Script(start_error=NoCandidates("none"), cost=0.0)
    if kind == "broken":
        cut = draw(st.integers(0, len(steps)))
        return Script(steps[:cut], error=FAILED, error_after_s=draw(TIMES), cost=PRICE)
    return Script(steps, cost=PRICE)


@st.composite
def replies(draw: st.DrawFn) -> Script:
    kind = draw(st.sampled_from(["yes", "no", "small", "large", "hm", "broken", "never"]))
    if kind == "broken":
        return Script(error=FAILED, error_after_s=draw(TIMES))
    return Script(never=True) if kind == "never" else Script(words(kind, first_s=draw(TIMES)))


@st.composite
def configs(draw: st.DrawFn) -> dict[str, Any]:
    escalate: dict[str, Any] = {"length": draw(st.booleans())}
    if draw(st.booleans()):
        escalate["logprobs"] = {
            "tokens": draw(st.sampled_from([1, 4, "all"])),
            "mean_below": -0.5,
            "on_missing": draw(st.sampled_from(["small", "large"])),
        }
    if draw(st.booleans()):
        escalate["classifier"] = {"model": "c", "beside_small": draw(st.booleans())}
    if draw(st.booleans()):
        escalate["self_check"] = {"on_failure": draw(st.sampled_from(["small", "large"]))}
    found: dict[str, Any] = {
        "escalate": escalate,
        "commit_after_tokens": draw(st.sampled_from([1, 4, "all"])),
        "on_large_failure": draw(st.sampled_from(["small", "fail"])),
        "small_within_ms": draw(st.sampled_from([None, 1, 100, 400])),
    }
    if draw(st.booleans()):
        found["speculate"] = {
            "after_ms": draw(st.sampled_from([0, 50, 300])),
            "max_share": 1.0,
            "max_extra_cost": draw(st.sampled_from([0.0, 0.1, 1.0])),
        }
    return found


@examples(150, full=20_000)
@given(
    config=configs(),
    small=scripts("s"),
    large=scripts("l"),
    reply=replies(),
    left_after=st.none() | st.integers(0, 4),
)
def test_one_answer_of_one_leg(
    config: dict[str, Any], small: Script, large: Script, reply: Script, left_after: int | None
) -> None:
    async def main() -> None:
        legs = ScriptedLegs(
            {"small": [small], "large": [large], "classifier": [reply], "self_check": [reply]},
            price=PRICE,
        )
        made = cascade(**config)
        try:
            answer = await made.compose(request(), legs)
        except RelayError:
            legs.check(given=0)
            return
        events = [*answer.prelude]
        try:
            read = 0
            while left_after is None or read < left_after:
                batch = await answer.read()
                if not batch:
                    break
                events += batch
                read += 1
        except RelayError:
            pass
        answer.abort()
        legs.check(given=1)
        winner = next(leg for leg in legs.started if leg.is_given)
        mark = winner.label[0]
        texts = [one.text for one in events if isinstance(one, TextDelta)]
        assert all(text.startswith(mark) for text in texts)
        assert texts == [e.text for e in winner.shown if isinstance(e, TextDelta)][: len(texts)]
        if "logprobs" in config["escalate"] and winner.label == "small":
            assert not has_logprobs(events)
        outcome = legs.decision.outcome
        assert (winner.label == "large") is (outcome == "escalated")
        assert legs.decision.reason
        if outcome == "small_after_failure":
            assert config["on_large_failure"] == "small"
        for label in ("large", "classifier"):
            assert len(legs.of(label)) <= 1

    run(main())


@examples(40, full=2000)
@given(
    requests=st.lists(st.tuples(scripts("s"), scripts("l"), TIMES), min_size=1, max_size=60),
    share=st.sampled_from([0.0, 0.1, 0.5]),
    extra=st.sampled_from([0.0, 0.05, 0.5]),
)
def test_speculation_costs_no_more_than_its_budget(
    requests: list[tuple[Script, Script, float]], share: float, extra: float
) -> None:
    """Money that was spent on large legs which nobody needed is within half the bucket that it
    begins with, plus the share of what was earned; and so are the starts."""
    config = {
        "speculate": {"after_ms": 50, "max_share": share, "max_extra_cost": extra},
        "escalate": {"logprobs": {"tokens": 4, "mean_below": -0.5, "on_missing": "small"}},
    }
    made = cascade(SpeculationBudgets(), **config)
    spent, starts = 0.0, 0

    async def one(small: Script, large: Script) -> None:
        nonlocal spent, starts
        legs = ScriptedLegs({"small": [small], "large": [large]}, price=PRICE)
        assert made.budget is not None
        before = made.budget.operator.hedges
        try:
            answer = await made.compose(request(), legs)
            while await answer.read():
                pass
        except RelayError:
            pass
        is_speculative = made.budget.operator.hedges > before
        starts += is_speculative
        if is_speculative:
            spent += sum(leg.cost or 0.0 for leg in legs.of("large") if not leg.is_given)
        assert since_start_s() >= 0.0

    for small, large, _ in requests:
        run(one(small, large))
    credit = CAP_REQUESTS / 2
    assert starts <= (0 if share == 0 else max(MIN_HARD_COUNT, share * len(requests)))
    assert spent <= credit * PRICE + extra * PRICE * len(requests) + 1e-6


@examples(40, full=2000)
@given(
    requests=st.lists(
        st.tuples(scripts("s"), scripts("l"), TIMES, st.none() | TIMES), min_size=1, max_size=30
    ),
    extra=st.sampled_from([0.0, 0.05, 0.5]),
)
def test_requests_beside_each_other_share_one_budget(
    requests: list[tuple[Script, Script, float, float | None]], extra: float
) -> None:
    """As above, with what is in flight: some come later, some are cancelled while they are composed
    or left while they are read."""
    config = {
        "speculate": {"after_ms": 50, "max_share": 1.0, "max_extra_cost": extra},
        "escalate": {"logprobs": {"tokens": 4, "mean_below": -0.5, "on_missing": "small"}},
    }
    made = cascade(SpeculationBudgets(), **config)
    budget = made.budget
    assert budget is not None
    everyone: list[ScriptedLegs] = []

    async def one(small: Script, large: Script, after_s: float) -> None:
        await asyncio.sleep(after_s)
        legs = ScriptedLegs({"small": [small], "large": [large]}, price=PRICE)
        everyone.append(legs)
        with contextlib.suppress(RelayError):
            answer = await made.compose(request(), legs)
            try:
                while await answer.read():
                    pass
            finally:
                answer.abort()

    async def main() -> None:
        tasks = []
        for small, large, after_s, left_after_s in requests:
            task = asyncio.create_task(one(small, large, after_s))
            tasks.append(task)
            if left_after_s is not None:
                asyncio.get_running_loop().call_later(after_s + left_after_s, task.cancel)
        await asyncio.gather(*tasks, return_exceptions=True)

    run(main())
    for legs in everyone:
        assert sum(leg.is_given for leg in legs.started) <= 1
        for leg in legs.started:
            assert leg.is_over or leg.cancelled_s is not None
    lost = [
        leg.cost or 0.0
        for legs in everyone
        for leg in legs.of("large")
        if leg.outcome == "not_needed"
    ]
    earned = budget.operator.requests * PRICE
    assert sum(lost) <= CAP_REQUESTS / 2 * PRICE + extra * earned + 1e-6
