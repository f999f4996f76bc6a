"""Log-bucket histograms, and the medians of rounds.

A histogram keeps counts of buckets whose bounds grow by a constant factor, so any quantile is
known to within that factor, and two files can be merged or compared later. Quantiles are
interpolated inside a bucket.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

FINE = 1.001
"""For values of tens of milliseconds whose differences of tens of microseconds matter."""
COARSE = 1.01


class Histogram:
    """Counts of positive microsecond values; zero and below count as the smallest bucket."""

    __slots__ = ("_log_growth", "count", "counts", "growth", "max_us", "sum_us")

    def __init__(self, growth: float = COARSE) -> None:
        self.growth = growth
        self._log_growth = math.log(growth)
        self.counts: dict[int, int] = {}
        self.count = 0
        self.max_us = 0.0
        self.sum_us = 0.0

    def add(self, value_us: float) -> None:
        """Take one value."""
        bucket = int(math.log(value_us) / self._log_growth) if value_us > 1.0 else 0
        self.counts[bucket] = self.counts.get(bucket, 0) + 1
        self.count += 1
        self.sum_us += value_us
        self.max_us = max(self.max_us, value_us)

    def merge(self, other: Histogram) -> None:
        """Take all values of another of the same growth.

        Raises:
            ValueError: the bucket bounds differ.
        """
        if other.growth != self.growth:
            raise ValueError("histograms of different growth cannot be merged")
        for bucket, count in other.counts.items():
            self.counts[bucket] = self.counts.get(bucket, 0) + count
        self.count += other.count
        self.sum_us += other.sum_us
        self.max_us = max(self.max_us, other.max_us)

    def quantile(self, share: float) -> float:
        """The value below which `share` of the values lie; NaN without values."""
        if not self.count:
            return math.nan
        wanted = share * self.count
        seen = 0
        for bucket in sorted(self.counts):
            count = self.counts[bucket]
            if seen + count >= wanted:
                inside = (wanted - seen) / count
                value_us: float = self.growth ** (bucket + inside)
                return min(value_us, self.max_us)
            seen += count
        return self.max_us

    @property
    def mean_us(self) -> float:
        """NaN without values."""
        return self.sum_us / self.count if self.count else math.nan

    def to_dict(self) -> dict[str, Any]:
        """As JSON data."""
        return {
            "growth": self.growth,
            "count": self.count,
            "max_us": round(self.max_us, 1),
            "sum_us": round(self.sum_us, 1),
            "buckets": {str(bucket): self.counts[bucket] for bucket in sorted(self.counts)},
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`."""
        made = cls(float(value["growth"]))
        made.counts = {int(bucket): int(count) for bucket, count in value["buckets"].items()}
        made.count = int(value["count"])
        made.max_us = float(value["max_us"])
        made.sum_us = float(value["sum_us"])
        return made


def merged(histograms: Iterable[Histogram]) -> Histogram:
    """All values of several histograms of one growth."""
    found = list(histograms)
    total = Histogram(found[0].growth if found else COARSE)
    for histogram in found:
        total.merge(histogram)
    return total


def median(values: Sequence[float]) -> float:
    """NaN without values; NaN entries are left out."""
    ordered = sorted(value for value in values if not math.isnan(value))
    if not ordered:
        return math.nan
    middle = len(ordered) // 2
    if len(ordered) % 2:
        return ordered[middle]
    return (ordered[middle - 1] + ordered[middle]) / 2


def spread(values: Sequence[float]) -> tuple[float, float]:
    """Smallest and largest value; NaN without values."""
    found = [value for value in values if not math.isnan(value)]
    return (min(found), max(found)) if found else (math.nan, math.nan)
