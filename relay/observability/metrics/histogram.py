"""A histogram as it is raised: one bisection and two additions a value, no locks."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence


class Histogram:
    """Counts by bucket, each its own and not yet the sum of those below; one thread's."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        """
        Args:
            bounds: upper ones, in the unit of the values, ascending; +Inf is added.
        """
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """One more. Prometheus counts a value at a bound into the bucket below it."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def row(self) -> list[float]:
        """For a snapshot: the counts, then the sum."""
        return [*self.counts, self.total]
