"""A TCP proxy that makes a near server far away, where the kernel cannot (no `netem`).

    python -m bench.delaying_proxy PORT RTT_MS     its own port is the first line of its output

Bytes come out half a round trip after they came in, in both directions and in order. The kernel
completes a connection before the proxy sees it, so what a client sends first is held back by one
round trip more, as if its handshake had taken that: nobody can answer it sooner. Bandwidth is not
limited, and there is no slow start: how much fits into a first flight is not shown.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import Callable

_CHUNK_BYTES = 64 * 1024


async def _pass(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay_s: float, not_before_s: float
) -> None:
    """Copy one direction until its end, which is passed on too."""
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

    async def read() -> None:
        while True:
            data = await reader.read(_CHUNK_BYTES)
            queue.put_nowait((max(loop.time(), not_before_s) + delay_s, data))
            if not data:
                return

    reading = asyncio.create_task(read())
    try:
        while True:
            due_s, data = await queue.get()
            await asyncio.sleep(due_s - loop.time())
            if not data:
                break
            writer.write(data)
            await writer.drain()
        writer.write_eof()
    finally:
        reading.cancel()
        await asyncio.wait([reading])


async def serve(port: int, rtt_s: float, on_listening: Callable[[], object] = lambda: None) -> None:
    """Proxy to a loopback port until cancelled."""
    loop = asyncio.get_running_loop()

    async def connected(near: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        established_s = loop.time() + rtt_s
        far, server = await asyncio.open_connection("127.0.0.1", port)
        for writer in (client, server):
            writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            with contextlib.suppress(OSError):
                async with asyncio.TaskGroup() as group:
                    group.create_task(_pass(near, server, rtt_s / 2, established_s))
                    group.create_task(_pass(far, client, rtt_s / 2, 0.0))
        except* OSError:
            pass  # either side is gone
        finally:
            client.close()
            server.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0, backlog=256)
    print(server.sockets[0].getsockname()[1], flush=True)
    on_listening()
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), float(sys.argv[2]) / 1e3))
