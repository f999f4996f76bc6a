"""WebSockets that are handed through: key swapped, messages as they are, ends that are told."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, cast

import openai
import pytest
from structlog.testing import capture_logs
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from tests.fakes.relay_process import RelayProcess
from tests.fakes.relay_under_test import (
    Document,
    RelayUnderTest,
    eventually,
    provider,
    relay_under_test,
)
from tests.fakes.tls import CertAuthority
from tests.fakes.websocket_provider import WebSocketProvider, until_ended

pytestmark = pytest.mark.sockets

OUR_KEY, THEIRS = "sk-provider-0123456789abcdef", "sk-caller-fedcba9876543210"
REALTIME = "/v1/realtime?model=gpt-realtime"
NO_CODE = 1005


@pytest.fixture
async def lab(authority: CertAuthority) -> AsyncIterator[WebSocketProvider]:
    async with WebSocketProvider(tls=authority.server_context(alpn=("http/1.1",))) as running:
        yield running


def row(url: str, ca_file: str | None, **more: Any) -> Document:
    key = {"headers": {"authorization": f"Bearer {OUR_KEY}"}, "warm_connections": 0}
    return {**provider(url), **({"ca_file": ca_file} if ca_file else {}), **key, **more}


def document(url: str, ca_file: str | None, **limits: Any) -> Document:
    return {
        "providers": {
            "open": row(url, ca_file, passthrough={"websocket": limits}),
            "shut": row(url, ca_file),
        }
    }


@asynccontextmanager
async def relaying(asked: Document) -> AsyncIterator[RelayUnderTest]:
    """A relay that has to end with no more tasks than it began with."""
    async with relay_under_test(asked) as running:
        before = asyncio.all_tasks()
        yield running
        await running.settled()
        await eventually(lambda: not (relay_tasks() - before))


def relay_tasks() -> set[asyncio.Task[Any]]:
    return {task for task in asyncio.all_tasks() if "relay" in repr(task.get_coro())}


@pytest.fixture
async def relay(lab: WebSocketProvider, ca_file: str) -> AsyncIterator[RelayUnderTest]:
    async with relaying(document(lab.url, ca_file)) as running:
        yield running


@asynccontextmanager
async def opened(
    relay: RelayUnderTest, path: str = REALTIME, **options: Any
) -> AsyncIterator[ClientConnection]:
    url = f"ws://127.0.0.1:{relay.worker.http_port}{path}"
    settings = {"proxy": None, "compression": None, "max_size": None, "ping_interval": None}
    async with connect(url, **{**settings, **options}) as connection:
        yield connection


async def ended(connection: ClientConnection) -> tuple[int | None, str | None]:
    """Wait for the end; how the relay has said it."""
    async with asyncio.timeout(5):
        try:
            while True:
                await connection.recv()
        except ConnectionClosed:
            return connection.close_code, connection.close_reason


@asynccontextmanager
async def logged() -> AsyncIterator[dict[str, Any]]:
    """The log line of the one request in the block, filled in when the block is left."""
    found: dict[str, Any] = {}
    with capture_logs() as lines:
        yield found
        await eventually(lambda: [line for line in lines if line["event"] == "passthrough"])
    (line,) = [line for line in lines if line["event"] == "passthrough"]
    assert THEIRS not in repr(lines)
    assert OUR_KEY not in repr(lines)
    found.update(line)


# --- what goes through --------------------------------------------------------------------------


@pytest.mark.parametrize("tls", [True, False])
@pytest.mark.parametrize("path", ["/pass/open/realtime?model=m", REALTIME])
async def test_messages_both_ways(
    authority: CertAuthority, ca_file: str, tls: bool, path: str
) -> None:
    context = authority.server_context() if tls else None
    messages: list[str | bytes] = [
        "text",
        "",
        "ü" * 1000,
        b"\x00\xff",
        b"",
        "x" * 2_000_000,
        b"y" * 2_000_000,
    ]
    async with (
        WebSocketProvider(tls=context) as lab,
        relaying(document(lab.url, ca_file if tls else None)) as relay,
    ):
        async with opened(relay, path) as client:
            for message in messages:
                await client.send(message)
                assert await client.recv() == message
            await client.send(["in ", "pieces"])
            assert await client.recv() == "in pieces"
        (request,) = lab.requests
        assert request.path == path.replace("/pass/open", "/v1")


async def test_the_key_is_swapped_and_headers_are_chosen(
    relay: RelayUnderTest, lab: WebSocketProvider, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    given = {
        "authorization": f"Bearer {THEIRS}",
        "api-key": THEIRS,
        "x-goog-api-key": THEIRS,
        "cookie": "a=b",
        "openai-beta": "realtime=v1",
    }
    path = f"/v1/realtime?key={THEIRS}&model=a%20b;c&API-Key={THEIRS}"
    async with logged() as line, opened(relay, path, additional_headers=given) as client:
        await client.send("hello")
        assert await client.recv() == "hello"
        assert client.response is not None
        assert client.response.headers["x-relay-provider"] == "open"
        assert client.response.headers["x-relay-request-id"].startswith("req_")
    (request,) = lab.requests
    assert request.path == "/v1/realtime?model=a%20b;c"
    assert request.headers["authorization"] == f"Bearer {OUR_KEY}"
    assert request.headers["openai-beta"] == "realtime=v1"
    assert THEIRS not in str(request.headers)
    assert "cookie" not in request.headers
    # What the fake provider's own end logs is not ours.
    ours = [record for record in caplog.records if record.name != "websockets.server"]
    assert OUR_KEY not in repr([record.getMessage() for record in ours])
    assert "relay.websocket" not in {record.name for record in ours}
    assert line["tenant"].startswith("t_")
    assert (line["status"], line["ended_by"], line["close_code"]) == (101, "client", 1000)
    assert (line["request_messages"], line["request_bytes"]) == (1, 5)
    assert (line["answer_messages"], line["answer_bytes"]) == (1, 5)
    assert (line["provider"], line["path"], line["reason"]) == ("open", "/v1/realtime", None)


async def test_a_browser_s_key_stays_here(relay: RelayUnderTest, lab: WebSocketProvider) -> None:
    offered = [
        Subprotocol(name)
        for name in (
            "realtime",
            f"openai-insecure-api-key.{THEIRS}",
            "openai-organization.org-1",
            "openai-beta.realtime-v1",
        )
    ]
    async with logged() as line, opened(relay, subprotocols=offered) as client:
        assert client.subprotocol == "realtime"
    (request,) = lab.requests
    assert request.headers["sec-websocket-protocol"] == "realtime, openai-beta.realtime-v1"
    by_header = {"authorization": f"Bearer {THEIRS}"}
    async with logged() as other, opened(relay, additional_headers=by_header):
        pass
    assert line["tenant"] == other["tenant"]


async def test_the_official_client_speaks(relay: RelayUnderTest, lab: WebSocketProvider) -> None:
    async def answers(connection: ServerConnection) -> None:
        await connection.send('{"type": "session.created", "event_id": "e1", "session": {}}')
        async for message in connection:
            assert isinstance(message, str)
            assert "response.create" in message
            await connection.send('{"type": "response.created", "event_id": "e2", "response": {}}')

    lab.script = answers
    client: openai.AsyncOpenAI
    async with (
        relay.openai(api_key=THEIRS) as client,
        client.realtime.connect(model="gpt-realtime") as connection,
    ):
        assert (await connection.recv()).type == "session.created"
        await connection.response.create()
        assert (await connection.recv()).type == "response.created"
    (request,) = lab.requests
    assert request.path == REALTIME
    assert request.headers["authorization"] == f"Bearer {OUR_KEY}"


async def test_pings_are_answered_here(relay: RelayUnderTest, lab: WebSocketProvider) -> None:
    async with opened(relay) as client:
        async with asyncio.timeout(5):
            await (await client.ping(b"are you there"))
        connection = await lab.connection()
        async with asyncio.timeout(5):
            await (await connection.ping())


async def test_what_was_said_before_the_end_arrives(
    relay: RelayUnderTest, lab: WebSocketProvider
) -> None:
    async def says_and_goes(connection: ServerConnection) -> None:
        for number in range(300):
            await connection.send(f"{number}:{'x' * 10_000}")
        await connection.close(1000, "done")

    lab.script = says_and_goes
    async with opened(relay) as client:
        for number in range(300):
            message = await client.recv()
            assert isinstance(message, str)
            assert message.startswith(f"{number}:")
        assert await ended(client) == (1000, "done")


async def test_an_error_that_quotes_our_key(relay: RelayUnderTest, lab: WebSocketProvider) -> None:
    async def refuses(connection: ServerConnection) -> None:
        await connection.send(f'{{"type":"error","error":{{"message":"bad key {OUR_KEY}"}}}}')
        await connection.close(3000, f"bad key {OUR_KEY}")

    lab.script = refuses
    async with opened(relay) as client:
        assert await client.recv() == '{"type":"error","error":{"message":"bad key ***"}}'
        assert await ended(client) == (3000, "bad key ***")


# --- what does not ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/pass/shut/realtime", 404),
        ("/pass/nobody/realtime", 404),
        ("/pass/open/a/%2e%2e/secrets", 400),
        ("/pass/open/responses", 400),
        ("/v1/chat/completions", 405),
        ("/v1/nothing", 404),
        ("/healthz", 200),
    ],
)
async def test_elsewhere_an_offer_is_ignored(
    relay: RelayUnderTest, lab: WebSocketProvider, path: str, status: int
) -> None:
    with pytest.raises(InvalidStatus) as caught:
        async with opened(relay, path):
            pass
    assert caught.value.response.status_code == status
    assert not lab.requests


async def test_several_rows_must_be_named(lab: WebSocketProvider, ca_file: str) -> None:
    rows = {name: row(lab.url, ca_file, passthrough=True) for name in ("a", "b")}
    async with relaying({"providers": rows}) as relay:
        with pytest.raises(InvalidStatus) as caught:
            async with opened(relay):
                pass
        assert caught.value.response.status_code == 400
        assert b"/pass/a/realtime" in caught.value.response.body
        async with opened(relay, "/pass/b/realtime"):
            pass


@pytest.mark.parametrize("origins", [(), ("https://app.test",), ("*",)])
async def test_a_page_must_be_named(
    lab: WebSocketProvider, ca_file: str, origins: tuple[str, ...]
) -> None:
    asked = {**document(lab.url, ca_file), "server": {"http": {"cors_origins": list(origins)}}}
    headers = {"origin": "https://app.test"}
    async with relaying(asked) as relay:
        if origins:
            async with opened(relay, additional_headers=headers) as client:
                await client.send("hello")
                assert await client.recv() == "hello"
            return
        with pytest.raises(InvalidStatus) as caught:
            async with opened(relay, additional_headers=headers):
                pass
        assert caught.value.response.status_code == 403
    assert not lab.requests


HANDSHAKE = (
    "GET /v1/realtime HTTP/1.1",
    "host: r",
    "connection: keep-alive, Upgrade",
    "upgrade: websocket",
    "sec-websocket-version: 13",
    "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
)


def raw(*lines: str) -> bytes:
    return "\r\n".join([*lines, "", ""]).encode()


@asynccontextmanager
async def shaking_hands(
    relay: RelayUnderTest, more: bytes = b""
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A client byte by byte, whose handshake is on its way."""
    reader, writer = await asyncio.open_connection("127.0.0.1", relay.worker.http_port)
    try:
        writer.write(raw(*HANDSHAKE) + more)
        yield reader, writer
    finally:
        writer.transport.abort()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def test_the_answer_to_a_handshake(relay: RelayUnderTest) -> None:
    async with shaking_hands(relay) as (reader, _):
        head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)).decode()
    assert head.startswith("HTTP/1.1 101 Switching Protocols\r\n")
    assert "sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in head


