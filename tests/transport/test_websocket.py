"""The bounds of one end of a WebSocket, on a transport that takes nothing unless told to."""

from __future__ import annotations

import asyncio

import pytest
from websockets.frames import Frame, Opcode

from relay.errors import ConnectError
from relay.transport.base import Origin
from relay.transport.websocket import CLOSE_S, ServerSocket, SocketLimits, dial
from tests.fakes.virtual_time import on_virtual_time, since_start_s

LIMITS = SocketLimits(max_message_bytes=1_000_000, waiting_bytes=1000, ping_s=1e6, stall_s=30.0)


class Wire(asyncio.Transport):
    """What was written, and whether it is read."""

    def __init__(self) -> None:
        super().__init__()
        self.socket: ServerSocket
        self.sent: list[bytes] = []
        self.takes = True
        self._rests = False
        self.is_over = False
        self._limit = 0
        self._waiting = 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.sent.append(bytes(data))
        if not self.takes:
            was_below = self._waiting <= self._limit
            self._waiting += len(data)
            if was_below and self._waiting > self._limit:
                self.socket.pause_writing()

    def take(self, size: int) -> None:
        """The other side reads so much."""
        was_above = self._waiting > self._limit
        self._waiting -= min(size, self._waiting)
        if was_above and not self._waiting:
            self.socket.resume_writing()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._limit = high or 0

    def get_write_buffer_size(self) -> int:
        return self._waiting

    def pause_reading(self) -> None:
        self._rests = True

    def resume_reading(self) -> None:
        self._rests = False

    def rests(self) -> bool:
        """Whether nothing is read."""
        return self._rests

    def can_write_eof(self) -> bool:
        return False

    def is_closing(self) -> bool:
        return self.is_over

    def close(self) -> None:
        if not self._waiting:
            self.abort()

    def abort(self) -> None:
        if not self.is_over:
            self.is_over = True
            asyncio.get_running_loop().call_soon(self.socket.connection_lost, None)


def opened(limits: SocketLimits = LIMITS) -> tuple[ServerSocket, Wire]:
    wire = Wire()
    wire.socket = socket = ServerSocket(limits)
    socket.connection_made(wire)
    return socket, wire


def frame(opcode: Opcode, data: bytes, *, fin: bool = True) -> bytes:
    """As a client sends it."""
    return bytes(Frame(opcode, data, fin).serialize(mask=True))


@on_virtual_time
async def test_of_pongs_that_are_not_taken_one_is_kept() -> None:
    socket, wire = opened()
    wire.takes = False
    for number in range(10_000):
        socket.data_received(frame(Opcode.PING, b"%05d" % number))
    assert wire.get_write_buffer_size() < LIMITS.waiting_bytes + 200
    before = len(wire.sent)
    wire.take(100_000)
    assert wire.sent[before:] == [b"\x8a\x0509999"]
    socket.abort()
    await socket.wait_closed()


@on_virtual_time
async def test_pings_of_one_read_get_one_pong() -> None:
    socket, wire = opened()
    socket.data_received(frame(Opcode.PING, b"a") + frame(Opcode.PING, b"b"))
    assert wire.sent == [b"\x8a\x01b"]
    socket.abort()
    await socket.wait_closed()


@on_virtual_time
async def test_small_frames_are_looked_at_in_pieces() -> None:
    socket, wire = opened()
    one = frame(Opcode.TEXT, b"x")
    count = 262_144 // len(one)
    socket.data_received(one * count)
    assert wire.rests()
    assert 0 < socket.received_messages < count / 4
    socket.data_received(one)  # what a transport may still have
    for _ in range(count + 1):
        assert await socket.receive() == "x"
    assert not wire.rests()
    assert socket.received_messages == socket.received_bytes == count + 1
    socket.abort()
    await socket.wait_closed()


