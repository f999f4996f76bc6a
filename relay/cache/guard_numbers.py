"""Numbers, however they are written, as one word each: `#25` for 25, "twenty-five" and "25".

What cannot be told apart for sure (dates in figures, times, versions, decimals) stays as it is
written, so that two ways to write the same date are different here: a miss, never a wrong answer.
"""

from __future__ import annotations

import re
from typing import Final

from relay.cache.guard_lists import listed

_UNITS: Final = {
    "zero": 0, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7,
    "eight": 8, "nine": 9, "ten": 10, "eleven": 11, "twelve": 12, "thirteen": 13, "fourteen": 14,
    "fifteen": 15, "sixteen": 16, "seventeen": 17, "eighteen": 18, "nineteen": 19,
}  # fmt: skip
_TENS: Final = {
    "twenty": 20, "thirty": 30, "forty": 40, "fourty": 40, "fifty": 50, "sixty": 60,
    "seventy": 70, "eighty": 80, "ninety": 90,
}  # fmt: skip
_SCALES: Final = {
    "hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9, "trillion": 10**12,
}  # fmt: skip
_SHORT: Final = {"k": 1000, "mn": 10**6, "bn": 10**9}
"""Right behind digits. Not `m`, which is metres, minutes or millions."""
_ORDINALS: Final = {
    "first": 1, "second": 2, "third": 3, "fourth": 4, "fifth": 5, "sixth": 6, "seventh": 7,
    "eighth": 8, "ninth": 9, "tenth": 10, "eleventh": 11, "twelfth": 12, "thirteenth": 13,
    "fourteenth": 14, "fifteenth": 15, "sixteenth": 16, "seventeenth": 17, "eighteenth": 18,
    "nineteenth": 19, "twentieth": 20, "thirtieth": 30,
}  # fmt: skip
_OTHERS: Final = {
    "half": "#0.5", "quarter": "#0.25", "dozen": "#12", "dozens": "#12", "once": "#1x",
    "twice": "#2x", "thrice": "#3x", "double": "#2x", "triple": "#3x", "single": "#1",
}  # fmt: skip
_NOT_ONE: Final = frozenset(
    listed(
        """
    which this that the new another no any every each other last next old right wrong good
    best same only red blue green black white big small
    """
    )
)
"""Behind these "one" stands for a thing."""
_NOT_ONE_BEFORE: Final = frozenset(
    listed(
        """
    i you we they that which is are do does can in on of for to
    """
    )
)
"""And before these, and at the end."""
_CURRENCIES: Final = frozenset("$€£¥₹")
_GROUPED: Final = re.compile(r"-?\d{1,3}(?:,\d{3})+(?:\.\d+)?")
_PLAIN: Final = re.compile(r"-?\d+(?:\.\d+)?")
_NTH: Final = frozenset(("st", "nd", "rd", "th"))


def is_number(word: str) -> bool:
    """Whether a word is a number, as `counted` or as somebody writes it."""
    return (word[0] == "#" and len(word) > 1) or _is_figure(word)


def counted(words: list[str]) -> list[str]:
    """English words with each number as one word `#N` (`#N.` an ordinal); others as they are."""
    found: list[str] = []
    at = 0
    while at < len(words):
        word = words[at]
        if _is_figure(word):
            value = _digits(word)
            following = words[at + 1] if at + 1 < len(words) else ""
            if value is None:
                found.append("#" + word)
            elif following in _NTH:
                found.append(f"#{_text(value)}.")
                at += 1
            elif scale := _SHORT.get(following) or _SCALES.get(following):
                found.append("#" + _text(value * scale))
                at += 1
            elif "." in word:
                found.append("#" + word)  # 3.1 and 3.10 may be versions
            else:
                found.append("#" + _text(value))
            at += 1
            continue
        following = words[at + 1] if at + 1 < len(words) else ""
        if word == "one" and (
            (at and words[at - 1] in _NOT_ONE) or not following or following in _NOT_ONE_BEFORE
        ):
            at += 1
            continue
        if word in _CURRENCIES and following and _is_figure(following):
            words = [*words[:at], following, *_scale(words, at + 2), word, *_behind(words, at + 2)]
            continue
        if word in ("couple", "pair") and following == "of":
            found.append("#2")
            at += 1
            continue
        if word in _UNITS or word in _TENS or _is_hyphened(word):
            text, at = _spelt(words, at)
            found.append(text)
            continue
        if word in _SCALES:
            found.append("#" + _text(_SCALES[word]))
        elif word == "second" and found and is_number(found[-1]):
            found.append("seconds")
        elif word in _ORDINALS:
            found.append(f"#{_ORDINALS[word]}.")
        else:
            found.append(_OTHERS.get(word, word))
        at += 1
    return found


def _scale(words: list[str], at: int) -> list[str]:
    """The scale of a sum behind its figures: `$5 million`."""
    return [word for word in words[at : at + 1] if word in _SCALES or word in _SHORT]


def _behind(words: list[str], at: int) -> list[str]:
    return words[at + len(_scale(words, at)) :]


def _is_figure(word: str) -> bool:
    return word[0].isdigit() or (word[0] == "-" and word[1:2].isdigit())


def _is_hyphened(word: str) -> bool:
    tens, dash, unit = word.partition("-")
    return bool(dash) and tens in _TENS and (unit in _UNITS or unit in _ORDINALS)


def _digits(word: str) -> float | None:
    if _PLAIN.fullmatch(word) and not _is_code(word):
        return float(word) if len(word) <= 15 else None
    if _GROUPED.fullmatch(word) and len(word) <= 18:
        return float(word.replace(",", ""))
    return None


def _is_code(word: str) -> bool:
    """`007`: no number, whose zeros would not count."""
    return word.lstrip("-")[:1] == "0" and len(word) > 1 and not word.lstrip("-").startswith("0.")


def _text(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)


def _spelt(words: list[str], at: int) -> tuple[str, int]:
    """One number in words from a place on, and the place behind it."""
    total = 0
    part = 0
    room = 1000
    """What the part may still take: tens behind hundreds, units behind tens."""
    ending = ""
    begun = at
    while at < len(words):
        word = words[at]
        if word == "and" and at > begun and at + 1 < len(words) and words[at - 1] in _SCALES:
            following = words[at + 1]
            if following in _UNITS or following in _TENS or _is_hyphened(following):
                at += 1
                continue
            break
        tens, dash, unit = word.partition("-")
        if dash and _is_hyphened(word) and room >= 100:
            part += _TENS[tens] + _UNITS.get(unit, _ORDINALS.get(unit, 0))
            ending = "." if unit in _ORDINALS else ""
            room = 0
        elif word in _TENS and room >= 100:
            part += _TENS[word]
            room = 10
        elif word in _UNITS and _UNITS[word] < room and not (room == 10 and _UNITS[word] == 0):
            part += _UNITS[word]
            room = 0
        elif word in _ORDINALS and room == 10 and _ORDINALS[word] < 10 and word != "second":
            part += _ORDINALS[word]
            ending = "."
            at += 1
            break
        elif word in _SCALES and part:
            scale = _SCALES[word]
            if scale == 100:
                part *= 100
                room = 100
            else:
                total += part * scale
                part = 0
                room = 1000
        else:
            break
        at += 1
        if ending:
            break
    if at == begun:  # cannot be: the caller has seen a number here
        return words[at], at + 1
    return f"#{total + part}{ending}", at
