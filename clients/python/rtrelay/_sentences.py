"""Speakable segments of an answer that did not come through the relay.

Simpler than the relay's own rules: a sentence ends at its mark with white space after it, at the
marks of Chinese and Japanese at once, and at a line break; not after a short abbreviation. Joined,
the segments are the text.
"""

from __future__ import annotations

import re

from rtrelay.events import Segment, TextDelta

_MAX_CHARS = 300
_END = re.compile(
    r"[.!?\u2026\u061f\u06d4\u0964]+[\"'\u201d\u2019)\]]*\s+|[。！？｡]+[」』”’）]*\s*|\n+\s*"
)
_NO_END = re.compile(
    r"(?:^|[\s(])(?:mr|mrs|ms|dr|prof|st|vs|e\.g|i\.e|approx|z\.b|d\.h|\d{1,3}|[a-hj-z])\.\s+$",
    re.IGNORECASE,
)
_SPEAKABLE = re.compile(r"[^\W_]")


class SegmentedText:
    """The texts of all choices of one generation."""

    def __init__(self) -> None:
        self._choices: dict[int, _Choice] = {}

    def feed(self, delta: TextDelta) -> list[Segment]:
        """The segments that this text completes."""
        choice = self._choices.setdefault(delta.choice, _Choice(delta.choice))
        choice.text += delta.text
        found = []
        while (end := choice.next_end()) is not None:
            found.append(choice.cut(end, is_last=False))
        return found

    def break_off(self, number: int) -> list[Segment]:
        """A tool call comes now: what was said before it, if it can be spoken."""
        choice = self._choices.get(number)
        if choice is None or not _SPEAKABLE.search(choice.text):
            return []
        return [choice.cut(len(choice.text), is_last=False)]

    def flush(self) -> list[Segment]:
        """What is left, as the last segment of each choice."""
        return [choice.cut(len(choice.text), is_last=True) for choice in self._choices.values()]


class _Choice:
    def __init__(self, number: int) -> None:
        self.text = ""
        self._number = number
        self._index = 0
        self._offset = 0

    def next_end(self) -> int | None:
        # What comes later is not looked at: a text without an end must not cost its square.
        for found in _END.finditer(self.text, 0, _MAX_CHARS + 1):
            head = self.text[: found.end()]
            if _SPEAKABLE.search(head) and not _NO_END.search(head):
                return found.end()
        if len(self.text) > _MAX_CHARS:
            return self.text.rfind(" ", 1, _MAX_CHARS) + 1 or _MAX_CHARS
        return None

    def cut(self, end: int, *, is_last: bool) -> Segment:
        text, self.text = self.text[:end], self.text[end:]
        segment = Segment(text, self._offset, self._index, is_last, self._number)
        self._index += 1
        self._offset += len(text)
        return segment
