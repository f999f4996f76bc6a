"""One request and its answer, over granian's RSGI protocol.

Everything the emulator does to a client goes through `Exchange`: head, bytes, clean end, reset,
cut. It also learns here that the client has gone: granian (2.8.7) completes
`client_disconnect()` within 0.6 ms of an HTTP/2 RST_STREAM, before the headers as well as in
the middle of a stream, and when an HTTP/1.1 client closes its socket (measured on loopback, 10
hanging requests on one connection). It completes as well once a response stream that we ended
has been handed to the socket, so "ended" in the report means that the last byte has left.

`send_bytes` of RSGI is a push into an unbounded channel and needs no await: a slow reader never
holds the emulator up, and there is no back-pressure here; the peer's flow-control window still
bounds what is on the wire.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

from relay.emulator.report import StreamRecord
from relay.emulator.socket_cut import close_connection, reset_connection
from relay.emulator.stream_reset import DRAIN_S, ResettableBody

Headers = list[tuple[str, str]]


class RsgiHeaders(Protocol):
    """Request headers as granian gives them; names are lower case."""

    def get(self, key: str, default: str | None = None) -> str | None: ...

    def items(self) -> list[tuple[str, str]]: ...


class RsgiScope(Protocol):
    """What granian knows of a request before its body."""

    proto: str
    http_version: str
    client: str
    scheme: str
    method: str
    path: str
    """Decoded."""
    query_string: str
    authority: str | None
    """Of HTTP/2; HTTP/1.1 has a `host` header."""

    @property
    def headers(self) -> RsgiHeaders: ...


class RsgiTransport(Protocol):
    """An open response body."""

    def send_bytes(self, data: bytes) -> object: ...


class RsgiProtocol(Protocol):
    """The request's body and the ways to answer it."""

    async def __call__(self) -> bytes: ...

    async def client_disconnect(self) -> None: ...

    def response_empty(self, status: int, headers: Headers) -> None: ...

    def response_bytes(self, status: int, headers: Headers, body: bytes) -> None: ...

    def response_stream(self, status: int, headers: Headers) -> RsgiTransport: ...

    def response_file(self, status: int, headers: Headers, file: str) -> None: ...


class Exchange:
    """A request being answered.

    The owner calls `send_head`, `write`, `end` (a stream) or `respond` (a whole body), or one of
    the rough endings. `on_gone` is called once if the client leaves first. After any end all
    methods do nothing, so a performance need not look before each write.
    """

    def __init__(self, scope: RsgiScope, protocol: RsgiProtocol, body: bytes, record: StreamRecord):
        self.scope = scope
        self.body = body
        self.record = record
        self.started_s = time.monotonic()
        self.on_gone: Callable[[], None] | None = None
        self.more_headers: Headers = []
        """Sent with every answer, such as a `date` that is not this machine's."""
        self._protocol = protocol
        self._transport: RsgiTransport | ResettableBody | None = None
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._is_over = False
        self._closes_behind = False

    @property
    def is_over(self) -> bool:
        """Whether nothing more can be sent."""
        return self._is_over

    def send_head(self, status: int, headers: Headers, *, resettable: bool = False) -> None:
        """Send status and headers of a stream.

        Args:
            resettable: whether `reset` must be able to end this stream with RST_STREAM; its
                bytes then take a slower way (see `stream_reset`).
        """
        if self._is_over:
            return
        self.record.head(status)
        headers = [*headers, *self.more_headers]
        if resettable:
            body = ResettableBody()
            self._protocol.response_file(status, headers, body.path)
            self._transport = body
        else:
            self._transport = self._protocol.response_stream(status, headers)

    def write(self, data: bytes) -> None:
        """Hand one piece of the body to the server: one DATA frame, or one HTTP/1.1 chunk."""
        if self._transport is None or not data:
            return
        try:
            self._transport.send_bytes(data)
        except RuntimeError:
            # RSGIProtocolClosed: the client left and its notice is on the way to us.
            self._transport = None

    def end(self) -> None:
        """End the stream cleanly."""
        if self._is_over:
            return
        self.record.end("clean")
        self._is_over = True
        # granian ends the body when the last reference to its transport goes.
        if isinstance(self._transport, ResettableBody):
            # The stream was shorter than the fault's position; it cannot end cleanly any more.
            self._transport.close()
            self._finish()
        self._transport = None
        if not self.record.head_ns:
            self._protocol.response_bytes(200, [], b"")
            self._finish()

    def respond(self, status: int, headers: Headers, body: bytes, *, ending: str = "clean") -> None:
        """Answer with a whole body."""
        if self._is_over:
            return
        self.record.head(status)
        self.record.end(ending)
        self._is_over = True
        self._protocol.response_bytes(status, [*headers, *self.more_headers], body)
        self._finish()

    @property
    def is_drained(self) -> bool:
        """Whether a resettable body has nothing left that a reset would throw away."""
        return not isinstance(self._transport, ResettableBody) or self._transport.is_read

    def reset(self) -> None:
        """End this stream alone, abruptly: RST_STREAM(INTERNAL_ERROR); HTTP/1.1 closes the socket.

        Before the head it works always; after it only with `resettable=True`, and then not until
        `stream_reset.DRAIN_S` after `is_drained`, or the last writes are lost.
        """
        if self._is_over:
            return
        self.record.end("reset")
        self._is_over = True
        if isinstance(self._transport, ResettableBody):
            self._transport.close()
        elif not self.record.head_ns:
            # A directory opens but cannot be read, and hyper answers a failed read with a reset.
            # Usually the head is still queued and is dropped; other streams' traffic on the
            # connection may flush it first.
            self._protocol.response_file(200, [], "/")
        self._transport = None
        self._finish()

    def close_behind(self) -> None:
        """Close the connection with FIN once this exchange has ended."""
        self._closes_behind = True

    def cut(self, *, with_rst: bool) -> None:
        """End the whole connection, with TCP RST or an orderly FIN; other streams go with it."""
        if self._is_over:
            return
        self.record.end("cut")
        self._is_over = True
        (reset_connection if with_rst else close_connection)(self.scope.client)
        self._transport = None
        self._finish()

    async def run(self) -> None:
        """Wait until the exchange is over; tells `on_gone` if the client left first."""
        watch = asyncio.ensure_future(self._watch())
        try:
            await self._done
        finally:
            watch.cancel()

    async def _watch(self) -> None:
        await self._protocol.client_disconnect()
        if not self._is_over:
            self.record.end("abandoned")
            self._is_over = True
            if isinstance(self._transport, ResettableBody):
                self._transport.close()
            self._transport = None
            if self.on_gone is not None:
                self.on_gone()
        else:
            self.record.drained()
        self._finish()

    def _finish(self) -> None:
        if self._closes_behind:
            # The head and the last frame are with the server's thread by now, not on the wire.
            client = self.scope.client
            asyncio.get_running_loop().call_later(DRAIN_S, close_connection, client)
            self._closes_behind = False
        if not self._done.done():
            self._done.set_result(None)
