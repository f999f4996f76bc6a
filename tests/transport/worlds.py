"""One engine in front of one scripted provider, in words that fit all of them.

A `World` turns a neutral `Play` into a script of its own kind of server and tells in neutral
words what the provider saw, so that one suite holds every engine to the same promises.
"""

from __future__ import annotations

import asyncio
import math
import ssl
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Literal

from relay.errors import StreamRefused, StreamReset
from relay.transport import TransportSettings, make_transport
from relay.transport.base import Headers, Origin, Transport, UpstreamRequest, UpstreamStream
from relay.transport.engine import EngineName
from tests.fakes import h1_server, h2_server
from tests.fakes.memory_transport import FakeEndpoint, MemoryTransport

SSE: Headers = [("content-type", "text/event-stream")]

PRIVATE = "sk-do-not-show"
"""In every path and header that the suite sends; in no message that comes back."""


@dataclass(frozen=True, kw_only=True)
class Play:
    """What the provider does with a request."""

    status: int = 200
    headers: Headers = field(default_factory=lambda: list(SSE))
    chunks: Sequence[bytes] = ()
    gate: asyncio.Event | None = None
    """Waited for before the second chunk."""
    headers_after_s: float = 0.0
    hang: Literal["headers", "body"] | None = None
    """Say nothing instead of the head, or after the chunks."""
    fault: Literal["reset", "cut", "refuse", "short"] | None = None
    at: Literal["headers", "body"] = "headers"
    """Where the fault is: instead of the head, or after the chunks."""
    content_length: int | None = None


@dataclass(frozen=True)
class WorldKind:
    """A row of the suite's parameters."""

    engine: EngineName | Literal["memory"]
    wire: Literal["h2", "h1", "memory"]
    tls: bool

    def __str__(self) -> str:
        return f"{self.engine}-{self.wire}{'-tls' if self.tls else ''}"


KINDS = [
    WorldKind("wreq", "h2", tls=True),
    WorldKind("wreq", "h2", tls=False),
    WorldKind("wreq", "h1", tls=True),
    WorldKind("wreq", "h1", tls=False),
    WorldKind("pyqwest", "h2", tls=True),
    WorldKind("pyqwest", "h2", tls=False),
    WorldKind("pyqwest", "h1", tls=False),
    WorldKind("httpx", "h1", tls=True),
    WorldKind("httpx", "h1", tls=False),
    WorldKind("memory", "memory", tls=False),
]
SOCKET_KINDS = [kind for kind in KINDS if kind.wire != "memory"]
H2_KINDS = [kind for kind in KINDS if kind.wire == "h2"]
H1_KINDS = [kind for kind in KINDS if kind.wire == "h1"]


class World(ABC):
    """A transport and its provider. Leaving it checks that no slot is held."""

    def __init__(self, kind: WorldKind, transport: Transport, origin: Origin) -> None:
        self.kind = kind
        self.transport = transport
        self.origin = origin
        self._paths = 0

    def new_path(self) -> str:
        self._paths += 1
        return f"/play/{self._paths}"

    async def open(
        self, path: str, *, body: bytes = b"{}", connect_timeout_s: float = 2.0
    ) -> UpstreamStream:
        """One POST with something private in path and header."""
        return await self.transport.open(
            self.origin,
            UpstreamRequest(
                "POST", f"{path}?key={PRIVATE}", [("authorization", f"Bearer {PRIVATE}")], body
            ),
            connect_timeout_s=connect_timeout_s,
        )

    def start(self, path: str, **options: float) -> asyncio.Task[UpstreamStream]:
        """`open` as a task."""
        return asyncio.ensure_future(self.open(path, **options))  # type: ignore[arg-type]

    @property
    def open_streams(self) -> int:
        """Slots held, by `describe`."""
        return sum(row.open_streams for row in self.transport.describe())

    @abstractmethod
    def play(self, play: Play) -> str:
        """Script it; the path to ask for."""

    @abstractmethod
    async def arrived(self, path: str, index: int = 0) -> None:
        """Wait until the provider has the (index+1)-th request of this path."""

    @abstractmethod
    async def left(self, path: str, index: int = 0) -> None:
        """Wait until the provider has seen that we left that request early."""

    @abstractmethod
    def was_left(self, path: str, index: int = 0) -> bool:
        """Whether the provider has seen that by now."""


class H2World(World):
    """A real engine in front of the HTTP/2 server."""

    def __init__(
        self, kind: WorldKind, transport: Transport, origin: Origin, server: h2_server.H2Server
    ) -> None:
        super().__init__(kind, transport, origin)
        self.server = server

    def play(self, play: Play) -> str:
        path = self.new_path()
        self.server.routes[path] = _h2_script(play)
        return path

    async def arrived(self, path: str, index: int = 0) -> None:
        await self.server.request(path, index)

    async def left(self, path: str, index: int = 0) -> None:
        stream = await self.server.request(path, index)
        await self.server.until(lambda: stream.reset_code is not None)
        assert stream.reset_code == h2_server.CANCEL

    def was_left(self, path: str, index: int = 0) -> bool:
        return self.server.requests(path)[index].reset_code is not None


class H1World(World):
    """A real engine in front of the HTTP/1.1 server."""

    def __init__(
        self, kind: WorldKind, transport: Transport, origin: Origin, server: h1_server.H1Server
    ) -> None:
        super().__init__(kind, transport, origin)
        self.server = server

    def play(self, play: Play) -> str:
        path = self.new_path()
        self.server.routes[path] = _h1_script(play)
        return path

    async def arrived(self, path: str, index: int = 0) -> None:
        await self.server.request(path, index)

    async def left(self, path: str, index: int = 0) -> None:
        exchange = await self.server.request(path, index)
        await self.server.until(lambda: exchange.connection.closed)

    def was_left(self, path: str, index: int = 0) -> bool:
        return self.server.requests(path)[index].connection.closed


