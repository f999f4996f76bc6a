"""Requests in the Messages API: the exact JSON, what is refused, what is left out."""

from __future__ import annotations

import base64
from typing import Any

import orjson
import pytest

from relay.codecs.anthropic_conversation import OPENING_TEXT
from relay.codecs.anthropic_messages import AnthropicMessagesCodec
from relay.codecs.anthropic_quirks import AnthropicQuirks
from relay.config import known_providers
from relay.content import (
    AudioPart,
    FilePart,
    GenerateRequest,
    ImagePart,
    Message,
    OpaquePart,
    Policy,
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

USER = Message(Role.USER, (TextPart("hi"),))
ROW = AnthropicQuirks.from_mapping(known_providers()["anthropic"]["quirks"], "anthropic")
SCHEMA = b'{"type": "object", "properties": {"x": {"type": "integer"}}}'
F = Tool("f", parameters_json=SCHEMA)
F_SENT = {"name": "f", "input_schema": orjson.loads(SCHEMA)}
MARK = {"type": "ephemeral"}
HOUR = {"type": "ephemeral", "ttl": "1h"}


def body_of(
    *messages: Message, model: str = "claude-sonnet-4-6", quirks: AnthropicQuirks = ROW, **more: Any
) -> dict[str, Any]:
    policy = Policy(prompt_cache=more.pop("prompt_cache", ""))
    request = GenerateRequest("alias", messages or (USER,), policy=policy, **more)
    encoded = AnthropicMessagesCodec(quirks, "anthropic").encode_request(request, model)
    body = orjson.loads(encoded.body)
    assert isinstance(body, dict)
    again = AnthropicMessagesCodec(quirks, "anthropic").encode_request(request, model)
    assert again == encoded, "the request is shared, and not changed"
    return body


def fields_of(*messages: Message, **more: Any) -> dict[str, Any]:
    """What is sent beside the fields that every request has."""
    body = body_of(*messages, **more)
    return {
        name: value
        for name, value in body.items()
        if name not in ("model", "max_tokens", "messages", "stream")
    }


def turns_of(*messages: Message, **more: Any) -> list[tuple[str, list[dict[str, Any]]]]:
    return [(turn["role"], turn["content"]) for turn in body_of(*messages, **more)["messages"]]


def text(value: str) -> dict[str, Any]:
    return {"type": "text", "text": value}


def user(value: str, **extra: Any) -> Message:
    return Message(Role.USER, (TextPart(value),), extra=extra)


def assistant(value: str = "", *calls: ToolCall, **extra: Any) -> Message:
    return Message(
        Role.ASSISTANT, (TextPart(value),) if value else (), tool_calls=calls, extra=extra
    )


def result(call_id: str, value: str = "", **extra: Any) -> Message:
    parts = (TextPart(value),) if value else ()
    return Message(Role.TOOL, parts, tool_call_id=call_id, extra=extra)


# --- the whole ------------------------------------------------------------------------------


def test_plain_request() -> None:
    encoded = AnthropicMessagesCodec(
        AnthropicQuirks(betas=("b-2", "a-1"), path="/v2/messages"), "p"
    ).encode_request(GenerateRequest("alias", (USER,)), "claude-x")
    assert encoded.path == "/v2/messages"
    assert encoded.headers == [
        ("content-type", "application/json"),
        ("accept", "text/event-stream"),
        ("anthropic-version", "2023-06-01"),
        ("anthropic-beta", "b-2,a-1"),
    ]
    assert orjson.loads(encoded.body) == {
        "model": "claude-x",
        "max_tokens": 4096,
        "messages": [{"role": "user", "content": [text("hi")]}],
        "stream": True,
    }


def test_everything_at_once() -> None:
    body = body_of(
        Message(Role.SYSTEM, (TextPart("Be brief."),)),
        USER,
        sampling=Sampling(
            temperature=0.5, top_k=7, max_output_tokens=100, stop=("END", ""), seed=3, choices=1
        ),
        tools=(Tool("f", "does", SCHEMA, strict=True), Tool("g")),
        tool_choice=ToolChoice(ToolChoiceMode.REQUIRED),
        parallel_tool_calls=False,
        response_format=ResponseFormat("json_schema", "n", "d", SCHEMA, strict=True),
        service_tier="default",
        user="u1",
        prompt_cache_key="k",
    )
    assert body == {
        "model": "claude-sonnet-4-6",
        "max_tokens": 100,
        "messages": [{"role": "user", "content": [text("hi")]}],
        "stream": True,
        "system": "Be brief.",
        "tools": [
            {
                "name": "f",
                "description": "does",
                "input_schema": {**F_SENT["input_schema"], "additionalProperties": False},
                "strict": True,
            },
            {"name": "g", "input_schema": {"type": "object", "properties": {}}},
        ],
        "tool_choice": {"type": "any", "disable_parallel_tool_use": True},
        "stop_sequences": ["END"],
        "output_config": {
            "format": {
                "type": "json_schema",
                "schema": {**orjson.loads(SCHEMA), "additionalProperties": False},
            }
        },
        "metadata": {"user_id": "u1"},
        "service_tier": "standard_only",
        "temperature": 0.5,
        "top_k": 7,
    }


@pytest.mark.parametrize(
    ("user", "is_opaque"),
    [
        ("u1", True),
        ("a0b1-C2_d3", True),
        ("a" * 256, True),
        ("a" * 257, False),
        ("ann@example.com", False),
        ("+15551234567", False),
        ("15551234567", False),
        ("555-123-4567", False),
        ("Ann Smith", False),
        ("änn", False),
    ],
)
def test_users_are_sent_as_opaque_ids(user: str, is_opaque: bool) -> None:
    sent = body_of(user=user)["metadata"]["user_id"]
    assert (sent == user) == is_opaque
    if not is_opaque:
        assert len(sent) == 32
        assert sent == body_of(user=user)["metadata"]["user_id"]
        assert sent != body_of(user=user + "x")["metadata"]["user_id"]


def test_schemas_go_as_they_are() -> None:
    request = GenerateRequest("m", (USER,), tools=(F,))
    assert SCHEMA in AnthropicMessagesCodec().encode_request(request, "m").body


# --- turns ----------------------------------------------------------------------------------


def test_instructions_of_any_place_go_to_the_top() -> None:
    messages = (
        Message(Role.SYSTEM, (TextPart("a"), TextPart("b"))),
        USER,
        Message(Role.DEVELOPER, (TextPart("c"), TextPart(" "))),
        user("go on"),
    )
    body = body_of(*messages)
    assert body["system"] == "a\n\nb\n\nc"
    assert [turn["role"] for turn in body["messages"]] == ["user"]
    assert body["messages"][0]["content"] == [text("hi"), text("go on")]


@pytest.mark.parametrize(
    "messages",
    [
        (Message(Role.SYSTEM, (TextPart("greet"),)),),
        (user(" \n"),),
        (Message(Role.USER),),
    ],
)
def test_somebody_must_have_spoken(messages: tuple[Message, ...]) -> None:
    assert turns_of(*messages) == [("user", [text(OPENING_TEXT)])]


def test_conversation_that_the_assistant_opens() -> None:
    assert turns_of(assistant("Hello!"), USER) == [
        ("user", [text(OPENING_TEXT)]),
        ("assistant", [text("Hello!")]),
        ("user", [text("hi")]),
    ]


def test_empty_messages_are_left_out_and_neighbours_joined() -> None:
    assert turns_of(user("a"), assistant(""), user("b"), assistant("\t"), user("c")) == [
        ("user", [text("a"), text("b"), text("c")])
    ]


def test_results_of_one_turn_stand_together_before_the_text() -> None:
    calls = (ToolCall("a", "f", '{"x": 1}'), ToolCall("b", "g", ""))
    assert turns_of(
        USER,
        assistant("Let me see.", *calls),
        result("a", "1"),
        user("hurry"),
        result("b", is_error=True),
    ) == [
        ("user", [text("hi")]),
        (
            "assistant",
            [
                text("Let me see."),
                {"type": "tool_use", "id": "a", "name": "f", "input": {"x": 1}},
                {"type": "tool_use", "id": "b", "name": "g", "input": {}},
            ],
        ),
        (
            "user",
            [
                {"type": "tool_result", "tool_use_id": "a", "content": "1"},
                {"type": "tool_result", "tool_use_id": "b", "is_error": True},
                text("hurry"),
            ],
        ),
    ]


def test_results_with_several_parts() -> None:
    parts = (TextPart("see"), ImagePart(url="https://e.com/a.png"))
    message = Message(Role.TOOL, parts, tool_call_id="a")
    (turn,) = turns_of(message)
    image = {"type": "image", "source": {"type": "url", "url": "https://e.com/a.png"}}
    assert turn[1][0]["content"] == [text("see"), image]


@pytest.mark.parametrize(
    ("arguments", "sent"),
    [
        ("", {}),
        (" ", {}),
        ('{"a": [1]}', {"a": [1]}),
        ('{"a', {"arguments": '{"a'}),
        ("[1]", {"arguments": [1]}),
        ("null", {"arguments": None}),
    ],
)
def test_arguments_are_always_an_object(arguments: str, sent: Any) -> None:
    turns = turns_of(USER, assistant("", ToolCall("a", "f", arguments)), result("a", "1"))
    assert turns[1][1][0]["input"] == sent


def test_ids_of_other_providers_are_mapped_alike() -> None:
    odd = "functions.get:0"
    turns = turns_of(USER, assistant("", ToolCall(odd, "f", "")), result(odd, "1"))
    sent = turns[1][1][0]["id"]
    assert sent.startswith("toolu_")
    assert sent != odd
    assert turns[2][1][0]["tool_use_id"] == sent
    other = turns_of(USER, assistant("", ToolCall("functions.get:1", "f", "")))
    assert other[1][1][0]["id"] != sent


def test_prefill_has_no_white_space_at_its_end() -> None:
    assert turns_of(USER, assistant("So: \n"))[1] == ("assistant", [text("So:")])
    assert turns_of(USER, assistant("So: "), USER)[1] == ("assistant", [text("So: ")])


# --- parts ----------------------------------------------------------------------------------

PDF = {"type": "base64", "media_type": "application/pdf", "data": "JVBE"}
PLAIN = base64.b64encode("grüße".encode()).decode()


@pytest.mark.parametrize(
    ("part", "sent"),
    [
        (
            ImagePart(data_base64="aGk=", media_type="image/png", detail="low"),
            {
                "type": "image",
                "source": {"type": "base64", "media_type": "image/png", "data": "aGk="},
            },
        ),
        (
            ImagePart(url="https://e.com/a.png"),
            {"type": "image", "source": {"type": "url", "url": "https://e.com/a.png"}},
        ),
        (
            FilePart(file_id="file_1"),
            {"type": "document", "source": {"type": "file", "file_id": "file_1"}},
        ),
        (
            FilePart(filename="a.pdf", data_base64="JVBE", media_type="application/pdf"),
            {"type": "document", "source": PDF, "title": "a.pdf"},
        ),
        (FilePart(data_base64="JVBE"), {"type": "document", "source": PDF}),
        (
            FilePart(data_base64=PLAIN, media_type="text/plain"),
            {
                "type": "document",
                "source": {"type": "text", "media_type": "text/plain", "data": "grüße"},
            },
        ),
        (
            FilePart(data_base64="aGk=", media_type="image/webp"),
            {
                "type": "image",
                "source": {"type": "base64", "media_type": "image/webp", "data": "aGk="},
            },
        ),
        (RefusalPart("I cannot."), text("I cannot.")),
        (OpaquePart("anthropic_messages", {"type": "x", "y": [1]}), {"type": "x", "y": [1]}),
        (
            OpaquePart("openai_chat", {"type": "text", "text": "t", "cache_control": HOUR}),
            {**text("t"), "cache_control": HOUR},
        ),
    ],
)
def test_parts(part: Any, sent: dict[str, Any]) -> None:
    assert turns_of(Message(Role.USER, (part,))) == [("user", [sent])]


@pytest.mark.parametrize(
    ("part", "feature"),
    [
        (AudioPart("aGk=", "wav"), "audio parts"),
        (FilePart(data_base64="aGk=", media_type="audio/wav"), "file parts of type audio/wav"),
        (OpaquePart("gemini", {"text": "x"}), "this gemini content part"),
        (OpaquePart("openai_chat", {"type": "video_url"}), "this openai_chat content part"),
    ],
)
def test_parts_that_cannot_be_said(part: Any, feature: str) -> None:
    with pytest.raises(UnsupportedFeature) as caught:
        body_of(Message(Role.USER, (part,)))
    assert caught.value.feature == feature


def test_broken_parts() -> None:
    with pytest.raises(InvalidRequest, match="not UTF-8"):
        body_of(Message(Role.USER, (FilePart(data_base64="/w==", media_type="text/plain"),)))
    with pytest.raises(UnsupportedFeature, match="anything but text"):
        body_of(Message(Role.SYSTEM, (ImagePart(url="https://e.com/a"),)), USER)
    with pytest.raises(InvalidRequest, match="cannot be written as JSON"):
        body_of(user("\ud83d"))


# --- opaque state ---------------------------------------------------------------------------


def entry(
    kind: str, index: int, form: str = "anthropic-claude-v1", **fields: Any
) -> dict[str, Any]:
    return {"type": f"reasoning.{kind}", "format": form, "index": index, **fields}


def test_thinking_goes_back_unchanged_before_everything_else() -> None:
    details = [
        entry("text", 0, text="hm", signature="s0"),
        entry("encrypted", 1, data="xyz"),
        entry("text", 2, text="", signature="s2"),
        entry("text", 3, text="unsigned"),
        entry("text", 4, "google-gemini-v1", text="alien", signature="s"),
        entry("summary", 5, summary="x"),
        "odd",
    ]
    message = Message(
        Role.ASSISTANT,
        (TextPart("so"),),
        tool_calls=(ToolCall("a", "f", "{}"),),
        reasoning="hm",
        extra={"reasoning_details": details, "extra_content": {"google": {}}},
    )
    assert turns_of(USER, message, result("a", "1"))[1][1] == [
        {"type": "thinking", "thinking": "hm", "signature": "s0"},
        {"type": "redacted_thinking", "data": "xyz"},
        {"type": "thinking", "thinking": "", "signature": "s2"},
        text("so"),
        {"type": "tool_use", "id": "a", "name": "f", "input": {}},
    ]


def test_pieces_of_thinking_as_a_gateway_streams_them_are_joined() -> None:
    details = [
        entry("text", 0, text="h"),
        entry("text", 0, text="m", signature=""),
        entry("text", 0, signature="s0"),
        entry("text", 0, text="next"),
        entry("text", 0, signature="s1"),
    ]
    turns = turns_of(USER, assistant("so", reasoning_details=details), USER)
    assert turns[1][1][:2] == [
        {"type": "thinking", "thinking": "hm", "signature": "s0"},
        {"type": "thinking", "thinking": "next", "signature": "s1"},
    ]


@pytest.mark.parametrize("details", [None, 7, "x", {}, [7], [{}], [entry("text", 0, text=7)]])
def test_odd_details_are_left_out(details: Any) -> None:
    assert turns_of(USER, assistant("so", reasoning_details=details))[1][1] == [text("so")]


def test_unread_blocks_go_back_between_text_and_calls() -> None:
    use = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}}
    message = assistant(
        "Searching.",
        ToolCall("a", "f", ""),
        anthropic_blocks=[{"index": 1, "block": use}, {"index": 2}, 7],
    )
    assert turns_of(USER, message, result("a", "1"))[1][1] == [
        text("Searching."),
        use,
        {"type": "tool_use", "id": "a", "name": "f", "input": {}},
    ]


