"""Which answer a panel gives, and what it says of it."""

from __future__ import annotations

from typing import Any

import pytest

from relay.config import ConfigError
from relay.content import FinishReason, OpaqueDelta, Sampling
from relay.errors import (
    BudgetExceeded,
    Code,
    Reason,
    RelayError,
    StreamReset,
    UnsupportedFeature,
    UpstreamStatus,
)
from relay.policy.panel_errors import NoAgreement, TooFewAnswers
from tests.fakes.legs import Fails, FakeLegs, Refuses, Says, events_of, given_leg, text_of
from tests.fakes.scenario import request
from tests.fakes.virtual_time import on_virtual_time, run
from tests.policy.panels import always, asked, decided, majority, panel, prefers

BROKEN = Fails(StreamReset("cut"), at_s=0.1)


def reason_of(legs: FakeLegs) -> tuple[str, str]:
    decision = legs.decision
    assert decision.composition == "panel"
    assert decision.name == "three"
    return decision.outcome, decision.reason


def votes_of(legs: FakeLegs) -> dict[str, int]:
    return {row["label"]: row["vote"] for row in legs.decision.legs if "vote" in row}


# --- majority -------------------------------------------------------------------------------


def test_two_of_three_agree_and_the_third_is_stopped() -> None:
    label, legs, after_s = decided(
        majority(),
        {
            "x": Says("Paris", whole_s=0.4),
            "y": Says("Lyon", whole_s=9),
            "z": Says("paris.", 0, 0.7),
        },
    )
    assert (label, after_s) == ("a", 0.7)
    assert reason_of(legs) == ("agreed", "quorum")
    assert legs.leg("b").cancelled_s == 1000.7
    assert legs.outcomes() == {"a": "ok", "b": "not_needed", "c": "not_chosen"}
    assert votes_of(legs) == {"a": 0, "c": 0}
    assert [row.get("is_chosen") for row in legs.decision.legs] == [True, None, None]


def test_of_those_who_agree_the_first_answer_is_given() -> None:
    label, _, _ = decided(
        majority(),
        {"x": Says("Paris", whole_s=0.8), "y": Says("no", whole_s=0.1), "z": Says("Paris", 0, 0.3)},
    )
    assert label == "c"


@on_virtual_time
async def test_the_answer_is_passed_on_as_the_member_gave_it() -> None:
    legs = FakeLegs({"x": Says("**Paris**."), "y": Says("paris"), "z": Says("Lyon", whole_s=5)})
    answer = await asked(majority(), legs)
    assert given_leg(answer).model == "x"
    assert await text_of(answer) == "**Paris**."


def test_without_a_quorum_the_most_votes_win() -> None:
    said = {"x": Says("1"), "y": Says("2", whole_s=0.2), "z": Says("2", whole_s=0.3)}
    label, legs, _ = decided(
        majority(["x", "y", "z", "w", "v"]), {**said, "w": BROKEN, "v": BROKEN}
    )
    assert label == "b"
    assert reason_of(legs) == ("plurality", "lead")


@pytest.mark.parametrize(
    ("rule", "label"), [("first", "a"), ("soonest", "c"), ("cheapest", "b"), ("fail", "")]
)
def test_ties(rule: str, label: str) -> None:
    scripts = {
        "x": Says("1", whole_s=0.3, cost=30),
        "y": Says("2", whole_s=0.2, cost=10),
        "z": Says("3", whole_s=0.1, cost=None),
    }
    one = majority(on_tie=rule)
    if rule == "fail":
        with pytest.raises(NoAgreement, match="3 answers are equally good") as failed:
            decided(one, scripts)
        assert failed.value.status_code is Code.UNAVAILABLE
        return
    found, legs, _ = decided(one, scripts)
    assert found == label
    assert reason_of(legs) == ("plurality", "tie")


