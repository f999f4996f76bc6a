"""The corners of HTTP/1.1 over real sockets, on both loops; the rules are tested one by one in
`tests/frontends/test_http_protocol.py`."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import orjson
import pytest

from tests.fakes.h2_server import CANCEL, H2Server, ServerStream, hang, stream_chunks
from tests.fakes.relay_under_test import (
    RelayUnderTest,
    answer_chunks,
    chat_body,
    eventually,
    provider,
    relay_under_test,
)

pytestmark = pytest.mark.sockets

CHAT = "/v1/chat/completions"
MUTE = "/mute/v1/chat/completions"
GET = b"GET /healthz HTTP/1.1\r\nhost: r\r\n\r\n"
HEAD = GET.replace(b"GET", b"HEAD")


@pytest.fixture
async def relay(upstream: H2Server, ca_file: str) -> AsyncIterator[RelayUnderTest]:
    upstream.routes[CHAT] = stream_chunks(answer_chunks("Hel", "lo"))
    upstream.routes[MUTE] = hang()
    document = {
        "providers": {
            "lab": provider(upstream.url, ca_file=ca_file),
            "mute": provider(f"{upstream.url}/mute", ca_file=ca_file),
        },
        "models": {
            name: {"candidates": [{"provider": row, "model": "m"}]}
            for name, row in (("fast", "lab"), ("mute", "mute"))
        },
    }
    async with relay_under_test(document) as running:
        yield running
        await running.settled()


class Client:
    """One connection, byte by byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def send_endlessly(self, data: bytes) -> None:
        """
        Raises:
            ConnectionError: the relay has closed.
        """
        while True:
            self.writer.write(data)
            await self.writer.drain()

    async def head(self) -> tuple[int, dict[str, str]]:
        """The next head: status and headers."""
        text = (await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 5)).decode()
        first, *lines = text.strip().split("\r\n")
        return int(first.split()[1]), dict(line.split(": ", 1) for line in lines)

    async def answer(self) -> tuple[int, bytes]:
        """The next answer of a known length, interim ones left out."""
        status, headers = await self.head()
        while status == 100:
            status, headers = await self.head()
        length = int(headers["content-length"])
        return status, await asyncio.wait_for(self.reader.readexactly(length), 5)

    async def rest(self) -> bytes:
        """All until the relay closes."""
        return await asyncio.wait_for(self.reader.read(-1), 5)


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield Client(reader, writer)
    finally:
        writer.close()


