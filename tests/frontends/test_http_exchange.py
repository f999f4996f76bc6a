"""How an answer is written: the head with the first bytes of its body, and never lost."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from uvicorn.protocols.http.flow_control import FlowControl

from relay.errors import ClientCancelled
from relay.frontends.asgi import ABORT, STREAMS, HeadIsOut, Receive, Scope, Send, send_answer
from relay.frontends.http_exchange import Exchange, exchange_of, piece_writer
from relay.frontends.write_watch import WriteWatch

START = {"type": "http.response.start", "status": 200, "headers": [(b"x-a", b"1")]}


class Written(asyncio.Transport):
    """Notes what the socket would have been given, write by write."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.is_closed = self.is_aborted = self.is_reading_again = False

    def pause_reading(self) -> None:
        self.is_reading_again = False

    def resume_reading(self) -> None:
        self.is_reading_again = True

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        self.writes.append(bytes(data))

    def get_write_buffer_size(self) -> int:
        return 0

    def close(self) -> None:
        self.is_closed = True

    def abort(self) -> None:
        self.is_closed = self.is_aborted = True

    def is_closing(self) -> bool:
        return self.is_closed


class Answering:
    """An exchange, what it wrote, and how often it said that it was complete."""

    def __init__(self, method: str = "GET", http_version: str = "1.1") -> None:
        self.wire = Written()
        self.flow = FlowControl(self.wire)
        self.completed = 0
        self.exchange = Exchange(
            WriteWatch(self.wire, 1.0, asyncio.get_running_loop()),
            scope={"type": "http", "method": method, "http_version": http_version},
            transport=self.wire,
            flow=self.flow,
            logger=logging.getLogger("test"),
            access_logger=logging.getLogger("test"),
            access_log=False,
            default_headers=[],
            message_event=asyncio.Event(),
            expect_100_continue=False,
            keep_alive=http_version != "1.0",
            on_response=self._complete,
        )

    def _complete(self) -> None:
        self.completed += 1

    async def start(self, status: int = 200, *headers: tuple[bytes, bytes]) -> None:
        await self.exchange.send({**START, "status": status, "headers": headers})

    async def body(self, data: bytes, *, more: bool = False) -> None:
        await self.exchange.send({"type": "http.response.body", "body": data, "more_body": more})


HEAD = b"HTTP/1.1 200 OK\r\nx-a: 1\r\n"
CHUNKED = HEAD + b"transfer-encoding: chunked\r\n\r\n"


async def test_head_and_first_body_are_one_write() -> None:
    told = Answering()
    await told.exchange.send(START)
    assert told.wire.writes == []
    await told.body(b"first", more=True)
    await told.body(b"second", more=True)
    await told.body(b"")
    assert told.wire.writes == [
        CHUNKED + b"5\r\nfirst\r\n",
        b"6\r\nsecond\r\n",
        b"0\r\n\r\n",
    ]
    assert (told.completed, told.wire.is_closed) == (1, False)


async def test_known_length_is_kept_to() -> None:
    told = Answering()
    await told.start(200, (b"content-length", b"4"))
    await told.body(b"ab", more=True)
    await told.body(b"cd")
    assert b"".join(told.wire.writes) == b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nabcd"
    for data in (b"abc", b"abcde"):
        told = Answering()
        await told.start(200, (b"content-length", b"4"))
        with pytest.raises(RuntimeError):
            await told.body(data)
        assert told.wire.writes == []


@pytest.mark.parametrize("length", [(), ((b"content-length", b"5"),)])
async def test_head_request_gets_the_head_alone(length: tuple[tuple[bytes, bytes], ...]) -> None:
    told = Answering("HEAD")
    await told.start(200, *length)
    await told.body(b"first")
    lines = [b"HTTP/1.1 200 OK", *(b"%b: %b" % line for line in length), b"", b""]
    assert told.wire.writes == [b"\r\n".join(lines)]
    assert (told.completed, told.wire.is_closed) == (1, False)


async def test_status_without_a_body_has_none() -> None:
    told = Answering()
    await told.start(204)
    await told.body(b"")
    assert told.wire.writes == [b"HTTP/1.1 204 No Content\r\n\r\n"]


async def test_http_1_0_knows_no_chunks_so_the_body_ends_with_the_connection() -> None:
    told = Answering(http_version="1.0")
    await told.exchange.send(START)
    await told.body(b"first", more=True)
    await told.body(b"second")
    assert told.wire.writes == [HEAD + b"connection: close\r\n\r\nfirst", b"second"]
    assert told.wire.is_closed


@pytest.mark.parametrize("header", [(b"a b", b"1"), (b"a", b"1\r\nx-evil: 1"), (b"a", b"\x00")])
async def test_header_that_would_break_the_head_is_never_written(
    header: tuple[bytes, bytes],
) -> None:
    told = Answering()
    with pytest.raises(RuntimeError):
        await told.start(200, header)
    await told.start(500)  # nothing has begun, so this can still be answered
    await told.body(b"")
    assert told.wire.writes[0].startswith(b"HTTP/1.1 500 ")


async def test_second_head_is_refused_and_anything_after_the_end() -> None:
    told = Answering()
    with pytest.raises(RuntimeError):
        await told.body(b"before the head")
    await told.exchange.send(START)
    with pytest.raises(HeadIsOut):
        await told.exchange.send(START)
    await told.body(b"")
    with pytest.raises(HeadIsOut):
        await told.exchange.send(START)
    with pytest.raises(RuntimeError):
        await told.body(b"more")
    assert b"".join(told.wire.writes) == CHUNKED + b"0\r\n\r\n"


