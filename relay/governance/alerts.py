"""When a budget is so far spent that somebody wants to know, and what he is told.

A threshold is a percentage of the limit. What counts is what was spent (settled), not what is put
aside for generations that run. Each threshold is told once a period, however the amount moves
afterwards: also where the limit is changed, and whichever worker noticed it first.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import orjson

from relay.governance import periods
from relay.governance.money import dollars

KIND: Final = "budget.threshold"
MOST_PERCENT: Final = 1_000
MOST_THRESHOLDS: Final = 16


class Crossing(NamedTuple):
    """A budget that has come to a threshold in a period; a row of `budgets` and its counters."""

    budget_id: str
    scope: str
    scope_id: str
    organisation_id: str | None
    period: str
    time_zone: str
    limit_micro: int
    is_hard: bool
    period_start_s: int
    spent_micro: int
    reserved_micro: int
    percent: int
    """The threshold."""

    @property
    def dedupe(self) -> str:
        """The same for every notice of it."""
        return f"budget:{self.budget_id}:{self.period_start_s}:{self.percent}"


class Message(NamedTuple):
    """What is to be told; a row of `outbox`."""

    id: int
    kind: str
    dedupe: str
    payload: str
    created_at_us: int
    tries: int
    """This one included."""


def crossed(
    spent_micro: int, limit_micro: int, percents: Iterable[int], told_percent: int
) -> tuple[int, ...]:
    """Thresholds that were come to and not told yet, ascending.

    Args:
        told_percent: the highest that was told in this period, 0 for none.
    """
    if spent_micro <= 0:
        return ()
    return tuple(
        percent
        for percent in sorted(set(percents))
        if percent > told_percent and spent_micro * 100 >= limit_micro * percent
    )


def checked_percents(value: object) -> tuple[int, ...]:
    """Thresholds as an administrator may set them, ascending and each once.

    Raises:
        ValueError: they are no whole numbers from 1 to `MOST_PERCENT`, or more than
            `MOST_THRESHOLDS`.
    """
    if not isinstance(value, list | tuple) or len(value) > MOST_THRESHOLDS:
        raise ValueError(f"alert_percents must be a list of at most {MOST_THRESHOLDS} numbers")
    if not all(type(one) is int and 1 <= one <= MOST_PERCENT for one in value):
        raise ValueError(f"alert_percents must be whole numbers from 1 to {MOST_PERCENT}")
    return tuple(sorted(set(value)))


def payload(crossing: Crossing, now_us: int) -> str:
    """What is sent, as JSON. `docs/budgets.md` describes it; fields are added, never changed."""
    start_s = crossing.period_start_s
    end_s = periods.end_s(crossing.period, crossing.time_zone, start_s * 1_000_000)
    is_total = end_s == periods.NEVER_S
    told: dict[str, Any] = {
        "id": crossing.dedupe,
        "type": KIND,
        "created_at": _moment(now_us // 1_000_000),
        "budget": {
            "id": crossing.budget_id,
            "scope": crossing.scope,
            "scope_id": crossing.scope_id,
            "organisation_id": crossing.organisation_id,
            "period": crossing.period,
            "time_zone": crossing.time_zone,
            "is_hard": crossing.is_hard,
            "limit_micro": crossing.limit_micro,
            "limit_usd": dollars(crossing.limit_micro),
        },
        "period_start": None if is_total else _moment(start_s),
        "period_end": None if is_total else _moment(end_s),
        "threshold_percent": crossing.percent,
        "spent_micro": crossing.spent_micro,
        "spent_usd": dollars(crossing.spent_micro),
        "reserved_micro": crossing.reserved_micro,
    }
    return orjson.dumps(told).decode()


def _moment(moment_s: int) -> str:
    return datetime.fromtimestamp(moment_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
