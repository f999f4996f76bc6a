"""Answers whose bytes are cut, marked or broken as texts."""

from __future__ import annotations

import random
import re

import orjson
import pytest

from relay.codecs import lenient_json
from relay.codecs.ndjson import NdjsonParser
from relay.sse import SseParser
from tests.matrix.bodies.wires import EVENT_STREAMS, on, path, sends, spoken
from tests.matrix.row import Part, Row, Stage
from tests.matrix.world import WHOLE_MICRO, world
from tests.surfaces.wires import WIRES

WORDS = ("Zürich", " 北京", " 🚆", " naïve", " \u2028\u0085", " e\u0301", " plain", "\ufeff")
LINE_ENDS = (b"\n", b"\r\n", b"\r")
NO_UTF8 = (b"\xff", b"\xc3", b"\xe5\x8c", b"\xf0\x9f\x9a", b"\xed\xa0\x80", b"\xc0\xaf")
"""Cut sequences, a half of a pair, an overlong slash, what is no beginning."""
HALF_PAIRS = (b"\\ud83d", b"\\ude86", b"\\udc00\\ud800")


def in_pieces(data: bytes, draw: random.Random) -> list[bytes]:
    """Cut anywhere, inside letters too."""
    pieces: list[bytes] = []
    while data:
        size = draw.choice((1, 1, 2, 3, 5, 40, 400))
        pieces.append(data[:size])
        data = data[size:]
    return pieces


def with_ends_mixed(event: bytes, draw: random.Random) -> bytes:
    """An event of server-sent events with other line ends: one kind inside it, since the CR of a
    line and the LF of the next would be one end."""
    return draw.choice(LINE_ENDS).join(re.split(rb"\r\n|\n", event))


async def letters_in_pieces(stage: Stage) -> None:
    draw = stage.draw
    wire = draw.choice(WIRES)
    words = [draw.choice(WORDS) for _ in range(draw.randint(3, 6))]
    parts = spoken(wire, *words).parts
    if wire in EVENT_STREAMS:
        parts = [with_ends_mixed(part, draw) for part in parts]
        parts[0] = draw.choice((b"", b"\xef\xbb\xbf")) + parts[0]
    async with world(stage, on(wire)) as here:
        here.lab.routes[path(wire)] = sends(wire, in_pieces(b"".join(parts), draw))
        reply = await here.ask(here.face(), "alone")
        assert reply.is_clean, reply
        assert reply.text == "".join(words)
        (booked,) = await here.booked(1)
        assert (booked.state, booked.cost_micro) == ("settled", WHOLE_MICRO)


async def no_letters(stage: Stage) -> None:
    draw = stage.draw
    wire = draw.choice(WIRES)
    broken = draw.choice((*NO_UTF8, *HALF_PAIRS))
    said = spoken(wire, "One", " t@o", " three")
    token = said.tokens[1].replace(b"@", broken)
    parts = [said.opening, said.tokens[0], token, *said.tokens[2:], *said.ending]
    seen: list[object] = []
    async with world(stage, on(wire)) as here:
        here.relay.worker.services.on_ended.append(seen.append)
        here.lab.routes[path(wire)] = sends(wire, [part for part in parts if part])
        reply = await here.ask(here.face(), "alone")
        assert reply.is_clean, reply
        assert re.fullmatch("One t\ufffd{1,3}o three", reply.text), reply.text
        (booked,) = await here.booked(1)
        assert (booked.state, booked.cost_micro) == ("settled", WHOLE_MICRO)
        (ended,) = seen
        assert ended.end.attempts[0].mended_events == 1, "it is counted"  # type: ignore[attr-defined]


def pieces_are_forgotten(patch: pytest.MonkeyPatch) -> None:
    """What is kept of a line that is not whole yet"""
    for parser in (SseParser, NdjsonParser):
        feed = parser.feed

        def forgets(self, chunk, feed=feed):  # type: ignore[no-untyped-def]
            events = feed(self, chunk)
            self._line.clear()
            return events

        patch.setattr(parser, "feed", forgets)


def only_unicode_is_read(patch: pytest.MonkeyPatch) -> None:
    """The mending of what is no Unicode"""

    def strict(data: bytes) -> tuple[object, bool]:
        return orjson.loads(data), False

    patch.setattr(lenient_json, "read", strict)


ROWS = (
    Row(
        "U17",
        inject="invalid UTF-8; letters split over chunks; a byte order mark; CRLF, LF and CR mixed",
        client="what was split is joined; what is no Unicode becomes U+FFFD, the answer goes on",
        accounting="settled",
        retry="nothing; what was replaced is counted",
        parts=(
            Part("split", letters_in_pieces, pieces_are_forgotten),
            Part("no_unicode", no_letters, only_unicode_is_read),
        ),
        also=(
            "tests/test_sse.py",
            "tests/codecs/test_lenient_json.py",
        ),
    ),
)