# --- tools ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("choice", "parallel", "sent"),
    [
        (None, None, None),
        (None, True, None),
        (None, False, {"type": "auto", "disable_parallel_tool_use": True}),
        (ToolChoice(ToolChoiceMode.AUTO), None, {"type": "auto"}),
        (ToolChoice(ToolChoiceMode.NONE), None, {"type": "none"}),
        (ToolChoice(ToolChoiceMode.NONE), False, {"type": "none"}),
        (ToolChoice(ToolChoiceMode.REQUIRED), None, {"type": "any"}),
        (
            ToolChoice(ToolChoiceMode.NAMED, "f"),
            False,
            {"type": "tool", "name": "f", "disable_parallel_tool_use": True},
        ),
        (ToolChoice(ToolChoiceMode.OPAQUE, opaque={"type": "any"}), None, {"type": "any"}),
    ],
)
def test_tool_choice(choice: Any, parallel: bool | None, sent: Any) -> None:
    fields = fields_of(tools=(F,), tool_choice=choice, parallel_tool_calls=parallel)
    assert fields == {"tools": [F_SENT], **({"tool_choice": sent} if sent else {})}


@pytest.mark.parametrize("mode", [ToolChoiceMode.AUTO, ToolChoiceMode.NONE])
def test_tool_choice_says_nothing_without_tools(mode: ToolChoiceMode) -> None:
    assert fields_of(tool_choice=ToolChoice(mode), parallel_tool_calls=False) == {}


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        (
            {
                "type": "function",
                "function": {"name": "f", "parameters": {"properties": {}}, "strict": True},
                "cache_control": HOUR,
            },
            {
                "name": "f",
                "input_schema": {
                    "type": "object",
                    "properties": {},
                    "additionalProperties": False,
                },
                "strict": True,
                "cache_control": HOUR,
            },
        ),
        (
            {"type": "function", "function": {"name": "f", "description": "d", "x": 1}},
            {"name": "f", "description": "d", "input_schema": {"type": "object", "properties": {}}},
        ),
        ({"name": "f", "input_schema": {}}, {"name": "f", "input_schema": {}}),
        (
            {"type": "web_search_20250305", "name": "web_search"},
            {"type": "web_search_20250305", "name": "web_search"},
        ),
        ({"type": "mcp_toolset", "mcp_server_name": "s"},) * 2,
    ],
)
def test_opaque_tools(given: dict[str, Any], sent: dict[str, Any]) -> None:
    assert fields_of(tools=(Tool("", opaque=given),)) == {"tools": [sent]}


