"""A scripted HTTP/2 server that misbehaves on request and remembers every frame it saw.

Strategy: `h2` holds the protocol, one asyncio protocol object a connection feeds it, and one
task a stream runs the test's script. Over TLS it speaks h2 by ALPN, over plain text it expects
prior knowledge. TCP_NODELAY is set: with delayed ACKs the last frame of an answer would come
40 ms late.

    async with H2Server(tls=authority.server_context(alpn=("h2",))) as server:
        server.routes["/v1/chat"] = stream_chunks([b"a", b"b"], gap_s=0.01)
        ... a client talks to server.url ...
        stream = await server.request("/v1/chat")          # first stream with this path
        await server.until(lambda: stream.reset_code == CANCEL)

A script is `async def script(stream: ServerStream) -> None`. It starts when the request is
complete, is cancelled when the client resets the stream or the connection goes, and when it
returns without having ended the stream the stream is left open (that is how `hang` works).
Streams whose path has no script get `server.default` (204). Nothing here sleeps unless a
script was told to, and `until` is woken by frames, not by a clock.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import cast

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h2.settings
from h2.settings import SettingCodes as SettingCodes  # for those who script settings

from tests.fakes.scripted import ScriptedServer

NO_ERROR = 0x0
PROTOCOL_ERROR = 0x1
INTERNAL_ERROR = 0x2
REFUSED_STREAM = 0x7
CANCEL = 0x8
ENHANCE_YOUR_CALM = 0xB

Script = Callable[["ServerStream"], Awaitable[None]]


@dataclass(frozen=True)
class Seen:
    """One thing that happened on a connection, in order of arrival."""

    at_s: float
    """`time.monotonic()` of the moment."""
    kind: str
    """opened, request, request_end, reset, window_update, ping, settings, goaway, closed."""
    connection: int
    """Index of the connection, in order of being opened."""
    stream_id: int = 0
    """0 for the connection itself."""
    value: int = 0
    """RST_STREAM or GOAWAY code, window increment in bytes; else 0."""


@dataclass
class ServerStream:
    """One request, as its script and the test see it."""

    connection: ServerConnection
    stream_id: int
    method: str
    path: str
    headers: list[tuple[str, str]]
    authority: str = ""
    body: bytearray = field(default_factory=bytearray)
    sent_bytes: int = 0
    """Body bytes handed to the connection so far (flow control obeyed)."""
    reset_code: int | None = None
    """The client's RST_STREAM code; None while there is none."""
    reset_at_s: float | None = None
    ended: bool = False
    """We have sent END_STREAM or RST_STREAM."""

    @property
    def is_open(self) -> bool:
        """Neither side has ended it and the connection is there."""
        return self.reset_code is None and not self.ended and not self.connection.closed

    def header(self, name: str) -> str | None:
        """First request header of this name."""
        return next((value for key, value in self.headers if key == name), None)

    async def send_headers(
        self,
        status: int = 200,
        headers: Iterable[tuple[str, str]] = (("content-type", "text/event-stream"),),
        *,
        end: bool = False,
    ) -> None:
        """Send the response head, and END_STREAM with it if `end`."""
        await self.connection.window_open.wait()
        self.connection.send_headers(self, status, headers, end=end)

    async def send(self, data: bytes, *, end: bool = False) -> None:
        """Send body bytes as DATA frames, waiting for window; one frame if it fits one."""
        while True:
            size = min(len(data), self.connection.sendable_bytes(self.stream_id))
            rest = data[size:]
            if size or not data:
                self.connection.send_data(self, data[:size], end=end and not rest)
                self.sent_bytes += size
            if not rest:
                return
            data = rest
            if not size:
                await self.connection.wait_window()

    async def end(self, trailers: Sequence[tuple[str, str]] | None = None) -> None:
        """End the response, with trailers if given."""
        self.connection.end_stream(self, trailers)

    def reset(self, code: int) -> None:
        """Send RST_STREAM."""
        self.connection.reset_stream(self, code)

    async def hang(self) -> None:
        """Say nothing more; ends only by being cancelled."""
        await asyncio.Event().wait()