def test_a_tie_is_between_the_leading_groups_alone() -> None:
    scripts = {
        "x": Says("1"),
        "y": Says("2", whole_s=0.4),
        "z": Says("3", whole_s=0.3),
        "w": Says("3", whole_s=0.2),
        "v": Says("2", whole_s=0.1),
    }
    one = majority(["x", "y", "z", "w", "v"], on_tie="first")
    label, legs, _ = decided(one, scripts)
    assert label == "b"
    assert reason_of(legs) == ("plurality", "tie")


def test_no_quorum_may_be_a_failure_and_is_told_at_once() -> None:
    async def main() -> None:
        legs = FakeLegs({"x": Says("1"), "y": Says("2"), "z": Says("3", whole_s=9), "w": Says("2")})
        one = majority(["x", "y", "z", "w"], quorum=4, no_quorum="fail")
        with pytest.raises(NoAgreement, match="no 4 votes are for one of them") as failed:
            await asked(one, legs)
        assert failed.value.reason is Reason.UPSTREAM_FAILED
        assert legs.clock() == 1000.0
        assert reason_of(legs) == ("no_agreement", "fail")
        legs.check(given=0)

    run(main())


def test_weights() -> None:
    models = [{"model": "x", "weight": 3}, "y", "z"]
    scripts = {"x": Says("1", whole_s=0.5), "y": Says("2"), "z": Says("2")}
    label, legs, after_s = decided(majority(models), scripts)
    assert (label, after_s) == ("a", 0.5)
    assert reason_of(legs) == ("agreed", "quorum")


def test_numbers_and_fields_and_tool_calls() -> None:
    near = {"number": {"tolerance_rel": 0.01}}
    scripts = {"x": Says("It is 3.14"), "y": Says("3,142"), "z": Says("2.7", whole_s=9)}
    assert decided(majority(equality=near), scripts)[0] == "a"
    field = {"json_field": "/label"}
    scripts = {
        "x": Says("maybe"),
        "y": Says('{"label": "good", "why": 1}'),
        "z": Says('{"why": 2, "label": "Good"}'),
    }
    assert decided(majority(equality=field), scripts)[0] == "b"
    scripts = {
        "x": Says(calls=(("get", '{"a": 1, "b": 2}'),)),
        "y": Says("I will look", calls=(("get", '{"b":2,"a":1}'),)),
        "z": Says(calls=(("get", '{"a": 1}'),)),
    }
    label, legs, _ = decided(majority(), scripts)
    assert label == "a"
    assert reason_of(legs) == ("agreed", "quorum")


def test_self_consistency_asks_one_alias_with_seeds_of_its_own() -> None:
    models = [{"model": "x", "times": 3, "temperature": 0.9, "seed": 5}]
    label, legs, _ = decided(majority(models), {"x": [Says("1"), Says("2"), Says("2")]})
    assert label == "b"
    sampling = [leg.request.sampling for leg in legs.started]
    assert [(one.temperature, one.seed) for one in sampling] == [(0.9, 5), (0.9, 6), (0.9, 7)]
    assert [leg.model for leg in legs.started] == ["x"] * 3


def test_a_members_own_settings_leave_the_others_alone() -> None:
    models = [{"model": "x", "top_p": 0.5, "max_output_tokens": 7}, "y"]
    _, legs, _ = decided(
        majority(models), {"x": Says("1"), "y": Says("1")}, sampling=Sampling(top_p=0.9)
    )
    assert legs.leg("a").request.sampling == Sampling(top_p=0.5, max_output_tokens=7)
    assert legs.leg("b").request.sampling == Sampling(top_p=0.9)


def test_cut_answers_agree_with_none() -> None:
    cut = Says("Paris", finish=FinishReason.LENGTH)
    label, legs, _ = decided(majority(), {"x": cut, "y": cut, "z": Says("Paris")})
    assert label == "a"
    assert reason_of(legs) == ("plurality", "tie")


# --- failures -------------------------------------------------------------------------------


