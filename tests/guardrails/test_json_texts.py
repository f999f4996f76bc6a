"""Texts of JSON that is made to cost, and what a change leaves as it was."""

from __future__ import annotations

import base64
import time
from typing import Any

import orjson
import pytest

from relay.guardrails.json_texts import changed, changed_bytes, changed_text

SIGNED = {"text": "a", "signature": "y"}


def upper(text: str) -> str:
    """A change of one word."""
    return text.replace("bad", "[BAD]") if "bad" in text else text


def nothing(what: str) -> None:
    """Whatever cannot be read passes."""


@pytest.mark.parametrize(
    ("value", "new"),
    [
        ("bad", "[BAD]"),
        (["a", ["bad"]], ["a", ["[BAD]"]]),
        (("a", "bad"), ("a", "[BAD]")),
        ({"a": {"bad": 1}}, {"a": {"[BAD]": 1}}),
        ({"bad": "bad"}, {"[BAD]": "[BAD]"}),
        ([{"text": "bad", "signature": "x"}, SIGNED], [SIGNED]),
    ],
)
def test_a_change(value: Any, new: Any) -> None:
    assert changed(value, upper, nothing) == new


@pytest.mark.parametrize(
    "value", ["a", 1, 1.5, True, None, float("inf"), [1, "a"], {"a": {"b": None}}, (), {}]
)
def test_what_is_clean_is_the_same_object(value: Any) -> None:
    assert changed(value, upper, nothing) is value
    data = orjson.dumps(value)
    assert changed_bytes(data, upper, nothing) is data


@pytest.mark.parametrize(
    ("text", "new"),
    [
        ("", ""),
        ("bad", "[BAD]"),
        ('"bad"', '"[BAD]"'),
        ('{"a": "b\\u0061d"}', '{"a":"[BAD]"}'),
        ('{"a": "b\\u0061d', '{"a": "[BAD]'),
        ('{"a": "bad", "a": "b"}', '{"a": "[BAD]", "a": "b"}'),
        ('{"a": "b"}', '{"a": "b"}'),
        ("\ud800bad", "\ud800[BAD]"),
    ],
)
def test_arguments(text: str, new: str) -> None:
    assert changed_text(text, upper, nothing) == new


@pytest.mark.parametrize("levels", [190, 254, 300, 1000])
def test_arguments_that_are_nested_without_end(levels: int) -> None:
    """orjson reads a thousand levels and writes a quarter of them; a stack has not as many."""
    text = '{"a":' * levels + '"b\\u0061d"' + "}" * levels
    assert "[BAD]" in changed_text(text, upper, nothing)
    clean = text.replace("\\u0061", "o")
    assert changed_text(clean, upper, nothing) == clean


def test_a_data_url() -> None:
    said = base64.b64encode(b"so bad " + b"x" * 90).decode()
    found = changed({"u": f"data:text/plain;charset=utf-8;base64,{said}"}, upper, nothing)["u"]
    head, _, data = found.partition(",")
    assert head == "data:text/plain;charset=utf-8;base64"
    assert base64.b64decode(data).startswith(b"so [BAD] ")


@pytest.mark.parametrize(
    "text",
    [
        "data:" + "a" * 1_000_000,
        "data:" + ";" * 1_000_000,
        "data:" + "a;" * 500_000 + "base64",
        "A" * 1_000_000 + "!",
        '{"a": "' + "\\u0061" * 170_000,
        '"' + "\\\\" * 500_000,
        "[" * 1_000_000,
    ],
    ids=["type", "semicolons", "parameters", "base64", "escapes", "backslashes", "brackets"],
)
def test_a_text_that_is_made_to_cost_costs_no_more(text: str) -> None:
    began_s = time.thread_time()
    changed({"data": text, "x": text}, upper, nothing)
    changed_text(text, upper, nothing)
    assert time.thread_time() - began_s < 2
