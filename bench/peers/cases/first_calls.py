"""Rows of first questions over warm ones, by arm."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from bench.result import CaseResult
from bench.stats import median, spread


def add_rows(result: CaseResult, kind: str, more: Mapping[str, Sequence[float | None]]) -> None:
    """A row an arm of what each repeat took more, milliseconds; None or NaN: it failed."""
    for name, values in more.items():
        known = [value for value in values if value is not None and not math.isnan(value)]
        low, high = spread(known)
        result.rows[f"{name}/{kind}"] = {
            "over_warm_ms": median(known),
            "over_warm_ms_low": low,
            "over_warm_ms_high": high,
            "failed": len(values) - len(known),
        }