def test_the_rest_decides_where_some_fail() -> None:
    label, legs, _ = decided(majority(), {"x": BROKEN, "y": Says("1"), "z": Says("1")})
    assert label == "b"
    label, legs, _ = decided(majority(), {"x": BROKEN, "y": BROKEN, "z": Says("1")})
    assert label == "c"
    assert reason_of(legs) == ("plurality", "lead")
    assert legs.outcomes()["a"] == "upstream_reset"


def test_one_that_may_not_be_paid_has_failed() -> None:
    refused = Refuses(BudgetExceeded("no money for x"))
    label, _, _ = decided(majority(), {"x": refused, "y": Says("1"), "z": Says("1")})
    assert label == "b"


def failure(one: Any, scripts: Any) -> tuple[TooFewAnswers, FakeLegs]:
    async def main() -> tuple[TooFewAnswers, FakeLegs]:
        legs = FakeLegs(scripts)
        with pytest.raises(TooFewAnswers) as failed:
            await asked(one, legs)
        legs.check(given=0)
        return failed.value, legs

    return run(main())


def test_all_fail_and_the_error_says_how() -> None:
    rejected = UpstreamStatus("no such voice", reason=Reason.UPSTREAM_REJECTED, http_status=400)
    error, legs = failure(majority(), {"x": BROKEN, "y": Fails(rejected, 0.2), "z": BROKEN})
    assert error.public_message == (
        "panel 'three': 0 of 3 members answered, 1 needed"
        " (a (x): cut; b (y): no such voice; c (z): cut)"
    )
    assert error.status_code is Code.INVALID_ARGUMENT  # the client can mend it
    assert error.reason is Reason.UPSTREAM_REJECTED
    assert str(error) == error.public_message
    assert reason_of(legs) == ("too_few", "fail")


def test_too_few_is_told_as_soon_as_it_is_certain() -> None:
    scripts = {"x": BROKEN, "y": BROKEN, "z": Says("1", whole_s=9)}
    error, legs = failure(majority(min_answers=2), scripts)
    assert legs.clock.__name__ == "now_s"
    assert legs.leg("c").cancelled_s == 1000.1
    assert error.public_message == (
        "panel 'three': 0 of 3 members answered, 2 needed"
        " (a (x): cut; b (y): cut; c (z): no whole answer after 100 ms)"
    )


def test_an_empty_answer_is_none() -> None:
    error, legs = failure(majority(), {"x": Says(" "), "y": Says(""), "z": BROKEN})
    assert "a (x): an empty answer" in error.public_message
    assert legs.decision.legs[0]["is_empty"] is True


def test_too_few_may_be_enough() -> None:
    one = majority(min_answers=3, on_too_few="any")
    scripts = {"x": BROKEN, "y": Says("1", whole_s=2), "z": Says("2", whole_s=1)}
    label, legs, after_s = decided(one, scripts)
    assert (label, after_s) == ("c", 1.0)
    assert reason_of(legs) == ("too_few", "any")
    assert legs.outcomes()["b"] == "not_needed"


def test_any_is_still_a_failure_where_there_is_none() -> None:
    failure(majority(min_answers=2, on_too_few="any"), {"x": BROKEN, "y": BROKEN, "z": BROKEN})


def test_a_quorum_waits_for_the_answers_that_are_needed() -> None:
    one = majority(min_answers=3)
    _, _, after_s = decided(one, {"x": Says("1"), "y": Says("1"), "z": Says("2", whole_s=2)})
    assert after_s == 2.0


@pytest.mark.parametrize("choices", [2, 3])
def test_several_choices_are_refused_by_name(choices: int) -> None:
    async def main() -> None:
        legs = FakeLegs({name: Says("1") for name in "xyz"})
        with pytest.raises(UnsupportedFeature, match=f"n = {choices} is not supported by panel"):
            await asked(majority(), legs, sampling=Sampling(choices=choices))
        assert not legs.started

    run(main())


def test_one_choice_is_no_matter() -> None:
    same = {name: Says("1") for name in "xyz"}
    decided(majority(), same, sampling=Sampling(choices=1))


# --- best of --------------------------------------------------------------------------------


