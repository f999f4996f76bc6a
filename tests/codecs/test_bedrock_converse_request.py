"""Writing Converse: each rule, what is refused by name, and botocore's word on every shape."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import orjson
import pytest

from relay.codecs.bedrock_converse_quirks import ConverseQuirks
from relay.codecs.model_path import fill
from relay.codecs.registry import BUILDERS
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
from tests.codecs.aws_frames import needs_botocore, service_model
from tests.docs.wires import FEATURES

CLAUDE = "us.anthropic.claude-sonnet-4-6-v1:0"
OLDER = "anthropic.claude-haiku-4-5-20251001-v1:0"
NOVA = "us.amazon.nova-2-lite-v1:0"
OPEN = "openai.gpt-oss-120b-1:0"
LLAMA = "us.meta.llama3-3-70b-instruct-v1:0"

OF_CLAUDE = known_providers()["anthropic"]["quirks"]
"""What is known of Claude's models, of which Bedrock has the same."""

HELLO = Message(Role.USER, (TextPart("hi"),))
F = Tool("f", "Does it", b'{"type":"object","properties":{"a":{"type":"string"}}}')
CALL = Message(Role.ASSISTANT, tool_calls=(ToolCall("call_1", "f", '{"a":"b"}'),))
RESULT = Message(Role.TOOL, (TextPart("done"),), tool_call_id="call_1")
MARK = {"type": "ephemeral"}
POINT = {"cachePoint": {"type": "default"}}
SPEC = {
    "toolSpec": {
        "name": "f",
        "description": "Does it",
        "inputSchema": {"json": {"type": "object", "properties": {"a": {"type": "string"}}}},
    }
}


def encode(
    *messages: Message, model: str = CLAUDE, quirks: dict[str, Any] | None = None, **fields: Any
) -> dict[str, Any]:
    request = GenerateRequest("m", messages or (HELLO,), **fields)
    codec = BUILDERS["bedrock_converse"]({**OF_CLAUDE, **(quirks or {})}, "p")()
    body: dict[str, Any] = orjson.loads(codec.encode_request(request, model).body)
    return body


def refused(*messages: Message, model: str = CLAUDE, **fields: Any) -> str:
    with pytest.raises(UnsupportedFeature) as caught:
        encode(*messages, model=model, **fields)
    return caught.value.feature


def test_the_whole_request() -> None:
    codec = BUILDERS["bedrock_converse"]({}, "p")()
    encoded = codec.encode_request(GenerateRequest("m", (HELLO,)), "us.amazon.nova-lite-v1:0")
    assert encoded.path == "/model/us.amazon.nova-lite-v1%3A0/converse-stream"
    assert dict(encoded.headers) == {
        "content-type": "application/json",
        "accept": "application/vnd.amazon.eventstream",
    }
    assert orjson.loads(encoded.body) == {
        "messages": [{"role": "user", "content": [{"text": "hi"}]}]
    }


# --- messages -------------------------------------------------------------------------------


def test_turns_follow_each_other() -> None:
    body = encode(
        Message(Role.SYSTEM, (TextPart("Be brief."), TextPart(" "))),
        HELLO,
        Message(Role.ASSISTANT, (TextPart("Well"), RefusalPart("no"))),
        Message(Role.ASSISTANT, (TextPart(""),)),
        CALL,
        Message(Role.USER, (TextPart("and?"),)),
        RESULT,
        Message(Role.DEVELOPER, (TextPart("Now."),)),
        tools=(F,),
    )
    assert body["system"] == [{"text": "Be brief."}, {"text": "Now."}]
    assert body["messages"] == [
        {"role": "user", "content": [{"text": "hi"}]},
        {
            "role": "assistant",
            "content": [
                {"text": "Well"},
                {"text": "no"},
                {"toolUse": {"toolUseId": "call_1", "name": "f", "input": {"a": "b"}}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"toolResult": {"toolUseId": "call_1", "content": [{"text": "done"}]}},
                {"text": "and?"},
            ],
        },
    ]


