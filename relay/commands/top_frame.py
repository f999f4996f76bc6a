"""What happened between two readings of a relay, added up over its workers.

Counters of a worker begin anew with its process, so differences are taken worker by worker. One
that was not there before counts from its start if that lies between the readings, else not at all:
how much of what it counts is new is not known.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from relay.commands.top_snapshot import (
    Snapshot,
    State,
    WorkerRow,
    inner,
    maybe,
    number,
    rows,
    text,
)

_WORST: Final = ("open", "half_open", "ramp", "closed")
QUANTILES: Final = ("p50_ms", "p90_ms", "p95_ms", "p99_ms")
FEW_SAMPLES: Final = 20


@dataclass(slots=True)
class TargetRow:
    """One target. Rates are None while there is no reading before."""

    name: str
    requests_per_s: float | None = None
    errors_per_s: float | None = None
    """Failures and overloads."""
    asked: int = 0
    """Attempts between the readings; the next two are of them."""
    failed: int = 0
    overloaded: int = 0
    failed_ever: int = 0
    overloaded_ever: int = 0
    p50_ms: float | None = None
    p90_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    samples: int = 0
    breaker: str = "closed"
    """The worst of the workers'."""
    breakers: dict[str, int] = field(default_factory=dict)
    """How many workers' are in which state."""
    share: float = 1.0
    """Of its traffic that it may get as first; the least of the workers'."""
    reason: str = ""
    """Of the last ejection."""
    retry_in_s: float = 0.0
    trips: int = 0
    suspected: int = 0
    """Workers that were told so by others."""
    limit: int = 0
    in_flight: int = 0
    wait_s: float = 0.0

    @property
    def error_share(self) -> float | None:
        """Of attempts between the readings; None where there were none."""
        errors = self.failed + self.overloaded
        return min(1.0, errors / self.asked) if self.asked else (1.0 if errors else None)


@dataclass(slots=True)
class AliasRow:
    """Hedging of one alias: since the start, and between the readings (`_now`)."""

    name: str
    requests_per_s: float | None = None
    requests: int = 0
    fired: int = 0
    won: int = 0
    failovers: int = 0
    cost_usd: float = 0.0
    cost_upper_usd: float = 0.0
    unpaid: int = 0
    """Hedges that did not start for want of credit."""
    fired_now: int = 0
    won_now: int = 0
    unpaid_now: int = 0
    cost_now_usd: float = 0.0
    throttled: int = 0
    """Workers in which hedging is held back, since too much fails."""


@dataclass(slots=True)
class OriginRow:
    """The pool of one origin."""

    origin: str
    connections: int = 0
    open_streams: int = 0
    waiting: int = 0
    last_error: str = ""


@dataclass(slots=True)
class Frame:
    """What is shown."""

    over_s: float | None
    """Between the readings; None for the first."""
    uptime_s: float
    is_draining: bool
    sessions: int
    generations: int
    background: int
    requests_per_s: float | None
    """Of attempts at all targets."""
    targets: list[TargetRow]
    aliases: list[AliasRow]
    origins: list[OriginRow]
    workers: list[WorkerRow]
    suspended: int
    """Workers that send no hedges, since several providers are slow at once."""
    slow: list[str]
    """Groups of providers whose first tokens are slow now."""
    slow_connect: list[str]
    credentials: dict[str, str]
    """Providers with an error of their credential."""
    audit_down: str
    """Why the audit log is not written; empty while it is."""

    def to_dict(self) -> dict[str, Any]:
        """As JSON data."""
        found = asdict(self)
        found["workers"] = [row._asdict() for row in self.workers]
        for row, shown in zip(self.targets, found["targets"], strict=True):
            share = row.error_share
            shown["error_share"] = None if share is None else round(share, 4)
        return found


