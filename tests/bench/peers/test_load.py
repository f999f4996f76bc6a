"""The arithmetic of a loaded arm."""

from __future__ import annotations

import json

import pytest

from bench.peers.cases.load import AXES, Axis
from bench.peers.doors import Question


def test_axes_are_told_apart_by_their_names() -> None:
    assert len({axis.name for axis in AXES}) == len(AXES)


def test_tokens_a_second_of_all_streams() -> None:
    # 20 ms, then 49 gaps of 10 ms: 50 tokens in 510 ms.
    assert Axis(64, 100, 50).tokens_per_second == pytest.approx(64 * 50 / 0.51)


def test_a_question_has_as_many_bytes_as_wanted() -> None:
    question = Question.read({"prompt_bytes": 16_000})
    assert len(question.prompt.encode()) == 16_000
    assert question.prompt.endswith(Question().prompt)


def test_both_wires_ask_the_same() -> None:
    question = Question.read({"has_tool": True})
    body = json.loads(question.body("m"))
    start = question.start("g", "m")
    assert json.loads(start.openai_chat_body) == body
    assert body["tools"][0]["function"]["name"] == "book_table"
    plain = Question("words").start("g", "m")
    assert plain.prompt.messages[0].parts[0].text == "words"


def test_an_axis_is_harder_with_more_tokens_and_more_requests() -> None:
    slow, fast, many = Axis(16, 20, 30), Axis(64, 100, 50), Axis(256, 20, 25)
    assert fast.is_harder(slow)
    assert not slow.is_harder(fast)
    # Fewer tokens a second, but more requests: who fails at one may hold the other.
    assert not fast.is_harder(many)
    assert not many.is_harder(fast)