def post(body: dict[str, object], *headers: str, version: str = "1.1") -> bytes:
    data = orjson.dumps(body)
    lines = [f"POST {CHAT} HTTP/{version}", "host: r", f"content-length: {len(data)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + data


WHOLE = chat_body(stream=False)
MUTE_WHOLE = chat_body("mute", stream=False)
MUTE_STREAM = chat_body("mute")


@pytest.mark.parametrize("listener", ["http_port", "admin_port"])
async def test_head_is_answered_and_the_request_behind_it(
    relay: RelayUnderTest, listener: str
) -> None:
    async with connected(getattr(relay.worker, listener)) as client:
        client.send(HEAD + GET + HEAD)
        status, headers = await client.head()
        assert (status, headers["content-length"]) == (200, "15")
        assert await client.answer() == (200, b'{"status":"ok"}')
        assert (await client.head())[0] == 200
        client.send(GET)
        assert await client.answer() == (200, b'{"status":"ok"}')


async def test_trailers_change_nothing(relay: RelayUnderTest) -> None:
    data = orjson.dumps(WHOLE)
    head = f"POST {CHAT} HTTP/1.1\r\nhost: r\r\ntransfer-encoding: chunked\r\n\r\n".encode()
    body = b"%x\r\n%b\r\n0\r\nx-relay-model: nobody\r\nx-relay-nonsense: 1\r\n\r\n" % (
        len(data),
        data,
    )
    async with connected(relay.worker.http_port) as client:
        client.send(head + body)
        assert (await client.answer())[0] == 200


async def test_endless_trailer_is_cut_off(relay: RelayUnderTest) -> None:
    async with connected(relay.worker.http_port) as client:
        client.send(f"POST {CHAT} HTTP/1.1\r\nhost: r\r\n".encode())
        client.send(b"transfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nx-a: ")
        with pytest.raises(ConnectionError):
            await client.send_endlessly(b"a" * 65_536)
    await eventually(lambda: not relay.worker._http_servers[0].connections)


async def test_offer_of_h2c_is_ignored_on_this_request_and_the_next(
    relay: RelayUnderTest,
) -> None:
    offer = (
        "connection: Upgrade, HTTP2-Settings",
        "upgrade: h2c",
        "http2-settings: AAMAAABkAARAAAAAAAIAAAAA",
    )
    async with connected(relay.worker.http_port) as client:
        for _ in range(2):
            client.send(post(WHOLE, *offer))
            status, body = await client.answer()
            assert status == 200
            assert orjson.loads(body)["choices"][0]["message"]["content"] == "Hello"


@pytest.mark.parametrize("first", [MUTE_STREAM, MUTE_WHOLE])
@pytest.mark.parametrize("is_large", [True, False])
async def test_client_that_goes_with_a_request_sent_ahead_stops_the_provider(
    relay: RelayUnderTest, upstream: H2Server, first: dict[str, object], is_large: bool
) -> None:
    async with connected(relay.worker.http_port) as client:
        client.send(post(first))
        stream: ServerStream = await upstream.request(MUTE)
        client.send(post(chat_body(text="x" * 300_000) if is_large else WHOLE))
        await client.writer.drain()
    await upstream.until(lambda: stream.reset_code == CANCEL)
    assert not upstream.requests(CHAT)


async def test_half_closed_client_gets_its_whole_answer(relay: RelayUnderTest) -> None:
    async with connected(relay.worker.http_port) as client:
        client.send(GET + post(WHOLE))
        client.writer.write_eof()
        assert await client.answer() == (200, b'{"status":"ok"}')
        status, body = await client.answer()
        assert status == 200
        assert b"Hello" in body
        assert await client.rest() == b""


async def test_half_closed_client_that_has_gone_stops_the_provider(
    relay: RelayUnderTest, upstream: H2Server
) -> None:
    async with connected(relay.worker.http_port) as client:
        client.send(post(MUTE_WHOLE))
        stream = await upstream.request(MUTE)
        client.writer.write_eof()
        assert (await client.head())[0] == 100, "it is asked whether it is still there"
        assert stream.reset_code is None
    await upstream.until(lambda: stream.reset_code == CANCEL)


@pytest.mark.parametrize("half", [True, False])
async def test_client_of_a_stream_hangs_up_by_closing_either_half(
    relay: RelayUnderTest, upstream: H2Server, half: bool
) -> None:
    async with connected(relay.worker.http_port) as client:
        client.send(post(MUTE_STREAM))
        stream = await upstream.request(MUTE)
        if half:
            client.writer.write_eof()
        else:
            client.writer.close()
        await upstream.until(lambda: stream.reset_code == CANCEL)


@pytest.mark.parametrize("streams", [True, False])
async def test_http_1_0_gets_no_chunks_and_an_end(relay: RelayUnderTest, streams: bool) -> None:
    async with connected(relay.worker.http_port) as client:
        client.send(post(chat_body(stream=streams), version="1.0"))
        status, headers = await client.head()
        body = await client.rest()
    assert status == 200
    assert headers["connection"] == "close"
    assert "transfer-encoding" not in headers
    if streams:
        assert body.startswith(b"data: {")
        assert body.endswith(b"\n\ndata: [DONE]\n\n")
    else:
        assert len(body) == int(headers["content-length"])


async def test_body_in_very_many_pieces(relay: RelayUnderTest) -> None:
    data = post(chat_body(stream=False, text="x" * 30_000))
    async with connected(relay.worker.http_port) as client:
        own: socket.socket = client.writer.get_extra_info("socket")
        own.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for index in range(0, len(data), 100):
            client.send(data[index : index + 100])
            await client.writer.drain()
        assert (await client.answer())[0] == 200


async def test_the_official_client_finds_a_model(relay: RelayUnderTest) -> None:
    async with relay.openai() as client:
        assert (await client.models.retrieve("fast")).owned_by == "rtrelay"
        assert (await client.models.retrieve("lab/some/model")).id == "lab/some/model"