def test_schema_without_a_type_is_an_object() -> None:
    fields = fields_of(tools=(Tool("f", parameters_json=b'{"properties":{}}'),))
    assert fields["tools"][0]["input_schema"] == {"type": "object", "properties": {}}


@pytest.mark.parametrize("schema", [b"{", b"[]"])
def test_schema_that_is_none(schema: bytes) -> None:
    with pytest.raises(InvalidRequest, match=r"tools\[0\]\.parameters"):
        body_of(tools=(Tool("f", parameters_json=schema),))
    with pytest.raises(InvalidRequest, match=r"json_schema\.schema"):
        body_of(response_format=ResponseFormat("json_schema", schema_json=schema))


# --- thinking and sampling ------------------------------------------------------------------

ADAPTIVE = {"type": "adaptive", "display": "summarized"}


def manual(budget: int) -> dict[str, Any]:
    return {"type": "enabled", "budget_tokens": budget}


@pytest.mark.parametrize(
    ("wish", "thinking", "effort"),
    [
        (ReasoningOptions(), None, None),
        (ReasoningOptions("none"), {"type": "disabled"}, None),
        (ReasoningOptions(budget_tokens=0), {"type": "disabled"}, None),
        (ReasoningOptions("minimal"), ADAPTIVE, "low"),
        (ReasoningOptions("low"), ADAPTIVE, "low"),
        (ReasoningOptions("xhigh"), ADAPTIVE, "xhigh"),
        (ReasoningOptions("low", 9000), ADAPTIVE, "low"),
        (ReasoningOptions(budget_tokens=100), ADAPTIVE, "low"),
        (ReasoningOptions(budget_tokens=2049), ADAPTIVE, "medium"),
        (ReasoningOptions(budget_tokens=20_000), ADAPTIVE, "high"),
    ],
)
def test_adaptive_thinking(wish: ReasoningOptions, thinking: Any, effort: str | None) -> None:
    body = body_of(reasoning=wish)
    assert body.get("thinking") == thinking
    assert body.get("output_config") == ({"effort": effort} if effort else None)
    assert body["max_tokens"] == 4096


