"""Addresses: e-mail, IP and MAC.

What is in front of an `@` may be any word, so a word must be held back until it ends, where e-mail
addresses are taken out whole. `email_domain_scanner` begins at the `@` and holds back no prose; the
name in front of it stays.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from typing import Final

from relay.guardrails.regex_scanner import RegexScanner, Span
from relay.guardrails.scan import Match, Shape

_LETTER: Final = "A-Za-z0-9\u00c0-\u024f\u0370-\u052f"
_LOCAL: Final = rf"[{_LETTER}._%+\-]"
_MOST_LOCAL: Final = 64  # RFC 5321, 4.5.3.1.1
_LABEL: Final = rf"[{_LETTER}](?:[{_LETTER}\-]{{0,61}}[{_LETTER}])?"
_MOST_LABELS: Final = 6
_DOMAIN: Final = (
    rf"(?:[{_LETTER}\-]{{1,63}}\.){{1,{_MOST_LABELS}}}[A-Za-z\u00c0-\u024f\u0370-\u052f]{{2,24}}"
)
_MOST_DOMAIN: Final = _MOST_LABELS * 64 + 24


class EmailScanner:
    """`pii.email`: searched from each `@` to both sides.

    The name before it: up to 64 letters of Latin, Greek or Cyrillic script, digits, and `._%+-`.
    Quoted names, and domains given as numbers, are not found.
    """

    name = "pii.email"
    classes = ("pii.email",)
    fold: Final = "plain"
    window_chars = _MOST_LOCAL + 1 + _MOST_DOMAIN
    context_chars = 1
    shapes: Sequence[Shape] = (
        Shape(rf"{_LOCAL}{{1,{_MOST_LOCAL}}}@[{_LETTER}.\-]{{4,{_MOST_DOMAIN}}}"),
    )
    is_slow = False
    _local: Final = re.compile(rf"{_LOCAL}{{1,{_MOST_LOCAL}}}")
    _domain: Final = re.compile(_DOMAIN)
    _beside: Final = re.compile(_LOCAL)

    def find(self, text: str, start: int = 0) -> list[Match]:
        found = []
        at = text.find("@", start)
        while at >= 0:
            begin = at
            least = max(start, at - _MOST_LOCAL)
            while begin > least and self._beside.match(text, begin - 1):
                begin -= 1
            domain = self._domain.match(text, at + 1) if begin < at else None
            if domain is not None:
                start = domain.end()
                found.append(Match(begin, start, "pii.email"))
            at = text.find("@", max(start, at + 1))
        return found


def email_domain_scanner() -> RegexScanner:
    """`pii.email_domain`: of an address, the `@` and what follows."""
    return RegexScanner(
        "pii.email_domain",
        rf"(?<={_LOCAL})@{_DOMAIN}",
        1 + _MOST_DOMAIN,
        shape=rf"(?<={_LOCAL})@[{_LETTER}.\-]{{4,{_MOST_DOMAIN}}}",
    )


def _check_ip(match: re.Match[str]) -> Span | None:
    start, end = match.span()
    while end > start and match.string[end - 1] in ".:" and match.string[end - 2 : end] != "::":
        end -= 1
    try:
        ipaddress.ip_address(match.string[start:end])
    except ValueError:
        return None
    return start, end


def ip_scanner() -> RegexScanner:
    """`pii.ip`: version 4 in dotted decimal, and version 6."""
    return RegexScanner(
        "pii.ip",
        r"(?<![\w.:])(?:\d{1,3}(?:\.\d{1,3}){3}(?!\w)"
        r"|(?=[0-9A-Fa-f]{0,4}:[0-9A-Fa-f]{0,4}:)[0-9A-Fa-f:]{2,39}(?:\.\d{1,3}){0,3}(?!\w))",
        51,
        check=_check_ip,
        shape=r"(?<![\w.:])(?:\d{1,3}(?:\.\d{1,3}){3}(?!\w)"
        r"|[0-9A-Fa-f]{0,4}:[0-9A-Fa-f]{0,4}:[0-9A-Fa-f:]{0,39}(?:\.\d{1,3}){0,3}(?!\w))",
    )


def mac_scanner() -> RegexScanner:
    """`pii.mac`: six pairs with colons or dashes, or three groups of four with dots."""
    pair = "[0-9A-Fa-f]{2}"
    return RegexScanner(
        "pii.mac",
        rf"(?<![\w:.\-])(?:{pair}(?:(?::{pair}){{5}}|(?:-{pair}){{5}})"
        r"|[0-9A-Fa-f]{4}(?:\.[0-9A-Fa-f]{4}){2})(?!\w)",
        17,
    )
