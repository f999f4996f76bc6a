"""Clients that write bytes and frames by hand."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import unquote

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h2.settings
import orjson
from rtrelay.v1 import GenerateRequest

from tests.fakes.converse_client import GENERATE, start
from tests.fakes.relay_under_test import chat_body
from tests.matrix.world import CHAT, World

WAIT_S = 5.0
GET = b"GET /healthz HTTP/1.1\r\nhost: r\r\n\r\n"
HEALTHY = b'{"status":"ok"}'


class Bytes:
    """One connection, byte by byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def rest(self, timeout_s: float = WAIT_S) -> bytes:
        """All until the relay closes.

        Raises:
            TimeoutError: it does not.
        """
        found = b""
        async with asyncio.timeout(timeout_s):
            try:
                while data := await self.reader.read(65_536):
                    found += data
            except ConnectionError:
                pass
        return found

    async def answer(self) -> tuple[int, bytes]:
        """The next answer of a known length: status and body."""
        async with asyncio.timeout(WAIT_S):
            head = await self.reader.readuntil(b"\r\n\r\n")
            lines = head.lower().split(b"\r\n")
            length = next(int(one[15:]) for one in lines if one.startswith(b"content-length:"))
            return int(head.split()[1]), await self.reader.readexactly(length)


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[Bytes]:
    """A connection to this machine."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield Bytes(reader, writer)
    finally:
        writer.close()


def key_of(here: World) -> str:
    """The key of the world's client."""
    return str(here.relay.http.headers["authorization"]).removeprefix("Bearer ")


def post(here: World, body: bytes | None = None, *headers: str, path: str = CHAT) -> bytes:
    """A whole request with the key; by default a question to `alone`, not streamed."""
    data = orjson.dumps(chat_body("alone", stream=False)) if body is None else body
    lines = [
        f"POST {path} HTTP/1.1",
        "host: relay",
        f"authorization: Bearer {key_of(here)}",
        f"content-length: {len(data)}",
        *headers,
    ]
    return "\r\n".join([*lines, "", ""]).encode() + data


def framed(data: bytes, *, compressed: bool = False, length: int | None = None) -> bytes:
    """A message as gRPC frames it; its length may be a lie."""
    size = len(data) if length is None else length
    return bytes([compressed]) + size.to_bytes(4) + data


def request_bytes(model: str = "alone", text: str = "Hello") -> bytes:
    """A request of `Generate`."""
    return GenerateRequest(start=start("g1", model, text)).SerializeToString()


@dataclass
class Rpc:
    """How a call by hand ended."""

    headers: dict[str, str] = field(default_factory=dict)
    """Headers and trailers together."""
    data: bytes = b""
    reset_code: int | None = None
    goaway: int | None = None
    is_over: bool = False

    @property
    def code(self) -> int | None:
        """gRPC's; None where none came."""
        text = self.headers.get("grpc-status")
        return None if text is None else int(text)

    @property
    def text(self) -> str:
        return unquote(self.headers.get("grpc-message", ""))

    @property
    def verdict(self) -> tuple[str | None, int | None, int | None, int | None]:
        """HTTP status, gRPC code, reset, GOAWAY: what must be the same each time."""
        return self.headers.get(":status"), self.code, self.reset_code, self.goaway


class Frames:
    """One HTTP/2 connection that says what it likes, and takes no more than it is told to.

    Args:
        window_bytes: of each stream, for what comes.
    """

    def __init__(self, port: int, *, window_bytes: int = 65_535) -> None:
        self._port = port
        self._h2 = h2.connection.H2Connection(
            h2.config.H2Configuration(
                client_side=True,
                header_encoding="utf-8",
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
            )
        )
        self._window_bytes = window_bytes
        self.rpcs: dict[int, Rpc] = {}
        self._goaway: int | None = None
        self.is_closed = False
        self._reader: asyncio.Task[None] | None = None
        self._changed = asyncio.Condition()

    async def __aenter__(self) -> Frames:
        reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._h2.local_settings = h2.settings.Settings(
            client=True,
            initial_values={
                h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: self._window_bytes,
                h2.settings.SettingCodes.ENABLE_PUSH: 0,
            },
        )
        self._h2.initiate_connection()
        self.flush()
        self._reader = asyncio.create_task(self._read(reader))
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._reader is not None
        self._writer.close()
        self._reader.cancel()
        await asyncio.wait([self._reader])

    def write(self, data: bytes) -> None:
        """Bytes as they are."""
        self._writer.write(data)

    def flush(self) -> None:
        self._writer.write(self._h2.data_to_send())

    def call(
        self, headers: Sequence[tuple[str, str]], data: bytes | None = None, *, end: bool = True
    ) -> int:
        """Begin a call; its stream."""
        stream_id = self._h2.get_next_available_stream_id()
        self.rpcs[stream_id] = Rpc()
        self._h2.send_headers(stream_id, list(headers), end_stream=end and data is None)
        if data is not None:
            self._h2.send_data(stream_id, data, end_stream=end)
        self.flush()
        return stream_id

    def send(self, stream_id: int, data: bytes) -> None:
        self._h2.send_data(stream_id, data)
        self.flush()

    async def over(self, stream_id: int, timeout_s: float = WAIT_S) -> Rpc:
        """Wait for the end of a call, or of the connection.

        Raises:
            TimeoutError: neither ends.
        """
        rpc = self.rpcs[stream_id]
        async with asyncio.timeout(timeout_s), self._changed:
            await self._changed.wait_for(lambda: rpc.is_over or self.is_closed)
        rpc.goaway = self._goaway
        return rpc

    async def closed(self, timeout_s: float = WAIT_S) -> None:
        """
        Raises:
            TimeoutError: the relay does not close.
        """
        async with asyncio.timeout(timeout_s), self._changed:
            await self._changed.wait_for(lambda: self.is_closed)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        try:
            while data := await reader.read(65_536):
                for event in self._h2.receive_data(data):
                    self._take(event)
                self.flush()
                async with self._changed:
                    self._changed.notify_all()
        except (OSError, h2.exceptions.ProtocolError):
            pass
        finally:
            self.is_closed = True
            async with self._changed:
                self._changed.notify_all()

    def _take(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.ConnectionTerminated):
            self._goaway = int(event.error_code or 0)
        rpc = self.rpcs.get(getattr(event, "stream_id", 0) or 0)
        if rpc is None:
            return
        match event:
            case (
                h2.events.ResponseReceived(headers=found)
                | h2.events.TrailersReceived(headers=found)
            ):
                rpc.headers.update({str(name): str(value) for name, value in found or ()})
            case h2.events.DataReceived(data=data):
                rpc.data += data or b""
            case h2.events.StreamEnded():
                rpc.is_over = True
            case h2.events.StreamReset(error_code=code):
                rpc.reset_code, rpc.is_over = int(code or 0), True


def grpc_headers(
    here: World, *more: tuple[str, str], path: str = GENERATE
) -> list[tuple[str, str]]:
    """Of a call with the key."""
    return [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "relay"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        ("authorization", f"Bearer {key_of(here)}"),
        *more,
    ]


def small_window() -> socket.socket:
    """A bare socket that takes little and reads nothing; not connected yet."""
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    made.setblocking(False)
    return made
