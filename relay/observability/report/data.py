"""A report as JSON data, for programs: times in microseconds, money in micro-dollars, null for what
is not known."""

from __future__ import annotations

from typing import Any

from relay.observability.report.build import Kept, Part, Report
from relay.observability.report.scorecard import Score
from relay.observability.report.sketch import Curve

_SHARES = {"p50_us": 0.5, "p95_us": 0.95, "p99_us": 0.99}


def as_data(report: Report) -> dict[str, Any]:
    """All of it."""
    settings, notes = report.settings, report.notes
    return {
        "since_us": report.since_us,
        "until_us": report.until_us,
        "first_us": report.first_us,
        "last_us": report.last_us,
        "time_zone": settings.where.key,
        "dead_air_ms": settings.dead_air_ms,
        "all": _part(report.whole),
        "objectives": [_kept(one) for one in report.kept],
        "weeks": [{"week": str(monday), **_part(part)} for monday, part in report.weeks],
        "providers": {name: _score(score) for name, score in report.providers},
        "targets": {name: _score(score) for name, score in report.targets},
        "by": settings.by or None,
        "groups": {part.name: _part(part) for part in report.groups},
        "open": notes.open,
        "unreadable": notes.unreadable,
        "sampled": {"lines": notes.sampled, "generations": notes.stand_for},
    }


def _times(curve: Curve) -> dict[str, Any]:
    found: dict[str, Any] = {"samples": curve.known}
    for name, wanted in _SHARES.items():
        value_us = curve.quantile_us(wanted) if curve.known else None
        found[name] = None if value_us is None else round(value_us)
    return found


def _part(part: Part) -> dict[str, Any]:
    totals, found, waits = part.totals, part.bought, part.totals.waits
    return {
        "generations": totals.generations,
        "failed": totals.failed,
        "refused": totals.refused,
        "left": totals.left,
        "abandoned": totals.abandoned,
        "ttft": _times(part.curve),
        "good": dict(totals.good),
        "bad": dict(totals.bad),
        "cost_micro": totals.cost_micro,
        "upper_micro": totals.upper_micro,
        "unpriced": totals.unpriced,
        "dead_air": {
            "waits": found.counted,
            "waited_us": found.waited_us,
            "dead": found.dead,
            "dead_us": found.dead_us,
            "dead_without_hedges": round(found.dead_before, 3),
            "dead_without_hedges_us": round(found.dead_before_us),
        },
        "hedges": {
            "hedged": waits.hedged,
            "won": waits.hedge_won,
            "extra_micro": waits.extra_micro,
            "extra_upper_micro": waits.extra_upper_micro,
            "extra_unpriced": waits.extra_unpriced,
            "saved_us": round(found.saved_us),
            "rated": found.rated,
            "estimated": found.estimated,
            "unrated": found.unrated,
        },
    }


def _kept(kept: Kept) -> dict[str, Any]:
    one = kept.objective
    return {
        **one._asdict(),
        "aliases": list(one.aliases),
        "good": kept.good,
        "bad": kept.bad,
        "share": kept.share,
        "burnt": kept.burnt,
        "windows": [
            {
                **burn.window._asdict(),
                "judged_min": burn.judged_min,
                "held_min": burn.held_min,
                "episodes": burn.episodes,
                "worst": burn.worst,
                "worst_at_us": burn.worst_at_us,
                "last": burn.last,
            }
            for burn in kept.burns
        ],
    }


def _score(score: Score) -> dict[str, Any]:
    names = (
        "attempts", "answered", "failed", "truncated", "refused", "rate_limited", "rejected",
        "left", "unclear", "wins", "hedges", "hedges_won", "hedges_lost", "outrun", "cost_micro",
        "upper_micro", "estimated_micro", "unpriced",
    )  # fmt: skip
    cost = score.cost_per_1k_micro
    return {
        **{name: getattr(score, name) for name in names},
        "availability": score.availability._asdict(),
        "cost_per_1k_micro": None if cost is None else round(cost),
        "ttft": _times(score.ttft.curve()),
    }
