"""What is said of a run of requests: percentiles, dead air, extra attempts, money."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from relay.outcome import AttemptRole
from relay.whatif.recorded import Kind, Recorded
from relay.whatif.simulation import Replayed

DEAD_AIR_S = 1.5
"""A turn whose first speakable text comes later leaves a silence that a caller hears."""


class Figures(NamedTuple):
    """Of the requests of one alias. Times in seconds from receipt, money in US dollars."""

    requests: int
    answered: int
    """With a first content; the percentiles are of these."""
    left: int
    """Whose client went before; they count for nothing else."""
    p50_s: float
    p95_s: float
    p99_s: float
    p999_s: float
    dead_air: float
    """Share of requests, unanswered ones included."""
    hedges: float
    """Second attempts as a share of requests."""
    failovers: float
    cost: float
    """Estimated, all attempts; NaN where a price is not known."""
    cost_upper: float
    """As if no provider stopped when it is cancelled."""

    def to_dict(self) -> dict[str, float | None]:
        """As JSON data, which has no NaN."""
        return {
            name: None if isinstance(value, float) and math.isnan(value) else value
            for name, value in self._asdict().items()
        }


class _Row(NamedTuple):
    """One request."""

    ttft_s: float | None
    speakable_s: float | None
    is_left: bool
    hedges: int
    failovers: int
    costs: Sequence[tuple[float | None, float | None]]


def of_log(requests: Iterable[Recorded], *, dead_air_s: float = DEAD_AIR_S) -> Figures:
    """As it was, by the relay's own books."""
    return _figures(
        [
            _Row(
                one.ttft_s,
                None if one.ttft_s is None else one.speakable_s(one.ttft_s, one.gap_s),
                one.is_left,
                sum(tried.role == AttemptRole.HEDGE.value for tried in one.tried),
                sum(tried.role == AttemptRole.FAILOVER.value for tried in one.tried),
                [
                    _costs(tried.cost, tried.cost_upper, tried.kind is Kind.FAILED)
                    for tried in one.tried
                ],
            )
            for one in requests
        ],
        dead_air_s,
    )


def of_replay(replayed: Iterable[Replayed], *, dead_air_s: float = DEAD_AIR_S) -> Figures:
    """As it would have been."""
    return _figures(
        [
            _Row(
                one.ttft_s,
                one.speakable_s,
                one.is_left,
                one.hedges,
                one.failovers,
                [
                    _costs(record.cost, record.cost_upper, record.error is not None)
                    for record in one.attempts
                ],
            )
            for one in replayed
        ],
        dead_air_s,
    )


def _figures(rows: Sequence[_Row], dead_air_s: float) -> Figures:
    counted = [row for row in rows if not row.is_left]
    times = sorted(row.ttft_s for row in counted if row.ttft_s is not None)
    dead = sum(row.speakable_s is None or row.speakable_s > dead_air_s for row in counted)
    costs = [cost for row in rows for cost in row.costs]
    requests = len(rows)
    return Figures(
        requests=requests,
        answered=len(times),
        left=requests - len(counted),
        p50_s=quantile(times, 0.5),
        p95_s=quantile(times, 0.95),
        p99_s=quantile(times, 0.99),
        p999_s=quantile(times, 0.999),
        dead_air=dead / len(counted) if counted else math.nan,
        hedges=sum(row.hedges for row in rows) / requests if requests else math.nan,
        failovers=sum(row.failovers for row in rows) / requests if requests else math.nan,
        cost=_usd([cost for cost, _ in costs]),
        cost_upper=_usd([upper for _, upper in costs]),
    )


def quantile(ordered: Sequence[float], share: float) -> float:
    """Of ascending values, between the two nearest; NaN for none."""
    if not ordered:
        return math.nan
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


def _costs(
    cost: float | None, upper: float | None, has_failed: bool
) -> tuple[float | None, float | None]:
    """Of one attempt: what failed before it was sent has no account, and cost nothing."""
    return (cost or 0.0, upper or 0.0) if has_failed else (cost, upper)


def _usd(costs: Sequence[float | None]) -> float:
    known = [cost for cost in costs if cost is not None]
    return sum(known) / 1e6 if len(known) == len(costs) else math.nan
