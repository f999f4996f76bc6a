"""The one event that matters for cost: a piece of the answer's text.

The same lane as `openai_hot_chunk`: a typed decode that takes exactly such events; everything that
is not listed here with a harmless type (another kind, log probabilities, an error) fails validation
and goes the general way, so this lane cannot lose anything.
"""

from __future__ import annotations

from typing import Final

import msgspec

NAME: Final = "response.output_text.delta"
"""The event's name, by which the lane is chosen."""


class HotEvent(
    msgspec.Struct,
    forbid_unknown_fields=True,
    gc=False,
    tag_field="type",
    tag="response.output_text.delta",
):
    """A piece of text and its place."""

    delta: str
    output_index: int = 0
    content_index: int = 0
    item_id: str = ""
    sequence_number: int = 0
    obfuscation: str = ""
    logprobs: tuple[()] | None = None


decode: Final = msgspec.json.Decoder(HotEvent).decode
"""Raises msgspec.DecodeError or UnicodeDecodeError for any other event."""
