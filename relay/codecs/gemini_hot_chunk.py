"""The one chunk that matters for cost: a piece of text, or of thought, for one candidate.

As `openai_hot_chunk`: a typed decode that takes exactly such chunks and refuses every other, so
that this lane cannot lose anything. The counts that come with each chunk stay JSON text until
they have changed.
"""

from __future__ import annotations

from typing import Final

import msgspec


class HotPart(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """Text and nothing else."""

    text: str
    thought: bool = False


class HotContent(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """One part."""

    parts: tuple[HotPart]
    role: str = ""


class HotCandidate(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A candidate that goes on."""

    content: HotContent
    index: int = 0


class HotChunk(msgspec.Struct, forbid_unknown_fields=True, rename="camel", gc=False):
    """A chunk with one candidate; the rest has been said by the first chunk."""

    candidates: tuple[HotCandidate]
    usage_metadata: msgspec.Raw = msgspec.Raw(b"")
    model_version: str = ""
    create_time: str = ""
    response_id: str = ""


MAX_MISSES: Final = 4
"""Refusals in a row after which a stream is read the general way only."""

decode: Final = msgspec.json.Decoder(HotChunk).decode
"""Raises msgspec.DecodeError or UnicodeDecodeError for any other chunk."""
