"""Cuts a stream of text into pieces that can be spoken: sentences, or what stands for one.

Sans-I/O and incremental: text goes in as it comes, however it is cut, and complete segments come
out; what is not complete yet is kept. Joined, the segments are the text: nothing is trimmed.

A sentence ends at `.`, `!`, `?`, `...` and their like when white space (or closing quotes and then
white space) follows, since only that tells `3.14`, `example.com` and `v1.2` from an end; at
`。！？` of Chinese and Japanese at once, since nothing follows there; and at a line break. A full
stop does not end a sentence after an abbreviation, an initial (`J. Bach`) or the number of a list
item; after words that are both (`no. 5`, `no.`) what follows tells. What has no letter or digit is
not speakable and joins what follows. A text without any end within `max_chars` is cut at a comma,
or at a space: a voice must not wait for ever. Nothing beyond that is looked at, so that a provider
that repeats itself for ever costs no more than one that speaks.

No library does this incrementally at microseconds a token; the lists are short on purpose, since
a missed abbreviation costs a pause and no more.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

MAX_CHARS: Final = 300
"""About 20 s of speech; longer sentences are cut at a comma or a space."""

_MARKS: Final = ".!?\u2026\u203c\u2047\u2048\u2049\u061f\u06d4\u0964\u0965"
"""Those of Europe, of Arabic and Urdu, of India: white space follows them."""
_EAST: Final = "。！？｡"
_CLOSING_QUOTES: Final = "\"'\u201d\u2019)]"
_END: Final = re.compile(rf"[{_MARKS}]+[\"'\u201d\u2019)\]]*(?=\s)|[{_EAST}]+[」』”’）]*|\n+")
_MAY_END: Final = frozenset(_MARKS + _EAST + _CLOSING_QUOTES + "\n")
"""At the end of what has come, the next character tells."""
_OPENING: Final = "「『“‘（"
_CLOSING: Final = "」』”’）"
_BEFORE_A_NUMBER: Final = (
    "approx|ca|est|fig|no|nos|nr|pp|vol"
    "|jan|feb|mar|apr|jun|jul|aug|sep|sept|oct|nov|dec|mon|tue|wed|thu|fri|sat|sun"
)
_ABBREVIATION: Final = re.compile(
    r"(?:^|[\s(\"'\u201c])(?:"
    r"mr|mrs|ms|dr|prof|sr|jr|st|vs|etc|e\.g|i\.e|cf|al|dept|inc|ltd"
    r"|co|corp|z\.b|d\.h|bzw|usw|str|mme|mlle"
    r"|[a-z]"  # an initial
    rf"|{_BEFORE_A_NUMBER})\.$",
    re.IGNORECASE,
)
_LONGEST_ABBREVIATION: Final = 8
"""Of the above, with its full stop and what is before it."""
_IS_ME: Final = re.compile(
    r"\b(?:am|and|as|can|could|did|do|had|have|may|must|or|should|than|was|will|would) I\.$"
)
"""No initial."""
_ENDS_AS_WELL: Final = re.compile(r"(?:^|\s)(?:etc|inc|ltd|co|corp|jr|sr|al|usw)\.$", re.IGNORECASE)
"""Abbreviations that often end a sentence too: a capital letter after them says that they do."""
_IS_A_WORD: Final = re.compile(rf"(?:^|[\s(\"'\u201c])(?:{_BEFORE_A_NUMBER})\.$", re.IGNORECASE)
"""Abbreviations that are words too, or end a sentence: a number after them, or a small letter,
says that they do not."""
_LIST_NUMBER: Final = re.compile(r"(?:^|\n)\s*\d{1,3}\.$")
_SPEAKABLE: Final = re.compile(r"[^\W_]")
_NO_SPACE: Final = re.compile(r"\S")
_JOINER: Final = "\u200d"


class Segmenter:
    """The text of one choice.

    Args:
        max_chars: the longest segment.
    """

    __slots__ = ("_max_chars", "_searched", "_text")

    def __init__(self, max_chars: int = MAX_CHARS) -> None:
        self._text = ""
        self._searched = 0
        self._max_chars = max_chars

    def feed(self, text: str) -> list[str]:
        """The segments that this text completes, in order; mostly none."""
        self._text += text
        segments: list[str] = []
        while (end := self._next_end()) is not None:
            segments.append(self._text[:end])
            self._text = self._text[end:]
            self._searched = 0
        return segments

    def flush(self) -> str:
        """What is left, complete or not; empty if nothing is."""
        text, self._text, self._searched = self._text, "", 0
        return text

    @property
    def held_chars(self) -> int:
        """How much is kept."""
        return len(self._text)

    def break_off(self) -> str:
        """What is kept, though it has no end: something else comes now. Empty, and kept, if it
        cannot be spoken."""
        return self.flush() if _SPEAKABLE.search(self._text) else ""

    def _next_end(self) -> int | None:
        text, limit = self._text, self._max_chars
        at = self._searched
        # One character more than a segment may have: what follows its mark.
        while (found := _END.search(text, at, limit + 1)) is not None and found.end() <= limit:
            is_end = self._is_end(text, found)
            if is_end is None:  # the next character tells
                self._searched = found.start()
                return self._cut() if len(text) > limit else None
            at = found.end()
            if is_end:
                return self._with_white_space(at)
        if len(text) > limit:
            return self._cut()
        # An end at the very end of the text needs one more character to be known; look again.
        tail = len(text)
        while tail > 0 and text[tail - 1] in _MAY_END:
            tail -= 1
        self._searched = max(self._searched, tail)
        return None

    def _is_end(self, text: str, found: re.Match[str]) -> bool | None:
        """Whether a sentence ends here; None while that cannot be known."""
        end = found.end()
        head = text[:end]
        if not _SPEAKABLE.search(head):
            return False
        if found[0][0] in _EAST:
            # Nothing follows there, but for the closing mark of a quote that is open.
            is_open = sum(map(head.count, _OPENING)) > sum(map(head.count, _CLOSING))
            return None if is_open and len(head) == len(text) else True
        if found[0] != ".":
            return True
        if _LIST_NUMBER.search(head):
            return False
        last = head if end <= _LONGEST_ABBREVIATION else head[-_LONGEST_ABBREVIATION:]
        if not _ABBREVIATION.search(last) or _IS_ME.search(head, max(0, end - 10)):
            return True
        is_word = _IS_A_WORD.search(last) is not None
        if not is_word and not _ENDS_AS_WELL.search(last):
            return False
        after = _NO_SPACE.search(text, end, self._max_chars + 1)
        if after is None:
            return None
        if is_word:
            return not (after[0].isdigit() or after[0].islower())
        return after[0].isupper()

    def _with_white_space(self, end: int) -> int:
        text = self._text
        while end < len(text) and text[end].isspace():
            end += 1
        return end

    def _cut(self) -> int:
        """Where a text without an end is cut."""
        text, limit = self._text, self._max_chars
        for marks in (",;:，、；：", " \t"):
            at = max(text.rfind(mark, 1, limit) for mark in marks)
            if at > limit // 3:
                return self._with_white_space(at + 1)
        at = limit
        while at > limit // 3 and _is_inside_a_character(text, at):
            at -= 1
        return at


def _is_inside_a_character(text: str, at: int) -> bool:
    """Whether what a person sees as one character goes on here: accents, joined emoji."""
    mark = text[at]
    return (
        mark == _JOINER
        or text[at - 1] == _JOINER
        or "\U0001f3fb" <= mark <= "\U0001f3ff"  # the colour of a skin
        or unicodedata.category(mark)[0] == "M"
    )