class MemoryWorld(World):
    """The in-memory twin; the path only tells requests apart."""

    transport: MemoryTransport

    def play(self, play: Play) -> str:
        gap_s = math.inf if play.gate is not None else 0.0
        chunks = [(0.0 if index != 1 else gap_s, chunk) for index, chunk in enumerate(play.chunks)]
        if play.hang == "body":
            chunks.append((math.inf, b""))
        fault = {
            None: None,
            "reset": StreamReset("reset", headers_received=play.at == "body"),
            "cut": StreamReset("cut", headers_received=play.at == "body"),
            "short": StreamReset("short", headers_received=True),
            "refuse": StreamRefused("refused"),
        }[play.fault]
        self.transport.set(
            self.origin.host,
            FakeEndpoint(
                headers_s=math.inf if play.hang == "headers" else play.headers_after_s,
                status=play.status,
                headers=play.headers,
                chunks=chunks,
                fault=fault,
                fault_at=play.at,
            ),
        )
        return self.new_path()

    def _attempts(self, path: str) -> list[int]:
        return [
            index
            for index, attempt in enumerate(self.transport.attempts)
            if attempt.request.path.partition("?")[0] == path
        ]

    async def arrived(self, path: str, index: int = 0) -> None:
        while len(self._attempts(path)) <= index:
            await asyncio.sleep(0)

    async def left(self, path: str, index: int = 0) -> None:
        await asyncio.sleep(0)
        assert self.was_left(path, index)

    def was_left(self, path: str, index: int = 0) -> bool:
        attempt = self.transport.attempts[self._attempts(path)[index]]
        return attempt.aborted_s is not None


@asynccontextmanager
async def world(
    kind: WorldKind,
    settings: TransportSettings,
    *,
    tls: ssl.SSLContext | None,
    ca_file: str | None,
    h2_settings: dict[h2_server.SettingCodes, int] | None = None,
) -> AsyncIterator[World]:
    """Start provider and transport; on leaving, check that no slot is held, and close both."""
    here: World
    if kind.engine == "memory":
        twin = MemoryTransport({"memory.test": FakeEndpoint()})
        here = MemoryWorld(kind, twin, Origin("https", "memory.test", 443))
        yield here
        _check_slots(twin)
        assert not twin.unfinished
        await twin.aclose()
        return
    server: h2_server.H2Server | h1_server.H1Server
    if kind.wire == "h2":
        server = h2_server.H2Server(tls=tls, settings=h2_settings)
    else:
        server = h1_server.H1Server(tls=tls)
    async with server:
        origin = Origin(
            "https" if kind.tls else "http",
            "127.0.0.1",
            server.port,
            # Over TLS the wire is found by ALPN.
            http="auto" if kind.tls else kind.wire if kind.wire != "memory" else "auto",
            ca_file=ca_file if kind.tls else None,
        )
        transport = make_transport(kind.engine, settings)
        try:
            if isinstance(server, h2_server.H2Server):
                here = H2World(kind, transport, origin, server)
            else:
                here = H1World(kind, transport, origin, server)
            yield here
            _check_slots(transport)
        finally:
            await transport.aclose()


def _check_slots(transport: Transport) -> None:
    for row in transport.describe():
        assert row.open_streams == 0, row
        assert row.waiting == 0, row


def _h2_script(play: Play) -> h2_server.Script:
    async def script(stream: h2_server.ServerStream) -> None:
        if play.headers_after_s:
            await asyncio.sleep(play.headers_after_s)
        if play.hang == "headers":
            await stream.hang()
        if play.at == "headers" and play.fault is not None:
            _h2_fault(stream, play)
            return
        headers = list(play.headers)
        if play.content_length is not None:
            headers.append(("content-length", str(play.content_length)))
        await stream.send_headers(play.status, headers)
        for index, chunk in enumerate(play.chunks):
            if index == 1 and play.gate is not None:
                await play.gate.wait()
            await stream.send(chunk)
        if play.hang == "body":
            await stream.hang()
        if play.fault in ("reset", "cut"):
            _h2_fault(stream, play)
            return
        await stream.end()

    return script


def _h2_fault(stream: h2_server.ServerStream, play: Play) -> None:
    if play.fault == "cut":
        stream.connection.close()
    else:
        refused = play.fault == "refuse"
        stream.reset(h2_server.REFUSED_STREAM if refused else h2_server.INTERNAL_ERROR)


def _h1_script(play: Play) -> h1_server.Script:
    async def script(exchange: h1_server.Exchange) -> None:
        if play.headers_after_s:
            await asyncio.sleep(play.headers_after_s)
        if play.hang == "headers":
            await exchange.hang()
        if play.at == "headers" and play.fault is not None:
            exchange.connection.abort() if play.fault == "reset" else exchange.connection.close()
            return
        if play.content_length is not None:
            await exchange.head(
                play.status, *play.headers, ("content-length", str(play.content_length))
            )
            for chunk in play.chunks:
                await exchange.write(chunk)
            if play.fault is not None:
                exchange.connection.close()
            return
        await exchange.head(play.status, *play.headers, ("transfer-encoding", "chunked"))
        for index, chunk in enumerate(play.chunks):
            if index == 1 and play.gate is not None:
                await play.gate.wait()
            await exchange.chunk(chunk)
        if play.hang == "body":
            await exchange.hang()
        if play.fault is not None:
            await exchange.write(b"ff\r\nhalf a chunk")
            exchange.connection.close()
            return
        await exchange.write(b"0\r\n\r\n")

    return script