def best_of(on_tie: str = "soonest", **more: Any) -> Any:
    min_score = more.pop("min_score", None)
    own = {"on_tie": on_tie, "min_score": min_score, **more}
    return panel({"best_of": own})


def scores_of(legs: FakeLegs) -> dict[str, float]:
    return {row["label"]: row["score"] for row in legs.decision.legs if "score" in row}


def test_the_shortest_and_the_longest() -> None:
    scripts = {"x": Says("12"), "y": Says("1"), "z": Says("123", whole_s=1)}
    label, legs, after_s = decided(best_of(length="shortest"), scripts)
    assert (label, after_s) == ("b", 1.0)
    assert reason_of(legs) == ("scored", "score")
    assert scores_of(legs) == {"a": -2, "b": -1, "c": -3}
    assert decided(best_of(length="longest"), scripts)[0] == "c"


def test_the_surest_of_its_words() -> None:
    def sure(*logprobs: float) -> Says:
        rows = b",".join(b'{"token": "t", "logprob": %f}' % one for one in logprobs)
        return Says("word", logprobs=[b'{"content": [%s]}' % rows])

    scripts = {"x": sure(-1, -2), "y": sure(-0.1, -0.3), "z": Says("word")}
    label, legs, _ = decided(best_of(logprobs="mean"), scripts)
    assert label == "b"
    assert scores_of(legs) == {"a": -1.5, "b": -0.2}
    assert all(leg.request.sampling.logprobs for leg in legs.started)


@on_virtual_time
async def test_log_probabilities_are_shown_to_those_who_asked() -> None:
    said = Says("word", logprobs=[b'{"content": [{"logprob": -1}]}'])
    for wants in (None, False, True):
        legs = FakeLegs(dict.fromkeys("xyz", said))
        sampling = Sampling(logprobs=wants)
        answer = await asked(best_of(logprobs="mean"), legs, sampling=sampling)
        keys = [event.key for event in await events_of(answer) if isinstance(event, OpaqueDelta)]
        assert keys == (["logprobs"] if wants else [])


def test_causes_are_cut() -> None:
    long = Fails(StreamReset("x" * 5000))
    error, _ = failure(majority(), {"x": long, "y": long, "z": long})
    assert len(error.public_message) < 800


def test_the_first_that_cannot_be_beaten_is_taken_at_once() -> None:
    scripts = {
        "x": Says("no", whole_s=0.1),
        "y": Says('{"a": 1}', whole_s=0.2),
        "z": Says('{"a": 2}', whole_s=9),
    }
    schema = {"type": "object", "required": ["a"]}
    for way in ({"schema": schema}, {"pattern": '"a"'}, {"schema": "request"}):  # of no format
        label, legs, after_s = decided(best_of(**way), scripts)
        assert (label, after_s) == ("b", 0.2)
        assert legs.outcomes()["c"] == "not_needed"
    assert decided(best_of(on_tie="first", pattern='"a"'), scripts)[2] == 9


@pytest.mark.parametrize("schema", [{"type": "objekt"}, {"enum": ["x" * 70_000]}])
def test_a_schema_that_is_none_is_told_at_the_start(schema: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"policies\.panels\.three\.decide\.best_of\.schema"):
        best_of(schema=schema)


def test_none_is_good_enough() -> None:
    async def main() -> None:
        legs = FakeLegs({name: Says("no") for name in "xyz"})
        with pytest.raises(NoAgreement, match="none of 3 answers scores 1 or more"):
            await asked(best_of(pattern="yes", min_score=1), legs)
        legs.check(given=0)

    run(main())


def test_without_any_score_it_is_a_tie() -> None:
    scripts = {"x": Says("1", whole_s=0.2), "y": Says("2", whole_s=0.1), "z": BROKEN}
    label, legs, _ = decided(best_of(logprobs="mean"), scripts)
    assert label == "b"
    assert reason_of(legs) == ("scored", "no_score")


