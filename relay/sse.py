"""Server-sent events as text: an incremental parser, and encoders for our own surfaces.

Strategy: bytes in, events out, no vendor knowledge. Lines end at CR, LF or CRLF and nowhere
else (a JSON string may hold U+2028 or U+0085). Whole lines are used up at once, so what is kept
between two chunks is one unfinished line, which has no line end in it: a new chunk is searched
once and what is kept is never searched again, O(n) in all. Working in bytes makes a cut inside
a UTF-8 sequence harmless; whether data is UTF-8 at all is found, mended and counted where it is
read (`Codec.mended_events`). Complete events with the name of the one before and one `data: ...`
line, which is what providers send, take a path of their own, one alone in its chunk the shortest;
so does one without a name whose lines end in CRLF, as Google's do.

Implements WHATWG HTML section 9.2.6, with two differences: an event whose data is empty is
dropped, and `end` hands out an event that lacks its final blank line, since some servers leave
it out after their last word.
"""

from __future__ import annotations

from typing import Final

SseEvent = tuple[str, bytes]
"""Name (empty for the default, `message`) and data; a plain tuple, being made once per token."""

MAX_EVENT_BYTES: Final = 1 << 20
"""Largest event taken: far above any real chunk, low enough that one peer cannot fill memory."""

_BOM: Final = b"\xef\xbb\xbf"

_FIELDS: Final = b"de"
"""What the lines begin with that mean anything: `data` and `event`."""


