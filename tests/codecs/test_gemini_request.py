"""Requests of the Gemini wire: every field, and every rule of what it cannot say."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from relay.codecs.gemini import GeminiCodec
from relay.codecs.gemini_models import generation, thinking_style
from relay.codecs.gemini_quirks import GeminiQuirks
from relay.codecs.gemini_request import UNSIGNED
from relay.codecs.registry import BUILDERS
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

HELLO = Message(Role.USER, (TextPart("hi"),))
SCHEMA = b'{"type":"object","properties":{"b":{},"a":{}}}'
TOOLS = (Tool("f", "does f", SCHEMA),)
CALL = Message(Role.ASSISTANT, tool_calls=(ToolCall("c1", "f", '{"a": 1}'),))
OLD, NEW = "gemini-2.5-flash", "gemini-3.5-flash"
DEFAULT = GeminiQuirks()


def encode(
    quirks: GeminiQuirks = DEFAULT, model: str = "gemini-2.0-flash", **fields: Any
) -> dict[str, Any]:
    """The body sent for a request with these fields; by default to a model without thinking."""
    request = GenerateRequest("alias", fields.pop("messages", (HELLO,)), **fields)
    body = orjson.loads(GeminiCodec(quirks, "p").encode_request(request, model).body)
    assert isinstance(body, dict)
    return body


def contents(*messages: Message, model: str = "gemini-2.0-flash") -> list[dict[str, Any]]:
    sent: list[dict[str, Any]] = encode(messages=messages, model=model)["contents"]
    return sent


def user(*parts: Part) -> Message:
    return Message(Role.USER, parts)


def result(call_id: str, text: str, *more: Part) -> Message:
    return Message(Role.TOOL, (TextPart(text), *more), tool_call_id=call_id)


# --- the whole ------------------------------------------------------------------------------


def test_smallest_request() -> None:
    encoded = GeminiCodec().encode_request(GenerateRequest("a", (HELLO,)), "gemini-2.0-flash")
    assert encoded.path == "/v1beta/models/gemini-2.0-flash:streamGenerateContent?alt=sse"
    assert dict(encoded.headers) == {
        "content-type": "application/json",
        "accept": "text/event-stream",
    }
    assert orjson.loads(encoded.body) == {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}


def test_every_field() -> None:
    body = encode(
        model=NEW,
        messages=(Message(Role.SYSTEM, (TextPart("be kind"),)), HELLO),
        tools=(*TOOLS, Tool("g", strict=True), Tool("", opaque={"googleSearch": {}})),
        tool_choice=ToolChoice(ToolChoiceMode.NAMED, "f"),
        parallel_tool_calls=True,
        response_format=ResponseFormat("json_schema", "n", "d", SCHEMA, strict=True),
        sampling=Sampling(0.0, 0.5, 7, 100, ("x", "y"), 3, 2, 0.1, -0.1, True, 4),
        reasoning=ReasoningOptions("low"),
        service_tier="priority",
        user="u",
        prompt_cache_key="k",
        extra={
            "safetySettings": [{"category": "C", "threshold": "BLOCK_NONE"}],
            "cachedContent": "cachedContents/1",
            "labels": {"team": "voice"},
            "generationConfig": {"mediaResolution": "MEDIA_RESOLUTION_LOW", "temperature": 2},
            "toolConfig": {"retrievalConfig": {"languageCode": "de"}},
            "metadata": {"a": "b"},
            "store": True,
            "verbosity": "low",
            "stream_options": {},
            "call": {},
            "logit_bias": {},
            "modalities": ["text"],
            "function_call": "auto",
        },
    )
    assert body == {
        "safetySettings": [{"category": "C", "threshold": "BLOCK_NONE"}],
        "cachedContent": "cachedContents/1",
        "labels": {"team": "voice"},
        "contents": [{"role": "user", "parts": [{"text": "hi"}]}],
        "systemInstruction": {"parts": [{"text": "be kind"}]},
        "tools": [
            {
                "functionDeclarations": [
                    {
                        "name": "f",
                        "description": "does f",
                        "parametersJsonSchema": orjson.loads(SCHEMA),
                    },
                    {"name": "g"},
                ]
            },
            {"googleSearch": {}},
        ],
        "toolConfig": {
            "retrievalConfig": {"languageCode": "de"},
            "functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["f"]},
        },
        "generationConfig": {
            "mediaResolution": "MEDIA_RESOLUTION_LOW",
            "temperature": 0.0,
            "topP": 0.5,
            "topK": 7,
            "maxOutputTokens": 100,
            "stopSequences": ["x", "y"],
            "seed": 3,
            "candidateCount": 2,
            "presencePenalty": 0.1,
            "frequencyPenalty": -0.1,
            "responseLogprobs": True,
            "logprobs": 4,
            "thinkingConfig": {"includeThoughts": True, "thinkingLevel": "low"},
            "responseMimeType": "application/json",
            "responseJsonSchema": orjson.loads(SCHEMA),
        },
        "serviceTier": "priority",
    }


def test_what_says_nothing_is_not_sent() -> None:
    body = encode(
        sampling=Sampling(
            choices=1, logprobs=False, presence_penalty=0.0, frequency_penalty=0.0, top_k=-1
        ),
        response_format=ResponseFormat("text"),
        tool_choice=ToolChoice(ToolChoiceMode.AUTO),
        parallel_tool_calls=False,  # without tools
        service_tier="auto",
    )
    assert set(body) == {"contents"}


def test_schemas_keep_the_order_of_their_keys() -> None:
    request = GenerateRequest("a", (HELLO,), TOOLS)
    assert SCHEMA in GeminiCodec().encode_request(request, "m").body


def test_seeds_are_cut_to_what_the_wire_takes() -> None:
    assert encode(sampling=Sampling(seed=2**40 + 5))["generationConfig"]["seed"] == 5
    assert encode(sampling=Sampling(seed=-1))["generationConfig"]["seed"] == 2**31 - 1


def test_text_that_is_no_unicode_is_the_clients_fault() -> None:
    with pytest.raises(InvalidRequest):
        encode(messages=(user(TextPart("\ud800")),))


@pytest.mark.parametrize("name", ["generationConfig", "toolConfig"])
def test_native_fields_must_be_objects(name: str) -> None:
    with pytest.raises(InvalidRequest, match=name):
        encode(extra={name: [1]})


# --- the path -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "segment"),
    [
        ("models/gemini-2.5-flash", "gemini-2.5-flash"),
        ("../../v1/files", "..%2F..%2Fv1%2Ffiles"),
        ("m:generateContent?key=x&", "m%3AgenerateContent%3Fkey%3Dx%26"),
        ("m#x", "m%23x"),
        ("m%2Fx", "m%252Fx"),
        ("m x\r\nHost: h", "m%20x%0D%0AHost%3A%20h"),
        ("größe", "gr%C3%B6%C3%9Fe"),
        ("\ud800", "%3F"),
        ("{model}", "%7Bmodel%7D"),
    ],
)
def test_model_stays_one_segment_of_the_path(model: str, segment: str) -> None:
    encoded = GeminiCodec().encode_request(GenerateRequest("a", (HELLO,)), model)
    assert encoded.path == f"/v1beta/models/{segment}:streamGenerateContent?alt=sse"


@pytest.mark.parametrize("model", ["", ".", "..", "models/.."])
def test_model_of_dots_alone_is_refused(model: str) -> None:
    with pytest.raises(InvalidRequest, match="model"):
        GeminiCodec().encode_request(GenerateRequest("a", (HELLO,)), model)


def test_path_of_vertex() -> None:
    template = "/v1/projects/P/locations/L/publishers/google/models/{model}:streamGenerateContent"
    codec = BUILDERS["gemini"]({"path": f"{template}?alt=sse"}, "vertex")()
    encoded = codec.encode_request(GenerateRequest("a", (HELLO,)), "a/b")
    assert encoded.path == (
        "/v1/projects/P/locations/L/publishers/google/models/a%2Fb:streamGenerateContent?alt=sse"
    )


def test_a_version_of_a_model_stands_as_it_is() -> None:
    encoded = GeminiCodec().encode_request(GenerateRequest("a", (HELLO,)), "text@001")
    assert "/models/text@001:" in encoded.path


@pytest.mark.parametrize(
    ("tier", "header"),
    [("priority", "priority"), ("flex", "flex"), ("standard", None), ("auto", None), ("", None)],
)
def test_tier_in_a_header_too(tier: str, header: str | None) -> None:
    quirks = {"tier_header": "X-Vertex-AI-LLM-Shared-Request-Type"}
    asked = GenerateRequest("a", (HELLO,), service_tier=tier)
    encoded = BUILDERS["gemini"](quirks, "vertex")().encode_request(asked, "m")
    assert dict(encoded.headers).get("x-vertex-ai-llm-shared-request-type") == header
    plain = GeminiCodec().encode_request(asked, "m")
    assert encoded.body == plain.body
    assert "x-vertex-ai-llm-shared-request-type" not in dict(plain.headers)


# --- messages -------------------------------------------------------------------------------


def test_instructions_go_together_wherever_they_stand() -> None:
    body = encode(
        messages=(
            Message(Role.SYSTEM, (TextPart("one"),)),
            HELLO,
            Message(Role.DEVELOPER, (TextPart("two"), TextPart(""))),
        )
    )
    assert body["systemInstruction"] == {"parts": [{"text": "one"}, {"text": "two"}]}
    assert body["contents"] == [{"role": "user", "parts": [{"text": "hi"}]}]


def test_an_agent_that_speaks_first() -> None:
    body = encode(messages=(Message(Role.SYSTEM, (TextPart("greet"),)),))
    assert body["contents"] == [{"role": "user", "parts": [{"text": "."}]}]


def test_neighbours_of_one_role_are_merged_and_empty_ones_left_out() -> None:
    messages = (
        HELLO,
        user(TextPart("a"), TextPart("b")),
        Message(Role.ASSISTANT),
        user(TextPart("")),
        Message(Role.ASSISTANT, (TextPart("c"),)),
        Message(Role.ASSISTANT, (RefusalPart("no"),)),
    )
    assert contents(*messages) == [
        {"role": "user", "parts": [{"text": "hi"}, {"text": "a"}, {"text": "b"}]},
        {"role": "model", "parts": [{"text": "c"}, {"text": "no"}]},
    ]


def test_content_parts() -> None:
    parts = (
        TextPart("t"),
        ImagePart(url="https://h/i.PNG?x=1.txt", detail="low"),
        ImagePart(url="https://h/i"),
        ImagePart(url="gs://b/i", media_type="image/webp"),
        ImagePart(data_base64="AA==", media_type="image/png"),
        AudioPart("AA==", "wav"),
        AudioPart("AA==", "pcm16"),
        FilePart(file_id="https://generativelanguage.googleapis.com/v1beta/files/f"),
        FilePart(file_id="gs://b/f.pdf", media_type="application/pdf"),
        FilePart(filename="a.pdf", data_base64="AA==", media_type="application/pdf"),
        OpaquePart("gemini", {"videoMetadata": {"fps": 1}, "fileData": {"fileUri": "u"}}),
    )
    assert contents(user(*parts))[0]["parts"] == [
        {"text": "t"},
        {"fileData": {"mimeType": "image/png", "fileUri": "https://h/i.PNG?x=1.txt"}},
        {"fileData": {"fileUri": "https://h/i"}},
        {"fileData": {"mimeType": "image/webp", "fileUri": "gs://b/i"}},
        {"inlineData": {"mimeType": "image/png", "data": "AA=="}},
        {"inlineData": {"mimeType": "audio/wav", "data": "AA=="}},
        {"inlineData": {"mimeType": "audio/pcm", "data": "AA=="}},
        {"fileData": {"fileUri": "https://generativelanguage.googleapis.com/v1beta/files/f"}},
        {"fileData": {"mimeType": "application/pdf", "fileUri": "gs://b/f.pdf"}},
        {"inlineData": {"mimeType": "application/pdf", "data": "AA=="}},
        {"videoMetadata": {"fps": 1}, "fileData": {"fileUri": "u"}},
    ]


@pytest.mark.parametrize(
    ("message", "feature"),
    [
        (user(OpaquePart("openai_chat", {"type": "x"})), "a openai_chat content part"),
        (user(FilePart(file_id="file-1")), "a file by an id that is no URI"),
        (Message(Role.SYSTEM, (ImagePart("u"),)), "messages[0]: instructions other than text"),
        (
            Message(Role.TOOL, (TextPart("r"),), name="f"),
            "messages[0]: a result of the older `functions`",
        ),
        (
            Message(Role.ASSISTANT, tool_calls=(ToolCall("c", "f", "x", kind="custom"),)),
            "custom tool calls",
        ),
    ],
)
def test_messages_refused_by_name(message: Message, feature: str) -> None:
    with pytest.raises(UnsupportedFeature) as caught:
        encode(messages=(message,))
    assert caught.value.feature == feature


def test_a_file_without_its_type_is_the_clients_fault() -> None:
    with pytest.raises(InvalidRequest) as caught:
        encode(messages=(HELLO, user(TextPart("t"), FilePart(data_base64="AA=="))))
    assert caught.value.field == "messages[1].content[1]"


# --- calls and their results ----------------------------------------------------------------


def test_results_of_a_parallel_turn() -> None:
    calls = Message(
        Role.ASSISTANT,
        (TextPart("let me see"),),
        tool_calls=(ToolCall("c1", "f", '{"a": 1}'), ToolCall("c2", "g", "")),
    )
    sent = contents(
        HELLO,
        calls,
        result("c2", "[1]", ImagePart(data_base64="AA==", media_type="image/png")),
        Message(Role.SYSTEM, (TextPart("hurry"),)),
        result("c1", '{"x": true}'),
        user(TextPart("and?")),
    )
    assert sent[1:] == [
        {
            "role": "model",
            "parts": [
                {"text": "let me see"},
                {"functionCall": {"id": "c1", "name": "f", "args": {"a": 1}}},
                {"functionCall": {"id": "c2", "name": "g", "args": {}}},
            ],
        },
        {
            "role": "user",
            "parts": [
                {"functionResponse": {"id": "c1", "name": "f", "response": {"x": True}}},
                {"functionResponse": {"id": "c2", "name": "g", "response": {"result": "[1]"}}},
                {"inlineData": {"mimeType": "image/png", "data": "AA=="}},
                {"text": "and?"},
            ],
        },
    ]


@pytest.mark.parametrize(
    ("text", "response"),
    [
        ("sunny", {"result": "sunny"}),
        ("", {}),
        ("null", {"result": "null"}),
        ('{"a": NaN}', {"result": '{"a": NaN}'}),
        (' {"a": 1}\n', {"a": 1}),
    ],
)
def test_results_are_objects(text: str, response: object) -> None:
    sent = contents(HELLO, CALL, result("c1", text))
    assert sent[-1]["parts"][0]["functionResponse"]["response"] == response


@pytest.mark.parametrize(("arguments", "args"), [("", {}), ('{"a"', {"arguments": '{"a"'})])
def test_arguments_are_objects(arguments: str, args: object) -> None:
    message = Message(Role.ASSISTANT, tool_calls=(ToolCall("c1", "f", arguments),))
    assert contents(HELLO, message)[1]["parts"][0]["functionCall"]["args"] == args


@pytest.mark.parametrize("messages", [(result("c9", "r"),), (HELLO, result("c1", "r"), CALL)])
def test_a_result_without_its_call_is_named(messages: tuple[Message, ...]) -> None:
    at = next(at for at, message in enumerate(messages) if message.role is Role.TOOL)
    with pytest.raises(InvalidRequest, match="names no earlier tool call") as caught:
        encode(messages=messages)
    assert caught.value.field == f"messages[{at}].tool_call_id"


def test_a_reused_id_means_the_latest_call() -> None:
    again = Message(Role.ASSISTANT, tool_calls=(ToolCall("c1", "g", ""),))
    sent = contents(HELLO, CALL, result("c1", "1"), again, result("c1", "2"))
    names = [
        part["functionResponse"]["name"]
        for content in sent
        for part in content["parts"]
        if "functionResponse" in part
    ]
    assert names == ["f", "g"]


def test_without_call_ids() -> None:
    body = encode(GeminiQuirks(has_call_ids=False), messages=(HELLO, CALL, result("c1", "r")))
    assert body["contents"][1]["parts"] == [{"functionCall": {"name": "f", "args": {"a": 1}}}]
    assert body["contents"][2]["parts"] == [
        {"functionResponse": {"name": "f", "response": {"result": "r"}}}
    ]


# --- state of earlier turns -----------------------------------------------------------------


def google(signature: str) -> dict[str, Any]:
    return {"extra_content": {"google": {"thought_signature": signature}}}


def test_signatures_go_back_where_they_were() -> None:
    message = Message(
        Role.ASSISTANT,
        (TextPart("a"), TextPart("b")),
        tool_calls=(ToolCall("c1", "f", "", extra=google("S1")), ToolCall("c2", "f", "")),
        extra=google("ST"),
        reasoning="not sent",
    )
    assert contents(HELLO, message, model=NEW)[1]["parts"] == [
        {"text": "a"},
        {"text": "b", "thoughtSignature": "ST"},
        {"functionCall": {"id": "c1", "name": "f", "args": {}}, "thoughtSignature": "S1"},
        {"functionCall": {"id": "c2", "name": "f", "args": {}}},
    ]


def test_a_signature_without_text_goes_back_in_an_empty_one_at_the_end() -> None:
    message = Message(
        Role.ASSISTANT, tool_calls=(ToolCall("c1", "f", "", extra=google("S1")),), extra=google("S")
    )
    assert contents(HELLO, message)[1]["parts"][1:] == [{"text": "", "thoughtSignature": "S"}]


def test_calls_of_other_models_are_marked_for_generation_3() -> None:
    """400 otherwise: a conversation may move here from another provider in the middle."""
    calls = (ToolCall("c1", "f", ""), ToolCall("c2", "f", ""))
    message = Message(Role.ASSISTANT, tool_calls=calls)

    def signatures(model: str, quirks: GeminiQuirks = DEFAULT) -> list[str | None]:
        body = encode(quirks, model, messages=(HELLO, message))
        return [part.get("thoughtSignature") for part in body["contents"][1]["parts"]]

    assert signatures(NEW) == [UNSIGNED, None]
    assert signatures(OLD) == [None, None]
    assert signatures("tuned", GeminiQuirks(thinking="level")) == [UNSIGNED, None]


def test_opaque_parts_and_reasoning_of_this_wire() -> None:
    code = {"executableCode": {"code": "1"}, "thoughtSignature": "SC"}
    ours, theirs = {"format": "google-gemini-v1"}, {"format": "anthropic-claude-v1"}
    message = Message(
        Role.ASSISTANT,
        (TextPart("a"),),
        tool_calls=(ToolCall("c1", "f", ""),),
        extra={
            "gemini_parts": [{"index": 0, "part": code}, {"part": 7}, 8],
            "reasoning_details": [
                {"type": "reasoning.text", "text": "t", "signature": "SR", **ours},
                {"type": "reasoning.text", "text": "t", **ours},
                {"type": "reasoning.text", "text": "t", "signature": "X", **theirs},
                {"type": "reasoning.encrypted", "data": "S1", "id": "c1", **ours},
                {"type": "reasoning.encrypted", "data": "ST", **ours},
                {"type": "reasoning.encrypted", "data": "X", "id": "c1", **theirs},
                7,
            ],
            "audio": {"id": "of another wire"},
        },
    )
    assert contents(HELLO, message, model=NEW)[1]["parts"] == [
        {"text": "t", "thought": True, "thoughtSignature": "SR"},
        code,
        {"text": "a", "thoughtSignature": "ST"},
        {"functionCall": {"id": "c1", "name": "f", "args": {}}, "thoughtSignature": "S1"},
    ]


@pytest.mark.parametrize("extra", [{"extra_content": 1}, {"extra_content": {"google": []}}])
def test_state_of_a_wrong_shape_is_ignored(extra: dict[str, Any]) -> None:
    message = Message(Role.ASSISTANT, (TextPart("a"),), extra={**extra, "gemini_parts": {}})
    assert contents(HELLO, message)[1]["parts"] == [{"text": "a"}]


def test_the_request_is_not_changed() -> None:
    part: dict[str, Any] = {"executableCode": {}}
    extra = {"gemini_parts": [{"part": part}], **google("S"), "generationConfig": {}}
    opaque: dict[str, Any] = {"fileData": {}}
    message = Message(Role.ASSISTANT, (OpaquePart("gemini", opaque),), extra=extra)
    encode(messages=(HELLO, message), sampling=Sampling(temperature=1.0), extra=extra)
    assert (part, opaque, extra["generationConfig"]) == (
        {"executableCode": {}},
        {"fileData": {}},
        {},
    )


# --- tools ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("choice", "config"),
    [
        (None, None),
        (ToolChoice(ToolChoiceMode.AUTO), {"mode": "AUTO"}),
        (ToolChoice(ToolChoiceMode.NONE), {"mode": "NONE"}),
        (ToolChoice(ToolChoiceMode.REQUIRED), {"mode": "ANY"}),
        (
            ToolChoice(ToolChoiceMode.NAMED, "f"),
            {"mode": "ANY", "allowedFunctionNames": ["f"]},
        ),
        (
            ToolChoice(
                ToolChoiceMode.OPAQUE,
                opaque={
                    "type": "allowed_tools",
                    "allowed_tools": {
                        "mode": "auto",
                        "tools": [{"type": "function", "function": {"name": "f"}}],
                    },
                },
            ),
            {"mode": "VALIDATED", "allowedFunctionNames": ["f"]},
        ),
        (
            ToolChoice(
                ToolChoiceMode.OPAQUE,
                opaque={
                    "type": "allowed_tools",
                    "allowed_tools": {
                        "mode": "required",
                        "tools": [{"type": "function", "function": {"name": "f"}}],
                    },
                },
            ),
            {"mode": "ANY", "allowedFunctionNames": ["f"]},
        ),
    ],
)
def test_tool_choice(choice: ToolChoice | None, config: object) -> None:
    body = encode(tools=TOOLS, tool_choice=choice)
    assert body.get("toolConfig") == (config and {"functionCallingConfig": config})
    assert "toolConfig" not in encode(tool_choice=choice)


def test_arguments_in_pieces_by_quirk() -> None:
    body = encode(GeminiQuirks(streams_arguments=True), tools=TOOLS)
    assert body["toolConfig"] == {
        "functionCallingConfig": {"mode": "AUTO", "streamFunctionCallArguments": True}
    }


@pytest.mark.parametrize(
    "schema", [b"", b'{"type":"object"}', b'{"type":"object","properties":{},"required":[]}']
)
def test_empty_schemas_are_left_out(schema: bytes) -> None:
    body = encode(tools=(Tool("f", parameters_json=schema),))
    assert body["tools"] == [{"functionDeclarations": [{"name": "f"}]}]


def test_a_function_with_fields_of_other_wires() -> None:
    opaque = {
        "type": "function",
        "function": {"name": "f", "description": "d", "parameters": orjson.loads(SCHEMA)},
        "cache_control": {"type": "ephemeral"},
    }
    assert encode(tools=(Tool("f", opaque=opaque),)) == encode(tools=(Tool("f", "d", SCHEMA),))


@pytest.mark.parametrize("schema", [b"{", b"[]", b'{} , "model": "other"'])
def test_a_schema_that_is_no_object_is_the_clients_fault(schema: bytes) -> None:
    with pytest.raises(InvalidRequest, match=r"tools\[0\]\.parameters"):
        encode(tools=(Tool("f", parameters_json=schema),))
    with pytest.raises(InvalidRequest, match="response_format"):
        encode(response_format=ResponseFormat("json_schema", schema_json=schema))


@pytest.mark.parametrize(
    ("fields", "feature"),
    [
        ({"tools": TOOLS, "parallel_tool_calls": False}, "parallel_tool_calls: false"),
        ({"tools": (Tool("", opaque={"type": "custom"}),)}, "a tool of type custom"),
        ({"tools": (Tool("", opaque={}),)}, "a tool of type unknown"),
        (
            {
                "tools": TOOLS,
                "tool_choice": ToolChoice(ToolChoiceMode.OPAQUE, opaque={"type": "custom"}),
            },
            "this tool_choice",
        ),
        ({"extra": {"logit_bias": {"1": 2}}}, "logit_bias"),
        ({"extra": {"modalities": ["text", "audio"]}}, "modalities"),
        ({"extra": {"prediction": {}}}, "prediction"),
        ({"extra": {"functions": [{}]}}, "functions"),
        ({"extra": {"function_call": {"name": "f"}}}, "function_call"),
        ({"extra": {"web_search_options": {}}}, "web_search_options"),
        (
            {"tools": TOOLS, "response_format": ResponseFormat("json_object")},
            "response_format together with tools",
        ),
    ],
)
def test_refused_by_name(fields: dict[str, Any], feature: str) -> None:
    with pytest.raises(UnsupportedFeature) as caught:
        encode(**fields)
    assert caught.value.feature == feature


def test_format_beside_tools_from_generation_3_on() -> None:
    fields: dict[str, Any] = {"tools": TOOLS, "response_format": ResponseFormat("json_object")}
    assert encode(model=NEW, **fields)["generationConfig"]["responseMimeType"] == "application/json"
    assert "responseMimeType" in encode(model="tuned-model", **fields)["generationConfig"]


# --- thinking -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "version", "style"),
    [
        ("gemini-1.5-flash", (1, 5), "none"),
        ("gemini-2.0-flash-001", (2, 0), "none"),
        ("gemini-2.5-flash-lite", (2, 5), "budget"),
        ("gemini-2.5-flash-image", (2, 5), "none"),
        ("gemini-2.5-flash-preview-tts", (2, 5), "none"),
        ("gemini-3-flash-preview", (3, 0), "level"),
        ("gemini-3.1-pro-preview", (3, 1), "level"),
        ("gemini-4-hydrogen", (4, 0), "level"),
        ("gemini-flash-lite-latest", None, "level"),
        ("gemma-3-27b-it", None, "none"),
        ("projects/1/endpoints/2", None, "none"),
    ],
)
def test_what_a_name_tells(model: str, version: object, style: str) -> None:
    assert generation(model) == version
    assert thinking_style(model) == style


@pytest.mark.parametrize(
    ("model", "effort", "budget", "config"),
    [
        (OLD, "", None, {}),
        (OLD, "none", None, {"thinkingBudget": 0}),
        (OLD, "minimal", None, {"thinkingBudget": 1024}),
        (OLD, "medium", None, {"thinkingBudget": 8192}),
        (OLD, "high", None, {"thinkingBudget": 24576}),
        (OLD, "high", 5, {"thinkingBudget": 5}),
        (OLD, "", -1, {"thinkingBudget": -1}),
        (OLD, "unheard of", None, {}),
        ("gemini-2.5-pro", "none", None, {"thinkingBudget": 128}),
        ("gemini-2.5-pro", "", 0, {"thinkingBudget": 128}),
        (NEW, "none", None, {"thinkingLevel": "minimal"}),
        (NEW, "medium", None, {"thinkingLevel": "medium"}),
        (NEW, "xhigh", None, {"thinkingLevel": "high"}),
        (NEW, "low", 5, {"thinkingLevel": "low"}),
        (NEW, "", 5, {"thinkingBudget": 5}),
        (NEW, "unheard of", None, {}),
        ("gemini-3.1-pro-preview", "minimal", None, {"thinkingLevel": "low"}),
        ("gemini-3.1-pro-preview", "medium", None, {"thinkingLevel": "medium"}),
        ("gemini-3-pro-preview", "medium", None, {"thinkingLevel": "high"}),
        ("gemini-2.0-flash", "high", 5, None),
    ],
)
def test_effort_and_budget(
    model: str, effort: str, budget: int | None, config: dict[str, Any] | None
) -> None:
    def sent(*, want_reasoning: bool) -> Any:
        reasoning = ReasoningOptions(effort, budget)
        body = encode(model=model, reasoning=reasoning, want_reasoning=want_reasoning)
        return body.get("generationConfig", {}).get("thinkingConfig")

    assert sent(want_reasoning=False) == (config or None)
    assert sent(want_reasoning=True) == (
        None if config is None else {"includeThoughts": True, **config}
    )


# --- quirks ---------------------------------------------------------------------------------


def test_openapi_schemas() -> None:
    schema = {
        "$schema": "x",
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "title": {"type": ["string", "null"], "title": "t"},
            "kind": {"const": "a"},
            "list": {"type": "array", "items": {"type": "string", "contentEncoding": "x"}},
            "either": {"oneOf": [{"type": "integer", "multipleOf": 2}, True]},
        },
        "required": ["title"],
    }
    text = orjson.dumps(schema)
    body = encode(
        GeminiQuirks(schemas="openapi"),
        tools=(Tool("f", parameters_json=text),),
    )
    cut = {
        "type": "object",
        "properties": {
            "title": {"type": "string", "nullable": True, "title": "t"},
            "kind": {"enum": ["a"]},
            "list": {"type": "array", "items": {"type": "string"}},
            "either": {"anyOf": [{"type": "integer"}, True]},
        },
        "required": ["title"],
    }
    assert body["tools"][0]["functionDeclarations"] == [{"name": "f", "parameters": cut}]
    wanted = ResponseFormat("json_schema", schema_json=text)
    body = encode(GeminiQuirks(schemas="openapi"), response_format=wanted)
    assert body["generationConfig"]["responseSchema"] == cut


@pytest.mark.parametrize(
    ("inner", "feature"),
    [({"$ref": "#/x"}, "$ref in a schema"), ({"type": ["a", "b"]}, "a list of types in a schema")],
)
def test_openapi_refuses_what_would_leave_a_hole(inner: object, feature: str) -> None:
    schema = orjson.dumps({"type": "object", "properties": {"a": inner}})
    with pytest.raises(UnsupportedFeature) as caught:
        encode(GeminiQuirks(schemas="openapi"), tools=(Tool("f", parameters_json=schema),))
    assert caught.value.feature == feature


REFUSABLE: dict[str, dict[str, Any]] = {
    "frequency_penalty": {"sampling": Sampling(frequency_penalty=1.0)},
    "presence_penalty": {"sampling": Sampling(presence_penalty=1.0)},
    "logprobs": {"sampling": Sampling(logprobs=True)},
    "n": {"sampling": Sampling(choices=2)},
    "seed": {"sampling": Sampling(seed=0)},
    "top_k": {"sampling": Sampling(top_k=2)},
    "service_tier": {"service_tier": "flex"},
    "response_format": {"response_format": ResponseFormat("json_object")},
    "parallel_tool_calls": {"tools": TOOLS, "parallel_tool_calls": False},
    "image parts": {"messages": (user(ImagePart("u")),)},
    "audio parts": {"messages": (user(AudioPart("a", "wav")),)},
    "file parts": {"messages": (user(FilePart(file_id="gs://f")),)},
}


@pytest.mark.parametrize("name", REFUSABLE)
def test_what_a_row_refuses_or_leaves_out(name: str) -> None:
    with pytest.raises(UnsupportedFeature, match=name):
        encode(GeminiQuirks.from_mapping({"refuses": [name]}, "p"), **REFUSABLE[name])
    if not name.endswith("parts"):
        body = encode(GeminiQuirks.from_mapping({"leaves_out": [name]}, "p"), **REFUSABLE[name])
        assert set(body) <= {"contents", "tools"}


@pytest.mark.parametrize(
    ("quirks", "message"),
    [
        ({"paht": "/x"}, "'paht' is unknown; did you mean 'path'"),
        ({"path": "x{model}"}, "begin with '/'"),
        ({"path": "/x"}, "must hold '{model}' once"),
        ({"path": "/{model}/{model}"}, "must hold '{model}' once"),
        ({"thinking": "hard"}, "one of auto, budget, level, none"),
        ({"schemas": None}, "a text"),
        ({"has_call_ids": "no"}, "true or false"),
        ({"refuses": ["image part"]}, "unknown field 'image part'; did you mean 'image parts'"),
        ({"leaves_out": ["image parts"]}, "unknown field 'image parts'"),
    ],
)
def test_wrong_rows_are_refused_by_name(quirks: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BUILDERS["gemini"](quirks, "p")
