"""`rtrelay.direct.OpenAIChat`: what it sends, how it reads, what it does with its connections."""

from __future__ import annotations

import asyncio
import json
import sys
import traceback
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import orjson
import pytest
import rtrelay
from rtrelay._chat_body import Dialect, chat_body
from rtrelay._chat_stream import ChatStream
from rtrelay.direct import OpenAIChat
from rtrelay.events import Event
from rtrelay.v1 import (
    AudioPart,
    CancelReason,
    End,
    FilePart,
    FinishReason,
    ImagePart,
    Message,
    OpaquePart,
    Outcome,
    Part,
    Prompt,
    ReasoningOptions,
    ResponseFormat,
    ResponseFormatKind,
    Role,
    Sampling,
    Start,
    Tool,
    ToolCall,
    ToolChoice,
    ToolChoiceMode,
    ToolKind,
)

from relay.codecs.openai_chat_request import encode_body
from relay.codecs.openai_quirks import OpenAIChatQuirks
from relay.frontends.proto_in import to_generate_request
from tests.fakes.h1_server import Exchange, H1Server, Script, answer, close
from tests.fakes.relay_under_test import answer_chunks, chunk

CHAT = "/v1/chat/completions"
KEY = "sk-very-secret"
OPENAI = Dialect("max_completion_tokens", has_developer_role=True)
USER = Message(role=Role.ROLE_USER, parts=[Part(text="Hi")])
CALL = ToolCall(call_id="c", name="f", arguments='{"a":1}')


# --- what is sent -----------------------------------------------------------------------------

PROMPTS: dict[str, Prompt] = {
    "text": Prompt(messages=[USER]),
    "roles": Prompt(
        messages=[
            Message(role=Role.ROLE_SYSTEM, parts=[Part(text="Be brief.")]),
            Message(role=Role.ROLE_DEVELOPER, parts=[Part(text="Be kind.")], name="dev"),
            USER,
            Message(role=Role.ROLE_ASSISTANT, tool_calls=[CALL]),
            Message(role=Role.ROLE_TOOL, parts=[Part(text="42")], tool_call_id="c"),
            Message(role=Role.ROLE_ASSISTANT, parts=[Part(text="42"), Part(refusal="no")]),
        ]
    ),
    "parts": Prompt(
        messages=[
            Message(
                role=Role.ROLE_USER,
                parts=[
                    Part(text="What is this?"),
                    Part(image=ImagePart(url="https://example.com/a.png", detail="low")),
                    Part(image=ImagePart(data=b"png", media_type="image/png")),
                    Part(audio=AudioPart(data=b"wav", format="wav")),
                    Part(file=FilePart(file_id="f1")),
                    Part(
                        file=FilePart(data=b"pdf", filename="a.pdf", media_type="application/pdf")
                    ),
                    Part(opaque=OpaquePart(wire="openai_chat", value_json=b'{"type": "x"}')),
                ],
            )
        ]
    ),
    "tools": Prompt(
        messages=[USER],
        tools=[
            Tool(
                name="f",
                description="d",
                parameters_json=b'{"type": "object", "n": 1.0}',
                strict=True,
            ),
            Tool(name="g"),
            Tool(name="h", opaque_json=b'{"type": "custom", "custom": {"name": "h"}}'),
        ],
        tool_choice=ToolChoice(mode=ToolChoiceMode.TOOL_CHOICE_MODE_NAMED, name="f"),
        parallel_tool_calls=False,
    ),
    "required": Prompt(
        messages=[USER],
        tools=[Tool(name="f")],
        tool_choice=ToolChoice(mode=ToolChoiceMode.TOOL_CHOICE_MODE_REQUIRED),
    ),
    "no tools": Prompt(
        messages=[USER],
        tool_choice=ToolChoice(mode=ToolChoiceMode.TOOL_CHOICE_MODE_NONE),
        parallel_tool_calls=True,
    ),
    "sampling": Prompt(
        messages=[USER],
        sampling=Sampling(
            temperature=0.7,
            top_p=0.9,
            max_output_tokens=50,
            stop=["a", "b"],
            seed=7,
            choices=2,
            presence_penalty=0.5,
            frequency_penalty=-0.5,
            logprobs=True,
            top_logprobs=3,
        ),
    ),
    "schema": Prompt(
        messages=[USER],
        response_format=ResponseFormat(
            kind=ResponseFormatKind.RESPONSE_FORMAT_KIND_JSON_SCHEMA,
            name="n",
            description="d",
            schema_json=b'{"type": "object"}',
            strict=True,
        ),
    ),
    "object": Prompt(
        messages=[USER],
        response_format=ResponseFormat(kind=ResponseFormatKind.RESPONSE_FORMAT_KIND_JSON_OBJECT),
    ),
    "more": Prompt(
        messages=[USER],
        reasoning=ReasoningOptions(effort="low"),
        service_tier="flex",
        user="u",
        prompt_cache_key="k",
        extra_json=b'{"verbosity": "low"}',
    ),
    "custom call": Prompt(
        messages=[
            USER,
            Message(
                role=Role.ROLE_ASSISTANT,
                tool_calls=[
                    ToolCall(
                        call_id="c",
                        name="f",
                        arguments="free",
                        kind=ToolKind.TOOL_KIND_CUSTOM,
                        extra_json=b'{"extra_content": {"google": {}}}',
                    )
                ],
            ),
        ]
    ),
}


