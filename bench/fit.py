"""A straight line through points, and how straight they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Line(NamedTuple):
    """`y = slope * x + intercept`, by least squares."""

    slope: float
    intercept: float
    r_squared: float
    """Share of the variance of y that the line explains: 1 if all points are on it."""

    def at(self, x: float) -> float:
        """Where the line is."""
        return self.slope * x + self.intercept


def straight(points: Sequence[tuple[float, float]]) -> Line:
    """The line through some points.

    Raises:
        ValueError: they have fewer than two different x.
    """
    count = len(points)
    mean_x = sum(x for x, _ in points) / max(1, count)
    mean_y = sum(y for _, y in points) / max(1, count)
    spread_x = sum((x - mean_x) ** 2 for x, _ in points)
    if not spread_x:
        raise ValueError("a line needs points with two different x")
    slope = sum((x - mean_x) * (y - mean_y) for x, y in points) / spread_x
    intercept = mean_y - slope * mean_x
    total = sum((y - mean_y) ** 2 for _, y in points)
    missed = sum((y - slope * x - intercept) ** 2 for x, y in points)
    return Line(slope, intercept, 1.0 - missed / total if total else 1.0)