class ServerConnection(asyncio.Protocol):
    """One accepted connection. Tests read its fields and call `goaway` and `close`."""

    def __init__(self, server: H2Server) -> None:
        self.index = -1
        self.streams: dict[int, ServerStream] = {}
        self.closed = False
        self.window_open = asyncio.Event()
        """Always set; clear it to hold every answer of this connection back."""
        self.window_open.set()
        self._server = server
        self._h2 = h2.connection.H2Connection(
            config=h2.config.H2Configuration(client_side=False, header_encoding="utf-8")
        )
        self._transport: asyncio.Transport | None = None
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._window_waiters: list[asyncio.Future[None]] = []

    # --- what tests use ---------------------------------------------------------------------

    @property
    def open_streams(self) -> list[ServerStream]:
        """Streams neither side has ended."""
        return [stream for stream in self.streams.values() if stream.is_open]

    @property
    def requests(self) -> list[ServerStream]:
        """Every stream this connection carried, oldest first."""
        return list(self.streams.values())

    def goaway(self, *, last_stream_id: int | None = None, code: int = NO_ERROR) -> None:
        """Send GOAWAY and keep the connection open.

        Streams above `last_stream_id` (default: the highest seen) are told to be unprocessed;
        the others go on. After it the library takes no new frames to send, so scripts that are
        running write their frames by hand through the same methods.
        """
        # h2 closes its own state on close_connection, which would stop running streams, so the
        # frame is written by hand.
        last = max(self.streams, default=0) if last_stream_id is None else last_stream_id
        frame = b"\x00\x00\x08\x07\x00\x00\x00\x00\x00" + last.to_bytes(4) + code.to_bytes(4)
        self._flush()
        self._write(frame)

    def update_settings(self, settings: dict[SettingCodes | int, int]) -> None:
        """Send a SETTINGS frame with these values."""
        self._h2.update_settings(settings)
        self._flush()

    def close(self) -> None:
        """Close the socket after what was written (FIN, without GOAWAY)."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Break the connection at once (RST over plain text)."""
        if self._transport is None:
            return
        sock = self._transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        self._transport.abort()

    # --- what streams use -------------------------------------------------------------------

    def send_headers(
        self, stream: ServerStream, status: int, headers: Iterable[tuple[str, str]], *, end: bool
    ) -> None:
        if not stream.is_open:
            return
        block = [(":status", str(status)), *headers]
        self._h2.send_headers(stream.stream_id, block, end_stream=end)
        stream.ended = end
        self._flush()

    def sendable_bytes(self, stream_id: int) -> int:
        window = self._h2.local_flow_control_window(stream_id)
        return max(0, min(window, self._h2.max_outbound_frame_size))

    def send_data(self, stream: ServerStream, data: bytes, *, end: bool) -> None:
        if not stream.is_open:
            return
        self._h2.send_data(stream.stream_id, data, end_stream=end)
        stream.ended = end
        self._flush()

    def end_stream(self, stream: ServerStream, trailers: Sequence[tuple[str, str]] | None) -> None:
        if not stream.is_open:
            return
        if trailers:
            self._h2.send_headers(stream.stream_id, list(trailers), end_stream=True)
        else:
            self._h2.end_stream(stream.stream_id)
        stream.ended = True
        self._flush()
        self._server.wake()

    def reset_stream(self, stream: ServerStream, code: int) -> None:
        if not stream.is_open:
            return
        self._h2.reset_stream(stream.stream_id, code)
        stream.ended = True
        self._flush()
        self._server.wake()

    async def wait_window(self) -> None:
        """Wait for the next WINDOW_UPDATE (or settings) of the client."""
        waiter = asyncio.get_running_loop().create_future()
        self._window_waiters.append(waiter)
        await waiter

    # --- asyncio.Protocol -------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        # Counted here and not when accepted: a failed TLS handshake is not a connection.
        self.index = len(self._server.connections)
        self._server.connections.append(self)
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._h2.local_settings = h2.settings.Settings(
            client=False, initial_values=self._server.settings
        )
        self._server.record("opened", self.index)
        self._h2.initiate_connection()
        # Requests are small; what comes in is never the matter of a test.
        self._h2.increment_flow_control_window(1 << 24)
        self._flush()

    def data_received(self, data: bytes) -> None:
        try:
            events = self._h2.receive_data(data)
        except h2.exceptions.ProtocolError:
            self._server.record("protocol_error", self.index)
            self._flush()
            self.close()
            return
        for event in events:
            self._handle(event)
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        for task in self._tasks.values():
            task.cancel()
        self._server.record("closed", self.index)

    def _handle(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.RequestReceived(stream_id=stream_id, headers=headers) if headers:
                pairs = [(str(name), str(value)) for name, value in headers]
                pseudo = dict(pair for pair in pairs if pair[0].startswith(":"))
                stream = ServerStream(
                    self,
                    stream_id or 0,
                    pseudo[":method"],
                    pseudo[":path"],
                    [pair for pair in pairs if not pair[0].startswith(":")],
                    pseudo.get(":authority", ""),
                )
                self.streams[stream.stream_id] = stream
                self._server.streams.append(stream)
                self._server.record("request", self.index, stream.stream_id)
            case h2.events.DataReceived(stream_id=stream_id, data=data):
                stream = self.streams[stream_id or 0]
                stream.body += data or b""
                self._h2.acknowledge_received_data(
                    event.flow_controlled_length or 0, stream.stream_id
                )
            case h2.events.StreamEnded(stream_id=stream_id):
                stream = self.streams[stream_id or 0]
                self._server.record("request_end", self.index, stream.stream_id)
                self._tasks[stream.stream_id] = self._server.run_script(stream)
            case h2.events.StreamReset(stream_id=stream_id, error_code=code, remote_reset=True):
                stream = self.streams[stream_id or 0]
                stream.reset_code = int(code or 0)
                stream.reset_at_s = time.monotonic()
                if (task := self._tasks.get(stream.stream_id)) is not None:
                    task.cancel()
                self._server.record("reset", self.index, stream.stream_id, stream.reset_code)
            case h2.events.WindowUpdated(stream_id=stream_id, delta=delta):
                self._server.record("window_update", self.index, stream_id or 0, delta or 0)
                self._wake_window_waiters()
            case h2.events.RemoteSettingsChanged():
                self._server.record("settings", self.index)
                self._wake_window_waiters()
            case h2.events.PingReceived():
                self._server.record("ping", self.index)
            case h2.events.ConnectionTerminated(error_code=code):
                self._server.record("goaway", self.index, 0, int(code or 0))
            case _:
                pass

    def _wake_window_waiters(self) -> None:
        waiters, self._window_waiters = self._window_waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def _flush(self) -> None:
        self._write(self._h2.data_to_send())

    def _write(self, data: bytes) -> None:
        if data and self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)


