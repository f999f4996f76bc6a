"""`functions` are read as tools, and answered as functions."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from relay.codecs.registry import BUILDERS
from relay.content import (
    ChoiceFinished,
    FinishReason,
    Policy,
    Role,
    TextDelta,
    ToolArgumentsDelta,
    ToolCallDone,
    ToolCallStart,
    ToolChoice,
    ToolChoiceMode,
)
from relay.errors import InvalidRequest
from relay.frontends.chat_body import to_request
from relay.frontends.surfaces.chat_completions import ChatCompletions
from tests.fakes.ends import end_of

USER = {"role": "user", "content": "Hi"}
LOOK = {"name": "look", "description": "d", "parameters": {"type": "object"}}
CALL = {"role": "assistant", "content": None, "function_call": {"name": "look", "arguments": "{}"}}
RESULT = {"role": "function", "name": "look", "content": "found"}


def body(*messages: Any, **more: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [USER, *messages], **more}


@pytest.mark.parametrize(
    ("said", "choice"),
    [
        (None, None),
        ("auto", ToolChoice(ToolChoiceMode.AUTO)),
        ("none", ToolChoice(ToolChoiceMode.NONE)),
        ({"name": "look"}, ToolChoice(ToolChoiceMode.NAMED, name="look")),
    ],
)
def test_functions_are_tools(said: object, choice: ToolChoice | None) -> None:
    request = to_request(body(functions=[LOOK], function_call=said))
    (tool,) = request.tools
    assert (tool.name, tool.description) == ("look", "d")
    assert orjson.loads(tool.parameters_json) == {"type": "object"}
    assert (request.tool_choice, request.parallel_tool_calls) == (choice, None)
    assert request.prefers_one_call
    assert request.extra == {}


ONE_CALL: dict[str, dict[str, Any]] = {
    "openai_chat": {"parallel_tool_calls": False},
    "openai_responses": {"parallel_tool_calls": False},
    "anthropic_messages": {"tool_choice": {"type": "auto", "disable_parallel_tool_use": True}},
    "gemini": {},
    "ollama": {},
}
"""How each wire says that one call is enough."""


@pytest.mark.parametrize("wire", ONE_CALL)
def test_every_wire_takes_them(wire: str) -> None:
    request = to_request(body(functions=[LOOK], function_call="auto"))
    encoded = BUILDERS[wire]({}, "p")().encode_request(request, "m")
    sent = orjson.loads(encoded.body)
    assert sent["tools"]
    assert {key: sent.get(key) for key in ONE_CALL[wire]} == ONE_CALL[wire]
    assert "parallel_tool_calls" in sent or not wire.startswith("openai")


def test_hosts_that_refuse_parallel_tool_calls_take_them() -> None:
    request = to_request(body(functions=[LOOK]))
    refusing = BUILDERS["openai_chat"]({"refuses": ["parallel_tool_calls"]}, "p")()
    assert "parallel_tool_calls" not in orjson.loads(refusing.encode_request(request, "m").body)


def test_a_call_and_its_result_are_a_pair() -> None:
    request = to_request(body(CALL, RESULT, CALL, RESULT, functions=[LOOK]))
    _, call, result, second, its_result = request.messages
    assert [entry.name for entry in call.tool_calls] == ["look"]
    assert (result.role, result.tool_call_id) == (Role.TOOL, call.tool_calls[0].call_id)
    assert its_result.tool_call_id == second.tool_calls[0].call_id != result.tool_call_id
    assert call.extra == {}


def test_a_call_without_its_result_stays() -> None:
    for messages in ([CALL, USER], [CALL, {**RESULT, "name": "other"}]):
        _, call, _ = to_request(body(*messages, functions=[LOOK])).messages
        assert not call.tool_calls
        assert call.extra == {"function_call": CALL["function_call"]}


def test_a_body_without_any_is_left_alone() -> None:
    request = to_request(body(function_call="none"))
    assert (request.tools, request.tool_choice, request.extra) == ((), None, {})


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"functions": {"a": 1}}, "functions"),
        ({"functions": [1]}, "functions[0]"),
        ({"functions": [{}]}, "tools[0].function.name"),
        ({"functions": [LOOK], "tools": [{"type": "function", "function": LOOK}]}, "functions"),
        ({"functions": [LOOK], "function_call": "any"}, "function_call"),
        ({"functions": [LOOK], "function_call": {"name": 1}}, "function_call"),
        ({"function_call": {"name": "look"}}, "function_call"),
    ],
)
def test_wrong_ones_are_named(more: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        to_request(body(**more))
    assert raised.value.field == field


EVENTS = [
    TextDelta("a"),
    ToolCallStart(0, "call_1", "look"),
    ToolArgumentsDelta(0, '{"x"'),
    ToolArgumentsDelta(0, ":1}"),
    ToolCallDone(0, "call_1", "look", '{"x":1}', extra_json=b'{"signature":"s"}'),
    ToolCallStart(1, "call_2", "again"),
    ToolCallDone(1, "call_2", "again", "{}"),
    ChoiceFinished(FinishReason.STOP, "stop"),
]


def test_stream() -> None:
    encoder = ChatCompletions().read(body(functions=[LOOK], stream=True), Policy()).answer
    assert encoder is not None
    data = encoder.encode(EVENTS) + encoder.encode_end(end_of(EVENTS))
    chunks = [orjson.loads(part[6:]) for part in data.split(b"\n\n") if part[6:7] == b"{"]
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert [delta["function_call"] for delta in deltas if "function_call" in delta] == [
        {"name": "look", "arguments": ""},
        {"arguments": '{"x"'},
        {"arguments": ":1}"},
    ]
    assert not any("tool_calls" in delta for delta in deltas)
    assert chunks[-1]["choices"][0]["finish_reason"] == "function_call"


def test_document() -> None:
    document = ChatCompletions().read(body(functions=[LOOK]), Policy()).document
    assert document is not None
    document.add(EVENTS)
    (choice,) = orjson.loads(document.to_json(end_of(EVENTS)))["choices"]
    assert choice["message"]["function_call"] == {"name": "look", "arguments": '{"x":1}'}
    assert "tool_calls" not in choice["message"]
    assert choice["finish_reason"] == "function_call"
