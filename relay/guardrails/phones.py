"""Telephone numbers, judged by `phonenumbers` (Google's libphonenumber metadata).

Its own search (`PhoneNumberMatcher`) needs the whole text and milliseconds; here a pattern finds
candidates and the library says whether a number of that form is given out anywhere. A candidate
takes about 0.1 ms, and the library 20 ms to import, so it is imported with the first scanner.
"""

from __future__ import annotations

import re
from typing import Final

from relay.guardrails.regex_scanner import RegexScanner, Span

_BETWEEN: Final = r"[ ().\-/]"
_DIGITS: Final = rf"\d(?:{_BETWEEN}{{0,2}}\d){{6,14}}(?!\d)"
_INTERNATIONAL: Final = rf"\+{_BETWEEN}{{0,2}}{_DIGITS}"
_PATTERN: Final = (
    rf"(?<!\d)(?:{_INTERNATIONAL}"
    rf"|(?<!\d{_BETWEEN})(?<!\d{_BETWEEN}{{2}})(?<!\+)(?<!\+{_BETWEEN})\(?{_DIGITS})"
)
_SHAPE: Final = rf"(?<!\d)(?:{_INTERNATIONAL}|\(?{_DIGITS})"
_WINDOW_CHARS: Final = 1 + 2 + 15 + 14 * 2
_DATE: Final = re.compile(r"\d{1,2}[./-]\d{1,2}[./-]\d{2,4}$|\d{4}[./-]\d{1,2}[./-]\d{1,2}$")
_GROUPED: Final = re.compile(r"\d{1,3}(?:\.\d{3})+$")
"""Thousands, as many languages write them."""
_MOST_TRIES: Final = 3


class _Judge:
    """Whether a candidate is a number.

    Args:
        region: two letters; None: only numbers with their country's code.

    Raises:
        ValueError: no such region.
    """

    def __init__(self, region: str | None) -> None:
        import phonenumbers  # late: it takes 20 ms, and is needed only where phones are looked for

        self._library = phonenumbers
        self._region = region.upper() if region else None
        self._trunk = ""
        if self._region is not None:
            metadata = phonenumbers.PhoneMetadata.metadata_for_region(self._region, None)
            if metadata is None:
                raise ValueError(
                    f"there is no region {region!r}: two letters of ISO 3166 are wanted"
                )
            self._trunk = metadata.national_prefix or ""

    def check(self, match: re.Match[str]) -> Span | None:
        """The longest number from the candidate's beginning that ends with a group of digits."""
        start, end = match.span()
        text = match.string
        for _ in range(_MOST_TRIES):
            candidate = text[start:end]
            if self.is_number(candidate):
                return start, end
            end = start + max(
                (at for at in range(1, len(candidate)) if self._is_group_end(candidate, at)),
                default=0,
            )
            if sum(map(str.isdecimal, text[start:end])) < 7:
                return None
        return None

    @staticmethod
    def _is_group_end(text: str, at: int) -> bool:
        return text[at - 1].isdecimal() and not text[at].isdecimal()

    def is_number(self, text: str) -> bool:
        """Whether such a number is given out."""
        digits = "".join(one for one in text if one.isdecimal())
        if text.startswith("+"):
            region, dialled = None, f"+{digits}"
        elif digits.startswith("00"):
            region, dialled = None, f"+{digits[2:]}"
        elif self._region is None or _DATE.match(text) or _GROUPED.match(text):
            return False
        elif self._trunk == "0" and not digits.startswith("0"):
            return False  # a local number without its area, or no number at all
        else:
            region, dialled = self._region, digits
        try:
            number = self._library.parse(dialled, region)
        except self._library.NumberParseException:
            return False
        return bool(self._library.is_valid_number(number))


def phone_scanner(region: str | None = None) -> RegexScanner:
    """`pii.phone`.

    Args:
        region: whose national numbers count, two letters; None: only those with `+` or `00` and
            the country's code.

    Raises:
        ValueError: no such region.
        ModuleNotFoundError: `phonenumbers` is not installed.
    """
    judge = _Judge(region)
    return RegexScanner(
        "pii.phone", _PATTERN, _WINDOW_CHARS, context_chars=3, check=judge.check, shape=_SHAPE
    )
