"""What one connection bears, on a virtual clock, without sockets: requests that do not come to
their end, trailers, offers of an upgrade, requests sent ahead, clients that leave by halves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest
import uvicorn
from uvicorn.server import ServerState

from relay.errors import ClientCancelled, RequestTooLarge
from relay.frontends.asgi import (
    STREAMS,
    TAKE_OVER,
    WEBSOCKET,
    Receive,
    Scope,
    Send,
    read_body,
    send_answer,
)
from relay.frontends.http_protocol import (
    BODY_TIMEOUT_S,
    HEAD_TIMEOUT_S,
    MAX_AHEAD_BYTES,
    MAX_FRAMING_BYTES,
    MAX_HEAD_BYTES,
    BoundedHttpProtocol,
)
from tests.fakes.virtual_time import now_s, on_virtual_time, since_start_s

KEEP_ALIVE_S = 75
GET = b"GET /healthz HTTP/1.1\r\nhost: r\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nhost: r\r\ncontent-length: 4\r\n\r\n"
HELD = b"GET /held HTTP/1.1\r\nhost: r\r\n\r\n"
STREAMED = b"GET /streamed HTTP/1.1\r\nhost: r\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nhost: r\r\ntransfer-encoding: chunked\r\n\r\n"
SLOW_S = 30.0


class Wire(asyncio.Transport):
    """A connection's transport: what was written, and when it was closed."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = b""
        self.closed_s: float | None = None
        self.was_aborted = False
        self.reads = True
        self.takes = True
        """Whether the client reads what is written."""
        self.refuses_writes_after: int | None = None
        """How many more writes the client's system takes before it says that nobody is there."""
        self.lost: Callable[[], None] = lambda: None
        self.protocol: asyncio.BaseProtocol | None = None
        """Who has taken it over."""

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        self.sent += data
        if self.refuses_writes_after == 0:
            self.abort()
        elif self.refuses_writes_after is not None:
            self.refuses_writes_after -= 1

    def is_closing(self) -> bool:
        return self.closed_s is not None

    def close(self) -> None:
        if self.closed_s is None:
            self.closed_s = since_start_s()
            if not self.get_write_buffer_size():
                asyncio.get_running_loop().call_soon(self.lost)

    def abort(self) -> None:
        self.was_aborted = True
        if self.closed_s is None:
            self.closed_s = since_start_s()
        asyncio.get_running_loop().call_soon(self.lost)

    def get_write_buffer_size(self) -> int:
        return 0 if self.takes else len(self.sent)

    def pause_reading(self) -> None:
        self.reads = False

    def resume_reading(self) -> None:
        self.reads = True

    @property
    def statuses(self) -> list[int]:
        return [int(part[:3]) for part in self.sent.split(b"HTTP/1.1 ")[1:]]


async def settle() -> None:
    """Let tasks that have something to do run, without any time passing."""
    for _ in range(10):
        await asyncio.sleep(0)


class Successor(asyncio.Protocol):
    """Takes a connection over."""

    def __init__(self) -> None:
        self.came = b""
        self.wire: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.wire = transport

    def data_received(self, data: bytes) -> None:
        self.came += data


