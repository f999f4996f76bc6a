"""Time limits of requests that do not come to their end, on a virtual clock, without sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest
import uvicorn
from uvicorn.server import ServerState

from relay.errors import ClientCancelled, RequestTooLarge
from relay.frontends.asgi import Receive, Scope, Send, read_body, send_answer
from relay.frontends.http_protocol import BODY_TIMEOUT_S, HEAD_TIMEOUT_S, BoundedHttpProtocol
from tests.fakes.virtual_time import now_s, on_virtual_time, since_start_s

KEEP_ALIVE_S = 75
GET = b"GET /healthz HTTP/1.1\r\nhost: r\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nhost: r\r\ncontent-length: 4\r\n\r\n"
HELD = b"GET /held HTTP/1.1\r\nhost: r\r\n\r\n"


class Wire(asyncio.Transport):
    """A connection's transport: what was written, and when it was closed."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = b""
        self.closed_s: float | None = None
        self.lost: Callable[[], None] = lambda: None

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        self.sent += data

    def is_closing(self) -> bool:
        return self.closed_s is not None

    def close(self) -> None:
        if self.closed_s is None:
            self.closed_s = since_start_s()
            asyncio.get_running_loop().call_soon(self.lost)

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    @property
    def statuses(self) -> list[int]:
        return [int(part[:3]) for part in self.sent.split(b"HTTP/1.1 ")[1:]]


async def settle() -> None:
    """Let tasks that have something to do run, without any time passing."""
    for _ in range(10):
        await asyncio.sleep(0)


class Caller:
    """A client's end of one connection with an application behind it."""

    def __init__(self, keep_alive_s: int = KEEP_ALIVE_S) -> None:
        self.bodies: list[bytes | str] = []
        """What the application was given, or the name of what it raised."""
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
            config=config, server_state=ServerState(), app_state={}, _loop=loop
        )
        self.wire.lost = lambda: self.protocol.connection_lost(None)
        self.protocol.connection_made(self.wire)

    async def _app(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            self.bodies.append(await read_body(scope, receive, 1000))
        except ClientCancelled:
            self.bodies.append("gone")
            return
        except RequestTooLarge:
            self.bodies.append("too large")
            await send_answer(send, 413, b"{}")
            return
        if scope["path"] == "/held":
            await self.may_answer.wait()
        await send_answer(send, 200, b"{}")

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
