"""What clients do wrong: each is told which field and why, and nobody else notices.

Beside every bad frame or request runs a generation that began before it, on the same session over
gRPC and on another connection over HTTP; it must come to its whole end afterwards.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import httpx2
import orjson
import pytest
from rtrelay.v1 import (
    Cancel,
    Commit,
    ConverseRequest,
    GenerateRequest,
    Message,
    NoticeKind,
    Outcome,
    Part,
    Ping,
    Prompt,
    Role,
    Sampling,
    Setup,
    Tool,
    ToolChoice,
    ToolChoiceMode,
)

from relay.frontends.grpc_service import HARD_LIMIT_FACTOR
from tests.fakes.converse_client import (
    Conversation,
    field_of,
    prompt,
    reason_of,
    start,
    status_of,
)
from tests.fakes.h2_server import H2Server, ServerStream
from tests.fakes.relay_under_test import (
    DONE,
    RelayUnderTest,
    chat_body,
    chunk,
    provider,
    relay_under_test,
)

pytestmark = pytest.mark.sockets

CHAT = "/v1/chat/completions"
MAX_BYTES = 524_288
"""Of a gRPC message and of an HTTP body here, so that going over it is quick."""
FAR_OVER = MAX_BYTES * HARD_LIMIT_FACTOR + 1
"""What grpc refuses by itself; what is in between is in `test_message_size.py`."""
MAX_LIVE = 3

NO_FRAME = b""
"""A message without any field: an empty frame."""
NOT_PROTOBUF = b"\xff\xff\xff\xff not protobuf"


@dataclass
class World:
    """A relay, and a provider whose answers wait at a gate after their first word."""

    relay: RelayUnderTest
    lab: H2Server
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    @asynccontextmanager
    async def session(self, **setup: Any) -> AsyncIterator[Conversation]:
        """A session with a running generation `by`, which must end well after the block."""
        async with self.relay.talk(**setup) as talk:
            await talk.start("by")
            await talk.says("One", "by")
            yield talk
            self.gate.set()
            answer = await talk.ended("by")
            assert answer.end is not None
            assert answer.end.outcome == Outcome.OUTCOME_COMPLETED
            assert answer.text == "One two"
            await talk.half_close()
            assert await talk.over() is None

    async def still_serves(self) -> None:
        """A new client gets its answer."""
        self.gate.set()
        assert (await self.relay.generate(start())).text == "One two"
        assert (await self.relay.chat(chat_body())).text.endswith("data: [DONE]\n\n")


@pytest.fixture
async def world(upstream: H2Server, ca_file: str) -> AsyncIterator[World]:
    document = {
        "server": {
            "grpc": {"max_request_bytes": MAX_BYTES, "max_live_generations": MAX_LIVE},
            "http": {"max_request_bytes": MAX_BYTES},
        },
        "providers": {"lab": provider(upstream.url, ca_file=ca_file)},
        "models": {
            "fast": {"candidates": [{"provider": "lab", "model": "m"}]},
            "fancy": {"candidates": [{"provider": "lab", "model": "m2"}]},
        },
    }
    async with relay_under_test(document) as relay:
        made = World(relay, upstream)

        async def gated(stream: ServerStream) -> None:
            await stream.send_headers()
            await stream.send(chunk({"content": "One"}))
            await made.gate.wait()
            await stream.send(chunk({"content": " two"}) + chunk(finish="stop") + DONE, end=True)

        upstream.routes[CHAT] = gated
        yield made
        await relay.settled()


# --- Converse: what ends the session --------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "reason"),
    [
        pytest.param(NOT_PROTOBUF, "INVALID_REQUEST", id="not_protobuf"),
        pytest.param(NO_FRAME, "SETUP_REQUIRED", id="empty"),
        pytest.param(ConverseRequest(start=start()), "SETUP_REQUIRED", id="start"),
        pytest.param(ConverseRequest(ping=Ping(nonce=1)), "SETUP_REQUIRED", id="ping"),
        pytest.param(ConverseRequest(cancel=Cancel(all=True)), "SETUP_REQUIRED", id="cancel"),
        pytest.param(
            ConverseRequest(setup=Setup(labels={str(i): "" for i in range(17)})),
            "INVALID_REQUEST",
            id="setup_with_too_many_labels",
        ),
    ],
)
async def test_first_frame_that_is_no_setup_ends_the_session(
    world: World, first: bytes | ConverseRequest, reason: str
) -> None:
    data = first if isinstance(first, bytes) else first.SerializeToString()
    async with world.session(), world.relay.talk(setup=None) as talk:
        await talk.send_bytes(data)
        status = status_of(await talk.over())
        assert reason_of(status) == reason
        assert status.code == 3
        assert not talk.answers
        assert not talk.notices
    await world.still_serves()


async def test_session_that_says_nothing_ends_without_harm(world: World) -> None:
    async with world.relay.talk(setup=None) as talk:
        await talk.half_close()
        assert reason_of(status_of(await talk.over())) == "SETUP_REQUIRED"
    async with world.relay.talk() as talk:
        await talk.half_close()
        assert await talk.over() is None
    await world.still_serves()


async def test_message_far_over_the_limit_ends_its_own_session(world: World) -> None:
    async with world.session(), world.relay.talk() as talk:
        await talk.start("big", text="x" * FAR_OVER)
        error = await talk.over()
        assert error is not None
        assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    result = await world.relay.generate(start(text="x" * FAR_OVER))
    assert result.error is not None
    assert result.error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    await world.still_serves()


async def test_metadata_over_the_limit_is_refused_every_time(world: World) -> None:
    codes = set()
    for _ in range(10):
        async with Conversation(world.relay.channel, {"x-big": "y" * 17_000}, setup=None) as talk:
            error = await talk.over()
            assert error is not None
            codes.add(error.code())
    assert codes == {grpc.StatusCode.RESOURCE_EXHAUSTED}
    await world.still_serves()


# --- Converse: what is refused and changes nothing ------------------------------------------------


@pytest.mark.parametrize(
    ("frame", "reason", "field"),
    [
        pytest.param(
            NOT_PROTOBUF, "INVALID_REQUEST", "rtrelay.v1.ConverseRequest", id="not_protobuf"
        ),
        pytest.param(NO_FRAME, "INVALID_REQUEST", "frame", id="empty"),
        pytest.param(b"\xfa\x3f\x02hi", "INVALID_REQUEST", "frame", id="of_a_later_version"),
        pytest.param(ConverseRequest(setup=Setup()), "INVALID_REQUEST", "setup", id="second_setup"),
        pytest.param(
            ConverseRequest(start=start("")), "INVALID_REQUEST", "start.generation_id", id="no_id"
        ),
        pytest.param(
            ConverseRequest(start=start("x" * 129)),
            "INVALID_REQUEST",
            "start.generation_id",
            id="long_id",
        ),
        pytest.param(
            ConverseRequest(start=start("by")), "DUPLICATE_GENERATION", "", id="id_of_a_running_one"
        ),
        pytest.param(
            ConverseRequest(commit=Commit()),
            "INVALID_REQUEST",
            "commit.generation_id",
            id="commit_of_nothing",
        ),
        pytest.param(
            ConverseRequest(cancel=Cancel()), "INVALID_REQUEST", "cancel", id="cancel_of_nothing"
        ),
        pytest.param(
            ConverseRequest(cancel=Cancel(all=False)),
            "INVALID_REQUEST",
            "cancel",
            id="cancel_not_all",
        ),
    ],
)
async def test_frame_is_rejected_and_changes_nothing(
    world: World, frame: bytes | ConverseRequest, reason: str, field: str
) -> None:
    data = frame if isinstance(frame, bytes) else frame.SerializeToString()
    async with world.session() as talk:
        await talk.send_bytes(data)
        notice = await talk.noticed()
        assert notice.kind == NoticeKind.NOTICE_KIND_FRAME_REJECTED
        assert reason_of(notice.error) == reason
        assert field_of(notice.error) == field
        assert notice.message == notice.error.message
        # Frames after it are heard.
        await talk.send(ping=Ping(nonce=9))
        await talk.until(lambda: talk.pongs == [9])
        assert len(talk.notices) == 1


async def test_id_is_used_once_also_after_its_end(world: World) -> None:
    world.gate.set()
    async with world.relay.talk() as talk:
        await talk.start("g1")
        await talk.ended("g1")
        await talk.start("g1")
        notice = await talk.noticed()
        assert reason_of(notice.error) == "DUPLICATE_GENERATION"
        assert notice.generation_id == "g1"
        # An id whose start was refused is used as well: it had its end.
        await talk.start("g2", model="nope")
        await talk.ended("g2")
        await talk.start("g2")
        assert reason_of((await talk.noticed(1)).error) == "DUPLICATE_GENERATION"


async def test_one_generation_too_many_is_refused_alone(world: World) -> None:
    async with world.session() as talk:
        for number in range(MAX_LIVE - 1):
            await talk.start(f"g{number}")
            await talk.says("One", f"g{number}")
        await talk.start("extra")
        answer = await talk.ended("extra")
        assert not answer.is_started
        assert answer.end is not None
        assert answer.end.outcome == Outcome.OUTCOME_FAILED
        assert reason_of(answer.end.error) == "TOO_MANY_GENERATIONS"
        assert answer.end.error.code == 8
        await talk.cancel("g0")
        await talk.ended("g0")
        await talk.start("next")
        await talk.says("One", "next")


BAD_STARTS = [
    pytest.param({"model": "fats"}, "UNKNOWN_MODEL", "model", "fast", id="unknown_model"),
    pytest.param({"model": "nowhere/m"}, "UNKNOWN_MODEL", "model", "", id="unknown_provider"),
    pytest.param({"model": "../../etc"}, "UNKNOWN_MODEL", "model", "", id="traversal"),
    pytest.param({"model": ""}, "INVALID_REQUEST", "start.model", "", id="no_model"),
    pytest.param({"prompt": None}, "INVALID_REQUEST", "start.prompt", "", id="no_prompt"),
    pytest.param(
        {"prompt": Prompt()}, "INVALID_REQUEST", "start.prompt.messages", "", id="no_messages"
    ),
    pytest.param(
        {"prompt": Prompt(messages=[Message(parts=[Part(text="x")])])},
        "INVALID_REQUEST",
        "start.prompt.messages[0].role",
        "",
        id="no_role",
    ),
    pytest.param(
        {"prompt": Prompt(messages=[Message(role=Role.ROLE_USER, parts=[Part()])])},
        "INVALID_REQUEST",
        "start.prompt.messages[0].parts[0]",
        "",
        id="empty_part",
    ),
    pytest.param(
        {
            "prompt": Prompt(
                messages=prompt().messages, tools=[Tool(name="t", parameters_json=b"{nope")]
            )
        },
        "INVALID_REQUEST",
        "start.prompt.tools[0].parameters_json",
        "",
        id="schema_that_is_no_json",
    ),
    pytest.param(
        {
            "prompt": Prompt(
                messages=prompt().messages,
                tool_choice=ToolChoice(mode=ToolChoiceMode.TOOL_CHOICE_MODE_NAMED),
            )
        },
        "INVALID_REQUEST",
        "start.prompt.tool_choice.name",
        "",
        id="choice_without_name",
    ),
    pytest.param(
        {"prompt": Prompt(messages=prompt().messages, sampling=Sampling(choices=10**6))},
        "INVALID_REQUEST",
        "start.prompt.sampling.choices",
        "",
        id="a_million_choices",
    ),
    pytest.param(
        {"prompt": Prompt(messages=prompt().messages, extra_json=b"[1]")},
        "INVALID_REQUEST",
        "start.prompt.extra_json",
        "",
        id="extra_that_is_no_object",
    ),
    pytest.param(
        {"labels": {str(i): "" for i in range(17)}},
        "INVALID_REQUEST",
        "start.labels",
        "",
        id="too_many_labels",
    ),
    pytest.param(
        {"openai_chat_body": b"{nope"}, "INVALID_REQUEST", "", "line 1", id="body_that_is_no_json"
    ),
    pytest.param(
        {"openai_chat_body": b'{"messages": [{"role": "king"}]}'},
        "INVALID_REQUEST",
        "messages[0].role",
        "",
        id="body_with_wrong_role",
    ),
    pytest.param(
        {"openai_chat_body": b'{"messages": ' + b"[" * 100 + b"]" * 100 + b"}"},
        "INVALID_REQUEST",
        "",
        "nested",
        id="body_nested_deep",
    ),
    pytest.param(
        {"openai_chat_body": b'{"messages": ' + b"[" * 10_000 + b"]" * 10_000 + b"}"},
        "INVALID_REQUEST",
        "",
        "",
        id="body_nested_very_deep",
    ),
]


@pytest.mark.parametrize(("more", "reason", "field", "hint"), BAD_STARTS)
async def test_bad_start_has_its_end_and_the_session_goes_on(
    world: World, more: dict[str, Any], reason: str, field: str, hint: str
) -> None:
    async with world.session() as talk:
        await talk.start("bad", **more)
        answer = await talk.ended("bad")
        assert not answer.is_started
        assert answer.end is not None
        assert answer.end.outcome == Outcome.OUTCOME_FAILED
        assert not answer.end.attempts
        error = answer.end.error
        assert (reason_of(error), field_of(error)) == (reason, field)
        assert error.code == (5 if reason == "UNKNOWN_MODEL" else 3)
        assert hint in error.message
        assert not talk.notices


@pytest.mark.parametrize(("more", "reason", "field", "hint"), BAD_STARTS)
async def test_bad_start_of_generate_has_its_end_and_its_status(
    world: World, more: dict[str, Any], reason: str, field: str, hint: str
) -> None:
    result = await world.relay.generate(start("bad", **more))
    status = status_of(result.error)
    assert (reason_of(status), field_of(status)) == (reason, field)
    assert hint in status.message
    assert not result.answer.is_started
    assert result.answer.end is not None
    assert result.answer.end.error == status
    await world.still_serves()


UNSERVED = [
    pytest.param({"speculative": True}, id="speculative"),
    pytest.param({"speculative": True, "hold_until_commit": True}, id="hold_until_commit"),
    pytest.param({"supersedes": ["by"]}, id="supersedes"),
]


@pytest.mark.parametrize("more", UNSERVED)
async def test_what_needs_a_session_is_refused_without_one(
    world: World, more: dict[str, Any]
) -> None:
    result = await world.relay.generate(start(**more))
    status = status_of(result.error)
    assert (reason_of(status), status.code) == ("NOT_IMPLEMENTED", 12)
    assert next(iter(more)) in status.message
    assert result.answer.end is not None, "in band too"
    assert result.answer.end.error == status
    await world.still_serves()


async def test_what_a_session_can_do_is_said_in_its_ready(world: World) -> None:
    async with world.session() as talk:
        assert talk.ready is not None
        assert list(talk.ready.capabilities) == [
            "openai_chat_body",
            "segments",
            "hedge",
            "commit_on_first_segment",
            "speculation",
            "hold_until_commit",
            "prewarm_prompt",
        ]


async def test_generate_of_what_is_no_message(world: World) -> None:
    status = status_of((await world.relay.generate(NOT_PROTOBUF)).error)
    assert reason_of(status) == "INVALID_REQUEST"
    assert field_of(status) == "rtrelay.v1.GenerateRequest"
    empty = await world.relay.generate(GenerateRequest().SerializeToString())
    assert field_of(status_of(empty.error)) == "start.prompt"
    await world.still_serves()


async def test_fields_of_a_later_version_are_ignored(world: World) -> None:
    world.gate.set()
    later = start("g1").SerializeToString() + b"\xfa\x3f\x02hi"  # field 1023, two bytes
    size = len(later)
    frame = b"\x0a" + bytes([size & 0x7F | 0x80, size >> 7] if size > 127 else [size]) + later
    result = await world.relay.generate(frame)
    assert result.error is None
    assert result.text == "One two"


async def test_method_that_is_not_there(world: World) -> None:
    for path in ("/rtrelay.v1.RelayService/Nope", "/nope", "/rtrelay.v1.RelayService/../Converse"):
        call: Any = world.relay.channel.unary_unary(path)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(b"")
        assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED
    await world.still_serves()


# --- HTTP -----------------------------------------------------------------------------------------


def error_of(response: httpx2.Response) -> dict[str, Any]:
    """The OpenAI error object; asserts what every refusal has."""
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-should-retry"] == "false"
    error: dict[str, Any] = response.json()["error"]
    assert error["x_relay"]["request_id"] == response.headers["x-relay-request-id"]
    assert error["message"]
    return error


GOOD = chat_body()
MESSAGE = {"role": "user", "content": "Hello"}


def with_message(**more: Any) -> dict[str, Any]:
    return {"messages": [MESSAGE, {**MESSAGE, **more}]}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        pytest.param({"model": 7}, "model", id="model_number"),
        pytest.param({"model": ""}, "model", id="model_empty"),
        pytest.param({"messages": "Hello"}, "messages", id="messages_text"),
        pytest.param({"messages": []}, "messages", id="messages_empty"),
        pytest.param({"messages": [MESSAGE] * 10_001}, "messages", id="messages_without_number"),
        pytest.param({"messages": [MESSAGE, 3]}, "messages[1]", id="message_number"),
        pytest.param(with_message(role="king"), "messages[1].role", id="role_unknown"),
        pytest.param(with_message(content=3), "messages[1].content", id="content_number"),
        pytest.param(with_message(content=[3]), "messages[1].content[0]", id="part_number"),
        pytest.param(
            with_message(content=[{"type": "text", "text": 3}]),
            "messages[1].content[0].text",
            id="part_text_number",
        ),
        pytest.param(
            with_message(
                content=[{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}]
            ),
            "messages[1].content[0].image_url.url",
            id="image_of_a_file",
        ),
        pytest.param(
            with_message(role="assistant", tool_calls=[{"function": {"arguments": "{}"}}]),
            "messages[1].tool_calls[0].function.name",
            id="call_without_name",
        ),
        pytest.param({"tools": {}}, "tools", id="tools_object"),
        pytest.param(
            {"tools": [{"type": "function", "function": {"name": 1}}]},
            "tools[0].function.name",
            id="tool_name_number",
        ),
        pytest.param({"tool_choice": "perhaps"}, "tool_choice", id="choice_unknown"),
        pytest.param({"temperature": "hot"}, "temperature", id="temperature_text"),
        pytest.param({"temperature": True}, "temperature", id="temperature_bool"),
        pytest.param({"top_p": 1.5}, "top_p", id="top_p_over"),
        pytest.param({"max_tokens": -1}, "max_tokens", id="max_tokens_negative"),
        pytest.param({"max_tokens": 10**12}, "max_tokens", id="max_tokens_absurd"),
        pytest.param({"n": 10**6}, "n", id="n_a_million"),
        pytest.param({"n": 0}, "n", id="n_zero"),
        pytest.param({"n": 1.5}, "n", id="n_fraction"),
        pytest.param({"stop": [1]}, "stop", id="stop_number"),
        pytest.param({"stream": "yes"}, "stream", id="stream_text"),
        pytest.param({"stream_options": []}, "stream_options", id="stream_options_list"),
        pytest.param(
            {"stream": False, "stream_options": {"include_usage": True}},
            "stream_options",
            id="stream_options_alone",
        ),
        pytest.param({"response_format": {"type": "xml"}}, "response_format.type", id="format_xml"),
        pytest.param({"x_relay": 1}, "x_relay", id="x_relay_number"),
        pytest.param({"x_relay": {"hurry": 1}}, "x_relay.hurry", id="x_relay_unknown"),
        pytest.param({"x_relay": {"total_ms": 0}}, "x_relay.total_ms", id="x_relay_zero"),
    ],
)
async def test_wrong_field_is_named(world: World, change: dict[str, Any], field: str) -> None:
    async with world.session():
        response = await world.relay.chat({**GOOD, **change})
        assert response.status_code == 400
        error = error_of(response)
        assert error["type"] == "invalid_request_error"
        assert error["param"] == field
        assert field in error["message"]
        assert "/etc/passwd" not in response.text, "the path of the field, never its value"
    assert len(world.lab.requests(CHAT)) == 1, "nothing but the running generation was asked for"


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"{nope", id="broken"),
        pytest.param(b"[]", id="list"),
        pytest.param(b'"text"', id="text"),
        pytest.param(b"\xff\xfe{}", id="utf16"),
        pytest.param(b'{"model": "fast", "messages": "\xff"}', id="invalid_utf8"),
        pytest.param(b'{"model": "fast", "messages": "\\ud800"}', id="lone_surrogate"),
        pytest.param(b'{"model": "fast", "temperature": NaN}', id="nan"),
        pytest.param(b'{"model": "fast", "temperature": Infinity}', id="infinity"),
        pytest.param(b'{"model": "fast", "seed": 1' + b"0" * 100_000 + b"}", id="endless_number"),
        pytest.param(b'{"a": ' * 100 + b"1" + b"}" * 100, id="nested_100"),
        pytest.param(b"[" * 10_000 + b"]" * 10_000, id="nested_10000"),
        pytest.param(b'{"a":' * 40_000 + b"1" + b"}" * 40_000, id="nested_40000"),
    ],
)
async def test_body_that_is_no_json_object(world: World, body: bytes) -> None:
    async with world.session():
        response = await world.relay.http.post(CHAT, content=body)
        assert response.status_code == 400
        assert error_of(response)["type"] == "invalid_request_error"


async def test_key_given_twice_has_one_value(world: World) -> None:
    world.gate.set()
    body = b'{"model": "nope", "model": "fast", "messages": [{"role": "user", "content": "Hi"}]}'
    assert (await world.relay.http.post(CHAT, content=body)).status_code == 200
    sent = world.lab.requests(CHAT)[0].body
    assert sent.count(b'"model"') == 1
    assert b"nope" not in sent


async def test_body_over_the_limit(world: World) -> None:
    async def in_pieces() -> AsyncIterator[bytes]:
        for _ in range(MAX_BYTES // 1024 + 2):
            yield b"x" * 1024

    async with world.session():
        announced = await world.relay.http.post(CHAT, content=b"x" * (MAX_BYTES + 1))
        unannounced = await world.relay.http.post(CHAT, content=in_pieces())
        for response in (announced, unannounced):
            assert response.status_code == 413
            assert error_of(response)["x_relay"]["reason"] == "REQUEST_TOO_LARGE"
    await world.still_serves()


async def test_compressed_body_is_refused(world: World) -> None:
    response = await world.relay.http.post(
        CHAT, content=orjson.dumps(GOOD), headers={"content-encoding": "gzip"}
    )
    assert response.status_code == 400
    assert error_of(response)["param"] == "content-encoding"


@pytest.mark.parametrize(
    ("model", "nearest"),
    [("fats", "fast"), ("fnacy", "fancy"), ("lab", ""), ("lab/", ""), ("/m", ""), ("../m", "")],
)
async def test_unknown_model_names_the_nearest(world: World, model: str, nearest: str) -> None:
    response = await world.relay.chat(chat_body(model))
    assert response.status_code == 404
    error = error_of(response)
    assert error["code"] == "model_not_found"
    assert error["param"] == "model"
    assert nearest in error["message"]


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("x-relay-hurry", "1"),
        ("x-relay-total-ms", "soon"),
        ("x-relay-total-ms", "0"),
        ("x-relay-total-ms", "99999999999999"),
        ("x-relay-turn-id", "x" * 300),
    ],
)
async def test_header_of_ours_that_is_wrong_is_named(world: World, header: str, value: str) -> None:
    response = await world.relay.http.post(CHAT, json=GOOD, headers={header: value})
    assert response.status_code == 400
    assert error_of(response)["param"] == header


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", CHAT, 405),
        ("PUT", CHAT, 405),
        ("POST", "/v1/models", 405),
        ("POST", "/v1/chat/completions/", 404),
        ("POST", "/v1//chat/completions", 404),
        ("POST", "/chat/completions", 404),
        ("POST", "/V1/CHAT/COMPLETIONS", 404),
        ("GET", "/", 404),
        ("GET", "/admin/state", 404),
        ("GET", "/v1/../admin/state", 404),
        ("GET", "/v1/%2e%2e/admin/state", 404),
        ("GET", "/metrics", 404),
    ],
)
async def test_wrong_method_or_path(world: World, method: str, path: str, status: int) -> None:
    async with world.session():
        reply = await raw_request(
            world, f"{method} {path} HTTP/1.1\r\nhost: relay\r\n\r\n".encode()
        )
        head, _, body = reply.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 %d " % status)
        assert orjson.loads(body)["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\x00\x01\x02\x03\r\n\r\n", id="noise"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", id="http2_preface"),
        pytest.param(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: r\r\ncontent-length: 5\r\n"
            b"transfer-encoding: chunked\r\n\r\n0\r\n\r\nGET /healthz HTTP/1.1\r\nhost: r\r\n\r\n",
            id="two_lengths",
        ),
        pytest.param(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: r\r\ncontent-length: nine\r\n\r\n",
            id="length_that_is_no_number",
        ),
        pytest.param(
            b"GET /healthz HTTP/1.1\r\nhost: r\r\nbad header: x\r\n\r\n", id="header_with_a_space"
        ),
        pytest.param(
            b"GET /healthz HTTP/1.1\r\nhost: r\r\nx: " + b"y" * 70_000 + b"\r\n\r\n",
            id="big_header",
        ),
        pytest.param(
            b"GET /healthz HTTP/1.1\r\nhost: r\r\nx: " + b"y" * 1_000_000, id="endless_header"
        ),
        pytest.param(b"GET /healthz HTTP/1.1\r\n" + b"x: y\r\n" * 50_000, id="endless_headers"),
        pytest.param(b"GET /" + b"z" * 1_000_000, id="endless_path"),
    ],
)
async def test_bytes_that_are_no_request_are_refused_and_the_connection_closed(
    world: World, data: bytes
) -> None:
    async with world.session():
        reply = await raw_request(world, data, closes=True)
        assert reply.startswith(b"HTTP/1.1 4") or not reply
        assert b'{"status":"ok"}' not in reply, "nothing behind it was read as a request"


async def raw_request(world: World, data: bytes, *, closes: bool = False) -> bytes:
    """Send bytes, return the first answer (or, with `closes`, all until the relay closes)."""
    reader, writer = await asyncio.open_connection("127.0.0.1", world.relay.worker.http_port)
    try:
        async with asyncio.timeout(5):
            writer.write(data)
            try:
                if closes:
                    return await reader.read(-1)
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(
                    int(line.partition(b":")[2])
                    for line in head.lower().split(b"\r\n")
                    if line.startswith(b"content-length")
                )
                return head + await reader.readexactly(length)
            except ConnectionResetError:
                return b""
    finally:
        writer.close()


async def test_caller_can_name_no_host_and_no_key(world: World) -> None:
    world.gate.set()
    await world.relay.http.post(
        CHAT,
        json={
            **GOOD,
            "api_base": "https://evil.example",
            "base_url": "https://evil.example",
            "api_key": "sk-evil",
            "extra_headers": {"x-evil": "1"},
            "future_option": {"kept": True},
        },
        headers={
            "authorization": "Bearer caller-key-0123456789",
            "x-livekit-worker-token": "secret-of-the-caller",
            "cookie": "c=1",
            "x-forwarded-for": "10.0.0.1",
        },
    )
    stream = world.lab.requests(CHAT)[0]
    sent = f"{stream.headers}{stream.body.decode()}"
    for word in ("evil", "caller-key", "secret-of-the-caller", "cookie", "10.0.0.1", "x-forwarded"):
        assert word not in sent
    assert orjson.loads(stream.body)["future_option"] == {"kept": True}
