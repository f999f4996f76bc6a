"""What a scanner is: the seam between what is looked for and how a stream is held back for it.

A scanner says what stands in a text. It never sees chunks: `text_guard.TextGuard` gives it pieces
of a stream such that what it finds is what it would find in the whole text. For that to hold it
promises to be *local*:

- whether a match starts at a place depends only on the `context_chars` before it, the match
  itself, which is at most `window_chars` long, and one character behind it;
- matches of one scanner do not overlap: the first one counts, and the search goes on at its end;
- what `find` says does not depend on `start`, apart from the matches that start before it.

A scanner without a window needs the whole text; then the whole text is held back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

from relay.guardrails.term_tree import Tree

Action = Literal["block", "redact", "mask", "flag"]
"""`block`: what starts here and all that follows is not released. `redact`: the match is replaced
by what it is, `[EMAIL]`. `mask`: by stars and its last four characters, `****1234`. `flag`: it is
only told."""

Fold = Literal["raw", "plain", "skeleton"]
"""How a text is normalised for a scanner; see `relay.guardrails.normalise`."""


class Match(NamedTuple):
    """Something that was found, in characters of the text that was searched."""

    start: int
    end: int
    """Exclusive, and greater than `start`."""
    label: str
    """What it is: one of the scanner's `classes`."""
    replacement: str | None = None
    """What stands in its place if it is redacted; None: what `replacements` makes of the label."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What may become a match, written so that it can be told of an unfinished text: from where on
    text must be held back. It may say yes too often, never no where a match could come."""

    pattern: str = ""
    """A regular expression, as Python writes them. A group called `held` is what is held back, if
    there is one; what stands before it may have been released already. Assertions hold at its
    beginning and end; elsewhere they are ignored."""
    words: Tree = field(default_factory=dict)
    """Or many literal texts, as the scanner's fold leaves them."""
    is_whole_words: bool = False
    """They count where no letter or digit stands beside them."""
    ignore_case: bool = False
    """Of the pattern."""
    is_ascii: bool = False
    """Of the pattern: `\\w`, `\\d`, `\\s` and `\\b` know ASCII alone, as RE2 has it."""
    reach_chars: int = 0
    """The longest match of this shape; 0: the scanner's window."""


class Scanner(Protocol):
    """Something that is looked for. It keeps no state, so any number of streams may share it."""

    @property
    def name(self) -> str:
        """Short, for counters and errors: `pii`, `secrets`, `denied`, a pattern's own name."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """Every label that its matches may have: `pii.email`, `secret.jwt`, ..."""
        ...

    @property
    def fold(self) -> Fold: ...

    @property
    def window_chars(self) -> int | None:
        """The longest match, in characters of the folded text; None: it needs the whole text."""
        ...

    @property
    def context_chars(self) -> int:
        """How much in front of a match it looks at, itself not part of the match; at least 1 where
        it asks for the boundary of a word."""
        ...

    @property
    def shapes(self) -> Sequence[Shape]:
        """How its matches begin; empty where there is no window."""
        ...

    @property
    def is_slow(self) -> bool:
        """`find` may take milliseconds for a usual text, so call it in a thread."""
        ...

    def find(self, text: str, start: int = 0) -> list[Match]:
        """The matches from `start` on, in order, none overlapping another.

        Args:
            text: folded. It is taken to end where it ends.
            start: what is before is only context.
        """
        ...


@dataclass(frozen=True, slots=True)
class Rule:
    """What is to be done with what one scanner finds."""

    scanner: Scanner
    action: Action
    name: str = ""
    """The guardrail's, as the operator calls it."""
    actions: tuple[tuple[str, Action], ...] = ()
    """Of some of its labels, where they differ from `action`."""

    def action_of(self, label: str) -> Action:
        """For a match of this label."""
        for known, action in self.actions:
            if known == label:
                return action
        return self.action


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found of one class, and what was done."""

    rule: str
    label: str
    action: Action
    count: int


Replace = Callable[[str, str], str]
"""(label, matched text as folded) -> what stands in its place."""


class StreamGuard(Protocol):
    """One choice's text on its way out; `text_guard.TextGuard` is one.

    For every way to cut a text into chunks, the texts that are released make up the same text, and
    the findings are the same.
    """

    def feed(self, text: str) -> str:
        """The next piece; returns what may be released by now. After a block: always empty."""
        ...

    def finish(self) -> str:
        """The text is over: the rest. Nothing may be fed after."""
        ...

    @property
    def is_blocked(self) -> bool:
        """Something that may not be released was met: nothing more will be."""
        ...

    @property
    def findings(self) -> list[Finding]:
        """So far, in the order in which each was first met. Complete after `finish` or a block."""
        ...

    @property
    def held_chars(self) -> int:
        """Held back now; what stands behind a known block is not, as it will not be released."""
        ...

    @property
    def most_held_chars(self) -> int:
        """The most that were held back after any feed."""
        ...

    @property
    def is_whole(self) -> bool:
        """A scanner needs the whole text, so nothing is released before the end."""
        ...

    @property
    def is_slow(self) -> bool:
        """`finish` may take long: call it in a thread."""
        ...
