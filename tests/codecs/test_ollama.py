"""Ollama's own surface: requests, each rule of its lines, every cut, the recorded exchanges."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.codecs.ndjson import NdjsonParser
from relay.codecs.ollama import OllamaCodec, build_ollama
from relay.content import (
    AudioPart,
    ChoiceFinished,
    FilePart,
    FinishReason,
    GenerateRequest,
    ImagePart,
    Message,
    OpaquePart,
    ReasoningOptions,
    ResponseFormat,
    ResponseInfo,
    Role,
    Sampling,
    TextDelta,
    TextPart,
    Tool,
    ToolCall,
    ToolChoice,
    ToolChoiceMode,
    Usage,
)
from relay.errors import (
    EventTooLarge,
    InvalidRequest,
    Reason,
    RemoteProtocolError,
    StreamTruncated,
    UnsupportedFeature,
    UpstreamStatus,
)
from relay.sse import MAX_EVENT_BYTES
from tests.fakes.collect import Collected, collect, pieces_of, run

SCHEMA = b'{"type":"object","properties":{"b":{},"a":{}}}'
TOOLS = (Tool("f", "does f", SCHEMA),)
HELLO = Message(Role.USER, (TextPart("hi"),))


# --- requests -------------------------------------------------------------------------------


def encode(**fields: Any) -> dict[str, Any]:
    request = GenerateRequest("alias", fields.pop("messages", (HELLO,)), **fields)
    encoded = OllamaCodec(None, "p").encode_request(request, "m")
    assert encoded.path == "/api/chat"
    body: dict[str, Any] = orjson.loads(encoded.body)
    assert body.pop("model") == "m"
    assert body.pop("stream") is True
    return body


def test_cache_marks_are_left_out() -> None:
    opaque = {"type": "function", "function": {"name": "f", "x": 1}}
    marked = {**opaque, "cache_control": {"type": "ephemeral"}}
    assert encode(tools=(Tool("f", opaque=marked),))["tools"] == [opaque]
    assert encode(messages=(Message(Role.USER, (TextPart("hi", {"a": 1}),)),)) == encode()


def test_smallest_request() -> None:
    assert encode() == {"messages": [{"role": "user", "content": "hi"}]}


def test_every_field() -> None:
    body = encode(
        tools=(*TOOLS, Tool("g"), Tool("h", opaque={"type": "function", "function": {"x": 1}})),
        tool_choice=ToolChoice(ToolChoiceMode.AUTO),
        parallel_tool_calls=True,
        response_format=ResponseFormat("json_schema", schema_json=SCHEMA),
        sampling=Sampling(0.0, 0.5, 7, 100, ("x",), 3, 1, 0.1, -0.1, True, 4),
        reasoning=ReasoningOptions("low"),
        service_tier="x",
        user="u",
        prompt_cache_key="k",
        extra={"keep_alive": "5m", "options": {"num_ctx": 9, "seed": 1}, "metadata": {}, "new": 1},
    )
    del body["messages"]
    parameters = {"type": "object", "properties": {}}
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
            {
                "type": "function",
                "function": {"name": "g", "description": "", "parameters": parameters},
            },
            {"type": "function", "function": {"x": 1}},
        ],
        "format": orjson.loads(SCHEMA),
        "think": "low",
        "options": {
            "num_ctx": 9,
            "temperature": 0.0,
            "top_p": 0.5,
            "top_k": 7,
            "num_predict": 100,
            "stop": ["x"],
            "seed": 3,
            "presence_penalty": 0.1,
            "frequency_penalty": -0.1,
        },
        "logprobs": True,
        "top_logprobs": 4,
        "keep_alive": "5m",
    }


def test_conversation() -> None:
    call = ToolCall("c1", "f", '{"a":1}')
    body = encode(
        messages=(
            Message(Role.DEVELOPER, (TextPart("s"),)),
            Message(Role.USER, (TextPart("a"), TextPart("b"), ImagePart(data_base64="QUJD"))),
            Message(Role.ASSISTANT, tool_calls=(call, ToolCall("c2", "g", "")), reasoning="t"),
            Message(Role.TOOL, (TextPart("1"),), tool_call_id="c1"),
            Message(Role.TOOL, (TextPart("2"),), tool_call_id="unheard of"),
        )
    )
    assert body["messages"] == [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "a\nb", "images": ["QUJD"]},
        {
            "role": "assistant",
            "content": "",
            "thinking": "t",
            "tool_calls": [
                {"function": {"name": "f", "arguments": {"a": 1}}},
                {"function": {"name": "g", "arguments": {}}},
            ],
        },
        {"role": "tool", "content": "1", "tool_name": "f"},
        {"role": "tool", "content": "2"},
    ]


@pytest.mark.parametrize(
    ("fields", "key", "expected"),
    [
        ({"reasoning": ReasoningOptions("none")}, "think", False),
        ({"reasoning": ReasoningOptions("xhigh")}, "think", "high"),
        ({"reasoning": ReasoningOptions("odd")}, "think", True),
        ({"reasoning": ReasoningOptions("", 0)}, "think", False),
        ({"reasoning": ReasoningOptions("", 99)}, "think", True),
        ({"response_format": ResponseFormat("json_object")}, "format", "json"),
        ({"response_format": ResponseFormat("json_schema")}, "format", "json"),
        ({"response_format": ResponseFormat("text")}, "format", None),
        ({"tools": TOOLS, "tool_choice": ToolChoice(ToolChoiceMode.NONE)}, "tools", None),
        ({"sampling": Sampling(logprobs=False, top_logprobs=3)}, "top_logprobs", None),
        ({"sampling": Sampling(choices=1)}, "options", None),
        ({"extra": {"modalities": ["text"], "logit_bias": {}}}, "options", None),
    ],
)
def test_one_field(fields: dict[str, Any], key: str, expected: Any) -> None:
    assert encode(**fields).get(key) == expected


def with_part(part: Any) -> dict[str, Any]:
    return {"messages": (Message(Role.USER, (part,)),)}


def with_call(call: ToolCall) -> dict[str, Any]:
    return {"messages": (Message(Role.ASSISTANT, tool_calls=(call,)),)}


@pytest.mark.parametrize(
    ("fields", "feature"),
    [
        ({"sampling": Sampling(choices=2)}, "n"),
        ({"tools": TOOLS, "parallel_tool_calls": False}, "parallel_tool_calls"),
        ({"tool_choice": ToolChoice(ToolChoiceMode.REQUIRED)}, "forced tool_choice"),
        ({"tool_choice": ToolChoice(ToolChoiceMode.NAMED, "f")}, "forced tool_choice"),
        ({"extra": {"logit_bias": {"1": 1}}}, "logit_bias"),
        ({"tools": (Tool("", opaque={"type": "custom"}),)}, "tools other than functions"),
        (with_part(ImagePart(url="https://x")), "image parts by address"),
        (with_part(AudioPart("QUJD", "wav")), "audio parts"),
        (with_part(FilePart("f")), "file parts"),
        (with_part(OpaquePart("openai_chat", {})), "a openai_chat content part"),
        (with_call(ToolCall("c", "f", "x", kind="custom")), "custom tool calls"),
        (
            with_call(ToolCall("c", "f", "{")),
            "a tool call whose arguments are no JSON object",
        ),
        (
            with_call(ToolCall("c", "f", "[]")),
            "a tool call whose arguments are no JSON object",
        ),
    ],
)
def test_what_is_refused(fields: dict[str, Any], feature: str) -> None:
    with pytest.raises(UnsupportedFeature) as caught:
        encode(**fields)
    assert caught.value.feature == feature


def test_schema_that_is_no_json() -> None:
    with pytest.raises(InvalidRequest):
        encode(tools=(Tool("f", parameters_json=b"{"),))


def test_quirks() -> None:
    assert build_ollama({}, "p")().wire == "ollama"
    codec = build_ollama({"path": "/x"}, "p")()
    assert codec.encode_request(GenerateRequest("a", (HELLO,)), "m").path == "/x"
    with pytest.raises(ValueError, match="did you mean 'path'"):
        build_ollama({"paths": "/x"}, "p")


# --- answers --------------------------------------------------------------------------------


def line(message: Any = None, **fields: Any) -> bytes:
    head = {"model": "m", "created_at": "2026-01-01T00:00:00.123456789Z"}
    said = {} if message is None else {"message": {"role": "assistant", **message}}
    return orjson.dumps({**head, **said, "done": False, **fields}) + b"\n"


def text(content: str) -> bytes:
    return line({"content": content})


def tool(name: str, arguments: Any, **fields: Any) -> dict[str, Any]:
    return {"function": {"name": name, "arguments": arguments}, **fields}


COUNTS = {"prompt_eval_count": 7, "eval_count": 3, "total_duration": 99}
DONE = line({"content": ""}, done=True, done_reason="stop", **COUNTS)


def decode(body: bytes, *, status: int = 200) -> Collected:
    def once(pieces: list[bytes]) -> Collected:
        return collect(run(OllamaCodec(), pieces, status=status))

    whole = once([body])
    assert once(pieces_of(body, 1)) == whole, "byte by byte"
    for at in range(1, len(body), max(1, len(body) // 60)):
        assert once([body[:at], body[at:]]) == whole, f"cut at {at}"
    return whole


def test_documented_stream() -> None:
    codec = OllamaCodec()
    events = run(codec, [text("Hel"), text("lo"), DONE])
    assert codec.is_finished
    assert events == [
        ResponseInfo("", "m", 1767225600),
        TextDelta("Hel"),
        TextDelta("lo"),
        ChoiceFinished(FinishReason.STOP, "stop"),
        Usage(7, 3, 10, raw_json=orjson.dumps(COUNTS)),
    ]
    assert list(codec.feed(text("late"))) == []
    assert decode(text("Hel") + text("lo") + DONE).text == "Hello"


def test_text_comes_with_the_end_of_its_line() -> None:
    codec = OllamaCodec()
    codec.decode_headers(200, [])
    assert list(codec.feed(text("a")[:-1])) == []
    assert TextDelta("a") in codec.feed(b"\n")


def test_thinking_calls_and_logprobs() -> None:
    logprobs = [{"token": "a", "logprob": -1}]
    body = (
        line({"content": "", "thinking": "th"})
        + line({"content": "a"}, logprobs=logprobs)
        + line({"content": "", "tool_calls": [tool("f", {"a": "é"})]})
        + line({"content": "", "tool_calls": [tool("g", {}), tool("h", None, id="mine")]})
        + DONE
    )
    choice = decode(body).choices[0]
    assert (choice.reasoning, choice.text) == ("th", "a")
    assert [(call.name, call.arguments) for call in choice.tool_calls] == [
        ("f", '{"a":"é"}'),
        ("g", "{}"),
        ("h", "{}"),
    ]
    assert choice.tool_calls[2].call_id == "mine"
    assert len({call.call_id for call in choice.tool_calls}) == 3
    assert choice.finish is FinishReason.TOOL_CALLS
    assert choice.opaque == [("logprobs", {"content": logprobs})]


@pytest.mark.parametrize(
    ("reason", "finish", "raw"),
    [
        ("stop", FinishReason.STOP, "stop"),
        ("length", FinishReason.LENGTH, "length"),
        ("load", FinishReason.OTHER, "load"),
        (None, FinishReason.STOP, "stop"),
    ],
)
def test_done_reason(reason: str | None, finish: FinishReason, raw: str) -> None:
    result = decode(line({"content": "a"}, done=True, done_reason=reason))
    assert (result.choices[0].finish, result.choices[0].raw_finish) == (finish, raw)
    assert result.usage is None


@pytest.mark.parametrize("end", [b"", b"\r\n", b"\n\n \n"])
def test_whole_answer_is_a_stream_of_one_line(end: bytes) -> None:
    whole = line({"content": "a"}, done=True, **COUNTS).rstrip() + end
    assert decode(b"\xef\xbb\xbf\n" + whole).text == "a"


@pytest.mark.parametrize("created", [None, "", "yesterday", 7, "0001-01-01T00:00:00Z"])
def test_moment_that_is_none(created: Any) -> None:
    info = decode(line({"content": "a"}, created_at=created) + DONE).info
    assert info is not None
    assert info.created_s == 0


def test_lane_for_text_loses_nothing() -> None:
    odd = line({"content": "b"}, logprobs=[{"token": "b"}])
    body = text("a") + text("") + odd * 9 + text("c") + line({"content": "d"}, done=True)
    choice = decode(body).choices[0]
    assert choice.text == "a" + "b" * 9 + "cd"
    assert len(choice.opaque) == 9
    last = decode(text("a") + text("b") + line({"content": "c"}, done=True)).choices[0]
    assert (last.text, last.finish) == ("abc", FinishReason.STOP)


def test_cut_at_every_line_is_no_clean_end() -> None:
    lines = [text("a"), line({"tool_calls": [tool("f", {})]}), DONE]
    for count in range(len(lines)):
        failure = decode(b"".join(lines[:count])).failure
        assert isinstance(failure, StreamTruncated)
    assert isinstance(decode(text("a") + DONE[:-9]).failure, StreamTruncated)


def test_error_inside_a_stream() -> None:
    result = decode(text("a") + b'{"error":"model runner has unexpectedly stopped"}\n' + DONE)
    assert result.text == "a"
    assert isinstance(result.failure, UpstreamStatus)
    assert result.failure.reason is Reason.UPSTREAM_FAILED


@pytest.mark.parametrize(
    "body",
    [
        b"<html>",
        text("a") + b"nonsense\n",
        text("a") + b"[1]\n",
        b"7\n",
        line({"tool_calls": [7]}),
        line({"tool_calls": [{"function": None}]}),
        line({"tool_calls": [tool("", {})]}),
    ],
)
def test_broken_format(body: bytes) -> None:
    assert isinstance(decode(body).failure, RemoteProtocolError)


@pytest.mark.parametrize("message", [None, 7, {"content": None}, {"tool_calls": None}, {"x": 1}])
def test_lines_that_say_nothing(message: Any) -> None:
    odd = orjson.dumps({"model": "m", "message": message}) + b"\n"
    assert decode(text("a") + odd + b"\n" + DONE).error is None


def test_line_over_the_cap() -> None:
    huge = text("x" * MAX_EVENT_BYTES)
    for pieces in ([text("a"), huge], pieces_of(text("a") + huge, 65_536)):
        result = collect(run(OllamaCodec(), pieces))
        assert isinstance(result.failure, EventTooLarge)
        assert result.text == "a"
    parser = NdjsonParser(max_line_bytes=10)
    for _ in range(100):
        parser.feed(b"xxx")
        assert len(parser._line) <= 10
    assert parser.is_too_large
    assert parser.feed(b"\n{}\n") == []
    assert parser.end() is None


def test_text_that_is_no_unicode_is_mended_and_counted() -> None:
    codec = OllamaCodec()
    result = collect(run(codec, [text("a").replace(b'"a"', b'"\xff"'), DONE]))
    assert (result.text, codec.mended_events) == ("\ufffd", 1)


VALID = text("Hé") + line({"thinking": "t", "tool_calls": [tool("f", {"a": 1})]}) + DONE


@given(
    at=st.integers(0, len(VALID) - 1),
    length=st.integers(0, 40),
    put=st.binary(max_size=12),
    cuts=st.lists(st.integers(1, 200), max_size=6),
    status=st.sampled_from([200, 200, 200, 404]),
)
@settings(max_examples=200, deadline=None)
def test_any_change_of_a_valid_stream_is_taken(
    at: int, length: int, put: bytes, cuts: list[int], status: int
) -> None:
    body = VALID[:at] + put + VALID[at + length :]
    begin, pieces = 0, []
    for size in [*cuts, len(body)]:
        pieces.append(body[begin : begin + size])
        begin += size
    whole = collect(run(OllamaCodec(), [body], status=status))
    assert collect(run(OllamaCodec(), pieces, status=status)) == whole
