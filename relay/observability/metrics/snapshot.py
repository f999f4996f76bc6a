"""What one worker tells: JSON data, by family and row.

    {"id": "...", "series": {"rtrelay_hedges_sent_total": {"fast": 3},
                             "rtrelay_ttft_seconds": {"fast": [0, 2, 1, 0.81]}}}

A row's key is its labels' values (`families.key_of`), without `worker`, which is whoever answers. A
histogram's row is its counts by bucket, +Inf the last, and its sum.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from relay.observability.metrics.families import FAMILIES, Kind

Value = float | list[float]
Rows = dict[str, Value]
Series = dict[str, Rows]


class Snapshot(NamedTuple):
    """See the module."""

    id: str
    """Of the process: another one's counters begin at zero."""
    series: Series

    def to_dict(self) -> dict[str, Any]:
        """As JSON data."""
        return {"id": self.id, "series": self.series}


def read(answer: object) -> Snapshot | None:
    """What a worker has answered; None if that is none, as of one of another version. Families that
    are not known here are left out."""
    if not isinstance(answer, Mapping):
        return None
    name, series = answer.get("id"), answer.get("series")
    if not isinstance(name, str) or not isinstance(series, Mapping):
        return None
    return Snapshot(name, {one: dict(rows) for one, rows in series.items() if one in FAMILIES})


def add(into: Series, series: Mapping[str, Rows]) -> None:
    """Add up counters and histograms; gauges are passed over. A histogram with other buckets than
    the first one's adds to nothing: no bucket of one is a bucket of the other."""
    for name, rows in series.items():
        kind = FAMILIES[name].kind
        if kind is Kind.GAUGE:
            continue
        mine = into.setdefault(name, {})
        for key, value in rows.items():
            held = mine.get(key)
            if held is None:
                mine[key] = list(value) if isinstance(value, list) else value
            elif isinstance(held, list) and isinstance(value, list):
                if len(held) == len(value):
                    mine[key] = [one + other for one, other in zip(held, value, strict=True)]
            elif not isinstance(held, list) and not isinstance(value, list):
                mine[key] = held + value
