"""When a provider says to come back, from headers and text; 0 to 60 seconds, or None.

In order of trust: `retry-after-ms`; `retry-after` (seconds, a duration as `1m30s`, or an HTTP
date); the words "try again in 20.402s" (or "20 minutes", "1 hour and 5 minutes") of the message,
which also win when they give the same whole seconds more exactly; `x-ratelimit-reset-*` of a limit
that is used up. There is no clock in a codec: dates count from the response's own `date` header,
and are ignored without one. `x-should-retry` says whether, not when, and that the reason of the
error says already.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from email.utils import parsedate_to_datetime
from typing import Final

from relay.errors import Reason

WORTH_WAITING: Final = frozenset(
    {
        Reason.UPSTREAM_RATE_LIMITED,
        Reason.UPSTREAM_OVERLOADED,
        Reason.UPSTREAM_FAILED,
        Reason.FIRST_TOKEN_TIMEOUT,
    }
)
"""Of these a hint is passed on; others would be the same later."""

MAX_HINT_S: Final = 60.0
"""A longer wait is another provider's chance: no caller on the phone waits for it."""

_MAX_SEARCHED_CHARS: Final = 4000
_IN_TEXT: Final = re.compile(r"(?i)\b(?:try again|retry)\w* (?:in|after) (?=\d)")
_SPOKEN: Final = re.compile(
    r"(?i)(\d++(?:\.\d++)?+) ?"
    r"(ns|us|µs|ms|msecs?|milliseconds?|s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?|d|days?"
    r"|weeks?)?(?![a-zµ])(?:(?:, | and |, and | )(?=\d))?"
)
_MAX_SPOKEN: Final = 8
"""Numbers with a unit that are added up."""
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|us|µs|ns|s|m|h|d)?")
_UNIT_S: Final = {
    "": 1.0,
    "ns": 1e-9,
    "us": 1e-6,
    "µs": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "m": 60.0,
    "h": 3600.0,
    "d": 86400.0,
}


def retry_after_s(headers: Iterable[tuple[str, str]], message: str) -> float | None:
    """The most trusted hint of an error response, clamped.

    Args:
        headers: lower-case names; empty for an error inside a stream, whose headers speak of
            the 200 (Hugging Face's router puts `retry-after` on those).
        message: the provider's message.
    """
    by_name = dict(headers)
    now_s = _epoch_s(by_name.get("date", ""))
    hint = _number(by_name.get("retry-after-ms", ""))
    if hint is not None:
        return _clamped(hint / 1000)
    value = by_name.get("retry-after", "")
    hint = _number(value)
    if hint is None and (until_s := _epoch_s(value)) is not None and now_s is not None:
        hint = until_s - now_s
    if hint is None:
        hint = duration_s(value)
    said_s = _said_s(message[:_MAX_SEARCHED_CHARS])
    # Groq cuts: `retry-after: 7` beside "try again in 7.66s", which 7 s later is refused again.
    if said_s is not None and (hint is None or hint < said_s < hint + 1):
        hint = said_s
    if hint is None:
        hint = _from_limits(by_name, now_s)
    return None if hint is None else _clamped(hint)


def duration_s(text: str) -> float | None:
    """Seconds of a Go-style duration (`6ms`, `1m12.5s`) or a plain number; None if neither."""
    text = text.strip()
    total_s, at = 0.0, 0
    for match in _DURATION.finditer(text):
        if match.start() != at:
            return None
        total_s += float(match[1]) * _UNIT_S[match[2] or ""]
        at = match.end()
    return total_s if text and at == len(text) else None


def _said_s(message: str) -> float | None:
    """Seconds of the wait that a message speaks of; a number without a unit counts seconds."""
    begin = _IN_TEXT.search(message)
    if begin is None:
        return None
    total_s, at = None, begin.end()
    for _ in range(_MAX_SPOKEN):
        match = _SPOKEN.match(message, at)
        if match is None:
            break
        unit = (match[2] or "").lower()
        if not unit and total_s is not None:
            break  # another number, of something else
        total_s = (total_s or 0.0) + float(match[1]) * _spoken_unit_s(unit)
        at = match.end()
        if not unit:
            break
    return total_s


def _spoken_unit_s(unit: str) -> float:
    """Of a word: by its beginning, but for the short ones."""
    if (known := _UNIT_S.get(unit)) is not None:
        return known
    if unit.startswith(("milli", "msec")):
        return 1e-3
    return 7 * 86400.0 if unit.startswith("week") else _UNIT_S[unit[0]]


def _from_limits(headers: dict[str, str], now_s: float | None) -> float | None:
    """The longest reset among the limits that have nothing left."""
    hints: list[float] = []
    for name, value in headers.items():
        if not name.startswith("x-ratelimit-reset"):
            continue
        remaining = _number(headers.get(name.replace("-reset", "-remaining"), "0"))
        if remaining is not None and remaining > 0:
            continue
        moment = _number(value)
        if moment is not None and moment > 1e9:
            # OpenRouter: a moment, in milliseconds since 1970.
            moment_s = moment / 1000 if moment > 1e11 else moment
            if now_s is not None:
                hints.append(moment_s - now_s)
        elif (length_s := duration_s(value)) is not None:
            hints.append(length_s)
    return max(hints, default=None)


def _clamped(seconds: float) -> float:
    return min(max(seconds, 0.0), MAX_HINT_S)


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _epoch_s(http_date: str) -> float | None:
    if not http_date:
        return None
    try:
        return parsedate_to_datetime(http_date).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
