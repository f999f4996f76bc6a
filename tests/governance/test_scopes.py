"""What a key may ask for: patterns, tags, cost, and what is refused for not being known."""

from __future__ import annotations

import json
import re
import time
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.config.providers import Zone
from relay.errors import MAX_SHOWN_CHARS, PermissionDenied
from relay.governance.scopes import EVERYTHING, ZONE_PATTERN, BadScopes, Scopes
from tests.fakes.properties import examples


def may(pattern: str, name: str, *tags: str) -> bool:
    return Scopes(models=(pattern,)).allows_model(name, tags)


@pytest.mark.parametrize(
    ("pattern", "fits", "does_not"),
    [
        ("fast", ["fast"], ["fast2", "Fast", "a/fast", "", "fas"]),
        ("fast*", ["fast", "fast-eu"], ["afast", "fastai/gpt-5", "openai/fast"]),
        ("*-eu", ["fast-eu", "-eu"], ["fast-eu2", "x/fast-eu"]),
        ("f*t*x", ["ftx", "fastix", "fttxx"], ["fx", "ft", "f/tx"]),
        ("ab*ba", ["abba", "abxba"], ["aba", "ab"]),
        ("openai/*", ["openai/gpt-5", "openai/a/b", "openai/"], ["openai", "xopenai/gpt-5"]),
        ("*/gpt-5", ["openai/gpt-5", "a/b/gpt-5"], ["gpt-5", "openai/gpt-5x"]),
        ("*", ["fast", "openai/gpt-5", ""], []),
        ("**", ["fast", "openai/gpt-5"], []),
        ("a.c[d]?", ["a.c[d]?"], ["abc[d]?", "a.cd"]),
    ],
)
def test_patterns(pattern: str, fits: list[str], does_not: list[str]) -> None:
    assert [name for name in fits if not may(pattern, name)] == []
    assert [name for name in does_not if may(pattern, name)] == []


@examples(300, full=5000)
@given(st.text("ab*/", min_size=1, max_size=8), st.text("ab/", max_size=12))
def test_patterns_are_what_an_expression_of_the_same_says(pattern: str, name: str) -> None:
    crosses = "/" in pattern or set(pattern) == {"*"}
    inner = ".*" if crosses else "[^/]*"
    expression = inner.join(re.escape(part) for part in pattern.split("*"))
    assert may(pattern, name) == (re.fullmatch(expression, name, re.DOTALL) is not None)


def test_no_pattern_takes_longer_than_its_length_says() -> None:
    scopes = Scopes(models=("*".join("a" * 100) + "b",))
    began_s = time.process_time()
    assert not scopes.allows_model("a" * 200_000)
    assert time.process_time() - began_s < 0.5


def test_a_model_is_allowed_by_its_name_or_by_a_tag_of_its_alias() -> None:
    scopes = Scopes(models=("slow",), model_tags=("cheap", "eu"))
    assert scopes.allows_model("slow")
    assert scopes.allows_model("fast", ["eu"])
    assert not scopes.allows_model("fast", ["us"])
    assert not scopes.allows_model("fast")
    assert Scopes().allows_model("anything")
    assert not Scopes(model_tags=("eu",)).allows_model("anything")


def test_what_is_not_allowed_is_named_and_cut() -> None:
    with pytest.raises(PermissionDenied, match=r"the model 'slow'"):
        Scopes(models=("fast",)).check_model("slow")
    with pytest.raises(PermissionDenied, match=r"the tag 'x'"):
        Scopes(request_tags=("a",)).check_tags(["a", "x", "y"])
    with pytest.raises(PermissionDenied, match=r"11 micro-dollars, and this key may spend 10"):
        Scopes(max_cost_micro=10).check_cost(11)
    with pytest.raises(PermissionDenied, match="handed through"):
        Scopes().check_passthrough()
    with pytest.raises(PermissionDenied) as caught:
        Scopes(models=("fast",)).check_model("x" * 10_000)
    assert len(caught.value.public_message) < MAX_SHOWN_CHARS + 150


def test_what_is_allowed_passes() -> None:
    Scopes().check_tags(["any", "tag"])
    Scopes(request_tags=("a",)).check_tags(["a"])
    Scopes(request_tags=()).check_tags([])
    Scopes().check_cost(10**12)
    Scopes(max_cost_micro=10).check_cost(10)
    EVERYTHING.check_passthrough()
    EVERYTHING.check_model("x")


def test_no_tag_may_be_all_that_is_allowed() -> None:
    with pytest.raises(PermissionDenied):
        Scopes(request_tags=()).check_tags(["x"])


texts = st.tuples() | st.lists(st.text(min_size=1, max_size=5), max_size=3).map(tuple)


@examples(100)
@given(
    st.builds(
        Scopes,
        models=texts,
        model_tags=texts,
        request_tags=st.none() | texts,
        may_hedge=st.booleans(),
        max_cost_micro=st.none() | st.integers(0, 10**12),
        passthrough=st.booleans(),
    )
)
def test_a_row_gives_back_what_was_written(scopes: Scopes) -> None:
    assert Scopes.from_json(scopes.to_json()) == scopes


def test_defaults_are_not_written() -> None:
    assert Scopes().to_json() == "{}"


@pytest.mark.parametrize(
    ("value", "named"),
    [
        ({"model": ["x"]}, "model is no scope"),
        ({"regions": ["eu"]}, "regions is no scope"),
        ({"models": "x"}, "models"),
        ({"models": [1]}, "models"),
        ({"models": [""]}, "models"),
        ({"models": ["x"] * 300}, "models"),
        ({"models": None}, "models"),
        ({"model_tags": {"a": 1}}, "model_tags"),
        ({"request_tags": [None]}, "request_tags"),
        ({"may_hedge": 1}, "may_hedge"),
        ({"passthrough": "yes"}, "passthrough"),
        ({"max_cost_micro": 1.5}, "max_cost_micro"),
        ({"max_cost_micro": True}, "max_cost_micro"),
        ({"max_cost_micro": -1}, "max_cost_micro"),
        ({"max_cost_micro": 2**63}, "max_cost_micro"),
    ],
)
def test_what_is_wrong_is_named(value: dict[str, Any], named: str) -> None:
    with pytest.raises(BadScopes, match=named):
        Scopes.from_json(json.dumps(value))


@pytest.mark.parametrize("text", ["", "[]", "null", "{", '"x"'])
def test_what_is_no_object_is_refused(text: str) -> None:
    with pytest.raises(BadScopes):
        Scopes.from_json(text)


@pytest.mark.parametrize(
    ("zones", "told"),
    [
        ([], "1 to 32"),
        ("eu", "1 to 32"),
        (["eu"] * 33, "1 to 32"),
        (["EU"], "names of data zones"),
        ([""], "names of data zones"),
        ([1], "names of data zones"),
        (["eu\n"], "names of data zones"),
    ],
)
def test_zones_are_words_as_in_the_configuration(zones: Any, told: str) -> None:
    with pytest.raises(BadScopes, match=told):
        Scopes.from_mapping({"zones": zones})


def test_zones_go_into_the_column_and_out_of_it() -> None:
    scopes = Scopes(zones=("eu", "ch"))
    assert scopes.to_json() == '{"zones":["eu","ch"]}'
    assert Scopes.from_json(scopes.to_json()) == scopes
    assert Scopes.from_mapping({"zones": None}) == Scopes()
    assert Scopes.from_json("{}").data_zones is None


def test_the_names_of_zones_are_the_same_everywhere() -> None:
    [pattern] = get_args(Zone)[1].metadata
    assert pattern.pattern == f"^{ZONE_PATTERN}$"
