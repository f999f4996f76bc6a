"""The states of several workers as one page, with the keys that a single worker's has.

Counts add up, money too. What does not is left to each worker's own row: quantiles of two sketches
are no quantile of both, and a share of nothing is not nothing. A breaker is one a worker, so of a
target it is told how many are in which state.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final

_COUNTS: Final = ("generations", "sessions", "prewarms", "background", "tasks")
_ORIGIN_COUNTS: Final = (
    "connections",
    "open_streams",
    "waiting",
    "streams_opened",
    "streams_aborted",
    "calmed",
)
_TARGET_COUNTS: Final = ("samples", "limit", "in_flight", "asked", "failed", "overloaded")
_ALIAS_COUNTS: Final = (
    "requests",
    "fired",
    "won",
    "failovers",
    "extra_cost_usd",
    "extra_cost_upper_usd",
    "budget_exhausted",
)
_HINT_COUNTS: Final = ("sent", "lost", "received", "taken", "unknown", "bounded", "bad")

Row = Mapping[str, Any]


def aggregate(states: Iterable[Row]) -> dict[str, Any]:
    """Of what the workers that answered hold.

    Args:
        states: as a worker's `/admin/state` shows it. A key that one of them has not is passed
            over: while an upgrade runs, one may be older.
    """
    rows = list(states)
    return {
        **_sums(rows, _COUNTS),
        "hedging": {"aliases": _by_name(_all(rows, "hedging", "aliases"), _alias)},
        "targets": _by_name(_all(rows, "targets"), _target),
        "origins": _origins(rows),
        "hints": _sums(_all(rows, "hints"), _HINT_COUNTS),
    }


def _all(rows: Iterable[object], *path: str) -> list[Row]:
    """What is at a path in each row that has something there."""
    found: list[Row] = []
    for row in rows:
        value = row
        for key in path:
            value = value.get(key) if isinstance(value, Mapping) else None
        if isinstance(value, Mapping):
            found.append(value)
    return found


def _sums(rows: Iterable[Row], keys: Iterable[str]) -> dict[str, Any]:
    held = list(rows)
    return {key: _rounded(sum(row.get(key) or 0 for row in held)) for key in keys}


def _rounded(value: Any) -> Any:
    return round(value, 6) if isinstance(value, float) else value


def _by_name(rows: Iterable[Row], join: Any) -> dict[str, Any]:
    named: dict[str, list[Row]] = {}
    for row in rows:
        for name, value in row.items():
            named.setdefault(name, []).append(value)
    return {name: join(values) for name, values in named.items()}


def _alias(rows: list[Row]) -> dict[str, Any]:
    return {
        **_sums(rows, _ALIAS_COUNTS),
        "refused": dict(sum((Counter(row.get("refused", {})) for row in rows), Counter())),
        "by_reason": dict(sum((Counter(row.get("by_reason", {})) for row in rows), Counter())),
        "throttled": sum(bool(row.get("throttled")) for row in rows),
    }


def _target(rows: list[Row]) -> dict[str, Any]:
    breakers = _all(rows, "breaker")
    return {
        "breakers": dict(Counter(row.get("state") for row in breakers)),
        "suspected": sum(bool(row.get("suspected")) for row in breakers),
        "trips": sum(row.get("trips") or 0 for row in breakers),
        **_sums(rows, _TARGET_COUNTS),
    }


def _origins(rows: list[Row]) -> list[dict[str, Any]]:
    named: dict[str, list[Row]] = {}
    for row in rows:
        for one in row.get("origins") or ():
            named.setdefault(one.get("origin", ""), []).append(one)
    return [
        {"origin": origin, **_sums(several, _ORIGIN_COUNTS)} for origin, several in named.items()
    ]
