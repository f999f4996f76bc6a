"""Two tiers, one answer: each reason to escalate, and what is released when."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
import pytest

from relay.content import (
    EmbeddingOptions,
    FinishReason,
    ResponseFormat,
    Sampling,
    StreamEvent,
    Tool,
    ToolCallDone,
)
from relay.errors import (
    AllAttemptsFailed,
    BudgetExceeded,
    InvalidRequest,
    NoCandidates,
    PermissionDenied,
    RelayError,
    UnsupportedFeature,
)
from relay.policy.schema_check import breaks_schema
from tests.fakes.scripted_legs import (
    FAILED,
    Script,
    ScriptedLegs,
    Step,
    calls,
    logprobs,
    refusal,
    words,
)
from tests.fakes.virtual_time import on_virtual_time, since_start_s
from tests.policy.cascades import cascade, has_logprobs, read, request, text_of

LONG = (
    "The train ",
    "leaves at nine ",
    "from platform four ",
    "and gets there ",
    "before noon, ",
) * 4
LARGE = words("large", first_s=0.3)
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
FORMAT = ResponseFormat("json_schema", "x", schema_json=orjson.dumps(SCHEMA))
TOOL = Tool("weather", parameters_json=orjson.dumps(SCHEMA))


@pytest.fixture(autouse=True)
def _known_schema() -> None:
    """A new one is read in a thread, for which no virtual clock waits."""
    breaks_schema("{}", orjson.dumps(SCHEMA))


def legs_of(steps: Sequence[Step], **more: list[Script]) -> ScriptedLegs:
    scripts = {"small": [Script(steps)], "large": [Script(LARGE)]}
    return ScriptedLegs({**scripts, **more})


async def outcome(
    legs: ScriptedLegs, wanted: Any = None, **config: Any
) -> tuple[str, str, str, list[StreamEvent], float]:
    """What a cascade makes of a request: outcome, reason, text, events, and when it releases."""
    answer = await cascade(**config).compose(wanted or request(), legs)
    released_s = since_start_s()
    events = await read(answer)
    legs.check()
    decision = legs.decision
    assert (decision.composition, decision.name) == ("cascade", "smart")
    return decision.outcome, decision.reason, text_of(events), events, released_s


@on_virtual_time
async def test_a_good_answer_is_released_after_its_first_tokens_and_alone() -> None:
    legs = legs_of(words(*LONG, first_s=0.2, gap_s=0.1))
    found = await outcome(legs)
    assert found[:3] == ("small", "accepted", "".join(LONG))
    assert found[4] == pytest.approx(0.6)  # 16 tokens of 4 bytes: its fifth piece
    assert [leg.label for leg in legs.started] == ["small"]


@on_virtual_time
async def test_a_short_answer_is_released_at_its_end() -> None:
    assert (await outcome(legs_of(words("Yes."))))[:3] == ("small", "accepted", "Yes.")


@on_virtual_time
async def test_all_of_it_may_be_held() -> None:
    legs = legs_of(words(*LONG, first_s=0.2, gap_s=0.1))
    found = await outcome(legs, commit_after_tokens="all")
    assert found[0] == "small"
    assert found[4] == pytest.approx(0.2 + 0.1 * (len(LONG) - 1))


@pytest.mark.parametrize(
    ("small", "reason"),
    [
        (words("I'm sorry, but I can't help", " with that."), "refusal"),
        (words("Das tut mir leid, ", "dabei kann ich nicht helfen."), "refusal"),
        (refusal(), "refusal"),
        (words("Fine", finish=FinishReason.CONTENT_FILTER), "refusal"),
        (words(), "empty"),
        (words("  \n"), "empty"),
    ],
)
def test_answers_that_are_none(small: Sequence[Step], reason: str) -> None:
    @on_virtual_time
    async def escalates() -> None:
        legs = legs_of(small)
        assert (await outcome(legs))[:3] == ("escalated", reason, "large")
        assert legs.of("small")[0].outcome == reason

    escalates()


@on_virtual_time
async def test_an_apology_waits_for_its_reason() -> None:
    opening = (
        "I am so sorry to hear of the long day that you have had at the train, ",
        "and of ",
    )
    legs = legs_of(words(*opening, *LONG, first_s=0.1, gap_s=0.1))
    found = await outcome(legs)
    assert found[0] == "small"
    assert found[4] > 0.2  # 18 tokens were there at 0.1


@on_virtual_time
async def test_refusals_can_be_let_through() -> None:
    legs = legs_of(words("I can't help with that."))
    assert (await outcome(legs, escalate={"refusal": False}))[0] == "small"


@on_virtual_time
async def test_an_operators_phrase_is_a_refusal() -> None:
    legs = legs_of(words("Please call our hotline."))
    found = await outcome(legs, escalate={"phrases": ["CALL our  hotline"]})
    assert found[:2] == ("escalated", "refusal")


@on_virtual_time
async def test_a_cut_answer_is_held_only_where_that_matters() -> None:
    cut = words(*LONG, gap_s=0.1, finish=FinishReason.LENGTH)
    assert (await outcome(legs_of(cut)))[0] == "small"
    assert (await outcome(legs_of(cut), escalate={"length": True}))[:2] == ("escalated", "length")


@pytest.mark.parametrize(
    ("text", "outcome_", "reason"),
    [
        ('{"a": 1}', "small", "accepted"),
        ('{"a": "x"}', "escalated", "schema"),
        ('```json\n{"a": 1}\n```', "escalated", "schema"),
        ('{"a": 1', "escalated", "schema"),
    ],
)
def test_json_that_was_asked_for(text: str, outcome_: str, reason: str) -> None:
    @on_virtual_time
    async def is_judged() -> None:
        legs = legs_of(words(text, " " * 100, gap_s=0.5))
        found = await outcome(legs, request(response_format=FORMAT))
        assert found[:2] == (outcome_, reason)
        assert found[4] >= 0.6  # at its end

    is_judged()


@on_virtual_time
async def test_json_objects_are_objects() -> None:
    wanted = request(response_format=ResponseFormat("json_object"))
    assert (await outcome(legs_of(words("[1]")), wanted))[1] == "schema"
    assert (await outcome(legs_of(words("{}")), wanted))[1] == "accepted"
    assert (await outcome(legs_of(words("[1]")), wanted, escalate={"schema": False}))[0] == "small"


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (calls("weather", '{"a": 1}'), "accepted"),
        (calls("weather", '{"a": "x"}'), "tool_arguments"),
        (calls("weather", '{"a": 1', is_partial=True), "tool_arguments"),
        (calls("weather", "[]"), "tool_arguments"),
        (calls("wether", '{"a": 1}'), "tool_arguments"),
        (calls("weather", ""), "tool_arguments"),
    ],
)
def test_tool_calls(script: Sequence[Step], reason: str) -> None:
    @on_virtual_time
    async def is_judged() -> None:
        found = await outcome(legs_of(script), request(tools=(TOOL,)))
        assert found[1] == reason
        assert any(isinstance(e, ToolCallDone) for e in found[3]) is (reason == "accepted")

    is_judged()


@on_virtual_time
async def test_text_beside_tools_is_released_early() -> None:
    legs = legs_of(words(*LONG, first_s=0.2, gap_s=0.1))
    found = await outcome(legs, request(tools=(TOOL,)))
    assert found[0] == "small"
    assert found[4] == pytest.approx(0.6)


# --- log probabilities ----------------------------------------------------------------------

LOGPROBS = {"logprobs": {"tokens": 4, "mean_below": -0.5, "min_below": -3.0}}


@on_virtual_time
async def test_sure_words_are_released_after_so_many_tokens_without_their_figures() -> None:
    legs = legs_of(words(*LONG, first_s=0.1, gap_s=0.1, logprob=-0.1))
    found = await outcome(legs, escalate=LOGPROBS, commit_after_tokens=1)
    assert found[:3] == ("small", "accepted", "".join(LONG))
    assert found[4] == pytest.approx(0.4)
    assert not has_logprobs(found[3])
    assert legs.of("small")[0].request.sampling.logprobs is True


@on_virtual_time
async def test_a_client_that_asks_for_the_figures_gets_them() -> None:
    legs = legs_of(words(*LONG, logprob=-0.1))
    wanted = request(sampling=Sampling(logprobs=True, top_logprobs=2))
    found = await outcome(legs, wanted, escalate=LOGPROBS)
    assert has_logprobs(found[3])
    assert legs.of("small")[0].request.sampling.top_logprobs == 2


@pytest.mark.parametrize("values", [(-0.1, -0.2, -1.5, -0.9), (-0.01, -0.01, -3.5, -0.01)])
def test_unsure_words_are_not(values: tuple[float, ...]) -> None:
    @on_virtual_time
    async def escalates() -> None:
        legs = legs_of(words("a", "b", "c", "d", gap_s=0.1, logprob=values))
        found = await outcome(legs, escalate=LOGPROBS)
        assert found[:3] == ("escalated", "logprobs", "large")
        assert legs.of("large")[0].request.sampling.logprobs is None

    escalates()


@on_virtual_time
async def test_one_word_far_below_the_limit_is_enough_at_once() -> None:
    legs = legs_of(words("a", "b", *LONG, gap_s=0.1, logprob=[-0.1, -5.0, *[-0.1] * len(LONG)]))
    assert (await outcome(legs, escalate=LOGPROBS))[1] == "logprobs"
    assert legs.of("large")[0].started_s - legs.received_s == pytest.approx(0.2)


@on_virtual_time
async def test_all_tokens_may_count() -> None:
    escalate = {"logprobs": {"tokens": "all", "mean_below": -0.5}}
    late = words(*LONG, gap_s=0.1, logprob=[*[-0.1] * 10, *[-2.0] * 10])
    found = await outcome(legs_of(late), escalate=escalate)
    assert found[:2] == ("escalated", "logprobs")


@pytest.mark.parametrize("who", ["small", "large"])
def test_a_provider_that_gives_none(who: str) -> None:
    @on_virtual_time
    async def falls_back() -> None:
        escalate = {"logprobs": {**LOGPROBS["logprobs"], "on_missing": who}}
        found = await outcome(legs_of(words(*LONG, gap_s=0.1)), escalate=escalate)
        if who == "small":
            assert found[:2] == ("small", "accepted")
            assert found[4] < 1.0
        else:
            assert found[:2] == ("escalated", "logprobs_missing")

    falls_back()


@pytest.mark.parametrize("who", ["small", "large"])
def test_a_wire_that_cannot_ask_for_them(who: str) -> None:
    @on_virtual_time
    async def falls_back() -> None:
        error = AllAttemptsFailed([UnsupportedFeature("logprobs", "this wire")])
        legs = legs_of([], small=[Script(error=error), Script(words("plain"))])
        escalate = {"logprobs": {**LOGPROBS["logprobs"], "on_missing": who}}
        found = await outcome(legs, escalate=escalate)
        expected = ("small", "accepted") if who == "small" else ("escalated", "logprobs_missing")
        assert found[:2] == expected
        assert len(legs.of("small")) == (2 if who == "small" else 1)

    falls_back()


@on_virtual_time
async def test_tool_calls_have_none() -> None:
    legs = legs_of(calls("weather", '{"a": 1}'))
    assert (await outcome(legs, request(tools=(TOOL,)), escalate=LOGPROBS))[0] == "small"


# --- rules, classifier, self-check ----------------------------------------------------------


@on_virtual_time
async def test_a_rule_asks_the_large_model_alone() -> None:
    legs = legs_of(words("small"))
    found = await outcome(
        legs, request("please PROVE it"), escalate={"rules": [{"words": ["prove"]}]}
    )
    assert found[:3] == ("escalated", "rule", "large")
    assert [leg.label for leg in legs.started] == ["large"]


def classified(reply: list[Step], **more: Any) -> tuple[ScriptedLegs, dict[str, Any]]:
    legs = legs_of(words("small", first_s=0.1), classifier=[Script(reply)])
    return legs, {"escalate": {"classifier": {"model": "c", **more}}}


@pytest.mark.parametrize(
    ("reply", "who"),
    [
        ("large", "large"),
        (" Large.", "large"),
        ("SMALL", "small"),
        ("perhaps", "small"),
        ("", "small"),
    ],
)
@pytest.mark.parametrize("beside", [True, False])
def test_a_classifier_chooses(reply: str, who: str, beside: bool) -> None:
    @on_virtual_time
    async def chooses() -> None:
        legs, config = classified(words(reply, first_s=0.2), beside_small=beside)
        found = await outcome(legs, **config)
        assert found[2] == who
        assert found[1] == ("classifier" if who == "large" else "accepted")
        labels = [leg.label for leg in legs.started]
        assert ("small" in labels) is (beside or who == "small")
        # Beside it the small model is there at 0.1, and waits for the classifier.
        expected = {"small": 0.2 if beside else 0.3, "large": 0.5}
        assert found[4] == pytest.approx(expected[who])

    chooses()


@pytest.mark.parametrize("who", ["small", "large"])
@pytest.mark.parametrize("how", ["late", "broken", "refused"])
def test_a_classifier_that_fails(who: str, how: str) -> None:
    @on_virtual_time
    async def falls_back() -> None:
        legs, config = classified(words("large", first_s=9.0), on_failure=who, timeout_ms=400)
        if how == "broken":
            legs.scripts["classifier"] = [Script(error=FAILED)]
        elif how == "refused":
            legs.scripts["classifier"] = [Script(start_error=NoCandidates("none"))]
        found = await outcome(legs, **config)
        assert found[2] == who
        assert found[4] <= 0.7 + 1e-9

    falls_back()


def checked(*replies: Script, **more: Any) -> tuple[ScriptedLegs, dict[str, Any]]:
    legs = legs_of(words(*LONG, first_s=0.1), self_check=[*replies])
    return legs, {"escalate": {"self_check": {**more}}}


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (words("yes"), "accepted"),
        (words("No."), "self_check"),
        (words("maybe"), "self_check_failed"),
        ([(0.1, [*words("Yes")[0][1], logprobs("Yes", -0.9, Yes=-0.9, No=-0.5)])], "self_check"),
        ([(0.1, [*words("No")[0][1], logprobs("No", -0.9, No=-0.9, yes=-0.5)])], "accepted"),
    ],
)
def test_a_self_check(reply: list[Step], expected: str) -> None:
    @on_virtual_time
    async def is_asked() -> None:
        legs, config = checked(Script(reply))
        found = await outcome(legs, **config)
        assert found[1] == expected
        question = legs.of("self_check")[0].request
        assert legs.of("self_check")[0].model == "s"
        assert "".join(LONG) in question.messages[-1].parts[0].text  # type: ignore[union-attr]

    is_asked()


@pytest.mark.parametrize("who", ["small", "large"])
def test_a_self_check_that_fails(who: str) -> None:
    @on_virtual_time
    async def falls_back() -> None:
        for script in (Script(error=FAILED), Script(never=True)):
            legs, config = checked(script, on_failure=who, timeout_ms=300)
            found = await outcome(legs, **config)
            assert found[0] == ("small" if who == "small" else "escalated")
            assert found[1] == ("accepted" if who == "small" else "self_check_failed")

    falls_back()


@on_virtual_time
async def test_a_self_check_without_log_probabilities_is_asked_again_for_its_text() -> None:
    refused = Script(error=UnsupportedFeature("logprobs", "this wire"))
    legs, config = checked(refused, Script(words("yes")), model="other")
    assert (await outcome(legs, **config))[0] == "small"
    assert [leg.model for leg in legs.of("self_check")] == ["other", "other"]


@on_virtual_time
async def test_too_long_an_answer_is_not_checked() -> None:
    legs, config = checked(Script(words("yes")), max_chars=100)
    assert (await outcome(legs, **config))[1] == "self_check_failed"
    assert legs.of("self_check") == []


# --- failures -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "small",
    [
        Script(error=FAILED),
        Script(words("Half of", finish=None), error=FAILED),
        Script(start_error=NoCandidates("none")),
    ],
)
def test_a_small_model_that_fails(small: Script) -> None:
    @on_virtual_time
    async def escalates() -> None:
        legs = legs_of([], small=[small])
        assert (await outcome(legs))[:3] == ("escalated", "small_failed", "large")

    escalates()


@pytest.mark.parametrize(
    "error", [PermissionDenied("no"), BudgetExceeded("no"), InvalidRequest("no")]
)
def test_what_the_large_model_would_meet_too_is_told(error: RelayError) -> None:
    @on_virtual_time
    async def is_told() -> None:
        for script in (Script(error=error), Script(start_error=error)):
            legs = legs_of([], small=[script])
            with pytest.raises(type(error)):
                await cascade().compose(request(), legs)
            legs.check(given=0)
            assert legs.of("large") == []

    is_told()


@on_virtual_time
async def test_where_the_large_model_fails_the_small_ones_answer_is_given_after_all() -> None:
    legs = legs_of(
        words(*LONG, gap_s=0.1, logprob=-2.0), large=[Script(error=FAILED, error_after_s=0.2)]
    )
    found = await outcome(legs, escalate=LOGPROBS)
    assert found[:3] == ("small_after_failure", "logprobs", "".join(LONG))
    assert not has_logprobs(found[3])


@pytest.mark.parametrize(
    "small",
    [
        words("I can't help with that."),
        words(*LONG, logprob=-2.0, finish=FinishReason.LENGTH),
        words(),
        [(0.1, [])],
    ],
)
@pytest.mark.parametrize("rule", ["small", "fail"])
def test_unless_it_is_none(small: list[Step], rule: str) -> None:
    @on_virtual_time
    async def fails() -> None:
        legs = legs_of(small, large=[Script(error=FAILED)])
        with pytest.raises(type(FAILED)):
            await cascade(escalate=LOGPROBS, on_large_failure=rule).compose(request(), legs)
        legs.check(given=0)

    fails()


@on_virtual_time
async def test_or_that_is_switched_off() -> None:
    legs = legs_of(words(*LONG, gap_s=0.1, logprob=-2.0), large=[Script(error=FAILED)])
    with pytest.raises(type(FAILED)):
        await cascade(escalate=LOGPROBS, on_large_failure="fail").compose(request(), legs)
    assert legs.of("small")[0].outcome == "logprobs"
    legs.check(given=0)


@on_virtual_time
async def test_a_large_model_that_was_asked_at_once_and_fails_leaves_it_to_the_small_one() -> None:
    legs = legs_of(words("small"), large=[Script(error=FAILED)])
    found = await outcome(legs, request(tools=(TOOL,)), escalate={"rules": [{"tools": True}]})
    assert found[:3] == ("small_after_failure", "rule", "small")


@on_virtual_time
async def test_vectors_are_refused() -> None:
    wanted = request(embedding=EmbeddingOptions(("a",)))
    with pytest.raises(InvalidRequest, match="no vectors"):
        await cascade().compose(wanted, legs_of([]))
