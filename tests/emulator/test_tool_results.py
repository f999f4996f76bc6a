"""Answers that repeat what tools said, in every wire format."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from relay.emulator.wires.tool_results import last_results
from tests.emulator.calls import post
from tests.fakes.emulator_process import EmulatorProcess

CHAT = [
    {"role": "user", "content": "Hello"},
    {"role": "assistant", "tool_calls": [{"id": "a"}, {"id": "b"}]},
    {"role": "tool", "tool_call_id": "a", "content": "rain"},
    {"role": "tool", "tool_call_id": "b", "content": [{"type": "text", "text": "snow"}]},
]
MESSAGES = [
    {"role": "user", "content": "Hello"},
    {"role": "assistant", "content": [{"type": "tool_use", "id": "a"}]},
    {
        "role": "user",
        "content": [
            {"type": "tool_result", "tool_use_id": "a", "content": "rain"},
            {"type": "tool_result", "content": [{"type": "text", "text": "snow"}]},
        ],
    },
]
RESPONSES = [
    {"role": "user", "content": "Hello"},
    {"type": "function_call", "call_id": "a"},
    {"type": "function_call_output", "call_id": "a", "output": "rain"},
    {"type": "function_call_output", "output": [{"type": "input_text", "text": "snow"}]},
]
GEMINI = [
    {"role": "user", "parts": [{"text": "Hello"}]},
    {"role": "model", "parts": [{"functionCall": {}}]},
    {
        "role": "user",
        "parts": [
            {"functionResponse": {"response": {"result": "rain"}}},
            {"functionResponse": {"response": {"result": "snow"}}},
        ],
    },
]
ALL = pytest.mark.parametrize(
    "turns", [CHAT, MESSAGES, RESPONSES, GEMINI], ids=["chat", "messages", "responses", "gemini"]
)


@ALL
def test_results_are_found_in_order(turns: list[Any]) -> None:
    assert last_results(turns) == ["rain", "snow"]


@ALL
def test_results_count_at_the_end_only(turns: list[Any]) -> None:
    assert last_results([*turns, {"role": "user", "content": "And now?"}]) == []
    assert last_results(turns[:1]) == []


def test_other_responses_are_json() -> None:
    response = {"sky": "grey", "c": 7}
    turns = [{"parts": [{"functionResponse": {"response": response}}]}]
    assert orjson.loads(last_results(turns)[0]) == response


@pytest.mark.sockets
def test_answer_repeats_them(emulator: EmulatorProcess) -> None:
    body = {"model": "emu:ttft=0,itl=0,text=results", "messages": CHAT}
    answer = post(emulator, "/v1/chat/completions", body).json()
    assert answer["choices"][0]["message"]["content"] == "rain; snow"
