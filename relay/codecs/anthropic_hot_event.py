"""The one event that matters for cost: a piece of text, and nothing else.

As `openai_hot_chunk`: a typed decode takes exactly such events and refuses every other, which
then goes the general way, so this lane cannot lose anything. It is tried inside blocks of text.
"""

from __future__ import annotations

from typing import Final

import msgspec


class HotDelta(
    msgspec.Struct, forbid_unknown_fields=True, gc=False, tag_field="type", tag="text_delta"
):
    """`{"type": "text_delta", "text": ...}`."""

    text: str


class HotEvent(
    msgspec.Struct,
    forbid_unknown_fields=True,
    gc=False,
    tag_field="type",
    tag="content_block_delta",
):
    """A delta of one block of text."""

    delta: HotDelta
    index: int


MAX_MISSES: Final = 4
"""Refusals in a row after which a stream is read the general way only."""

decode_text_event: Final = msgspec.json.Decoder(HotEvent).decode
"""Raises msgspec.DecodeError or UnicodeDecodeError for any other event."""


TEXT_MARKS: Final = (b'"text":"', b'"text": "')
"""What stands before the text, opening quote included; see `text_lane`."""


def read_apart(data: bytes) -> tuple[str, HotEvent]:
    """The text of an event, and the event without it.

    Raises:
        msgspec.DecodeError, UnicodeDecodeError: it is another event.
    """
    event = decode_text_event(data)
    text, event.delta.text = event.delta.text, ""
    return text, event
