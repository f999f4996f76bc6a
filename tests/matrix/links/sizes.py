"""Events that are large, and too large (row U16)."""

from __future__ import annotations

import resource

import pytest

from relay.sse import MAX_EVENT_BYTES, SseParser
from tests.fakes.h2_server import Script, ServerStream, stream_chunks
from tests.matrix.links.telling import answered_by_spare, broke_off, comes_true, reasons
from tests.matrix.row import Part, Row, Stage
from tests.matrix.world import CHAT, WHOLE_MICRO, whole_answer, word, world

LINE_BYTES = 50 << 20
TAKEN_BYTES = 3 * MAX_EVENT_BYTES
"""Of such a line: the cap, and what windows and buffers hold."""


async def large_token(stage: Stage) -> None:
    """As large as the cap allows, or somewhat less; of characters of one to four bytes."""
    letter = stage.draw.choice(("x", "\u00e4", "\u4f60", "\U0001f600"))
    frame_bytes = len(word(""))
    room_bytes = MAX_EVENT_BYTES - frame_bytes - stage.draw.choice((0, 7, 100_000))
    text = letter * (room_bytes // len(letter.encode()))
    cut_at = sorted(stage.draw.sample(range(1, room_bytes), stage.draw.randint(0, 5)))
    event = word(text)
    pieces = [event[a:b] for a, b in zip([0, *cut_at], [*cut_at, len(event)], strict=True)]
    begin, *end = whole_answer()
    async with world(stage) as here:
        here.lab.routes[CHAT] = stream_chunks([begin, *pieces, *end])
        reply = await here.ask(here.face())
        assert reply.is_clean, reply.reason
        assert reply.text == text, "not byte for byte"
        (booked,) = await here.booked(1)
        assert (booked.state, booked.cost_micro) == ("settled", WHOLE_MICRO)


def endless_line(*first: bytes) -> Script:
    async def script(stream: ServerStream) -> None:
        await stream.send_headers()
        for part in first:
            await stream.send(part)
        await stream.send(b"data: ")
        for _ in range(LINE_BYTES // 65_536):
            await stream.send(b"x" * 65_536)
        await stream.end()

    return script


async def endless_line_after_some_words(stage: Stage) -> None:
    words = ["One"] * stage.draw.randint(1, 3)
    async with world(stage) as here:
        here.lab.routes[CHAT] = endless_line(*map(word, words))
        face = here.face()
        before_bytes = peak_bytes()
        reply = await here.ask(face)
        broke_off(reply, face, "".join(words), "UPSTREAM_EVENT_TOO_LARGE", 502)
        (stream,) = here.lab.requests(CHAT)
        assert await comes_true(lambda: stream.reset_code is not None), "it is still read"
        assert stream.sent_bytes < TAKEN_BYTES
        assert peak_bytes() - before_bytes < 20 * MAX_EVENT_BYTES
        (booked,) = await here.booked(1)
        assert booked.state == "estimated"
        assert booked.asked == ["lab"], "never sent again"
        assert not here.spare.requests(CHAT)


async def endless_line_at_once(stage: Stage) -> None:
    async with world(stage) as here:
        here.lab.routes[CHAT] = endless_line()
        answered_by_spare(await here.ask(here.face(), "pair"))
        (stream,) = here.lab.requests(CHAT)
        assert stream.sent_bytes < TAKEN_BYTES
        (booked,) = await here.booked(1)
        assert booked.asked == ["lab", "spare"]
        assert reasons(booked) == ["UPSTREAM_EVENT_TOO_LARGE", ""]


def peak_bytes() -> int:
    """Of memory, of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def events_have_no_cap(patch: pytest.MonkeyPatch) -> None:
    """The cap of one event."""
    given = SseParser.__init__
    patch.setattr(SseParser, "__init__", lambda self, _=0: given(self, LINE_BYTES * 2))


def cap_is_lower(patch: pytest.MonkeyPatch) -> None:
    """Nine tenths of the cap of one event."""
    given = SseParser.__init__
    patch.setattr(SseParser, "__init__", lambda self, _=0: given(self, MAX_EVENT_BYTES // 10))


ROWS = {
    "U16": Row(
        "U16",
        inject="a token of up to 1 MiB, cut anywhere; a line of 50 MB without an end",
        client="up to the cap of an event (1 MiB) byte for byte; above `UPSTREAM_EVENT_TOO_LARGE`, "
        "502, or another provider's answer where nothing had been released",
        accounting="settled; above estimated",
        retry="not after the first content; the stream is reset, and no more than the cap is kept",
        parts=(
            Part("large_token", large_token, cap_is_lower),
            Part("endless_line", endless_line_after_some_words, events_have_no_cap),
            Part("endless_line_first", endless_line_at_once, events_have_no_cap),
        ),
        also=("tests/integration/test_adversity.py::test_huge_token_passes_as_it_is",),
    ),
}
