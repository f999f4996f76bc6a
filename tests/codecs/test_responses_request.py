"""Requests to the Responses API: every field, what is refused, what is dropped, state sent back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest

from relay.codecs.openai_responses import ResponsesCodec
from relay.codecs.responses_quirks import LEAVABLE, REFUSABLE, ResponsesQuirks
from relay.config import known_providers
from relay.content import (
    AudioPart,
    FilePart,
    GenerateRequest,
    ImagePart,
    Message,
    OpaquePart,
    ReasoningOptions,
    RefusalPart,
    ResponseFormat,
    Role,
    Sampling,
    TextPart,
    Tool,
    ToolCall,
    ToolChoice,
    ToolChoiceMode,
)
from relay.errors import InvalidRequest, UnsupportedFeature

HELLO = Message(Role.USER, (TextPart("hi"),))
SCHEMA = b'{"type":"object","properties":{"b":{},"a":{}}}'
EMPTY_SCHEMA = {"type": "object", "properties": {}}
TOOLS = (Tool("f", "does f", SCHEMA),)
DEFAULT = ResponsesQuirks()
FORMAT = "openai-responses-v1"
PLAIN = "gpt-4o-mini"
REASONS = "gpt-5-mini"


def quirks_of(provider: str) -> ResponsesQuirks:
    other = known_providers()[provider]["other_wires"]["openai_responses"]
    return ResponsesQuirks.from_mapping(other["quirks"], provider)


def encode(
    quirks: ResponsesQuirks = DEFAULT, *, model: str = PLAIN, **fields: Any
) -> dict[str, Any]:
    """The body sent for a request with these fields, without what every body has."""
    request = GenerateRequest("alias", fields.pop("messages", (HELLO,)), **fields)
    encoded = ResponsesCodec(quirks, "p").encode_request(request, model)
    body: dict[str, Any] = orjson.loads(encoded.body)
    assert body.pop("model") == model
    assert body.pop("stream") is True
    assert body.pop("store") is False
    return body


def fields(quirks: ResponsesQuirks = DEFAULT, **asked: Any) -> dict[str, Any]:
    """The same without the conversation."""
    body = encode(quirks, **asked)
    del body["input"]
    return body


def items(*messages: Message, quirks: ResponsesQuirks = DEFAULT) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = encode(quirks, messages=messages)["input"]
    return found


def assistant(*parts: Any, calls: tuple[ToolCall, ...] = (), **extra: Any) -> Message:
    return Message(Role.ASSISTANT, parts, tool_calls=calls, extra=extra)


def test_google_s_word_for_the_usual_service_tier() -> None:
    assert encode(service_tier="standard")["service_tier"] == "default"


def test_smallest_request() -> None:
    encoded = ResponsesCodec().encode_request(GenerateRequest("a", (HELLO,)), PLAIN)
    assert encoded.path == "/responses"
    assert dict(encoded.headers) == {
        "content-type": "application/json",
        "accept": "text/event-stream",
    }
    assert orjson.loads(encoded.body) == {
        "model": PLAIN,
        "input": [{"role": "user", "content": "hi"}],
        "stream": True,
        "store": False,
    }


def test_every_field() -> None:
    body = fields(
        model=REASONS,
        tools=(*TOOLS, Tool("g", strict=True)),
        tool_choice=ToolChoice(ToolChoiceMode.NAMED, "f"),
        parallel_tool_calls=False,
        response_format=ResponseFormat("json_schema", "n", "d", SCHEMA, strict=True),
        sampling=Sampling(
            temperature=0.0, top_p=0.5, max_output_tokens=100, logprobs=True, top_logprobs=4
        ),
        reasoning=ReasoningOptions("low", 512),
        service_tier="priority",
        user="u",
        prompt_cache_key="k",
        extra={"verbosity": "low", "metadata": {"a": "b"}, "safety_identifier": "s"},
    )
    assert body == {
        "tools": [
            {
                "type": "function",
                "name": "f",
                "description": "does f",
                "parameters": orjson.loads(SCHEMA),
                "strict": False,
            },
            {"type": "function", "name": "g", "parameters": EMPTY_SCHEMA, "strict": True},
        ],
        "tool_choice": {"type": "function", "name": "f"},
        "parallel_tool_calls": False,
        "text": {
            "verbosity": "low",
            "format": {
                "type": "json_schema",
                "name": "n",
                "description": "d",
                "schema": orjson.loads(SCHEMA),
                "strict": True,
            },
        },
        "temperature": 0.0,
        "top_p": 0.5,
        "max_output_tokens": 100,
        "top_logprobs": 4,
        "reasoning": {"effort": "low", "summary": "auto"},
        "include": ["reasoning.encrypted_content", "message.output_text.logprobs"],
        "service_tier": "priority",
        "user": "u",
        "prompt_cache_key": "k",
        "metadata": {"a": "b"},
        "safety_identifier": "s",
    }


def test_schema_goes_as_it_is() -> None:
    encoded = ResponsesCodec().encode_request(GenerateRequest("a", (HELLO,), tools=TOOLS), "m")
    assert SCHEMA in encoded.body


# --- conversation ---------------------------------------------------------------------------


def test_roles_keep_their_places() -> None:
    roles = (Role.SYSTEM, Role.DEVELOPER, Role.USER, Role.ASSISTANT, Role.DEVELOPER, Role.USER)
    messages = [Message(role, (TextPart(str(at)),), name="n") for at, role in enumerate(roles)]
    knows = replace(DEFAULT, has_developer_role=True)
    assert items(*messages, quirks=knows) == [
        {"role": role.value, "content": str(at)} for at, role in enumerate(roles)
    ]
    assert [item["role"] for item in items(*messages)] == [
        "system",
        "system",
        "user",
        "assistant",
        "system",
        "user",
    ]


PARTS: list[tuple[Any, dict[str, Any]]] = [
    (TextPart("a"), {"type": "input_text", "text": "a"}),
    (
        ImagePart(url="https://x/y.png"),
        {"type": "input_image", "image_url": "https://x/y.png", "detail": "auto"},
    ),
    (
        ImagePart(data_base64="QUJD", media_type="image/png", detail="low"),
        {"type": "input_image", "image_url": "data:image/png;base64,QUJD", "detail": "low"},
    ),
    (
        AudioPart("QUJD", "wav"),
        {"type": "input_audio", "input_audio": {"data": "QUJD", "format": "wav"}},
    ),
    (FilePart(file_id="file-1"), {"type": "input_file", "file_id": "file-1"}),
    (
        FilePart(filename="a.pdf", data_base64="QUJD", media_type="application/pdf"),
        {
            "type": "input_file",
            "filename": "a.pdf",
            "file_data": "data:application/pdf;base64,QUJD",
        },
    ),
    (OpaquePart("openai_responses", {"type": "x", "y": 1}), {"type": "x", "y": 1}),
]


@pytest.mark.parametrize(("part", "expected"), PARTS)
def test_part(part: Any, expected: dict[str, Any]) -> None:
    text = {"type": "input_text", "text": "t"}
    assert items(Message(Role.USER, (TextPart("t"), part))) == [
        {"role": "user", "content": [text, expected]}
    ]
    result = Message(Role.TOOL, (TextPart("t"), part), tool_call_id="c")
    assert items(result) == [
        {"type": "function_call_output", "call_id": "c", "output": [text, expected]}
    ]


def test_assistant_parts() -> None:
    sent = items(assistant(TextPart("a"), RefusalPart("no")), assistant(TextPart("b")))
    assert sent == [
        {
            "role": "assistant",
            "content": [
                {"type": "output_text", "text": "a"},
                {"type": "refusal", "refusal": "no"},
            ],
        },
        {"role": "assistant", "content": "b"},
    ]
    assert items(Message(Role.USER, (RefusalPart("no"),))) == [
        {"role": "user", "content": [{"type": "input_text", "text": "no"}]}
    ]


@pytest.mark.parametrize(
    ("part", "feature"),
    [
        (ImagePart(url="https://x"), "image parts of an assistant message"),
        (AudioPart("QUJD", "wav"), "audio parts of an assistant message"),
        (FilePart(file_id="f"), "file parts of an assistant message"),
        (OpaquePart("openai_chat", {"type": "text"}), "a openai_chat content part"),
    ],
)
def test_part_that_cannot_be_said(part: Any, feature: str) -> None:
    with pytest.raises(UnsupportedFeature, match=feature):
        items(assistant(part))


def test_empty_messages_keep_their_turn() -> None:
    assert items(Message(Role.USER), assistant()) == [
        {"role": "user", "content": ""},
        {"role": "assistant", "content": ""},
    ]


def test_calls_and_their_results() -> None:
    calls = (
        ToolCall("call_1", "f", '{"a":1}', extra={"extra_content": {"google": {}}}),
        ToolCall("call_2", "g", ""),
        ToolCall("call_3", "h", "raw text", kind="custom"),
    )
    sent = items(
        assistant(calls=calls),
        Message(Role.TOOL, (TextPart("3"),), tool_call_id="call_3"),
        Message(Role.TOOL, (TextPart("1"),), tool_call_id="call_1"),
        Message(Role.TOOL, (), tool_call_id="call_2"),
    )
    assert sent == [
        {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": '{"a":1}'},
        {"type": "function_call", "call_id": "call_2", "name": "g", "arguments": "{}"},
        {"type": "custom_tool_call", "call_id": "call_3", "name": "h", "input": "raw text"},
        {"type": "custom_tool_call_output", "call_id": "call_3", "output": "3"},
        {"type": "function_call_output", "call_id": "call_1", "output": "1"},
        {"type": "function_call_output", "call_id": "call_2", "output": ""},
    ]


def test_text_beside_calls_stands_before_them() -> None:
    sent = items(assistant(TextPart("a"), calls=(ToolCall("c", "f", "{}"),)))
    assert [item.get("type") for item in sent] == [None, "function_call"]


def test_phase_of_a_message_goes_back() -> None:
    extra: dict[str, Any] = {"extra_content": {"openai": {"phase": "commentary"}}}
    assert items(assistant(TextPart("a"), **extra))[0]["phase"] == "commentary"
    row = replace(DEFAULT, leaves_out=frozenset({"messages.phase"}))
    assert "phase" not in items(assistant(TextPart("a"), **extra), quirks=row)[0]
    odd: Any
    for odd in ({"openai": {"phase": 1}}, {"google": {"phase": "x"}}, [], "x", None):
        assert "phase" not in items(assistant(TextPart("a"), extra_content=odd))[0]


# --- state sent back ------------------------------------------------------------------------


def summary(text: str, index: int, **fields: Any) -> dict[str, Any]:
    return {
        "type": "reasoning.summary",
        "summary": text,
        "format": FORMAT,
        "index": index,
        **fields,
    }


def secret(data: str, index: int, **fields: Any) -> dict[str, Any]:
    return {"type": "reasoning.encrypted", "data": data, "format": FORMAT, "index": index, **fields}


CALLS = (ToolCall("c1", "f", "{}"), ToolCall("c2", "g", "{}"))


def shape(sent: list[dict[str, Any]]) -> list[str]:
    """Each item by what tells it apart."""
    return [
        str(item.get("encrypted_content") or item.get("call_id") or item.get("id") or "message")
        for item in sent
    ]


def test_encrypted_reasoning_goes_back_before_its_call() -> None:
    details = [
        summary("s1", 0, id="rs_1"),
        summary("s2", 1, id="rs_1"),
        secret("S", 2, id="rs_1"),
    ]
    assert items(assistant(calls=CALLS[:1], reasoning_details=details)) == [
        {
            "type": "reasoning",
            "id": "rs_1",
            "summary": [
                {"type": "summary_text", "text": "s1"},
                {"type": "summary_text", "text": "s2"},
            ],
            "encrypted_content": "S",
        },
        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
    ]


def test_plain_reasoning_goes_back_as_content() -> None:
    entry = {"type": "reasoning.text", "text": "t", "id": "r", "format": FORMAT, "index": 0}
    assert items(assistant(TextPart("a"), reasoning_details=[entry]))[0] == {
        "type": "reasoning",
        "id": "r",
        "summary": [],
        "content": [{"type": "reasoning_text", "text": "t"}],
    }


@pytest.mark.parametrize(
    ("details", "parts", "expected"),
    [
        ([secret("A", 0), secret("B", 2)], (), ["A", "c1", "B", "c2"]),
        ([secret("A", 0), secret("B", 1)], (), ["A", "B", "c1", "c2"]),
        ([secret("A", 0), secret("B", 2)], (TextPart("t"),), ["A", "message", "B", "c1", "c2"]),
        ([secret("A", 1)], (TextPart("t"),), ["message", "A", "c1", "c2"]),
        # Two entries of one item take up two places.
        ([summary("s", 0), secret("A", 1), secret("B", 3)], (), ["A", "c1", "B", "c2"]),
        # Something always follows the last.
        ([secret("A", 0), secret("B", 3)], (), ["A", "c1", "B", "c2"]),
        ([secret("A", 0), secret("B", 9)], (), ["A", "c1", "B", "c2"]),
        # Without an index it stands before everything.
        ([{**secret("A", 0), "index": None}], (), ["A", "c1", "c2"]),
        # As OpenRouter writes them: index 0 for all, an id for the secret alone.
        ([summary("s", 0), secret("A", 0, id="rs")], (), ["A", "c1", "c2"]),
        # A summary without its secret is nothing that could be looked up.
        ([summary("s", 0, id="rs")], (), ["c1", "c2"]),
        # Another provider's.
        ([{**secret("A", 0), "format": "anthropic-claude-v1"}], (), ["c1", "c2"]),
        ([{**secret("A", 0), "format": "xai-responses-v1"}], (), ["c1", "c2"]),
    ],
)
def test_order_of_the_turn_is_restored(
    details: list[dict[str, Any]], parts: tuple[Any, ...], expected: list[str]
) -> None:
    assert shape(items(assistant(*parts, calls=CALLS, reasoning_details=details))) == expected


def test_reasoning_that_led_to_nothing_is_not_sent_back() -> None:
    """OpenAI answers 400 to it."""
    empty = {"role": "assistant", "content": ""}
    assert items(assistant(reasoning_details=[secret("A", 0)])) == [empty]
    search = {"format": FORMAT, "index": 1, "item": {"type": "web_search_call", "id": "w"}}
    state: dict[str, Any] = {
        "reasoning_details": [secret("A", 0), secret("B", 2)],
        "output_items": [search],
    }
    assert shape(items(assistant(**state))) == ["A", "w"]


def test_messages_that_have_become_one_stand_behind_all_reasoning() -> None:
    details = [secret("A", 0), secret("B", 2)]  # A, a message, B, a message
    sent = items(assistant(TextPart("one. two."), reasoning_details=details))
    assert shape(sent) == ["A", "B", "message"]


def test_id_of_one_entry_is_that_of_its_item() -> None:
    for details in (
        [summary("s", 0, id="rs"), secret("A", 1)],
        [summary("s", 0), secret("A", 1, id="rs")],
    ):
        sent = items(assistant(TextPart("t"), reasoning_details=details))
        assert [item.get("id") for item in sent] == ["rs", None]


def test_entries_of_one_item_are_told_apart_by_id() -> None:
    details = [
        {"type": "reasoning.text", "text": "a", "id": "r1", "format": FORMAT, "index": 0},
        {"type": "reasoning.text", "text": "b", "id": "r2", "format": FORMAT, "index": 1},
    ]
    sent = items(assistant(TextPart("t"), reasoning_details=details))
    assert [item.get("id") for item in sent] == ["r1", "r2", None]


def test_items_of_built_in_tools_go_back_to_their_places() -> None:
    search = {"type": "web_search_call", "id": "ws_1", "status": "completed"}
    sent = items(
        assistant(
            TextPart("t"),
            reasoning_details=[secret("A", 0), secret("B", 2)],
            output_items=[{"format": FORMAT, "index": 1, "item": search}],
        )
    )
    assert shape(sent) == ["A", "ws_1", "B", "message"]
    assert sent[1] == search


@pytest.mark.parametrize("odd", [None, 1, "x", {}, [1], [None], [[]], [{"format": FORMAT}]])
def test_malformed_state_is_ignored(odd: Any) -> None:
    sent = items(assistant(TextPart("t"), reasoning_details=odd, output_items=odd))
    assert sent == [{"role": "assistant", "content": "t"}]


def test_keys_of_other_wires_are_ignored() -> None:
    extra: dict[str, Any] = {"annotations": [{}], "audio": None, "images": [1], "x": 2}
    assert items(assistant(TextPart("t"), **extra)) == [{"role": "assistant", "content": "t"}]


def test_request_is_not_changed() -> None:
    details = [secret("A", 0, id="r")]
    request = GenerateRequest(
        "a",
        (assistant(calls=CALLS, reasoning_details=details),),
        tools=TOOLS,
        extra={"text": {"verbosity": "low"}, "reasoning": {"summary": "auto"}, "include": ["x"]},
        response_format=ResponseFormat("json_object"),
        reasoning=ReasoningOptions("high"),
    )
    before = repr(request)
    bodies = {ResponsesCodec().encode_request(request, "m").body for _ in range(2)}
    assert len(bodies) == 1
    assert repr(request) == before


# --- tools ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tool", "expected"),
    [
        (
            {
                "type": "function",
                "function": {"name": "f", "parameters": {}, "defer_loading": True},
            },
            {
                "type": "function",
                "name": "f",
                "parameters": {},
                "defer_loading": True,
                "strict": False,
            },
        ),
        (
            {"type": "function", "cache_control": {}, "function": {"name": "f", "strict": True}},
            {"type": "function", "name": "f", "parameters": EMPTY_SCHEMA, "strict": True},
        ),
        (
            {"type": "custom", "custom": {"name": "c", "description": "d"}},
            {"type": "custom", "name": "c", "description": "d"},
        ),
        (
            {
                "type": "custom",
                "custom": {
                    "name": "c",
                    "format": {
                        "type": "grammar",
                        "grammar": {"syntax": "lark", "definition": "start: A"},
                    },
                },
            },
            {
                "type": "custom",
                "name": "c",
                "format": {"type": "grammar", "syntax": "lark", "definition": "start: A"},
            },
        ),
        (
            {"type": "custom", "custom": {"name": "c", "format": {"type": "text"}}},
            {"type": "custom", "name": "c", "format": {"type": "text"}},
        ),
        ({"type": "web_search", "filters": {}}, {"type": "web_search", "filters": {}}),
        ({"type": "function", "name": "f"}, {"type": "function", "name": "f"}),
    ],
)
def test_tool_that_is_not_read(tool: dict[str, Any], expected: dict[str, Any]) -> None:
    assert fields(tools=(Tool("", opaque=tool),))["tools"] == [expected]


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (ToolChoice(ToolChoiceMode.AUTO), "auto"),
        (ToolChoice(ToolChoiceMode.NONE), "none"),
        (ToolChoice(ToolChoiceMode.REQUIRED), "required"),
        (ToolChoice(ToolChoiceMode.NAMED, "f"), {"type": "function", "name": "f"}),
        (
            ToolChoice(ToolChoiceMode.OPAQUE, opaque={"type": "custom", "custom": {"name": "c"}}),
            {"type": "custom", "name": "c"},
        ),
        (
            ToolChoice(
                ToolChoiceMode.OPAQUE,
                opaque={
                    "type": "allowed_tools",
                    "allowed_tools": {
                        "mode": "auto",
                        "tools": [
                            {"type": "function", "function": {"name": "f"}},
                            {"type": "web_search"},
                        ],
                    },
                },
            ),
            {
                "type": "allowed_tools",
                "mode": "auto",
                "tools": [{"type": "function", "name": "f"}, {"type": "web_search"}],
            },
        ),
        (
            ToolChoice(ToolChoiceMode.OPAQUE, opaque={"type": "file_search"}),
            {"type": "file_search"},
        ),
    ],
)
def test_tool_choice(choice: ToolChoice, expected: Any) -> None:
    assert fields(tools=TOOLS, tool_choice=choice)["tool_choice"] == expected


@pytest.mark.parametrize("mode", [ToolChoiceMode.AUTO, ToolChoiceMode.NONE])
def test_choice_says_nothing_without_tools(mode: ToolChoiceMode) -> None:
    assert fields(tool_choice=ToolChoice(mode), parallel_tool_calls=True) == {}


# --- shape, reasoning, extras ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (ResponseFormat("text"), None),
        (ResponseFormat("json_object"), {"type": "json_object"}),
        (
            ResponseFormat("json_schema"),
            {"type": "json_schema", "name": "answer", "schema": {}, "strict": False},
        ),
    ],
)
def test_response_format(wanted: ResponseFormat, expected: Any) -> None:
    assert fields(response_format=wanted).get("text", {}).get("format") == expected


def test_native_text_object_and_what_chat_calls_otherwise() -> None:
    extra: dict[str, Any] = {"text": {"verbosity": "high", "format": {"type": "json_object"}}}
    assert fields(extra=extra)["text"] == extra["text"]
    both = fields(
        extra={**extra, "verbosity": "low"}, response_format=ResponseFormat("json_object")
    )
    assert both["text"] == {"verbosity": "low", "format": {"type": "json_object"}}
    assert "text" not in fields(extra={"text": "x"})


ENCRYPTED = ["reasoning.encrypted_content"]


@pytest.mark.parametrize(
    ("model", "options", "reasoning", "include"),
    [
        (PLAIN, ReasoningOptions(), None, None),
        (REASONS, ReasoningOptions(), None, ENCRYPTED),
        (REASONS, ReasoningOptions("none"), {"effort": "none"}, ENCRYPTED),
        (REASONS, ReasoningOptions("minimal"), {"effort": "minimal"}, ENCRYPTED),
        (REASONS, ReasoningOptions("high"), {"effort": "high", "summary": "auto"}, ENCRYPTED),
        # A deployment may be called anything: who asks for reasoning knows that it reasons.
        ("my-model", ReasoningOptions("low"), {"effort": "low", "summary": "auto"}, ENCRYPTED),
        ("my-model", ReasoningOptions("none"), {"effort": "none"}, None),
        ("my-model", ReasoningOptions("", 1024), {"summary": "auto"}, ENCRYPTED),
        ("my-model", ReasoningOptions("", 0), None, None),
    ],
)
def test_reasoning(
    model: str, options: ReasoningOptions, reasoning: Any, include: list[str] | None
) -> None:
    body = fields(model=model, reasoning=options)
    assert (body.get("reasoning"), body.get("include")) == (reasoning, include)


def test_summary_only_if_reasoning_is_wanted_and_the_row_allows_it() -> None:
    asked: dict[str, Any] = {"reasoning": ReasoningOptions("high")}
    assert fields(want_reasoning=False, **asked)["reasoning"] == {"effort": "high"}
    none = replace(DEFAULT, reasoning_summary="none")
    assert fields(none, **asked)["reasoning"] == {"effort": "high"}
    detailed = replace(DEFAULT, reasoning_summary="detailed")
    assert fields(detailed, **asked)["reasoning"]["summary"] == "detailed"


def test_native_reasoning_object() -> None:
    given = {"effort": "low", "summary": "concise", "max_tokens": 5, "enabled": True}
    assert fields(extra={"reasoning": given})["reasoning"] == {
        "effort": "low",
        "summary": "concise",
    }
    over = fields(extra={"reasoning": given}, reasoning=ReasoningOptions("high"))
    assert over["reasoning"] == {"effort": "high", "summary": "concise"}
    assert "reasoning" not in fields(extra={"reasoning": "low"})


@pytest.mark.parametrize(
    ("model", "reasons"),
    [
        ("o1", True),
        ("o3-mini", True),
        ("o4-mini-2025-04-16", True),
        ("gpt-5", True),
        ("gpt-5.2-codex", True),
        ("gpt-6", True),
        ("gpt-10-mini", True),
        ("openai/gpt-oss-120b", True),
        ("codex-mini-latest", True),
        ("gpt-4o", False),
        ("gpt-35-turbo", False),
        ("gpt-4.1-nano", False),
        ("gpt-5-chat-latest", False),
        ("chatgpt-4o-latest", False),
        ("omni-moderation", False),
    ],
)
def test_models_that_reason(model: str, reasons: bool) -> None:
    assert ("include" in fields(model=model)) == reasons


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        (Sampling(logprobs=True), {"include": ["message.output_text.logprobs"]}),
        (
            Sampling(logprobs=True, top_logprobs=0),
            {"include": ["message.output_text.logprobs"], "top_logprobs": 0},
        ),
        (
            Sampling(top_logprobs=2),
            {"include": ["message.output_text.logprobs"], "top_logprobs": 2},
        ),
        (Sampling(logprobs=False, top_logprobs=2), {}),
        (Sampling(logprobs=False), {}),
        (Sampling(choices=1, presence_penalty=0.0, frequency_penalty=0.0), {}),
        (Sampling(top_k=-1), {}),
        (Sampling(top_k=0), {}),
    ],
)
def test_sampling(sampling: Sampling, expected: dict[str, Any]) -> None:
    assert fields(sampling=sampling) == expected


def test_native_fields_are_passed_on() -> None:
    extra = {
        "instructions": "be brief",
        "previous_response_id": "resp_1",
        "truncation": "auto",
        "max_tool_calls": 3,
        "max_output_tokens": 50,
        "include": ["file_search_call.results", "reasoning.encrypted_content", 1],
        "stream_options": {"include_usage": True, "include_obfuscation": False},
    }
    body = fields(model=REASONS, extra=extra)
    assert body == {
        **extra,
        "include": ["file_search_call.results", "reasoning.encrypted_content"],
        "stream_options": {"include_obfuscation": False},
    }
    assert fields(extra=extra, sampling=Sampling(max_output_tokens=19))["max_output_tokens"] == 19
    row = replace(DEFAULT, least_output_tokens=1)
    assert fields(row, sampling=Sampling(max_output_tokens=1)) == {"max_output_tokens": 1}


def test_what_is_dropped() -> None:
    extra = {
        "store": True,
        "stream": False,
        "model": "other",
        "input": "other",
        "stream_options": {"include_usage": True},
        "call": {},
        "unheard_of": 1,
    }
    assert encode(extra=extra) == {"input": [{"role": "user", "content": "hi"}]}
    row = replace(DEFAULT, passes=frozenset({"unheard_of"}))
    assert fields(row, extra=extra) == {"unheard_of": 1}


@pytest.mark.parametrize(
    ("sampling", "feature"),
    [
        (Sampling(stop=("x",)), "stop"),
        (Sampling(choices=2), "n"),
        (Sampling(seed=0), "seed"),
        (Sampling(presence_penalty=0.1), "presence_penalty"),
        (Sampling(frequency_penalty=-0.1), "frequency_penalty"),
        (Sampling(top_k=5), "top_k"),
        (Sampling(max_output_tokens=15), "max_tokens below 16"),
    ],
)
def test_sampling_that_is_refused(sampling: Sampling, feature: str) -> None:
    with pytest.raises(UnsupportedFeature) as caught:
        encode(sampling=sampling)
    assert caught.value.feature == feature


@pytest.mark.parametrize(
    ("name", "value", "is_refused"),
    [
        ("logit_bias", {"1": 2}, True),
        ("logit_bias", {}, False),
        ("modalities", ["text", "audio"], True),
        ("modalities", ["text"], False),
        ("audio", {"voice": "x"}, True),
        ("prediction", {"type": "content"}, True),
        ("functions", [{"name": "f"}], True),
        ("functions", [], False),
        ("function_call", {"name": "f"}, True),
        ("function_call", "auto", False),
        ("web_search_options", {}, True),
        ("background", True, True),
        ("background", False, False),
    ],
)
def test_extra_that_is_refused(name: str, value: Any, is_refused: bool) -> None:
    if is_refused:
        with pytest.raises(UnsupportedFeature) as caught:
            encode(extra={name: value})
        assert caught.value.feature == name
    else:
        assert fields(extra={name: value}) == {}


def test_a_call_of_the_old_kind_is_refused() -> None:
    with pytest.raises(UnsupportedFeature, match=r"messages\.function_call"):
        items(assistant(function_call={"name": "f", "arguments": "{}"}))


@pytest.mark.parametrize(
    "asked",
    [
        {"tools": (Tool("f", parameters_json=b"{"),)},
        {"tools": (Tool("f", parameters_json=b"[]"),)},
        {"response_format": ResponseFormat("json_schema", schema_json=b"nope")},
        {"messages": (Message(Role.USER, (TextPart("\ud800"),)),)},
    ],
)
def test_what_is_no_json(asked: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        encode(**asked)


# --- rows -----------------------------------------------------------------------------------

ASKING: dict[str, dict[str, Any]] = {
    "audio parts": {"messages": (Message(Role.USER, (AudioPart("QUJD", "wav"),)),)},
    "file parts": {"messages": (Message(Role.USER, (FilePart("f"),)),)},
    "forced tool_choice": {"tools": TOOLS, "tool_choice": ToolChoice(ToolChoiceMode.REQUIRED)},
    "image parts": {"messages": (Message(Role.USER, (ImagePart("https://x"),)),)},
    "json_schema": {"response_format": ResponseFormat("json_schema")},
    "logprobs": {"sampling": Sampling(logprobs=True)},
    "response_format": {"response_format": ResponseFormat("json_object")},
    "temperature": {"sampling": Sampling(temperature=1.0)},
    "tools": {"tools": TOOLS},
    "tools.strict": {"tools": (Tool("f", strict=True),)},
    "top_p": {"sampling": Sampling(top_p=1.0)},
}


@pytest.mark.parametrize("feature", sorted(REFUSABLE))
def test_what_a_row_refuses(feature: str) -> None:
    row = replace(DEFAULT, refuses=frozenset({feature}))
    encode(row)
    encode(**ASKING[feature])
    with pytest.raises(UnsupportedFeature) as caught:
        encode(row, **ASKING[feature])
    assert caught.value.feature == feature


def test_what_a_row_leaves_out() -> None:
    row = replace(DEFAULT, leaves_out=LEAVABLE)
    body = fields(
        row,
        model=REASONS,
        tools=TOOLS,
        parallel_tool_calls=False,
        service_tier="flex",
        user="u",
        prompt_cache_key="k",
        reasoning=ReasoningOptions("high"),
        extra={
            "metadata": {"a": "b"},
            "verbosity": "low",
            "stream_options": {"include_obfuscation": True},
        },
    )
    assert body.keys() == {"tools"}
    assert "strict" not in body["tools"][0]


def test_rows_of_known_providers() -> None:
    system = Message(Role.DEVELOPER, (TextPart("s"),))
    assert items(system, quirks=quirks_of("openai"))[0]["role"] == "developer"
    xai = quirks_of("xai")
    assert items(system, quirks=xai)[0]["role"] == "system"
    assert "include" in fields(xai, model="grok-4-1-fast-reasoning")
    assert "include" in fields(xai, model="grok-4.3")
    assert "include" not in fields(xai, model="grok-4-1-fast-non-reasoning")
    own = [{**secret("A", 0), "format": "xai-responses-v1"}]
    other = [secret("B", 0)]
    for details, expected in ((own, ["A", "message"]), (other, ["message"])):
        sent = items(assistant(TextPart("t"), reasoning_details=details), quirks=xai)
        assert shape(sent) == expected
    assert "include" not in fields(quirks_of("deepseek"), model="deepseek-v4-flash")


@pytest.mark.parametrize(
    ("quirks", "message"),
    [
        ({"refuse": []}, "'refuse' is unknown; did you mean 'refuses'"),
        ({"refuses": ["image part"]}, "did you mean 'image parts'"),
        ({"leaves_out": ["metdata"]}, "did you mean 'metadata'"),
        ({"reasoning_models": "("}, "'reasoning_models' is no regular expression"),
        ({"reasoning_summary": "long"}, "one of auto, concise, detailed, none"),
        ({"has_developer_role": 1}, "true or false"),
        ({"path": "responses"}, "begin with '/'"),
    ],
)
def test_wrong_rows_are_refused_by_name(quirks: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ResponsesQuirks.from_mapping(quirks, "p")