@pytest.mark.parametrize(
    ("wish", "limit", "thinking", "max_tokens"),
    [
        (ReasoningOptions(), None, None, 4096),
        (ReasoningOptions("none"), None, None, 4096),
        (ReasoningOptions("minimal"), None, manual(1024), 5120),
        (ReasoningOptions("medium"), None, manual(8192), 12288),
        (ReasoningOptions("odd"), None, manual(8192), 12288),
        (ReasoningOptions("low", 5000), None, manual(5000), 9096),
        (ReasoningOptions(budget_tokens=10), None, manual(1024), 5120),
        (ReasoningOptions("high"), 20_000, manual(16384), 20_000),
        (ReasoningOptions("high"), 2000, manual(1999), 2000),
        (ReasoningOptions("low"), 1025, manual(1024), 1025),
        (ReasoningOptions("low"), 1024, None, 1024),
    ],
)
def test_manual_thinking(
    wish: ReasoningOptions, limit: int | None, thinking: Any, max_tokens: int
) -> None:
    body = body_of(
        reasoning=wish, sampling=Sampling(max_output_tokens=limit), model="claude-haiku-4-5"
    )
    assert body.get("thinking") == thinking
    assert body["max_tokens"] == max_tokens
    assert "output_config" not in body


@pytest.mark.parametrize(
    ("extra", "thinking", "effort", "max_tokens"),
    [
        ({"thinking": manual(2000)}, manual(2000), None, 6096),
        ({"thinking": {"type": "adaptive"}}, {"type": "adaptive"}, None, 4096),
        ({"thinking": {"type": "enabled"}}, ADAPTIVE, "medium", 4096),
        ({"reasoning": {"effort": "high"}}, ADAPTIVE, "high", 4096),
        ({"reasoning": {"max_tokens": 3000}}, ADAPTIVE, "medium", 4096),
        ({"reasoning": {"enabled": False}}, {"type": "disabled"}, None, 4096),
        ({"reasoning": {"enabled": True}}, ADAPTIVE, "medium", 4096),
        ({"reasoning": 7, "thinking": 7}, None, None, 4096),
    ],
)
def test_wishes_in_extra_fields(
    extra: Any, thinking: Any, effort: str | None, max_tokens: int
) -> None:
    body = body_of(extra=extra)
    assert body.get("thinking") == thinking
    assert body.get("output_config") == ({"effort": effort} if effort else None)
    assert body["max_tokens"] == max_tokens