class H2Server(ScriptedServer):
    """The server: `async with H2Server(...) as server`.

    Args:
        tls: context to listen with (give it ALPN `h2`); None for plain text, prior knowledge.
        settings: SETTINGS values sent at the start (`MAX_CONCURRENT_STREAMS`, windows).
    """

    MAX_CONCURRENT_STREAMS = SettingCodes.MAX_CONCURRENT_STREAMS
    INITIAL_WINDOW_SIZE = SettingCodes.INITIAL_WINDOW_SIZE

    def __init__(
        self,
        *,
        tls: ssl.SSLContext | None = None,
        settings: dict[SettingCodes, int] | None = None,
    ) -> None:
        super().__init__(tls)
        self.settings: dict[SettingCodes, int] = {
            self.MAX_CONCURRENT_STREAMS: 100,
            **(settings or {}),
        }
        self.routes: dict[str, Script] = {}
        """Script by path (without query)."""
        self.default: Script = answer(204)
        self.connections: list[ServerConnection] = []
        self.streams: list[ServerStream] = []
        """Every stream of every connection, oldest first (probes of the client included)."""
        self.log: list[Seen] = []

    @property
    def open_connections(self) -> list[ServerConnection]:
        """Connections that are there now."""
        return [connection for connection in self.connections if not connection.closed]

    def requests(self, path: str) -> list[ServerStream]:
        """Streams with this path (without query), oldest first."""
        return [stream for stream in self.streams if stream.path.partition("?")[0] == path]

    def seen(self, kind: str) -> list[Seen]:
        """What was recorded of one kind, oldest first."""
        return [entry for entry in self.log if entry.kind == kind]

    async def request(self, path: str, index: int = 0, *, timeout_s: float = 5.0) -> ServerStream:
        """Wait for the (index+1)-th request with this path and return its stream."""
        await self.until(lambda: len(self.requests(path)) > index, timeout_s=timeout_s)
        return self.requests(path)[index]

    # --- used by connections ----------------------------------------------------------------

    def record(self, kind: str, connection: int, stream_id: int = 0, value: int = 0) -> None:
        """Remember what happened and ask the waiting conditions again."""
        self.log.append(Seen(time.monotonic(), kind, connection, stream_id, value))
        self.wake()

    def run_script(self, stream: ServerStream) -> asyncio.Task[None]:
        """Start the script of the stream's path."""
        return self.start(
            _run(self.routes.get(stream.path.partition("?")[0], self.default), stream)
        )

    def new_connection(self) -> asyncio.Protocol:
        return ServerConnection(self)

    def abort_all(self) -> None:
        for connection in self.open_connections:
            connection.abort()

    def all_gone(self) -> bool:
        return not self.open_connections

    def last_records(self) -> object:
        return self.log[-12:]


