"""Many literal texts as one tree of their letters, in which a space stands for a gap.

A gap in the text is one to three of white space, dashes and underscores.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

Tree = dict[str, Any]
"""Letter -> the tree of what may follow. The empty key says that a text ends here."""

END: Final = ""
MAX_GAP_CHARS: Final = 3
_GAP: Final = re.compile(r"[\s_\-]")


class Place(NamedTuple):
    """How far a text has come in the tree."""

    tree: Tree
    gap_chars: int = 0
    """Of the gap that it is in, so far."""

    @property
    def is_end(self) -> bool:
        """A whole text stands here."""
        return not self.gap_chars and END in self.tree


def tree_of(texts: Iterable[str]) -> Tree:
    """All of them."""
    root: Tree = {}
    for text in texts:
        at = root
        for letter in text:
            at = at.setdefault(letter, {})
        at[END] = True
    return root


def is_gap(letter: str) -> bool:
    """Whether it may stand for a space."""
    return _GAP.match(letter) is not None


def onward(place: Place, letter: str) -> Iterator[Place]:
    """Where a letter leads: nowhere, to one place, or to two."""
    tree, gap_chars = place
    if letter != " " and letter in tree:
        yield Place(tree[letter])
    if _GAP.match(letter) is not None:
        if gap_chars:
            if gap_chars < MAX_GAP_CHARS:
                yield Place(tree, gap_chars + 1)
        elif " " in tree:
            yield Place(tree[" "], 1)


def ends(root: Tree, text: str, start: int) -> Iterator[int]:
    """Where the texts end that begin at a place, nearest first."""
    places = [Place(root)]
    for at in range(start, len(text)):
        letter = text[at]
        places = [after for place in places for after in onward(place, letter)]
        if not places:
            return
        if any(place.is_end for place in places):
            yield at + 1