def test_reasoning_that_nobody_wants_to_hear_is_not_sent() -> None:
    body = body_of(reasoning=ReasoningOptions("low"), want_reasoning=False)
    assert body["thinking"] == {"type": "adaptive", "display": "omitted"}


def test_models_that_always_think_are_not_told_to_stop() -> None:
    assert fields_of(reasoning=ReasoningOptions("none"), model="claude-fable-5") == {}


def test_style_none_says_nothing() -> None:
    quirks = AnthropicQuirks(thinking="none")
    assert fields_of(reasoning=ReasoningOptions("high"), quirks=quirks) == {}


def test_manual_thinking_rests_in_a_tool_loop_without_it() -> None:
    loop = (USER, assistant("", ToolCall("a", "f", "")), result("a", "1"))
    wish: dict[str, Any] = {"reasoning": ReasoningOptions("low"), "model": "claude-haiku-4-5"}
    assert "thinking" not in body_of(*loop, **wish)
    assert "thinking" not in body_of(USER, assistant("So"), **wish), "a prefill"
    assert body_of(*loop, assistant("It is 1."), USER, **wish)["thinking"] == manual(2048)
    details = [entry("text", 0, text="hm", signature="s")]
    signed = assistant("", ToolCall("a", "f", ""), reasoning_details=details)
    assert body_of(USER, signed, result("a", "1"), **wish)["thinking"] == manual(2048)