@pytest.mark.parametrize("name", PROMPTS)
def test_prompts_are_sent_as_the_relay_sends_them(name: str) -> None:
    """Whichever way a turn goes, the model is given the same."""
    start = Start(generation_id="g", model="fast", prompt=PROMPTS[name])
    neutral = to_generate_request(start, None)
    expected = orjson.loads(encode_body(neutral, "m", OpenAIChatQuirks(), "lab"))
    assert json.loads(chat_body(start, "m", Dialect())) == expected
    openai = OpenAIChatQuirks(
        max_tokens_field="max_completion_tokens", has_developer_role=True, has_cache_key=True
    )
    expected = orjson.loads(encode_body(neutral, "m", openai, "openai"))
    assert json.loads(chat_body(start, "m", OPENAI)) == expected


def test_a_chat_body_goes_as_it_is_but_for_what_is_the_relays() -> None:
    body = {
        "model": "fast",
        "messages": [{"role": "user", "content": "Hi"}],
        "brand_new": 1,
        "stream": False,
        "stream_options": {"include_usage": False},
        "relay": {"turn_id": "t"},
    }
    start = Start(openai_chat_body=json.dumps(body).encode())
    sent = json.loads(chat_body(start, "m", Dialect()))
    assert sent == {
        "model": "m",
        "messages": body["messages"],
        "brand_new": 1,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


@pytest.mark.parametrize(
    ("start", "reason", "field"),
    [
        (Start(), "INVALID_REQUEST", "start.input"),
        (Start(openai_chat_body=b"[]"), "INVALID_REQUEST", "start.openai_chat_body"),
        (Start(openai_chat_body=b"\xff"), "INVALID_REQUEST", "start.openai_chat_body"),
        (
            Start(prompt=Prompt(messages=[USER, Message()])),
            "INVALID_REQUEST",
            "start.prompt.messages[1].role",
        ),
        (
            Start(prompt=Prompt(messages=[USER], tools=[Tool(name="f", parameters_json=b"{")])),
            "INVALID_REQUEST",
            "start.prompt.tools[0].parameters_json",
        ),
        (
            Start(
                prompt=Prompt(
                    messages=[
                        Message(
                            role=Role.ROLE_USER,
                            parts=[Part(opaque=OpaquePart(wire="gemini", value_json=b"{}"))],
                        )
                    ]
                )
            ),
            "UNSUPPORTED_FEATURE",
            "prompt.messages[0].parts[0]",
        ),
    ],
)
def test_what_cannot_be_sent_is_named(start: Start, reason: str, field: str) -> None:
    with pytest.raises(rtrelay.RelayError) as caught:
        chat_body(start, "m", Dialect())
    assert caught.value.reason == reason
    assert field in caught.value.message
    assert caught.value.code == grpc.StatusCode.INVALID_ARGUMENT


# --- how answers are read ---------------------------------------------------------------------


def read(*documents: dict[str, Any]) -> tuple[list[Event], End]:
    stream = ChatStream()
    found = [
        event for document in documents for event in stream.feed(json.dumps(document).encode())
    ]
    stream.feed(b"[DONE]")
    return found + stream.finish(), stream.end


def delta(finish: str | None = None, index: int = 0, **fields: Any) -> dict[str, Any]:
    return {"choices": [{"index": index, "delta": fields, "finish_reason": finish}]}


def test_text_reasoning_and_usage() -> None:
    usage = {
        "prompt_tokens": 9,
        "completion_tokens": 4,
        "total_tokens": 13,
        "prompt_tokens_details": {"cached_tokens": 8},
        "completion_tokens_details": {"reasoning_tokens": 2},
    }
    events, end = read(
        {"id": "r", "model": "m", "created": 5, "system_fingerprint": "fp", **delta(role="a")},
        delta(reasoning_content="hm"),
        delta(content="Hel"),
        delta(content="lo", refusal="n"),
        delta("stop"),
        {"choices": [], "usage": usage},
    )
    assert events == [
        rtrelay.ReasoningDelta("hm"),
        rtrelay.TextDelta("Hel", 0),
        rtrelay.TextDelta("lo", 3),
        rtrelay.RefusalDelta("n"),
    ]
    assert (end.response_id, end.model, end.created_s, end.system_fingerprint) == (
        "r",
        "m",
        5,
        "fp",
    )
    assert (end.usage.total_tokens, end.usage.cached_tokens, end.usage.reasoning_tokens) == (
        13,
        8,
        2,
    )
    assert json.loads(end.usage.raw_json) == usage
    assert end.choices[0].finish_reason == FinishReason.FINISH_REASON_STOP


def call_piece(index: int | None, name: str = "", text: str = "", call_id: str = "") -> Any:
    piece: dict[str, Any] = {"function": {"name": name or None, "arguments": text}}
    if index is not None:
        piece["index"] = index
    if call_id:
        piece["id"] = call_id
    return piece


def test_tool_calls_come_whole_and_in_order() -> None:
    events, end = read(
        delta(tool_calls=[call_piece(0, "f", "", "c0")]),
        delta(tool_calls=[call_piece(0, text='{"a"')]),
        delta(tool_calls=[call_piece(0, text=":1}"), call_piece(1, "g", "{}", "c1")]),
        delta("tool_calls"),
    )
    assert [event for event in events if isinstance(event, rtrelay.ToolCall)] == [
        rtrelay.ToolCall(
            ToolCall(
                call_id="c0",
                name="f",
                arguments='{"a":1}',
                kind=ToolKind.TOOL_KIND_FUNCTION,
            ),
            0,
            is_partial=False,
        ),
        rtrelay.ToolCall(
            ToolCall(call_id="c1", name="g", arguments="{}", kind=ToolKind.TOOL_KIND_FUNCTION),
            1,
            is_partial=False,
        ),
    ]
    assert [event for event in events if isinstance(event, rtrelay.ToolArgumentsDelta)] == [
        rtrelay.ToolArgumentsDelta(0, "", "c0", "f"),
        rtrelay.ToolArgumentsDelta(0, '{"a"'),
        rtrelay.ToolArgumentsDelta(0, ":1}"),
        rtrelay.ToolArgumentsDelta(1, "{}", "c1", "g"),
    ]
    assert end.choices[0].finish_reason == FinishReason.FINISH_REASON_TOOL_CALLS


def test_odd_tool_calls() -> None:
    """Without an index, cut off, of a custom tool, with `stop` after calls."""
    events, _ = read(
        delta(tool_calls=[call_piece(None, "f", "{}", "c0"), call_piece(None, "g", "{}", "c1")]),
        delta("stop"),
    )
    whole = [event for event in events if isinstance(event, rtrelay.ToolCall)]
    assert [(one.call.name, one.index) for one in whole] == [("f", 0), ("g", 1)]
    events, end = read(delta("length", tool_calls=[call_piece(0, "f", '{"a', "c0")]))
    assert isinstance(events[-1], rtrelay.ToolCall)
    assert events[-1].is_partial
    assert end.choices[0].finish_reason == FinishReason.FINISH_REASON_LENGTH
    custom = {"id": "c", "type": "custom", "custom": {"name": "h", "input": "free"}}
    events, _ = read(delta("tool_calls", tool_calls=[custom]))
    assert isinstance(events[-1], rtrelay.ToolCall)
    assert events[-1].call.kind == ToolKind.TOOL_KIND_CUSTOM
    assert events[-1].call.arguments == "free"


def test_several_choices() -> None:
    events, end = read(
        delta(content="a"), delta(index=1, content="b"), delta("stop"), delta("length", index=1)
    )
    assert events == [rtrelay.TextDelta("a", 0), rtrelay.TextDelta("b", 0, choice=1)]
    assert [choice.raw_reason for choice in end.choices] == ["stop", "length"]


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"choices": None},
        {"choices": [None, 5, {}]},
        {"choices": [{"delta": None, "index": None}]},
        {"choices": [{"delta": {"content": None, "tool_calls": None}}]},
        {"usage": None, "created": "now", "model": None},
    ],
    ids=str,
)
def test_empty_fields_are_passed_over(document: dict[str, Any]) -> None:
    events, _ = read(document, delta("stop", content="a"))
    assert events == [rtrelay.TextDelta("a", 0)]


