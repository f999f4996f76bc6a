"""One generation, end to end, over gRPC and over SSE, through real sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import openai
import pytest
from rtrelay.v1 import (
    Cancel,
    CancelReason,
    ConverseRequest,
    FinishReason,
    GenerateRequest,
    Message,
    Outcome,
    Part,
    Ping,
    Prompt,
    Role,
    Setup,
    Start,
)

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
from tests.fakes.tls import CertAuthority

pytestmark = pytest.mark.sockets

CHAT = "/v1/chat/completions"
SSE = [("content-type", "text/event-stream")]


@pytest.fixture
async def upstream(tmp_path: Path) -> AsyncIterator[tuple[H2Server, str]]:
    authority = CertAuthority()
    async with H2Server(tls=authority.server_context(alpn=("h2",))) as server:
        server.routes[CHAT] = stream_chunks(answer_chunks("Hel", "lo", "!"))
        yield server, authority.ca_file(tmp_path)


@pytest.fixture
async def relay(upstream: tuple[H2Server, str]) -> AsyncIterator[RelayUnderTest]:
    server, ca_file = upstream
    document = {
        "providers": {"lab": provider(server.url, ca_file=ca_file)},
        "models": {"fast": {"candidates": [{"provider": "lab", "model": "m1"}]}},
    }
    async with relay_under_test(document) as running:
        yield running


def start(generation_id: str = "g1", model: str = "fast") -> Start:
    message = Message(role=Role.ROLE_USER, parts=[Part(text="Hello")])
    return Start(generation_id=generation_id, model=model, prompt=Prompt(messages=[message]))


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
    async with openai.AsyncOpenAI(base_url=relay.base_url, api_key="any") as client:
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
    frames = [frame async for frame in relay.stub.Generate(GenerateRequest(start=start()))]
    assert [frame.WhichOneof("frame") for frame in frames] == [
        "started",
        "delta",
        "delta",
        "delta",
        "end",
    ]
    assert "".join(frame.delta.text for frame in frames[1:-1]) == "Hello!"
    assert [frame.delta.char_offset for frame in frames[1:-1]] == [0, 3, 5]
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
    call = relay.stub.Converse()
    await call.write(ConverseRequest(setup=Setup(client_name="test", model="fast")))
    ready = await call.read()
    assert ready.ready.session_id
    await call.write(ConverseRequest(ping=Ping(nonce=7)))
    assert (await call.read()).pong.nonce == 7
    await call.write(ConverseRequest(start=start(model="")))
    frames = []
    while not frames or frames[-1].WhichOneof("frame") != "end":
        frames.append(await call.read())
    assert frames[0].WhichOneof("frame") == "started"
    assert "".join(frame.delta.text for frame in frames) == "Hello!"
    await call.done_writing()
    assert (await call.code()).name == "OK"


async def test_barge_in_resets_the_provider(
    relay: RelayUnderTest, upstream: tuple[H2Server, str]
) -> None:
    server, _ = upstream

    async def endless(stream: ServerStream) -> None:
        await stream.send_headers(200, SSE)
        await stream.send(chunk({"role": "assistant", "content": "One"}))
        await stream.hang()

    server.routes[CHAT] = endless
    connections = len(server.open_connections)
    call = relay.stub.Converse()
    await call.write(ConverseRequest(setup=Setup(model="fast")))
    await call.write(ConverseRequest(start=start()))
    frames = []
    while not frames or frames[-1].delta.text != "One":
        frames.append(await call.read())
    await call.write(
        ConverseRequest(
            cancel=Cancel(generation_id="g1", reason=CancelReason.CANCEL_REASON_BARGE_IN)
        )
    )
    end = (await call.read()).end
    assert end.outcome == Outcome.OUTCOME_CANCELLED
    assert end.cancel_reason == CancelReason.CANCEL_REASON_BARGE_IN
    stream = await server.request(CHAT)
    await server.until(lambda: stream.reset_code == CANCEL)
    assert len(server.open_connections) == connections
    await call.done_writing()
    assert (await call.code()).name == "OK"


async def test_a_client_that_leaves_resets_the_provider(
    relay: RelayUnderTest, upstream: tuple[H2Server, str]
) -> None:
    server, _ = upstream

    async def endless(stream: ServerStream) -> None:
        await stream.send_headers(200, SSE)
        await stream.send(chunk({"role": "assistant", "content": "One"}))
        await stream.hang()

    server.routes[CHAT] = endless
    async with relay.http.stream("POST", CHAT, json=chat_body()) as response:
        await anext(response.aiter_raw())
    stream = await server.request(CHAT)
    await server.until(lambda: stream.reset_code == CANCEL)
