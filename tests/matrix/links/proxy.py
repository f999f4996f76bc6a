"""A TCP proxy on loopback that breaks what it carries.

async with Proxy(lambda: lab.port) as proxy:
    connect to proxy.port; proxy.freeze()
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from types import TracebackType
from typing import Self

RESET = b"\x01\0\0\0\0\0\0\0"
"""SO_LINGER that makes a close an RST."""


class Wire:
    """One connection through the proxy."""

    def __init__(self, cut_after_bytes: int | None) -> None:
        self.cut_after_bytes = cut_after_bytes
        self.is_frozen = False
        """Bytes and ends go no further, in both directions: half-open, seen from both sides."""
        self.asked = bytearray()
        """What the client sent, its first kilobyte."""
        self.is_left = False
        """The client has ended it."""


class Proxy:
    """See the module.

    Args:
        port: that is connected to, asked for at each connection.
    """

    def __init__(self, port: Callable[[], int]) -> None:
        self._to_port = port
        self.port = 0
        self.wires: list[Wire] = []
        self.cut_after_bytes: int | None = None
        """Of what the server says on each new connection, after which it is cut; None: never."""
        self.resets = False
        """A cut is an RST, not a FIN."""
        self._server: asyncio.Server | None = None
        self._running: set[asyncio.Task[None]] = set()

    def freeze(self) -> list[Wire]:
        """All wires that are there now; later ones are sound."""
        there = [wire for wire in self.wires if not wire.is_left]
        for wire in there:
            wire.is_frozen = True
        return there

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._running:
            task.cancel()
        if self._running:
            await asyncio.wait(self._running)

    async def _connected(self, near: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        wire = Wire(self.cut_after_bytes)
        self.wires.append(wire)
        far, server = await asyncio.open_connection("127.0.0.1", self._to_port())
        loop = asyncio.get_running_loop()
        there = loop.create_task(self._ask(wire, near, server))
        back = loop.create_task(self._answer(wire, far, client))
        self._running.update((there, back))
        await asyncio.wait((there, back), return_when=asyncio.FIRST_COMPLETED)
        if wire.is_frozen:
            await asyncio.wait((there,))
        for task in (there, back):
            task.cancel()
        await asyncio.wait((there, back))
        self._running.difference_update((there, back))
        if self.resets:
            client.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            client.transport.abort()
        for writer in (client, server):
            writer.close()

    async def _ask(
        self, wire: Wire, near: asyncio.StreamReader, server: asyncio.StreamWriter
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await near.read(65_536):
                wire.asked += data[: 1024 - len(wire.asked)]
                if not wire.is_frozen:
                    server.write(data)
                    await server.drain()
        wire.is_left = True

    async def _answer(
        self, wire: Wire, far: asyncio.StreamReader, client: asyncio.StreamWriter
    ) -> None:
        left_bytes = wire.cut_after_bytes
        with contextlib.suppress(OSError):
            while data := await far.read(65_536):
                if wire.is_frozen:
                    continue
                if left_bytes is not None:
                    data = data[:left_bytes]
                    left_bytes -= len(data)
                client.write(data)
                await client.drain()
                if left_bytes == 0:
                    return
