"""A scanner of one class: a regular expression, and perhaps a check of what it matches."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

from relay.guardrails.scan import Fold, Match, Shape

Span = tuple[int, int]
Check = Callable[[re.Match[str]], Span | None]
"""What of a candidate is a match; None: nothing."""


class RegexScanner:
    """Finds what a pattern matches and a check lets pass.

    Every place of the text is judged by itself: a candidate that the check refuses hides no other
    one that starts later. Patterns must be bounded and must not try many ways at one place: they
    are searched by Python's `re`.

    Args:
        label: the class, and the scanner's name.
        pattern: a group `held` is the match, if there is one; what stands before it is context, and
            is looked for at every place.
        window_chars: the longest match.
        context_chars: the longest context, boundaries included.
        shape: where it is not the pattern itself: what cannot be followed (back references).
    """

    window_chars: int
    is_slow = False

    def __init__(
        self,
        label: str,
        pattern: str,
        window_chars: int,
        *,
        context_chars: int = 1,
        check: Check | None = None,
        shape: str = "",
        ignore_case: bool = False,
        fold: Fold = "plain",
    ) -> None:
        self.name = label
        self.classes = (label,)
        self.fold: Fold = fold
        self.window_chars = window_chars
        self.context_chars = context_chars
        self.shapes: Sequence[Shape] = (Shape(shape or pattern, ignore_case=ignore_case),)
        self._label = label
        self._pattern = re.compile(pattern, re.IGNORECASE if ignore_case else 0)
        self._group = "held" if "held" in self._pattern.groupindex else 0
        self._check = check

    def __repr__(self) -> str:
        return f"RegexScanner({self.name})"

    def find(self, text: str, start: int = 0) -> list[Match]:
        spans = self._behind_context(text, start) if self._group else self._spans(text, start)
        return [Match(begin, end, self._label) for begin, end in spans]

    def _spans(self, text: str, start: int) -> Iterator[Span]:
        search, check = self._pattern.search, self._check
        while (match := search(text, start)) is not None:
            span = match.span() if check is None else check(match)
            if span is None:
                start = match.start() + 1
            else:
                yield span
                start = span[1]

    def _behind_context(self, text: str, start: int) -> Iterator[Span]:
        search, check = self._pattern.search, self._check
        at = max(0, start - self.context_chars)
        found = set()
        while (match := search(text, at)) is not None:
            at = match.start() + 1
            span = match.span(self._group) if check is None else check(match)
            if span is not None and span[0] >= start:
                found.add(span)
        for begin, end in sorted(found, key=lambda span: (span[0], -span[1])):
            if begin >= start:
                yield begin, end
                start = end
