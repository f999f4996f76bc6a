"""Counts of tokens as providers write them, made fit to be billed: what every wire shares."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from relay.codecs import lenient_json
from relay.content import Usage

MAX_TOKENS: Final = 1_000_000_000
"""Anything above is nonsense (a host counting bytes, or an overflow) and must not be billed."""


def token_count(value: object) -> int | None:
    """A count, None when the value is none."""
    if type(value) is int:
        return value
    # Hosts that divide write 12.0; NaN and infinity fail the comparison.
    if type(value) is float and -1e18 < value < 1e18:
        return int(value)
    return None


def usage_of(
    prompt: int,
    completion: int,
    total: int | None,
    *,
    cached: int | None,
    cache_write: int | None,
    reasoning: int | None,
    raw: Mapping[str, Any],
    is_whole: bool = True,
    service_tier: str = "",
) -> Usage:
    """The event of some counts, normalised already; negative and absurd ones are clamped, and the
    result is then marked as estimated.

    Args:
        total: None for the sum of `prompt` and `completion`.
        raw: the provider's own object.
        is_whole: whether it told all of them; else the result is an estimate too.
    """
    if total is None:
        total = prompt + completion
    counts = [prompt, completion, total, cached, cache_write, reasoning]
    clamped = [None if count is None else min(max(count, 0), MAX_TOKENS) for count in counts]
    return Usage(
        clamped[0] or 0,
        clamped[1] or 0,
        clamped[2] or 0,
        clamped[3],
        clamped[4],
        clamped[5],
        not is_whole or clamped != counts,
        lenient_json.dumps(raw),
        service_tier,
    )