def test_an_end_without_a_finish_reason_is_no_end() -> None:
    with pytest.raises(rtrelay.RelayError, match="UPSTREAM_TRUNCATED"):
        read(delta(content="a"))
    with pytest.raises(rtrelay.RelayError, match="UPSTREAM_TRUNCATED"):
        read()


def test_errors_in_the_stream() -> None:
    stream = ChatStream()
    with pytest.raises(rtrelay.RelayError, match=r"UPSTREAM_FAILED: .*oops"):
        stream.feed(b'{"error": {"message": "oops", "type": "server_error"}}')
    with pytest.raises(rtrelay.RelayError, match="UPSTREAM_PROTOCOL"):
        stream.feed(b"nonsense")


# --- over connections -------------------------------------------------------------------------


@pytest.fixture
async def server() -> AsyncIterator[H1Server]:
    async with H1Server() as running:
        running.routes["/v1/models"] = answer(200, b"{}")
        yield running


@pytest.fixture
async def chat(server: H1Server) -> AsyncIterator[OpenAIChat]:
    made = OpenAIChat(
        f"{server.url}/v1/",
        api_key=KEY,
        model="m",
        models={"deep": "m-large"},
        trust_env=False,
        silence_timeout_s=5,
    )
    yield made
    await made.aclose()


