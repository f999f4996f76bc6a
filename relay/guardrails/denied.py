"""Denied terms: thousands of them in one pass, whatever their case, width, accents and look-alikes.

Terms and text are folded to the same skeleton. One RE2 alternation finds them, the longest at a
place. A space in a term stands for one to three of white space, dashes and underscores.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import re2

from relay.guardrails.normalise import fold_term
from relay.guardrails.re2_search import Searched, compiled
from relay.guardrails.scan import Match, Shape
from relay.guardrails.shape_nfa import is_word

_GAP: Final = r"[\s_\-]{1,3}"
_MAX_GAP: Final = 3
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
        self.window_chars = max(len(term) + term.count(" ") * (_MAX_GAP - 1) for term in folded)
        self.shapes: Sequence[Shape] = (Shape(words=tuple(folded), is_whole_words=is_whole_words),)
        self._expression = compiled(_alternation(folded, is_whole_words), is_longest=True)

    def __repr__(self) -> str:
        return f"DeniedTerms({self.name})"

    def find(self, text: str, start: int = 0) -> list[Match]:
        found = []
        searched = Searched(text)
        at = start
        while (span := searched.search(self._expression, at, is_grouped=True)) is not None:
            begin, end = span
            if self._is_whole_words and _joins(text, begin):
                at = begin + 1
                continue
            found.append(Match(begin, end, self._label))
            at = end
        return found


def _joins(text: str, at: int) -> bool:
    """Whether a word goes on here, so that none begins."""
    return at > 0 and is_word(text[at - 1]) and is_word(text[at])


def _alternation(terms: Sequence[str], is_whole_words: bool) -> str:
    """All terms. RE2's own boundary knows ASCII alone, so what may not follow stands in a set: the
    longest term counts that ends where a word ends."""
    ends = [term for term in terms if is_whole_words and is_word(term[-1])]
    free = [term for term in terms if not (is_whole_words and is_word(term[-1]))]
    pieces = []
    if ends:
        pieces.append(rf"({_either(ends)})(?:[^\pL\pN_]|\z)")
    if free:
        pieces.append(f"({_either(free)})")
    return "|".join(pieces)


def _either(terms: Sequence[str]) -> str:
    return "|".join(_GAP.join(re2.escape(word) for word in term.split(" ")) for term in terms)


def _folded(term: str) -> str:
    folded = " ".join(fold_term(term, "skeleton").split())
    if not folded:
        raise ValueError(f"the term {term!r} has nothing that can be looked for")
    if len(folded) > MAX_TERM_CHARS:
        raise ValueError(f"the term {term[:40]!r}... has more than {MAX_TERM_CHARS} characters")
    return folded
