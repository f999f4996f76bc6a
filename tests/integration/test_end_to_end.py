"""One generation, end to end, over gRPC and over SSE, through real sockets."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator

import pytest
from rtrelay.v1 import CancelReason, FinishReason, Outcome, Ping

from tests.fakes.converse_client import start
from tests.fakes.h2_server import CANCEL, H2Server, ServerStream, stream_chunks
from tests.fakes.relay_under_test import (
    RelayUnderTest,
    answer_chunks,
    chat_body,
    chunk,
    provider,
    relay_under_test,
    sse_payloads,
)

pytestmark = pytest.mark.sockets

CHAT = "/v1/chat/completions"
SSE = [("content-type", "text/event-stream")]


@pytest.fixture
async def relay(upstream: H2Server, ca_file: str) -> AsyncIterator[RelayUnderTest]:
    upstream.routes[CHAT] = stream_chunks(answer_chunks("Hel", "lo", "!"))
    document = {
        "providers": {"lab": provider(upstream.url, ca_file=ca_file)},
        "models": {"fast": {"candidates": [{"provider": "lab", "model": "m1"}]}},
    }
    async with relay_under_test(document) as running:
        yield running


async def endless(stream: ServerStream) -> None:
    """One word, then silence."""
    await stream.send_headers(200, SSE)
    await stream.send(chunk({"role": "assistant", "content": "One"}))
    await stream.hang()


async def test_sse_stream(relay: RelayUnderTest) -> None:
    response = await relay.chat(chat_body())
    assert response.status_code == 200
    assert response.headers["x-relay-provider"] == "lab"
    assert response.headers["x-relay-model"] == "m1"
    assert response.headers["x-relay-attempts"] == "1"
    assert "first_content;dur=" in response.headers["server-timing"]
    text = response.text
    assert text.endswith("data: [DONE]\n\n")
    chunks = sse_payloads(text)
    deltas = [c["choices"][0]["delta"] for c in chunks]
    assert deltas[0] == {"role": "assistant", "content": "Hel"}
    assert "".join(d.get("content", "") for d in deltas) == "Hello!"
    assert [c["choices"][0]["finish_reason"] for c in chunks] == [None, None, None, "stop"]


async def test_the_official_client_streams(relay: RelayUnderTest) -> None:
    async with relay.openai() as client:
        stream = await client.chat.completions.create(
            model="fast",
            messages=[{"role": "user", "content": "Hello"}],
            stream=True,
            stream_options={"include_usage": True},
        )
        text, usage = "", None
        async for part in stream:
            if part.choices:
                text += part.choices[0].delta.content or ""
            usage = part.usage or usage
    assert text == "Hello!"
    assert usage is not None
    assert usage.total_tokens > 0


async def test_one_json_document(relay: RelayUnderTest) -> None:
    response = await relay.chat(chat_body(stream=False))
    assert response.status_code == 200
    body = response.json()
    assert body["choices"][0]["message"]["content"] == "Hello!"
    assert body["choices"][0]["finish_reason"] == "stop"


async def test_generate(relay: RelayUnderTest) -> None:
    result = await relay.generate(start())
    assert result.error is None
    frames = result.answer.frames
    kinds = [frame.WhichOneof("frame") for frame in frames]
    # Deltas may merge; their offsets are checked as they come.
    assert [kind for kind in kinds if kind != "delta"] == ["started", "end"]
    assert 1 <= kinds.count("delta") <= 3
    assert result.text == "Hello!"
    end = frames[-1].end
    assert end.outcome == Outcome.OUTCOME_COMPLETED
    assert end.choices[0].finish_reason == FinishReason.FINISH_REASON_STOP
    assert end.choices[0].text_chars == 6
    line = end.timeline
    phases = [
        value
        for field, value in line.ListFields()
        if field.name.endswith("_us") and field.name not in ("wall_us", "longest_gap_us")
    ]
    assert sum(phases) == line.wall_us > 0
    assert line.first_content_us > 0


async def test_converse(relay: RelayUnderTest) -> None:
    async with relay.talk(client_name="test", model="fast") as talk:
        assert talk.ready is not None
        assert talk.ready.session_id
        await talk.send(ping=Ping(nonce=7))
        await talk.until(lambda: talk.pongs == [7])
        await talk.start("g1", model="")
        answer = await talk.ended("g1")
        assert answer.is_started
        assert answer.text == "Hello!"
        await talk.half_close()
        assert await talk.over() is None


async def test_barge_in_resets_the_provider(relay: RelayUnderTest, upstream: H2Server) -> None:
    upstream.routes[CHAT] = endless
    connections = len(upstream.open_connections)
    async with relay.talk(model="fast") as talk:
        await talk.start("g1")
        await talk.says("One")
        await talk.cancel("g1")
        answer = await talk.ended("g1")
        assert answer.end is not None
        assert answer.end.outcome == Outcome.OUTCOME_CANCELLED
        assert answer.end.cancel_reason == CancelReason.CANCEL_REASON_BARGE_IN
        stream = await upstream.request(CHAT)
        await upstream.until(lambda: stream.reset_code == CANCEL)
        assert len(upstream.open_connections) == connections
        await talk.half_close()
        assert await talk.over() is None


async def test_a_client_that_leaves_resets_the_provider(
    relay: RelayUnderTest, upstream: H2Server
) -> None:
    upstream.routes[CHAT] = endless
    async with relay.http.stream("POST", CHAT, json=chat_body()) as response:
        await anext(response.aiter_raw())
    stream = await upstream.request(CHAT)
    await upstream.until(lambda: stream.reset_code == CANCEL)


async def test_no_answer_waits_for_a_delayed_ack(relay: RelayUnderTest) -> None:
    await relay.chat(chat_body())
    sockets = [
        connection.transport.get_extra_info("socket")
        for listener in relay.worker._http_servers
        for connection in listener.connections
    ]
    assert sockets
    assert all(one.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) for one in sockets)
