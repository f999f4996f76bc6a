"""A TCP proxy to a loopback port that holds answers back for as long as it is told to.

async with SlowProxy(port) as proxy:
    connect to proxy.port; proxy.delay_s = 0.5
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self


class SlowProxy:
    """What the server says comes `delay_s` later, in order; what it is told comes at once."""

    def __init__(self, port: int) -> None:
        self._to_port = port
        self.delay_s = 0.0
        self.port = 0
        self._server: asyncio.Server | None = None
        self._running: set[asyncio.Task[None]] = set()

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
        far, server = await asyncio.open_connection("127.0.0.1", self._to_port)
        loop = asyncio.get_running_loop()
        tasks = [
            loop.create_task(self._pass(near, server, is_slow=False)),
            loop.create_task(self._pass(far, client, is_slow=True)),
        ]
        self._running.update(tasks)
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        self._running.difference_update(tasks)
        for writer in (client, server):
            writer.close()

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_slow: bool
    ) -> None:
        try:
            while data := await reader.read(65_536):
                if is_slow and self.delay_s:
                    await asyncio.sleep(self.delay_s)
                writer.write(data)
                await writer.drain()
        except OSError:
            pass  # one side is gone
