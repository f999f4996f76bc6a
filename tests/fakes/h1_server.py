"""A scripted raw HTTP/1.1 server: every byte of an answer is the script's own.

Nothing between script and socket corrects anything, so a chunk can be cut in the middle, a
length can lie, and a kept-alive connection can be closed just as it is used again.

    async with H1Server() as server:
        server.routes["/v1/chat"] = chunked([b"a", b"b"], cut=True)
        ... a client talks to server.url ...
        exchange = await server.request("/v1/chat")          # first request with this path
        await server.until(lambda: exchange.connection.closed)

A script is `async def script(exchange: Exchange) -> None`. It starts when the request is
complete and is cancelled when the client goes; when it returns, the connection takes the next
request unless the script closed it. Paths without a script get `server.default` (204).
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import cast

from tests.fakes.scripted import ScriptedServer

Script = Callable[["Exchange"], Awaitable[None]]


@dataclass(eq=False)
class Exchange:
    """One request, and the means to answer it."""

    connection: H1Connection
    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes
    sent_bytes: int = 0

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]

    def header(self, name: str) -> str | None:
        """First request header of this name (lower case)."""
        return next((value for key, value in self.headers if key == name), None)

    async def write(self, data: bytes) -> None:
        """Send bytes as they are; waits while the client does not read."""
        await self.connection.writable.wait()
        self.connection.write(data)
        self.sent_bytes += len(data)

    async def head(self, status: int = 200, *headers: tuple[str, str]) -> None:
        """Send a response head."""
        lines = [f"HTTP/1.1 {status} X", *(f"{name}: {value}" for name, value in headers)]
        await self.write(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))

    async def chunk(self, data: bytes) -> None:
        """Send one chunk of a chunked body."""
        await self.write(b"%x\r\n%s\r\n" % (len(data), data))

    async def hang(self) -> None:
        """Say nothing more; ends only by being cancelled."""
        await asyncio.Event().wait()


class H1Connection(asyncio.Protocol):
    """One accepted connection."""

    def __init__(self, server: H1Server) -> None:
        self.index = -1
        self.exchanges: list[Exchange] = []
        self.closed = False
        """It is gone, by whichever side."""
        self.closed_at_s: float | None = None
        """`time.monotonic()` of that."""
        self.writable = asyncio.Event()
        self.writable.set()
        self._server = server
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._running: asyncio.Task[None] | None = None

    def write(self, data: bytes) -> None:
        """Send bytes as they are."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def close(self) -> None:
        """Close after what was written."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Break it with a TCP reset."""
        if self._transport is not None:
            sock = self._transport.get_extra_info("socket")
            if sock is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
            self._transport.abort()

    # --- asyncio.Protocol -------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self.index = len(self._server.connections)
        self._server.connections.append(self)
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._server.wake()

    def data_received(self, data: bytes) -> None:
        self._received += data
        if self._running is None:
            self._next_request()

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self.closed_at_s = time.monotonic()
        if self._running is not None:
            self._running.cancel()
        self._server.wake()

    def pause_writing(self) -> None:
        self.writable.clear()
        self._server.wake()

    def resume_writing(self) -> None:
        self.writable.set()

    def _next_request(self) -> None:
        head, separator, rest = bytes(self._received).partition(b"\r\n\r\n")
        if not separator:
            return
        first, *lines = head.decode("latin-1").split("\r\n")
        method, target, _ = first.split(" ")
        pairs = [line.partition(":") for line in lines]
        headers = [(name.strip().lower(), value.strip()) for name, _, value in pairs]
        length = int(dict(headers).get("content-length", "0"))
        if len(rest) < length:
            return
        self._received = bytearray(rest[length:])
        exchange = Exchange(self, method, target, headers, rest[:length])
        self.exchanges.append(exchange)
        self._server.exchanges.append(exchange)
        self._running = self._server.start(self._serve(exchange))
        self._server.wake()

    async def _serve(self, exchange: Exchange) -> None:
        await self._server.routes.get(exchange.path, self._server.default)(exchange)
        self._running = None
        self._next_request()


