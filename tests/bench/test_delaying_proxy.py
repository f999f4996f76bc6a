"""The proxy that stands in for distance: nothing is lost, and nothing comes too early."""

from __future__ import annotations

import asyncio
import time

import pytest

from bench.delaying_proxy import serve

pytestmark = pytest.mark.sockets

RTT_S = 0.03


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.write(b"the end")
    writer.close()


async def test_bytes_come_late_and_whole(capsys: pytest.CaptureFixture[str]) -> None:
    echoing = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with echoing:
        port = echoing.sockets[0].getsockname()[1]
        listening = asyncio.Event()
        proxy = asyncio.create_task(serve(port, RTT_S, on_listening=listening.set))
        await listening.wait()
        own_port = int(capsys.readouterr().out)
        try:
            began_s = time.monotonic()
            reader, writer = await asyncio.open_connection("127.0.0.1", own_port)
            writer.write(b"x")
            assert await reader.readexactly(1) == b"x"
            # One round trip that the handshake would have taken, and one of the byte.
            assert time.monotonic() - began_s >= 2 * RTT_S
            began_s = time.monotonic()
            writer.write(b"y")
            assert await reader.readexactly(1) == b"y"
            assert time.monotonic() - began_s >= RTT_S
            sent = bytes(range(256)) * 4096
            writer.write(sent)
            writer.write_eof()
            assert await reader.read() == sent + b"the end"
            writer.close()
        finally:
            proxy.cancel()
            await asyncio.wait([proxy])
