"""The last number in a text, whoever wrote it: 1,234.5 and 1.234,5 and 1'234,5 are the same one.

A space groups only where it cannot be broken (U+00A0, U+2009, U+202F): "3 100" may be two numbers.
Exponents of units (m^2) are no numbers, nor is what is part of a word. Where one mark could be
either, as in 1,234, it is read as in English; an operator who knows better says so.
"""

from __future__ import annotations

import re
import unicodedata
from decimal import Decimal
from typing import Final, Literal

from relay.policy.panel_text import FRACTIONS, unicode_folded

DecimalMark = Literal["auto", "point", "comma"]

MAX_TEXT_CHARS: Final = 10_000
"""The end of a text that is looked at."""
MAX_DIGITS: Final = 64
"""What is longer is an id, and no number to be close to another."""
MAX_EXPONENT: Final = 400

_GROUPS: Final = re.compile("(?<=[0-9])[\u00a0\u2007\u2009\u202f](?=[0-9]{3})")
_ARABIC: Final = str.maketrans({"\u066b": ".", "\u066c": ","})
_FRACTION: Final = re.compile(f"([0-9]*)[ ]?([{FRACTIONS}])")
_NUMBER: Final = re.compile(
    r"(?<![A-Za-z0-9.,^])(?<!\^_)(?P<sign>[-+]?)[$\u20ac\u00a3\u00a5]?"
    r"(?P<digits>[0-9]++(?:[.,'][0-9]++)*+|[.,][0-9]++)"
    r"(?:[eE](?P<exponent>[-+]?[0-9]{1,4})(?![0-9]))?+(?![eE][-+]?[0-9])"
)
_SEPARATORS: Final = re.compile(r"[.,']")


def last_number(text: str, mark: DecimalMark = "auto") -> Decimal | None:
    """The last number written in digits; None where there is none that can be read."""
    text = text[-MAX_TEXT_CHARS:]
    if not text.isascii():
        text = _FRACTION.sub(_as_decimal, unicode_folded(_GROUPS.sub("'", _ascii_digits(text))))
    numbers = list(_NUMBER.finditer(text))
    if not numbers:
        return None
    found = numbers[-1]
    value = _value(found["digits"], mark)
    exponent = int(found["exponent"] or 0)
    if value is None or abs(exponent) > MAX_EXPONENT:
        return None
    value = value.scaleb(exponent)
    return -value if found["sign"] == "-" else value


def _ascii_digits(text: str) -> str:
    return "".join(
        str(unicodedata.decimal(char)) if not char.isascii() and char.isdecimal() else char
        for char in text
    ).translate(_ARABIC)


def _as_decimal(found: re.Match[str]) -> str:
    if len(found[1]) > MAX_DIGITS:
        return found[0]
    part = Decimal(repr(round(unicodedata.numeric(found[2]), 9)))
    return f" {Decimal(found[1] or 0) + part}"


def _value(written: str, mark: DecimalMark) -> Decimal | None:
    if len(written) > MAX_DIGITS:
        return None
    if written.isdigit():
        return Decimal(written)
    decimal, group = (".", ",") if _mark_of(written, mark) == "point" else (",", ".")
    grouped = re.fullmatch(
        rf"(?P<whole>[0-9]*|[0-9]{{1,3}}(?:{_any(group)}[0-9]{{3}})+"
        rf"|[0-9]{{1,2}}(?:{_any(group)}[0-9]{{2}})+{_any(group)}[0-9]{{3}})"
        rf"(?:{re.escape(decimal)}(?P<rest>[0-9]+))?",
        written,
    )
    if grouped is not None:
        whole = _SEPARATORS.sub("", grouped["whole"])
        return Decimal(f"{whole or '0'}.{grouped['rest'] or '0'}")
    pieces = _SEPARATORS.split(written)
    if len(pieces) == 2 and "'" not in written:  # 1.23 where commas were expected
        return Decimal(f"{pieces[0] or '0'}.{pieces[1]}")
    return Decimal(pieces[-1])  # a list: 1,2,3


def _any(group: str) -> str:
    return f"[{re.escape(group)}']"


def _mark_of(written: str, mark: DecimalMark) -> Literal["point", "comma"]:
    """Which of the two is the decimal mark in this number."""
    if mark != "auto":
        return mark
    points, commas = written.count("."), written.count(",")
    if points and commas:
        return "point" if written.rfind(".") > written.rfind(",") else "comma"
    if points > 1:
        return "comma"  # 1.234.567: they group
    if commas != 1:
        return "point"
    head, _, tail = written.partition(",")
    is_group = len(tail) == 3 and 1 <= len(head) <= 3 and head != "0" and "'" not in head
    return "point" if is_group else "comma"