async def test_who_sends_before_the_answer_gets_none(
    relay: RelayUnderTest, lab: WebSocketProvider
) -> None:
    async with shaking_hands(relay, b"GET /healthz HTTP/1.1\r\nhost: r\r\n\r\n") as (reader, _):
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
    assert await until_ended(await lab.connection()) in (1001, 1006)


# --- refusals -----------------------------------------------------------------------------------


def answering(status: int, body: str, *headers: tuple[str, str]) -> Any:
    async def refuse(connection: ServerConnection, request: Request) -> Response:
        data = body.encode()
        found = Headers([*headers, ("content-length", str(len(data)))])
        return Response(status, "No", found, data)

    return refuse


@pytest.mark.parametrize("status", [400, 401, 404, 429, 500])
async def test_the_provider_s_refusal(
    relay: RelayUnderTest, lab: WebSocketProvider, status: int
) -> None:
    headers = (("retry-after", "3"), ("set-cookie", "a=b"), ("content-type", "application/json"))
    lab.refuse = answering(status, f'{{"error":"bad key {OUR_KEY}"}}', *headers)
    async with logged() as line:
        with pytest.raises(InvalidStatus) as caught:
            async with opened(relay):
                pass
    response = caught.value.response
    assert (response.status_code, response.body) == (status, b'{"error":"bad key ***"}')
    assert response.headers["retry-after"] == "3"
    assert response.headers["content-type"] == "application/json"
    assert "set-cookie" not in response.headers
    assert (line["status"], line["close_code"]) == (status, None)


