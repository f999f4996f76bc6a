"""Bedrock's stream of a model's own events: unpacks `chunk` frames.

Each holds `{"bytes": base64 of one event's JSON}`, and padding (`p`) against who counts bytes.
The face is that of `relay.sse.SseParser`; events have no name, as if they had come server-sent
without one, failures keep theirs (`aws_event_stream.ERROR_MARK`), other frames are passed over.

Source: botocore 1.44 (`ResponseStream`) and the decoder of Anthropic's client (2.14).
"""

from __future__ import annotations

from typing import Final

import msgspec

from relay.codecs.aws_event_stream import ERROR_MARK, AwsEventParser
from relay.sse import SseEvent


class Chunk(msgspec.Struct, gc=False):
    """The payload of a frame; base64 is decoded with it."""

    data: bytes = msgspec.field(name="bytes")


_decode: Final = msgspec.json.Decoder(Chunk).decode


class BedrockChunkParser:
    """Turns the bytes of one stream into the model's events."""

    __slots__ = ("_frames", "is_broken", "is_too_large")

    def __init__(self) -> None:
        self._frames = AwsEventParser()
        self.is_too_large = False
        """See `AwsEventParser`."""
        self.is_broken = False
        """A frame breaks the format, or what is in it does."""

    def feed(self, chunk: bytes | memoryview) -> list[SseEvent]:
        """The events that these bytes complete, in order."""
        events: list[SseEvent] = []
        if self.is_broken:
            return events
        frames = self._frames
        for name, payload in frames.feed(chunk):
            if name == "chunk":
                try:
                    data = _decode(payload).data
                except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                    self.is_broken = True
                    return events
                if data:
                    events.append(("", data))
            elif name.startswith(ERROR_MARK):
                events.append((name, payload))
        self.is_broken = frames.is_broken
        self.is_too_large = frames.is_too_large
        return events

    def end(self) -> SseEvent | None:
        """The stream is over; a frame that is not whole can never be read."""
        return None

    @property
    def held_bytes(self) -> int:
        """Bytes kept for a frame that is not complete yet."""
        return self._frames.held_bytes