class Caller:
    """A client's end of one connection with an application behind it."""

    def __init__(self, keep_alive_s: int = KEEP_ALIVE_S) -> None:
        self.bodies: list[bytes | str] = []
        """What the application was given, or the name of what it raised."""
        self.scopes: list[Scope] = []
        self.successor = Successor()
        self.gone: list[str] = []
        """Paths of requests whose application learnt that the client had gone."""
        self.may_answer = asyncio.Event()
        self.wire = Wire()
        config = uvicorn.Config(
            cast(Any, self._app),
            interface="asgi3",
            ws="none",
            lifespan="off",
            proxy_headers=False,
            log_config=None,
            access_log=False,
            timeout_keep_alive=keep_alive_s,
        )
        loop = asyncio.get_running_loop()
        self.protocol = BoundedHttpProtocol(
            config=config,
            server_state=ServerState(),
            app_state={},
            _loop=loop,
            slow_consumer_s=SLOW_S,
        )
        self.wire.lost = lambda: self.protocol.connection_lost(None)
        self.protocol.connection_made(self.wire)

    async def _app(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scopes.append(scope)
        try:
            self.bodies.append(await read_body(scope, receive, 1000))
        except ClientCancelled:
            self.bodies.append("gone")
            return
        except RequestTooLarge:
            self.bodies.append("too large")
            await send_answer(send, 413, b"{}")
            return
        if scope["path"] in ("/streamed", "/socket"):
            await send({"type": STREAMS})
        if scope["path"] == "/socket" and WEBSOCKET in scope:
            await self.may_answer.wait()
            try:
                headers = scope[WEBSOCKET].accepting(None)
                message = {"type": TAKE_OVER, "headers": headers, "protocol": self.successor}
                await send(message)
            except ClientCancelled:
                self.gone.append("/socket")
            return
        if scope["path"] in ("/held", "/streamed") and not await self._may_answer(receive):
            self.gone.append(scope["path"])
            return
        await send_answer(send, 200, b"{}")

    async def _may_answer(self, receive: Receive) -> bool:
        """False when the client goes before it is time."""
        left = asyncio.ensure_future(receive())
        may = asyncio.create_task(self.may_answer.wait())
        await asyncio.wait({left, may}, return_when=asyncio.FIRST_COMPLETED)
        left.cancel()
        may.cancel()
        return may.done() and not left.done()

    def send(self, data: bytes) -> None:
        """These bytes arrive together."""
        self.protocol.data_received(data)

    async def drip(self, data: bytes, every_s: float) -> None:
        """Byte after byte, until the relay closes."""
        for index in range(len(data)):
            if self.wire.is_closing():
                return
            self.send(data[index : index + 1])
            await asyncio.sleep(every_s)

    async def closed(self) -> float:
        """Seconds since the beginning when the relay closed."""
        while self.wire.closed_s is None:
            await asyncio.sleep(0.25)
        await settle()
        assert self.protocol._look_timer is None
        return self.wire.closed_s

    def timers(self) -> int:
        """How many timers of the loop wait."""
        loop = cast(Any, asyncio.get_running_loop())
        return sum(not handle.cancelled() for handle in loop._scheduled)


@on_virtual_time
async def test_slow_head_is_answered_408_and_closed() -> None:
    caller = Caller()
    await asyncio.sleep(5)
    await caller.drip(GET, every_s=1)
    assert await caller.closed() == 5 + HEAD_TIMEOUT_S
    assert caller.wire.statuses == [408]
    assert caller.wire.sent.endswith(b"The head of the request took too long.")
    assert caller.bodies == []


@on_virtual_time
async def test_head_within_its_time_is_served() -> None:
    caller = Caller()
    await caller.drip(GET, every_s=HEAD_TIMEOUT_S / (len(GET) + 1))
    await asyncio.sleep(HEAD_TIMEOUT_S + 1)
    assert (caller.wire.statuses, caller.wire.closed_s) == ([200], None)
    caller.wire.close()
    await caller.closed()


@on_virtual_time
async def test_every_head_of_a_connection_has_its_own_time() -> None:
    caller = Caller()
    for _ in range(3):
        caller.send(GET[:-2])
        await asyncio.sleep(HEAD_TIMEOUT_S - 1)
        caller.send(GET[-2:])
        await asyncio.sleep(2)
    caller.send(GET + GET[:9])  # the rest of the second one does not come
    began_s = since_start_s()
    assert await caller.closed() == began_s + HEAD_TIMEOUT_S
    assert caller.wire.statuses == [200, 200, 200, 200, 408]


@on_virtual_time
async def test_slow_body_is_answered_408_and_the_application_told() -> None:
    caller = Caller()
    caller.send(POST[:-2])
    await asyncio.sleep(3)
    caller.send(POST[-2:] + b"a")
    await asyncio.sleep(HEAD_TIMEOUT_S + 1)
    caller.send(b"b")
    assert await caller.closed() == 3 + BODY_TIMEOUT_S
    assert caller.wire.statuses == [408]
    assert caller.wire.sent.endswith(b"The body of the request took too long.")
    await settle()
    assert caller.bodies == ["gone"]


@on_virtual_time
async def test_rest_of_a_body_nobody_waits_for_is_not_waited_for_either() -> None:
    caller = Caller()
    caller.send(POST.replace(b"4", b"2000"))  # refused at once
    await settle()
    assert caller.bodies == ["too large"]
    assert await caller.closed() == BODY_TIMEOUT_S
    assert caller.wire.statuses == [413]


@on_virtual_time
async def test_clock_stands_still_while_an_earlier_answer_is_under_way() -> None:
    caller = Caller()
    caller.send(HELD + POST + b"a")
    await asyncio.sleep(3 * BODY_TIMEOUT_S)
    assert caller.wire.statuses == []
    caller.may_answer.set()
    await settle()
    assert caller.wire.statuses == [200]
    answered_s = since_start_s()
    assert await caller.closed() == answered_s + BODY_TIMEOUT_S
    assert caller.wire.statuses == [200, 408]


@on_virtual_time
async def test_head_behind_a_long_answer_has_its_time_after_it() -> None:
    caller = Caller()
    caller.send(HELD + GET[:9])
    await asyncio.sleep(10 * HEAD_TIMEOUT_S + 1)
    caller.may_answer.set()
    answered_s = since_start_s()
    assert await caller.closed() == answered_s + HEAD_TIMEOUT_S
    assert caller.wire.statuses == [200, 408]


@pytest.mark.parametrize("sent", [b"", b"\r\n", GET, GET + b"\r\n", POST + b"abcd\r\n"])
def test_silence_is_kept_alive_and_then_closed_without_a_word(sent: bytes) -> None:
    @on_virtual_time
    async def runs() -> None:
        caller = Caller()
        if sent:
            caller.send(sent)
        assert await caller.closed() == KEEP_ALIVE_S
        assert caller.wire.statuses == ([200] if len(sent) > 2 else [])

    runs()


@on_virtual_time
async def test_drip_of_blank_lines_keeps_no_connection() -> None:
    caller = Caller()
    await caller.drip(b"\r\n" * 500, every_s=1)
    assert await caller.closed() == KEEP_ALIVE_S
    assert caller.wire.statuses == []


@on_virtual_time
async def test_request_in_one_piece_sets_no_timer_and_one_in_several_one_in_ten_seconds() -> None:
    caller = Caller()
    keep_alive = caller.timers()
    for _ in range(5):
        caller.send(GET)
        await settle()
        assert caller.timers() == keep_alive
    began_s = now_s()
    for _ in range(100):
        for piece in (POST[:20], POST[20:], b"ab", b"cd"):
            caller.send(piece)
            await settle()
        await settle()
        assert caller.timers() <= keep_alive + 1
    assert now_s() == began_s
    assert caller.bodies[-100:] == [b"abcd"] * 100
    await asyncio.sleep(HEAD_TIMEOUT_S)
    assert caller.timers() == keep_alive
    caller.wire.close()
    await caller.closed()
    assert caller.timers() == 0


# --- what stands beside a body ----------------------------------------------------------------


@on_virtual_time
async def test_head_is_answered_alone_and_the_next_request_after_it() -> None:
    caller = Caller()
    caller.send(GET.replace(b"GET", b"HEAD") + GET)
    await settle()
    head, rest = caller.wire.sent.split(b"\r\n\r\n", 1)
    assert b"content-length: 2" in head
    assert rest.startswith(b"HTTP/1.1 200 ")
    assert rest.endswith(b"{}")
    assert caller.wire.statuses == [200, 200]
    caller.wire.close()
    await caller.closed()


@on_virtual_time
async def test_trailers_do_not_become_headers() -> None:
    caller = Caller()
    caller.send(CHUNKED + b"2\r\nab\r\n0\r\nx-relay-model: other\r\nhost: h\r\n\r\n" + GET)
    await settle()
    assert caller.bodies == [b"ab", b""]
    assert [scope["headers"] for scope in caller.scopes] == [
        [(b"host", b"r"), (b"transfer-encoding", b"chunked")],
        [(b"host", b"r")],
    ]
    caller.wire.close()
    await caller.closed()


@pytest.mark.parametrize("begins", [b"0\r\nx-a: ", b"0\r\n", b"3;"])
def test_bytes_without_content_are_bounded_and_refused(begins: bytes) -> None:
    fill = b"a: b\r\n" * 100 if begins == b"0\r\n" else b"a" * 600

    @on_virtual_time
    async def runs() -> None:
        caller = Caller()
        caller.send(CHUNKED + b"2\r\nab\r\n")
        caller.send(begins)
        sent = len(begins)
        while not caller.wire.is_closing():
            caller.send(fill)
            sent += len(fill)
        assert sent <= MAX_FRAMING_BYTES + len(fill)
        assert caller.wire.statuses == [431]
        await caller.closed()
        await settle()
        assert caller.bodies == ["gone"]

    runs()


@on_virtual_time
async def test_long_body_in_small_chunks_is_not_taken_for_trailers() -> None:
    caller = Caller()
    caller.send(CHUNKED)
    for _ in range(900):
        for piece in (b"1;" + b"e" * 100, b"\r\na", b"\r\n"):
            caller.send(piece)
    caller.send(b"0\r\n\r\n")
    await settle()
    assert caller.bodies == [b"a" * 900]
    assert caller.wire.statuses == [200]
    caller.wire.close()
    await caller.closed()


UPGRADES = [
    b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n",
    b"connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-key: x\r\n",
    b"upgrade: TLS/1.2\r\nconnection: keep-alive, Upgrade\r\n",
    b"connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n"
    b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
]


@pytest.mark.parametrize("step", [1, 7, 10_000])
@pytest.mark.parametrize("offer", UPGRADES)
def test_offer_of_an_upgrade_is_ignored(offer: bytes, step: int) -> None:
    requests = [
        POST.replace(b"host: r\r\n", b"host: r\r\n" + offer) + b"abcd",
        CHUNKED.replace(b"host: r\r\n", offer) + b"2\r\nef\r\n0\r\n\r\n",
        GET.replace(b"host: r\r\n", offer),
        POST + b"ghij",
    ]

    @on_virtual_time
    async def runs() -> None:
        caller = Caller()
        data = b"".join(requests)
        for index in range(0, len(data), step):
            caller.send(data[index : index + step])
            await settle()
        assert caller.bodies == [b"abcd", b"ef", b"", b"ghij"]
        assert caller.wire.statuses == [200] * 4
        for scope in caller.scopes:
            headers = dict(scope["headers"])
            assert not {b"upgrade", b"http2-settings"} & headers.keys()
            assert headers.get(b"connection", b"keep-alive") == b"keep-alive"
        caller.wire.close()
        await caller.closed()

    runs()


SOCKET = GET.replace(b"/healthz", b"/socket").replace(b"host: r\r\n", UPGRADES[-1])


@pytest.mark.parametrize("step", [1, 7, 10_000])
@pytest.mark.parametrize("before", [b"", GET, POST + b"abcd"])
def test_a_websocket_is_taken_over_and_left_alone(before: bytes, step: int) -> None:
    @on_virtual_time
    async def runs() -> None:
        caller = Caller()
        caller.may_answer.set()
        data = before + SOCKET
        for index in range(0, len(data), step):
            caller.send(data[index : index + step])
            await settle()
        assert caller.wire.protocol is caller.successor
        assert caller.successor.wire is caller.wire
        assert caller.wire.statuses == [*[200 for _ in before[:1]], 101]
        assert caller.wire.sent.endswith(
            b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n"
            b"sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
        )
        assert not caller.protocol.connections
        assert caller.timers() == 0
        await asyncio.sleep(1000)
        assert not caller.wire.is_closing()
        assert caller.wire.reads

    runs()


@pytest.mark.parametrize("ahead", [GET, GET[:9], b"\x82\x80\x00\x00\x00\x00", b"x" * 100_000])
@pytest.mark.parametrize("together", [True, False])
def test_who_sends_before_it_is_a_websocket_is_cut_off(ahead: bytes, together: bool) -> None:
    @on_virtual_time
    async def runs() -> None:
        caller = Caller()
        for data in [SOCKET + ahead] if together else [SOCKET, ahead]:
            caller.send(data)
            await settle()
        caller.may_answer.set()
        await settle()
        assert caller.gone == ["/socket"]
        assert caller.wire.was_aborted
        assert caller.wire.statuses == []
        assert caller.wire.protocol is None

    runs()


@on_virtual_time
async def test_who_has_gone_before_it_is_a_websocket() -> None:
    caller = Caller()
    caller.send(SOCKET)
    await settle()
    caller.wire.close()
    await settle()
    caller.may_answer.set()
    await settle()
    assert caller.gone == ["/socket"]
    assert caller.wire.statuses == []


@pytest.mark.parametrize("data", [b"CONNECT a:1 HTTP/1.1\r\nhost: a:1\r\n\r\n", b"\x00\r\n\r\n"])
def test_what_cannot_be_served_is_refused_and_the_connection_closed(data: bytes) -> None:
    @on_virtual_time
    async def runs() -> None:
        caller = Caller()
        caller.send(data + GET)
        assert await caller.closed() == 0
        assert caller.wire.statuses == [400]
        assert caller.bodies == []

    runs()


@on_virtual_time
async def test_head_in_one_piece_that_is_too_large_is_refused() -> None:
    caller = Caller()
    caller.send(GET[:-2] + b"a: " + b"x" * MAX_HEAD_BYTES + b"\r\n\r\n")
    await caller.closed()
    assert caller.wire.statuses == [400]


# --- requests sent ahead ----------------------------------------------------------------------


@pytest.mark.parametrize("ahead", [b"", GET, GET * 5, POST + b"ab", GET[:9], b"\x00\x01"])
@pytest.mark.parametrize("path", [HELD, STREAMED])
def test_client_that_goes_is_noticed_whatever_it_sent_ahead(path: bytes, ahead: bytes) -> None:
    @on_virtual_time
    async def runs() -> None:
        caller = Caller()
        caller.send(path)
        await settle()
        if ahead:
            caller.send(ahead)
            await settle()
        assert caller.wire.reads, "who does not read does not learn that the client has gone"
        caller.wire.close()
        await settle()
        assert caller.gone == [path.split()[1].decode()]
        assert caller.wire.statuses == []

    runs()


@on_virtual_time
async def test_requests_sent_ahead_are_answered_in_order() -> None:
    caller = Caller()
    caller.send(HELD + GET + POST + b"abcd" + POST + b"ef")
    await settle()
    assert caller.bodies == [b""]
    caller.may_answer.set()
    await settle()
    caller.send(b"gh")
    await settle()
    assert caller.bodies == [b"", b"", b"abcd", b"efgh"]
    assert caller.wire.statuses == [200] * 4
    caller.wire.close()
    await caller.closed()


@pytest.mark.parametrize("request_", [GET, POST + b"abcd", POST.replace(b"4", b"900") + b"x" * 900])
def test_what_is_sent_ahead_is_bounded_and_the_rest_dropped(request_: bytes) -> None:
    @on_virtual_time
    async def runs() -> None:
        caller = Caller()
        caller.send(HELD)
        for _ in range(200):
            caller.send(request_)
            await settle()
        waiting = len(caller.protocol.pipeline)
        assert 0 < waiting < 40
        assert caller.protocol._ahead_bytes <= MAX_AHEAD_BYTES
        assert caller.wire.reads
        caller.may_answer.set()
        await caller.closed()
        # Nothing that was taken is lost, and the last answer says that it is the last.
        assert caller.wire.statuses == [200] * (waiting + 1)
        assert caller.wire.sent.count(b"connection: close") == 1
        assert caller.wire.sent.rindex(b"connection: close") > caller.wire.sent.rindex(b"HTTP/1.1")

    runs()


@on_virtual_time
async def test_one_large_body_sent_ahead_is_dropped_and_the_client_still_heard() -> None:
    caller = Caller()
    caller.send(HELD + POST.replace(b"4", b"1000000") + b"x" * 1000)
    for _ in range(100):
        caller.send(b"x" * 9_990)
        await settle()
    assert not caller.protocol.pipeline
    caller.may_answer.set()
    await caller.closed()
    assert caller.wire.statuses == [200]
    assert b"connection: close" in caller.wire.sent


@on_virtual_time
async def test_client_that_always_has_one_request_ahead_is_served_for_ever() -> None:
    caller = Caller()
    for _ in range(200):
        caller.may_answer.clear()
        caller.send(HELD + GET)
        await settle()
        caller.may_answer.set()
        await settle()
    assert caller.wire.statuses == [200] * 400
    caller.wire.close()
    await caller.closed()


@pytest.mark.parametrize("ahead", [b"\x00\x01\r\n", GET[:9] + b"y" * MAX_HEAD_BYTES])
def test_nothing_is_written_into_an_answer_because_of_what_comes_behind_its_request(
    ahead: bytes,
) -> None:
    @on_virtual_time
    async def runs() -> None:
        caller = Caller()
        caller.send(HELD)
        await settle()
        caller.send(ahead)
        assert caller.wire.sent == b""
        caller.may_answer.set()
        await caller.closed()
        assert caller.wire.statuses == [200]
        assert b"connection: close" in caller.wire.sent

    runs()


# --- clients that leave by halves -------------------------------------------------------------


@pytest.mark.parametrize("settles", [True, False])
def test_half_closed_client_still_gets_whole_answers(settles: bool) -> None:
    @on_virtual_time
    async def runs() -> None:
        caller = Caller()
        caller.send(GET + HELD + GET[:9])
        if settles:
            await settle()
        assert caller.protocol.eof_received()
        await asyncio.sleep(60)
        caller.may_answer.set()
        await caller.closed()
        answers = [one for one in caller.wire.statuses if one != 100]
        assert answers == [200, 200]
        # Whether it is still there is asked ever more rarely, and without a word to the last.
        assert 15 < caller.wire.statuses.count(100) < 30
        assert caller.timers() == 0

    runs()


@on_virtual_time
async def test_half_closed_client_that_has_gone_is_noticed_by_a_probe() -> None:
    caller = Caller()
    caller.send(HELD)
    await settle()
    assert caller.protocol.eof_received()
    await asyncio.sleep(0.0005)
    assert caller.wire.sent == b"", "an answer that is quick goes out without interim ones"
    caller.wire.refuses_writes_after = 1
    await asyncio.sleep(0.003)
    assert caller.wire.closed_s is not None
    assert caller.wire.closed_s < 0.004
    await caller.closed()
    assert caller.gone == ["/held"]


@pytest.mark.parametrize("settles", [True, False])
def test_half_closed_client_of_a_stream_has_hung_up(settles: bool) -> None:
    @on_virtual_time
    async def runs() -> None:
        caller = Caller()
        caller.send(STREAMED)
        if settles:
            await settle()
        if not caller.protocol.eof_received():  # as the loop's own transports do
            caller.wire.close()
        assert await caller.closed() == 0
        assert caller.wire.statuses == []

    runs()


@pytest.mark.parametrize("sent", [b"", GET, GET[:9], POST, POST + b"ab"])
def test_half_close_with_nothing_to_answer_is_a_close(sent: bytes) -> None:
    @on_virtual_time
    async def runs() -> None:
        caller = Caller()
        caller.send(sent)
        await settle()
        assert not caller.protocol.eof_received()
        caller.wire.close()
        await caller.closed()
        await settle()

    runs()


@on_virtual_time
async def test_half_closed_http_1_0_client_gets_no_interim_answer() -> None:
    caller = Caller()
    caller.send(HELD.replace(b"/1.1", b"/1.0"))
    await settle()
    assert caller.protocol.eof_received()
    await asyncio.sleep(60)
    assert caller.wire.sent == b""
    caller.may_answer.set()
    await caller.closed()
    assert caller.wire.statuses == [200]


# --- clients that do not read -----------------------------------------------------------------


@on_virtual_time
async def test_client_that_does_not_take_its_answer_is_aborted() -> None:
    caller = Caller()
    caller.wire.takes = False
    caller.send(GET)
    await settle()
    assert caller.wire.statuses == [200]
    assert await caller.closed() == SLOW_S
    assert caller.wire.was_aborted


@on_virtual_time
async def test_close_does_not_wait_for_ever_for_a_client_that_does_not_read() -> None:
    caller = Caller()
    caller.wire.takes = False
    caller.send(b"\x00\r\n\r\n")
    assert caller.wire.is_closing()
    while not caller.wire.was_aborted:
        await asyncio.sleep(1)
    assert since_start_s() <= SLOW_S + 1
    await caller.closed()
