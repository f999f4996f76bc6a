"""AWS event streams (`application/vnd.amazon.eventstream`): frames out of bytes, however cut.

A frame is `total length, length of headers, crc32 of these eight bytes; headers; payload; crc32 of
all before`, each number of 32 bits, big-endian. Of the headers only those that say what a frame is
are of interest: `:message-type` (`event`, `exception`, `error`), `:event-type`,
`:exception-type`, `:error-code` and `:error-message`. They are the same bytes in every frame of one
kind, so a block of headers is read once and known again: what a frame costs is two checksums and
one look into a dictionary. What is kept between two chunks is one unfinished frame, which is looked
at when it is as long as it says.

The face is that of `relay.sse.SseParser`: a frame is an event with a name and data. A frame that
reports a failure has a name that begins with `ERROR_MARK`. A broken frame is the end of everything,
after the whole ones before it, and `is_broken` is then set: checksums are there to be believed.

Source: botocore 1.44 (`eventstream.py`), whose decoder the tests compare with.
"""

from __future__ import annotations

import struct
from typing import Final
from zlib import crc32

import orjson

from relay.sse import MAX_EVENT_BYTES, SseEvent

ERROR_MARK: Final = ":"
"""What the name of a frame begins with that reports a failure: `:throttlingException`. Its data is
the payload, or for frames of type `error` a JSON object with the `message` of their headers."""

_PRELUDE: Final = struct.Struct("!III")
_PRELUDE_BYTES: Final = 12
_LEAST_BYTES: Final = 16
"""Of a frame: its prelude and its checksum."""

_MAX_KNOWN: Final = 32
"""Blocks of headers known again; only keeps a mad peer from filling memory."""

# Types of a header's value, with the bytes that those of one length take.
_BYTES: Final = 6
_STRING: Final = 7
_FIXED_BYTES: Final = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}


class AwsEventParser:
    """Turns the bytes of one event stream into events.

    Args:
        max_event_bytes: cap for one frame.
    """

    __slots__ = ("_held", "_known", "_max_event_bytes", "_needed", "is_broken", "is_too_large")

    def __init__(self, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._max_event_bytes = max_event_bytes
        self._held = bytearray()  # an unfinished frame
        self._needed = 0  # how long it must be before it is looked at
        self._known: dict[bytes, str] = {}  # names by their headers
        self.is_too_large = False
        """A frame is over the cap; everything from there on is dropped."""
        self.is_broken = False
        """A frame breaks the format; everything from there on is dropped."""

    def feed(self, chunk: bytes | memoryview) -> list[SseEvent]:
        """The events that these bytes complete, in order."""
        if self.is_broken or self.is_too_large:
            return []
        if self._held:
            self._held += chunk
            if len(self._held) < self._needed:
                return []
            chunk = bytes(self._held)
            self._held.clear()
        elif type(chunk) is not bytes:
            chunk = bytes(chunk)
        events: list[SseEvent] = []
        at, size = 0, len(chunk)
        while size - at >= _PRELUDE_BYTES:
            total, headers_bytes, expected = _PRELUDE.unpack_from(chunk, at)
            checksum = crc32(chunk[at : at + 8])
            if checksum != expected or not headers_bytes <= total - _LEAST_BYTES:
                self.is_broken = True
                return events
            if total > self._max_event_bytes:
                self.is_too_large = True
                return events
            end = at + total
            if end > size:
                self._needed = total
                self._held += chunk[at:]
                return events
            checksum = crc32(chunk[at + 8 : end - 4], checksum)
            if checksum.to_bytes(4) != chunk[end - 4 : end]:
                self.is_broken = True
                return events
            payload_at = at + _PRELUDE_BYTES + headers_bytes
            headers = chunk[at + _PRELUDE_BYTES : payload_at]
            if (name := self._known.get(headers)) is not None:
                events.append((name, chunk[payload_at : end - 4]))
            elif (event := self._unknown(headers, chunk[payload_at : end - 4])) is not None:
                events.append(event)
            else:
                self.is_broken = True
                return events
            at = end
        if at < size:
            self._needed = _PRELUDE_BYTES
            self._held += chunk[at:]
        return events

    def end(self) -> SseEvent | None:
        """The stream is over; a frame that is not whole can never be read."""
        return None

    @property
    def held_bytes(self) -> int:
        """Bytes kept for a frame that is not complete yet."""
        return len(self._held)

    def _unknown(self, block: bytes, payload: bytes) -> SseEvent | None:
        """A frame whose headers are new; None if they break the format."""
        try:
            headers = read_headers(block)
        except ValueError:
            return None
        match headers.get(":message-type"):
            case "error":
                message = orjson.dumps({"message": headers.get(":error-message", "")})
                return f"{ERROR_MARK}{headers.get(':error-code', '')}", message
            case "exception":
                name = f"{ERROR_MARK}{headers.get(':exception-type', '')}"
            case _:
                name = headers.get(":event-type", "").lstrip(ERROR_MARK)
        if len(self._known) < _MAX_KNOWN:
            self._known[block] = name
        return name, payload


def read_headers(block: bytes) -> dict[str, str]:
    """The headers of a frame whose values are text; others are passed over.

    Raises:
        ValueError: the block breaks the format, or names a header twice.
    """
    found: dict[str, str] = {}
    names: set[str] = set()
    at, size = 0, len(block)
    while at < size:
        name_end = at + 1 + block[at]
        name = block[at + 1 : name_end].decode()
        if name_end >= size or name in names:
            raise ValueError("a header is cut, or there twice")
        names.add(name)
        kind = block[name_end]
        at = name_end + 1
        if kind in (_BYTES, _STRING):
            value_at = at + 2
            at = value_at + int.from_bytes(block[at:value_at])
            if value_at > size or at > size:
                raise ValueError("a header is cut")
            if kind == _STRING:
                found[name] = block[value_at:at].decode()
        elif (length := _FIXED_BYTES.get(kind)) is not None:
            at += length
            if at > size:
                raise ValueError("a header is cut")
        else:
            raise ValueError("a header of an unknown type")
    return found
