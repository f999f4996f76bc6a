"""The buckets of each histogram, from a configuration's milliseconds."""

from __future__ import annotations

from relay.config import MetricsConfig
from relay.observability.metrics.families import FAMILIES, Kind
from relay.observability.metrics.loop_lag import BOUNDS_S
from relay.observability.metrics.rows import Bounds


def _seconds(bounds_ms: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(round(bound / 1000, 9) for bound in bounds_ms)


def bounds_of(config: MetricsConfig) -> Bounds:
    """For rows."""
    buckets = config.buckets
    return Bounds(
        added=_seconds(buckets.added_ms),
        ttft=_seconds(buckets.ttft_ms),
        phase=_seconds(buckets.phase_ms),
        mean_gap=_seconds(buckets.mean_gap_ms),
        longest_gap=_seconds(buckets.longest_gap_ms),
        wall=_seconds(buckets.wall_ms),
    )


def bounds_by_name(config: MetricsConfig) -> dict[str, tuple[float, ...]]:
    """For the page."""
    return {
        name: BOUNDS_S
        if family.buckets == "lag"
        else _seconds(getattr(config.buckets, family.buckets))
        for name, family in FAMILIES.items()
        if family.kind is Kind.HISTOGRAM
    }