def test_an_assistant_that_begins_and_a_beginning_to_go_on_with() -> None:
    body = encode(Message(Role.ASSISTANT, (TextPart("Hello "),)))
    assert body["messages"] == [
        {"role": "user", "content": [{"text": "(The conversation begins.)"}]},
        {"role": "assistant", "content": [{"text": "Hello"}]},
    ]


def test_results_of_tools() -> None:
    picture = ImagePart(data_base64="aGk=", media_type="image/jpg")
    failed = Message(
        Role.TOOL, (TextPart("no"), picture), tool_call_id="a/b", extra={"is_error": True}
    )
    empty = Message(Role.TOOL, (TextPart(" "),), tool_call_id="call_1")
    odd = replace(CALL, tool_calls=(*CALL.tool_calls, ToolCall("a/b", "f", "nonsense")))
    body = encode(HELLO, odd, failed, empty, tools=(F,))
    use = body["messages"][1]["content"][1]["toolUse"]
    assert use["toolUseId"].startswith("tooluse_")
    assert use["input"] == {"arguments": "nonsense"}
    assert body["messages"][2]["content"] == [
        {
            "toolResult": {
                "toolUseId": use["toolUseId"],
                "content": [
                    {"text": "no"},
                    {"image": {"format": "jpeg", "source": {"bytes": "aGk="}}},
                ],
                "status": "error",
            }
        },
        {"toolResult": {"toolUseId": "call_1", "content": [{"json": {}}]}},
    ]


def test_media() -> None:
    body = encode(
        Message(
            Role.USER,
            (
                ImagePart(data_base64="aGk=", media_type="image/png"),
                ImagePart(url="s3://bucket/a.webp"),
                AudioPart("aGk=", "wav"),
                AudioPart("aGk=", "pcm16"),
                FilePart(filename="Bill_7.pdf", data_base64="aGk=", media_type="application/pdf"),
                FilePart(filename="Bill 7.txt", data_base64="aGk=", media_type="text/plain"),
                FilePart(file_id="s3://bucket/b", media_type="text/csv"),
                FilePart(data_base64="aGk=", media_type="image/gif"),
            ),
        )
    )
    bytes_ = {"bytes": "aGk="}
    assert body["messages"][0]["content"] == [
        {"image": {"format": "png", "source": bytes_}},
        {"image": {"format": "webp", "source": {"s3Location": {"uri": "s3://bucket/a.webp"}}}},
        {"audio": {"format": "wav", "source": bytes_}},
        {"audio": {"format": "pcm", "source": bytes_}},
        {"document": {"format": "pdf", "name": "Bill 7", "source": bytes_}},
        {"document": {"format": "txt", "name": "Bill 7 [2]", "source": bytes_}},
        {
            "document": {
                "format": "csv",
                "name": "document",
                "source": {"s3Location": {"uri": "s3://bucket/b"}},
            }
        },
        {"image": {"format": "gif", "source": bytes_}},
    ]


@pytest.mark.parametrize(
    ("part", "feature"),
    [
        (ImagePart(url="https://x.test/a.png"), "images by address"),
        (ImagePart(data_base64="a", media_type="image/heic"), "images of type image/heic"),
        (AudioPart("a", "amr"), "audio parts of type amr"),
        (FilePart(file_id="file_1"), "a file by an id that is no s3:// address"),
        (FilePart(data_base64="a", media_type="x/y"), "file parts of type x/y"),
        (OpaquePart("gemini", {"a": 1}), "this gemini content part"),
    ],
)
def test_parts_that_are_refused(part: Any, feature: str) -> None:
    assert refused(Message(Role.USER, (part,))) == feature


