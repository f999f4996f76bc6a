"""Text as scanners see it: what looks alike is made alike, what cannot be seen is left out.

Every character is folded by itself, whatever stands around it. So a stream can be folded wherever
it is cut, and every character of the folded text knows which one of the original it came from.

`plain`, for patterns, secrets and personal data: compatibility forms are made usual ones (NFKC of
single characters: full-width, mathematical, circled, ligatures), decimal digits of every script,
dashes, quotes and spaces become those of ASCII, invisible characters and the combining marks that
are struck through or stacked on letters are left out. Letters keep their case, and Cyrillic stays
Cyrillic.

`skeleton`, for denied terms and injection phrases: `plain`, without case and accents, and letters
of other scripts that look like Latin ones are those (after Unicode TR 39, by hand, small letters).

`raw`: the text itself, for who looks for the invisible.

Not undone by any: encodings (base64, hex, ROT13, URL escapes), spelling with digits or spaces
between letters, look-alikes that are not in the table, text in pictures, other languages.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from typing import Final, NamedTuple

from relay.guardrails.lookalikes import LOOKALIKES
from relay.guardrails.scan import Fold

INVISIBLE: Final = (
    "\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5"
    "\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0"
    "\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
"""For a character class: controls other than tab and line ends, zero-width and bidirectional
controls, variation selectors, tags, fillers."""
_MARKS: Final = (
    "\u0300-\u034e\u0350-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f"
)
MAX_INVISIBLE_RUN: Final = 32
"""Of invisible characters in a row that a guarded text keeps; nothing legitimate has as many (a
flag of a region has six tags), and what must be held back would else have no bound."""

_INVISIBLE_OR_MARK: Final = re.compile(f"[{INVISIBLE}{_MARKS}]")
_SEEN: Final = re.compile(f"[^{INVISIBLE}{_MARKS}]")
_UNSEEN: Final = re.compile(f"[{INVISIBLE}{_MARKS}]+")
_MAX_KNOWN: Final = 20_000
_DASHES: Final = "\u2212\u2043\u02d7"
_QUOTES: Final = {
    **dict.fromkeys("\u2018\u2019\u201a\u201b\u2032\u02bc\u00b4\u02b9", "'"),
    **dict.fromkeys("\u201c\u201d\u201e\u201f\u2033\u00ab\u00bb", '"'),
}


class _Table(dict[str, str]):
    """What each character becomes, worked out when it is first met."""

    def __init__(self, fold: Callable[[str], str]) -> None:
        super().__init__()
        self._fold = fold

    def __missing__(self, character: str) -> str:
        if len(self) >= _MAX_KNOWN:
            self.clear()
        folded = self[character] = self._fold(character)
        return folded


class Folded(NamedTuple):
    """A text and where it came from."""

    text: str
    origins: list[int] | None
    """Of each character, the index of the one it came from; None: its own."""

    def origin(self, at: int) -> int:
        """Where in the original the character stands that this one came from, which exists."""
        return at if self.origins is None else self.origins[at]


def _plain(character: str) -> str:
    if _INVISIBLE_OR_MARK.match(character):
        return ""
    if "\ud800" <= character <= "\udfff":  # half of a pair, which no encoding of ours can write
        return "\ufffd"
    if character in _QUOTES:
        return _QUOTES[character]
    folded = []
    for one in unicodedata.normalize("NFKC", character):
        category = unicodedata.category(one)
        if category == "Nd":
            one = str(unicodedata.decimal(one))
        elif category == "Pd" or one in _DASHES:
            one = "-"
        elif category == "Zs" or one == "\u2800":
            one = " "
        elif category in ("Zl", "Zp") or one == "\x85":
            one = "\n"
        elif one == "\u2044":
            one = "/"
        if not _INVISIBLE_OR_MARK.match(one):
            folded.append(one)
    # What is only marks, such as a diaeresis by itself, still takes its place.
    return "".join(folded) or " "


def _skeleton(character: str) -> str:
    plain = PLAIN[character]
    if not plain:
        return ""
    bare = "".join(
        one
        for one in unicodedata.normalize("NFKD", plain.casefold())
        if not _INVISIBLE_OR_MARK.match(one)
    )
    return "".join(LOOKALIKES.get(one, one) for one in bare) or " "


PLAIN: Final = _Table(_plain)
SKELETON: Final = _Table(_skeleton)
RAW: Final = _Table(lambda character: character)


def table(fold: Fold) -> _Table:
    """Character -> what it becomes: nothing, one character, or some."""
    return {"raw": RAW, "plain": PLAIN, "skeleton": SKELETON}[fold]


def is_simple(text: str) -> bool:
    """Whether it is plain as it is: ASCII, and everything in it can be seen."""
    return text.isascii() and (text.isprintable() or _INVISIBLE_OR_MARK.search(text) is None)


def folded(text: str, fold: Fold) -> Folded:
    """The text as a scanner of that fold sees it."""
    if fold == "raw":
        return Folded(text, None)
    if is_simple(text):
        return Folded(text if fold == "plain" else text.lower(), None)
    known = table(fold)
    pieces = [known[character] for character in text]
    lengths = list(map(len, pieces))
    whole = "".join(pieces)
    if lengths.count(1) == len(lengths):
        return Folded(whole, None)
    return Folded(whole, [at for at, length in enumerate(lengths) for _ in range(length)])


def fold_term(term: str, fold: Fold) -> str:
    """A text to look for, as it stands in folded texts."""
    return folded(term, fold).text


class InvisibleRuns:
    """Cuts runs of invisible characters that are longer than `MAX_INVISIBLE_RUN`, over all chunks
    of a stream. Combining marks count as well: they are left out by every fold but `raw`."""

    __slots__ = ("_run",)

    def __init__(self) -> None:
        self._run = 0

    def feed(self, text: str) -> str:
        """The next chunk without what is too much; the same object where nothing is."""
        if text.isascii() and text.isprintable():
            if text:
                self._run = 0
            return text
        kept = []
        at = 0
        is_cut = False
        for run in _UNSEEN.finditer(text):
            begin, end = run.span()
            before = self._run if begin == 0 else 0
            allowed = max(0, MAX_INVISIBLE_RUN - before)
            if end - begin > allowed:
                is_cut = True
                kept.append(text[at : begin + allowed])
                at = end
            last_run, last_end = before + end - begin, end
            if last_end == len(text):
                self._run = min(last_run, MAX_INVISIBLE_RUN)
                break
        else:
            self._run = 0
        if not is_cut:
            return text
        kept.append(text[at:])
        return "".join(kept)


def seen_from_end(text: str, count: int) -> int:
    """The index from which on `count` characters that can be seen stand, to the end; 0 where there
    are fewer."""
    if count >= len(text):
        return 0
    at = len(text) - count
    if is_simple(text[at:]):
        return at
    places = [one.start() for one in _SEEN.finditer(text)]
    return places[-count] if 0 < count <= len(places) else len(text) if count <= 0 else 0