@pytest.mark.parametrize(("status", "reason"), [(200, "PROTOCOL"), (302, "REDIRECT")])
async def test_what_is_no_refusal_and_no_handshake(
    relay: RelayUnderTest, lab: WebSocketProvider, status: int, reason: str
) -> None:
    lab.refuse = answering(status, "", ("location", f"{lab.url}/v1/elsewhere"))
    with pytest.raises(InvalidStatus) as caught:
        async with opened(relay):
            pass
    response = caught.value.response
    assert response.status_code == 502
    assert f"UPSTREAM_{reason}".encode() in response.body
    assert len(lab.requests) == 1


async def test_nobody_there(ca_file: str, unused_tcp_port: int) -> None:
    async with relaying(document(f"https://127.0.0.1:{unused_tcp_port}", ca_file)) as relay:
        with pytest.raises(InvalidStatus) as caught:
            async with opened(relay):
                pass
        assert caught.value.response.status_code == 503


async def test_a_stranger_s_certificate(lab: WebSocketProvider, tmp_path: Path) -> None:
    other = CertAuthority().ca_file(tmp_path)
    async with relaying(document(lab.url, other)) as relay:
        with pytest.raises(InvalidStatus) as caught:
            async with opened(relay):
                pass
        assert caught.value.response.status_code == 502
        assert b"UPSTREAM_TLS" in caught.value.response.body


