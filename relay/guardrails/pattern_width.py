"""How long a match of an operator's RE2 pattern may be, and how to bound one that has no end.

A stream can be held back only for a bounded match. The width is read from the pattern as Python
parses it, where both dialects mean the same; what only RE2 knows, or means differently, is refused
here with its place named, and can still be used over whole texts.
"""

from __future__ import annotations

import re
import warnings
from typing import Any, Final

from relay.guardrails.shape_nfa import UnreadablePattern, parse

MAX_WINDOW_CHARS: Final = 8192
"""Of an own pattern in a stream."""
_RE2_ONLY: Final = re.compile(
    r"(?<!\\)(?:\\\\)*(?P<what>\\[pPQECz]|\\x\{|\[:\^?\w+:\]|\{,\d*\}|\(\?[a-zA-Z]*U)"
)
_PIECE: Final = re.compile(
    r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|(?P<open>\*|\+|\{(?P<least>\d+),\})(?P<lazy>\??)|.", re.DOTALL
)


class EndlessPattern(ValueError):
    """A match of it may have any length."""


def read(pattern: str) -> Any:
    """The pattern as Python parses it.

    Raises:
        UnreadablePattern: only RE2 knows what it means.
    """
    found = _RE2_ONLY.search(pattern)
    if found is not None:
        raise UnreadablePattern(f"`{found['what']}` at character {found.start('what') + 1}")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of sets that Python may come to read differently
        try:
            return parse(pattern, ascii_only=True)
        except Warning as warning:
            raise UnreadablePattern(str(warning)) from warning


def longest(parsed: Any) -> int:
    """The most characters of a match.

    Raises:
        EndlessPattern: there is no most, or it is more than `MAX_WINDOW_CHARS`.
    """
    _, most = parsed.getwidth()
    if most > MAX_WINDOW_CHARS:
        raise EndlessPattern
    return int(most)


def shortest(parsed: Any) -> int:
    """The fewest characters of a match."""
    return int(parsed.getwidth()[0])


def bounded(pattern: str, most: int) -> str:
    """The pattern with each repeat that has no end going on for at most so many rounds."""
    pieces = []
    for piece in _PIECE.finditer(pattern):
        if piece["open"] is None:
            pieces.append(piece.group())
            continue
        least = {"*": "0", "+": "1"}.get(piece["open"]) or piece["least"]
        pieces.append(f"{{{least},{max(most, int(least))}}}{piece['lazy']}")
    return "".join(pieces)