def streams(*chunks: bytes, then: Callable[[Exchange], Any] | None = None) -> Script:
    async def script(exchange: Exchange) -> None:
        await exchange.head(
            200, ("content-type", "text/event-stream"), ("transfer-encoding", "chunked")
        )
        for piece in chunks:
            await exchange.chunk(piece)
        if then is not None:
            await then(exchange)
        else:
            await exchange.write(b"0\r\n\r\n")

    return script


async def asked(chat: OpenAIChat, start: Start | None = None) -> list[Event | End]:
    async with chat.generate(start or Start(prompt=PROMPTS["text"])) as events:
        return [event async for event in events]


@pytest.mark.sockets
async def test_one_connection_is_warmed_and_kept(server: H1Server, chat: OpenAIChat) -> None:
    server.routes[CHAT] = streams(*answer_chunks("Hel", "lo"))
    await chat.warm()
    for model in ("fast", "deep", ""):
        events = await asked(chat, Start(model=model, prompt=PROMPTS["text"]))
        assert events[:2] == [rtrelay.TextDelta("Hel", 0), rtrelay.TextDelta("lo", 3)]
        assert isinstance(events[2], End)
    assert len(server.connections) == 1
    bodies = [json.loads(exchange.body) for exchange in server.requests(CHAT)]
    assert [body["model"] for body in bodies] == ["m", "m-large", "m"]
    exchange = server.requests(CHAT)[0]
    assert exchange.header("authorization") == f"Bearer {KEY}"
    assert exchange.header("content-type") == "application/json"


@pytest.mark.sockets
async def test_comments_and_odd_framing(server: H1Server, chat: OpenAIChat) -> None:
    text = b"".join([b": hello\n\nevent: x\r\n", *answer_chunks("Hi")])
    server.routes[CHAT] = streams(*[text[at : at + 7] for at in range(0, len(text), 7)])
    assert (await asked(chat))[0] == rtrelay.TextDelta("Hi", 0)


@pytest.mark.sockets
async def test_marks_that_are_no_line_ends(server: H1Server, chat: OpenAIChat) -> None:
    """JSON may hold them as they are."""
    text = "a\u2028b\u0085c"
    raw = json.dumps(delta(content=text), ensure_ascii=False).encode()
    server.routes[CHAT] = streams(b"data: " + raw + b"\n\n", *answer_chunks()[1:])
    assert (await asked(chat))[0] == rtrelay.TextDelta(text, 0)