def test_rows_refuse_by_name() -> None:
    picture = Message(Role.USER, (ImagePart(data_base64="a", media_type="image/png"),))
    sound = Message(Role.USER, (AudioPart("a", "wav"),))
    file = Message(Role.USER, (FilePart(data_base64="a", media_type="text/csv"),))
    for message, feature in ((picture, "image"), (sound, "audio"), (file, "file")):
        name = f"{feature} parts"
        assert refused(message, quirks={"refuses": [name]}) == name
    assert refused(quirks={"refuses": ["tools"]}, tools=(F,)) == "tools"


def test_parts_of_this_wire_and_blocks_that_go_back() -> None:
    guarded = {"guardContent": {"text": {"text": "x"}}}
    server = {"toolUse": {"toolUseId": "s", "name": "g", "input": {}, "type": "server_tool_use"}}
    body = encode(
        Message(Role.USER, (OpaquePart("bedrock_converse", guarded),)),
        Message(
            Role.ASSISTANT,
            (TextPart("a"),),
            extra={"converse_blocks": [{"index": 0, "block": server}]},
        ),
        HELLO,
    )
    assert body["messages"][0]["content"] == [guarded]
    assert body["messages"][1]["content"] == [server, {"text": "a"}]


SIGNED = {"type": "reasoning.text", "text": "Hm", "signature": "sig", "index": 0}
SECRET = {"type": "reasoning.encrypted", "data": "c2VjcmV0", "index": 1}
ANTHROPIC, OWN = {"format": "anthropic-claude-v1"}, {"format": "bedrock-converse-v1"}
SIGNED_BLOCK = {"reasoningContent": {"reasoningText": {"text": "Hm", "signature": "sig"}}}


@pytest.mark.parametrize(
    ("model", "details", "blocks"),
    [
        (CLAUDE, [{**SIGNED, **ANTHROPIC}], [SIGNED_BLOCK]),
        (
            CLAUDE,
            [{**SIGNED, **OWN}, {**SECRET, **OWN}],
            [SIGNED_BLOCK, {"reasoningContent": {"redactedContent": "c2VjcmV0"}}],
        ),
        (CLAUDE, [{**SECRET, **ANTHROPIC}], []),
        (CLAUDE, [{**SIGNED, "format": "google-gemini-v1"}], []),
        (CLAUDE, [{**SIGNED, "signature": None, **ANTHROPIC}], []),
        (
            CLAUDE,
            [
                {**ANTHROPIC, "type": "reasoning.text", "text": "H", "index": 0},
                {**ANTHROPIC, "type": "reasoning.text", "text": "m", "index": 0},
                {**ANTHROPIC, "type": "reasoning.text", "signature": "sig", "index": 0},
            ],
            [SIGNED_BLOCK],
        ),
        (NOVA, [{**SIGNED, **ANTHROPIC}], []),
        (NOVA, [{**SIGNED, **OWN}], [SIGNED_BLOCK]),
    ],
)
def test_reasoning_goes_back(model: str, details: list[Any], blocks: list[Any]) -> None:
    answer = Message(Role.ASSISTANT, (TextPart("a"),), extra={"reasoning_details": details})
    body = encode(HELLO, answer, HELLO, model=model)
    assert body["messages"][1]["content"] == [*blocks, {"text": "a"}]


# --- tools ----------------------------------------------------------------------------------


