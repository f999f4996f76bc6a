"""The comparison of an experiment's arms as JSON."""

from __future__ import annotations

from typing import Any

from relay.observability.experiments.compare import METRICS, Arm, Comparison
from relay.observability.experiments.estimates import Difference, Estimate


def as_data(one: Comparison) -> dict[str, Any]:
    """Shares from 0 to 1, times in milliseconds, costs in micro-dollars, moments in microseconds
    since 1970; null where nothing is known."""
    return {
        "experiment": one.name,
        "confidence": one.confidence,
        "first_us": one.first_us,
        "last_us": one.last_us,
        "units_in_several_arms": one.crossed,
        "answers_without_unit": one.lone,
        "weights": dict(one.weights),
        "sample_ratio": {"p": one.mismatch_p, "is_mismatched": one.is_mismatched},
        "comparisons": one.comparisons,
        "arms": [_arm(arm) for arm in one.arms],
    }


def _arm(arm: Arm) -> dict[str, Any]:
    return {
        "arm": arm.name,
        "is_control": arm.is_control,
        "units": arm.units,
        "answers": arm.answers,
        "refused": arm.refused,
        "rated": arm.rated,
        "unpriced": arm.unpriced,
        "finish": arm.finishes,
        "reasons": arm.reasons,
        "metrics": {
            metric.name: _metric(
                arm.estimates[metric.name],
                arm.differences.get(metric.name),
                arm.adjusted_p.get(metric.name),
            )
            for metric in METRICS
        },
    }


def _metric(
    found: Estimate | None, change: Difference | None, adjusted_p: float | None
) -> dict[str, Any] | None:
    if found is None:
        return None
    said: dict[str, Any] = {"value": found.value, "low": found.low, "high": found.high}
    if change is not None:
        said["difference"] = {**change._asdict(), "adjusted_p": adjusted_p}
    return said