async def _run(script: Script, stream: ServerStream) -> None:
    # A script may find its stream gone between two of its steps; that is not its failure.
    with contextlib.suppress(h2.exceptions.StreamClosedError):
        await script(stream)


# --- ready-made scripts ----------------------------------------------------------------------


def answer(status: int = 200, body: bytes = b"", headers: Iterable[tuple[str, str]] = ()) -> Script:
    """Answer at once. The headers are those given and nothing else."""
    head = list(headers)

    async def script(stream: ServerStream) -> None:
        await stream.send_headers(status, head, end=not body)
        if body:
            await stream.send(body, end=True)

    return script


def stream_chunks(
    chunks: Iterable[bytes], *, gap_s: float = 0.0, status: int = 200, end: bool = True
) -> Script:
    """Send each chunk as one DATA frame, `gap_s` apart; with `end=False` stall after the last."""
    parts = list(chunks)

    async def script(stream: ServerStream) -> None:
        await stream.send_headers(status)
        for part in parts:
            if gap_s:
                await asyncio.sleep(gap_s)
            await stream.send(part)
        if end:
            await stream.end()

    return script


def stream_endlessly(chunk: bytes) -> Script:
    """Send `chunk` for ever, as fast as the client's windows allow."""

    async def script(stream: ServerStream) -> None:
        await stream.send_headers()
        while True:
            await stream.send(chunk)
            await asyncio.sleep(0)

    return script


def hang() -> Script:
    """Take the request and say nothing."""
    return ServerStream.hang


def headers_then_hang(status: int = 200) -> Script:
    """Answer with headers and never send a byte of body."""

    async def script(stream: ServerStream) -> None:
        await stream.send_headers(status)

    return script


def reset(code: int, *, after: Sequence[bytes] | None = None) -> Script:
    """RST_STREAM with `code`: before the headers, or after headers and the chunks `after`."""

    async def script(stream: ServerStream) -> None:
        if after is not None:
            await stream.send_headers()
            for part in after:
                await stream.send(part)
        stream.reset(code)

    return script


def cut(*, after: Sequence[bytes] | None = None, abort: bool = False) -> Script:
    """Close the socket: before the headers, or after headers and the chunks `after`."""

    async def script(stream: ServerStream) -> None:
        if after is not None:
            await stream.send_headers()
            for part in after:
                await stream.send(part)
        if abort:
            stream.connection.abort()
        else:
            stream.connection.close()

    return script


def short_body(body: bytes, *, content_length: int) -> Script:
    """Promise `content_length` bytes, send `body`, and end the stream as if that were all."""

    async def script(stream: ServerStream) -> None:
        await stream.send_headers(200, [("content-length", str(content_length))])
        await stream.send(body, end=True)

    return script


def goaway(
    *, processed: bool, code: int = NO_ERROR, then: Script | None = None, close: bool = False
) -> Script:
    """Send GOAWAY when the request is in.

    Args:
        processed: whether this stream is at or below `last_stream_id` (it may go on), or above
            it (the server says that it did nothing).
        then: what to do with the stream afterwards; nothing if None.
        close: close the socket after `then`.
    """

    async def script(stream: ServerStream) -> None:
        last = stream.stream_id if processed else max(0, stream.stream_id - 2)
        stream.connection.goaway(last_stream_id=last, code=code)
        if then is not None:
            await then(stream)
        if close:
            stream.connection.close()

    return script


def in_turn(*scripts: Script) -> Script:
    """The n-th request gets the n-th script; the last one serves all that follow."""
    remaining = list(scripts)

    async def script(stream: ServerStream) -> None:
        chosen = remaining.pop(0) if len(remaining) > 1 else remaining[0]
        await chosen(stream)

    return script
