"""Each condition holds for what it says and for nothing else; each action does what it says."""

from __future__ import annotations

from typing import Any

import pytest

from relay.content import (
    AudioPart,
    Budgets,
    EmbeddingOptions,
    FilePart,
    GenerateRequest,
    HedgeWish,
    ImagePart,
    OpaquePart,
    Policy,
    ReasoningOptions,
    ResponseFormat,
    Role,
    Sampling,
    TextPart,
    Tool,
)
from relay.errors import Code
from relay.policy.rules import RefusedByRule
from tests.fakes.surroundings import NOON_S, FakeSurroundings
from tests.policy.rule_world import chooser, request, said

AROUND = FakeSurroundings()
IMAGE, SOUND, PAPER = ImagePart(url="https://x/1"), AudioPart("AA==", "wav"), FilePart("f1")
SCHEMA = ResponseFormat("json_schema", schema_json=b"{}")
OBJECT = ResponseFormat("json_object")


def with_policy(**fields: Any) -> GenerateRequest:
    return request(policy=Policy(**fields))


def matches(
    when: dict[str, Any], wanted: GenerateRequest, around: FakeSurroundings = AROUND
) -> bool:
    """Whether a rule with these conditions is the one that decides."""
    rule = {"name": "it", "when": when, "set": {"max_output_tokens": 1}}
    found = chooser(rule).choose(wanted, around)
    assert found.is_changed is (found.rule == "it")
    return found.rule == "it"


TOOLS = request(tools=(Tool("look_up"), Tool("book")))
LONG = request(messages=(said("a"), said("b", Role.ASSISTANT), said("c")))
METADATA = request(extra={"metadata": {"room": "blue-7", "n": 3}})


@pytest.mark.parametrize(
    ("when", "yes", "no"),
    [
        ({"model": "fast"}, request(), request(model="other")),
        ({"model": ["listed", "gpt-*"]}, request(model="gpt-4o"), request(model="my-gpt-4o")),
        ({"model": "*-mini"}, request(model="gpt-4o-mini"), request(model="p/gpt-4o-mini")),
        ({"model": "p/*"}, request(model="p/any/thing"), request(model="q/any")),
        ({"tags": ["x", "y"]}, with_policy(tags=("a", "y")), with_policy(tags=("a",))),
        ({"tools": True}, TOOLS, request()),
        ({"tools": False}, request(), TOOLS),
        ({"tools": "book"}, TOOLS, request(tools=(Tool("books"),))),
        ({"tools": ["nothing", "look_*"]}, TOOLS, request()),
        ({"images": True}, request(TextPart("see"), IMAGE), request(SOUND, PAPER)),
        ({"images": False}, request(SOUND), request(IMAGE)),
        ({"audio": True}, request(SOUND), request(IMAGE)),
        ({"files": True}, request(PAPER), request(OpaquePart("w", {"type": "file"}))),
        ({"json": True}, request(response_format=OBJECT), request()),
        ({"json": False}, request(response_format=ResponseFormat("text")), TOOLS_JSON := request(
            response_format=SCHEMA
        )),
        ({"json": "schema"}, TOOLS_JSON, request(response_format=OBJECT)),
        ({"json": "object"}, request(response_format=OBJECT), TOOLS_JSON),
        (
            {"reasoning": True},
            request(reasoning=ReasoningOptions(effort="high")),
            request(reasoning=ReasoningOptions(effort="minimal")),
        ),
        (
            {"reasoning": True},
            request(reasoning=ReasoningOptions(budget_tokens=100)),
            request(reasoning=ReasoningOptions(budget_tokens=0)),
        ),
        (
            {"effort": ["high", "max"]},
            request(reasoning=ReasoningOptions(effort="max")),
            request(reasoning=ReasoningOptions(effort="low")),
        ),
        ({"messages": {"min": 2}}, LONG, request()),
        ({"messages": {"max": 2}}, request(), LONG),
        ({"messages": {"min": 3, "max": 3}}, LONG, request(messages=LONG.messages * 2)),
        ({"labels": {"room": "blue-*"}}, METADATA, request()),
        ({"labels": {"room": "*"}}, METADATA, request(extra={"metadata": {"rooms": "blue-7"}})),
        ({"labels": {"n": "3"}}, with_policy(labels={"n": "3"}), METADATA),
        (
            {"labels": {"a": "1", "b": ["2", "3"]}},
            with_policy(labels={"a": "1", "b": "3"}),
            with_policy(labels={"a": "1"}),
        ),
        ({"user": "u-*"}, request(user="u-1"), request(user="v-1")),
        ({"user": "*"}, request(user="u-1"), request()),
        ({"session": True}, with_policy(session_id="s"), request()),
        ({"session": False}, request(), with_policy(session_id="s")),
        ({"session": "call-*"}, with_policy(session_id="call-1"), with_policy(session_id="s")),
        ({"tenant": "t1"}, with_policy(tenant="t1"), with_policy(tenant="t10")),
        ({"key": ["k1", "k2"]}, with_policy(key_id="k2"), with_policy(key_id="")),
        ({"language": "de"}, request(TextPart("Guten Tag, ich habe eine Frage")), request()),
        (
            {"language": ["fr", "es"]},
            request(messages=(said("Where is it?"), said("Hola, ¿dónde está?"))),
            request(messages=(said("Hola, ¿dónde está?"), said("Where is it?"))),
        ),
        (
            {"language": ["da", "nb"]},
            request(TextPart("jeg vil ikke")),  # Danish as well as Norwegian
            request(TextPart("yes please, I will")),
        ),
        ({"language": ["da", "nb"]}, request(TextPart("jeg vil ikke ha meget")), request()),
        ({"language": "da"}, request(TextPart("hvad er det")), request(TextPart("jeg vil ikke"))),
        (
            {"embeddings": True},
            request(messages=(), embedding=EmbeddingOptions(("a",))),
            request(),
        ),
    ],
)  # fmt: skip
def test_a_condition(when: dict[str, Any], yes: GenerateRequest, no: GenerateRequest) -> None:
    assert matches(when, yes)
    assert not matches(when, no)


