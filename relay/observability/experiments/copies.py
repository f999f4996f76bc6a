"""Copies of a shadow beside what they are copies of.

Originals and copies are pairs, so that differences are taken pair by pair: what one prompt costs
more time than another is in both. Bounds are those of `estimates`, with a pair as what is
independent: the rows say nothing of whose the original was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from relay.observability.experiments.estimates import (
    Estimate,
    Sums,
    Weighed,
    mean,
    quantile,
    share,
)
from relay.observability.experiments.rows import Copied


@dataclass(slots=True)
class CopyReport:
    """Of one shadow."""

    name: str
    copies: int
    reasons: dict[str, int] = field(default_factory=dict)
    """Of failures."""
    failed: Estimate | None = None
    first_content_ms: Estimate | None = None
    """Median of what copies took longer than their originals; below 0 they were quicker."""
    whole_ms: Estimate | None = None
    cost_micro: Estimate | None = None
    """Mean of what they cost more."""
    same_finish: Estimate | None = None
    same_tools: Estimate | None = None
    """Of those in which either called any."""
    equal: Estimate | None = None
    likeness: Estimate | None = None
    length_ratio: Estimate | None = None
    """Median of characters of the copy over the original's."""

    def as_data(self) -> dict[str, Any]:
        """For JSON."""
        found: dict[str, Any] = {
            "shadow": self.name,
            "copies": self.copies,
            "reasons": self.reasons,
        }
        for name in MEASURES:
            one: Estimate | None = getattr(self, name)
            found[name] = (
                None if one is None else {"value": one.value, "low": one.low, "high": one.high}
            )
        return found


MEASURES = {
    "failed": "copies that failed, share",
    "first_content_ms": "first content, later than the original, median (ms)",
    "whole_ms": "whole answer, longer than the original, median (ms)",
    "cost_micro": "cost more than the original, mean (micro-dollars)",
    "same_finish": "finished as the original did, share",
    "same_tools": "called the same tools in the same order, share",
    "equal": "the same text, share",
    "likeness": "likeness, mean",
    "length_ratio": "characters over the original's, median",
}
"""Attribute of `CopyReport`, and what it is."""


def report_of(name: str, copied: Iterable[Copied], confidence: float) -> CopyReport:
    """
    Args:
        confidence: of bounds, below 1.
    """
    rows = list(copied)
    found = CopyReport(name, len(rows))
    for row in rows:
        if row.reason:
            found.reasons[row.reason] = found.reasons.get(row.reason, 0) + 1
    clean = [row for row in rows if not row.reason]
    found.failed = share(_sums(rows, lambda row: float(bool(row.reason))), confidence)
    found.first_content_ms = _median(clean, lambda row: row.first_content_more_ms, confidence)
    found.whole_ms = _median(clean, lambda row: row.whole_more_ms, confidence)
    found.cost_micro = mean(_sums(clean, lambda row: row.cost_more_micro), confidence)
    found.same_finish = share(_sums(clean, lambda row: _flag(row.is_same_finish)), confidence)
    found.same_tools = share(_sums(clean, lambda row: _flag(row.is_same_tools)), confidence)
    found.equal = share(_sums(clean, lambda row: _flag(row.is_equal)), confidence)
    found.likeness = mean(_sums(clean, lambda row: row.likeness), confidence)
    found.length_ratio = _median(clean, lambda row: row.length_ratio, confidence)
    return found


Value = Callable[[Copied], float | None]


def _flag(value: bool | None) -> float | None:
    return None if value is None else float(value)


def _sums(rows: Iterable[Copied], value_of: Value) -> dict[str, Sums]:
    return {
        row.generation_id: Sums(value, 1) for row in rows if (value := value_of(row)) is not None
    }


def _median(rows: Iterable[Copied], value_of: Value, confidence: float) -> Estimate | None:
    found = [
        Weighed(value, row.generation_id, 1.0)
        for row in rows
        if (value := value_of(row)) is not None
    ]
    return quantile(sorted(found), 0.5, confidence)
