"""What the dashboard takes of the workers' states: a breaker, a pool and a credential are one a
worker, so of a target it is told how many are in which state, and the worst of what differs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

State = Mapping[str, Any]

BREAKERS: Final = ("closed", "ramp", "half_open", "open")
"""The better one first."""


def unknown_target() -> dict[str, Any]:
    """Of one that was asked, of which no worker that answers keeps anything."""
    return {
        "breakers": {},
        "breaker": "",
        "share": 1.0,
        "reason": None,
        "retry_in_s": 0.0,
        "suspected": 0,
        "trips": 0,
        "in_flight": 0,
        "limit": 0,
        "wait_s": 0.0,
        "usual_p50": None,
        "usual_p95": None,
    }


def targets(states: Iterable[State]) -> dict[str, dict[str, Any]]:
    """By name: breakers by state and the worst of them, the least share of a ramp, who waits."""
    found: dict[str, dict[str, Any]] = {}
    for state in states:
        for name, row in state["targets"].items():
            told = found.setdefault(name, unknown_target())
            breaker = row["breaker"]
            word = breaker["state"]
            told["breakers"][word] = told["breakers"].get(word, 0) + 1
            if not told["breaker"] or _badness(word) > _badness(told["breaker"]):
                told["breaker"] = word
                told["reason"] = breaker["reason"]
            told["share"] = min(told["share"], breaker["share"])
            told["retry_in_s"] = max(told["retry_in_s"], breaker["retry_in_s"])
            told["suspected"] += bool(breaker["suspected"])
            told["trips"] += breaker["trips"]
            told["in_flight"] += row["in_flight"]
            told["limit"] += row["limit"]
            told["wait_s"] = max(told["wait_s"], row["wait_s"])
            for key in ("p50", "p95"):
                value = row[f"{key}_ms"]
                if value is not None:
                    told[f"usual_{key}"] = max(told[f"usual_{key}"] or 0.0, value)
    return found


def _badness(word: str) -> int:
    return BREAKERS.index(word) if word in BREAKERS else len(BREAKERS)


def unknown_alias() -> dict[str, Any]:
    """Of one that nobody asked for since the workers began."""
    return {"throttled": 0, "shadow": None}


def aliases(states: Iterable[State]) -> dict[str, dict[str, Any]]:
    """By name: in how many workers hedges are throttled, and what shadow mode would have done."""
    found: dict[str, dict[str, Any]] = {}
    for state in states:
        for name, row in state["hedging"]["aliases"].items():
            told = found.setdefault(name, unknown_alias())
            told["throttled"] += bool(row["throttled"])
            if shadow := row.get("shadow"):
                sums = told["shadow"] or {"would_fire": 0, "would_win": 0.0}
                sums["would_fire"] += shadow["would_fire"]
                sums["would_win"] += shadow["would_win"] or 0.0
                told["shadow"] = sums
    return found


def origins(states: Iterable[State]) -> list[dict[str, Any]]:
    """Warm pools: sums over the workers, in how many there is none, and the last error."""
    found: dict[str, dict[str, Any]] = {}
    sums = ("connections", "open_streams", "waiting", "streams_opened", "streams_aborted", "calmed")
    for state in states:
        for row in state["origins"]:
            told = found.setdefault(
                row["origin"],
                {"origin": row["origin"], **dict.fromkeys(sums, 0), "empty": 0, "last_error": ""},
            )
            for name in sums:
                told[name] += row[name]
            told["empty"] += not row["connections"]
            told["last_error"] = row["last_error"] or told["last_error"]
    return sorted(found.values(), key=lambda row: str(row["origin"]))


def credentials(states: Iterable[State]) -> dict[str, dict[str, Any]]:
    """Of providers whose credential keeps requests waiting: for how long, and what was said."""
    found: dict[str, dict[str, Any]] = {}
    for state in states:
        for name, row in (state.get("credentials") or {}).items():
            if row["wait_s"] > 0:
                told = found.setdefault(name, {"wait_s": 0.0, "workers": 0})
                told["wait_s"] = max(told["wait_s"], row["wait_s"])
                told["workers"] += 1
    return found


def common_mode(states: Iterable[State]) -> int:
    """In how many workers everybody is slow at once, so that hedges stay at home."""
    return sum(
        bool((state["hedging"].get("common_mode") or {}).get("suspended")) for state in states
    )


REFUSED: Final = ("nobody", "batch", "new", "live")
"""By a worker with too much to do; each with those before it."""


def overload(states: Iterable[State]) -> dict[str, Any]:
    """In how many workers somebody is refused for that, and who is in the worst of them."""
    words = [(state.get("overload") or {}).get("refused", "nobody") for state in states]
    places = [REFUSED.index(word) for word in words if word in REFUSED]
    return {"workers": sum(map(bool, places)), "refused": REFUSED[max(places, default=0)]}
