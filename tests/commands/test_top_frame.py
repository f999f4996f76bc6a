"""What happened between two readings."""

from __future__ import annotations

import pytest

from relay.commands.top_frame import SORTS, frame
from relay.commands.top_snapshot import NoState, snapshot
from tests.fakes.relay_states import alias, at, several, target, worker


def test_rates_are_differences_over_the_time_between() -> None:
    before = at(10.0, worker(60, {"a/m": target(asked=100, failed=5, overloaded=1)}))
    now = at(12.0, worker(62, {"a/m": target(asked=110, failed=6, overloaded=3)}))
    found = frame(before, now)
    (row,) = found.targets
    assert (row.requests_per_s, row.errors_per_s, row.error_share) == (5.0, 1.5, 0.3)
    assert (row.failed_ever, row.overloaded_ever) == (6, 3)
    assert (found.over_s, found.requests_per_s, found.sessions, found.generations) == (2, 5, 1, 2)


def test_the_first_reading_has_no_rates() -> None:
    found = frame(None, at(1.0, worker(60, {"a/m": target(asked=100)}, {"fast": alias()})))
    (row,) = found.targets
    assert row.requests_per_s is None
    assert row.error_share is None
    assert found.aliases[0].requests_per_s is None
    assert found.requests_per_s is None


def test_a_restarted_process_counts_from_nothing() -> None:
    before = at(10.0, worker(60, {"a/m": target(asked=100)}))
    now = at(12.0, worker(1, {"a/m": target(asked=4)}))
    assert frame(before, now).targets[0].requests_per_s == 2.0


def test_of_a_worker_that_was_not_seen_before_nothing_is_made_up() -> None:
    """It did not answer then; how much of what it counts is new nobody knows."""
    one = worker(60, {"a/m": target(asked=100)})
    before = at(10.0, several(one, None))
    now = at(12.0, several(worker(62, {"a/m": target(asked=102)}), one | {"uptime_s": 62}))
    assert frame(before, now).targets[0].requests_per_s == 1.0
    assert [row.why for row in before.workers] == ["", "no answer within 1 s"]


def test_a_replaced_worker_counts_from_its_start() -> None:
    one = worker(60, {"a/m": target(asked=100)})
    young = worker(1.5, {"a/m": target(asked=6)})
    before = at(10.0, several(one, one))
    now = at(12.0, several(one | {"uptime_s": 62}, young, w1={"pid": 999, "restarts": 1}))
    found = frame(before, now)
    assert found.targets[0].requests_per_s == 3.0
    assert [row.restarts for row in found.workers] == [0, 1]


def test_several_workers_are_added_up_and_the_worst_is_told() -> None:
    left = worker(
        60,
        {"a/m": target(in_flight=3, p99_ms=500.0)},
        {"fast": alias(requests=10, fired=2, won=1, extra_cost_usd=0.5, throttled=True)},
        origins=[{"origin": "https://a", "connections": 2, "open_streams": 1, "waiting": 1}],
    )
    right = worker(
        60,
        {"a/m": target(in_flight=4, p99_ms=700.0, state="open", reason="slow", retry_in_s=3.0)},
        {"fast": alias(requests=30, fired=3, won=2, extra_cost_usd=0.25)},
        origins=[{"origin": "https://a", "connections": 1, "last_error": "refused"}],
    )
    found = frame(None, at(1.0, several(left, right)))
    (row,) = found.targets
    assert (row.breaker, row.breakers) == ("open", {"closed": 1, "open": 1})
    assert (row.reason, row.retry_in_s, row.in_flight, row.limit) == ("slow", 3.0, 7, 400)
    assert row.p99_ms == 700.0
    (hedging,) = found.aliases
    assert (hedging.requests, hedging.fired, hedging.won, hedging.cost_usd) == (40, 5, 3, 0.75)
    assert hedging.throttled == 1
    (origin,) = found.origins
    assert (origin.connections, origin.open_streams, origin.waiting) == (3, 1, 1)
    assert origin.last_error == "refused"


def test_quantiles_of_a_worker_with_few_samples_do_not_hide_the_others() -> None:
    sure, unsure = target(p99_ms=300.0, samples=500), target(p99_ms=9000.0, samples=1)
    found = frame(None, at(1.0, several(worker(9, {"a/m": sure}), worker(9, {"a/m": unsure}))))
    assert found.targets[0].p99_ms == 300.0
    alone = frame(None, at(1.0, worker(9, {"a/m": unsure})))
    assert alone.targets[0].p99_ms == 9000.0


def test_an_older_relay_is_shown_with_what_it_has() -> None:
    bare = {"uptime_s": 3, "targets": {"a/m": {"samples": 2}, "b/m": None}, "origins": [None]}
    found = frame(at(1.0, bare), at(2.0, bare))
    assert [row.name for row in found.targets] == ["a/m"]
    assert found.targets[0].p50_ms is None
    assert found.to_dict()["targets"][0]["error_share"] is None


@pytest.mark.parametrize("document", [None, [], {}, {"error": "no"}, "x"])
def test_what_is_no_state_is_refused(document: object) -> None:
    with pytest.raises(NoState):
        snapshot(document, 0.0)


def test_orders() -> None:
    rows = {
        "b/fine": target(asked=50, p50_ms=900.0),
        "a/failing": target(asked=20, failed=10, in_flight=9),
        "c/out": target(state="open", p99_ms=5000.0),
    }
    none = dict.fromkeys(rows, target())
    found = frame(at(0.0, worker(60, none)), at(1.0, worker(61, rows)))
    first = {name: sorted(found.targets, key=key)[0].name for name, key in SORTS.items()}
    assert first == {
        "name": "a/failing",
        "rate": "b/fine",
        "errors": "a/failing",
        "p50": "b/fine",
        "p99": "c/out",
        "flight": "a/failing",
        "trouble": "c/out",
    }
