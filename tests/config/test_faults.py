"""Mistakes that people make who write policies from the pages: what they are told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from relay.config import Config, ConfigError, parse
from relay.config_warnings import warnings

RULE = {"name": "a", "when": {"model": "auto"}}
ARMS = [{"name": "a", "use": "fast"}, {"name": "b", "use": "accurate"}]


def read(document: Mapping[str, Any]) -> Config:
    model = {"provider": "lab", "model": "m"}
    return parse(
        {
            "providers": {"lab": {"wire": "openai_chat", "base_url": "https://lab.test/v1"}},
            "models": {
                "fast": {"candidates": [model], "tags": ["cheap"]},
                "accurate": {"candidates": [model]},
            },
            **document,
        },
        {},
    )


def rule(**more: Any) -> dict[str, Any]:
    return {"policies": {"rules": [{**RULE, **more}]}}


def experiment(**more: Any) -> dict[str, Any]:
    return {"policies": {"experiments": {"ab": {"model": "fast", "arms": ARMS, **more}}}}


def rail(**row: Any) -> dict[str, Any]:
    return {"guardrails": {"rails": {"cards": {"scan": {"kind": "pii"}, **row}}}}


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (
            rule(to="fast"),
            "policies.rules[0].to: unknown key; known are name, when, unless, use, pick, ref",
        ),
        (
            rule(set={"max_tokens": 5}),
            "policies.rules[0].set.max_tokens: unknown key; did you mean 'max_output_tokens'?",
        ),
        (rule(set={"efort": "low"}), "policies.rules[0].set.efort: unknown key; did you mean 'eff"),
        (rule(use="tag:cheap"), "a tag is no model; write pick: {tag: cheap, by: order}"),
        ({"cache": {"ttl_s": 60}}, "cache.ttl_s: unknown key; known are exact, semantic"),
        ({"guardrails": {"cards": {}}}, "guardrails.cards: unknown key; known are rails, "),
        (
            rail(action="redakt"),
            "guardrails.rails.cards.action: 'block', 'redact', 'mask' or 'flag' is expected;"
            " did you mean 'redact'?",
        ),
        (rail(sides=["in"]), "guardrails.rails.cards.sides[0]: 'input' or 'output' is expected"),
        (
            {"guardrails": {"rails": {"my cards": {"scan": {"kind": "pii"}}}}},
            "guardrails.rails.my cards: a name begins with a letter or digit",
        ),
        (experiment(share=5), "policies.experiments.ab.share: at most 1 is expected"),
        (experiment(share=-1), "policies.experiments.ab.share: at least 0 is expected"),
        (experiment(arms=ARMS[:1]), "policies.experiments.ab.arms: at least 2 are expected, not 1"),
        (experiment(starts_at="tomorrow"), "starts_at: a moment such as 2027-01-31T08:00:00+01:00"),
        (experiment(starts_at="2027-01-01"), " is expected, with its time zone"),
        (
            {"policies": {"panels": {"p": {"members": ["fast"]}}}},
            "policies.panels.p.members: unknown key; known are models, decide, ",
        ),
    ],
)
def test_what_is_wrong_is_told_in_words_of_the_file(
    document: Mapping[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError) as raised:
        read(document)
    assert message in str(raised.value)
    assert "Input should" not in str(raised.value)


def test_an_arm_of_nobody() -> None:
    arms = [{**ARMS[0], "weight": 0}, ARMS[1]]
    assert (
        "policies.experiments.ab.arms[0].weight is 0: the control, with which the others are"
        " compared, 'a' gets nobody"
    ) in warnings(read(experiment(arms=arms)))
    assert not any("weight" in one for one in warnings(read(experiment())))


def test_a_shadow_that_ends_with_its_first_copy() -> None:
    def told(**more: Any) -> list[str]:
        shadow = {"model": "fast", "use": "accurate", **more}
        return [
            one
            for one in warnings(read({"policies": {"shadows": {"trial": shadow}}}))
            if "shadows" in one
        ]

    (found,) = told()
    assert found.startswith("policies.shadows.trial: no price is known of lab/m, so copying ends")
    assert told(max_cost_micro_per_day=0) == []
    assert told(enabled=False) == []


def test_a_tag_of_nobody() -> None:
    found = warnings(read(rule(when={"model": "tag:cheep"}, use="fast")))
    assert any("no alias has the tag 'cheep'; did you mean 'cheap'?" in one for one in found)
