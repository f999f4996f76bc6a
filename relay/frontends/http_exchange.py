"""One request and its answer: uvicorn's cycle, with an answer written as the shim needs it.

- The head leaves together with the first bytes of the body. uvicorn writes it by itself, which
  costs a system call and, at the client, a wake-up that finds nothing to do; both stand before the
  first token. The shim never sends a head without a body right behind it, so holding it delays
  nothing: median added time to first token x 0.90.
- HEAD gets the head that GET would get, alone.
- A body of unknown length is chunked in HTTP/1.1; HTTP/1.0 knows no chunks, so there it ends with
  the connection.
- Beside ASGI's own messages `send` takes those of `relay.frontends.asgi`: that the answer is a
  stream, that the connection is to be broken, that another protocol takes it over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from uvicorn.protocols.http.httptools_impl import (
    HEADER_RE,
    HEADER_VALUE_RE,
    STATUS_LINE,
    RequestResponseCycle,
)

from relay.errors import ClientCancelled
from relay.frontends.asgi import ABORT, STREAMS, TAKE_OVER, HeadIsOut, Send, send_answer
from relay.frontends.connection_reset import reset
from relay.frontends.write_watch import WriteWatch

PieceWriter = Callable[[bytes], Awaitable[None] | None]
"""Writes a piece of a body that has begun and goes on: done at once where it returns None."""

HandOver = Callable[[bytes, asyncio.Protocol], bool]
"""Writes a head and gives the connection to a protocol, or says that it cannot be."""

_NO_BODY = frozenset({204, 304})


def _never(head: bytes, successor: asyncio.Protocol) -> bool:
    return False


class Exchange(RequestResponseCycle):
    """See the module. The head may not hold `connection` or `transfer-encoding`: they are ours."""

    def __init__(self, writes: WriteWatch, hand_over: HandOver = _never, **of_uvicorn: Any) -> None:
        super().__init__(**of_uvicorn)
        self._writes = writes
        self._hand_over = hand_over
        self._head = b""
        """Complete, and not written yet."""
        self._has_body = True
        self._left_bytes: int | None = None
        """Of the body, as the head announced it; None where it announced nothing."""
        self.is_streamed = False
        """The application has said that it streams its answer."""
        self.is_half_closed = False
        """The client has said that it sends nothing more."""
        self.ahead_bytes = 0
        """What a request that waits behind another one is counted with."""
        self._told_lost: Callable[[], object] | None = None
        """Who is told when the client goes."""

    async def send(self, message: MutableMapping[str, Any]) -> None:  # type: ignore[override]
        """
        Raises:
            HeadIsOut: a head after a head.
            ClientCancelled: for `STREAMS`, the client has half-closed the connection; for
                `TAKE_OVER`, it has gone or sent too much, and the connection is broken.
            RuntimeError: out of order, or the body is not as long as announced.

        Cancelled: while the client does not read; nothing of the message was written.
        """
        kind = message["type"]
        if kind == ABORT:
            self._break()
            return
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if kind == TAKE_OVER:
            self._give_away(message["headers"], message["protocol"])
            return
        if self.disconnected:
            return
        if kind == "http.response.body" and self.response_started and not self.response_complete:
            self._continue(message.get("body", b""), message.get("more_body", False))
        elif kind == "http.response.start":
            self._start(message["status"], message["headers"])
        elif kind == STREAMS:
            self.is_streamed = True
            if self.is_half_closed:
                self._break()
                raise ClientCancelled("the client closed the connection")
        else:
            raise RuntimeError(f"an answer has no place for {kind} here")

    def write_piece(self, body: bytes) -> Awaitable[None] | None:
        """`send` of a piece, not empty, of a chunked body that has begun, without its price: no
        message, no coroutine, unless the client has to be waited for or something else is due
        first. For the tokens of a stream.

        Raises, cancelled: see `send`.
        """
        if (
            not self.chunked_encoding
            or self._head
            or self.flow.write_paused
            or self.disconnected
            or not self._has_body
            or self.response_complete
        ):
            return self.send({"type": "http.response.body", "body": body, "more_body": True})
        self._writes.write(b"%x\r\n%b\r\n" % (len(body), body))
        return None

    def answer(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        """The whole answer, at once, in the application's place; what comes of the request's body
        is dropped. `headers` name the body's length."""
        self._start(status, headers)
        self._continue(body, False)

    def when_lost(self, told: Callable[[], object]) -> None:
        """Call `told` once, when the client goes before its answer is complete; at once if it has
        gone. For who has read the whole body, in place of a task that waits for `receive`."""
        if self.disconnected:
            told()
            return
        self._told_lost = told
        self.flow.resume_reading()  # a large body has stopped it; who does not read hears nothing

    def _start(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        if self.response_started:
            raise HeadIsOut("an answer has one head")
        lines = _head_lines(status, headers)
        for name, value in headers:
            if name == b"content-length":
                self._left_bytes = int(value)
        self._has_body = self.scope["method"] != "HEAD" and status not in _NO_BODY
        self.chunked_encoding = False
        if self._has_body and self._left_bytes is None:
            if self.scope["http_version"] == "1.0":
                self.keep_alive = False
            else:
                self.chunked_encoding = True
                lines.append(b"transfer-encoding: chunked\r\n")
        if not self.keep_alive:
            lines.append(b"connection: close\r\n")
        lines.append(b"\r\n")
        self._head = b"".join(lines)
        self.response_started = True
        self.waiting_for_100_continue = False

    def _continue(self, body: bytes, more_body: bool) -> None:
        if not self._has_body:
            data = b""
        elif self.chunked_encoding:
            data = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            if not more_body:
                data += b"0\r\n\r\n"
        else:
            data = body
            if self._left_bytes is not None:
                self._left_bytes -= len(body)
                if self._left_bytes < 0 or (self._left_bytes and not more_body):
                    raise RuntimeError("the body is not as long as its head says")
        if self._head:
            data, self._head = self._head + data, b""
        if data:
            self._writes.write(data)
        if not more_body:
            self.response_complete = True
            self._told_lost = None
            self.message_event.set()
            if not self.keep_alive:
                self.transport.close()
            self.on_response()

    def _give_away(self, headers: list[tuple[bytes, bytes]], successor: asyncio.Protocol) -> None:
        if self.response_started:
            raise HeadIsOut("an answer has one head")
        lines = _head_lines(101, headers)
        is_gone = self.disconnected or self.is_half_closed
        if is_gone or not self._hand_over(b"".join([*lines, b"\r\n"]), successor):
            self._break()
            raise ClientCancelled("the client closed the connection, or sent before its answer")
        self.response_started = self.response_complete = True
        self.message_event.set()

    async def send_500_response(self) -> None:
        """For an application that failed before its head; those of ours answer by themselves."""
        self.keep_alive = False
        await send_answer(self.send, 500, b'{"error":"the relay failed"}')

    def _break(self) -> None:
        self._disconnect()
        if self.transport.get_write_buffer_size():  # the client is behind: it may never read
            reset(self.transport)
        else:
            self.transport.abort()

    def _disconnect(self) -> None:
        self.disconnected = True
        self.message_event.set()
        told, self._told_lost = self._told_lost, None
        if told is not None:
            told()

    def lose(self) -> None:
        """The connection is gone: whoever receives or sends is told."""
        if self.response_complete:
            self.message_event.set()
        else:
            self._disconnect()


def exchange_of(send: Send) -> Exchange | None:
    """The exchange whose own `send` it is; None for any other, as of who takes down what passes."""
    exchange = getattr(send, "__self__", None)
    return exchange if isinstance(exchange, Exchange) else None


def piece_writer(send: Send) -> PieceWriter:
    """How pieces of a body are written: by the exchange itself where there is one, else by
    messages."""
    exchange = exchange_of(send)
    if exchange is not None:
        return exchange.write_piece
    return lambda body: send({"type": "http.response.body", "body": body, "more_body": True})


def _head_lines(status: int, headers: list[tuple[bytes, bytes]]) -> list[bytes]:
    lines = [STATUS_LINE[status]]
    for name, value in headers:
        if HEADER_RE.search(name) or HEADER_VALUE_RE.search(value):
            raise RuntimeError("a header that would break the head")
        lines += (name, b": ", value, b"\r\n")
    return lines
