"""The shim over TLS, on both loops, whose TLS is not the same code: what streams, who goes, who
does not read, what is handed over."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect

from tests.fakes.h2_server import CANCEL, H2Server, ServerStream, hang, stream_chunks
from tests.fakes.relay_under_test import (
    DONE,
    answer_chunks,
    chat_body,
    chunk,
    provider,
    sse_payloads,
)
from tests.fakes.tls import CertAuthority
from tests.fakes.tls_files import TlsFiles
from tests.fakes.tls_relay import TlsRelay, tls_relay
from tests.fakes.websocket_provider import WebSocketProvider
from tests.integration.test_http_edge import MUTE_STREAM, MUTE_WHOLE, WHOLE, post

pytestmark = pytest.mark.sockets

CHAT = "/v1/chat/completions"
MUTE = "/mute/v1/chat/completions"
FLOOD = "/flood/v1/chat/completions"
GET = b"GET /healthz HTTP/1.1\r\nhost: r\r\n\r\n"
SLOW_MS = 300


@pytest.fixture
def files(tmp_path: Path) -> TlsFiles:
    return TlsFiles(tmp_path)


@pytest.fixture
async def lab(authority: CertAuthority) -> AsyncIterator[WebSocketProvider]:
    async with WebSocketProvider(tls=authority.server_context(alpn=("http/1.1",))) as running:
        yield running


async def floods(stream: ServerStream) -> None:
    await stream.send_headers()
    for _ in range(4_000):
        await stream.send(chunk({"content": "x" * 4096}))
    await stream.send(DONE, end=True)


@pytest.fixture
async def relay(
    files: TlsFiles, upstream: H2Server, lab: WebSocketProvider, ca_file: str
) -> AsyncIterator[TlsRelay]:
    upstream.routes[CHAT] = stream_chunks(answer_chunks("Hel", "lo"))
    upstream.routes[MUTE] = hang()
    upstream.routes[FLOOD] = floods
    rows = {
        "lab": provider(upstream.url, ca_file=ca_file),
        "mute": provider(f"{upstream.url}/mute", ca_file=ca_file),
        "flood": provider(f"{upstream.url}/flood", ca_file=ca_file),
    }
    sockets = provider(lab.url, ca_file=ca_file, passthrough={"websocket": {}}, warm_connections=0)
    document = {
        "providers": {**rows, "open": sockets},
        "models": {
            alias: {"candidates": [{"provider": row, "model": "m"}]}
            for alias, row in (("fast", "lab"), ("mute", "mute"), ("flood", "flood"))
        },
    }
    server: dict[str, Any] = {"slow_consumer_ms": SLOW_MS}
    async with tls_relay(files, files.settings(), document, **server) as running:
        yield running


@asynccontextmanager
async def connected(
    relay: TlsRelay,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(
        "127.0.0.1",
        relay.port("http"),
        ssl=relay.files.context(),
        server_hostname="localhost",
        limit=2**16,
    )
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def test_stream_and_a_large_request_go_through(relay: TlsRelay) -> None:
    async with relay.http() as http:
        for text in ("Hello", "x" * 2_000_000):
            answer = await http.post(CHAT, json=chat_body(text=text))
            assert answer.status_code == 200
            deltas = [each["choices"][0]["delta"] for each in sse_payloads(answer.text)]
            assert "".join(delta.get("content") or "" for delta in deltas) == "Hello"


async def test_requests_sent_ahead_are_answered_in_turn(relay: TlsRelay) -> None:
    async with connected(relay) as (reader, writer):
        writer.write(GET + post(WHOLE) + GET)
        said = b""
        async with asyncio.timeout(5):
            while said.count(b'{"status":"ok"}') < 2:
                said += await reader.read(65_536)
        assert said.count(b"HTTP/1.1 200 OK") == 3
        assert b"Hello" in said


@pytest.mark.parametrize("request_body", [MUTE_STREAM, MUTE_WHOLE])
async def test_client_that_goes_stops_the_provider(
    relay: TlsRelay, upstream: H2Server, request_body: dict[str, object]
) -> None:
    async with connected(relay) as (_, writer):
        writer.write(post(request_body))
        stream = await upstream.request(MUTE)
    await upstream.until(lambda: stream.reset_code == CANCEL)


async def test_goodbye_of_tls_is_one_of_the_whole_connection(
    relay: TlsRelay, upstream: H2Server, caplog: pytest.LogCaptureFixture
) -> None:
    def says_goodbye() -> None:
        raw = socket.create_connection(("127.0.0.1", relay.port("http")), timeout=5)
        with relay.files.context().wrap_socket(raw, server_hostname="localhost") as wrapped:
            wrapped.sendall(post(MUTE_WHOLE))
            asked.wait_for()
            with suppress(OSError):
                wrapped.unwrap()

    asked = _Flag()
    client = asyncio.create_task(asyncio.to_thread(says_goodbye))
    stream = await upstream.request(MUTE)
    with caplog.at_level(logging.WARNING):
        asked.set()
        await upstream.until(lambda: stream.reset_code == CANCEL)
        await client
    assert not caplog.records


class _Flag:
    """For a thread."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self.set = self._event.set

    def wait_for(self) -> None:
        assert self._event.wait(5)


async def test_client_that_does_not_read_is_cut_off(relay: TlsRelay, upstream: H2Server) -> None:
    async with connected(relay) as (_, writer):
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        began_s = time.monotonic()
        writer.write(post(chat_body("flood")))
        stream = await upstream.request(FLOOD)
        await upstream.until(lambda: stream.reset_code == CANCEL)
        assert time.monotonic() - began_s < 5


async def test_websocket_is_handed_through(relay: TlsRelay) -> None:
    async with connect(
        f"wss://localhost:{relay.port('http')}/pass/open/realtime?model=m",
        ssl=relay.files.context(),
        proxy=None,
        host="127.0.0.1",
    ) as connection:
        await connection.send("hello")
        assert await asyncio.wait_for(connection.recv(), 5) == "hello"


async def test_stop_waits_for_nobodys_goodbye(files: TlsFiles) -> None:
    raw = None
    async with tls_relay(files, files.settings()) as relay:

        def says_nothing_more() -> Any:
            plain = socket.create_connection(("127.0.0.1", relay.port("http")), timeout=5)
            wrapped = files.context().wrap_socket(plain, server_hostname="localhost")
            wrapped.sendall(GET)
            assert wrapped.recv(1000)
            return wrapped

        raw = await asyncio.to_thread(says_nothing_more)
        began_s = time.monotonic()
    assert time.monotonic() - began_s < 5
    raw.close()


async def test_stop_waits_for_no_handshake(files: TlsFiles) -> None:
    async with tls_relay(files, files.settings()) as relay:
        writers = []
        for name in ("grpc", "http", "admin"):
            _, writer = await asyncio.open_connection("127.0.0.1", relay.port(name))
            writers.append(writer)
        await relay.handshake("http")  # those before it are with the relay by now
        began_s = time.monotonic()
    assert time.monotonic() - began_s < 5
    for writer in writers:
        writer.close()
