"""Payment card numbers: ISO/IEC 7812 prefixes and lengths of the brands, and Luhn's check digit."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from relay.guardrails.regex_scanner import RegexScanner, Span

_LEAST_DIGITS: Final = 12
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
_DOUBLED: Final = {ord("0") + digit: str(digit * 2 // 10 + digit * 2 % 10) for digit in range(10)}


def luhn(digits: str) -> bool:
    """Whether the last digit is the check digit of the others (ISO/IEC 7812-1, annex B)."""
    odd, even = digits[-1::-2], digits[-2::-2].translate(_DOUBLED)
    return sum(map(int, odd + even)) % 10 == 0


def brands_of(digits: str) -> Iterator[tuple[str, frozenset[int]]]:
    """Whose card it may be by its first four digits, and how many digits such cards have."""
    prefix = int(digits[:4])
    for name, low, high, lengths in _BRANDS:
        if low <= prefix <= high:
            yield name, lengths


def brand_of(digits: str) -> str:
    """Whose card it may be by prefix and length; empty: nobody's."""
    return next((name for name, lengths in brands_of(digits) if len(digits) in lengths), "")


def _check(match: re.Match[str]) -> Span | None:
    """The longest number from here that ends where a group of digits ends."""
    text, start = match.string, match.start()
    found = _NUMBER.match(text, start)
    if found is None:
        return None
    places = [at for at in range(start, found.end()) if text[at].isdecimal()]
    digits = "".join([text[at] for at in places])
    lengths = frozenset[int]().union(*(lengths for _, lengths in brands_of(digits)))
    for length in range(len(digits), _LEAST_DIGITS - 1, -1):
        if length in lengths:
            end = places[length - 1] + 1
            is_group_end = end == len(text) or not text[end].isdecimal()
            if is_group_end and luhn(digits[:length]):
                return start, end
    return None


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
