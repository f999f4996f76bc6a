"""Cuts a JSON array that comes piecewise into its objects, as soon as each is whole.

Strategy: only brackets are looked at one by one; whole strings and all else are passed over by
one regular expression that never goes back, so that every byte is read at most twice, however it
is cut. Whether an object is JSON is for its reader to say. A bare object counts as an array of
one, without the array's end. Commas between objects are not insisted on.
"""

from __future__ import annotations

import re
from typing import Final

_IN_STRING: Final = re.compile(rb'(?s:[^"\\]*+(?:\\.[^"\\]*+)*+)')
_OUTSIDE: Final = re.compile(rb'(?s:(?>[^"{}\[\]]++|"[^"\\]*+(?:\\.[^"\\]*+)*+")*+)')
"""Up to a bracket, or to the quote of a string whose end has not come yet."""
_BETWEEN: Final = frozenset(b" \t\r\n,")
_OPENING: Final = frozenset(b"{[")
_BRACE: Final = ord("{")
_BRACKET: Final = ord("[")
_END_BRACKET: Final = ord("]")
_QUOTE: Final = ord('"')
_ESCAPE: Final = ord("\\")


class JsonObjectSplitter:
    """The objects of one array, or several in a row, however they are cut.

    Args:
        max_bytes: cap of one object.
    """

    __slots__ = (
        "_depth",
        "_in_array",
        "_in_string",
        "_is_escaped",
        "_max_bytes",
        "_value",
        "is_broken",
        "is_closed",
        "is_too_large",
    )

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._value = bytearray()
        self._depth = 0
        self._in_array = False
        self._in_string = False
        self._is_escaped = False
        self.is_closed = False
        """The array's own end has come; what follows is not read."""
        self.is_broken = False
        """Something that is no object stood between the objects; nothing more is read."""
        self.is_too_large = False
        """An object went over the cap; nothing more is read."""

    @property
    def is_open(self) -> bool:
        """Whether an object or the array has begun and not ended."""
        return bool(self._value) or (self._in_array and not self.is_closed)

    def feed(self, chunk: bytes) -> list[bytes]:
        """The objects that these bytes complete, in order."""
        values: list[bytes] = []
        at = 0
        while at < len(chunk) and not (self.is_closed or self.is_broken or self.is_too_large):
            if self._depth:
                at = self._inside(chunk, at, values)
            else:
                self._between(chunk[at])
                at += 1
        return values

    def _between(self, byte: int) -> None:
        if byte in _BETWEEN:
            return
        if byte == _BRACE:
            self._depth = 1
            self._value.append(byte)
        elif byte == _BRACKET and not self._in_array:
            self._in_array = True
        elif byte == _END_BRACKET and self._in_array:
            self.is_closed = True
        else:
            self.is_broken = True

    def _inside(self, chunk: bytes, at: int, values: list[bytes]) -> int:
        """Read up to and with the next bracket or string border; returns where to go on."""
        if self._is_escaped:
            self._is_escaped = False
            end, byte = at + 1, 0
        else:
            match = (_IN_STRING if self._in_string else _OUTSIDE).match(chunk, at)
            end, byte = match.end() if match else at, 0  # both match nothing as well
            if end < len(chunk):
                byte = chunk[end]
                end += 1
        self._value += memoryview(chunk)[at:end]
        if byte == _QUOTE:
            self._in_string = not self._in_string
        elif byte == _ESCAPE:
            self._is_escaped = True
        elif byte in _OPENING:
            self._depth += 1
        elif byte:
            self._depth -= 1
        if len(self._value) > self._max_bytes:
            self.is_too_large = True
            self._value.clear()
        elif not self._depth:
            values.append(bytes(self._value))
            self._value.clear()
        return end
