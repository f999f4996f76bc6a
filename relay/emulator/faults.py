"""Faults by name: one table, `FAULTS`.

Each entry says what the client sees and which row of the fault matrix it is (design notes,
reliability 3.2). In a script: `fault=NAME`, `NAME@N` (at the N-th token, from 0), `NAME:VALUE`.

Some rows are faults of a whole server and so are settings of its process (`EmulatorConfig`): of U3
a certificate for other names (`names`) or out of date (`is_expired`), of U15 few streams a
connection (`max_concurrent_streams`). SIGKILL to the process gives U1, SIGSTOP U7.

Some are not possible behind granian, which lets an application send no frames and no header bytes
of its own. The scripted servers of the tests, which are ours from the socket on, can send them:

    U2, U4  DNS, SYN black hole                     tests/transport/test_connect.py
    U3      other issuers, no TLS at all            tests/transport/test_connect.py
    U13     GOAWAY                                  tests/fakes/h2_server.py, `goaway`
    U14     RST_STREAM codes but INTERNAL_ERROR     tests/fakes/h2_server.py, `reset`
    U15     windows, SETTINGS that change           tests/fakes/h2_server.py, `settings`,
                                                    `update_settings`
    U27     CR/LF inside a header, 1xx noise        tests/fakes/h1_server.py, `raw`
"""

from __future__ import annotations

import gzip
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from relay.emulator.scene import Play, Scene
from relay.emulator.stream_reset import DRAIN_S
from relay.emulator.wires.base import (
    FAILURES,
    FOLLOW,
    KIND_OF_STATUS,
    OPEN,
    TOKEN,
    Event,
    Failure,
    Headers,
    error_head,
)


@dataclass(frozen=True, slots=True)
class Instead:
    """A fault that replaces the whole answer."""

    row: str
    doc: str
    play: Callable[[Scene, FaultCall], Play]


@dataclass(frozen=True, slots=True)
class At:
    """A fault that strikes before one token of an answer that was fine so far."""

    row: str
    doc: str
    play: Callable[[Scene, FaultCall], Play]
    after_opening: bool = False
    """At token 0: whether head and opening events were sent before it strikes."""
    resets: bool = False
    """Whether it needs a stream that can be reset after its head."""


@dataclass(frozen=True, slots=True)
class Change:
    """A fault in the bytes: it rewrites the events of a good stream."""

    row: str
    doc: str
    change: Callable[[Iterator[Event], FaultCall], Iterator[Event]]


@dataclass(frozen=True, slots=True)
class Quirk:
    """A fault inside the format, which each wire renders its own way (or leaves out)."""

    row: str
    doc: str


Fault = Instead | At | Change | Quirk

_CALL = re.compile(r"([a-z0-9-]+)(?:@(\d+))?(?::(.*))?")


@dataclass(frozen=True, slots=True)
class FaultCall:
    """A fault with its position and value."""

    name: str
    fault: Fault
    at: int = 0
    value: str = ""

    @classmethod
    def parse(cls, text: str, table: Mapping[str, Fault]) -> FaultCall:
        """Read `name[@position][:value]`.

        Raises:
            ValueError: no such fault, or not of this form.
        """
        found = _CALL.fullmatch(text)
        if found is None or found[1] not in table:
            raise ValueError(f"unknown fault {text!r}")
        return cls(found[1], table[found[1]], int(found[2] or 0), found[3] or "")

    def number(self, default: float) -> float:
        """The value as a number."""
        return float(self.value) if self.value else default


# --- silence ---------------------------------------------------------------------------------


def _hang(scene: Scene, call: FaultCall) -> Play:
    yield None


def _silent(scene: Scene, call: FaultCall) -> Play:
    scene.send_head()
    yield None


def _stall(scene: Scene, call: FaultCall) -> Play:
    yield time.monotonic() + call.number(0) / 1e3 if call.value else None


def _dribble(scene: Scene, call: FaultCall) -> Play:
    gap_s = call.number(400.0) / 1e3
    scene.next_gap_s = lambda: gap_s
    yield time.monotonic() + gap_s


def _comments(scene: Scene, call: FaultCall) -> Play:
    scene.send_head()
    while True:
        scene.exchange.write(scene.wire.keepalive())
        yield time.monotonic() + call.number(100.0) / 1e3


