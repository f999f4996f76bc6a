"""Messages over the configured size, over real sockets: refused in words up to the hard limit, and
by grpc alone beyond it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import pytest
from rtrelay.v1 import ConverseRequest, GenerateRequest, NoticeKind, Ping

from relay.config import GrpcListener
from relay.frontends.grpc_service import RelayService, hard_limit_bytes
from tests.fakes.converse_client import (
    Conversation,
    details_of,
    field_of,
    generate,
    reason_of,
    start,
    status_of,
)
from tests.fakes.h2_server import CANCEL, H2Server, ServerStream
from tests.fakes.relay_under_test import (
    RelayUnderTest,
    answer_chunks,
    chunk,
    provider,
    relay_under_test,
)

pytestmark = pytest.mark.sockets

CHAT = "/v1/chat/completions"
MAX_BYTES = 65_536
SETTINGS = GrpcListener(max_request_bytes=MAX_BYTES)


def start_of(size: int) -> ConverseRequest:
    """A start whose frame has exactly so many bytes."""
    frame = ConverseRequest(start=start("sized", text="x" * (size - 100)))
    while (missing := size - frame.ByteSize()) > 0:
        frame.start.prompt.messages[0].parts[0].text += "x" * missing
    assert frame.ByteSize() == size
    return frame


@pytest.fixture
async def relay(upstream: H2Server, ca_file: str) -> AsyncIterator[RelayUnderTest]:
    async def speak(stream: ServerStream) -> None:
        await stream.send_headers()
        for data in answer_chunks("One"):
            await stream.send(data)

    upstream.routes[CHAT] = speak
    document = {
        "providers": {"lab": provider(upstream.url, ca_file=ca_file)},
        "models": {"fast": {"candidates": [{"provider": "lab", "model": "m"}]}},
    }
    async with relay_under_test(document) as relay:
        yield relay
        await relay.settled()


@asynccontextmanager
async def bounded_channel(relay: RelayUnderTest) -> AsyncIterator[grpc.aio.Channel]:
    """A channel to a listener of its own, which takes up to the hard limit."""
    server = grpc.aio.server(
        options=[("grpc.max_receive_message_length", hard_limit_bytes(SETTINGS))]
    )
    server.add_generic_rpc_handlers((RelayService(relay.worker.services, SETTINGS).handler(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield channel
    finally:
        await server.stop(None)


async def test_frame_over_the_limit_leaves_the_session_alone(relay: RelayUnderTest) -> None:
    async with bounded_channel(relay) as channel, Conversation(channel) as talk:
        for size in (MAX_BYTES + 1, hard_limit_bytes(SETTINGS)):
            await talk.send(start=start_of(size).start)
        for index, size in enumerate((MAX_BYTES + 1, hard_limit_bytes(SETTINGS))):
            notice = await talk.noticed(index)
            assert notice.kind == NoticeKind.NOTICE_KIND_FRAME_REJECTED
            assert (reason_of(notice.error), notice.error.code) == ("REQUEST_TOO_LARGE", 8)
            assert field_of(notice.error) == "rtrelay.v1.ConverseRequest"
            facts = details_of(notice.error)["ErrorInfo"].metadata
            assert (facts["limit_bytes"], facts["size_bytes"]) == (str(MAX_BYTES), str(size))
        assert "sized" not in talk.answers
        await talk.send(start=start_of(MAX_BYTES).start)
        assert (await talk.ended("sized")).text == "One"
        await talk.half_close()
        assert await talk.over() is None


async def test_generate_over_the_limit_names_it(relay: RelayUnderTest) -> None:
    async with bounded_channel(relay) as channel:
        request = GenerateRequest(start=start_of(MAX_BYTES + 1).start)
        result = await generate(channel, request.SerializeToString())
        status = status_of(result.error)
        assert (reason_of(status), status.code) == ("REQUEST_TOO_LARGE", 8)
        assert field_of(status) == "rtrelay.v1.GenerateRequest"


async def test_frame_over_the_hard_limit_ends_its_own_session(
    relay: RelayUnderTest, upstream: H2Server
) -> None:
    """grpc refuses it before we see it: the code is right, details cannot be given."""

    async def one_word(stream: ServerStream) -> None:
        await stream.send_headers()
        await stream.send(chunk({"content": "One"}))
        await stream.hang()

    upstream.routes[CHAT] = one_word
    async with (
        bounded_channel(relay) as channel,
        Conversation(channel) as other,
        Conversation(channel) as talk,
    ):
        await talk.start("g1")
        await talk.says("One")
        await talk.send(start=start_of(hard_limit_bytes(SETTINGS) + 1).start)
        error = await talk.over()
        assert error is not None
        assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        stream = await upstream.request(CHAT)
        await upstream.until(lambda: stream.reset_code == CANCEL)
        await other.send(ping=Ping(nonce=1))
        await other.until(lambda: other.pongs == [1])
        request = GenerateRequest(start=start_of(hard_limit_bytes(SETTINGS)).start)
        result = await generate(channel, request.SerializeToString() + b"\x92\x3e\x00" * 2)
        assert result.error is not None
        assert result.error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
