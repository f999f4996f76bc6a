"""The one event that matters for cost: a piece of text, and nothing else.

As `openai_hot_chunk`: a typed decode takes exactly such events and refuses every other, which then
goes the general way, so this lane cannot lose anything. It is tried after a piece of text.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec


class HotDelta(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """`{"text": ...}`."""

    text: str


class HotEvent(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A piece of one block, with the padding that stands in each."""

    delta: HotDelta
    block_index: Annotated[int, msgspec.Meta(ge=0, lt=1 << 31)] = msgspec.field(
        name="contentBlockIndex"
    )
    p: str = ""


NAME: Final = "contentBlockDelta"

MAX_MISSES: Final = 4
"""Refusals in a row after which a stream is read the general way only."""

decode: Final = msgspec.json.Decoder(HotEvent).decode
"""Raises msgspec.DecodeError or UnicodeDecodeError for any other event."""