def test_tools() -> None:
    bare = Tool("g")
    strict = Tool("h", "", b'{"properties":{"a":{"type":"integer","minimum":3}}}', strict=True)
    opaque = Tool(
        "i",
        opaque={"type": "function", "function": {"name": "i", "parameters": {"type": "object"}}},
    )
    own = Tool("j", opaque={"systemTool": {"name": "nova_grounding"}})
    body = encode(tools=(F, bare, strict, opaque, own))
    closed = {"a": {"type": "integer", "description": "(minimum: 3)"}}
    assert body["toolConfig"]["tools"] == [
        SPEC,
        {
            "toolSpec": {
                "name": "g",
                "inputSchema": {"json": {"type": "object", "properties": {}}},
            }
        },
        {
            "toolSpec": {
                "name": "h",
                "strict": True,
                "inputSchema": {
                    "json": {
                        "type": "object",
                        "properties": closed,
                        "additionalProperties": False,
                    }
                },
            }
        },
        {"toolSpec": {"name": "i", "inputSchema": {"json": {"type": "object"}}}},
        {"systemTool": {"name": "nova_grounding"}},
    ]


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        (None, None),
        (ToolChoice(ToolChoiceMode.AUTO), None),
        (ToolChoice(ToolChoiceMode.REQUIRED), {"any": {}}),
        (ToolChoice(ToolChoiceMode.NAMED, "f"), {"tool": {"name": "f"}}),
        (ToolChoice(ToolChoiceMode.OPAQUE, opaque={"any": {}}), {"any": {}}),
    ],
)
def test_tool_choice(choice: ToolChoice | None, sent: Any) -> None:
    config = encode(tools=(F,), tool_choice=choice)["toolConfig"]
    assert config.get("toolChoice") == sent


def test_no_tool_may_be_called() -> None:
    none = ToolChoice(ToolChoiceMode.NONE)
    assert "toolConfig" not in encode(tools=(F,), tool_choice=none)
    # Bedrock wants tools beside calls, and has no word for none of them.
    word = refused(HELLO, CALL, RESULT, tools=(F,), tool_choice=none)
    assert word == "tool_choice none beside earlier calls"
    assert refused(HELLO, CALL, RESULT) == "calls in the conversation without tools"
    assert refused(HELLO, RESULT) == "calls in the conversation without tools"


def test_one_call_at_a_time() -> None:
    one = {"tool_choice": {"type": "auto", "disable_parallel_tool_use": True}}
    body = encode(tools=(F,), parallel_tool_calls=False)
    assert body["additionalModelRequestFields"] == one
    body = encode(tools=(F,), prefers_one_call=True)
    assert body["additionalModelRequestFields"] == one
    for model, choice in ((NOVA, None), (CLAUDE, ToolChoice(ToolChoiceMode.REQUIRED))):
        asked: dict[str, Any] = {"tools": (F,), "tool_choice": choice, "model": model}
        assert refused(parallel_tool_calls=False, **asked) == "parallel_tool_calls: false"
        for may in ("prefers_one_call", "parallel_tool_calls"):
            assert "additionalModelRequestFields" not in encode(**{**asked, may: True})
    assert encode(parallel_tool_calls=False).keys() == encode().keys()


@pytest.mark.parametrize(
    ("fields", "feature"),
    [
        ({"tools": (Tool("x", opaque={"type": "custom", "custom": {}}),)}, "a tool of type custom"),
        (
            {"tools": (F,), "tool_choice": ToolChoice(ToolChoiceMode.OPAQUE, opaque={"type": "x"})},
            "tool_choice x",
        ),
        ({"sampling": Sampling(choices=2)}, "n"),
        ({"sampling": Sampling(presence_penalty=0.5)}, "presence_penalty"),
        ({"sampling": Sampling(frequency_penalty=0.5)}, "frequency_penalty"),
        ({"sampling": Sampling(logprobs=True)}, "logprobs"),
        ({"sampling": Sampling(top_logprobs=2)}, "top_logprobs"),
        ({"sampling": Sampling(stop=("\n",))}, "a stop of white space"),
        ({"extra": {"logit_bias": {"1": 2}}}, "logit_bias"),
        ({"response_format": ResponseFormat("json_object")}, "response_format json_object"),
        ({"response_format": ResponseFormat("json_schema")}, "json_schema without a schema"),
    ],
)
def test_what_is_refused_by_name(fields: dict[str, Any], feature: str) -> None:
    assert refused(**fields) == feature


