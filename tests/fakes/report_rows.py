"""Generations for reports, made up: single ones, and weeks of them with a slow episode."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from typing import Any, Final

from relay.observability.report.rows import Generation, Tried

MONDAY_US: Final = 1_790_553_600_000_000
"""2026-09-28T00:00Z, a Monday."""
HOUR_US: Final = 3_600_000_000
DAY_US: Final = 24 * HOUR_US
WEEK_US: Final = 7 * DAY_US


def tried(target: str = "a/m", role: str = "primary", **given: Any) -> Tried:
    """One attempt, a whole answer after 100 ms unless told otherwise."""
    provider, _, model = target.partition("/")
    values: dict[str, Any] = {
        "outcome": "success",
        "reason": "",
        "http_status": 200,
        "is_winner": given.get("outcome", "success") == "success",
        "started_us": 0,
        "ended_us": 500_000,
        "first_us": 100_000 if given.get("outcome", "success") == "success" else None,
        "cost_micro": 10,
        "upper_micro": 10,
        "is_estimated": False,
    }
    return Tried(provider, model, role, **(values | given))


def generation(*attempts: Tried, **given: Any) -> Generation:
    """One generation; its time to first content is its winner's."""
    winner = next((one for one in attempts if one.is_winner), None)
    has_content = winner is not None and winner.first_us is not None
    values: dict[str, Any] = {
        "received_us": MONDAY_US,
        "alias": "fast",
        "team": "team_1",
        "key": "key_1",
        "reason": "",
        "ttft_us": winner.started_us + (winner.first_us or 0) if winner and has_content else None,
        "wall_us": max((one.ended_us for one in attempts), default=0),
    }
    return Generation(tried=tuple(attempts), **(values | given))


def hedged(primary_us: int, hedge_us: int, delay_us: int, **given: Any) -> Generation:
    """A race: the first attempt would take so long, the hedge so long from its start on."""
    if primary_us <= delay_us:
        return generation(tried("a/m", first_us=primary_us, ended_us=primary_us + 1), **given)
    if primary_us <= delay_us + hedge_us:
        return generation(
            tried("a/m", first_us=primary_us, ended_us=primary_us + 1),
            tried(
                "b/m",
                "hedge",
                outcome="ignored",
                started_us=delay_us,
                ended_us=primary_us,
                cost_micro=4,
                upper_micro=20,
            ),
            **given,
        )
    ends_us = delay_us + hedge_us
    return generation(
        tried("a/m", outcome="ignored", ended_us=ends_us, cost_micro=5, upper_micro=25),
        tried("b/m", "hedge", started_us=delay_us, first_us=hedge_us, ended_us=ends_us + 1),
        **given,
    )


def lognormal(rng: random.Random, median_us: float, spread: float) -> int:
    return round(median_us * math.exp(spread * rng.gauss(0.0, 1.0)))


def weeks(
    count: int, *, length: int = 4, seed: int = 1, begin_us: int = MONDAY_US
) -> Iterator[Generation]:
    """So many generations, evenly over so many weeks: the first target has a long tail, and is
    four times as slow for six hours of the second week; some attempts fail or are refused."""
    rng = random.Random(seed)
    step_us = length * WEEK_US // count
    for index in range(count):
        at_us = begin_us + index * step_us
        is_slow = WEEK_US + 2 * DAY_US <= at_us - begin_us < WEEK_US + 2 * DAY_US + 6 * HOUR_US
        alias = "fast" if index % 3 else "smart"
        given = {"received_us": at_us, "alias": alias, "team": f"team_{index % 4}"}
        luck = rng.random()
        if luck < 0.003:
            failed = tried(
                outcome="failure", reason="UPSTREAM_FAILED", http_status=500, ended_us=80_000
            )
            yield generation(
                failed, tried("b/m", "failover", started_us=80_000, first_us=200_000), **given
            )
        elif luck < 0.005:
            refused = tried(outcome="overload", reason="UPSTREAM_RATE_LIMITED", http_status=429)
            yield generation(refused, reason="ALL_ATTEMPTS_FAILED", wall_us=60_000, **given)
        elif luck < 0.01:
            left = tried(outcome="ignored", ended_us=300_000)
            yield generation(left, reason="CLIENT_CANCELLED", wall_us=300_000, **given)
        else:
            median_us = 1_200_000.0 if is_slow else 300_000.0
            primary_us = lognormal(rng, median_us, 0.7)
            yield hedged(primary_us, lognormal(rng, 250_000.0, 0.3), 700_000, **given)