def test_a_judge_gives_marks_side_by_side() -> None:
    one = panel({"best_of": {"judge": {"model": "judge"}}})
    marks = [Says("4", whole_s=0.2), Says("9", whole_s=0.3), Says("six", whole_s=0.1), Says("8/10")]
    scripts = {"x": Says("1"), "y": Says("2"), "z": Says("3"), "judge": marks}
    label, legs, after_s = decided(one, scripts)
    assert (label, after_s) == ("b", 0.3)
    assert reason_of(legs) == ("scored", "score")
    assert scores_of(legs) == {"a": 4, "b": 9, "c": 8}
    assert [leg.label for leg in legs.started][3:] == [
        "judge.a",
        "judge.b",
        "judge.c",
        "judge.c.again",
    ]


def test_a_judge_that_fails_gives_no_mark() -> None:
    one = panel({"best_of": {"judge": {"model": "judge", "timeout_ms": 500}}})
    marks = [BROKEN, Says("2", whole_s=0.1), Says("10", whole_s=0.6)]
    scripts = {"x": Says("1"), "y": Says("2"), "z": Says("3"), "judge": marks}
    label, legs, after_s = decided(one, scripts)
    assert (label, after_s) == ("b", 0.5)
    assert legs.leg("judge.c").cancelled_s == 1000.5
    assert legs.outcomes()["judge.c"] == "late"


# --- judged ---------------------------------------------------------------------------------


def judged(compare: str = "listwise", **more: Any) -> Any:
    return panel({"judge": {"model": "judge", "compare": compare, **more}})


ANSWERS = {"x": Says("one"), "y": Says("two"), "z": Says("three")}


@pytest.mark.parametrize("compare", ["listwise", "pairwise"])
@pytest.mark.parametrize(("word", "label"), [("one", "a"), ("two", "b"), ("three", "c")])
def test_a_judge_with_a_mind_of_its_own(compare: str, word: str, label: str) -> None:
    def judge(asked_request: Any) -> Says:
        text = asked_request.messages[-1].parts[0].text
        return prefers(word)(asked_request) if word in text else Says("TIE", whole_s=0.1)

    found, legs, after_s = decided(judged(compare), {**ANSWERS, "judge": judge})
    assert (found, after_s) == (label, 0.1)
    assert reason_of(legs) == ("judged", "judge")
    assert len(legs.started) == 3 + (2 if compare == "listwise" else 6)


@pytest.mark.parametrize("compare", ["listwise", "pairwise"])
@pytest.mark.parametrize("reply", ["A", "B", "TIE"])
def test_a_judge_that_goes_by_position_decides_nothing(compare: str, reply: str) -> None:
    scripts = {"x": Says("one", whole_s=0.2), "y": Says("two"), "z": BROKEN, "judge": always(reply)}
    label, legs, _ = decided(judged(compare, on_tie="first"), scripts)
    assert label == "a"
    assert reason_of(legs) == ("judged", "judge_tie")
    assert decided(judged(compare, on_tie="soonest"), scripts)[0] == "b"
    with pytest.raises(NoAgreement):
        decided(judged(compare, on_tie="fail"), scripts)


def test_without_swapping_position_counts() -> None:
    label, legs, _ = decided(judged(swap=False), {**ANSWERS, "judge": always("B")})
    assert label == "b"
    assert len(legs.started) == 4
    assert legs.decision.legs[3]["verdict"] == "b"


def test_garbage_is_asked_about_once_more() -> None:
    words = [Says("It is hard to say"), Says("It is hard to say"), Says("A"), Says("C")]
    label, legs, _ = decided(judged(), {**ANSWERS, "judge": words})
    assert label == "a"
    assert [row["verdict"] for row in legs.decision.legs[3:]] == ["garbage", "garbage", "a", "a"]


def test_garbage_twice_decides_nothing() -> None:
    label, legs, _ = decided(judged(on_tie="first"), {**ANSWERS, "judge": always("Hm")})
    assert label == "a"
    assert reason_of(legs) == ("judged", "judge_failed")
    assert len(legs.started) == 3 + 4


