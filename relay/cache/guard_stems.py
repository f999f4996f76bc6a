"""English words without their plural, -ing and spelling: enough to see one word in two sentences.

Tense is kept (`-ed` stays), and so is everything that may change what is meant.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

_IRREGULAR: Final = {
    "people": "person", "men": "man", "women": "woman", "children": "child", "feet": "foot",
    "teeth": "tooth", "mice": "mouse", "geese": "goose", "lives": "life", "wives": "wife",
    "knives": "knife", "leaves": "leave", "shelves": "shelf", "countries": "country",
    "colour": "color", "favourite": "favorite", "centre": "center", "theatre": "theater",
    "cheque": "check", "licence": "license", "grey": "gray", "tyre": "tire", "programme": "program",
    "travelling": "travel", "cancelled": "canceled", "cancelling": "cancel", "news": "news",
    "means": "mean", "lying": "lie", "dying": "die", "tying": "tie", "species": "species",
    "series": "series", "does": "do", "goes": "go", "has": "have",
}  # fmt: skip
_KEPT: Final = ("ss", "us", "is", "as", "os")


@lru_cache(maxsize=16384)
def stem(word: str) -> str:
    """A word of its own class: `countries` and `country` are one, `opened` and `open` are not."""
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if len(word) < 4 or not word.isalpha():
        return word
    found = word
    if found.endswith("ies") and len(found) > 4:
        found = found[:-3] + "y"
    elif found.endswith("es") and found[:-2].endswith(("s", "x", "z", "ch", "sh")):
        found = found[:-2]
    elif found.endswith("s") and not found.endswith(_KEPT):
        found = found[:-1]
    if found.endswith("ing") and len(found) > 5 and any(one in "aeiouy" for one in found[:-3]):
        found = found[:-3]
        if len(found) > 3 and found[-1] == found[-2] and found[-1] not in "lsz":
            found = found[:-1]
    if found.endswith("ise") and len(found) > 5:
        found = found[:-3] + "ize"
    if found.endswith("e") and len(found) > 3:
        found = found[:-1]
    return found