async def test_abort_does_not_wait_for_a_client_that_does_not_read() -> None:
    told = Answering()
    await told.exchange.send(START)
    told.flow.pause_writing()
    await told.exchange.send({"type": ABORT})
    assert told.wire.is_aborted
    assert await told.exchange.receive() == {"type": "http.disconnect"}
    await told.body(b"nobody takes it")
    assert told.wire.writes == []


async def test_stream_for_a_half_closed_client_is_not_begun() -> None:
    told = Answering()
    await told.exchange.send({"type": STREAMS})
    assert told.exchange.is_streamed
    assert not told.wire.is_closed
    told = Answering()
    told.exchange.is_half_closed = True
    with pytest.raises(ClientCancelled):
        await told.exchange.send({"type": STREAMS})
    assert told.wire.is_closed


async def test_lost_connection_wakes_who_waits_to_write() -> None:
    told = Answering()
    await told.exchange.send(START)
    told.flow.pause_writing()
    writing = asyncio.create_task(told.body(b"x"))
    await asyncio.sleep(0)
    told.exchange.lose()
    told.flow.resume_writing()
    await writing
    assert told.wire.writes == []


# --- pieces without messages ----------------------------------------------------------------


async def test_a_piece_is_written_as_a_message_would_be() -> None:
    told = Answering()
    await told.exchange.send(START)
    write = piece_writer(told.exchange.send)
    first = write(b"first")
    assert first is not None, "the head goes first"
    await first
    assert write(b"second") is None
    assert told.wire.writes == [CHUNKED + b"5\r\nfirst\r\n", b"6\r\nsecond\r\n"]


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_pieces_and_messages_write_the_same(method: str, version: str) -> None:
    written = []
    for is_by_message in (True, False):
        told = Answering(method, version)
        await told.start()
        send = told.exchange.send

        async def by_message(message: Any, send: Send = send) -> None:
            await send(message)

        write = piece_writer(by_message if is_by_message else send)
        for data in (b"one", b"two", b"three"):
            if (waiting := write(data)) is not None:
                await waiting
        await told.body(b"")
        written.append(told.wire.writes)
    assert written[0] == written[1]


async def test_a_piece_waits_for_a_client_that_does_not_read() -> None:
    told = Answering()
    await told.start()
    await told.body(b"first", more=True)
    told.flow.pause_writing()
    waiting = told.exchange.write_piece(b"second")
    assert waiting is not None
    writing = asyncio.ensure_future(waiting)
    await asyncio.sleep(0)
    assert len(told.wire.writes) == 1
    told.flow.resume_writing()
    await writing
    assert told.wire.writes[1:] == [b"6\r\nsecond\r\n"]


async def test_a_piece_for_a_client_that_has_gone_goes_nowhere() -> None:
    told = Answering()
    await told.start()
    await told.body(b"first", more=True)
    told.exchange.lose()
    waiting = told.exchange.write_piece(b"second")
    assert waiting is not None
    await waiting
    assert len(told.wire.writes) == 1


async def test_a_piece_after_the_end_is_refused() -> None:
    told = Answering()
    await told.start()
    await told.body(b"all")
    waiting = told.exchange.write_piece(b"more")
    assert waiting is not None
    with pytest.raises(RuntimeError):
        await waiting


async def test_who_takes_down_what_passes_gets_messages() -> None:
    told = Answering()
    await told.start()
    passed: list[Any] = []

    async def noting(message: Any) -> None:
        passed.append(message)
        await told.exchange.send(message)

    waiting = piece_writer(noting)(b"piece")
    assert waiting is not None
    await waiting
    assert passed == [{"type": "http.response.body", "body": b"piece", "more_body": True}]
    assert exchange_of(noting) is None
    assert exchange_of(told.exchange.send) is told.exchange


# --- a client that goes ---------------------------------------------------------------------


async def test_who_waits_for_a_loss_is_told_once() -> None:
    for lose in ("lose", "abort"):
        told, heard = Answering(), list[str]()
        told.exchange.when_lost(lambda heard=heard: heard.append("lost"))  # type: ignore[misc]
        if lose == "lose":
            told.exchange.lose()
        else:
            await told.exchange.send({"type": ABORT})
        told.exchange.lose()
        assert heard == ["lost"]


async def test_a_loss_that_was_before_is_told_at_once() -> None:
    told, heard = Answering(), list[str]()
    told.exchange.lose()
    told.exchange.when_lost(lambda: heard.append("lost"))
    assert heard == ["lost"]


async def test_the_end_of_a_connection_after_the_answer_is_no_loss() -> None:
    told, heard = Answering(), list[str]()
    told.exchange.when_lost(lambda: heard.append("lost"))
    await told.start()
    await told.body(b"all")
    told.exchange.lose()
    assert heard == []


async def test_who_waits_for_a_loss_reads_on() -> None:
    """A large body has stopped the reading, and who does not read does not hear of a loss."""
    told = Answering()
    told.flow.pause_reading()
    told.exchange.when_lost(lambda: None)
    assert not told.flow.read_paused
    assert told.wire.is_reading_again


async def test_application_that_fails_before_its_head_is_answered_in_json() -> None:
    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        raise ValueError("a bug")

    async def half(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
        raise ValueError("a bug")

    async def whole(scope: Scope, receive: Receive, send: Send) -> None:
        await send_answer(send, 200, b"{}")

    written = {}
    for app in (broken, half, whole):
        told = Answering()
        run: Any = told.exchange.run_asgi
        await run(app)
        written[app] = b"".join(told.wire.writes)
        assert told.wire.is_closed == (app is not whole)
    assert written[broken].startswith(b"HTTP/1.1 500 Internal Server Error\r\ncontent-type: app")
    assert written[broken].endswith(b'{"error":"the relay failed"}')
    assert written[half] == CHUNKED + b"1\r\nx\r\n"
    assert written[whole].endswith(b"\r\n\r\n{}")
