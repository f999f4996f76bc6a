"""The section `policies.rules`: what it takes, what it refuses and how, what it warns of."""

from __future__ import annotations

from typing import Any

import pytest

from relay.config import Config, ConfigError
from relay.config.rules import named
from relay.config_warnings import warnings
from tests.policy.rule_world import PROVIDER, configured


def fault_of(*rules: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as raised:
        configured(*rules)
    return str(raised.value)


def first(**fields: Any) -> Any:
    return configured({"use": "fast", **fields}).policies.rules[0]


def test_one_text_is_a_list_of_one_and_each_is_there_once() -> None:
    assert first(when={"model": "fast"}).when.model == ("fast",)
    assert first(when={"model": ["a", "b", "a"]}).when.model == ("a", "b")
    assert first(when={"tools": "x"}).when.tools == ("x",)
    assert first(when={"surface": "converse"}).when.surface == ("converse",)
    assert first(when={"tools": True}).when.tools is True


def test_rules_have_names_of_their_own_or_by_their_place() -> None:
    rules = configured({"use": "fast"}, {"name": "b", "use": "fast"}, {"use": "other"})
    assert [name for name, _ in named(rules.policies.rules)] == ["rule-1", "b", "rule-3"]


@pytest.mark.parametrize(
    ("when", "fault"),
    [
        ({"modle": "x"}, "policies.rules[0].when.modle: unknown key; did you mean 'model'?"),
        ({"model": []}, "when.model: one text, or a list of some, is expected"),
        ({"model": 3}, "when.model: one text, or a list of some, is expected"),
        ({"tools": 3}, "when.tools: true, false, or a list of names is expected"),
        ({"json": "yes"}, "when.json: true, false, object or schema is expected"),
        ({"language": "klingon"}, "'klingon' is no language that is told apart"),
        ({"language": ["de", False]}, "one text, or a list of some, is expected"),
        ({"surface": ["telnet"]}, "when.surface[0]:"),
        ({"prompt_tokens": {}}, "when.prompt_tokens: min, max or both are expected"),
        ({"messages": {"min": 5, "max": 4}}, "min 5 is over max 4: nothing is in between"),
        ({"labels": {}}, "when.labels: "),
        ({"time": {}}, "when.time: days, hours or both are expected"),
        ({"time": {"days": "monday"}}, "when.time.days: 'monday' is no day: mon, tue"),
        ({"time": {"hours": "8-18"}}, "'8-18' are no hours such as 08:00-18:30"),
        ({"time": {"hours": "08:00-24:30"}}, "24:30 is no time of day"),
        ({"time": {"hours": "08:00-08:00"}}, "is no time at all"),
        ({"time": {"hours": "1:00-2:00", "zone": "Mars"}}, "zone: 'Mars' is no time zone"),
        ({"latency": {"of": "fast"}}, "when.latency: either above_ms or below_ms is expected"),
        (
            {"latency": {"of": "fsat", "above_ms": 1}},
            "policies.rules[0].when.latency.of: there is no alias 'fsat'; did you mean 'fast'?",
        ),
        ({"embeddings": True, "tools": True}, "tools: a request for embeddings has none of it"),
        ({"embeddings": True, "language": "de"}, "language: a request for embeddings has none"),
        ({"embeddings": True, "surface": ["converse"]}, "embeddings are not asked for there"),
        ({"embeddings": False, "surface": ["embeddings"]}, "embeddings are asked for there"),
        ({"reasoning": False, "effort": ["high"]}, "without reasoning it is never high"),
    ],
)
def test_a_condition_that_is_wrong_or_cannot_hold(when: dict[str, Any], fault: str) -> None:
    assert fault in fault_of({"when": when, "use": "fast"})


@pytest.mark.parametrize(
    ("rule", "fault"),
    [
        ({}, "policies.rules[0]: does nothing: use, pick, refuse or set is expected"),
        ({"use": "fast", "refuse": "x"}, "use and refuse: one of them is expected"),
        ({"refuse": "x", "set": {"hedge": False}}, "set: nothing is left to be changed"),
        ({"use": "fast", "unless": {}}, "unless: is empty, which always holds"),
        (
            {"use": "fast", "when": {"tools": True, "user": "u"}, "unless": {"tools": True}},
            "unless: always holds where `when` does",
        ),
        ({"use": "fsat"}, "rules[0].use: there is no alias, cascade, panel or model 'fsat'; did"),
        ({"use": "q/a"}, "there is no alias, cascade, panel or model 'q/a'"),
        ({"use": "auto", "when": {"model": "auto"}}, "there is no alias, cascade, panel or model"),
        ({"pick": {}}, "rules[0].pick: either from or tag is expected"),
        ({"pick": {"from": ["fast"], "tag": "cheap"}}, "either from or tag is expected"),
        ({"pick": {"from": ["fast", "acurate"]}}, "pick.from[1]: there is no alias"),
        (
            {"pick": {"tag": "cheep"}},
            "pick.tag: no alias has the tag 'cheep'; did you mean 'cheap'",
        ),
        ({"pick": {"from": ["fast"], "explore": 0.9}}, "pick.explore:"),
        (
            {"pick": {"from": ["fast"], "min_input_usd": 3, "max_input_usd": 2}},
            "min_input_usd is over max_input_usd",
        ),
        ({"set": {}}, "rules[0].set: is empty"),
        ({"set": {"hedge": "on"}}, "set.hedge:"),
        ({"name": "a b", "use": "fast"}, "rules[0].name:"),
        (
            {"when": {"model": "fsat"}, "set": {"hedge": "off"}},
            "when.model: nothing is called 'fsat', and the rule says nothing of what it is to"
            " become; did you mean 'fast'?",
        ),
    ],
)
def test_a_rule_that_cannot_be(rule: dict[str, Any], fault: str) -> None:
    assert fault in fault_of(rule)


def test_a_model_that_several_providers_list_is_no_name() -> None:
    rows = {"p": PROVIDER, "q": {**PROVIDER, "models": ["listed"]}}
    with pytest.raises(
        ConfigError, match="use: 2 providers list 'listed'; name one of them, as p/"
    ):
        configured({"use": "listed"}, providers=rows)
    configured({"use": "q/listed"}, providers=rows)


def test_names_are_unique_defaults_included() -> None:
    assert "rules[1].name: rules[0] is called 'a' as well" in fault_of(
        {"name": "a", "use": "fast"}, {"name": "a", "use": "fast"}
    )
    assert "rules[1].name: rules[0] is called 'rule-2' as well" in fault_of(
        {"name": "rule-2", "use": "fast"}, {"use": "fast"}
    )


def test_a_name_that_one_rule_introduces_may_be_told_of_by_another() -> None:
    configured(
        {"when": {"model": "auto", "tools": True}, "set": {"hedge": "off"}},
        {"when": {"model": "auto"}, "use": "fast"},
    )


# --- warnings -------------------------------------------------------------------------------


def warned(*rules: dict[str, Any]) -> list[str]:
    return of_rules(configured(*rules))


def of_rules(config: Config) -> list[str]:
    return [line for line in warnings(config) if "policies.rules" in line]


@pytest.mark.parametrize(
    ("before", "after", "is_reached"),
    [
        ({"use": "fast"}, {"when": {"tools": True}, "use": "other"}, False),
        ({"refuse": "x"}, {"use": "other"}, False),
        ({"pick": {"from": ["fast"]}}, {"use": "other"}, False),
        ({"when": {"model": "*"}, "use": "fast"}, {"when": {"tools": True}, "use": "other"}, False),
        (
            {"when": {"model": ["fast", "other"]}, "use": "fast"},
            {"when": {"model": "fast", "tools": True}, "use": "other"},
            False,
        ),
        (
            {"when": {"prompt_tokens": {"min": 10}}, "use": "fast"},
            {"when": {"prompt_tokens": {"min": 20, "max": 30}}, "use": "other"},
            False,
        ),
        (
            {"when": {"tools": True}, "use": "fast"},
            {"when": {"tools": ["book"]}, "use": "other"},
            False,
        ),
        ({"when": {"tools": True}, "use": "fast"}, {"use": "other"}, True),
        (
            {"when": {"tools": True}, "use": "fast"},
            {"when": {"tools": False}, "use": "other"},
            True,
        ),
        ({"use": "fast", "unless": {"tools": True}}, {"use": "other"}, True),
        ({"pick": {"from": ["fast"], "max_input_usd": 1}}, {"use": "other"}, True),
        ({"pick": {"from": ["fast"], "max_p95_ms": 1}}, {"use": "other"}, True),
        ({"use": "fast"}, {"when": {"embeddings": True}, "use": "other"}, True),
        ({"use": "fast"}, {"refuse": "vectors too"}, True),
        (
            {"when": {"prompt_tokens": {"max": 10}}, "use": "fast"},
            {"when": {"prompt_tokens": {"min": 5}}, "use": "other"},
            True,
        ),
    ],
)
def test_a_rule_that_is_never_reached(
    before: dict[str, Any], after: dict[str, Any], is_reached: bool
) -> None:
    found = [line for line in warned(before, after) if "never reached" in line]
    assert found == (
        []
        if is_reached
        else [
            "policies.rules[1] (rule-2) is never reached: rules[0] (rule-1) takes every request"
            " that it is for"
        ]
    )


def test_a_made_up_name_like_one_that_is_there() -> None:
    assert warned({"when": {"model": "fasst"}, "use": "other"}) == [
        "policies.rules[0].when.model: 'fasst' becomes a name of its own; was 'fast' meant?"
    ]
    assert warned({"when": {"model": "auto"}, "use": "other"}) == []


def test_a_made_up_name_that_is_not_always_given_a_model() -> None:
    some = {"when": {"model": "auto", "tools": True}, "use": "accurate"}
    line = (
        "policies.rules[0].when.model: no rule gives 'auto' a model in every case; where none"
        " does, it is an unknown model (404)"
    )
    assert warned(some) == [line]
    assert warned(some, {"when": {"model": "auto"}, "set": {"hedge": "off"}}) == [line]
    assert warned(some, {"when": {"model": "auto"}, "pick": {"tag": "cheap"}}) == []
    assert warned(some, {"refuse": "nothing else"}) == []


def test_prices_that_are_not_known() -> None:
    of_all = {"from": ["fast", "accurate", "other"]}
    assert warned({"pick": {**of_all, "by": "price"}}) == [
        "policies.rules[0].pick: other has no known price, so it is taken last"
    ]
    assert warned({"pick": {"tag": "cheap", "max_input_usd": 2}}) == [
        "policies.rules[0].pick: other has no known price, so it is never taken"
    ]
    assert warned({"pick": of_all}) == []


def test_settings_that_do_nothing() -> None:
    assert warned({"pick": {"tag": "cheap", "explore": 0.1}}) == [
        "policies.rules[0].pick.explore: latency is not looked at, so there is nothing to explore"
    ]
    assert warned({"pick": {"tag": "cheap", "quantile": "p95"}}) == [
        "policies.rules[0].pick.quantile is of `by: latency`, and it is by order"
    ]
    assert warned({"set": {"cache": "off"}}) == [
        "policies.rules[0].set.cache is off, but there is no `cache`"
    ]