@pytest.mark.sockets
async def test_a_line_that_does_not_end(
    server: H1Server, chat: OpenAIChat, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rtrelay.direct._MOST_LINE_BYTES", 100_000)
    server.routes[CHAT] = streams(*[b"data: " + b"x" * 20_000] * 8, then=Exchange.hang)
    with pytest.raises(rtrelay.RelayError, match="UPSTREAM_EVENT_TOO_LARGE"):
        await asyncio.wait_for(asked(chat), 5)


@pytest.mark.sockets
async def test_a_host_that_does_not_stream(server: H1Server, chat: OpenAIChat) -> None:
    document = {
        "id": "r",
        "choices": [{"message": {"content": "Hi"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1},
    }
    server.routes[CHAT] = answer(200, json.dumps(document, indent=1).encode())
    events = await asked(chat)
    assert events[0] == rtrelay.TextDelta("Hi", 0)
    assert isinstance(events[1], End)
    assert events[1].usage.total_tokens == 2


@pytest.mark.sockets
async def test_a_host_that_never_closes_its_answer(server: H1Server, chat: OpenAIChat) -> None:
    server.routes[CHAT] = streams(*answer_chunks("Hi"), then=Exchange.hang)
    assert isinstance((await asyncio.wait_for(asked(chat), 2))[-1], End)
    await server.until(lambda: not server.open_connections)


@pytest.mark.sockets
@pytest.mark.parametrize(
    "script", [Exchange.hang, streams(chunk({"content": "x"}), then=Exchange.hang)]
)
async def test_cancelling_closes_the_connection(
    server: H1Server, chat: OpenAIChat, script: Script
) -> None:
    server.routes[CHAT] = script
    task = asyncio.create_task(asked(chat))
    await server.request(CHAT)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await server.until(lambda: not server.open_connections)


@pytest.mark.sockets
async def test_a_kept_connection_that_was_closed_is_replaced(
    server: H1Server, chat: OpenAIChat
) -> None:
    server.routes[CHAT] = streams(*answer_chunks("Hi"))
    await asked(chat)

    async def closes_once(exchange: Exchange) -> None:
        server.routes[CHAT] = streams(*answer_chunks("Hi"))
        exchange.connection.close()

    server.routes[CHAT] = closes_once
    assert (await asked(chat))[0] == rtrelay.TextDelta("Hi", 0)
    assert len(server.requests(CHAT)) == 3


@pytest.mark.sockets
@pytest.mark.parametrize(
    ("script", "reason", "code", "asked_times"),
    [
        (answer(400, b'{"error": {"message": "bad", "param": "n"}}'), "UPSTREAM_REJECTED", 3, 1),
        (
            answer(401, f'{{"error": {{"message": "wrong key {KEY}"}}}}'.encode()),
            "UPSTREAM_MISCONFIGURED",
            14,
            1,
        ),
        (answer(403), "UPSTREAM_PERMISSION_DENIED", 7, 1),
        (answer(404, b"<html>"), "UPSTREAM_MODEL_NOT_FOUND", 5, 1),
        (answer(429, b"{}", [("retry-after", "2")]), "UPSTREAM_RATE_LIMITED", 8, 1),
        (
            answer(429, b'{"error": {"code": "insufficient_quota"}}'),
            "UPSTREAM_QUOTA_EXHAUSTED",
            9,
            1,
        ),
        (answer(307, headers=[("location", "http://127.0.0.1:1/")]), "UPSTREAM_REDIRECT", 14, 1),
        (answer(500, b"x" * 200_000), "UPSTREAM_FAILED", 14, 1),
        (answer(503), "UPSTREAM_OVERLOADED", 14, 1),
        (close(), "UPSTREAM_RESET", 14, 2),
        (close(abort=True), "UPSTREAM_RESET", 14, 2),
        (streams(*answer_chunks("Hi")[:-2]), "UPSTREAM_TRUNCATED", 14, 1),
        (
            streams(chunk({"content": "x"}), then=close(abort=True)),
            "UPSTREAM_RESET",
            14,
            1,
        ),
    ],
)
async def test_failures_are_told_as_the_relay_tells_them(
    server: H1Server, chat: OpenAIChat, script: Script, reason: str, code: int, asked_times: int
) -> None:
    server.routes[CHAT] = script
    with pytest.raises(rtrelay.RelayError) as caught:
        await asked(chat)
    error = caught.value
    assert (error.reason, error.code.value[0]) == (reason, code)
    assert error.details["provider"] == "direct"
    assert len(server.requests(CHAT)) == asked_times
    shown = "".join(traceback.format_exception(error))
    assert KEY not in shown
    if reason == "UPSTREAM_RATE_LIMITED":
        assert error.retry_after_s == 2.0


@pytest.mark.sockets
async def test_silence_and_absence(server: H1Server, unused_tcp_port: int) -> None:
    server.routes[CHAT] = Exchange.hang
    silent = OpenAIChat(f"{server.url}/v1", model="m", silence_timeout_s=0.05, trust_env=False)
    with pytest.raises(rtrelay.RelayError, match="STREAM_STALLED") as caught:
        await asked(silent)
    assert caught.value.code == grpc.StatusCode.DEADLINE_EXCEEDED
    await silent.aclose()
    away = OpenAIChat(f"http://127.0.0.1:{unused_tcp_port}/v1", model="m", trust_env=False)
    with pytest.raises(rtrelay.RelayError, match="UPSTREAM_UNREACHABLE"):
        await asked(away)
    await away.warm()  # says nothing
    await away.aclose()
    await away.aclose()


@pytest.mark.sockets
async def test_a_model_that_has_no_name_there(server: H1Server) -> None:
    chat = OpenAIChat(f"{server.url}/v1", models={"fast": "m"}, trust_env=False)
    with pytest.raises(rtrelay.RelayError, match=r"direct\.models: .*'deep'"):
        await asked(chat, Start(model="deep", prompt=PROMPTS["text"]))
    body = b'{"model": "fast", "messages": []}'
    server.routes[CHAT] = streams(*answer_chunks("Hi"))
    await asked(chat, Start(openai_chat_body=body))
    assert json.loads(server.requests(CHAT)[0].body)["model"] == "m"
    await chat.aclose()


@pytest.mark.sockets
async def test_through_a_client(server: H1Server, chat: OpenAIChat, unused_tcp_port: int) -> None:
    """The whole way, with the end that the caller gets."""
    usage = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
    pieces = answer_chunks("Hel", "lo")
    server.routes[CHAT] = streams(*pieces[:-1], chunk(choices=[], usage=usage), pieces[-1])
    address = f"127.0.0.1:{unused_tcp_port}"
    async with rtrelay.Client(address, model="fast", direct=chat) as client:
        answer_ = client.generate("Hi")
        assert await answer_.text() == "Hello"
        end = await answer_.ended()
        assert (end.outcome, end.usage.total_tokens) == (Outcome.OUTCOME_COMPLETED, 7)
        assert end.model == "upstream-model"
        server.routes[CHAT] = streams(chunk({"content": "x"}), then=Exchange.hang)
        cut = client.generate("Hi")
        async for _ in cut:
            break
        assert cut.end is not None
        assert cut.end.cancel_reason == CancelReason.CANCEL_REASON_UNSPECIFIED
        exchange = server.requests(CHAT)[1]
        await server.until(lambda: exchange.connection.closed)
        await server.until(lambda: server.open_connections)  # a fresh one is ready


# --- its arguments ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"base_url": "api.openai.com"}, "base_url: "),
        ({"base_url": "https://me:secret@host/v1"}, "base_url: "),
        ({"model": ""}, "model: "),
        ({"api_key": "secret\n"}, "api_key: "),
        ({"api_key": ""}, "api_key: "),
        ({"api_key": 5}, "api_key: "),
        ({"headers": {"api-key": "secret\r\n"}}, "headers: api-key"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        OpenAIChat(**{"base_url": "https://host/v1", "model": "m", **arguments})
    assert str(caught.value).startswith(message)
    assert "secret" not in str(caught.value)


def test_no_secret_is_shown() -> None:
    chat = OpenAIChat(
        "https://host/v1", api_key=KEY, model="m", headers={"api-key": "other-secret"}
    )
    client = rtrelay.Client("127.0.0.1:1", direct=chat)
    for shown in (repr(chat), str(chat), repr(client)):
        assert "secret" not in shown
    assert "host" in repr(chat)


def test_without_httpx2_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "httpx2", None)
    with pytest.raises(ImportError, match=r"extra `direct` of rtrelay-client"):
        OpenAIChat("https://host/v1", model="m")


@pytest.mark.parametrize(
    ("base_url", "field"),
    [
        ("https://api.openai.com/v1", "max_completion_tokens"),
        ("https://me.openai.azure.com/openai/v1", "max_completion_tokens"),
        ("https://api.groq.com/openai/v1", "max_tokens"),
    ],
)
def test_hosts_are_known_by_their_names(base_url: str, field: str) -> None:
    dialect = OpenAIChat(base_url, model="m")._dialect
    assert dialect.max_tokens_field == field
    assert dialect.has_developer_role == (field == "max_completion_tokens")