def frame(before: Snapshot | None, now: Snapshot) -> Frame:
    """
    Args:
        before: the reading before, None for the first.
    """
    over_s = None if before is None else max(1e-6, now.at_s - before.at_s)
    pairs = [(_before(before, who, state, over_s), state) for who, state in now.states.items()]
    targets = _targets(pairs, over_s)
    states = list(now.states.values())
    common = [inner(state, "hedging", "common_mode") for state in states]
    rates = [row.requests_per_s for row in targets if row.requests_per_s is not None]
    audits = (text(inner(state, "accounts", "audit"), "down") for state in states)
    return Frame(
        over_s=None if over_s is None else round(over_s, 3),
        uptime_s=now.uptime_s,
        is_draining=now.is_draining,
        sessions=_sum(states, "sessions"),
        generations=_sum(states, "generations"),
        background=_sum(states, "background"),
        requests_per_s=None if over_s is None else round(sum(rates), 3),
        targets=targets,
        aliases=_aliases(pairs, over_s),
        origins=_origins(states),
        workers=list(now.workers),
        suspended=sum(bool(row.get("suspended")) for row in common),
        slow=_names(common, "slow_first_token"),
        slow_connect=_names(common, "slow_connect"),
        credentials=_credentials(states),
        audit_down=next(filter(None, audits), ""),
    )


def _before(
    before: Snapshot | None, who: tuple[str, int], state: State, over_s: float | None
) -> State | None:
    """What the same process held then; empty for one that has begun since, None where unknown."""
    if before is None or over_s is None:
        return None
    uptime_s = number(state, "uptime_s")
    found = before.states.get(who)
    if found is not None and number(found, "uptime_s") <= uptime_s:
        return found
    return {} if uptime_s <= over_s + 1.0 or found is not None else None


Pairs = list[tuple[State | None, State]]


def _grown(before: State | None, now: State, key: str) -> float:
    """How much a counter has grown; 0 where nobody knows."""
    if before is None:
        return 0.0
    return max(0.0, number(now, key) - number(before, key))


def _sum(states: Iterable[State], key: str) -> int:
    return int(sum(number(state, key) for state in states))


def _names(found: Iterable[State], key: str) -> list[str]:
    names = (name for row in found for name in row.get(key) or () if isinstance(name, str))
    return list(dict.fromkeys(names))


# --- targets --------------------------------------------------------------------------------


def _targets(pairs: Pairs, over_s: float | None) -> list[TargetRow]:
    found: dict[str, TargetRow] = {}
    samples: dict[str, list[State]] = {}
    for before, state in pairs:
        earlier = None if before is None else inner(before, "targets")
        for name, row in inner(state, "targets").items():
            if isinstance(row, Mapping):
                target = found.setdefault(name, TargetRow(name))
                _count(target, None if earlier is None else inner(earlier, name), row)
                samples.setdefault(name, []).append(row)
    for name, target in found.items():
        _quantiles(target, samples[name])
        if over_s is not None:
            target.requests_per_s = round(target.asked / over_s, 3)
            target.errors_per_s = round((target.failed + target.overloaded) / over_s, 3)
    return list(found.values())


def _count(target: TargetRow, before: State | None, row: State) -> None:
    target.asked += int(_grown(before, row, "asked"))
    target.failed += int(_grown(before, row, "failed"))
    target.overloaded += int(_grown(before, row, "overloaded"))
    target.failed_ever += int(number(row, "failed"))
    target.overloaded_ever += int(number(row, "overloaded"))
    target.samples += int(number(row, "samples"))
    target.limit += int(number(row, "limit"))
    target.in_flight += int(number(row, "in_flight"))
    target.wait_s = max(target.wait_s, number(row, "wait_s"))
    breaker = inner(row, "breaker")
    state = text(breaker, "state") or "closed"
    target.breakers[state] = target.breakers.get(state, 0) + 1
    if _rank(state) < _rank(target.breaker) or not target.reason:
        target.reason = text(breaker, "reason")
    if _rank(state) < _rank(target.breaker):
        target.breaker = state
    share = maybe(breaker, "share")
    target.share = min(target.share, 1.0 if share is None else share)
    target.retry_in_s = max(target.retry_in_s, number(breaker, "retry_in_s"))
    target.trips += int(number(breaker, "trips"))
    target.suspected += bool(breaker.get("suspected"))


