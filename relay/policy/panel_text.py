"""When two texts are the same words: what may differ between them, and what must not.

Folded: case, Unicode's compatibility forms (NFKC), invisible characters, runs of white space, all
kinds of dashes and quotes; sentence punctuation, quotes, emphasis and brackets around a word; a
leading English article or bullet. Kept: everything inside a word, and what changes a meaning at its
edge: signs, currency, percent, the point of .5, the + of C++, < and >, a superscript. Where it is
doubtful two texts stay different: a vote that is not counted costs less than one that is wrong.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

_SENTENCE: Final = ".,;:!?\u2026\u00bf\u00a1"
_AROUND: Final = f"{_SENTENCE}\"'`*_"
_BRACKETS: Final = {"(": ")", "[": "]", "{": "}"}
_OPENING: Final = {close: opening for opening, close in _BRACKETS.items()}
_ARTICLES: Final = frozenset({"the", "a", "an"})
_BULLETS: Final = frozenset({"-", "*", "\u2022"})

_SAME: Final = str.maketrans(
    {
        **dict.fromkeys("\u2018\u2019\u201a\u201b\u2032\u00b4", "'"),
        **dict.fromkeys("\u201c\u201d\u201e\u201f\u2033\u00ab\u00bb\u2039\u203a", '"'),
        **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212", "-"),
        **dict.fromkeys("\u3002\uff0e", "."),
        **dict.fromkeys("\u3001\uff0c", ","),
    }
)
MAX_FOLDED_CHARS: Final = 20_000
"""Folding takes some 0.1 us a character, 0.3 us beyond ASCII, and the loop stands still meanwhile.
Longer texts are compared as they are."""
_MAX_LAYERS: Final = 8
"""Of punctuation and brackets around one word."""

_INVISIBLE: Final = re.compile(
    "[\u00ad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e\u200b-\u200f\u202a-\u202e"
    "\u2060-\u2064\u2066-\u206f\ufeff\ufff9-\ufffb\U000110bd\U000110cd\U00013430-\U0001343f"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0001\U000e0020-\U000e007f]"
)
"""Unicode's category Cf."""
_RAISED: Final = re.compile("[\u00b2\u00b3\u00b9\u2070\u2074-\u207f]+")
_LOWERED: Final = re.compile("[\u2080-\u208e]+")
FRACTIONS: Final = "\u00bc-\u00be\u2150-\u215e\u2189"
_FRACTION: Final = re.compile(f"([{FRACTIONS}])")


def unicode_folded(text: str) -> str:
    """NFKC, invisible characters left out. What NFKC would make another number stays one: \u00bd
    as it is, a superscript behind ^, a subscript behind ^_."""
    if text.isascii():
        return text
    text = _RAISED.sub(lambda found: f"^{found[0]}", text)
    text = _LOWERED.sub(lambda found: f"^_{found[0]}", text)
    pieces = _FRACTION.split(text.translate(_SAME))
    pieces[::2] = [unicodedata.normalize("NFKC", piece).translate(_SAME) for piece in pieces[::2]]
    return _INVISIBLE.sub("", "".join(pieces))


def normalised(text: str) -> str:
    """See the module. Empty where there is nothing but sentence punctuation; a text of more than
    `MAX_FOLDED_CHARS` as it is, but for white space around it."""
    if len(text) > MAX_FOLDED_CHARS:
        return text.strip()
    words = unicode_folded(text).casefold().split()
    if len(words) > 1 and words[0] in _BULLETS:
        del words[0]
    if len(words) > 1 and words[0] in _ARTICLES and len(_bare(words[1])) > 1:
        del words[0]  # not of "a, b", nor of a lone letter: that is a choice of a list
    return " ".join(bare for word in words if (bare := _bare(word)))


def _bare(word: str) -> str:
    """Without what stands around it."""
    bare = word
    for _ in range(_MAX_LAYERS):
        stripped = _unbracketed(bare.strip(_AROUND))
        if stripped == bare:
            break
        bare = stripped
    if not bare:
        return "" if not word.strip(_SENTENCE) else word
    if bare[0].isdigit():
        at = word.index(bare)
        if word[:at].endswith("."):  # .5 is not 5
            bare = f".{bare}"
    if bare[-1].isdigit() and word.endswith(f"{bare}!"):  # 5! is not 5
        bare += "!"
    return bare


def _unbracketed(word: str) -> str:
    """Without a pair around it, or a half whose other half is in another word."""
    if word and (close := _BRACKETS.get(word[0])) is not None:
        at = word.find(close)
        if at == len(word) - 1 and len(word) > 2:
            return word[1:-1]
        if at == -1:
            return word[1:]
    if word and (opening := _OPENING.get(word[-1])) is not None and opening not in word:
        return word[:-1]
    return word