@pytest.mark.parametrize("model", ["claude-haiku-4-5", "claude-sonnet-4-6"])
@pytest.mark.parametrize(
    "choice",
    [
        ToolChoice(ToolChoiceMode.REQUIRED),
        ToolChoice(ToolChoiceMode.NAMED, "f"),
        ToolChoice(ToolChoiceMode.OPAQUE, opaque={"type": "any"}),
    ],
)
@pytest.mark.parametrize(
    "wish",
    [
        {"reasoning": ReasoningOptions("low")},
        {"extra": {"thinking": manual(2000)}},
        {"extra": {"thinking": {"type": "adaptive"}}},
    ],
)
def test_no_thinking_goes_before_a_forced_call(model: str, choice: ToolChoice, wish: Any) -> None:
    forced: dict[str, Any] = {"tools": (F,), "tool_choice": choice, "model": model}
    sampling = Sampling(temperature=0.5)
    assert body_of(sampling=sampling, **forced, **wish) == body_of(sampling=sampling, **forced)
    off = {"thinking": {"type": "disabled"}}
    assert body_of(extra=off, **forced)["thinking"] == {"type": "disabled"}


@pytest.mark.parametrize(
    ("sampling", "plain", "thinking"),
    [
        (Sampling(temperature=0.3), {"temperature": 0.3}, {}),
        (Sampling(temperature=0.0), {"temperature": 0.0}, {}),
        (Sampling(temperature=1.7), {"temperature": 1.0}, {}),
        (Sampling(top_p=0.9), {"top_p": 0.9}, {}),
        (Sampling(top_p=0.97), {"top_p": 0.97}, {"top_p": 0.97}),
        (Sampling(temperature=0.3, top_p=0.97), {"temperature": 0.3}, {"top_p": 0.97}),
        (Sampling(top_k=5), {"top_k": 5}, {}),
        (Sampling(top_k=-1), {}, {}),
        (Sampling(top_k=0), {}, {}),
    ],
)
def test_sampling(sampling: Sampling, plain: Any, thinking: Any) -> None:
    names = ("temperature", "top_p", "top_k")

    def sent(**more: Any) -> dict[str, Any]:
        body = body_of(sampling=sampling, **more)
        return {name: body[name] for name in names if name in body}

    assert sent() == plain
    assert sent(reasoning=ReasoningOptions("none")) == plain
    assert sent(reasoning=ReasoningOptions("low")) == thinking
    assert sent(reasoning=ReasoningOptions("low"), model="claude-haiku-4-5") == thinking
    assert sent(model="claude-opus-4-7") == {}


