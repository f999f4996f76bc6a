"""How sure a model was of its words: log probabilities, as codecs pass them on.

A value is OpenAI's `logprobs` of a choice (`{"content": [{"token", "logprob", ...}]}`), which the
Gemini and Responses codecs give too. Nothing of it is trusted: what is no number counts for
nothing, and what is lower than `LEAST` counts as that (OpenAI says -9999 for "not among the top").
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, Final

import orjson

LEAST: Final = -20.0
"""Of one token; e^-20 is one in five hundred million."""


def _entries(value_json: bytes) -> Iterator[dict[str, Any]]:
    try:
        value = orjson.loads(value_json)
    except orjson.JSONDecodeError:
        return
    if isinstance(value, dict):
        value = value.get("content")
    if isinstance(value, list):
        yield from (entry for entry in value if isinstance(entry, dict))


def _logprob(entry: dict[str, Any]) -> float | None:
    value = entry.get("logprob")
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        return None
    return max(LEAST, min(0.0, float(value)))


class Confidence:
    """The mean and the least of the first `limit` tokens.

    Args:
        limit: further ones are left out; None for all.
    """

    __slots__ = ("_limit", "_total", "least", "tokens")

    def __init__(self, limit: int | None = None) -> None:
        self._limit = limit
        self._total = 0.0
        self.tokens = 0
        self.least = 0.0

    def take(self, value_json: bytes) -> None:
        """One value of `logprobs`."""
        for entry in _entries(value_json):
            if self.is_full:
                return
            logprob = _logprob(entry)
            if logprob is not None:
                self.tokens += 1
                self._total += logprob
                self.least = min(self.least, logprob)

    @property
    def is_full(self) -> bool:
        """Whether more would change nothing."""
        return self._limit is not None and self.tokens >= self._limit

    @property
    def mean(self) -> float | None:
        """None before the first."""
        return self._total / self.tokens if self.tokens else None

    def is_low(self, mean_below: float | None, min_below: float | None) -> bool:
        """Whether one of the limits is not held; False where nothing is known."""
        mean = self.mean
        if mean is None:
            return False
        return (mean_below is not None and mean < mean_below) or (
            min_below is not None and self.least < min_below
        )


def probability_of(
    values: Sequence[bytes], yes: frozenset[str], no: frozenset[str]
) -> float | None:
    """How probable one word is against another as the first of a reply: the probabilities of the
    first token and of its alternatives, added up by word.

    Args:
        values: of `logprobs`, in order.
        yes: case-folded words, of which tokens may be the beginning.
        no: likewise.

    Returns:
        From 0 to 1; None where neither word is among them.
    """
    for value in values:
        for entry in _entries(value):
            token = _word(entry)
            if not token:
                continue  # blanks and quotes before the word
            others = entry.get("top_logprobs")
            listed = [one for one in others if isinstance(one, dict)] if others else []
            if not any(one.get("token") == entry.get("token") for one in listed):
                listed.append(entry)
            is_yes = sum(_share(one) for one in listed if _begins(_word(one), yes))
            is_no = sum(_share(one) for one in listed if _begins(_word(one), no))
            return is_yes / (is_yes + is_no) if is_yes + is_no > 0 else None
    return None


def _word(entry: dict[str, Any]) -> str:
    token = entry.get("token")
    return token.strip(" \t\r\n\"'`*_.:").casefold() if isinstance(token, str) else ""


def _begins(token: str, words: frozenset[str]) -> bool:
    return bool(token) and any(word.startswith(token) for word in words)


def _share(entry: dict[str, Any]) -> float:
    logprob = _logprob(entry)
    return 0.0 if logprob is None else math.exp(logprob)
