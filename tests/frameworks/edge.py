"""Faults that the emulator cannot play, as a process of its own: a slow handshake, and GOAWAY.

python -m tests.frameworks.edge CERT KEY    prints {"slow-tls": PORT, "goaway": PORT}, serves until
                                            its standard input ends
"""

from __future__ import annotations

import asyncio
import json
import ssl
import sys

from tests.fakes.h2_server import H2Server, ServerStream, goaway
from tests.frameworks.faults import FIRST_TEXT

PATH = "/v1/chat/completions"


def _chunk(delta: dict[str, object], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    body = {
        "id": "chatcmpl-edge",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "edge",
        "choices": [choice],
    }
    return b"data: " + json.dumps(body).encode() + b"\n\n"


async def _goaway_mid(stream: ServerStream) -> None:
    """Half of the text, GOAWAY, the rest on the stream that it lets live."""
    half = len(FIRST_TEXT) // 2
    await stream.send_headers()
    await stream.send(_chunk({"role": "assistant", "content": FIRST_TEXT[:half]}))
    stream.connection.goaway()
    await stream.send(_chunk({"content": FIRST_TEXT[half:]}))
    await stream.send(_chunk({}, "stop"))
    await stream.send(b"data: [DONE]\n\n", end=True)


async def _chat(stream: ServerStream) -> None:
    model = json.loads(bytes(stream.body)).get("model")
    if model == "goaway-mid":
        await _goaway_mid(stream)
    else:
        await goaway(processed=False, close=True)(stream)


async def _never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Take what comes and never answer the handshake."""
    try:
        while await reader.read(65_536):
            pass
    except ConnectionError:
        pass
    finally:
        writer.close()


async def _serve(cert: str, key: str) -> None:
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(cert, key)
    tls.set_alpn_protocols(["h2"])
    slow = await asyncio.start_server(_never, "127.0.0.1", 0)
    async with H2Server(tls=tls) as server:
        server.routes[PATH] = _chat
        ports = {"slow-tls": slow.sockets[0].getsockname()[1], "goaway": server.port}
        sys.stdout.write(json.dumps(ports) + "\n")
        sys.stdout.flush()
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    slow.close()


if __name__ == "__main__":
    asyncio.run(_serve(*sys.argv[1:3]))
