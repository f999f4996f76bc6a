"""A provider that speaks WebSocket, scripted by each test, over real sockets."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from tests.fakes.relay_under_test import eventually

Script = Callable[[ServerConnection], Awaitable[None]]
Refusal = Callable[[ServerConnection, Request], Awaitable[Response | None]]


async def echo(connection: ServerConnection) -> None:
    """Every message back, until the other side ends it."""
    async for message in connection:
        await connection.send(message)


class WebSocketProvider:
    """Listens from `async with` on; leaving it closes whatever is open."""

    def __init__(self, *, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self._server: Server
        self.script: Script = echo
        self.refuse: Refusal | None = None
        """Says what is answered instead of a handshake."""
        self.connections: list[ServerConnection] = []
        """Each that was opened, in order."""
        self.requests: list[Request] = []
        """Each handshake that came."""

    async def __aenter__(self) -> Self:
        self._server = await serve(
            self._serve,
            "127.0.0.1",
            0,
            ssl=self._tls,
            process_request=self._request,
            subprotocols=[Subprotocol("realtime")],
            select_subprotocol=_realtime,
            compression=None,
            max_size=None,
            ping_interval=None,
            close_timeout=1,
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for connection in self.connections:
            connection.transport.abort()
        self._server.close()
        await self._server.wait_closed()

    @property
    def url(self) -> str:
        """As a row's `base_url` has it, without a path."""
        port = next(iter(self._server.sockets)).getsockname()[1]
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{port}"

    async def connection(self, index: int = 0) -> ServerConnection:
        """Wait for the connection of that number."""
        await eventually(lambda: len(self.connections) > index)
        return self.connections[index]

    async def _request(self, connection: ServerConnection, request: Request) -> Response | None:
        self.requests.append(request)
        return await self.refuse(connection, request) if self.refuse is not None else None

    async def _serve(self, connection: ServerConnection) -> None:
        self.connections.append(connection)
        try:
            await self.script(connection)
        except ConnectionClosed:
            pass  # how it ended is what tests look at


def _realtime(connection: object, offered: object) -> Subprotocol | None:
    assert isinstance(offered, list | tuple)
    return Subprotocol("realtime") if "realtime" in offered else None


async def until_ended(connection: ServerConnection) -> int | None:
    """Wait for the end of a connection; the close code that was said, 1006 for none."""
    await asyncio.wait_for(connection.wait_closed(), 5)
    return connection.close_code
