"""Newline-delimited JSON as text: an incremental splitter with the interface of `SseParser`.

Whole lines are used up at once; what is kept between two chunks is one unfinished line.
"""

from __future__ import annotations

from relay.sse import MAX_EVENT_BYTES, SseEvent


class NdjsonParser:
    """Turns the bytes of one body into its lines, which are events without a name.

    Args:
        max_line_bytes: cap for one line.
    """

    __slots__ = ("_line", "_max_line_bytes", "is_too_large")

    def __init__(self, max_line_bytes: int = MAX_EVENT_BYTES) -> None:
        self._max_line_bytes = max_line_bytes
        self._line = bytearray()
        self.is_too_large = False
        """A line went over the cap; everything from there on is dropped."""

    def feed(self, chunk: bytes | memoryview) -> list[SseEvent]:
        """The lines that these bytes complete, without blank ones."""
        if self.is_too_large:
            return []
        chunk = bytes(chunk)
        end = len(chunk) - 1
        if chunk.find(b"\n") == end >= 0 and not self._line and end <= self._max_line_bytes:
            line = chunk.strip()  # one line a chunk, which is what servers send
            return [("", line)] if line else []
        *lines, rest = chunk.split(b"\n")
        events: list[SseEvent] = []
        for line in lines:
            if self._line:
                self._line += line
                line = bytes(self._line)
                self._line.clear()
            if len(line) > self._max_line_bytes:
                self._overflow()
                return events
            if line := line.strip():
                events.append(("", line))
        self._line += rest
        if len(self._line) > self._max_line_bytes:
            self._overflow()
        return events

    def end(self) -> SseEvent | None:
        """The body is over: the line that lacks its end, if there is one."""
        line = bytes(self._line).strip()
        self._line.clear()
        return ("", line) if line and not self.is_too_large else None

    @property
    def held_bytes(self) -> int:
        """Bytes kept for a line that is not complete yet."""
        return len(self._line)

    def _overflow(self) -> None:
        self.is_too_large = True
        self._line.clear()
