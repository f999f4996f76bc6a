"""AWS's frames: every cut, every flipped bit, and botocore's decoder beside ours."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.codecs.aws_event_stream import AwsEventParser, read_headers
from relay.sse import SseEvent
from tests.codecs.aws_frames import (
    Header,
    error,
    event,
    exception,
    frame,
    frame_of,
    needs_botocore,
    text_header,
)
from tests.fakes.collect import pieces_of
from tests.fakes.properties import examples

if TYPE_CHECKING:
    from collections.abc import Iterable

TWO = event("messageStart", {"role": "assistant"}) + event("contentBlockDelta", {"a": "é"})
READ = [("messageStart", b'{"role":"assistant"}'), ("contentBlockDelta", '{"a":"é"}'.encode())]


def parse(pieces: Iterable[bytes]) -> tuple[list[SseEvent], AwsEventParser]:
    parser = AwsEventParser()
    events = [event for piece in pieces for event in parser.feed(piece)]
    assert parser.end() is None
    return events, parser


def test_frames_are_read_however_they_are_cut() -> None:
    for at in range(len(TWO) + 1):
        events, parser = parse([TWO[:at], TWO[at:]])
        assert (events, parser.is_broken, parser.held_bytes) == (READ, False, 0), at
    for size in (1, 3, 12, 16):
        assert parse(pieces_of(TWO, size))[0] == READ


def test_a_view_of_bytes_is_read_as_well() -> None:
    assert AwsEventParser().feed(memoryview(TWO)) == READ


def test_a_cut_stream_holds_what_it_has_of_a_frame() -> None:
    for at in range(1, len(TWO)):
        events, parser = parse([TWO[:at]])
        assert not parser.is_broken
        assert (parser.held_bytes > 0) == (at != len(event("messageStart", {"role": "assistant"})))
        assert events == READ[: len(events)]


def test_every_flipped_bit_is_found() -> None:
    """Nothing of a bent frame comes out, and nothing behind it."""
    first = len(TWO) - len(event("contentBlockDelta", {"a": "é"}))
    for bit in range(first * 8, len(TWO) * 8):
        bent = bytearray(TWO)
        bent[bit // 8] ^= 1 << bit % 8
        events, parser = parse([bytes(bent), TWO])
        assert events == READ[:1], bit
        assert parser.is_broken, bit


def test_failures_have_names_of_their_own() -> None:
    body = exception("throttlingException", "slow down") + error("InternalError", 'a "word"')
    assert parse([body])[0] == [
        (":throttlingException", b'{"message":"slow down"}'),
        (":InternalError", b'{"message":"a \\"word\\""}'),
    ]
    # Read once more, from headers that are known.
    assert parse([body * 3])[0] == parse([body])[0] * 3


def test_an_event_cannot_pose_as_a_failure() -> None:
    assert parse([event(":throttlingException", {})])[0] == [("throttlingException", b"{}")]


def test_what_says_nothing_of_its_kind_is_an_event() -> None:
    assert parse([frame_of([], b"x")])[0] == [("", b"x")]
    assert parse([frame(":event-type", b"x", "a", message="brand-new")])[0] == [("a", b"x")]


def test_other_headers_are_passed_over() -> None:
    headers: list[Header] = [
        ("true", 0, b""),
        ("false", 1, b""),
        ("byte", 2, b"1"),
        ("short", 3, b"12"),
        ("integer", 4, b"1234"),
        ("long", 5, b"12345678"),
        ("bytes", 6, b"any"),
        ("time", 8, b"12345678"),
        ("uuid", 9, b"1234567812345678"),
        (":event-type", 6, b"no text"),
        text_header(":event", "x"),
        text_header("\u00e9", "\u00e9"),
    ]
    assert parse([frame_of(headers, b"x")])[0] == [("", b"x")]
    assert parse([frame_of([*headers[:9], text_header(":event-type", "a")], b"x")])[0] == [
        ("a", b"x")
    ]


@pytest.mark.parametrize(
    "block",
    [
        b"\x05",
        b"\x01a",
        b"\x01a\x0a",
        b"\x01a\x07\x00",
        b"\x01a\x07\x00\x02b",
        b"\x01a\x04\x00\x00",
        b"\x01\xff\x00",
        b"\x01a\x07\x00\x01\xff",
        b"\x01a\x00\x01a\x00",
    ],
)
def test_headers_that_break_the_format(block: bytes) -> None:
    with pytest.raises(ValueError):
        read_headers(block)


def test_lengths_that_cannot_be() -> None:
    for total, headers in ((0, 0), (15, 0), (16, 1), (20, 2**32 - 1)):
        prelude = total.to_bytes(4) + headers.to_bytes(4)
        events, parser = parse([prelude + crc32(prelude).to_bytes(4) + bytes(64)])
        assert not events
        assert parser.is_broken


def test_a_frame_over_the_cap_is_not_held() -> None:
    parser = AwsEventParser(max_event_bytes=64)
    small = frame_of([], bytes(48))
    assert len(parser.feed(small)) == 1
    assert parser.feed(frame_of([], bytes(49))[:12]) == []
    assert parser.is_too_large
    assert not parser.is_broken
    assert parser.held_bytes == 0
    assert parser.feed(small) == []


def test_headers_known_again_are_bounded() -> None:
    parser = AwsEventParser()
    for at in range(1000):
        assert parser.feed(event(f"e{at}", {})) == [(f"e{at}", b"{}")]
    assert len(parser._known) <= 32


# --- beside botocore ------------------------------------------------------------------------

_FIXED = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}
NAMES = st.text(max_size=12).filter(lambda text: len(text.encode("utf-8", "replace")) <= 40)
SPECIAL = st.sampled_from(
    [":message-type", ":event-type", ":exception-type", ":error-code", ":error-message"]
)
VALUES = st.sampled_from(["event", "exception", "error", "contentBlockDelta", "x", ""])
TEXTS = st.tuples(st.one_of(SPECIAL, NAMES), VALUES).map(lambda pair: text_header(*pair))
OTHERS = st.sampled_from(sorted(_FIXED)).flatmap(
    lambda kind: st.tuples(
        st.one_of(SPECIAL, NAMES),
        st.just(kind),
        st.binary(min_size=_FIXED[kind], max_size=_FIXED[kind]),
    )
)
BLOBS = st.tuples(NAMES, st.just(6), st.binary(max_size=8))
FRAMES = st.builds(
    frame_of, st.lists(st.one_of(TEXTS, TEXTS, OTHERS, BLOBS), max_size=6), st.binary(max_size=40)
)


def judged(body: bytes) -> tuple[list[SseEvent], bool]:
    """What botocore makes of a body: events by our names, and whether it refused the rest."""
    from botocore.eventstream import EventStreamBuffer, ParserError

    buffer = EventStreamBuffer()
    buffer.add_data(body)
    events: list[SseEvent] = []
    try:
        for message in buffer:
            text = {
                name: value if isinstance(value, str) else ""
                for name, value in message.headers.items()
            }
            kind = text.get(":message-type", "")
            if kind == "error":
                events.append((f":{text.get(':error-code', '')}", b""))
            elif kind == "exception":
                events.append((f":{text.get(':exception-type', '')}", message.payload))
            else:
                events.append((text.get(":event-type", ""), message.payload))
    except (ParserError, KeyError, ValueError, struct.error):
        return events, True
    return events, False


@needs_botocore
@examples(200, full=20_000)
@given(st.lists(FRAMES, max_size=4), st.data())
def test_botocore_reads_the_same(frames: list[bytes], data: st.DataObject) -> None:
    """Whole, cut or bent: the same events, and the same bytes refused."""
    body = b"".join(frames)
    if body and data.draw(st.booleans()):
        bent = bytearray(body)
        bent[data.draw(st.integers(0, len(body) - 1))] ^= data.draw(st.integers(1, 255))
        body = bytes(bent)
    body = body[: data.draw(st.integers(0, len(body)))] if data.draw(st.booleans()) else body
    events, is_refused = judged(body)
    size = data.draw(st.integers(1, 64))
    ours, parser = parse(pieces_of(body, size))
    told = [
        (name, b"" if _is_error(body, at) else payload) for at, (name, payload) in enumerate(ours)
    ]
    assert told == events
    assert parser.is_broken == is_refused


def _is_error(body: bytes, at: int) -> bool:
    """Whether the frame there is of type `error`, whose data is made and not sent."""
    for _ in range(at):
        body = body[int.from_bytes(body[:4]) :]
    headers = read_headers(body[12 : 12 + int.from_bytes(body[4:8])])
    return headers.get(":message-type") == "error"
