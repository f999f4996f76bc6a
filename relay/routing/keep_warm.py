"""Whether a session's prefix is worth being kept in a second provider's cache, by price alone.

It is sent there once and read again before it is forgotten; each hedge of the session then finds
the prefix cached. Per token of the prefix, with the rates of the second:

    saved   hedges a turn * turns * (input - cached input)
    spent   write + reads * cached input + what the few tokens of each answer cost

A write is reckoned at 1.25 times the input rate (Anthropic's for a cache of 5 minutes; OpenAI and
Google take nothing for one, and whoever trusts a rate that is too low warms for nothing). What the
prefix spares in time is not reckoned: that is why one would hedge, and the budget bounds it.
"""

from __future__ import annotations

import math
from typing import Final

from relay.prices import Price

EVERY_S: Final = 240.0
"""Between two reads: caches last 5 minutes after their last use."""
WRITE_FACTOR: Final = 1.25
OUTPUT_TOKENS: Final = 16
"""Of each answer that nobody sees: the least that OpenAI's Responses API takes."""
MOST_READS: Final = 30
"""Two hours of one session."""


def reads(lasts_s: float) -> int:
    """How often a prefix is read again in a session that lasts so long."""
    return min(MOST_READS, math.floor(max(0.0, lasts_s) / EVERY_S))


def is_worth_keeping(
    price: Price, prefix_tokens: int, *, hedges: float, turns: float, lasts_s: float
) -> bool:
    """
    Args:
        hedges: a turn, as a share.
        turns: of a session.
        lasts_s: how long it is, seconds.
    """
    again = reads(lasts_s)
    saved = hedges * turns * prefix_tokens * (price.input - price.cached_input)
    spent = prefix_tokens * (WRITE_FACTOR * price.input + again * price.cached_input)
    spent += (1 + again) * OUTPUT_TOKENS * price.output
    return saved > spent
