"""When two whole answers say the same."""

from __future__ import annotations

import time
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.config.panels import EqualityConfig
from relay.content import FinishReason, ToolCallDone
from relay.policy.base import Whole
from relay.policy.equality import ALONE, Equality, Said, is_silent
from relay.policy.panel_json import (
    MAX_DEPTH,
    NotComparable,
    comparable,
    field_of,
    parsed,
    pointer_steps,
)
from tests.fakes.properties import examples


def whole(
    text: str = "",
    *,
    calls: tuple[tuple[str, str], ...] = (),
    refusal: str = "",
    finish: FinishReason = FinishReason.STOP,
) -> Whole:
    return Whole(
        texts={0: text} if text else {},
        tool_calls=tuple(
            ToolCallDone(index, f"call_{index}", name, arguments)
            for index, (name, arguments) in enumerate(calls)
        ),
        refusals={0: refusal} if refusal else {},
        finish={0: finish},
        usage=None,
        logprobs_json=(),
        cost=None,
        took_s=0.0,
    )


EXACT = Equality("exact")
NORMALISED = Equality("normalised")


def at(path: str) -> Equality:
    return Equality(EqualityConfig(json_field=path))


def number(**more: Any) -> Equality:
    return Equality(EqualityConfig.model_validate({"number": more}))


def test_exact_is_to_the_letter() -> None:
    assert EXACT.said(whole("Paris")) == EXACT.said(whole("Paris"))
    assert EXACT.said(whole("Paris")) != EXACT.said(whole("Paris."))


def test_a_refusal_is_no_text() -> None:
    assert EXACT.said(whole(refusal="No")) != EXACT.said(whole("No"))
    assert NORMALISED.said(whole(refusal="No")) == NORMALISED.said(whole(refusal="Never"))
    assert NORMALISED.said(whole(refusal="No")) != NORMALISED.said(whole("No"))


@pytest.mark.parametrize("finish", [FinishReason.LENGTH, FinishReason.CONTENT_FILTER])
def test_what_was_cut_agrees_with_none(finish: FinishReason) -> None:
    assert NORMALISED.said(whole("Pa", finish=finish)) is ALONE
    assert EXACT.said(whole("Pa", finish=finish)).key is not None


@pytest.mark.parametrize("equality", [NORMALISED, at("/a"), number()])
def test_tool_calls_are_compared_by_what_they_do(equality: Equality) -> None:
    one = whole("Let me see.", calls=(("get", '{"city": "Paris", "days": 1}'), ("now", "")))
    same = whole(calls=(("now", "{}"), ("get", '{"days": 1.0,"city":"Paris"}')))
    assert equality.said(one) == equality.said(same)
    for other in (
        (("get", '{"city": "paris", "days": 1}'), ("now", "")),
        (("get", '{"city": "Paris", "days": true}'), ("now", "")),
        (("get", '{"city": "Paris", "days": 1}'),),
        (("get", '{"city": "Paris", "days": 1}'), ("now", ""), ("now", "")),
        (("set", '{"city": "Paris", "days": 1}'), ("now", "")),
    ):
        assert equality.said(one) != equality.said(whole(calls=other))


def test_arguments_that_are_no_json_are_compared_as_text() -> None:
    said = NORMALISED.said(whole(calls=(("run", "print(1)"),)))
    assert said == NORMALISED.said(whole(calls=(("run", " print(1)\n"),)))
    assert said != NORMALISED.said(whole(calls=(("run", "print(2)"),)))


@pytest.mark.parametrize("path", ["/answer/0/label", "answer.0.label", "answer[0].label"])
def test_a_field_of_json(path: str) -> None:
    equality = at(path)
    said = equality.said(whole('{"answer": [{"label": "Positive"}], "why": "x"}'))
    fenced = '```json\n{"why": "y", "answer": [{"label": "positive."}]}\n```'
    assert said == equality.said(whole(fenced))
    assert said != equality.said(whole('{"answer": [{"label": "negative"}]}'))
    for text in ('{"answer": []}', "no JSON", '{"answer": [{"label": "Posi', '"label"'):
        assert equality.said(whole(text)) is ALONE


