"""Figures of one arm from what came of each of its requests."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from bench.replay.arms import FAILED, Outcome
from bench.replay.world import World

DEAD_AIR_S: Final = 1.5
"""A turn whose first sentence is later is heard as silence."""
WINDOW: Final = 10_000
"""Requests over any of which extra requests are counted."""
_DEMOTED_OF: Final = 20


def quantile(ordered: Sequence[float], share: float) -> float:
    """Of ascending values: the first that at least `share` of them are at or below."""
    return ordered[min(len(ordered) - 1, max(0, math.ceil(share * len(ordered)) - 1))]


def interval(ordered: Sequence[float], share: float) -> tuple[float, float]:
    """95 % of the time the quantile lies in it: ranks by the normal approximation."""
    count = len(ordered)
    spread = 1.96 * math.sqrt(share * (1.0 - share) / count)
    return quantile(ordered, share - spread), quantile(ordered, min(1.0, share + spread))


def most_in_a_window(hedges: Sequence[int], window: int = WINDOW) -> float:
    """The largest share of extra requests over any so many requests in a row."""
    window = min(window, len(hedges))
    inside = most = sum(hedges[:window])
    for index in range(window, len(hedges)):
        inside += hedges[index] - hedges[index - window]
        most = max(most, inside)
    return most / window


def reduce(world: World, outcome: Outcome) -> dict[str, float]:
    """Everything that is shown of an arm."""
    ordered = sorted(outcome.ttft_s)
    low_s, high_s = interval(ordered, 0.999)
    count = world.requests
    late = sum(
        winner == FAILED or ttft_s + world.speech_s(winner, index) > DEAD_AIR_S
        for index, (ttft_s, winner) in enumerate(zip(outcome.ttft_s, outcome.winner, strict=True))
    )
    answers, alone = sum(outcome.cost), sum(outcome.alone_cost) or math.nan
    extra, upper = sum(outcome.extra_cost), sum(outcome.extra_upper)
    figures = {
        "p50_ms": 1e3 * quantile(ordered, 0.5),
        "p95_ms": 1e3 * quantile(ordered, 0.95),
        "p99_ms": 1e3 * quantile(ordered, 0.99),
        "p999_ms": 1e3 * quantile(ordered, 0.999),
        "p999_low_ms": 1e3 * low_s,
        "p999_high_ms": 1e3 * high_s,
        "dead_air_%": 100 * late / count,
        "extra_requests_%": 100 * sum(outcome.hedges) / count,
        "extra_any_10k_%": 100 * most_in_a_window(outcome.hedges),
        "extra_money_%": 100 * (answers + extra - alone) / alone,
        "extra_money_upper_%": 100 * (answers + upper - alone) / alone,
        "failovers_%": 100 * sum(outcome.failovers) / count,
        "failed_%": 100 * sum(winner == FAILED for winner in outcome.winner) / count,
        "cost_per_turn": (answers + extra) / count,
        "us_per_request": 1e6 * outcome.elapsed_s / count,
    }
    rows = world.spec.providers
    for number, row in enumerate(rows):
        if not row.tier:
            figures[f"first_{row.label(rows)}_%"] = 100 * outcome.first.count(number) / count
    if rows[0].same:
        others = {n for n, row in enumerate(rows) if row.same != rows[0].same}
        changed = sum(winner in others for winner in outcome.winner)
        figures["other_model_%"] = 100 * changed / count
    if any(row.tier for row in rows):
        figures["escalated_%"] = 100 * sum(outcome.escalations) / count
    figures.update(_trouble(world, outcome))
    return {name: math.nan if value == math.inf else value for name, value in figures.items()}


def _trouble(world: World, outcome: Outcome) -> dict[str, float]:
    """How the first-listed provider is left when it becomes ill, and taken back: the median and
    the worst of all stretches."""
    stretches = [row for row in world.trouble if row.provider == 0]
    if not stretches:
        return {}
    demotions: list[float] = []
    during: list[float] = []
    returns: list[float] = []
    for row in stretches:
        end = min(row.end, world.requests)
        first = outcome.first
        during.append(100 * sum(first[i] == 0 for i in range(row.first, end)) / (end - row.first))
        # Left: of the next so many requests it is asked at most once (a probe) first.
        demoted = next(
            (
                at
                for at in range(row.first, end - _DEMOTED_OF)
                if sum(first[i] == 0 for i in range(at, at + _DEMOTED_OF)) <= 1
            ),
            end,
        )
        demotions.append(float(sum(first[i] == 0 for i in range(row.first, demoted))))
        back = next((at for at in range(end, world.requests) if outcome.share[at] >= 1.0), None)
        if back is not None:
            returns.append(world.arrival_s[back] - world.arrival_s[end])
    demotions.sort()
    returns.sort()
    return {
        "ill_first_%": sum(during) / len(during),
        "demoted_after": quantile(demotions, 0.5),
        "demoted_after_most": demotions[-1],
        "back_s": quantile(returns, 0.5) if returns else math.nan,
        "back_most_s": returns[-1] if returns else math.nan,
    }


def curve(outcome: Outcome) -> list[tuple[float, float]]:
    """`(share later, seconds)` from the median to the tail, for a picture."""
    ordered = sorted(outcome.ttft_s)
    shares = [10 ** (-exponent / 20) for exponent in range(81)]
    return [(share, quantile(ordered, 1.0 - share)) for share in shares if share <= 1.0]