@pytest.mark.parametrize(
    ("when", "yes", "no"),
    [
        ({"surface": ["converse", "generate"]}, {"surface": "generate"}, {"surface": "messages"}),
        ({"prompt_tokens": {"min": 10, "max": 20}}, {"prompt_tokens": 10}, {"prompt_tokens": 9}),
        ({"prompt_tokens": {"max": 20}}, {"prompt_tokens": 20}, {"prompt_tokens": 21}),
        ({"time": {"days": "mon-fri"}}, {}, {"now_s": NOON_S + 86_400}),
        ({"time": {"hours": "12:00-13:00"}}, {}, {"now_s": NOON_S + 3_600}),
        ({"time": {"hours": "13:00-13:01", "zone": "Europe/Berlin"}}, {}, {"now_s": NOON_S - 1}),
        (
            {"latency": {"of": "fast", "above_ms": 500}},
            {"p95_ms": {"fast": 501}},
            {"p50_ms": {"fast": 900}, "p95_ms": {"fast": 500}},
        ),
        (
            {"latency": {"of": "fast", "below_ms": 500, "quantile": "p50"}},
            {"p50_ms": {"fast": 499}},
            {"p50_ms": {}},
        ),
    ],
)
def test_a_condition_on_what_is_around(
    when: dict[str, Any], yes: dict[str, Any], no: dict[str, Any]
) -> None:
    assert matches(when, request(), FakeSurroundings(**yes))
    assert not matches(when, request(), FakeSurroundings(**no))


def test_all_conditions_must_hold() -> None:
    when = {"model": "fast", "tools": True, "tenant": "t", "images": False}
    whole = request(tools=(Tool("t"),), policy=Policy(tenant="t"))
    assert matches(when, whole)
    assert not matches(when, request(tools=(Tool("t"),)))
    assert not matches(when, request(policy=Policy(tenant="t")))
    assert not matches(when, request(IMAGE, tools=(Tool("t"),), policy=Policy(tenant="t")))


def test_unless_takes_back_what_when_gives() -> None:
    rule = {"when": {"tools": True}, "unless": {"tenant": "t", "session": True}, "use": "accurate"}
    chosen = chooser(rule)
    for policy, model in (
        (Policy(), "accurate"),
        (Policy(tenant="t"), "accurate"),
        (Policy(tenant="t", session_id="s"), "fast"),
    ):
        wanted = request(tools=(Tool("t"),), policy=policy)
        assert chosen.choose(wanted, AROUND).request.model == model


# --- actions --------------------------------------------------------------------------------


def test_the_first_rule_that_matches_decides_and_is_named() -> None:
    found = chooser(
        {"when": {"tools": True}, "use": "other"},
        {"name": "mine", "when": {"model": "fast"}, "use": "accurate"},
        {"use": "other"},
    ).choose(request(), AROUND)
    assert (found.rule, found.request.model, found.request.asked_as) == ("mine", "accurate", "fast")
    assert found.is_changed


def test_a_rule_without_a_name_is_called_by_its_place() -> None:
    found = chooser({"when": {"tools": True}, "use": "other"}, {"use": "accurate"})
    assert found.choose(request(), AROUND).rule == "rule-2"