def _drip(scene: Scene, call: FaultCall) -> Play:
    yield scene.first_token_s
    scene.send_head()
    for _, before, after in scene.wire.events(scene.answer):
        for byte in _sealed(scene, before if after is None else before + b"0" + after):
            scene.exchange.write(bytes((byte,)))
            yield time.monotonic() + call.number(50.0) / 1e3


# --- broken connections ------------------------------------------------------------------------


_DRAIN_TRIES = 100
"""A client that does not read holds a reset up no longer than this many `DRAIN_S`."""


def _reset(scene: Scene, call: FaultCall) -> Play:
    if scene.exchange.record.head_ns:
        for _ in range(_DRAIN_TRIES):
            if scene.exchange.is_drained:
                break
            yield time.monotonic() + DRAIN_S
        yield time.monotonic() + DRAIN_S
    scene.exchange.reset()
    yield None


def _reset_after_head(scene: Scene, call: FaultCall) -> Play:
    scene.send_head()
    yield from _reset(scene, call)


def _cut(scene: Scene, call: FaultCall) -> Play:
    # The server's thread may still hold what was just written.
    yield time.monotonic() + DRAIN_S
    scene.exchange.cut(with_rst=True)


def _close(scene: Scene, call: FaultCall) -> Play:
    yield time.monotonic() + DRAIN_S
    scene.exchange.cut(with_rst=False)


def _cut_after_head(scene: Scene, call: FaultCall) -> Play:
    scene.send_head()
    yield from _cut(scene, call)


def _close_behind(scene: Scene, call: FaultCall) -> Play:
    yield scene.first_token_s
    scene.exchange.close_behind()
    if scene.is_stream:
        scene.send_head()
        for event in scene.wire.events(scene.answer):
            scene.write_event(event)
        scene.exchange.end()
    else:
        scene.exchange.respond(
            200, scene.wire.json_head(scene.answer), scene.wire.body(scene.answer)
        )


def _end(scene: Scene, call: FaultCall) -> Play:
    scene.exchange.end()
    yield None


# --- bytes -------------------------------------------------------------------------------------


def _huge_token(events: Iterator[Event], call: FaultCall) -> Iterator[Event]:
    size = int(call.number(1_000_000))
    return _with_token(events, call.at, lambda text: text + b"a" * size)


def _bad_utf8(events: Iterator[Event], call: FaultCall) -> Iterator[Event]:
    # A lone continuation byte, an overlong form and half of a four-byte sequence.
    return _with_token(events, call.at, lambda text: text + b"\x80\xc0\xaf\xf0\x9f")


def _split_utf8(events: Iterator[Event], call: FaultCall) -> Iterator[Event]:
    for kind, before, after in _with_token(
        events, call.at, lambda text: text + "Zürich 🚆".encode()
    ):
        cut = before.find("🚆".encode())
        if cut < 0:
            yield kind, before, after
        else:
            yield kind, before[: cut + 2], None
            yield FOLLOW, before[cut + 2 :], after


def _with_token(
    events: Iterator[Event], at: int, change: Callable[[bytes], bytes]
) -> Iterator[Event]:
    """Change the text at the end of the JSON string that token `at` carries."""
    seen = 0
    for kind, before, after in events:
        if kind == TOKEN:
            seen += 1
            if seen == at + 1:
                data = before if after is None else after
                # The token's text is the one JSON string that closes right before the delta.
                place = data.find(b'"}', data.find(b'delta"') if after is None else 0)
                if place >= 0:
                    data = change(data[:place]) + data[place:]
                before, after = (data, None) if after is None else (before, data)
        yield kind, before, after


def _endless_line(scene: Scene, call: FaultCall) -> Play:
    yield scene.first_token_s
    scene.send_head()
    left = int(call.number(50_000_000))
    scene.exchange.write(b"data: ")
    piece = b"x" * 65_536
    while left > 0:
        scene.exchange.write(piece[: min(left, len(piece))])
        left -= len(piece)
        # A breath between pieces: nothing here holds a slow reader's bytes back.
        yield time.monotonic() + 0.0005
    scene.exchange.end()


def _first_bytes(prefix: bytes) -> Callable[[Iterator[Event], FaultCall], Iterator[Event]]:
    def change(events: Iterator[Event], call: FaultCall) -> Iterator[Event]:
        for kind, before, after in events:
            yield kind, prefix + before, after
            break
        yield from events

    return change


