"""Payment card numbers: ISO/IEC 7812 prefixes and lengths of the brands, and Luhn's check digit."""

from __future__ import annotations

import re
from functools import cache
from typing import Final

from relay.guardrails.regex_scanner import RegexScanner, Span

_MOST_DIGITS: Final = 19
_NUMBER: Final = re.compile(r"\d(?:[ -]?\d){11,18}")
_BRANDS: Final[tuple[tuple[str, int, int, frozenset[int]], ...]] = (
    ("mir", 2200, 2204, frozenset(range(16, 20))),
    ("mastercard", 2221, 2720, frozenset({16})),
    ("diners", 3000, 3059, frozenset(range(14, 20))),
    ("amex", 3400, 3499, frozenset({15})),
    ("jcb", 3528, 3589, frozenset(range(16, 20))),
    ("diners", 3600, 3699, frozenset(range(14, 20))),
    ("amex", 3700, 3799, frozenset({15})),
    ("diners", 3800, 3999, frozenset(range(14, 20))),
    ("visa", 4000, 4999, frozenset({13, 16, 19})),
    ("maestro", 5000, 5099, frozenset(range(12, 20))),
    ("mastercard", 5100, 5599, frozenset({16})),
    ("maestro", 5600, 5999, frozenset(range(12, 20))),
    ("discover", 6011, 6011, frozenset(range(16, 20))),
    ("unionpay", 6200, 6299, frozenset(range(16, 20))),
    ("discover", 6440, 6599, frozenset(range(16, 20))),
    ("maestro", 6000, 6999, frozenset(range(12, 20))),
)
_DOUBLED: Final = bytes.maketrans(b"0123456789", b"0246813579")
"""A digit -> the sum of the digits of its double."""
_ZERO: Final = ord("0")


def luhn(digits: str) -> bool:
    """Whether the last digit is the check digit of the others (ISO/IEC 7812-1, annex B)."""
    raw = digits.encode()
    total = sum(raw[-1::-2]) + sum(raw[-2::-2].translate(_DOUBLED))
    return (total - _ZERO * len(raw)) % 10 == 0


@cache
def _lengths(prefix: str) -> tuple[int, ...]:
    """How many digits cards have that begin with these four, the most first."""
    number = int(prefix)
    lengths = {each for _, low, high, some in _BRANDS if low <= number <= high for each in some}
    return tuple(sorted(lengths, reverse=True))


def brand_of(digits: str) -> str:
    """Whose card it may be by prefix and length; empty: nobody's."""
    prefix = int(digits[:4])
    for name, low, high, lengths in _BRANDS:
        if low <= prefix <= high and len(digits) in lengths:
            return name
    return ""


def _check(match: re.Match[str]) -> Span | None:
    """The longest number from here that ends where a group of digits ends."""
    text, start = match.string, match.start()
    found = _NUMBER.match(text, start)
    if found is None:
        return None
    digits = found.group().replace(" ", "").replace("-", "")
    for length in _lengths(digits[:4]):
        if length <= len(digits) and luhn(digits[:length]):
            end = _end(text, start, length)
            if end == len(text) or not text[end].isdecimal():
                return start, end
    return None


def _end(text: str, start: int, count: int) -> int:
    """Behind so many digits."""
    while count:
        count -= text[start].isdecimal()
        start += 1
    return start


def card_scanner() -> RegexScanner:
    """`pii.card`: digits in groups that one space or dash separates; the groups count as they are
    written, so a number in front of a card number hides it not."""
    return RegexScanner(
        "pii.card",
        r"(?<!\d)\d(?:[ -]?\d){11}",
        2 * _MOST_DIGITS - 1,
        check=_check,
        shape=r"(?<!\d)\d(?:[ -]?\d){11,18}(?!\d)",
    )
