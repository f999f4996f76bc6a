"""Which requests are for the large model at once."""

from __future__ import annotations

from typing import Any

import pytest

from relay.config.cascades import CascadeRuleConfig
from relay.content import (
    ImagePart,
    Message,
    Policy,
    ReasoningOptions,
    ResponseFormat,
    Role,
    TextPart,
    Tool,
)
from relay.policy.cascade_rules import CascadeRule, first_match
from tests.policy.cascades import request


def matches(wanted: Any, **rule: Any) -> bool:
    return CascadeRule(CascadeRuleConfig.model_validate(rule)).matches(wanted)


IMAGE = (Message(Role.USER, (ImagePart(url="https://a/b.png"),)),)


@pytest.mark.parametrize(
    ("rule", "yes", "no"),
    [
        ({"tools": True}, {"tools": (Tool("t"),)}, {}),
        ({"tools": False}, {}, {"tools": (Tool("t"),)}),
        ({"images": True}, {"messages": IMAGE}, {}),
        ({"structured": True}, {"response_format": ResponseFormat("json_object")}, {}),
        (
            {"structured": False},
            {"response_format": ResponseFormat("text")},
            {"response_format": ResponseFormat("json_schema")},
        ),
        ({"reasoning": True}, {"reasoning": ReasoningOptions("high")}, {}),
        (
            {"reasoning": True},
            {"reasoning": ReasoningOptions("", 100)},
            {"reasoning": ReasoningOptions("none")},
        ),
        ({"tags": ["a", "b"]}, {"policy": Policy(tags=("b",))}, {"policy": Policy(tags=("c",))}),
        ({"prompt_tokens_over": 100}, {"text": "x" * 500}, {"text": "x" * 100}),
        ({"messages_over": 0}, {}, {"messages": ()}),
        ({"words": ["prove", "step by step"]}, {"text": "now PROVE it"}, {"text": "improve it"}),
        ({"words": ["c++"]}, {"text": "in C++, please"}, {"text": "c+ +"}),
    ],
)
def test_conditions(rule: dict[str, Any], yes: dict[str, Any], no: dict[str, Any]) -> None:
    assert matches(request(**yes), **rule)
    assert not matches(request(**no), **rule)


def test_all_of_a_rule_and_any_of_the_rules() -> None:
    both = {"tools": True, "words": ["prove"]}
    assert not matches(request("prove it"), **both)
    assert matches(request("prove it", tools=(Tool("t"),)), **both)
    rules = [
        CascadeRule(CascadeRuleConfig(name="a", tools=True)),
        CascadeRule(CascadeRuleConfig(name="b", words=("prove",))),
    ]
    found = first_match(rules, request("prove it"))
    assert found is not None
    assert found.name == "b"
    assert first_match(rules, request()) is None


def test_words_are_looked_for_in_the_last_question_alone() -> None:
    earlier = Message(Role.USER, (TextPart("prove it"),))
    last = Message(Role.USER, (TextPart("thanks"),))
    assert not matches(request(messages=(earlier, last)), words=["prove"])
