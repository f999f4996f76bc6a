"""Cuts a stream of text into pieces that can be spoken: sentences, or what stands for one.

Sans-I/O and incremental: text goes in as it comes, however it is cut, and complete segments come
out; what is not complete yet is kept. Joined, the segments are the text: nothing is trimmed.

A sentence ends at `.`, `!`, `?`, `...` and their like when white space (or closing quotes and then
white space) follows, since only that tells `3.14`, `example.com` and `v1.2` from an end; at
`。！？` of Chinese and Japanese at once, since nothing follows there; and at a line break. A full
stop does not end a sentence after an abbreviation, an initial (`J. Bach`) or the number of a list
item. What has no letter or digit is not speakable and joins what follows. A text without any end
is cut at a comma, or at a space, once it is `max_chars` long: a voice must not wait for ever.

No library does this incrementally at microseconds a token; the lists are short on purpose, since
a missed abbreviation costs a pause and no more.
"""

from __future__ import annotations

import re
from typing import Final

MAX_CHARS: Final = 300
"""About 20 s of speech; longer sentences are cut at a comma or a space."""

_END: Final = re.compile(r"[.!?\u2026]+[\"'\u201d\u2019)\]]*(?=\s)|[。！？｡]+[」』”’）]*|\n+")
_CANDIDATE: Final = frozenset(".!?\u2026。！？｡\n")
_EAST: Final = frozenset("。！？｡")
_OPENING: Final = "「『“‘（"
_CLOSING: Final = "」』”’）"
_ABBREVIATION: Final = re.compile(
    r"(?:^|[\s(\"'\u201c])(?:"
    r"mr|mrs|ms|dr|prof|sr|jr|st|vs|etc|e\.g|i\.e|cf|al|approx|dept|est|fig|no|nos|vol|pp|inc|ltd"
    r"|co|corp|jan|feb|mar|apr|jun|jul|aug|sep|sept|oct|nov|dec|mon|tue|wed|thu|fri|sat|sun"
    r"|z\.b|d\.h|bzw|usw|ca|nr|str|m|mme|mlle"
    r"|[a-z]"  # an initial
    r")\.$",
    re.IGNORECASE,
)
_ENDS_AS_WELL: Final = re.compile(r"(?:^|\s)(?:etc|inc|ltd|co|corp|jr|sr|al|usw)\.$", re.IGNORECASE)
"""Abbreviations that often end a sentence too: a capital letter after them says that they do."""
_LIST_NUMBER: Final = re.compile(r"(?:^|\n)\s*\d{1,3}\.$")
_SPEAKABLE: Final = re.compile(r"[^\W_]")


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

    def _next_end(self) -> int | None:
        text = self._text
        at = self._searched
        while (found := _END.search(text, at)) is not None:
            is_end = self._is_end(text, found)
            if is_end is None:  # the next character tells
                self._searched = found.start()
                return self._cut() if len(text) > self._max_chars else None
            at = found.end()
            if is_end:
                return self._with_white_space(at)
        # An end at the very end of the text needs one more character to be known; look again.
        tail = len(text)
        while tail > 0 and (text[tail - 1] in _CANDIDATE or text[tail - 1] in "\"'\u201d\u2019)]"):
            tail -= 1
        self._searched = max(self._searched, tail)
        if len(text) > self._max_chars:
            return self._cut()
        return None

    def _is_end(self, text: str, found: re.Match[str]) -> bool | None:
        """Whether a sentence ends here; None while that cannot be known."""
        head = text[: found.end()]
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
        if not _ABBREVIATION.search(head):
            return True
        if not _ENDS_AS_WELL.search(head):
            return False
        after = text[found.end() :].lstrip()
        return after[0].isupper() if after else None

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
        return limit
