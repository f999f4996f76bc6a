"""What cuts a provider's bytes into events: SSE, AWS's frames, lines, an array's objects; and the
JSON reader that forgives.

Held to: however cut, the same events come out; what is held of one and what comes out of one stays
below the cap, which is drawn; of JSON, that whatever is read can be written and read again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import orjson

from relay.codecs import lenient_json
from relay.codecs.aws_event_stream import AwsEventParser
from relay.codecs.json_stream import JsonObjectSplitter
from relay.codecs.ndjson import NdjsonParser
from relay.sse import SseParser, encode_event
from tests.codecs.aws_frames import frame
from tests.fuzz.draws import cut, draw_of
from tests.fuzz.registry import Target

CAPS = (48, 200, 1 << 20)

Parser = SseParser | AwsEventParser | NdjsonParser
SAID = ("is_too_large", "is_broken", "is_closed", "is_open")


def _all_of(parser: Any, pieces: Iterable[bytes], cap: int) -> tuple[list[Any], Any, list[Any]]:
    """Every event, what came at the end, and how the parser stands then."""
    events: list[Any] = []
    for piece in pieces:
        events += parser.feed(piece)
        held = getattr(parser, "held_bytes", 0)
        assert held <= cap, f"{held} bytes are held, and {cap} is the cap"
    end = parser.end() if hasattr(parser, "end") else None
    for event in events:
        data = event[1] if isinstance(event, tuple) else event
        assert 0 < len(data) <= cap or isinstance(parser, AwsEventParser), (
            f"an event of {len(data)} bytes, and {cap} is the cap"
        )
    return events, end, [getattr(parser, name, None) for name in SAID]


def check(make: Callable[[int], Any], given: bytes) -> bool:
    draw = draw_of(given)
    cap = draw.choice(CAPS)
    whole = _all_of(make(cap), [given], cap)
    pieces = cut(given, draw)
    assert _all_of(make(cap), pieces, cap) == whole, f"cap {cap}, cut as {pieces}"
    single = [given[at : at + 1] for at in range(len(given))]
    assert _all_of(make(cap), single, cap) == whole, f"cap {cap}, byte by byte"
    return bool(whole[0])


def check_sse(given: bytes) -> bool:
    """As the others; and what is written of an event is read as that event."""
    is_good = check(SseParser, given)
    for name, data in SseParser().feed(given):
        plain = data.replace(b"\r", b"\n")
        if "\n" not in name and "\r" not in name and not name.startswith(" "):
            assert SseParser().feed(encode_event(plain, name)) == [(name, plain)]
    return is_good


def framed(given: bytes) -> bytes:
    """Lines as frames, a line's first byte saying which: no fuzzer finds checksums by itself. As it
    is where it begins with 0."""
    if not given or given[0] == 0:
        return given[1:]
    made = b""
    for line in given.split(b"\n"):
        if line:
            kind = (":event-type", ":exception-type")[line[0] & 1]
            made += frame(kind, line[1:], "chunk" if line[0] & 2 else line[1:9].hex())
            if line[0] & 64:
                made = made[:-1] + bytes([made[-1] ^ line[0]])
    return made


def check_json(given: bytes) -> bool:
    """Of what orjson takes the same; of others a value that can be told on, or ValueError."""
    try:
        strict = orjson.loads(given)
    except orjson.JSONDecodeError:
        strict = None
    try:
        value, is_mended = lenient_json.read(given)
    except ValueError:
        assert strict is None
        return False
    if strict is not None:
        assert value == strict
        assert not is_mended
    written = lenient_json.dumps(value)
    if written:
        again = orjson.loads(written)
        assert again == value or _has_odd_number(value)
    return True


def _has_odd_number(value: Any) -> bool:
    """NaN and endless ones are read, and written as null."""
    if isinstance(value, float):
        return not math.isfinite(value)
    if isinstance(value, dict):
        return any(map(_has_odd_number, value.values()))
    return isinstance(value, list) and any(map(_has_odd_number, value))


EVENTS = (
    b"data: {}\n\n",
    b"event: a\ndata: 1\ndata: 2\n\n: x\n\ndata\n\n",
    b"\xef\xbb\xbfdata: a\r\n\r\ndata: b\r\rid: 3\nretry: 1\n\n",
    b"data: " + b"x" * 60 + b"\n\n",
    b"event: n\r\ndata: a\r\ndata: b\r\n\r\n",
)
LINES = (b'{"a":1}\n{"b":2}\r\n\n{"c"', b"\n\n \n1", b"x" * 60 + b"\n")
OBJECTS = (b'[{"a":1},{"b":"]}"}]', b'{"a":{"b":[1]}}', b'[{"a":"\\""}', b"[1]", b"[]")
FRAMED = (b"\x02a\n\x01refused\n\x03", b"\x42broken", b"\x00\x00\x00\x00\x10")
TEXTS = (
    b'{"a":[1,2.5,NaN,"\\ud83d"],"b":"\xff"}',
    b'{"n":123456789012345678901234567890}',
    b"[" * 300 + b"]" * 300,
    b'{"a":"\\ud83d\\ude00\\\\ud83d"}',
)

TARGETS = {
    "sse": Target(check_sse, lambda: EVENTS),
    "ndjson": Target(partial(check, NdjsonParser), lambda: LINES),
    "json_array": Target(partial(check, JsonObjectSplitter), lambda: OBJECTS),
    "aws_frames": Target(lambda given: check(AwsEventParser, framed(given)), lambda: FRAMED),
    "lenient_json": Target(check_json, lambda: TEXTS),
}