class SseParser:
    """Turns the bytes of one event stream into events, however they are cut.

    Args:
        max_event_bytes: cap for the data of one event, and for any single line.
    """

    __slots__ = (
        "_after_cr",
        "_at_start",
        "_data",
        "_head_name",
        "_line",
        "_max_event_bytes",
        "_name",
        "head",
        "is_idle",
        "is_too_large",
    )

    def __init__(self, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._max_event_bytes = max_event_bytes
        self._line = bytearray()  # unfinished line, without any line end
        self._data = bytearray()  # data lines of the open event, each followed by LF
        self._name = b""
        self._after_cr = False  # the last chunk ended in CR: an LF now belongs to it
        self._at_start = True  # a byte order mark may still come
        self.is_idle = False
        """Nothing is kept: the next bytes begin an event."""
        self.head = b"data: "
        """What the next event begins with if it is like the last one."""
        self._head_name = ""
        self.is_too_large = False
        """An event went over the cap; everything from there on is dropped."""

    def feed(self, chunk: bytes | memoryview) -> list[SseEvent]:
        """The events that these bytes complete, in order."""
        if type(chunk) is not bytes:
            chunk = bytes(chunk)
        if self.is_idle and chunk.startswith(self.head):
            begin, end = len(self.head), len(chunk) - 2
            line_end = chunk.find(b"\n", begin)
            if line_end == end and chunk[-1] == 0x0A:
                is_plain = chunk.find(b"\r", begin) < 0
            else:
                end -= 2
                is_plain = (
                    line_end == end + 1
                    and chunk.endswith(b"\r\n\r\n")
                    and chunk.find(b"\r", begin) == end
                )
            if is_plain and end <= self._max_event_bytes:
                return [(self._head_name, chunk[begin:end])] if end > begin else []
            if 0 < line_end < end and (events := self._alike(chunk)) is not None:
                return events
        return self._feed_any(chunk)

    def _alike(self, chunk: bytes) -> list[SseEvent] | None:
        """The events of a chunk that is nothing but whole ones like the last: tokens that came
        together. None for any other chunk."""
        if not chunk.endswith(b"\n\n") or b"\r" in chunk or len(chunk) > self._max_event_bytes:
            return None
        head, name = self.head, self._head_name
        begin = len(head)
        events: list[SseEvent] = []
        for event in chunk[:-2].split(b"\n\n"):
            if not event.startswith(head) or event.find(b"\n", begin) >= 0:
                return None
            if len(event) > begin:
                events.append((name, event[begin:]))
        return events

    def end(self) -> SseEvent | None:
        """The stream is over: the event that still lacks its blank line, if there is one.

        Whether it is whole is for the caller to judge: it may have been cut.
        """
        if self.is_too_large:
            return None
        if self._line:
            line = bytes(self._line)
            self._line.clear()
            self._take_line(line)
        return self._dispatch()

    @property
    def held_bytes(self) -> int:
        """Bytes kept for an event or a line that is not complete yet."""
        return len(self._line) + len(self._data) + len(self._name)

    def _feed_any(self, chunk: bytes) -> list[SseEvent]:
        events: list[SseEvent] = []
        if self.is_too_large or not chunk:
            return events
        if self._at_start:
            chunk = bytes(self._line) + chunk
            self._line.clear()
            if len(chunk) < len(_BOM) and _BOM.startswith(chunk):
                self._line += chunk
                return events
            self._at_start = False
            chunk = chunk.removeprefix(_BOM)
        if self._after_cr and chunk:
            self._after_cr = False
            if chunk[0] == 0x0A:
                chunk = chunk[1:]
        if not chunk:
            self.is_idle = not self._data and not self._name
            return events

        # bytes.splitlines, unlike str.splitlines, knows just CR, LF and CRLF.
        lines = chunk.splitlines()
        last_byte = chunk[-1]
        self._after_cr = last_byte == 0x0D
        rest = b"" if last_byte in (0x0A, 0x0D) else lines.pop()
        if self._line and lines:
            self._line += lines[0]
            lines[0] = bytes(self._line)
            self._line.clear()
        # What the cap leaves at least while this chunk is read: an event grows by no more than it.
        room = self._max_event_bytes - len(self._data) - len(self._name) - 2 * len(chunk)
        for line in lines:
            if not line:
                if (self._data or self._name) and (event := self._dispatch()) is not None:
                    events.append(event)
            # A comment that fits is none of our work: there may be half a million.
            elif (line[0] in _FIELDS or len(line) > room) and not self._take_line(line):
                return events
        self._line += rest
        if self.held_bytes > self._max_event_bytes:
            self._overflow()
            return events
        self.is_idle = not (self._line or self._data or self._name or self._after_cr)
        if events and events[-1][0] != self._head_name:
            self._head_name = name = events[-1][0]
            self.head = b"event: %b\ndata: " % name.encode() if name else b"data: "
        return events

    def _take_line(self, line: bytes) -> bool:
        """Add one field to the open event; False when that goes over the cap."""
        if len(line) + len(self._data) + len(self._name) > self._max_event_bytes:
            self._overflow()
            return False
        field, _, value = line.partition(b":")
        if value.startswith(b" "):
            value = value[1:]
        if field == b"data":
            self._data += value
            self._data += b"\n"
        elif field == b"event":
            self._name = value
        # A comment (empty field), `id`, `retry` and unknown fields mean nothing to a relay.
        return True

    def _dispatch(self) -> SseEvent | None:
        name, self._name = self._name, b""
        if not self._data:
            return None
        del self._data[-1]
        data = bytes(self._data)
        self._data.clear()
        if not data:
            return None
        if not name or name == b"message":
            return ("", data)
        return (name.decode("utf-8", "replace"), data)

    def _overflow(self) -> None:
        self.is_too_large = True
        self.is_idle = False
        self._line.clear()
        self._data.clear()
        self._name = b""


def encode_event(data: bytes, name: str = "") -> bytes:
    """One event as bytes. Data of several lines is split, so that it arrives as it was."""
    if b"\n" in data or b"\r" in data:
        # CRLF and CR arrive as LF: the format cannot tell them apart.
        lines = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        data = b"\ndata: ".join(lines)
    if name:
        return b"event: %b\ndata: %b\n\n" % (name.encode(), data)
    return b"data: %b\n\n" % data


def encode_comment(text: str = "") -> bytes:
    """A comment, which readers skip: keeps an idle connection open."""
    return b": %b\n\n" % text.replace("\r", " ").replace("\n", " ").encode()
