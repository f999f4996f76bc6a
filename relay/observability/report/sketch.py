"""Times of millions of attempts in some kilobytes, those that were given up early among them.

Counts by logarithmic buckets (DDSketch, Masson et al., VLDB 2019: relative error 1 %). What was
cancelled before its first content is *censored*: it would have taken longer than its age. Shares
treat it by Kaplan and Meier's estimator (JASA 1958); where even the longest times leave a part
open, that part is told as longer than the longest that is known, never made up.

The sketch of `relay.resilience.latency` slides and is drawn to beliefs; this one counts a fixed
stretch, and sketches of parts add up to that of the whole.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from typing import Final

RELATIVE_ERROR: Final = 0.01
_LOG_GROWTH: Final = math.log((1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR))
MIN_US: Final = 100.0
MAX_US: Final = 3.6e9
"""An hour; what is longer counts as that."""
_LAST: Final = math.ceil(math.log(MAX_US / MIN_US) / _LOG_GROWTH)
FEW: Final = 100
"""With fewer finished ones a p99 is a guess."""


def bucket_of(value_us: float) -> int:
    """The bucket that a time falls into."""
    if value_us <= MIN_US:
        return 0
    return min(_LAST, math.ceil(math.log(value_us / MIN_US) / _LOG_GROWTH))


def value_of(bucket: int) -> float:
    """Microseconds; within the relative error of everything in the bucket."""
    return MIN_US * math.exp((bucket - 0.5) * _LOG_GROWTH) if bucket else MIN_US


class Sketch:
    """Times to first content; microseconds."""

    __slots__ = ("censored", "finished", "known", "samples")

    def __init__(self) -> None:
        self.finished: dict[int, int] = {}
        self.censored: dict[int, int] = {}
        self.known = 0
        """Finished ones."""
        self.samples = 0
        """And with those that were given up."""

    def add(self, value_us: float, times: int = 1) -> None:
        """It came after so long."""
        bucket = bucket_of(value_us)
        self.finished[bucket] = self.finished.get(bucket, 0) + times
        self.known += times
        self.samples += times

    def add_censored(self, age_us: float, times: int = 1) -> None:
        """It had not come at this age."""
        bucket = bucket_of(age_us)
        self.censored[bucket] = self.censored.get(bucket, 0) + times
        self.samples += times

    def merge(self, other: Sketch) -> None:
        """Count in all that another has counted."""
        for mine, theirs in ((self.finished, other.finished), (self.censored, other.censored)):
            for bucket, count in theirs.items():
                mine[bucket] = mine.get(bucket, 0) + count
        self.known += other.known
        self.samples += other.samples

    def curve(self) -> Curve:
        """What shares are read from; as of now."""
        return Curve(self)

    def quantile_us(self, share: float) -> float | None:
        """See `Curve.quantile_us`; for one question."""
        return Curve(self).quantile_us(share)


class Curve:
    """The share that is not there yet, by time."""

    def __init__(self, sketch: Sketch) -> None:
        at_risk = sketch.samples
        alive = 1.0
        self._buckets: list[int] = []
        self._alive: list[float] = []
        """Share that takes longer than each of them; falling."""
        longest = -1
        for bucket in sorted(sketch.finished.keys() | sketch.censored.keys()):
            finished = sketch.finished.get(bucket, 0)
            if finished:
                alive *= 1.0 - finished / at_risk
                self._buckets.append(bucket)
                self._alive.append(alive if alive > 1e-12 else 0.0)
            at_risk -= finished + sketch.censored.get(bucket, 0)
            longest = bucket
        self._longest = longest
        self.known = sketch.known

    @property
    def longest_us(self) -> float | None:
        """That was seen, or waited for; None for an empty one."""
        return None if self._longest < 0 else value_of(self._longest)

    def quantile_us(self, share: float) -> float | None:
        """The time that this share comes within; None where it is longer than any that is known."""
        for bucket, alive in zip(self._buckets, self._alive, strict=True):
            if alive <= 1.0 - share + 1e-12:
                return value_of(bucket)
        return None

    def beyond(self, age_us: float, limit_us: float) -> tuple[float, float, float]:
        """Of what has not come at an age: its expected time; the share that takes longer than a
        limit; and by how much it does on average, those that do not counted as 0.

        What is longer than the longest that is known is put there, so none of it is too much.
        """
        start = bisect_right(self._buckets, bucket_of(age_us))
        at_age = self._alive[start - 1] if start else 1.0
        longest_us = max(age_us, value_of(max(self._longest, 0)))
        mean = over = excess = 0.0
        before = at_age
        if at_age <= 0.0:
            return age_us, float(age_us > limit_us), max(0.0, age_us - limit_us)
        for index in range(start, len(self._buckets)):
            share = (before - self._alive[index]) / at_age
            before = self._alive[index]
            value_us = max(age_us, value_of(self._buckets[index]))
            mean += share * value_us
            if value_us > limit_us:
                over += share
                excess += share * (value_us - limit_us)
        rest = before / at_age
        mean += rest * longest_us
        if longest_us > limit_us:
            over += rest
            excess += rest * (longest_us - limit_us)
        return mean, over, excess
