"""What was measured at one door, and its figures."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from relay.prices import Price
from relay.routing.target import Target

MIN_FOR_SLOPE: Final = 5
"""First tokens of each length, for a word on what prompts add."""
_OUTSIDE: Final = 0.05


class Door(NamedTuple):
    """A target to be measured."""

    target: Target
    price: Price | None
    """At the service tier that is asked for; None for unknown."""


class Sample(NamedTuple):
    """A first token that came."""

    ttft_s: float
    prompt_tokens: int
    """As the provider counted, else estimated."""
    cached_tokens: int
    is_long: bool
    is_cold: bool
    """The connection was dialled for it; it is counted in no figure."""
    at_s: float
    """When it had come, monotonic."""


@dataclass(slots=True)
class DoorResult:
    """Filled while it is measured."""

    door: Door
    asked: int = 0
    samples: list[Sample] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    """What went wrong, in words for people, and how often."""
    spent_micro: float = 0.0
    """USD 1e-6, as far as prices are known; where the provider gave no account, the most it can
    be."""
    vain_in_a_row: int = 0
    """Requests, the last ones, that brought no first token."""
    left: str = ""
    """Why it was not asked any more; empty while it is."""

    @property
    def warm(self) -> list[Sample]:
        """The samples that figures are of: those over a warm connection."""
        return [sample for sample in self.samples if not sample.is_cold]


class Figures(NamedTuple):
    """Of the time to first token over all warm samples of a door, seconds."""

    p50_s: float
    p50_low_s: float
    p50_high_s: float
    """Between these the median lies with 95 % (order statistics; no assumption on the shape)."""
    p90_s: float
    p99_s: float
    """Of fewer than a hundred samples the slowest."""
    per_1000_s: float | None
    """What a thousand prompt tokens add: between the medians of both lengths; None if unknown."""


def figures(samples: Sequence[Sample]) -> Figures | None:
    """None where nothing came."""
    if not samples:
        return None
    times_s = sorted(sample.ttft_s for sample in samples)
    low, high = median_ranks(len(times_s))
    return Figures(
        statistics.median(times_s),
        times_s[low],
        times_s[high],
        _ranked(times_s, 0.90),
        _ranked(times_s, 0.99),
        _per_1000_s(samples),
    )


def median_ranks(count: int) -> tuple[int, int]:
    """Indices of the ordered samples that hold the median between them with 95 % at least, or as
    nearly as so few can."""
    # The median is outside of the ranks if so few of `count` fair coins, or so many, fall below it.
    low, ways, outside = -1, 1, 1
    while 2 * outside <= _OUTSIDE * 2**count:
        low += 1
        ways = ways * (count - low) // (low + 1)
        outside += ways
    low = max(0, low)
    return low, count - 1 - low


def _ranked(times_s: Sequence[float], share: float) -> float:
    return times_s[max(0, math.ceil(share * len(times_s)) - 1)]


def _per_1000_s(samples: Sequence[Sample]) -> float | None:
    groups = [[s for s in samples if s.is_long is is_long] for is_long in (False, True)]
    if min(map(len, groups)) < MIN_FOR_SLOPE:
        return None
    short, long = groups
    tokens = [statistics.median(s.prompt_tokens - s.cached_tokens for s in g) for g in groups]
    if tokens[1] <= tokens[0]:
        return None
    added_s = statistics.median(s.ttft_s for s in long) - statistics.median(s.ttft_s for s in short)
    return added_s / (tokens[1] - tokens[0]) * 1000
