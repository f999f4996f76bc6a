"""What `/admin/state` shows, made up: of a worker, and of a supervisor of several."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from relay.commands.top_snapshot import Snapshot, snapshot

State = dict[str, Any]


def target(**given: Any) -> State:
    """One target; `state`, `share`, ... of the breaker may be given too."""
    breaker = {
        "state": "closed",
        "share": 1.0,
        "reason": None,
        "retry_in_s": 0.0,
        "trips": 0,
        "suspected": False,
    }
    shown = {
        "p50_ms": 100.0,
        "p90_ms": 200.0,
        "p95_ms": 250.0,
        "p99_ms": 400.0,
        "samples": 100,
        "learned": True,
        "limit": 200,
        "in_flight": 1,
        "asked": 0,
        "failed": 0,
        "overloaded": 0,
        "wait_s": 0.0,
    }
    breaker |= {name: value for name, value in given.items() if name in breaker}
    shown |= {name: value for name, value in given.items() if name not in breaker}
    return {"breaker": breaker, **shown}


def alias(**given: Any) -> State:
    """Hedging of one alias."""
    counters = ("requests", "fired", "won", "failovers", "budget_exhausted")
    money = ("extra_cost_usd", "extra_cost_upper_usd")
    return {**dict.fromkeys(counters, 0), **dict.fromkeys(money, 0.0), "throttled": False, **given}


def worker(
    uptime_s: float = 60.0,
    targets: Mapping[str, State] | None = None,
    aliases: Mapping[str, State] | None = None,
    **given: Any,
) -> State:
    """All that one holds."""
    return {
        "uptime_s": uptime_s,
        "draining": False,
        "generations": 2,
        "sessions": 1,
        "background": 0,
        "hedging": {
            "aliases": dict(aliases or {}),
            "common_mode": {"suspended": False, "slow_first_token": [], "slow_connect": []},
        },
        "targets": dict(targets or {}),
        "origins": [],
        "credentials": {},
        "accounts": {"needs_keys": False, "audit": None},
        **given,
    }


def several(*states: State | None, uptime_s: float = 60.0, **rows: State) -> State:
    """Of a supervisor: None is a worker that does not answer; `rows` is more of a worker's own row,
    by `w` and its number."""
    workers: State = {}
    for number, state in enumerate(states):
        row: State = {"status": "ready", "restarts": 0, "pid": 100 + number, "silent_s": 0.1}
        row |= {"why": "no answer within 1 s"} if state is None else {"state": state}
        workers[str(number)] = row | rows.get(f"w{number}", {})
    return {"uptime_s": uptime_s, "draining": False, "workers": workers}


def at(at_s: float, document: State) -> Snapshot:
    """Read at that moment."""
    return snapshot(document, at_s)
