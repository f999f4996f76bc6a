"""A whole answer as it is kept: what a provider sent, and how it is written down.

Written as MessagePack behind a version byte. Whatever is not exactly that (another version, an
event that is not known, a byte too few) is no answer: `decode` says None, and the request is
answered anew.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec

from relay.content import (
    ChoiceFinished,
    Embeddings,
    OpaqueDelta,
    ReasoningDelta,
    ResponseInfo,
    TextDelta,
    ToolArgumentsDelta,
    ToolCallDone,
    ToolCallStart,
    Usage,
)
from relay.decision import CacheVerdict

VERSION: Final = 1
"""Of the form; it changes with the fields of an event. Another one is read by nobody."""
_HEAD: Final = bytes([VERSION])

Kept = (
    ResponseInfo
    | TextDelta
    | ReasoningDelta
    | ToolCallStart
    | ToolArgumentsDelta
    | ToolCallDone
    | OpaqueDelta
    | Embeddings
    | ChoiceFinished
    | Usage
)
"""The events that an answer may have and be kept; any other is a reason not to."""


class Batch(msgspec.Struct, frozen=True, array_like=True):
    """What came at once."""

    gap_us: int
    """Since the batch before it; 0 for the first, and where gaps are not kept."""
    events: list[Kept]


class Stored(msgspec.Struct, frozen=True, array_like=True):
    """One answer, from its first event to its clean end."""

    provider: str
    """The row that answered."""
    model: str
    """As the provider calls it."""
    made_s: float
    """When it ended, seconds since 1970."""
    cost_micro: int | None
    """Micro-dollars, estimated; None where no price is known."""
    batches: list[Batch]
    """At least one, none of them empty; their events in the order they came."""

    def age_s(self, wall_s: float) -> float:
        """At a moment of the wall clock; never negative, whatever was done to that."""
        return max(0.0, wall_s - self.made_s)

    def encode(self) -> bytes:
        """See the module."""
        return _HEAD + _ENCODER.encode(self)

    @classmethod
    def decode(cls, written: bytes) -> Stored | None:
        """The answer; None where these bytes are none of this version."""
        if written[:1] != _HEAD:
            return None
        try:
            found = _DECODER.decode(memoryview(written)[1:])
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None
        return found if found.batches and all(batch.events for batch in found.batches) else None


class Given(NamedTuple):
    """A kept answer, and how it was come by: what a decision says of it."""

    stored: Stored
    verdict: CacheVerdict
    similarity: float | None = None
    """Of one to another request that means the same."""


_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(Stored)