# --- what cannot be said --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "feature"),
    [
        ({"sampling": Sampling(choices=2)}, "n"),
        ({"sampling": Sampling(presence_penalty=0.5)}, "presence_penalty"),
        ({"sampling": Sampling(frequency_penalty=-1.0)}, "frequency_penalty"),
        ({"sampling": Sampling(logprobs=True)}, "logprobs"),
        ({"sampling": Sampling(stop=("END", " \n"))}, "a stop of white space"),
        ({"sampling": Sampling(top_logprobs=3)}, "top_logprobs"),
        ({"response_format": ResponseFormat("json_object")}, "response_format json_object"),
        ({"response_format": ResponseFormat("json_schema")}, "json_schema without a schema"),
        ({"tools": (Tool("", opaque={"type": "custom", "custom": {}}),)}, "tools of type custom"),
        ({"tools": (Tool("", opaque={"type": "file_search"}),)}, "tools of type file_search"),
        (
            {
                "tools": (F,),
                "tool_choice": ToolChoice(ToolChoiceMode.OPAQUE, opaque={"type": "allowed_tools"}),
            },
            "tool_choice allowed_tools",
        ),
        ({"extra": {"logit_bias": {"5": 1}}}, "logit_bias"),
        ({"extra": {"prediction": {"type": "content"}}}, "prediction"),
        ({"extra": {"functions": [{"name": "f"}]}}, "functions"),
        ({"extra": {"function_call": {"name": "f"}}}, "function_call"),
        ({"extra": {"modalities": ["text", "audio"]}}, "modalities"),
        ({"extra": {"audio": {"voice": "x"}}}, "audio"),
        ({"extra": {"web_search_options": {"search_context_size": "low"}}}, "web_search_options"),
    ],
)
def test_refused_by_name(more: Any, feature: str) -> None:
    with pytest.raises(UnsupportedFeature) as caught:
        body_of(**more)
    assert caught.value.feature == feature
    assert "anthropic" in str(caught.value)


def test_custom_calls_of_the_past_are_refused() -> None:
    with pytest.raises(UnsupportedFeature, match="custom tool calls"):
        body_of(USER, assistant("", ToolCall("a", "f", "x", kind="custom")))


@pytest.mark.parametrize(
    ("feature", "request_part"),
    [
        ("image parts", {"messages": ImagePart(url="https://e.com/a")}),
        ("file parts", {"messages": FilePart(file_id="f")}),
        ("json_schema", {"response_format": ResponseFormat("json_schema", schema_json=SCHEMA)}),
        ("tools", {"tools": (F,)}),
    ],
)
def test_row_refuses(feature: str, request_part: dict[str, Any]) -> None:
    quirks = AnthropicQuirks(refuses=frozenset({feature}))
    part = request_part.pop("messages", None)
    messages = (Message(Role.USER, (part,)),) if part else ()
    body_of(*messages, **request_part)
    with pytest.raises(UnsupportedFeature) as caught:
        body_of(*messages, quirks=quirks, **request_part)
    assert caught.value.feature == feature


def test_what_says_nothing_is_neither_refused_nor_sent() -> None:
    fields = fields_of(
        Message(Role.USER, (TextPart("hi"),), name="Ann", extra={"x": 1}, reasoning="r"),
        sampling=Sampling(
            choices=1,
            presence_penalty=0.0,
            frequency_penalty=0.0,
            logprobs=False,
            top_logprobs=0,
            seed=7,
        ),
        parallel_tool_calls=True,
        response_format=ResponseFormat("text"),
        service_tier="flex",
        prompt_cache_key="k",
        extra={
            "logit_bias": {},
            "modalities": ["text"],
            "function_call": "auto",
            "functions": [],
            "metadata": {"a": "b"},
            "store": True,
            "verbosity": "low",
            "stream_options": {"include_usage": True},
            "safetySettings": [],
            "min_p": 0.1,
        },
    )
    assert fields == {}


def test_own_extra_fields_are_passed_on() -> None:
    extra = {
        "context_management": {"edits": []},
        "container": "c_1",
        "mcp_servers": [{"name": "s"}],
        "inference_geo": "eu",
        "speed": "fast",
        "output_config": {"task_budget": 5},
    }
    assert fields_of(extra=extra, reasoning=ReasoningOptions("low")) == {
        **extra,
        "output_config": {"task_budget": 5, "effort": "low"},
        "thinking": ADAPTIVE,
    }


# --- prompt caching -------------------------------------------------------------------------

LONG_TALK = (
    Message(Role.SYSTEM, (TextPart("a"),)),
    Message(Role.SYSTEM, (TextPart("b"),)),
    user("1"),
    assistant("x", ToolCall("c", "f", "")),
    result("c", "2"),
    user("3"),
    assistant("y"),
    user("4"),
)


def marks_of(*messages: Message, **more: Any) -> list[str]:
    """Where the breakpoints stand, in words."""
    body = body_of(*messages, **more)
    system = body.get("system", [])
    found = [f"tool {tool['name']}" for tool in body.get("tools", ()) if "cache_control" in tool]
    if isinstance(system, list):
        found += [f"system {part['text']}" for part in system if "cache_control" in part]
    for turn in body["messages"]:
        for part in turn["content"]:
            if "cache_control" in part:
                found.append(f"{turn['role']} {part.get('text') or part['type']}")
    return found


