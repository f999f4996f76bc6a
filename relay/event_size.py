"""How much an event holds while it waits to be sent."""

from __future__ import annotations

from msgspec.structs import astuple

from relay.content import StreamEvent, TextDelta
from relay.tokens import count_bytes

HEAD_BYTES = 64
"""What an event other than text is counted with beside its content: tags, ids, the object."""


def held_bytes(event: StreamEvent) -> int:
    """How much a pending event holds, in bytes of UTF-8 and of its object; plain text by itself."""
    if type(event) is TextDelta:
        return count_bytes(event.text)
    held = HEAD_BYTES
    for value in astuple(event):
        if isinstance(value, str):
            held += count_bytes(value)
        elif isinstance(value, bytes):
            held += len(value)
    return held