def _rank(state: str) -> int:
    return _WORST.index(state) if state in _WORST else len(_WORST)


def _quantiles(target: TargetRow, several: list[State]) -> None:
    """Those of the slowest worker, of those with samples enough where there are such: quantiles
    of two sketches make no quantile of both."""
    known = [row for row in several if number(row, "samples") >= FEW_SAMPLES] or several
    for key in QUANTILES:
        values = [value for row in known if (value := maybe(row, key)) is not None]
        setattr(target, key, max(values, default=None))


# --- aliases, origins, and what else there is -----------------------------------------------


def _aliases(pairs: Pairs, over_s: float | None) -> list[AliasRow]:
    found: dict[str, AliasRow] = {}
    grown: Counter[str] = Counter()
    for before, state in pairs:
        earlier = None if before is None else inner(before, "hedging", "aliases")
        for name, row in inner(state, "hedging", "aliases").items():
            if not isinstance(row, Mapping):
                continue
            then = None if earlier is None else inner(earlier, name)
            alias = found.setdefault(name, AliasRow(name))
            alias.requests += int(number(row, "requests"))
            alias.fired += int(number(row, "fired"))
            alias.won += int(number(row, "won"))
            alias.failovers += int(number(row, "failovers"))
            alias.cost_usd += number(row, "extra_cost_usd")
            alias.cost_upper_usd += number(row, "extra_cost_upper_usd")
            alias.unpaid += int(number(row, "budget_exhausted"))
            alias.throttled += bool(row.get("throttled"))
            alias.fired_now += int(_grown(then, row, "fired"))
            alias.won_now += int(_grown(then, row, "won"))
            alias.unpaid_now += int(_grown(then, row, "budget_exhausted"))
            alias.cost_now_usd += _grown(then, row, "extra_cost_usd")
            grown[name] += int(_grown(then, row, "requests"))
    if over_s is not None:
        for name, alias in found.items():
            alias.requests_per_s = round(grown[name] / over_s, 3)
    return list(found.values())


def _origins(states: Iterable[State]) -> list[OriginRow]:
    found: dict[str, OriginRow] = {}
    for state in states:
        for row in rows(state, "origins"):
            name = text(row, "origin")
            origin = found.setdefault(name, OriginRow(name))
            origin.connections += int(number(row, "connections"))
            origin.open_streams += int(number(row, "open_streams"))
            origin.waiting += int(number(row, "waiting"))
            origin.last_error = origin.last_error or text(row, "last_error")
    return list(found.values())


def _credentials(states: Iterable[State]) -> dict[str, str]:
    """Of the first worker that has one."""
    found: dict[str, str] = {}
    for state in states:
        for name, row in inner(state, "credentials").items():
            if isinstance(row, Mapping) and (error := text(row, "last_error")):
                found.setdefault(name, error)
    return found


# --- their order ----------------------------------------------------------------------------

SORTS: Final[Mapping[str, Callable[[TargetRow], Any]]] = {
    "name": lambda row: row.name,
    "rate": lambda row: (-(row.requests_per_s or 0.0), row.name),
    "errors": lambda row: (-(row.error_share or 0.0), -(row.errors_per_s or 0.0), row.name),
    "p50": lambda row: (-(row.p50_ms or 0.0), row.name),
    "p99": lambda row: (-(row.p99_ms or 0.0), row.name),
    "flight": lambda row: (-row.in_flight, row.name),
    "trouble": lambda row: (
        _rank(row.breaker),
        -row.suspected,
        -(row.error_share or 0.0),
        -(row.requests_per_s or 0.0),
        row.name,
    ),
}
"""What targets can be sorted by; the largest, or worst, first."""