def test_custom_calls_and_pictures_in_instructions_are_refused() -> None:
    custom = Message(Role.ASSISTANT, tool_calls=(ToolCall("c", "g", "x", kind="custom"),))
    assert refused(HELLO, custom, tools=(F,)) == "custom tool calls"
    picture = ImagePart(data_base64="a", media_type="image/png")
    assert refused(Message(Role.SYSTEM, (picture,))) == "anything but text in instructions"
    sound = replace(RESULT, parts=(AudioPart("a", "wav"),))
    assert refused(HELLO, CALL, sound, tools=(F,)) == "such a part in a tool's result"


# --- sampling, reasoning, shape --------------------------------------------------------------

DRAWN = Sampling(temperature=1.5, top_p=0.9, top_k=5, max_output_tokens=99, stop=("END", ""))


@pytest.mark.parametrize(
    ("model", "sent", "additional"),
    [
        (
            CLAUDE,
            {"maxTokens": 99, "temperature": 1.0, "stopSequences": ["END"]},
            {"top_k": 5},
        ),
        (
            NOVA,
            {"maxTokens": 99, "temperature": 1.0, "topP": 0.9, "stopSequences": ["END"]},
            {"inferenceConfig": {"topK": 5}},
        ),
        (
            "us.anthropic.claude-opus-5-v1:0",
            {"maxTokens": 99, "stopSequences": ["END"]},
            None,
        ),
    ],
)
def test_sampling(model: str, sent: dict[str, Any], additional: dict[str, Any] | None) -> None:
    body = encode(model=model, sampling=DRAWN)
    assert body["inferenceConfig"] == sent
    assert body.get("additionalModelRequestFields") == additional


def test_top_k_of_other_models_is_refused() -> None:
    for model in (OPEN, LLAMA):
        assert refused(model=model, sampling=Sampling(top_k=5)) == "top_k"
        assert encode(model=model, sampling=Sampling(top_k=0)).keys() == {"messages"}


def test_limits() -> None:
    assert encode()["inferenceConfig"] == {"maxTokens": 4096}
    assert "inferenceConfig" not in encode(model=LLAMA)
    given = {"default_max_tokens": 500}
    assert encode(quirks=given)["inferenceConfig"] == {"maxTokens": 500}
    assert encode(model=LLAMA, quirks=given)["inferenceConfig"] == {"maxTokens": 500}
    body = encode(model=OLDER, quirks=given, reasoning=ReasoningOptions("low"))
    assert body["inferenceConfig"] == {"maxTokens": 2548}


