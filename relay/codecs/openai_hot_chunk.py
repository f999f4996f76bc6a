"""The one chunk that matters for cost: nothing but a piece of text for one choice.

A typed decode that takes exactly such chunks and refuses every other is cheaper than building
dicts and asking them: everything that is not listed here with a harmless type (another field, a
finish reason, usage, an error) fails validation and goes the general way, so this lane cannot
lose anything. Measured on 2026 hardware for a chunk of 300 bytes, whole `feed`: 2.4 us with it,
3.8 us without, `orjson.loads` alone 1.1 us; a refusal costs 1.3 us, which is why a stream that
keeps being refused stops trying.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec


class HotDelta(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A delta with text and nothing else; what hosts repeat beside it must be null."""

    content: str
    role: str | None = None
    reasoning_content: None = None
    reasoning: None = None
    refusal: None = None
    tool_calls: None = None


class HotChoice(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A choice that goes on."""

    delta: HotDelta
    index: int = 0
    finish_reason: None = None
    native_finish_reason: None = None
    logprobs: None = None
    content_filter_results: Any = None  # Azure; not passed on


class HotChunk(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A chunk with one choice; the rest has been said by the first chunk."""

    choices: tuple[HotChoice]
    id: str = ""
    object: str = ""
    created: int = 0
    model: str = ""
    provider: str = ""
    service_tier: str | None = None
    system_fingerprint: str | None = None
    obfuscation: str = ""
    p: str = ""  # Mistral's padding
    usage: None = None
    error: None = None


MAX_MISSES: Final = 4
"""Refusals in a row after which a stream is read the general way only."""

decode: Final = msgspec.json.Decoder(HotChunk).decode
"""Raises msgspec.DecodeError or UnicodeDecodeError for any other chunk."""


TEXT_MARKS: Final = (b'"content":"', b'"content": "')
"""What stands before the text, opening quote included; see `text_lane`."""


def read_apart(data: bytes) -> tuple[str, HotChunk]:
    """The text of a chunk, and the chunk without it.

    Raises:
        msgspec.DecodeError, UnicodeDecodeError: it is another chunk.
    """
    chunk = decode(data)
    delta = chunk.choices[0].delta
    text, delta.content = delta.content, ""
    return text, chunk
