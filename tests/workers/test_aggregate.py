"""Several workers' states on one page."""

from __future__ import annotations

from typing import Any

from relay.workers.aggregate import aggregate


def worker(generations: int, breaker: str, **more: Any) -> dict[str, Any]:
    return {
        "uptime_s": 5.0,
        "draining": False,
        "generations": generations,
        "prewarms": 1,
        "background": 0,
        "tasks": 10,
        "hedging": {
            "aliases": {
                "fast": {
                    "requests": 10,
                    "fired": 2,
                    "extra_cost_usd": 0.1,
                    "refused": {"throttled": 1},
                    "by_reason": {"learned": generations},
                    "throttled": breaker == "open",
                }
            }
        },
        "targets": {
            "lab/m": {
                "breaker": {"state": breaker, "trips": 1, "suspected": breaker == "closed"},
                "p50_ms": 400.0,
                "samples": 20.0,
                "limit": 8,
                "in_flight": 1,
            }
        },
        "origins": [{"origin": "https://lab", "connections": 2, "open_streams": generations}],
        **more,
    }


def test_counts_add_up_and_quantiles_are_left_out() -> None:
    page = aggregate([worker(3, "closed"), worker(4, "open")])
    assert page["generations"] == 7
    alias = page["hedging"]["aliases"]["fast"]
    assert (alias["requests"], alias["extra_cost_usd"], alias["throttled"]) == (20, 0.2, 1)
    assert alias["refused"] == {"throttled": 2}
    assert alias["by_reason"] == {"learned": 7}
    target = page["targets"]["lab/m"]
    assert target["breakers"] == {"closed": 1, "open": 1}
    assert (target["suspected"], target["trips"], target["in_flight"]) == (1, 2, 2)
    assert "p50_ms" not in target
    [origin] = page["origins"]
    assert (origin["connections"], origin["open_streams"]) == (4, 7)


def test_what_one_has_and_another_has_not() -> None:
    other = worker(1, "closed")
    other["targets"] = {"lab/other": other["targets"]["lab/m"]}
    del other["hedging"], other["prewarms"]
    page = aggregate([worker(1, "closed"), other])
    assert set(page["targets"]) == {"lab/m", "lab/other"}
    assert page["prewarms"] == 1
    assert page["hedging"]["aliases"]["fast"]["requests"] == 10


def test_nobody_has_answered() -> None:
    page = aggregate([])
    assert page["generations"] == 0
    assert page["targets"] == {}
    assert page["origins"] == []
