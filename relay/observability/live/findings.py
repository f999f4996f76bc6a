"""What is wrong now, in words: the dashboard's top line. The worst comes first.

Said of the last minute, and of nothing that so few requests tell that it could be chance.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

BAD, WARN, NOTE = "bad", "warn", "note"
LEVELS: Final = (BAD, WARN, NOTE)
"""Callers notice; they will, or some do; nothing to be done at once."""

MIN_SAMPLES: Final = 5
SLOWER: Final = 1.8
"""Times its own usual median."""
SLOWER_THAN_OTHERS: Final = 3.0
"""Times the median of the fastest target of the same alias."""
SLOW_MS: Final = 300.0
"""Below it nobody hears that something is slow, whatever the ratio."""
MIN_RACES: Final = 8
LOSING: Final = 0.6
"""Share of the races that it began."""
FAILING: Final = 0.05
FAILING_BADLY: Final = 0.25
NEAR: Final = 0.8
"""Of a concurrency limit."""
NEAR_END: Final = 0.2
"""What is left of a budget."""
SPENT: Final = 0.005
"""Less cannot be told from nothing, and pays for next to nothing."""

Picture = Mapping[str, Any]


class Finding(NamedTuple):
    """One of them."""

    level: str
    words: str
    about: str = ""
    """The target, alias, worker or budget."""


def findings(picture: Picture) -> list[Finding]:
    """
    Args:
        picture: as `Joined.snapshot` makes it, with `budgets` if there are any.
    """
    budgets = picture.get("budgets") or ()
    told_of = {row["id"] for row in budgets}
    found = [
        *_workers(picture["workers"]),
        *_overload(picture["overload"], len(picture["workers"])),
        *_budgets(budgets, _refused_by_budgets(picture["aliases"]), picture["at_ms"] / 1000),
        *_targets(picture["targets"]),
        *_slower_than_others(picture),
        *_aliases(picture["aliases"], told_of),
        *_pools(picture["origins"]),
        *_rest(picture),
    ]
    return sorted(found, key=lambda one: LEVELS.index(one.level))


def _workers(rows: Iterable[Picture]) -> Iterator[Finding]:
    rows = list(rows)
    missing = [row for row in rows if row["why"] or row["status"] == "gone"]
    level = BAD if len(missing) == len(rows) else WARN
    for row in missing:
        why = row["why"] or "it is being replaced"
        yield Finding(
            level,
            f"worker {row['number']} of {len(rows)} does not answer: {why}; "
            "its figures are missing below",
            f"worker {row['number']}",
        )
    draining = [str(row["number"]) for row in rows if row["status"] == "draining"]
    if draining:
        words = f"worker {', '.join(draining)} is draining and takes nothing new"
        yield Finding(NOTE if len(draining) < len(rows) else WARN, words)


def _targets(rows: Mapping[str, Picture]) -> Iterator[Finding]:
    for name, row in rows.items():
        minute = row["minute"]
        if row["breaker"] in ("open", "half_open"):
            words = f"{name} is left alone, it {_TRIPPED.get(row['reason'], 'failed too often')}"
            if row["retry_in_s"] > 0:
                words += f"; tried again in {row['retry_in_s']:.0f} s"
            yield Finding(BAD, words, name)
        elif row["breaker"] == "ramp":
            yield Finding(
                NOTE, f"{name} is coming back, with {row['share']:.0%} of its traffic", name
            )
        elif minute["failed"] >= 3 and minute["failed"] > FAILING * minute["started"]:
            words = f"{name} failed {minute['failed']} of {minute['started']} attempts in a minute"
            yield Finding(WARN, words, name)
        if row["breaker"] in ("open", "half_open"):
            continue  # the rest of it is what that is for
        if minute["overloaded"]:
            words = f"{name} said {_times(minute['overloaded'])} in a minute that it has too much"
            yield Finding(WARN, words, name)
        elif row["limit"] and row["in_flight"] >= NEAR * row["limit"] and row["in_flight"] > 2:
            words = f"{name} has {row['in_flight']} of {row['limit']} requests that it can take"
            yield Finding(WARN, words, name)
        yield from _slower(name, row)


def _slower(name: str, row: Picture) -> Iterator[Finding]:
    now, before = row["minute"]["ttft"], row["before"]["ttft"]
    usual = before["p50"] if before["n"] >= 4 * MIN_SAMPLES else row["usual_p50"]
    p50 = now["p50"]
    minute = row["minute"]
    first = minute["started"] - minute["hedges"]
    if first >= MIN_RACES and minute["lost"] > LOSING * first:
        words = f"{name} is slow: it loses {minute['lost']} of {first} races to its hedges"
        at_ms = minute["lost_at_ms"]
        yield Finding(WARN, f"{words}, reset after {_ms(at_ms)} on average", name)
        return
    if now["n"] < MIN_SAMPLES or p50 is None or not usual:
        return
    if p50 > SLOW_MS and p50 > SLOWER * usual:
        words = f"{name} is slow: median first token {_time(now, 'p50')}, {p50 / usual:.1f} times"
        yield Finding(WARN, f"{words} its usual {_ms(usual)}", name)


def _slower_than_others(picture: Picture) -> Iterator[Finding]:
    """Of targets that were always like that, of which their own history tells nothing."""
    told: set[str] = set()
    rows = picture["targets"]
    for alias, row in picture["aliases"].items():
        medians = {
            name: rows[name]["minute"]["ttft"]["p50"]
            for name in row["minute"]["race"]
            if name in rows and rows[name]["minute"]["ttft"]["n"] >= MIN_SAMPLES
        }
        known = {name: value for name, value in medians.items() if value is not None}
        if len(known) < 2:
            continue
        fastest = min(known, key=lambda name: known[name])
        for name, value in known.items():
            is_slow = value > SLOW_MS and value > SLOWER_THAN_OTHERS * known[fastest]
            if is_slow and name not in told and not any(_slower(name, rows[name])):
                told.add(name)
                now = rows[name]["minute"]["ttft"]
                yield Finding(
                    WARN,
                    f"{name} is slow: median first token {_time(now, 'p50')}, where {fastest} "
                    f"takes {_ms(known[fastest])} ({alias})",
                    name,
                )


def _aliases(rows: Mapping[str, Picture], budgets: Collection[str]) -> Iterator[Finding]:
    """
    Args:
        budgets: ids of those that are spoken of by name, so that what they refuse is told there.
    """
    for name, row in rows.items():
        minute = row["minute"]
        fates, asked = minute["fates"], minute["generations"]
        failed, limited = fates.get("failed", 0), fates.get("limited", 0)
        told = sum(count for one, count in minute["budgets"].items() if one in budgets)
        limited -= told
        if failed and (failed > FAILING * asked or failed >= 10):
            level = BAD if failed > FAILING_BADLY * asked else WARN
            why = _most(minute["reasons"], but=("LIMIT_EXCEEDED", "BUDGET_EXCEEDED"))
            words = f"{name}: {failed} of {asked} generations failed in a minute{why}"
            yield Finding(level, words, name)
        if limited:
            why = _most(
                {
                    reason: count - (told if reason == "BUDGET_EXCEEDED" else 0)
                    for reason, count in minute["reasons"].items()
                    if reason in _LIMITS
                }
            )
            yield Finding(WARN, f"{name}: {_times(limited)} refused in a minute{why}", name)
        if row["throttled"]:
            yield Finding(NOTE, f"{name}: failovers and hedges are held back, too many fail", name)
        unpaid = sum(n for why, n in minute["refused"].items() if why.startswith("budget_"))
        if unpaid:
            words = f"{name}: {_times(unpaid)} a hedge was due and its budget was spent"
            yield Finding(NOTE, words, name)


def _refused_by_budgets(rows: Mapping[str, Picture]) -> dict[str, int]:
    found: dict[str, int] = {}
    for row in rows.values():
        for budget, count in row["minute"]["budgets"].items():
            found[budget] = found.get(budget, 0) + count
    return found


def _budgets(
    rows: Iterable[Picture], refused: Mapping[str, int], now_s: float
) -> Iterator[Finding]:
    """A hard budget is at its end when it refuses, whatever is left of it: too little for what is
    asked. Those that do come before those that are merely spent."""
    for row in sorted(rows, key=lambda row: -refused.get(row["id"], 0)):
        limit = row["limit_micro"]
        left = max(0, limit - row["settled_micro"] - row["reserved_micro"])
        share, period, is_hard = left / limit if limit else 0.0, row["period"], row["is_hard"]
        count = refused.get(row["id"], 0)
        if share > NEAR_END and not count:
            continue
        whose = f"{row['name']}'s budget of {_dollars(limit)}"
        whose += "" if period == "total" else f" a {period}"
        is_over = share <= (NEAR_END if count else SPENT)
        if not is_over and not count:
            yield Finding(WARN, f"{whose} has {share:.0%} left", row["name"])
            continue
        words = f"{whose} is used up" if is_over else f"{whose} does not cover what is asked"
        if count:
            words += f": {_requests(count)} refused in the last minute"
        elif is_hard:
            words += ": what would go over it is refused"
        else:
            words += ", which refuses nothing"
        if count and left:
            words += f", with {_dollars(left)} left"
        if is_hard and period != "total":
            words += f"; it begins anew in {_span(row['period_end_s'] - now_s)}"
        yield Finding(BAD if is_hard else WARN, words, row["name"])


def _pools(rows: Iterable[Picture]) -> Iterator[Finding]:
    for row in rows:
        if not row["connections"] and row["last_error"]:
            words = f"no connection to {row['origin']}: {row['last_error']}"
            yield Finding(WARN, words, row["origin"])
        elif row["waiting"]:
            words = f"{row['waiting']} wait for a place on a connection to {row['origin']}"
            yield Finding(WARN, words, row["origin"])


def _overload(row: Picture, workers: int) -> Iterator[Finding]:
    if row["workers"]:
        words = f"there is too much to do: refused is {_REFUSED[row['refused']]}"
        words += f", by {row['workers']} of {workers} workers" if workers > 1 else ""
        yield Finding(WARN if row["refused"] == "batch" else BAD, words)


def _rest(picture: Picture) -> Iterator[Finding]:
    for name, row in picture["credentials"].items():
        words = f"{name} has no credential that can be used, for {row['wait_s']:.0f} s more"
        yield Finding(BAD, words, name)
    if picture["common_mode"]:
        yield Finding(NOTE, "everybody is slow at once: no hedge is sent, it would not help")


_REFUSED: Final = {
    "batch": "what can wait (batch)",
    "new": "what is new",
    "live": "everything, generations of open sessions too",
}
_TRIPPED: Final = {
    "consecutive": "failed several times in a row",
    "ratio": "failed too often",
    "slow": "was far slower than usual",
    "hint": "failed here and at other relays",
}
_LIMITS: Final = {"LIMIT_EXCEEDED": "a rate limit", "BUDGET_EXCEEDED": "a budget"}


def _most(reasons: Mapping[str, int], but: tuple[str, ...] = ()) -> str:
    left = {name: count for name, count in reasons.items() if name not in but}
    if not left:
        return ""
    name = max(left, key=lambda one: left[one])
    return f" ({_LIMITS.get(name, name)})"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _requests(count: int) -> str:
    return "1 request was" if count == 1 else f"{count} requests were"


def _dollars(micro: int) -> str:
    """As the page writes them."""
    if not micro:
        return "$0"
    usd = micro / 1e6
    if usd < 0.01:
        return (f"${usd:.4f}" if usd >= 0.001 else f"${usd:.6f}").rstrip("0")
    return f"${usd:.0f}" if usd >= 100 else f"${usd:.2f}" if usd >= 1 else f"${usd:.3f}"


def _span(seconds: float) -> str:
    for size, unit in ((86_400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def _ms(value: float) -> str:
    return f"{value / 1000:.1f} s" if value >= 1000 else f"{value:.0f} ms"


def _time(latency: Picture, name: str) -> str:
    return ("over " if name in latency["floor"] else "") + _ms(latency[name])