@pytest.mark.parametrize("by_header", [True, False])
async def test_opening_has_a_limit(lab: WebSocketProvider, ca_file: str, by_header: bool) -> None:
    may_go = asyncio.Event()

    async def hangs(connection: ServerConnection, request: Request) -> Response | None:
        await may_go.wait()
        return None

    lab.refuse = hangs
    limits = {} if by_header else {"connect_ms": 100}
    headers = {"x-relay-first-token-ms": "100"} if by_header else {}
    async with relaying(document(lab.url, ca_file, **limits)) as relay:
        with pytest.raises(InvalidStatus) as caught:
            async with opened(relay, additional_headers=headers):
                pass
        body = caught.value.response.body
        assert b"CONNECT_TIMEOUT" in body
    may_go.set()


async def test_who_leaves_while_it_is_opened(relay: RelayUnderTest, lab: WebSocketProvider) -> None:
    has_gone = asyncio.Event()

    async def hangs(connection: ServerConnection, request: Request) -> Response | None:
        await connection.wait_closed()
        has_gone.set()
        return None

    lab.refuse = hangs
    async with logged() as line:
        async with shaking_hands(relay):
            await eventually(lambda: lab.requests)
        await asyncio.wait_for(has_gone.wait(), 5)
    assert line["reason"] == "CLIENT_CANCELLED"


async def test_a_socks_proxy_is_refused_by_name(lab: WebSocketProvider, ca_file: str) -> None:
    asked = document(lab.url, ca_file)
    asked["providers"]["open"]["egress_proxy"] = "socks5://127.0.0.1:9"
    async with relaying(asked) as relay:
        with pytest.raises(InvalidStatus) as caught:
            async with opened(relay):
                pass
        assert caught.value.response.status_code == 501