@on_virtual_time
async def test_a_message_that_waits_stops_the_reading() -> None:
    socket, wire = opened()
    socket.data_received(frame(Opcode.BINARY, b"x"))
    assert wire.rests()
    assert await socket.receive() == b"x"
    assert not wire.rests()
    socket.abort()
    await socket.wait_closed()


@on_virtual_time
async def test_what_was_held_when_the_other_side_ended_arrives() -> None:
    socket, wire = opened()
    one = frame(Opcode.BINARY, b"x" * 1000)
    socket.data_received(one * 100)
    socket.eof_received()
    wire.abort()
    for _ in range(100):
        assert await socket.receive() == b"x" * 1000
    assert await socket.receive() is None
    assert socket.ending() == (1006, "", "")
    await socket.wait_closed()


@on_virtual_time
async def test_a_goodbye_is_heard_before_the_connection_closes() -> None:
    socket, _ = opened()
    socket.data_received(frame(Opcode.TEXT, b"last") + frame(Opcode.CLOSE, b"\x0b\xb8why"))
    assert await socket.receive() == "last"
    assert await socket.receive() is None
    assert socket.ending() == (3000, "why", "")
    assert not socket.is_open
    assert not await socket.deliver("too late")
    socket.abort()
    await socket.wait_closed()


@on_virtual_time
async def test_too_many_fragments() -> None:
    socket, _ = opened()
    socket.data_received(frame(Opcode.TEXT, b"", fin=False))
    receiving = asyncio.ensure_future(socket.receive())
    for _ in range(5000):
        socket.data_received(frame(Opcode.CONT, b"", fin=False))
    assert await receiving is None
    assert socket.ending().fault == "a message that is too large"
    socket.abort()
    await socket.wait_closed()


@on_virtual_time
async def test_who_takes_nothing_is_cut_off_and_who_takes_little_is_not() -> None:
    socket, wire = opened()
    wire.takes = False
    sending = asyncio.ensure_future(socket.deliver(b"x" * 100_000))
    for _ in range(10):
        await asyncio.sleep(20)
        wire.take(1)
    assert not sending.done()
    last_s = since_start_s()
    assert not await sending
    assert LIMITS.stall_s <= since_start_s() - last_s <= 2 * LIMITS.stall_s
    assert socket.ending().fault == "it takes nothing of what is sent"
    await socket.wait_closed()


@pytest.mark.parametrize("takes", [True, False])
@on_virtual_time
async def test_a_goodbye_that_nobody_answers_takes_no_longer_than_it_may(takes: bool) -> None:
    socket, wire = opened()
    wire.takes = takes
    wire.write(b"x" * 5000)
    socket.data_received(frame(Opcode.BINARY, b"unread") * 3)
    await socket.finish(1012, "ü" * 100)
    assert since_start_s() == pytest.approx(CLOSE_S)
    said = wire.sent[-1]
    assert said[:4] == b"\x88\x7c\x03\xf4"
    assert said[4:].decode() == "ü" * 61  # whole characters alone


@on_virtual_time
async def test_after_our_goodbye_what_comes_is_dropped_until_theirs() -> None:
    socket, wire = opened()
    socket.data_received(frame(Opcode.BINARY, b"unread"))
    finishing = asyncio.ensure_future(socket.finish(1000, ""))
    await asyncio.sleep(0)
    assert not wire.rests()
    for _ in range(100):
        socket.data_received(frame(Opcode.BINARY, b"x" * 1000))
    assert not wire.rests()
    socket.data_received(frame(Opcode.CLOSE, b"\x03\xe8"))
    await finishing
    assert since_start_s() < CLOSE_S
    assert await socket.receive() == b"unread"
    assert await socket.receive() is None


async def test_a_file_without_roots(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("roots") / "none.pem"
    for name in (str(path), str(path.with_suffix(".gone"))):
        path.write_text("nothing")
        origin = Origin("https", "127.0.0.1", 9, "auto", name)
        with pytest.raises(ConnectError):
            await dial(origin, "/", [], [], LIMITS, connect_timeout_s=1)
