"""What a provider's response says of its rate limits: how much is left, and until when.

Names differ, the parts do not: one of `limit`, `remaining`, `reset`, beside what is counted.

    x-ratelimit-remaining-requests, x-ratelimit-reset-tokens    OpenAI, Azure, Groq, xAI
    anthropic-ratelimit-input-tokens-remaining                  Anthropic
    x-ratelimit-remaining-req-minute                            Mistral (no reset)
    x-ratelimit-remaining, ratelimit-remaining                  Together, OpenRouter, Hugging Face

A reset is a length (`6ms`, `1m12.5s`, plain seconds), a moment in RFC 3339, or one since 1970;
moments count from the response's own `date`, there being no clock here. Where none is given it is
the period that the name tells, else a minute. Windows of other things (`ratelimitbysize`) are
not read.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Final, NamedTuple

from relay.codecs.retry_hints import duration_s

MAX_WINDOWS: Final = 16
"""Of one response; more are not read."""

_ACTIONS: Final = frozenset({"limit", "remaining", "reset"})
_PERIODS_S: Final = {"second": 1.0, "minute": 60.0, "hour": 3600.0, "day": 86400.0}
_DEFAULT_PERIOD_S: Final = 60.0


class RateWindow(NamedTuple):
    """One limit as a response reports it."""

    name: str
    """What is counted, in the provider's word: `requests`, `input-tokens`, `req-minute`, ``."""
    limit: float | None
    remaining: float | None
    reset_s: float
    """Seconds from the response until the window is whole again; never negative."""


def read_rate_windows(headers: Iterable[tuple[str, str]]) -> list[RateWindow]:
    """The windows of one response, possibly none; what cannot be read is left out.

    Args:
        headers: lower-case names.
    """
    found: dict[str, dict[str, str]] = {}
    date = ""
    for name, value in headers:
        if "ratelimit-" in name:
            _, _, rest = name.partition("ratelimit-")
            words = rest.split("-")
            action = words[0] if words[0] in _ACTIONS else words[-1]
            if action in _ACTIONS:
                words.remove(action)
                key = "-".join(words)
                if key in found or len(found) < MAX_WINDOWS:
                    found.setdefault(key, {})[action] = value
        elif name == "date":
            date = value
    return [_window(name, said, date) for name, said in found.items()] if found else []


def _window(name: str, said: dict[str, str], date: str) -> RateWindow:
    reset_s = _reset_s(said.get("reset", ""), date)
    if reset_s is None:
        period = name.rpartition("-")[2]
        reset_s = _PERIODS_S.get(period, _DEFAULT_PERIOD_S)
    return RateWindow(
        name, _number(said.get("limit", "")), _number(said.get("remaining", "")), max(0.0, reset_s)
    )


def _reset_s(text: str, date: str) -> float | None:
    if not text:
        return None
    length_s = duration_s(text)
    if length_s is not None and length_s < 1e9:
        return length_s
    try:
        now_s = parsedate_to_datetime(date).timestamp()
        if length_s is not None:  # a moment: OpenRouter says it in milliseconds
            return (length_s / 1000 if length_s > 1e11 else length_s) - now_s
        return datetime.fromisoformat(text).timestamp() - now_s
    except (ValueError, TypeError, OverflowError, OSError):
        return None


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