def test_auto_marks_the_ends_of_what_stays() -> None:
    more = {"tools": (F, Tool("g")), "prompt_cache": "auto"}
    assert marks_of(*LONG_TALK, **more) == ["tool g", "system b", "user 3", "user 4"]
    assert marks_of(*LONG_TALK[:5], **more) == ["tool g", "system b", "user 1", "user tool_result"]
    assert marks_of(USER, prompt_cache="auto") == ["user hi"]
    assert body_of(USER, prompt_cache="auto")["messages"][0]["content"] == [
        {**text("hi"), "cache_control": MARK}
    ]


@pytest.mark.parametrize(
    ("row", "asked", "is_marked"),
    [
        ("off", "", False),
        ("off", "off", False),
        ("off", "auto", True),
        ("auto", "", True),
        ("auto", "off", False),
        ("auto", "auto", True),
    ],
)
def test_request_wins_over_the_row(row: Any, asked: Any, is_marked: bool) -> None:
    quirks = AnthropicQuirks(cache=row)
    assert bool(marks_of(*LONG_TALK, quirks=quirks, prompt_cache=asked)) == is_marked


def test_nothing_is_marked_unless_told() -> None:
    assert marks_of(*LONG_TALK, tools=(F,)) == []
    assert ROW.cache == "off"


CACHED = OpaquePart("openai_chat", {"type": "text", "text": "long", "cache_control": HOUR})


@pytest.mark.parametrize("asked", ["", "auto", "off"])
@pytest.mark.parametrize(
    ("messages", "more", "expected"),
    [
        ((Message(Role.SYSTEM, (CACHED, TextPart("b"))), USER), {}, ["system long"]),
        ((Message(Role.USER, (CACHED, TextPart("b"))),), {}, ["user long"]),
        ((user("a", cache_control=HOUR), assistant("x"), USER), {}, ["user a"]),
        ((USER, assistant("x", cache_control=HOUR), USER), {}, ["assistant x"]),
        ((USER, Message(Role.TOOL, (CACHED,), tool_call_id="a")), {}, ["user tool_result"]),
        ((USER, result("a", "x", cache_control=HOUR)), {}, ["user tool_result"]),
        (
            (USER, assistant("", ToolCall("a", "f", "", extra={"cache_control": HOUR}))),
            {},
            ["assistant tool_use"],
        ),
        (
            (USER,),
            {
                "tools": (
                    Tool(
                        "",
                        opaque={
                            "type": "function",
                            "function": {"name": "f"},
                            "cache_control": HOUR,
                        },
                    ),
                    Tool("g"),
                )
            },
            ["tool f"],
        ),
        ((USER,), {"extra": {"cache_control": HOUR}}, []),
    ],
)
def test_marks_of_the_client_are_kept_and_none_added(
    messages: tuple[Message, ...], more: dict[str, Any], expected: list[str], asked: Any
) -> None:
    assert marks_of(*messages, prompt_cache=asked, **more) == expected
    assert orjson.dumps(HOUR) in orjson.dumps(body_of(*messages, prompt_cache=asked, **more))


def test_marks_beside_known_parts_and_tools() -> None:
    image = ImagePart(url="https://h/i.png", cache_control=HOUR)
    said = Message(Role.USER, (TextPart("a", MARK), image))
    tool = Tool("f", parameters_json=SCHEMA, cache_control=MARK)
    body = body_of(said, tools=(tool,), prompt_cache="auto")
    assert body["messages"][0]["content"] == [
        {**text("a"), "cache_control": MARK},
        {
            "type": "image",
            "source": {"type": "url", "url": "https://h/i.png"},
            "cache_control": HOUR,
        },
    ]
    assert body["tools"] == [{**F_SENT, "cache_control": MARK}]


def test_mark_in_a_result_belongs_to_the_whole_of_it() -> None:
    (turn,) = turns_of(Message(Role.TOOL, (CACHED,), tool_call_id="a"))
    assert turn[1] == [
        {
            "type": "tool_result",
            "tool_use_id": "a",
            "cache_control": HOUR,
            "content": "long",
        }
    ]


def test_thinking_is_never_marked() -> None:
    details = [entry("text", 0, text="hm", signature="s")]
    message = Message(Role.ASSISTANT, extra={"reasoning_details": details, "cache_control": HOUR})
    assert marks_of(USER, message) == []
