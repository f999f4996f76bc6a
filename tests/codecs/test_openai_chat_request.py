"""Requests: every field, and every quirk of a row, as the body that is sent."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

import relay
from relay.codecs.openai_chat import OpenAIChatCodec
from relay.codecs.openai_quirks import OpenAIChatQuirks
from relay.content import (
    AudioPart,
    FilePart,
    GenerateRequest,
    ImagePart,
    Message,
    OpaquePart,
    Part,
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

ROWS: dict[str, dict[str, Any]] = yaml.safe_load(
    (Path(relay.__file__).parent / "providers.yaml").read_text("utf-8")
)
HELLO = Message(Role.USER, (TextPart("hi"),))
SCHEMA = b'{"type":"object","properties":{"b":{},"a":{}}}'
TOOLS = (Tool("f", "does f", SCHEMA),)
DEFAULT = OpenAIChatQuirks()


def quirks_of(provider: str) -> OpenAIChatQuirks:
    return OpenAIChatQuirks.from_mapping(ROWS[provider]["quirks"], provider)


def encode(quirks: OpenAIChatQuirks | str = DEFAULT, **fields: Any) -> dict[str, Any]:
    """The body sent for a request with these fields."""
    if isinstance(quirks, str):
        quirks = quirks_of(quirks)
    request = GenerateRequest("alias", fields.pop("messages", (HELLO,)), **fields)
    encoded = OpenAIChatCodec(quirks, "p").encode_request(request, "model")
    body = orjson.loads(encoded.body)
    assert isinstance(body, dict)
    assert body["model"] == "model"
    assert body["stream"] is True
    return body


def message(sent: Message, quirks: OpenAIChatQuirks | str = DEFAULT) -> dict[str, Any]:
    body = encode(quirks, messages=(sent,))
    only: dict[str, Any] = body["messages"][0]
    return only


def test_google_s_word_for_the_usual_service_tier() -> None:
    assert encode(service_tier="standard")["service_tier"] == "default"


def test_smallest_request() -> None:
    encoded = OpenAIChatCodec().encode_request(GenerateRequest("a", (HELLO,)), "m")
    assert encoded.path == "/chat/completions"
    assert dict(encoded.headers) == {
        "content-type": "application/json",
        "accept": "text/event-stream",
    }
    assert orjson.loads(encoded.body) == {
        "model": "m",
        "messages": [{"role": "user", "content": "hi"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_every_field() -> None:
    body = encode(
        OpenAIChatQuirks(max_tokens_field="max_completion_tokens"),
        tools=(*TOOLS, Tool("g", strict=True), Tool("", opaque={"type": "custom", "custom": {}})),
        tool_choice=ToolChoice(ToolChoiceMode.NAMED, "f"),
        parallel_tool_calls=False,
        response_format=ResponseFormat("json_schema", "n", "d", SCHEMA, strict=True),
        sampling=Sampling(0.0, 0.5, 7, 100, ("x", "y"), 3, 2, 0.1, -0.1, True, 4),
        reasoning=ReasoningOptions("low"),
        service_tier="priority",
        user="u",
        prompt_cache_key="k",
        extra={"verbosity": "low", "metadata": {"a": "b"}},
    )
    del body["model"], body["messages"], body["stream"], body["stream_options"]
    assert body == {
        "tools": [
            {
                "type": "function",
                "function": {
                    "name": "f",
                    "description": "does f",
                    "parameters": orjson.loads(SCHEMA),
                },
            },
            {"type": "function", "function": {"name": "g", "strict": True}},
            {"type": "custom", "custom": {}},
        ],
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "parallel_tool_calls": False,
        "response_format": {
            "type": "json_schema",
            "json_schema": {
                "name": "n",
                "description": "d",
                "schema": orjson.loads(SCHEMA),
                "strict": True,
            },
        },
        "temperature": 0.0,
        "top_p": 0.5,
        "top_k": 7,
        "max_completion_tokens": 100,
        "stop": ["x", "y"],
        "seed": 3,
        "n": 2,
        "presence_penalty": 0.1,
        "frequency_penalty": -0.1,
        "logprobs": True,
        "top_logprobs": 4,
        "reasoning_effort": "low",
        "service_tier": "priority",
        "user": "u",
        "prompt_cache_key": "k",
        "verbosity": "low",
        "metadata": {"a": "b"},
    }


def test_schemas_keep_the_order_of_their_keys() -> None:
    encoded = OpenAIChatCodec().encode_request(GenerateRequest("a", (HELLO,), TOOLS), "m")
    assert SCHEMA in encoded.body


@pytest.mark.parametrize("schema", [b"{", b"[]", b'{} , "model": "other"'])
def test_a_schema_that_is_no_object_is_the_clients_fault(schema: bytes) -> None:
    with pytest.raises(InvalidRequest, match=r"tools\[0\]\.parameters"):
        encode(tools=(Tool("f", parameters_json=schema),))
    with pytest.raises(InvalidRequest, match="response_format"):
        encode(response_format=ResponseFormat("json_schema", schema_json=schema))


def test_text_that_is_no_unicode_is_the_clients_fault() -> None:
    with pytest.raises(InvalidRequest):
        encode(messages=(Message(Role.USER, (TextPart("\ud800"),)),))


def test_extra_fields_undo_nothing() -> None:
    extra = {
        "model": "other",
        "stream": False,
        "messages": [],
        "temperature": 2,
        "stream_options": {"include_usage": False, "include_obfuscation": False},
        "call": {"id": "a voice platform's"},
        "phoneNumber": {},
        "customer": {},
    }
    body = encode(extra=extra, sampling=Sampling(temperature=0.5))
    assert body["messages"] == [{"role": "user", "content": "hi"}]
    assert body["temperature"] == 0.5
    assert body["stream_options"] == {"include_usage": True, "include_obfuscation": False}
    assert not {"call", "phoneNumber", "customer"} & set(body)


# --- messages --------------------------------------------------------------------------------


def test_content_parts() -> None:
    parts = (
        TextPart("t"),
        ImagePart(url="https://h/i.png", detail="low"),
        ImagePart(data_base64="AA==", media_type="image/png"),
        AudioPart("AA==", "wav"),
        FilePart(file_id="file-1"),
        FilePart(filename="a.pdf", data_base64="AA==", media_type="application/pdf"),
        RefusalPart("no"),
        OpaquePart("openai_chat", {"type": "video_url", "video_url": {}}),
    )
    assert message(Message(Role.USER, parts))["content"] == [
        {"type": "text", "text": "t"},
        {"type": "image_url", "image_url": {"url": "https://h/i.png", "detail": "low"}},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}},
        {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}},
        {"type": "file", "file": {"file_id": "file-1"}},
        {
            "type": "file",
            "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,AA=="},
        },
        {"type": "refusal", "refusal": "no"},
        {"type": "video_url", "video_url": {}},
    ]


def test_cache_marks_go_where_they_are_known_and_are_left_out_elsewhere() -> None:
    mark = {"type": "ephemeral"}
    unread = {"type": "video_url", "video_url": {}}
    sent = Message(
        Role.USER,
        (
            TextPart("t", mark),
            ImagePart(url="https://h/i.png", cache_control=mark),
            OpaquePart("openai_chat", {**unread, "cache_control": mark}),
        ),
        extra={"cache_control": mark},
    )
    text = {"type": "text", "text": "t"}
    image = {"type": "image_url", "image_url": {"url": "https://h/i.png"}}
    function = {"type": "function", "function": {"name": "f"}}
    odd = {"type": "function", "function": {"name": "g", "x": 1}}
    fields: dict[str, Any] = {
        "messages": (sent,),
        "tools": (
            Tool("f", cache_control=mark),
            Tool("g", opaque={**odd, "cache_control": mark}),
        ),
        "extra": {"cache_control": mark},
    }
    body = encode("openrouter", **fields)
    assert body["messages"][0]["content"] == [
        {**part, "cache_control": mark} for part in (text, image, unread)
    ]
    assert body["tools"] == [{**tool, "cache_control": mark} for tool in (function, odd)]
    assert body["cache_control"] == body["messages"][0]["cache_control"] == mark
    for row in (DEFAULT, "openai", "mistral", "groq"):
        body = encode(row, **fields)
        assert body["messages"][0]["content"] == [text, image, unread]
        assert body["tools"] == [function, odd]
        assert b"cache_control" not in orjson.dumps(body)
    assert message(Message(Role.USER, (TextPart("t", mark),)))["content"] == "t"


@pytest.mark.parametrize(
    ("part", "feature"),
    [
        (ImagePart(url="https://h/i.png"), "image parts in results of tools"),
        (AudioPart("AA==", "wav"), "audio parts in results of tools"),
        (FilePart(file_id="f"), "file parts in results of tools"),
    ],
)
def test_results_of_tools_are_text(part: Part, feature: str) -> None:
    sent = Message(Role.TOOL, (TextPart("t"), part), tool_call_id="c")
    with pytest.raises(UnsupportedFeature) as caught:
        message(sent, "openai")
    assert caught.value.feature == feature
    assert len(message(sent, "openrouter")["content"]) == 2
    texts = Message(Role.TOOL, (TextPart("t"), TextPart("u")), tool_call_id="c")
    assert len(message(texts, "openai")["content"]) == 2


def test_cerebras_takes_no_unknown_fields_of_messages() -> None:
    extra = {"reasoning_details": [], "extra_content": {"google": {}}}
    call = ToolCall("c", "f", "{}", extra=extra)
    sent = message(Message(Role.ASSISTANT, tool_calls=(call,), extra=extra), "cerebras")
    assert "extra_content" not in orjson.dumps(sent).decode()
    assert sent.keys() == {"role", "content", "tool_calls"}


def test_part_of_another_wire_is_refused() -> None:
    part = OpaquePart("gemini", {"executableCode": {}})
    with pytest.raises(UnsupportedFeature, match="gemini content part is not supported by p"):
        message(Message(Role.USER, (part,)))


def test_assistant_and_tool_messages() -> None:
    call = ToolCall("call_1", "f", "", extra={"extra_content": {"google": {}}})
    custom = ToolCall("call_2", "g", "x y", kind="custom")
    assert message(Message(Role.ASSISTANT, tool_calls=(call, custom), name="bot")) == {
        "role": "assistant",
        "content": None,
        "name": "bot",
        "tool_calls": [
            {
                "id": "call_1",
                "type": "function",
                "function": {"name": "f", "arguments": "{}"},
                "extra_content": {"google": {}},
            },
            {"id": "call_2", "type": "custom", "custom": {"name": "g", "input": "x y"}},
        ],
    }
    assert message(Message(Role.TOOL, (TextPart("r"),), tool_call_id="call_1")) == {
        "role": "tool",
        "content": "r",
        "tool_call_id": "call_1",
    }
    assert message(Message(Role.ASSISTANT))["content"] == ""


@pytest.mark.parametrize(
    ("quirks", "role"), [(DEFAULT, "system"), (OpenAIChatQuirks(has_developer_role=True), None)]
)
def test_developer_role(quirks: OpenAIChatQuirks, role: str | None) -> None:
    sent = message(Message(Role.DEVELOPER, (TextPart("x"),)), quirks)
    assert sent["role"] == (role or "developer")


def test_opaque_message_fields() -> None:
    sent = Message(Role.ASSISTANT, (TextPart("a"),), extra={"reasoning_details": [], "prefix": 1})
    assert {"reasoning_details", "prefix"} <= set(message(sent))
    kept = message(sent, OpenAIChatQuirks(only_message_extra=frozenset({"prefix"})))
    assert set(kept) == {"role", "content", "prefix"}


def test_reasoning_goes_back_inside_a_tool_loop_only() -> None:
    def assistant(reasoning: str) -> Message:
        return Message(Role.ASSISTANT, (TextPart("a"),), reasoning=reasoning)

    messages = (assistant("old"), HELLO, assistant("new"), Message(Role.TOOL, tool_call_id="c"))
    sent = encode("deepseek", messages=messages)["messages"]
    assert [one.get("reasoning_content") for one in sent] == [None, None, "new", None]
    assert not any("reasoning_content" in one for one in encode(messages=messages)["messages"])


def test_nine_character_ids() -> None:
    def ids(call_id: str) -> tuple[str, str]:
        sent = encode(
            "mistral",
            messages=(
                HELLO,
                Message(Role.ASSISTANT, tool_calls=(ToolCall(call_id, "f", "{}"),)),
                Message(Role.TOOL, (TextPart("r"),), tool_call_id=call_id),
            ),
        )["messages"]
        return sent[1]["tool_calls"][0]["id"], sent[2]["tool_call_id"]

    assert ids("abcDEF123") == ("abcDEF123", "abcDEF123")
    mapped, result = ids("call_foreign")
    assert mapped == result
    assert len(mapped) == 9
    assert mapped.isalnum()
    assert mapped.isascii()
    assert ids("call_other")[0] != mapped


# --- what a row renames, leaves out, refuses ---------------------------------------------------


@pytest.mark.parametrize(
    ("provider", "field"),
    [
        ("openai", "max_completion_tokens"),
        ("groq", "max_completion_tokens"),
        ("deepseek", "max_tokens"),
        ("mistral", "max_tokens"),
        ("vllm", "max_tokens"),
    ],
)
def test_name_of_the_token_limit(provider: str, field: str) -> None:
    body = encode(provider, sampling=Sampling(max_output_tokens=5))
    assert body[field] == 5
    assert len({"max_tokens", "max_completion_tokens"} & set(body)) == 1


def test_mistral_takes_nothing_unknown() -> None:
    body = encode(
        "mistral",
        messages=(replace(HELLO, name="Ann"),),
        tools=TOOLS,
        tool_choice=ToolChoice(ToolChoiceMode.REQUIRED),
        sampling=Sampling(seed=3),
        user="u",
        service_tier="auto",
        prompt_cache_key="k",
        extra={"store": True, "stream_options": {}, "safe_prompt": True},
    )
    assert set(body) == {
        "model",
        "messages",
        "stream",
        "tools",
        "tool_choice",
        "random_seed",
        "safe_prompt",
    }
    assert body["tool_choice"] == "any"
    assert body["random_seed"] == 3
    assert body["messages"] == [{"role": "user", "content": "hi"}]


@pytest.mark.parametrize(
    ("provider", "fields", "feature"),
    [
        ("groq", {"sampling": Sampling(choices=2)}, "n"),
        ("groq", {"sampling": Sampling(logprobs=True)}, "logprobs"),
        ("groq", {"extra": {"logit_bias": {"1": 2}}}, "logit_bias"),
        ("mistral", {"extra": {"logit_bias": {"1": 2}}}, "logit_bias"),
        ("openai", {"sampling": Sampling(top_k=5)}, "top_k"),
        ("deepseek", {"messages": (Message(Role.USER, (ImagePart("u"),)),)}, "image parts"),
        ("deepseek", {"messages": (Message(Role.USER, (AudioPart("a", "wav"),)),)}, "audio parts"),
        ("deepseek", {"messages": (Message(Role.USER, (FilePart("f"),)),)}, "file parts"),
        ("deepseek", {"response_format": ResponseFormat("json_schema")}, "json_schema"),
    ],
)
def test_refused_by_name(provider: str, fields: dict[str, Any], feature: str) -> None:
    with pytest.raises(UnsupportedFeature) as caught:
        encode(provider, **fields)
    assert caught.value.feature == feature


@pytest.mark.parametrize("feature", ["messages.name", "tools.strict", "forced tool_choice"])
def test_other_features_a_row_may_refuse(feature: str) -> None:
    quirks = OpenAIChatQuirks(refuses=frozenset({feature}))
    with pytest.raises(UnsupportedFeature, match=feature):
        encode(
            quirks,
            messages=(replace(HELLO, name="Ann"),),
            tools=(Tool("f", strict=True),),
            tool_choice=ToolChoice(ToolChoiceMode.NAMED, "f"),
        )


def test_defaults_are_left_out_rather_than_refused() -> None:
    quirks = OpenAIChatQuirks(
        refuses=frozenset({"n", "logprobs", "presence_penalty", "parallel_tool_calls"})
    )
    sampling = Sampling(choices=1, logprobs=False, presence_penalty=0.0)
    body = encode(quirks, sampling=sampling, tools=TOOLS, parallel_tool_calls=True)
    assert not {"n", "logprobs", "presence_penalty", "parallel_tool_calls"} & set(body)


def test_left_out() -> None:
    quirks = OpenAIChatQuirks(leaves_out=frozenset({"user", "store", "tools.strict"}))
    body = encode(quirks, user="u", extra={"store": True}, tools=(Tool("f", strict=True),))
    assert not {"user", "store"} & set(body)
    assert "strict" not in body["tools"][0]["function"]


@pytest.mark.parametrize(
    ("choice", "with_tools", "without"),
    [
        (ToolChoice(ToolChoiceMode.AUTO), "auto", None),
        (ToolChoice(ToolChoiceMode.NONE), "none", None),
        (ToolChoice(ToolChoiceMode.REQUIRED), "required", "required"),
        (
            ToolChoice(ToolChoiceMode.OPAQUE, opaque={"type": "allowed_tools"}),
            {"type": "allowed_tools"},
            {"type": "allowed_tools"},
        ),
    ],
)
def test_tool_choice(choice: ToolChoice, with_tools: Any, without: Any) -> None:
    assert encode(tools=TOOLS, tool_choice=choice)["tool_choice"] == with_tools
    assert encode(tool_choice=choice).get("tool_choice") == without


def test_parallel_tool_calls_only_with_tools() -> None:
    assert "parallel_tool_calls" not in encode(parallel_tool_calls=False)
    assert encode(parallel_tool_calls=False, tools=TOOLS)["parallel_tool_calls"] is False


@pytest.mark.parametrize(
    ("provider", "effort", "budget", "sent"),
    [
        ("openai", "low", None, {"reasoning_effort": "low"}),
        ("openai", "", 100, {}),
        ("openrouter", "low", 100, {"reasoning": {"effort": "low"}}),
        ("openrouter", "", 100, {"reasoning": {"max_tokens": 100}}),
        ("qwen", "none", None, {"enable_thinking": False}),
        ("qwen", "high", 100, {"enable_thinking": True, "thinking_budget": 100}),
        ("qwen", "", 0, {"enable_thinking": False}),
        ("deepseek", "none", None, {"thinking": {"type": "disabled"}}),
        (
            "deepseek",
            "high",
            None,
            {"thinking": {"type": "enabled"}, "reasoning_effort": "high"},
        ),
        ("openai", "", None, {}),
    ],
)
def test_reasoning_options(
    provider: str, effort: str, budget: int | None, sent: dict[str, Any]
) -> None:
    body = encode(provider, reasoning=ReasoningOptions(effort, budget))
    rest = {"model", "messages", "stream", "stream_options"}
    assert {name: value for name, value in body.items() if name not in rest} == sent


def test_reasoning_nowhere() -> None:
    quirks = OpenAIChatQuirks(reasoning="none")
    assert "reasoning_effort" not in encode(quirks, reasoning=ReasoningOptions("low"))


def test_path_of_a_row() -> None:
    quirks = OpenAIChatQuirks(path="/chat/completions?api-version=1")
    encoded = OpenAIChatCodec(quirks, "p").encode_request(GenerateRequest("a", (HELLO,)), "m")
    assert encoded.path == "/chat/completions?api-version=1"


@pytest.mark.parametrize("kind", ["text", "json_object"])
def test_plain_response_formats(kind: Any) -> None:
    assert encode(response_format=ResponseFormat(kind))["response_format"] == {"type": kind}
