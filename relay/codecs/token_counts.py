"""Token counts as providers write them, made fit for a bill: whole, and within reason."""

from __future__ import annotations

from typing import Final

from relay.content import Usage

MAX_TOKENS: Final = 1_000_000_000
"""Anything above is nonsense (a host counting bytes, or an overflow) and must not be billed."""


def count(value: object) -> int | None:
    """A count from a JSON value, None if it is none."""
    if type(value) is int:
        return value
    # Hosts that divide write 12.0; NaN and infinity fail the comparison.
    if type(value) is float and -1e18 < value < 1e18:
        return int(value)
    return None


def to_usage(
    prompt: int,
    completion: int,
    total: int,
    *,
    cached: int | None,
    cache_write: int | None,
    reasoning: int | None,
    raw_json: bytes,
) -> Usage:
    """Counts that follow OpenAI's way of counting; clamped ones mark the whole as estimated."""
    counts = [prompt, completion, total, cached, cache_write, reasoning]
    clamped = [None if number is None else min(max(number, 0), MAX_TOKENS) for number in counts]
    return Usage(
        clamped[0] or 0,
        clamped[1] or 0,
        clamped[2] or 0,
        clamped[3],
        clamped[4],
        clamped[5],
        clamped != counts,
        raw_json,
    )
