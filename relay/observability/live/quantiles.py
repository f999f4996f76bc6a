"""Quantiles of first tokens over some seconds: counts in logarithmic buckets, which add up over
slices of time and over workers.

Attempts that were given up before their first token are *censored*: they would have taken longer
than their age. Left out, a slow provider whose hedges win would look quick, since only its good
moments were counted; so quantiles are Kaplan and Meier's (JASA 1958), as in
`relay.resilience.latency`. That one keeps what plans are made of, normalised and over hours; these
are raw and over minutes, for people.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final, NamedTuple

GROWTH: Final = 1.05
"""From one bucket to the next: values are right within 2.5 %."""
_LOG_GROWTH: Final = math.log(GROWTH)
MIN_US: Final = 100
MAX_BUCKET: Final = 300
"""Some 3.8 minutes; what takes longer counts there."""

Counts = dict[int, int]


class Quantile(NamedTuple):
    """One of them."""

    us: int
    is_floor: bool
    """So many were given up earlier that it is only known to be more."""


def bucket_of(value_us: float) -> int:
    """The bucket of a time in microseconds."""
    if value_us <= MIN_US:
        return 0
    return min(MAX_BUCKET, 1 + int(math.log(value_us / MIN_US) / _LOG_GROWTH))


def value_us(bucket: int) -> int:
    """The middle of a bucket."""
    if bucket <= 0:
        return MIN_US
    return round(MIN_US * math.exp((bucket - 0.5) * _LOG_GROWTH))


def add(counts: Counts, more: Mapping[int, int]) -> None:
    """Count in what another has counted."""
    for bucket, count in more.items():
        counts[bucket] = counts.get(bucket, 0) + count


def quantile(
    finished: Mapping[int, int], censored: Mapping[int, int], share: float
) -> Quantile | None:
    """What `share` of first tokens come within; None while none has come at all and none was
    waited for."""
    at_risk = sum(finished.values()) + sum(censored.values())
    if not at_risk:
        return None
    alive, latest = 1.0, 0
    for bucket in sorted({*finished, *censored}):
        latest = bucket
        came = finished.get(bucket, 0)
        if came:
            alive *= 1.0 - came / at_risk
            if alive <= 1.0 - share + 1e-12:
                return Quantile(value_us(bucket), False)
        at_risk -= came + censored.get(bucket, 0)
    return Quantile(value_us(latest), True)
