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