async def test_an_http_proxy_is_used(lab: WebSocketProvider, ca_file: str) -> None:
    asked_for: list[bytes] = []

    async def tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        asked_for.append(head)
        host, _, port = head.split()[1].decode().rpartition(":")
        inner_reader, inner_writer = await asyncio.open_connection(host, int(port))
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")

        async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            while data := await source.read(65_536):
                sink.write(data)
            sink.close()

        await asyncio.gather(copy(reader, inner_writer), copy(inner_reader, writer))

    server = await asyncio.start_server(tunnel, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    asked = document(lab.url, ca_file)
    asked["providers"]["open"]["egress_proxy"] = f"http://me:secret@127.0.0.1:{port}"
    async with server, relaying(asked) as relay, opened(relay) as client:
        await client.send("hello")
        assert await client.recv() == "hello"
    assert asked_for[0].startswith(b"CONNECT 127.0.0.1:")
    assert b"Proxy-Authorization: Basic" in asked_for[0]
    assert OUR_KEY.encode() not in asked_for[0]


# --- how it ends --------------------------------------------------------------------------------

CODES = [1000, 1001, 1003, 1008, 1009, 1011, 1013, 3000, 4999]


@pytest.mark.parametrize("code", CODES)
async def test_the_provider_s_code(
    relay: RelayUnderTest, lab: WebSocketProvider, code: int
) -> None:
    async def goes(connection: ServerConnection) -> None:
        await connection.recv()
        await connection.close(code, "why not")

    lab.script = goes
    async with logged() as line, opened(relay) as client:
        await client.send("go")
        assert await ended(client) == (code, "why not")
    assert (line["ended_by"], line["close_code"]) == ("provider", code)
    assert lab.connections[0].close_code == code


@pytest.mark.parametrize("code", CODES)
async def test_the_client_s_code(relay: RelayUnderTest, lab: WebSocketProvider, code: int) -> None:
    async with logged() as line, opened(relay) as client:
        await client.close(code, "so long")
        connection = await lab.connection()
        assert await until_ended(connection) == code
        assert connection.close_reason == "so long"
    assert (line["ended_by"], line["close_code"]) == ("client", code)


async def test_a_goodbye_without_a_code(relay: RelayUnderTest, lab: WebSocketProvider) -> None:
    async def goes(connection: ServerConnection) -> None:
        await connection.recv()
        async with connection.send_context():
            connection.protocol.send_close()

    lab.script = goes
    async with opened(relay) as client:
        await client.send("go")
        assert await ended(client) == (NO_CODE, "")


async def test_a_client_that_vanishes(relay: RelayUnderTest, lab: WebSocketProvider) -> None:
    async with logged() as line, opened(relay) as client:
        connection = await lab.connection()
        client.transport.abort()
        assert await until_ended(connection) == 1001
    assert (line["ended_by"], line["close_code"]) == ("client", 1006)


async def test_a_provider_that_vanishes(relay: RelayUnderTest, lab: WebSocketProvider) -> None:
    async def goes(connection: ServerConnection) -> None:
        await connection.send("one")
        await connection.recv()
        connection.transport.abort()

    lab.script = goes
    async with logged() as line, opened(relay) as client:
        assert await client.recv() == "one"
        await client.send("go")
        assert await ended(client) == (1011, "the connection to open broke")
    assert (line["ended_by"], line["close_code"]) == ("provider", 1006)


async def test_who_closes_without_goodbye_over_plain_tcp(
    relay: RelayUnderTest, lab: WebSocketProvider
) -> None:
    """Half closed: a client that sends nothing more has gone."""
    async with shaking_hands(relay) as (_, writer):
        connection = await lab.connection()
        writer.write_eof()
        assert await until_ended(connection) == 1001


@pytest.mark.parametrize("side", ["client", "provider"])
async def test_a_side_that_answers_no_ping(lab: WebSocketProvider, ca_file: str, side: str) -> None:
    may_go = asyncio.Event()

    async def dead(connection: ServerConnection) -> None:
        connection.transport.pause_reading()
        await may_go.wait()

    if side == "provider":
        lab.script = dead
    async with relaying(document(lab.url, ca_file, ping_ms=300)) as relay, logged() as line:
        if side == "provider":
            async with opened(relay) as client:
                assert await ended(client) == (1011, "open: it answers no ping")
        else:
            # It reads, and says nothing.
            async with shaking_hands(relay):
                assert await until_ended(await lab.connection()) == 1001
        may_go.set()
    assert (line["ended_by"], line["fault"]) == (side, "it answers no ping")


@pytest.mark.parametrize("limit", ["idle_ms", "total_ms", "header"])
async def test_time_has_limits(lab: WebSocketProvider, ca_file: str, limit: str) -> None:
    headers = {"x-relay-total-ms": "500"} if limit == "header" else {}
    limits = {} if limit == "header" else {limit: 500}
    async with (
        relaying(document(lab.url, ca_file, **limits)) as relay,
        logged() as line,
        opened(relay, additional_headers=headers) as client,
    ):
        await client.send("hello")
        code, why = await ended(client)
    assert code == 1001
    assert why
    assert await until_ended(lab.connections[0]) == 1001
    reason = "STREAM_STALLED" if limit == "idle_ms" else "ATTEMPT_TIMEOUT"
    assert (line["ended_by"], line["reason"]) == ("relay", reason)


@pytest.mark.parametrize("pieces", [1, 3])
async def test_a_client_s_message_that_is_too_large(
    lab: WebSocketProvider, ca_file: str, pieces: int
) -> None:
    async with (
        relaying(document(lab.url, ca_file, max_message_bytes=100_000)) as relay,
        logged() as line,
        opened(relay) as client,
    ):
        await client.send("x" * 100_000)
        assert await client.recv() == "x" * 100_000
        await client.send(["x" * (100_002 // pieces)] * pieces)
        assert (await ended(client))[0] == 1009
        assert await until_ended(lab.connections[0]) == 1001
    assert (line["ended_by"], line["fault"]) == ("client", "a message that is too large")


async def test_a_provider_s_message_that_is_too_large(lab: WebSocketProvider, ca_file: str) -> None:
    async def large(connection: ServerConnection) -> None:
        await connection.send("x" * 100_001)
        await until_ended(connection)

    lab.script = large
    async with (
        relaying(document(lab.url, ca_file, max_message_bytes=100_000)) as relay,
        opened(relay) as client,
    ):
        assert await ended(client) == (1011, "open: a message that is too large")
        assert await until_ended(lab.connections[0]) == 1009


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (b"\x81\x80\x00\x00\x00\x00", None),
        (b"\x81\x00", 1002),  # not masked
        (b"\x83\x80\x00\x00\x00\x00", 1002),  # an opcode that is none
        (b"\x81\x82\x00\x00\x00\x00\xff\xff", 1007),  # text that is none
        (b"\xc1\x80\x00\x00\x00\x00", 1002),  # compressed, which was not agreed on
    ],
)
async def test_frames_that_break_the_protocol(
    relay: RelayUnderTest, lab: WebSocketProvider, frame: bytes, code: int | None
) -> None:
    async with shaking_hands(relay) as (reader, writer):
        await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
        writer.write(frame)
        answer = await asyncio.wait_for(reader.readexactly(2), 5)
        if code is None:
            assert answer == b"\x81\x00"  # the echo
            return
        assert answer[0] == 0x88
        said = await asyncio.wait_for(reader.readexactly(2), 5)
        assert int.from_bytes(said) == code
        writer.transport.abort()
        assert await until_ended(lab.connections[0]) == 1001


# --- sides that do not read ---------------------------------------------------------------------

FAR_TOO_MUCH = 256
"""Messages of `PIECE` that nobody would keep; kernels keep a few megabytes of them."""
PIECE = "x" * 262_144
BOUND_BYTES = 24 * 1024 * 1024


async def test_a_provider_that_does_not_read(lab: WebSocketProvider, ca_file: str) -> None:
    may_go = asyncio.Event()

    async def deaf(connection: ServerConnection) -> None:
        connection.transport.pause_reading()
        await may_go.wait()

    lab.script = deaf
    asked = {**document(lab.url, ca_file), "server": {"slow_consumer_ms": 300}}
    async with relaying(asked) as relay, logged() as line:
        async with opened(relay) as client:

            async def floods() -> None:
                for _ in range(FAR_TOO_MUCH):
                    await client.send(PIECE)

            flood = asyncio.create_task(floods())
            code, why = await ended(client)
            assert (code, why) == (1011, "open: it takes nothing of what is sent")
            with pytest.raises(ConnectionClosed):
                await flood
        may_go.set()
    assert line["request_bytes"] < BOUND_BYTES


async def test_a_client_that_does_not_read(lab: WebSocketProvider, ca_file: str) -> None:
    sent = 0

    async def floods(connection: ServerConnection) -> None:
        nonlocal sent
        for _ in range(FAR_TOO_MUCH):
            await connection.send(PIECE)
            sent += len(PIECE)

    lab.script = floods
    asked = {**document(lab.url, ca_file), "server": {"slow_consumer_ms": 300}}
    async with relaying(asked) as relay, logged() as line, shaking_hands(relay) as (_, writer):
        cast(asyncio.Transport, writer.transport).pause_reading()
        connection = await lab.connection()
        assert await until_ended(connection) == 1001
    assert (line["ended_by"], line["fault"]) == ("client", "it takes nothing of what is sent")
    assert line["answer_bytes"] < BOUND_BYTES
    assert sent < 2 * BOUND_BYTES


async def test_one_who_reads_again_misses_nothing(relay: RelayUnderTest) -> None:
    async with opened(relay, max_queue=1) as client:

        async def sends() -> None:
            for number in range(100):
                await client.send(f"{number}:{PIECE}")

        sending = asyncio.create_task(sends())
        for number in range(100):
            message = await client.recv()
            assert isinstance(message, str)
            assert message.startswith(f"{number}:")
            assert len(message) == len(PIECE) + len(f"{number}:")
        await sending


# --- the relay stops ----------------------------------------------------------------------------


async def test_a_drain_waits_and_then_tells(lab: WebSocketProvider, ca_file: str) -> None:
    asked = {**document(lab.url, ca_file), "server": {"drain_grace_ms": 1000}}
    async with relaying(asked) as relay, logged() as line, opened(relay) as client:
        draining = asyncio.create_task(relay.worker.drain())
        await eventually(lambda: relay.worker.services.is_draining)
        with pytest.raises(InvalidStatus) as caught:
            async with opened(relay):
                pass
        assert caught.value.response.status_code == 503
        await client.send("still here")
        assert await client.recv() == "still here"
        assert await ended(client) == (1012, "this relay is shutting down")
        await draining
    assert await until_ended(lab.connections[0]) == 1001
    assert (line["ended_by"], line["reason"]) == ("relay", "DRAINING")


async def test_a_process_that_is_told_to_stop(
    lab: WebSocketProvider, ca_file: str, tmp_path: Path
) -> None:
    asked = {**document(lab.url, ca_file), "server": {"drain_grace_ms": 1000}}
    async with RelayProcess(tmp_path, asked) as relay:
        url = f"ws://127.0.0.1:{relay.ports['http']}{REALTIME}"
        async with connect(url, proxy=None) as client:
            await client.send("hello")
            assert await client.recv() == "hello"
            relay.signal(signal.SIGTERM)
            assert (await ended(client))[0] == 1012
        assert await relay.exited() == 0


@pytest.mark.parametrize("good", [1, 2])
async def test_another_key_once_where_one_is_refused(
    lab: WebSocketProvider, ca_file: str, monkeypatch: pytest.MonkeyPatch, good: int
) -> None:
    keys = [f"sk-number-{number}-0123456789" for number in range(3)]
    for number, key in enumerate(keys):
        monkeypatch.setenv(f"KEY_{number}", key)
    used: list[int] = []

    async def refuse(connection: ServerConnection, request: Request) -> Response | None:
        sent = request.headers["authorization"]
        used.append(keys.index(sent.removeprefix("Bearer ")))
        if used[-1] == good:
            return None
        headers = Headers({"x-request-id": sent, "content-length": str(len(sent))})
        return Response(401, "No", headers, sent.encode())

    lab.refuse = refuse
    asked = {
        **provider(lab.url, ca_file=ca_file),
        "warm_connections": 0,
        "auth": "bearer",
        "api_keys": ["${KEY_0}", "${KEY_1}", "${KEY_2}"],
        "passthrough": True,
    }
    async with relaying({"providers": {"open": asked}}) as relay:
        if good == 2:
            with pytest.raises(InvalidStatus) as caught:
                async with opened(relay):
                    pass
            response = caught.value.response
            assert response.status_code == 401
            said = f"{response.body!r} {response.headers}"
            assert not [key for key in keys if key in said]
            assert "***" in said
        async with opened(relay) as client:
            await client.send("hello")
            assert await client.recv() == "hello"
    assert used == ([0, 1, 2] if good == 2 else [0, 1])