class H1Server(ScriptedServer):
    """The server: `async with H1Server(...) as server`.

    Args:
        tls: context to listen with; None for plain text.
    """

    def __init__(self, *, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(tls)
        self.routes: dict[str, Script] = {}
        """Script by path (without query)."""
        self.default: Script = answer(204)
        self.connections: list[H1Connection] = []
        self.exchanges: list[Exchange] = []

    @property
    def open_connections(self) -> list[H1Connection]:
        """Connections that are there now."""
        return [connection for connection in self.connections if not connection.closed]

    def requests(self, path: str) -> list[Exchange]:
        """Exchanges with this path, oldest first."""
        return [exchange for exchange in self.exchanges if exchange.path == path]

    async def request(self, path: str, index: int = 0, *, timeout_s: float = 5.0) -> Exchange:
        """Wait for the (index+1)-th request with this path."""
        await self.until(lambda: len(self.requests(path)) > index, timeout_s=timeout_s)
        return self.requests(path)[index]

    def new_connection(self) -> asyncio.Protocol:
        return H1Connection(self)

    def abort_all(self) -> None:
        for connection in self.open_connections:
            connection.abort()

    def all_gone(self) -> bool:
        return not self.open_connections

    def last_records(self) -> object:
        return [(e.connection.index, e.method, e.target) for e in self.exchanges[-12:]]


# --- ready-made scripts ----------------------------------------------------------------------


def answer(status: int = 200, body: bytes = b"", headers: Iterable[tuple[str, str]] = ()) -> Script:
    """Answer at once, with the content-length that is due."""
    head = list(headers)

    async def script(exchange: Exchange) -> None:
        length = [] if status in (204, 304) else [("content-length", str(len(body)))]
        await exchange.head(status, *head, *length)
        if body and exchange.method != "HEAD":
            await exchange.write(body)

    return script


def chunked(
    chunks: Iterable[bytes], *, gap_s: float = 0.0, status: int = 200, cut: bool = False
) -> Script:
    """Send each chunk by itself, `gap_s` apart.

    With `cut` the connection is closed where the last chunk has promised more than it brought.
    """
    parts = list(chunks)

    async def script(exchange: Exchange) -> None:
        await exchange.head(
            status, ("content-type", "text/event-stream"), ("transfer-encoding", "chunked")
        )
        for part in parts:
            if gap_s:
                await asyncio.sleep(gap_s)
            await exchange.chunk(part)
        if cut:
            await exchange.write(b"ff\r\ncut")
            exchange.connection.close()
        else:
            await exchange.write(b"0\r\n\r\n")

    return script


def chunked_then_hang(chunks: Iterable[bytes]) -> Script:
    """Send the head and each chunk, then say nothing more."""
    parts = list(chunks)

    async def script(exchange: Exchange) -> None:
        await exchange.head(200, ("transfer-encoding", "chunked"))
        for part in parts:
            await exchange.chunk(part)
        await exchange.hang()

    return script


def endless() -> Script:
    """Send chunks for ever, as fast as the client takes them."""

    async def script(exchange: Exchange) -> None:
        await exchange.head(200, ("transfer-encoding", "chunked"))
        while True:
            await exchange.chunk(b"x" * 8192)
            await asyncio.sleep(0)

    return script


def short_body(body: bytes, *, content_length: int) -> Script:
    """Promise `content_length` bytes, send `body`, close."""

    async def script(exchange: Exchange) -> None:
        await exchange.head(200, ("content-length", str(content_length)))
        await exchange.write(body)
        exchange.connection.close()

    return script


def hang() -> Script:
    """Take the request and say nothing."""
    return Exchange.hang


def close(*, abort: bool = False) -> Script:
    """Close the connection instead of answering."""

    async def script(exchange: Exchange) -> None:
        if abort:
            exchange.connection.abort()
        else:
            exchange.connection.close()

    return script


def raw(data: bytes, *, then_close: bool = True) -> Script:
    """Answer with these very bytes."""

    async def script(exchange: Exchange) -> None:
        await exchange.write(data)
        if then_close:
            exchange.connection.close()

    return script
