"""Operators' own patterns, by RE2: linear in the text whatever the pattern is.

They run over plainly folded text (see `normalise`), so a pattern is written for ASCII digits,
dashes, quotes and spaces. Matches are RE2's: the leftmost, and of those the one that the pattern
prefers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from relay.guardrails import pattern_width
from relay.guardrails.re2_search import Searched, compiled
from relay.guardrails.scan import Match, Shape
from relay.guardrails.shape_nfa import UnreadablePattern

MAX_ROUNDS: Final = 1000
"""RE2 counts no further."""


_MATCHES_NOTHING: Final = "it matches the empty text, so it would match everywhere"


class OwnPattern:
    """One pattern of the operator.

    Args:
        label: what its matches are called, and what stands in their place: `[LABEL]`.
        pattern: RE2 syntax.
        max_chars: how many rounds a repeat without end (`*`, `+`, `{2,}`) goes on for at most;
            needed where there is one, unless `whole_text`.
        whole_text: hold back the whole answer and search it at the end.

    Raises:
        ValueError: it is no pattern, matches nothing, or its matches have no bound; the text says
            what to do, and names no field.
    """

    fold: Final = "plain"
    context_chars = 1
    is_slow = False

    def __init__(
        self, label: str, pattern: str, *, max_chars: int | None = None, whole_text: bool = False
    ) -> None:
        self.name = label
        self.classes = (label,)
        self._label = label
        compiled(pattern)  # a mistake is told in the pattern's own words
        self.window_chars: int | None = None
        self.shapes: Sequence[Shape] = ()
        if not whole_text:
            pattern, self.window_chars = _for_streams(pattern, max_chars)
            self.shapes = (Shape(pattern, is_ascii=True),)
        self._expression = compiled(pattern)
        if self._expression.search("") is not None:
            raise ValueError(_MATCHES_NOTHING)

    def __repr__(self) -> str:
        return f"OwnPattern({self.name})"

    def find(self, text: str, start: int = 0) -> list[Match]:
        found = []
        searched = Searched(text)
        while start < len(text) and (span := searched.search(self._expression, start)) is not None:
            begin, end = span
            if end > begin:
                found.append(Match(begin, end, self._label))
            start = max(end, begin + 1)
        return found


def _for_streams(pattern: str, max_chars: int | None) -> tuple[str, int]:
    """The pattern with its repeats bounded, and its longest match."""
    try:
        parsed = pattern_width.read(pattern)
    except UnreadablePattern as error:
        raise ValueError(
            f"how long a match may be cannot be told from it ({error}): write it without, or set "
            "whole_text"
        ) from error
    if max_chars is not None:
        if not 1 <= max_chars <= MAX_ROUNDS:
            raise ValueError(f"max_chars is {max_chars}: it may be 1 to {MAX_ROUNDS}")
        pattern = pattern_width.bounded(pattern, max_chars)
        parsed = pattern_width.read(pattern)
        compiled(pattern)
    if pattern_width.shortest(parsed) == 0:
        raise ValueError(_MATCHES_NOTHING)
    try:
        return pattern, pattern_width.longest(parsed)
    except pattern_width.EndlessPattern:
        raise ValueError(
            "a match may be longer than any stream can be held back for "
            f"({pattern_width.MAX_WINDOW_CHARS} characters): "
            + (
                "set max_chars, the most rounds of a repeat without end, or whole_text"
                if max_chars is None
                else "make max_chars smaller, or set whole_text"
            )
        ) from None