def test_a_judge_that_fails_decides_nothing() -> None:
    for script in (BROKEN, Refuses(BudgetExceeded("no money")), Says("A", whole_s=99)):
        label, legs, _ = decided(judged(timeout_ms=300), {**ANSWERS, "judge": script})
        assert label == "a"
        assert reason_of(legs) == ("judged", "judge_failed")


def test_answers_that_are_alike_need_no_judge() -> None:
    same = {name: Says("same", whole_s=0.1) for name in "xyz"}
    label, legs, _ = decided(judged(), same)
    assert label == "a"
    assert reason_of(legs) == ("judged", "alike")
    label, legs, _ = decided(judged(), {"x": BROKEN, "y": BROKEN, "z": Says("1")})
    assert reason_of(legs) == ("judged", "only_answer")


def test_the_judge_is_asked_when_no_quorum_can_be_reached() -> None:
    one = majority(no_quorum="judge", judge={"model": "judge"})
    scripts = {"x": Says("1"), "y": Says("2"), "z": Says("3", whole_s=1), "judge": prefers("2\n")}
    label, legs, after_s = decided(one, scripts)
    assert (label, after_s) == ("b", 1.1)
    assert reason_of(legs) == ("judged", "judge")
    label, legs, _ = decided(one, {**scripts, "z": Says("2", whole_s=1)})
    assert reason_of(legs) == ("agreed", "quorum")


def test_a_judge_is_not_asked_about_one_answer() -> None:
    """No quorum can be, and the second answer is waited for: there is nothing to judge before."""
    one = majority(quorum=3, no_quorum="judge", judge={"model": "judge"})
    scripts = {"x": BROKEN, "y": Says("1"), "z": Says("2", whole_s=1), "judge": prefers("2\n")}
    label, legs, after_s = decided(one, scripts)
    assert (label, after_s) == ("c", 1.1)
    assert reason_of(legs) == ("judged", "judge")


def test_the_judge_may_break_ties_alone() -> None:
    one = majority(["x", "y", "z", "w", "v"], on_tie="judge", judge={"model": "judge"})
    scripts = {
        "x": Says("1"),
        "y": Says("2"),
        "z": Says("3"),
        "w": Says("3", whole_s=1),
        "v": Says("2", whole_s=1),
        "judge": prefers("3\n"),
    }
    label, legs, _ = decided(one, scripts)
    assert label == "c"
    assert reason_of(legs) == ("judged", "judge")
    label, legs, _ = decided(one, {**scripts, "judge": always("Hm")})
    assert label == "b"
    assert reason_of(legs) == ("plurality", "judge_failed")


@on_virtual_time
async def test_everything_of_the_answer_is_passed_on() -> None:
    logprobs = b'{"content": []}'
    said = Says("1", logprobs=[logprobs], calls=(("get", "{}"),))
    legs = FakeLegs(dict.fromkeys("xyz", said))
    answer = await legs.run(majority(), request(model="three"))
    events = await events_of(answer)
    assert OpaqueDelta("logprobs", logprobs) in events
    assert sum(type(event).__name__ == "ToolCallDone" for event in events) == 1


def test_models_and_legs_are_told_beforehand() -> None:
    one = majority(["x", "y", "x"], on_tie="judge", judge={"model": "judge"})
    assert one.models == ("x", "y", "judge")
    assert one.legs_at_once == 3
    assert judged("pairwise").legs_at_once == 6
    assert judged("listwise").legs_at_once == 3


def test_a_bug_in_a_leg_is_not_taken_for_a_failure() -> None:
    async def main() -> None:
        legs = FakeLegs({"x": Fails(ValueError("bug")), "y": Says("1"), "z": Says("1", whole_s=1)})  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="bug"):
            await asked(majority(), legs)
        legs.check(given=0)

    run(main())


def test_errors_are_of_the_tree() -> None:
    assert issubclass(TooFewAnswers, RelayError)
    assert issubclass(NoAgreement, RelayError)