def test_what_has_its_name_already_is_the_same_request() -> None:
    wanted = request()
    found = chooser({"name": "stays", "use": "fast"}, {"use": "other"}).choose(wanted, AROUND)
    assert found.request is wanted
    assert (found.rule, found.is_changed) == ("stays", False)


def test_without_a_match_nothing_is_changed_and_nothing_asked() -> None:
    around, wanted = FakeSurroundings(), request()
    found = chooser({"when": {"tools": True}, "use": "other"}).choose(wanted, around)
    assert found.request is wanted
    assert found == (wanted, "", False)
    assert around.asked == []


def test_what_the_relay_itself_asks_is_left_alone() -> None:
    wanted = request(model="p/a", asked_as="fast")
    assert chooser({"use": "other"}).choose(wanted, AROUND).request is wanted


def test_a_refusal_has_the_operators_words() -> None:
    rule = {"name": "no-tools", "when": {"tools": True}, "refuse": "no tools at night"}
    with pytest.raises(RefusedByRule, match=r"^no tools at night$") as raised:
        chooser(rule).choose(TOOLS, AROUND)
    assert raised.value.code is Code.PERMISSION_DENIED
    assert raised.value.rule == "no-tools"
    assert "no-tools" not in raised.value.public_message


VECTORS = request(messages=(), embedding=EmbeddingOptions(("a",)))


def test_vectors_are_not_given_a_name_by_rules_for_answers() -> None:
    assert chooser({"use": "accurate"}).choose(VECTORS, AROUND).rule == ""
    assert chooser({"pick": {"from": ["other"]}}).choose(VECTORS, AROUND).rule == ""
    for_both = {"when": {"embeddings": True}, "use": "other"}
    assert chooser(for_both).choose(VECTORS, AROUND).request.model == "other"
    with pytest.raises(RefusedByRule):
        chooser({"refuse": "nothing for anybody"}).choose(VECTORS, AROUND)


def changed(overrides: dict[str, Any], wanted: GenerateRequest) -> GenerateRequest:
    return chooser({"set": overrides}).choose(wanted, AROUND).request


def test_limits_are_the_lower_of_two() -> None:
    budgets = Budgets(first_token_s=1.0, total_s=9.0)
    wanted = request(policy=Policy(budgets=budgets), sampling=Sampling(max_output_tokens=100))
    limits = {"first_token_ms": 1500, "total_ms": 5000, "inter_token_ms": 70}
    found = changed({**limits, "max_output_tokens": 500}, wanted)
    assert found.policy.budgets == Budgets(first_token_s=1.0, total_s=5.0, inter_token_s=0.07)
    assert found.sampling is wanted.sampling
    assert changed({"max_output_tokens": 50}, wanted).sampling.max_output_tokens == 50
    assert changed({"max_output_tokens": 50}, request()).sampling.max_output_tokens == 50


def test_other_values_are_the_rules_own() -> None:
    wanted = request(
        policy=Policy(hedge=HedgeWish(delay_s=1), tags=("own", "both")), service_tier="flex"
    )
    found = changed(
        {
            "hedge": "race",
            "prompt_cache": False,  # as YAML reads `off`
            "effort": "low",
            "service_tier": "priority",
            "tags": ["both", "new"],
        },
        wanted,
    )
    assert found.model == "fast"
    assert found.asked_as == ""
    assert found.policy.hedge == HedgeWish(mode="race")
    assert found.policy.prompt_cache == "off"
    assert found.reasoning.effort == "low"
    assert found.service_tier == "priority"
    assert found.policy.tags == ("own", "both", "new")
    assert found.policy.tags_of_rules == {"new"}


def test_a_request_that_is_as_the_rule_wants_it_stays_the_same() -> None:
    wanted = request(sampling=Sampling(max_output_tokens=10))
    found = chooser({"set": {"max_output_tokens": 10}}).choose(wanted, AROUND)
    assert found.request is wanted
    assert not found.is_changed


# --- facts are found once -------------------------------------------------------------------


def test_a_fact_is_looked_for_when_it_is_needed_and_once(monkeypatch: pytest.MonkeyPatch) -> None:
    texts: list[str] = []

    def spy(text: str) -> tuple[str, ...]:
        texts.append(text)
        return ("xx",)

    monkeypatch.setattr("relay.policy.facts.languages_of", spy)
    rules = [{"when": {"language": code, "model": "fast"}, "use": "other"} for code in ("de", "fr")]
    chosen = chooser(*rules)
    chosen.choose(request(), AROUND)
    assert texts == ["Hello"]
    chosen.choose(request(model="accurate"), AROUND)
    assert texts == ["Hello"]
