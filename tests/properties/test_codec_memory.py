"""What a codec holds of an answer is bounded, whatever a provider sends and never ends (T6).

Each story is a beginning and a piece that is sent over and over, beyond any cap. Events are
let go as soon as they come, as the relay lets them go to a client that reads.
"""

from __future__ import annotations

import gc
import itertools
import tracemalloc
from collections.abc import Iterator
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.codecs.gemini import MAX_ANSWER_BYTES
from relay.codecs.registry import BUILDERS
from relay.content import ProviderFailed
from relay.sse import MAX_EVENT_BYTES
from tests.codecs.aws_frames import frame
from tests.fakes.properties import examples

CAPS: Final = {"gemini": MAX_ANSWER_BYTES}
"""Of one event, where it is not `MAX_EVENT_BYTES`."""
SPARE_BYTES: Final = 2 << 20
"""Of Python around what is held, and of a window that is being read."""
FEW_BYTES: Final = 512 << 10
"""Of stories whose events are small: what is held of one shows soon, and each takes its time."""

DELTA: Final = b'{"index":0,"delta":{"content":"abc"}}'
STORIES: Final[dict[str, tuple[bytes, bytes]]] = {
    "a line without an end": (b"data: ", b"x" * 4096),
    "comments": (b"", b": " + b"x" * 2046 + b"\n"),
    "blank lines": (b"", b"\n" * 4096),
    "a name without an end": (b"event: ", b"x" * 4096),
    "data lines without an event": (b"", b"data: " + b"x" * 2000 + b"\n"),
    "spaces": (b"", b" " * 4096),
    "an object without an end": (b'{"a":[', b"1," * 2048),
    "a text without an end": (b'[{"a":"', b"y" * 4096),
    "brackets": (b"", b"[" * 4096),
    "chunks of one choice": (b"", b'data: {"choices":[' + DELTA + b"]}\n\n"),
    "choices without end": (b"", b'data: {"choices":[{"index":7,"delta":{"content":"a"}}]}\n\n'),
    "Claude's blocks": (
        b'data: {"type":"message_start","message":{"id":"m","model":"x","usage":{}}}\n\n',
        b'data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}'
        b'\n\ndata: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta",'
        b'"text":"abcdefgh"}}\n\n',
    ),
    "a call's arguments": (
        b'data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"c","function":'
        b'{"name":"f","arguments":""}}]}}]}\n\n',
        b'data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":'
        b'{"arguments":"' + b"z" * 2000 + b'"}}]}}]}\n\n',
    ),
    "Gemini's parts": (
        b"",
        b'data: {"candidates":[{"content":{"parts":[{"text":"' + b"g" * 500 + b'"}]}}]}\n\n',
    ),
    "Ollama's lines": (b"", b'{"message":{"content":"' + b"o" * 500 + b'"},"done":false}\n'),
    "Responses' deltas": (
        b"",
        b'data: {"type":"response.output_text.delta","output_index":0,"content_index":0,'
        b'"item_id":"m","delta":"' + b"r" * 500 + b'"}\n\n',
    ),
    "frames": (
        frame(":event-type", b'{"role":"assistant"}', "messageStart"),
        frame(
            ":event-type",
            b'{"contentBlockIndex":0,"delta":{"text":"' + b"c" * 500 + b'"}}',
            "contentBlockDelta",
        ),
    ),
    "a frame that is long": (b"\x7f\xff\xff\xff\x00\x00\x00\x10", b"\x00" * 4096),
}


def cap_of(wire: str) -> int:
    return CAPS.get(wire, MAX_EVENT_BYTES)


def pieces(wire: str, story: str, size: int) -> Iterator[bytes]:
    """The story in pieces of about so many bytes: over the wire's cap, or many small events."""
    begin, again = STORIES[story]
    yield begin
    made = again * max(1, size // len(again))
    is_many = 16 < len(again) < 1500
    whole = FEW_BYTES if is_many else cap_of(wire) + 3 * SPARE_BYTES
    yield from itertools.repeat(made, whole // len(made))


def held_bytes(wire: str, story: str, status: int, size: int) -> int:
    """The most that was held between two pieces, beyond what was before."""
    codec = BUILDERS[wire]({}, "p")()
    codec.decode_headers(status, [("content-type", "text/event-stream")])
    gc.collect()
    tracemalloc.start()
    try:
        before, most = tracemalloc.get_traced_memory()[0], 0
        for piece in pieces(wire, story, size):
            events = codec.feed(piece)
            has_failed = bool(events) and isinstance(events[-1], ProviderFailed)
            del events
            most = max(most, tracemalloc.get_traced_memory()[0] - before)
            if has_failed:
                break
        return most
    finally:
        tracemalloc.stop()


@pytest.mark.timeout(600)
@examples(25, full=1000)
@given(
    wire=st.sampled_from(sorted(BUILDERS)),
    story=st.sampled_from(sorted(STORIES)),
    status=st.sampled_from([200, 200, 500]),
    size=st.sampled_from([4096, 65_536]),
)
def test_whatever_never_ends_is_held_to_a_bound(
    wire: str, story: str, status: int, size: int
) -> None:
    held = held_bytes(wire, story, status, size)
    assert held <= cap_of(wire) + SPARE_BYTES, f"{wire} holds {held} bytes of {story}"
