"""A provider that says GOAWAY on its idle connections when it is told to.

The emulator's server sends none of its own, so this one is the scripted HTTP/2 server of the tests,
with a short stamped answer. It speaks HTTP/2 alone.

    python -m bench.peers.goaway_provider DIRECTORY

One JSON line when it is ready; a line on standard input makes it send GOAWAY(NO_ERROR) on every
open connection, close each a moment later, and say how many there were.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path

from bench.processes import START_TIMEOUT_S, Process
from tests.fakes.h2_server import H2Server, ServerStream
from tests.fakes.tls import CertAuthority

TOKENS = 5
_CLOSE_AFTER_S = 0.05
_HEAD = '{"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":['


def _chunk(delta: str, finish: str = "null") -> bytes:
    choice = f'{{"index":0,"delta":{delta},"finish_reason":{finish}}}'
    return f"data: {_HEAD}{choice}]}}\n\n".encode()


async def _answer(stream: ServerStream) -> None:
    await stream.send_headers()
    await stream.send(_chunk('{"role":"assistant","content":""}'))
    for _ in range(TOKENS):
        await stream.send(_chunk(f'{{"content":"t={time.monotonic_ns():016d} word"}}'))
    await stream.send(_chunk("{}", '"stop"') + b"data: [DONE]\n\n", end=True)


async def _models(stream: ServerStream) -> None:
    await stream.send_headers(200, [("content-type", "application/json")])
    await stream.send(b'{"object":"list","data":[]}', end=True)


async def _serve(directory: Path) -> None:
    authority = CertAuthority()
    async with H2Server(tls=authority.server_context(alpn=("h2",))) as server:
        server.routes["/v1/chat/completions"] = _answer
        server.default = _models
        ready = {"port": server.port, "ca_file": authority.ca_file(directory)}
        print(json.dumps(ready), flush=True)
        loop = asyncio.get_running_loop()
        while await loop.run_in_executor(None, sys.stdin.readline):
            going = server.open_connections
            for connection in going:
                connection.goaway()
            await asyncio.sleep(_CLOSE_AFTER_S)
            for connection in going:
                connection.close()
            print(len(going), flush=True)


class GoawayProvider(Process):
    """That process, where a peer expects the emulator."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(exist_ok=True)
        command = [sys.executable, "-m", "bench.peers.goaway_provider", str(directory)]
        super().__init__("goaway", command, directory, with_stdin=True)
        ready = json.loads(self.read_line(START_TIMEOUT_S))
        self.tls_port = int(ready["port"])
        self.ca_file = str(ready["ca_file"])

    @property
    def base_url(self) -> str:
        """`https://127.0.0.1:port`."""
        return f"https://127.0.0.1:{self.tls_port}"

    def go_away(self) -> int:
        """Have it leave all connections; how many there were."""
        self.write_line("")
        return int(self.read_line(5.0))


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1])))
