"""Denied terms: thousands of them in one pass, whatever their case, width, accents and look-alikes.

Terms and text are folded to the same skeleton. Of the terms at a place the longest counts. A space
in a term stands for one to three of white space, dashes and underscores.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from relay.guardrails.normalise import fold_term
from relay.guardrails.scan import Match, Shape
from relay.guardrails.shape_nfa import is_word
from relay.guardrails.term_tree import MAX_GAP_CHARS, ends, tree_of

MAX_TERM_CHARS: Final = 256


class DeniedTerms:
    """Texts that must not be said.

    Args:
        terms: as they are written; white space within counts as one space.
        label: what they are called: `denied`, or a list's own name.
        is_whole_words: `sex` is not found in `Essex`. Languages without spaces between words want
            False.

    Raises:
        ValueError: a term is empty after folding, or too long; the text names it.
    """

    fold: Final = "skeleton"
    context_chars = 1
    is_slow = False

    def __init__(
        self, terms: Sequence[str], *, label: str = "denied", is_whole_words: bool = True
    ) -> None:
        self.name = label
        self.classes = (label,)
        self._label = label
        self._is_whole_words = is_whole_words
        folded = sorted({_folded(term) for term in terms})
        if not folded:
            raise ValueError("there is no term in the list")
        self.window_chars = max(
            len(term) + term.count(" ") * (MAX_GAP_CHARS - 1) for term in folded
        )
        self._tree = tree_of(folded)
        self.shapes: Sequence[Shape] = (Shape(words=self._tree, is_whole_words=is_whole_words),)
        self._first = re.compile(f"[{re.escape(''.join(self._tree))}]")

    def __repr__(self) -> str:
        return f"DeniedTerms({self.name})"

    def find(self, text: str, start: int = 0) -> list[Match]:
        found = []
        while (first := self._first.search(text, start)) is not None:
            begin = first.start()
            end = self._longest(text, begin)
            if end > begin:
                found.append(Match(begin, end, self._label))
            start = max(end, begin + 1)
        return found

    def _longest(self, text: str, begin: int) -> int:
        """Where the longest term from here ends; `begin`: there is none."""
        is_whole_words = self._is_whole_words
        if is_whole_words and _joins(text, begin):
            return begin
        longest = begin
        for end in ends(self._tree, text, begin):
            if not (is_whole_words and _joins(text, end)):
                longest = end
        return longest


def _joins(text: str, at: int) -> bool:
    """Whether a word goes on here, so that none begins or ends."""
    return 0 < at < len(text) and is_word(text[at - 1]) and is_word(text[at])


def _folded(term: str) -> str:
    folded = " ".join(fold_term(term, "skeleton").split())
    if not folded:
        raise ValueError(f"the term {term!r} has nothing that can be looked for")
    if len(folded) > MAX_TERM_CHARS:
        raise ValueError(f"the term {term[:40]!r}... has more than {MAX_TERM_CHARS} characters")
    return folded
