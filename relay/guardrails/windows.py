"""When those who are asked about a stream are asked, and how far it is cleared by them.

A guardrail is asked about a window of what has come: `every_chars` of it, up to the last end of a
sentence within them if there is one, with some of what was before it. Where windows end depends on
the text alone, and not on how it came. What has no window is asked about once, at the end.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from relay.guardrails.rail import Kind, Rail

_END: Final = re.compile(r"[.!?\u3002\uff01\uff1f]['\"\u201d\u2019)\]]*\s|\n")


class Window(NamedTuple):
    """A question to be asked."""

    windows: Windows
    rail: Rail
    text: str
    start: int
    """Where that begins which was not asked about before."""
    end: int


class Windows:
    """Of one lane.

    Args:
        rails: that are asked.
        is_text: it is what the answer says, and neither refusal nor reasoning nor transcript.
    """

    __slots__ = (
        "_asked",
        "_cleared",
        "_due",
        "_first",
        "_length",
        "_pieces",
        "_rails",
        "_text",
        "is_text",
        "kind",
    )

    def __init__(self, rails: Sequence[Rail], kind: Kind, *, is_text: bool) -> None:
        self._rails = [rail for rail in rails if rail.asking is not None]
        self._asked = [0] * len(self._rails)
        self._cleared = [0] * len(self._rails)
        self._text = ""
        self._pieces: list[str] = []
        """That follow the text."""
        self._length = 0
        """Of all that has come."""
        self._due: list[Window] = []
        self._first = 0
        """Where the kept text begins."""
        self.kind: Kind = kind
        self.is_text = is_text

    def add(self, text: str) -> None:
        """More has come."""
        self._pieces.append(text)
        self._length += len(text)

    def run_over(self) -> None:
        """Something else comes: what is left of a window is one. What is asked about as a whole
        goes on."""
        self._fill(is_cut=True)

    def due(self, *, is_end: bool = False) -> list[Window]:
        """What is to be asked now, each once.

        Args:
            is_end: nothing more comes.
        """
        self._fill(is_end=is_end)
        found, self._due = self._due, []
        return found

    def _fill(self, *, is_cut: bool = False, is_end: bool = False) -> None:
        length = self._length
        for at, rail in enumerate(self._rails):
            every = 0 if rail.asking is None else rail.asking.every_chars
            if every:
                while length - self._asked[at] >= every:
                    self._due.append(self._window(at, rail, self._cut(self._asked[at], every)))
            if (is_end or (is_cut and every)) and length > self._asked[at]:
                self._due.append(self._window(at, rail, length))
        self._forget()

    def answered(self, window: Window) -> None:
        """It may go on."""
        for at, rail in enumerate(self._rails):
            if rail is window.rail:
                self._cleared[at] = max(self._cleared[at], window.end)

    def cleared(self, length: int) -> int:
        """How far all have said yes that are asked before a release."""
        return min(
            (
                self._cleared[at]
                for at, rail in enumerate(self._rails)
                if rail.asking is not None and rail.asking.is_before and rail.stops
            ),
            default=length,
        )

    @property
    def is_whole(self) -> bool:
        """Somebody is asked about the whole before anything goes out."""
        return any(
            rail.asking is not None
            and rail.asking.is_before
            and rail.stops
            and not rail.asking.every_chars
            for rail in self._rails
        )

    def _window(self, at: int, rail: Rail, end: int) -> Window:
        self._join()
        start = self._asked[at]
        overlap = 0 if rail.asking is None else rail.asking.overlap_chars
        self._asked[at] = end
        first = max(self._first, start - overlap)
        return Window(self, rail, self._text[first - self._first : end - self._first], start, end)

    def _cut(self, start: int, every: int) -> int:
        """The end of a window: of a sentence in its second half, else where it is full."""
        self._join()
        text = self._text[start - self._first : start - self._first + every]
        end = every
        for found in _END.finditer(text, every // 2):
            end = found.end()
        return start + end

    def _join(self) -> None:
        if self._pieces:
            self._text += "".join(self._pieces)
            self._pieces.clear()

    def _forget(self) -> None:
        """Nobody is shown what is far behind."""
        needed = min(
            (
                self._asked[at] - (0 if rail.asking is None else rail.asking.overlap_chars)
                for at, rail in enumerate(self._rails)
            ),
            default=0,
        )
        if needed - self._first > 4096:
            self._join()
            self._text = self._text[needed - self._first :]
            self._first = needed
