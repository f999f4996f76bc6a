"""RE2 over texts: its library searches bytes, we count characters."""

from __future__ import annotations

from typing import Any, Final

import re2

_MAX_MEMORY_BYTES: Final = 32 << 20


def compiled(pattern: str) -> Any:
    """The pattern for RE2, which writes nothing to the error stream.

    Raises:
        ValueError: it is none; the text is RE2's.
    """
    options = re2.Options()
    options.log_errors = False
    options.max_mem = _MAX_MEMORY_BYTES
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        detail = error.args[0] if error.args else error
        text = detail.decode(errors="replace") if isinstance(detail, bytes) else str(detail)
        raise ValueError(f"RE2 cannot read it: {text}") from error


class Searched:
    """One text, encoded once. Searches go forward, so that all of them together take time linear
    in the text."""

    __slots__ = ("_at_byte", "_at_char", "_is_ascii", "_raw")

    def __init__(self, text: str) -> None:
        self._is_ascii = text.isascii()
        self._raw = text.encode("utf-8", "replace")
        self._at_byte = 0
        self._at_char = 0

    def search(self, expression: Any, start: int) -> tuple[int, int] | None:
        """The next match from `start` on, in characters; starts never go back."""
        if self._is_ascii:
            found = expression.search(self._raw, start)
            return None if found is None else (found.start(), found.end())
        found = expression.search(self._raw, self._byte_at(start))
        if found is None:
            return None
        begin, end = found.span()
        first = self._at_char + len(self._raw[self._at_byte : begin].decode())
        return first, first + len(self._raw[begin:end].decode())

    def _byte_at(self, char: int) -> int:
        """Where a character begins."""
        raw, at = self._raw, self._at_byte
        for _ in range(char - self._at_char):
            at += 1
            while at < len(raw) and raw[at] & 0xC0 == 0x80:
                at += 1
        self._at_byte, self._at_char = at, char
        return at