def _newlines(*ends: bytes) -> Callable[[Iterator[Event], FaultCall], Iterator[Event]]:
    def change(events: Iterator[Event], call: FaultCall) -> Iterator[Event]:
        for number, (kind, before, after) in enumerate(events):
            end = ends[number % len(ends)]
            yield kind, _ending(before, end), None if after is None else _ending(after, end)

    return change


def _ending(data: bytes, end: bytes) -> bytes:
    return data.replace(b"\r\n", b"\n").replace(b"\n", end)


def _truncate_json(events: Iterator[Event], call: FaultCall) -> Iterator[Event]:
    seen = 0
    for kind, before, after in events:
        if kind == TOKEN:
            seen += 1
            if seen == call.at + 1:
                whole = before if after is None else before + b"0" * 16 + after
                yield kind, whole[: len(whole) // 2], None
                return
        yield kind, before, after


def _repeat(events: Iterator[Event], call: FaultCall) -> Iterator[Event]:
    seen = 0
    for kind, before, after in events:
        yield kind, before, after
        if kind == TOKEN:
            seen += 1
            if seen == call.at + 1:
                yield FOLLOW, before, after


def _swap(events: Iterator[Event], call: FaultCall) -> Iterator[Event]:
    seen = 0
    held: Event | None = None
    for event in events:
        if event[0] == TOKEN:
            seen += 1
            if seen == call.at + 1:
                held = event
                continue
        yield event
        if held is not None:
            yield held
            held = None
    if held is not None:
        yield held


def _role_only(events: Iterator[Event], call: FaultCall) -> Iterator[Event]:
    return (event for event in events if event[0] == OPEN)


def _no_finish(events: Iterator[Event], call: FaultCall) -> Iterator[Event]:
    seen_token = False
    for event in events:
        seen_token = seen_token or event[0] == TOKEN
        if seen_token and event[0] == FOLLOW:
            return
        yield event


# --- errors ------------------------------------------------------------------------------------


def _respond_error(scene: Scene, failure: Failure, headers: Headers, status: int) -> None:
    body = scene.wire.error_body(failure)
    scene.exchange.respond(status, [*error_head(scene.wire, failure), *headers], body)


def _sealed(scene: Scene, data: bytes) -> bytes:
    return data if scene.seal is None else scene.seal(data)


def _status(scene: Scene, call: FaultCall) -> Play:
    yield scene.first_token_s
    status = int(call.number(500))
    known = FAILURES.get(KIND_OF_STATUS.get(status, "server"), FAILURES["server"])
    failure = Failure(status, known.kind, known.message)
    if status in (502, 520, 521, 522, 523, 524):
        # These come from the edge, not from the provider's own servers.
        page = b"<html><head><title>%d</title></head><body>bad gateway</body></html>" % status
        scene.exchange.respond(status, [("content-type", "text/html; charset=UTF-8")], page)
    else:
        _respond_error(scene, failure, [], status)


def _error(scene: Scene, call: FaultCall) -> Play:
    yield scene.first_token_s
    failure = FAILURES[call.value or "server"]
    _respond_error(scene, failure, [], scene.wire.error_status(failure))


def _fixed_error(kind: str) -> Callable[[Scene, FaultCall], Play]:
    def play(scene: Scene, call: FaultCall) -> Play:
        yield scene.first_token_s
        failure = FAILURES[kind]
        _respond_error(scene, failure, [], scene.wire.error_status(failure))

    return play


_HINTS: dict[str, Headers] = {
    "none": [],
    "date": [("retry-after", "Wed, 21 Oct 2093 07:28:00 GMT")],
    "ms": [("retry-after-ms", "250")],
    "huge": [("retry-after", "1000000000")],
    "negative": [("retry-after", "-5")],
    "word": [("retry-after", "soon")],
    "never": [("x-should-retry", "false")],
    "reset": [("x-ratelimit-remaining-requests", "0"), ("x-ratelimit-reset-requests", "1m12.5s")],
}
"""Shapes of the hint by name; any other value is given as `retry-after` itself."""


def _rate(scene: Scene, call: FaultCall) -> Play:
    yield scene.first_token_s
    hint = _HINTS.get(call.value)
    headers = [("retry-after", call.value or "1")] if hint is None else hint
    _respond_error(scene, FAILURES["rate"], headers, 429)


def _redirect(scene: Scene, call: FaultCall) -> Play:
    yield scene.first_token_s
    target = call.value or "http://127.0.0.1:1/elsewhere"
    scene.exchange.respond(302, [("location", target)], b"")


def _html(scene: Scene, call: FaultCall) -> Play:
    yield scene.first_token_s
    page = b"<!DOCTYPE html><html><body><h1>Just a moment...</h1></body></html>"
    scene.exchange.respond(200, [("content-type", "text/html; charset=UTF-8")], page)


def _wrong_type(scene: Scene, call: FaultCall) -> Play:
    yield scene.first_token_s
    stream = b"".join(
        _sealed(scene, before if after is None else before + b"0" + after)
        for _, before, after in scene.wire.events(scene.answer)
    )
    scene.exchange.respond(
        200, [("content-type", call.value or "application/octet-stream")], stream
    )


def _empty_body(scene: Scene, call: FaultCall) -> Play:
    yield scene.first_token_s
    scene.exchange.respond(200, scene.wire.stream_head(scene.answer), b"")


def _error_in_200(scene: Scene, call: FaultCall) -> Play:
    yield scene.first_token_s
    _respond_error(scene, FAILURES[call.value or "unavailable"], [], 200)


def _error_event(scene: Scene, call: FaultCall) -> Play:
    scene.send_head()
    scene.exchange.write(scene.wire.error_event(FAILURES[call.value or "unavailable"]))
    scene.exchange.end()
    yield None


def _bad_frame(scene: Scene, call: FaultCall) -> Play:
    frame = scene.wire.error_event(FAILURES["server"])
    if scene.seal is not None:
        scene.exchange.write(frame[:-1] + bytes((frame[-1] ^ 1,)))
    scene.exchange.end()
    yield None


# --- heads -------------------------------------------------------------------------------------


def _encoded(scene: Scene, call: FaultCall) -> Play:
    yield scene.first_token_s
    headers = [*scene.wire.stream_head(scene.answer), ("content-encoding", call.value or "gzip")]
    scene.exchange.respond(200, headers, b'data: {"not": "compressed"}\n\n')


def _gzip_bomb(scene: Scene, call: FaultCall) -> Play:
    yield scene.first_token_s
    body = gzip.compress(b"0" * int(call.number(50_000_000)), compresslevel=9)
    headers = [*scene.wire.stream_head(scene.answer), ("content-encoding", "gzip")]
    scene.exchange.respond(200, headers, body)


def _many_headers(scene: Scene, call: FaultCall) -> Play:
    yield scene.first_token_s
    noise = [(f"x-noise-{k}", f"value {k}") for k in range(int(call.number(1000)))]
    headers = [*scene.wire.json_head(scene.answer), *noise]
    scene.exchange.respond(200, headers, scene.wire.body(scene.answer))


def _huge_header(scene: Scene, call: FaultCall) -> Play:
    yield scene.first_token_s
    noise = ("x-noise", "v" * int(call.number(1_000_000)))
    headers = [*scene.wire.json_head(scene.answer), noise]
    scene.exchange.respond(200, headers, scene.wire.body(scene.answer))


FAULTS: dict[str, Fault] = {
    # U5, U6, U8, U9: broken connections
    "reset-head": Instead(
        "U5", "RST_STREAM(INTERNAL_ERROR), no byte (a busy link may flush the head)", _reset
    ),
    "cut-head": Instead("U5", "TCP RST before the headers", _cut),
    "close-head": Instead("U5", "TCP FIN before the headers", _close),
    "close-behind": Instead("U6", "a good answer, then FIN on the idle connection", _close_behind),
    "reset-body": At(
        "U8", "headers, then RST_STREAM before a byte", _reset_after_head, resets=True
    ),
    "cut-body": At("U8", "headers, then TCP RST before a byte", _cut_after_head),
    "reset": At("U9", "RST_STREAM(INTERNAL_ERROR) before token N", _reset, True, True),
    "cut": At("U9", "TCP RST before token N", _cut, True),
    "close": At("U9", "TCP FIN before token N", _close, True),
    # U10, U11, U12: silence
    "hang": Instead("U10", "no headers, ever", _hang),
    "silent": Instead("U10", "headers, then silence", _silent),
    "role-only": At("U10", "headers and opening events, then silence", _stall, True),
    "comments": Instead(
        "U10/U12", "headers, then keep-alives every V ms and nothing else", _comments
    ),
    "stall": At("U10/U11", "silence before token N: V ms, or for ever", _stall),
    "dribble": At("U12", "token N and those after it come every V ms (400)", _dribble, True),
    "dots": At("U12", "keep-alives every V ms instead of token N and the rest", _comments, True),
    "drip": Instead("U12", "the answer one byte every V ms", _drip),
    # U16, U17: bytes
    "huge-token": Change("U16", "token N has V more bytes (1,000,000)", _huge_token),
    "endless-line": Instead(
        "U16", "one line of V bytes (50,000,000) without its end", _endless_line
    ),
    "bad-utf8": Change("U17", "token N has bytes that are not UTF-8", _bad_utf8),
    "bad-frame": At(
        "U17", "a frame with a wrong checksum before token N, then the end", _bad_frame, True
    ),
    "split-utf8": Change("U17", "a character of token N is split over two writes", _split_utf8),
    "bom": Change("U17", "the stream starts with a byte order mark", _first_bytes(b"\xef\xbb\xbf")),
    "crlf": Change("U17", "lines end with CRLF", _newlines(b"\r\n")),
    "cr": Change("U17", "lines end with CR", _newlines(b"\r")),
    "mixed-newlines": Change("U17", "LF, CRLF, CR by turns", _newlines(b"\n", b"\r\n", b"\r")),
    # U18: cut short, politely
    "truncate-json": Change(
        "U18", "token N ends inside its JSON, then a clean end", _truncate_json
    ),
    "eof": At("U18", "a clean end of stream before token N", _end, True),
    "no-finish": Change("U18", "a clean end after the last token, no finish reason", _no_finish),
    "no-done": Quirk("U18", "no end marker: [DONE], message_stop, response.completed"),
    # U19, U20: 200 that is none
    "html": Instead("U19", "200 with a page of HTML", _html),
    "wrong-type": Instead("U19", "200 and a good stream with content type V", _wrong_type),
    "empty-body": Instead("U19", "200 and no body", _empty_body),
    "error-200": Instead("U20", "200 with the provider's error object (kind V)", _error_in_200),
    "error-first": At("U20", "the stream's first event is an error (kind V)", _error_event),
    "error-mid": At(
        "U20", "an error event (kind V) before token N, then the end", _error_event, True
    ),
    # U21 to U26: statuses
    "rate": Instead("U21", "429; V is retry-after or one of " + ", ".join(_HINTS), _rate),
    "quota": Instead(
        "U22", "429 (or the provider's status) for a quota used up", _fixed_error("quota")
    ),
    "billing": Instead("U22", "402 or the provider's own", _fixed_error("billing")),
    "context": Instead("U24", "the prompt is too long", _fixed_error("context")),
    "auth": Instead("U25", "the key is refused", _fixed_error("auth")),
    "status": Instead(
        "U23/U24/U25", "status V with the provider's error, HTML for 502 and 52x", _status
    ),
    "error": Instead("U22-U25", "failure of kind V with the provider's own status", _error),
    "redirect": Instead("U26", "302 to another host (or V)", _redirect),
    # U27: heads
    "encoding-claim": Instead("U27", "content-encoding gzip (or V) over plain bytes", _encoded),
    "gzip-bomb": Instead("U27", "V bytes (50,000,000) of zeros, compressed", _gzip_bomb),
    "many-headers": Instead("U27", "V headers (1,000)", _many_headers),
    "huge-header": Instead("U27", "one header of V bytes (1,000,000)", _huge_header),
    # U28: usage
    "usage-absent": Quirk("U28", "no usage anywhere"),
    "usage-zero": Quirk("U28", "usage of zero"),
    "usage-negative": Quirk("U28", "usage below zero"),
    "usage-huge": Quirk("U28", "10^12 completion tokens"),
    "usage-twice": Quirk("U28", "usage sent twice"),
    "usage-growing": Quirk("U28", "usage in every chunk, growing"),
    "usage-after-done": Quirk("U28", "usage after the end marker"),
    # U29: order and shape
    "repeat": Change("U29", "token N is sent twice", _repeat),
    "swap": Change("U29", "token N and the event behind it change places", _swap),
    "finish-twice": Quirk("U29", "two finish reasons"),
    "index-gap": Quirk("U29", "tool-call indexes 1, 3, 5"),
    "args-bytewise": Quirk("U29", "tool arguments split at every character"),
    "tools-in-one-chunk": Quirk("U29", "all tool calls complete in one chunk"),
    "split-id": Quirk("U29", "a tool call's id and name in two chunks"),
    "length-after-tool": Quirk("U29", "finish reason length after a tool call"),
}
