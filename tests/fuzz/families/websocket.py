"""Frames of a client's WebSocket.

Held to: however the bytes are cut the same messages come out, then the same end; none is larger
than the cap; nothing is raised in the loop and no task is left.
"""

from __future__ import annotations

import asyncio

from websockets.frames import Frame, Opcode

from relay.transport.websocket import ServerSocket, SocketLimits
from tests.fakes.virtual_time import run
from tests.fuzz.draws import cut, draw_of
from tests.fuzz.registry import Target
from tests.transport.test_websocket import Wire

CAPS = (64, 1 << 16)
UNMASKED = bytes(4)
"""A mask that changes nothing, so that a fuzzer sees what it writes."""


async def _talk(pieces: list[bytes], cap: int) -> tuple[list[str | bytes], int]:
    """Messages, and the code of the end; 0 where we ended it. Whether we did, and what for, depends
    on what was read first: text is looked at when it is received, frames as they come."""
    limits = SocketLimits(max_message_bytes=cap, waiting_bytes=1000, ping_s=1e6, stall_s=30.0)
    wire = Wire()
    wire.socket = socket = ServerSocket(limits)
    socket.connection_made(wire)
    found: list[str | bytes] = []

    async def read() -> None:
        while (message := await socket.receive()) is not None:
            found.append(message)

    reader = asyncio.create_task(read())
    for piece in pieces:
        if wire.is_closing():
            break
        socket.data_received(piece)
        while wire.rests() and not reader.done():
            await asyncio.sleep(0)
    if not wire.is_closing():
        socket.eof_received()
        wire.abort()
    await reader
    ending = socket.ending()
    await socket.wait_closed()
    assert len(wire.sent) <= 2 * sum(map(len, pieces)) + 2, "more answers than frames"
    assert all(len(message) <= cap for message in found)
    return found, 0 if ending.fault else ending.code


def check(given: bytes) -> bool:
    draw = draw_of(given)
    cap = draw.choice(CAPS)
    whole = run(_talk([given], cap))
    pieces = cut(given, draw)
    parts = run(_talk(pieces, cap))
    assert parts[0] == whole[0], f"cap {cap}, cut as {pieces}"
    assert parts[1] == whole[1] or 0 in (parts[1], whole[1]), f"cap {cap}, cut as {pieces}"
    return bool(whole[0])


def frame(opcode: Opcode, data: bytes, *, fin: bool = True) -> bytes:
    """As a client sends it."""
    plain = bytes(Frame(opcode, data, fin).serialize(mask=False))
    head = 2 if len(data) < 126 else 4
    return bytes([plain[0], plain[1] | 128]) + plain[2:head] + UNMASKED + plain[head:]


SEEDS = (
    frame(Opcode.TEXT, b"Hello") + frame(Opcode.PING, b"p") + frame(Opcode.BINARY, b"\xff\x00"),
    frame(Opcode.TEXT, b"Hel", fin=False)
    + frame(Opcode.PONG, b"")
    + frame(Opcode.CONT, b"lo")
    + frame(Opcode.CLOSE, b"\x03\xe8bye"),
    frame(Opcode.TEXT, "é".encode() * 40) + frame(Opcode.TEXT, b"\xff"),
    frame(Opcode.BINARY, b"x" * 200) + frame(Opcode.CLOSE, b""),
)

TARGETS = {"frames": Target(check, lambda: SEEDS)}