def test_pointers_are_escaped_as_rfc_6901_says() -> None:
    document = {"a/b": {"m~n": [10, 20]}, "": 1}
    assert field_of(document, pointer_steps("/a~1b/m~0n/1")) == 20
    assert field_of(document, pointer_steps("/")) == 1
    assert field_of(document, pointer_steps("")) is document
    for path in ("/a~1b/m~0n/01", "/a~1b/m~0n/-1", "/a~1b/m~0n/2", "/a~1b/m~0n/-", "/nothing"):
        with pytest.raises(NotComparable):
            field_of(document, pointer_steps(path))


@examples(100, full=2000)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(max_size=5),
        lambda one: (
            st.lists(one, max_size=3) | st.dictionaries(st.text(max_size=3), one, max_size=3)
        ),
    )
)
def test_json_is_equal_to_itself_in_any_writing(value: Any) -> None:
    equality = at("")
    text = orjson.dumps(value).decode()
    other = orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS).decode()
    assert equality.said(whole(text)) == equality.said(whole(other))
    assert hash(comparable(value, folds_text=False)) == hash(comparable(value, folds_text=False))


def test_numbers_of_json_by_value_and_no_booleans() -> None:
    assert comparable(1, folds_text=False) == comparable(1.0, folds_text=False)
    assert comparable(1, folds_text=False) != comparable(True, folds_text=False)
    assert comparable(0, folds_text=False) != comparable(None, folds_text=False)
    assert comparable("1", folds_text=False) != comparable(1, folds_text=False)


def test_hostile_json_is_bounded() -> None:
    equality = at("")
    deep = "[" * (MAX_DEPTH + 2) + "]" * (MAX_DEPTH + 2)
    for text in (deep, "[" * 100_000, "[" + "1," * 30_000 + "1]", '"\\ud800"', "1" * 2_000_000):
        equality.said(whole(text))
    assert equality.said(whole(deep)) is ALONE
    assert equality.said(whole("1e999999999")) is not None


def test_numbers_within_a_tolerance() -> None:
    equality = number(tolerance_abs=0.01)
    one, other, far = (equality.said(whole(text)) for text in ("It is 3.14", "3.145", "3.16"))
    assert one.number is not None
    assert other.number is not None
    assert far.number is not None
    assert equality.distance(one.number, other.number) is not None
    assert equality.distance(one.number, far.number) is None
    assert equality.said(whole("I do not know")) is ALONE
    relative = number(tolerance_rel=0.1)
    assert one.number is not None
    assert relative.distance(one.number * 100, one.number * 109) is not None
    assert relative.distance(one.number * 100, one.number * 112) is None


def test_an_empty_answer_says_nothing() -> None:
    assert is_silent(whole(" \n"))
    assert not is_silent(whole("x"))
    assert not is_silent(whole(refusal="no"))
    assert not is_silent(whole(calls=(("now", ""),)))
    assert NORMALISED.said(whole("?!")) == Said(("text", "?!"))


@pytest.mark.parametrize(
    "text",
    [
        "```\n" + "\n" * 50_000,
        "```" + " \n" * 50_000 + "x",
        "```json\n" + "\n " * 50_000 + "```x",
        "```json\n" + "\n " * 50_000 + "```",
    ],
)
def test_a_fence_of_any_kind_is_read_in_linear_time(text: str) -> None:
    began_s = time.process_time()
    with pytest.raises(NotComparable):
        parsed(text)
    assert time.process_time() - began_s < 1.0


@pytest.mark.parametrize(
    "text",
    [
        "```\n1\n```",
        " ```json \n1\n```\n",
        "```JSON\n\n1\n\n  ```  ",
        "1",
        " 1 ",
        "```\r\n1\r\n```",
    ],
)
def test_fences(text: str) -> None:
    assert parsed(text) == 1


@pytest.mark.parametrize(
    "text", ["```1```", "```\n1```", "```json5\n1\n```", "```", "``````", "```\n```"]
)
def test_what_is_no_fence(text: str) -> None:
    with pytest.raises(NotComparable):
        parsed(text)