@pytest.mark.parametrize(
    ("model", "effort", "additional", "config"),
    [
        (CLAUDE, "high", {"thinking": {"type": "adaptive", "display": "summarized"}}, "high"),
        (CLAUDE, "none", {"thinking": {"type": "disabled"}}, None),
        (OLDER, "low", {"thinking": {"type": "enabled", "budget_tokens": 2048}}, None),
        (OLDER, "none", None, None),
        (
            NOVA,
            "minimal",
            {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": "low"}},
            None,
        ),
        (NOVA, "max", {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": "high"}}, None),
        (NOVA, "none", None, None),
        ("us.amazon.nova-pro-v1:0", "high", None, None),
        (OPEN, "xhigh", {"reasoning_effort": "high"}, None),
        (LLAMA, "high", None, None),
    ],
)
def test_reasoning_by_family(
    model: str, effort: str, additional: dict[str, Any] | None, config: str | None
) -> None:
    body = encode(model=model, reasoning=ReasoningOptions(effort))
    assert body.get("additionalModelRequestFields") == additional
    assert body.get("outputConfig", {}).get("effort") == config


def test_a_budget_is_an_effort_where_there_are_no_budgets() -> None:
    body = encode(model=NOVA, reasoning=ReasoningOptions(budget_tokens=5000))
    effort = body["additionalModelRequestFields"]["reasoningConfig"]["maxReasoningEffort"]
    assert effort == "medium"


def test_nova_thinks_hard_without_sampling_or_less_hard_with_a_limit() -> None:
    hard = ReasoningOptions("high")
    body = encode(model=NOVA, reasoning=hard, sampling=Sampling(temperature=0.5, stop=("x",)))
    assert body["inferenceConfig"] == {"stopSequences": ["x"]}
    body = encode(model=NOVA, reasoning=hard, sampling=Sampling(max_output_tokens=99))
    assert body["inferenceConfig"] == {"maxTokens": 99}
    effort = body["additionalModelRequestFields"]["reasoningConfig"]["maxReasoningEffort"]
    assert effort == "medium"


def test_manual_thinking_waits_for_a_signed_turn() -> None:
    loop = (HELLO, CALL, RESULT)
    body = encode(*loop, model=OLDER, tools=(F,), reasoning=ReasoningOptions("low"))
    assert "additionalModelRequestFields" not in body
    signed = replace(CALL, extra={"reasoning_details": [{**SIGNED, **ANTHROPIC}]})
    body = encode(HELLO, signed, RESULT, model=OLDER, tools=(F,), reasoning=ReasoningOptions("low"))
    assert body["additionalModelRequestFields"]["thinking"]["type"] == "enabled"
    forced: dict[str, Any] = {"tools": (F,), "tool_choice": ToolChoice(ToolChoiceMode.REQUIRED)}
    body = encode(reasoning=ReasoningOptions("low"), **forced)
    assert "additionalModelRequestFields" not in body


def test_structured_output() -> None:
    shape = ResponseFormat(
        "json_schema", "answer", "An answer", b'{"type":"object","properties":{"a":{}}}'
    )
    body = encode(response_format=shape)
    given = body["outputConfig"]["textFormat"]["structure"]["jsonSchema"]
    assert orjson.loads(given.pop("schema")) == {
        "type": "object",
        "properties": {"a": {}},
        "additionalProperties": False,
    }
    assert given == {"name": "answer", "description": "An answer"}
    assert body["outputConfig"]["textFormat"]["type"] == "json_schema"
    assert "outputConfig" not in encode(response_format=ResponseFormat("text"))
    with pytest.raises(InvalidRequest, match="schema"):
        encode(response_format=replace(shape, schema_json=b"{"))


@pytest.mark.parametrize("tier", ["default", "flex", "priority", "reserved", "auto", ""])
def test_service_tiers(tier: str) -> None:
    sent = encode(service_tier=tier).get("serviceTier")
    assert sent == (None if tier in ("auto", "") else {"type": tier})


def test_google_s_word_for_the_usual_tier() -> None:
    assert encode(service_tier="standard")["serviceTier"] == {"type": "default"}


def test_fields_of_the_wire() -> None:
    extra = {
        "additionalModelRequestFields": {"top_k": 1, "x": 2},
        "additionalModelResponseFieldPaths": ["/stop_sequence"],
        "performanceConfig": {"latency": "optimized"},
        "requestMetadata": {"a": "b"},
        "guardrailConfig": {"guardrailIdentifier": "a", "guardrailVersion": "1"},
        "brand_new": 1,
    }
    body = encode(extra=extra, sampling=Sampling(top_k=7))
    assert "brand_new" not in body
    assert body["additionalModelRequestFields"] == {"top_k": 7, "x": 2}
    for name in extra.keys() - {"brand_new", "additionalModelRequestFields"}:
        assert body[name] == extra[name]
    with pytest.raises(InvalidRequest, match="additionalModelRequestFields must be an object"):
        encode(extra={"additionalModelRequestFields": 1})


def test_a_rows_guardrail_holds() -> None:
    own = {"guardrailIdentifier": "own", "guardrailVersion": "2", "streamProcessingMode": "async"}
    asked = {"guardrailConfig": {"guardrailIdentifier": "a", "guardrailVersion": "1"}}
    assert encode(quirks={"guardrail": own}, extra=asked)["guardrailConfig"] == own


# --- prompt caching -------------------------------------------------------------------------

MARKED = Message(Role.USER, (TextPart("long", MARK), TextPart("short")))
SYSTEM = Message(Role.SYSTEM, (TextPart("Be brief.", {**MARK, "ttl": "1h"}),))


def test_a_clients_own_marks() -> None:
    marked = replace(F, cache_control=MARK)
    result = replace(RESULT, extra={"cache_control": MARK})
    body = encode(SYSTEM, MARKED, CALL, result, tools=(marked,))
    assert body["system"] == [
        {"text": "Be brief."},
        {"cachePoint": {"type": "default", "ttl": "1h"}},
    ]
    assert body["toolConfig"]["tools"] == [SPEC, POINT]
    assert body["messages"][0]["content"] == [{"text": "long"}, POINT, {"text": "short"}]
    assert body["messages"][2]["content"][1] == POINT
    # None are added to them.
    policy = Policy(prompt_cache="auto")
    assert encode(SYSTEM, MARKED, CALL, result, tools=(marked,), policy=policy) == body


def test_marks_where_a_model_takes_none_are_left_out() -> None:
    marked = replace(F, cache_control=MARK)
    body = encode(SYSTEM, MARKED, model=LLAMA, tools=(marked,))
    assert b"cachePoint" not in orjson.dumps(body)
    body = encode(SYSTEM, MARKED, model=NOVA, tools=(marked,))
    assert body["toolConfig"]["tools"] == [SPEC]
    assert POINT in body["messages"][0]["content"]
    given = {"cache_points": ["tools"]}
    body = encode(SYSTEM, MARKED, model=LLAMA, tools=(marked,), quirks=given)
    assert body["toolConfig"]["tools"] == [SPEC, POINT]
    assert POINT not in body["messages"][0]["content"]


def test_marks_that_are_placed_for_the_client() -> None:
    turns = (Message(Role.ASSISTANT, (TextPart("a"),)), HELLO)
    said = (Message(Role.SYSTEM, (TextPart("Be brief."),)), HELLO, *turns, *turns)
    body = encode(*said, tools=(F,), policy=Policy(prompt_cache="auto"))
    assert body["system"] == [{"text": "Be brief."}, POINT]
    assert body["toolConfig"]["tools"] == [SPEC, POINT]
    users = [turn["content"] for turn in body["messages"] if turn["role"] == "user"]
    assert [POINT in content for content in users] == [False, True, True]
    assert encode(*said, tools=(F,), quirks={"cache": "auto"}) == body
    for policy in (Policy(), Policy(prompt_cache="off")):
        assert b"cachePoint" not in orjson.dumps(encode(*said, tools=(F,), policy=policy))
    body = encode(*said, model=LLAMA, policy=Policy(prompt_cache="auto"))
    assert b"cachePoint" not in orjson.dumps(body)


# --- rows -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("quirks", "message"),
    [
        ({"path": "/converse"}, "must hold '{model}' once"),
        ({"family": "gpt"}, "one of auto, claude"),
        ({"thinking": "hard"}, "provider 'p': quirk 'thinking' must be one of adaptive"),
        ({"manual_thinking_models": "a"}, "a list of names"),
        ({"default_max_tokens": 0}, "a whole number"),
        ({"cache": "on"}, "one of auto, off"),
        ({"cache_points": ["end"]}, "unknown field 'end'"),
        ({"guardrail": {"guardrailIdentifier": "a"}}, "must have guardrailIdentifier and"),
        ({"guardrail": {"guardrailIdentifer": "a"}}, "did you mean 'guardrailIdentifier'"),
        ({"guardrail": {"guardrailIdentifier": 1}}, "a mapping of texts"),
        ({"refuses": ["tool"]}, "did you mean 'tools'"),
        ({"version": "1"}, "'version' is unknown"),
    ],
)
def test_wrong_rows_are_refused_by_name(quirks: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BUILDERS["bedrock_converse"](quirks, "p")


def test_empty_row_is_the_default() -> None:
    assert ConverseQuirks.from_mapping({}, "p") == ConverseQuirks()


@pytest.mark.parametrize(
    ("model", "family"),
    [
        (CLAUDE, "claude"),
        ("arn:aws:bedrock:us-east-1:1:inference-profile/us.anthropic.claude-opus-4-8", "claude"),
        (NOVA, "nova"),
        (OPEN, "openai"),
        (LLAMA, "other"),
        ("arn:aws:bedrock:us-east-1:1:application-inference-profile/abc", "other"),
    ],
)
def test_families(model: str, family: str) -> None:
    assert ConverseQuirks().family_of(model) == family
    assert ConverseQuirks(family="nova").family_of(model) == "nova"


# --- botocore's word ------------------------------------------------------------------------


def _with_bytes(value: Any) -> Any:
    """Our JSON as botocore's parameters: blobs as bytes."""
    if isinstance(value, dict):
        return {
            name: base64.b64decode(inner)
            if name in ("bytes", "redactedContent")
            else _with_bytes(inner)
            for name, inner in value.items()
        }
    return [_with_bytes(inner) for inner in value] if isinstance(value, list) else value


def check_with_botocore(body: dict[str, Any], model: str) -> None:
    """Every field is one of the service's model, and botocore would send the very same body."""
    from botocore.serialize import create_serializer
    from botocore.validate import ParamValidator

    operation = service_model().operation_model("ConverseStream")
    params = _with_bytes({"modelId": model, **body})
    report = ParamValidator().validate(params, operation.input_shape)
    assert not report.has_errors(), report.generate_report()
    sent = create_serializer("rest-json").serialize_to_request(params, operation)
    assert orjson.loads(sent["body"]) == body
    assert sent["url_path"] == fill("/model/{model}/converse-stream", model)


MORE: dict[str, Callable[[], dict[str, Any]]] = {
    "media": lambda: encode(
        Message(
            Role.USER,
            (
                ImagePart(url="s3://bucket/a.webp"),
                FilePart(filename="a b.txt", data_base64="aGk=", media_type="text/plain"),
                AudioPart("aGk=", "pcm16"),
            ),
        )
    ),
    "reasoning": lambda: encode(
        HELLO,
        Message(
            Role.ASSISTANT,
            (TextPart("a"),),
            extra={"reasoning_details": [{**SIGNED, **OWN}, {**SECRET, **OWN}]},
        ),
        HELLO,
    ),
    "results": lambda: encode(
        HELLO,
        CALL,
        replace(RESULT, parts=(), extra={"is_error": True, "cache_control": MARK}),
        tools=(replace(F, strict=True, cache_control=MARK),),
        tool_choice=ToolChoice(ToolChoiceMode.NAMED, "f"),
    ),
    "sampling": lambda: encode(model=NOVA, sampling=DRAWN, service_tier="priority"),
    "guardrail": lambda: encode(
        quirks={"guardrail": {"guardrailIdentifier": "abc", "guardrailVersion": "1"}}
    ),
    "native": lambda: encode(
        extra={
            "additionalModelResponseFieldPaths": ["/a"],
            "performanceConfig": {"latency": "optimized"},
            "requestMetadata": {"a": "b"},
        }
    ),
}


@needs_botocore
@pytest.mark.parametrize("name", MORE)
def test_botocore_would_send_the_same(name: str) -> None:
    check_with_botocore(MORE[name](), NOVA)


@needs_botocore
@pytest.mark.parametrize("model", [CLAUDE, OLDER, NOVA, OPEN, LLAMA])
def test_botocore_would_send_the_same_of_every_feature(model: str) -> None:
    checked = 0
    for _, request in FEATURES.values():
        codec = BUILDERS["bedrock_converse"](OF_CLAUDE, "p")()
        try:
            encoded = codec.encode_request(request, model)
        except UnsupportedFeature:
            continue
        check_with_botocore(orjson.loads(encoded.body), model)
        checked += 1
    assert checked > 20
