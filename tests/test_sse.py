"""The event-stream parser: the format's rules, every cut, its cap, and its work."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.sse import MAX_EVENT_BYTES, SseEvent, SseParser, encode_comment, encode_event


def parse(body: bytes, *sizes: int) -> list[SseEvent]:
    """Events of a body cut into pieces of these sizes, the last one repeated; whole if none."""
    parser = SseParser()
    events: list[SseEvent] = []
    at, turn = 0, 0
    while at < len(body):
        size = sizes[min(turn, len(sizes) - 1)] if sizes else len(body)
        events += parser.feed(body[at : at + size])
        at, turn = at + size, turn + 1
    last = parser.end()
    return [*events, last] if last else events


CASES = {
    "one event": (b"data: a\n\n", [("", b"a")]),
    "no space": (b"data:a\n\n", [("", b"a")]),
    "only one space is dropped": (b"data:  a \n\n", [("", b" a ")]),
    "crlf": (b"data: a\r\n\r\ndata: b\r\n\r\n", [("", b"a"), ("", b"b")]),
    "cr": (b"data: a\r\rdata: b\r\r", [("", b"a"), ("", b"b")]),
    "line ends mixed": (b"data: a\r\ndata: b\r\rdata: c\n\r\n", [("", b"a\nb"), ("", b"c")]),
    "lines joined": (b"data: {\ndata: \ndata: }\n\n", [("", b"{\n\n}")]),
    "byte order mark": (b"\xef\xbb\xbfdata: a\n\n", [("", b"a")]),
    "mark only at the start": (b"data: a\n\n\xef\xbb\xbfdata: b\n\n", [("", b"a")]),
    "comments": (b": ping\n\ndata: a\n: x\ndata: b\n\n:\n\n", [("", b"a\nb")]),
    "name": (b"event: error\ndata: a\n\ndata: b\n\n", [("error", b"a"), ("", b"b")]),
    "default name": (b"event: message\ndata: a\n\n", [("", b"a")]),
    "last name counts": (b"event: x\nevent: y\ndata: a\n\n", [("y", b"a")]),
    "name without data": (b"event: ping\n\ndata: a\n\n", [("", b"a")]),
    "name not in UTF-8": (b"event: \xff\ndata: a\n\n", [("�", b"a")]),
    "other fields": (b"id: 7\nretry: 3000\nfoo: bar\nbaz\ndata: a\n\n", [("", b"a")]),
    "empty data": (b"data:\n\ndata\n\ndata: a\n\n", [("", b"a")]),
    "blank lines": (b"\n\n\r\n\ndata: a\n\n\n\n", [("", b"a")]),
    "no final blank line": (b"data: a\n\ndata: b\n", [("", b"a"), ("", b"b")]),
    "no final line end": (b"data: a\n\ndata: b", [("", b"a"), ("", b"b")]),
    "other separators stay": (
        "data: a\u2028b\u2029c\u0085d\x0be\x0cf\n\n".encode(),
        [("", "a\u2028b\u2029c\u0085d\x0be\x0cf".encode())],
    ),
    "several": (b"data: a\n\ndata: b\n\ndata: c\n\n", [("", b"a"), ("", b"b"), ("", b"c")]),
    "bytes outside UTF-8": (b"data: \xff\xc3\n\n", [("", b"\xff\xc3")]),
}


@pytest.mark.parametrize(("body", "expected"), CASES.values(), ids=CASES.keys())
def test_format_at_every_cut(body: bytes, expected: list[SseEvent]) -> None:
    assert parse(body) == expected
    assert parse(body, 1) == expected, "byte by byte"
    for at in range(1, len(body)):
        assert parse(body, at, len(body)) == expected, f"cut at {at}"


@pytest.mark.parametrize("mark", [b"", b"event: e\n", b"event: message\n", b"event: e\r\n"])
@pytest.mark.parametrize(("body", "expected"), CASES.values(), ids=CASES.keys())
def test_whole_event_alone_in_its_chunk_is_no_exception(
    mark: bytes, body: bytes, expected: list[SseEvent]
) -> None:
    parser = SseParser()
    parser.feed(b"data: 0\n\n")
    assert parser.feed(b"event: e\ndata: 0\n\n") == [("e", b"0")]
    parser.feed(mark + b"data: 0\n\n")
    events = parser.feed(mark + body)
    last = parser.end()
    slow = SseParser()
    joined = slow.feed(b"data: 0\n\n" + mark + body)
    assert [*events, last] == [*joined[1:], slow.end()]
    if not mark and not body.startswith(b"\xef"):
        assert [*events, *([last] if last else ())] == expected


@pytest.mark.parametrize("over", [-1, 0, 1])
def test_cap_is_the_same_for_a_named_event_alone_in_its_chunk(over: int) -> None:
    parser = SseParser(max_event_bytes=100)
    parser.feed(b"data: 0\n\n")
    data = b"x" * (100 - len("data: ") - len("name") + over)
    parser.feed(b"event: name\ndata: 1\n\n")
    events = parser.feed(b"event: name\ndata: " + data + b"\n\n")
    assert events == ([("name", data)] if over <= 0 else [])
    assert parser.is_too_large == (over > 0)


def test_an_event_is_there_with_its_last_line_end() -> None:
    for blank in (b"\n\n", b"\r\n\r\n", b"\r\r"):
        parser = SseParser()
        assert parser.feed(b"data: a" + blank[:-1]) in ([], [("", b"a")])
        assert parser.feed(blank[-1:]) in ([("", b"a")], [])
        assert parser.end() is None


@pytest.mark.parametrize("blank", [b"\n\n", b"\r\n\r\n", b"\r\r", b"\n\r\n", b"\r\n\n"])
@pytest.mark.parametrize(
    "data", [b"", b"a", b"a\rdata: b", b"a\ndata: b", b"a\r\ndata: b", b"a\r", b"a\n"]
)
def test_an_event_alone_in_its_chunk_is_read_like_any(data: bytes, blank: bytes) -> None:
    event = b"data: " + data + blank
    body = b"data: x\n\n" + event + event + b"data: y\n\n"
    parser = SseParser()
    pieces = (b"data: x\n\n", event, event, b"data: y\n\n")
    assert [found for piece in pieces for found in parser.feed(piece)] == parse(body, 1)


ONE_A_CHUNK = [
    (b"event: a\ndata: {}\n\n", [("a", b"{}")]),
    (b"event: a\ndata: {}\n\n", [("a", b"{}")]),
    (b"event: b\ndata: x\n\n", [("b", b"x")]),
    (b"event: \ndata: x\n\n", [("", b"x")]),
    (b"event: message\ndata: x\n\n", [("", b"x")]),
    (b"event:  b\ndata:  x \n\n", [(" b", b" x ")]),
    (b"event: \xff\ndata: x\n\n", [("\ufffd", b"x")]),
    (b"event: a\ndata: \n\n", []),
    (b"event: a\ndata:x\n\n", [("a", b"x")]),
    (b"event: a\nid: 1\n\n", []),
    (b"event: a\n\n", []),
    (b"event: a\ndata: x\ndata: y\n\n", [("a", b"x\ny")]),
    (b"event: a\ndata: x\n\nevent: b\ndata: y\n\n", [("a", b"x"), ("b", b"y")]),
    (b"event: a\r\ndata: x\r\n\r\n", [("a", b"x")]),
    (b"event: a\ndata: x\ry\n\n", [("a", b"x")]),
    (b"event: a\ndata: x\n", []),
    (b"\nevent: b\ndata: y\n\n", [("a", b"x"), ("b", b"y")]),
]
"""Chunks of one stream, each with what it completes."""


def test_an_event_alone_in_its_chunk_follows_the_same_rules() -> None:
    parser = SseParser()
    parser.feed(b"data: begins\n\n")
    for chunk, expected in ONE_A_CHUNK:
        assert parser.feed(chunk) == expected, chunk
    body = b"".join(chunk for chunk, _ in ONE_A_CHUNK)
    assert parse(body, 1) == [event for _, events in ONE_A_CHUNK for event in events]


@pytest.mark.parametrize("name", [b"", b"event: a\n"])
@pytest.mark.parametrize(
    "odd",
    [
        b"",
        b"data: {}\n\n",
        b"data: \n\n",
        b"data: x\ndata: y\n\n",
        b"data: x\r\n\r\n",
        b"data: x\ry\n\n",
        b"event: b\ndata: x\n\n",
        b": comment\n\n",
        b"\n",
        b"data:x\n\n",
        b"data: x\n",
        b"data: x",
        b"data: \xff\xe2\x80\xa8\n\n",
    ],
)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_events_that_came_together_are_read_like_any(name: bytes, odd: bytes, place: int) -> None:
    event = name + b"data: x\n\n"
    events = [event, event]
    events.insert(place, odd if odd.startswith(b"event") else name + odd)
    chunk = b"".join(events)
    parser = SseParser()
    found = parser.feed(event) + parser.feed(event) + parser.feed(chunk)
    last = parser.end()
    slow = parse(event + event + chunk, 1)
    assert [*found, *([last] if last else ())] == slow


def test_cap_holds_for_events_that_came_together() -> None:
    parser = SseParser(max_event_bytes=100)
    parser.feed(b"data: x\n\n")
    small, large = b"data: " + b"x" * 90 + b"\n\n", b"data: " + b"x" * 101 + b"\n\n"
    assert len(parser.feed(small + small)) == 2
    assert len(parser.feed(small + large + small)) == 1
    assert parser.is_too_large


def test_memoryview_is_taken() -> None:
    assert SseParser().feed(memoryview(b"data: a\n\n")) == [("", b"a")]


def test_largest_event_passes_and_one_byte_more_does_not() -> None:
    largest = b"data: " + b"x" * (MAX_EVENT_BYTES - 6)
    for sizes in ((), (65_536,), (65_537,)):
        assert parse(largest + b"\n\n", *sizes) == [("", largest[6:])]
        parser = SseParser()
        body = b"data: a\n\n" + largest + b"x\n\ndata: b\n\n"
        step = sizes[0] if sizes else len(body)
        events = [e for at in range(0, len(body), step) for e in parser.feed(body[at : at + step])]
        assert events == [("", b"a")], "what came before is kept, what comes after is not"
        assert parser.is_too_large
        assert parser.end() is None
        assert parser.held_bytes == 0


@pytest.mark.parametrize(
    "piece",
    [b"x" * 64, b"data: x\n", b"data:\n", b"data: " + b"y" * 100 + b"\r", b"event: z\n" * 3],
    ids=["line", "short lines", "empty lines", "long lines", "names"],
)
def test_memory_is_bounded_without_a_blank_line(piece: bytes) -> None:
    parser = SseParser(max_event_bytes=1000)
    for _ in range(3000):
        parser.feed(piece)
        assert parser.held_bytes <= 1000
    assert parser.is_too_large or piece.startswith(b"event")


@pytest.mark.parametrize("head", [b"data: ", b"event: e\ndata: "])
def test_cap_holds_for_an_event_alone_in_its_chunk(head: bytes) -> None:
    for size, is_taken in ((900, True), (1000, False)):
        parser = SseParser(max_event_bytes=1000)
        parser.feed(b"data: begins\n\n")
        assert bool(parser.feed(head + b"x" * size + b"\n\n")) == is_taken
        assert parser.is_too_large != is_taken


def test_comments_without_end_are_not_kept() -> None:
    parser = SseParser(max_event_bytes=1000)
    for _ in range(10_000):
        assert parser.feed(b": keep-alive\n") == []
    assert not parser.is_too_large
    assert parser.feed(b"data: a\n\n") == [("", b"a")]


class CountingBuffer(bytearray):
    """Counts the bytes that pass through it."""

    touched = 0

    def __iadd__(self, other: object) -> CountingBuffer:
        assert isinstance(other, bytes | bytearray)
        CountingBuffer.touched += len(other)
        self.extend(other)
        return self

    def __bytes__(self) -> bytes:
        CountingBuffer.touched += len(self)
        return bytes(memoryview(self))

    def find(self, *args: object) -> int:
        raise AssertionError("what is kept is searched again")


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_work_is_linear_whatever_the_cuts(size: int) -> None:
    def work(length: int) -> int:
        parser = SseParser()
        parser._line, parser._data = CountingBuffer(), CountingBuffer()
        CountingBuffer.touched = 0
        body = b"data: " + b"x" * length + b"\n\n"
        for at in range(0, len(body), size):
            parser.feed(body[at : at + size])
        return CountingBuffer.touched

    assert work(40_000) <= 4.1 * work(10_000)
    assert work(40_000) <= 5 * 40_000, "each byte is kept, joined and handed out, no more"


LINES = st.sampled_from(
    [b"data: a", b"data:{}", b"data", b": c", b"event: e", b"id: 1", b"", b"", b"x", b"\xc3\xa9"]
)
ENDS = st.sampled_from([b"\n", b"\r", b"\r\n"])


@given(
    lines=st.lists(st.tuples(LINES, ENDS), max_size=20),
    tail=st.binary(max_size=8),
    cuts=st.lists(st.integers(1, 9), max_size=40),
)
@settings(max_examples=300, deadline=None)
def test_any_cut_gives_the_same_events(
    lines: list[tuple[bytes, bytes]], tail: bytes, cuts: list[int]
) -> None:
    body = b"".join(line + end for line, end in lines) + tail
    assert parse(body, *cuts, 1) == parse(body)


@given(body=st.binary(max_size=400), cuts=st.lists(st.integers(1, 50), max_size=10))
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_taken(body: bytes, cuts: list[int]) -> None:
    assert parse(body, *cuts, 3) == parse(body)


@pytest.mark.parametrize("data", [b"{}", b"a\nb", b"\n", b"a\n\nb\n", " é\u2028".encode()])
@pytest.mark.parametrize("name", ["", "error"])
def test_what_is_encoded_is_parsed_again(data: bytes, name: str) -> None:
    assert parse(encode_event(data, name)) == [(name, data)]


def test_encoded_bytes() -> None:
    assert encode_event(b"{}") == b"data: {}\n\n"
    assert encode_event(b"{}", "error") == b"event: error\ndata: {}\n\n"
    assert encode_event(b"a\r\nb\rc") == b"data: a\ndata: b\ndata: c\n\n"
    assert encode_comment("wait\nnow") == b": wait now\n\n"
    assert parse(encode_comment()) == []
