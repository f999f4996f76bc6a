"""Workers' snapshots as one: sums, kept counts of the dead, gauges of those that answered."""

from __future__ import annotations

from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from relay.observability.metrics.families import FAMILIES, Kind
from relay.observability.metrics.join import WorkersJoin
from relay.observability.metrics.snapshot import Series, Snapshot, read
from tests.fakes.properties import examples

SENT = "rtrelay_hedges_sent_total"
TTFT = "rtrelay_ttft_seconds"
SESSIONS = "rtrelay_sessions"
SHARE = "rtrelay_breaker_share"
UPTIME = "rtrelay_uptime_seconds"


def snapshot(id_: str, sent: float, **more: Any) -> Snapshot:
    return Snapshot(id_, {SENT: {"fast": sent}, **more})


def test_counters_and_buckets_add_up() -> None:
    join = WorkersJoin()
    join.take(
        {
            0: snapshot("a", 3, **{TTFT: {"fast": [1, 2, 0.5]}}),
            1: snapshot("b", 4, **{TTFT: {"fast": [0, 5, 2.0], "slow": [1, 0, 0.1]}}),
        }
    )
    found = join.joined([0, 1])
    assert found[SENT] == {"fast": 7}
    assert found[TTFT] == {"fast": [1, 7, 2.5], "slow": [1, 0, 0.1]}


def test_gauges_join_as_their_families_say() -> None:
    join = WorkersJoin()
    join.take(
        {
            0: snapshot("a", 0, **{SESSIONS: {"": 2}, SHARE: {"x": 1.0}, UPTIME: {"": 5}}),
            1: snapshot("b", 0, **{SESSIONS: {"": 3}, SHARE: {"x": 0.1}, UPTIME: {"": 7}}),
        }
    )
    found = join.joined([0, 1])
    assert (found[SESSIONS], found[SHARE], found[UPTIME]) == (
        {"": 5},
        {"x": 0.1},
        {"0": 5, "1": 7},
    )
    assert join.joined([1])[UPTIME] == {"1": 7}


def test_what_a_dead_worker_had_is_kept() -> None:
    join = WorkersJoin()
    join.take({0: snapshot("a", 3), 1: snapshot("b", 4)})
    join.take({1: snapshot("b", 5)})
    assert join.joined([1])[SENT] == {"fast": 8}, "gone, and nobody in its place"
    join.take({0: snapshot("c", 1), 1: snapshot("b", 5)})
    assert join.joined([0, 1])[SENT] == {"fast": 9}
    join.take({0: snapshot("d", 1)})
    assert join.joined([0])[SENT] == {"fast": 10}


def test_other_buckets_add_to_nothing() -> None:
    join = WorkersJoin()
    join.take(
        {
            0: Snapshot("a", {TTFT: {"fast": [1, 2, 0.5]}}),
            1: Snapshot("b", {TTFT: {"fast": [9, 9, 9, 9.0]}}),
        }
    )
    assert join.joined([0, 1])[TTFT] == {"fast": [1, 2, 0.5]}


def test_a_join_changes_no_snapshot() -> None:
    join = WorkersJoin()
    join.take({0: Snapshot("a", {TTFT: {"fast": [1, 0.5]}}), 1: Snapshot("b", {})})
    for _ in range(3):
        assert join.joined([0, 1])[TTFT] == {"fast": [1, 0.5]}
    join.take({0: Snapshot("c", {TTFT: {"fast": [1, 0.5]}})})
    for _ in range(3):
        assert join.joined([0])[TTFT] == {"fast": [2, 1.0]}


def test_an_answer_is_read_back() -> None:
    before = snapshot("a", 3, **{TTFT: {"fast": [1, 0.5]}})
    assert read(orjson.loads(orjson.dumps(before.to_dict()))) == before


def test_odd_answers_are_none() -> None:
    odd: Any
    for odd in (None, 5, "x", [], {}, {"id": 1, "series": {}}, {"id": "a"}, ValueError("gone")):
        assert read(odd) is None
    later = read({"id": "a", "series": {"rtrelay_of_another_version": {"": 1}, SENT: {"x": 1}}})
    assert later == Snapshot("a", {SENT: {"x": 1}})


WORKERS = 3
ACTS = st.lists(
    st.tuples(
        st.sampled_from(["work", "die", "ask"]),
        st.integers(0, WORKERS - 1),
        st.sets(st.integers(0, WORKERS - 1)),
    ),
    max_size=40,
)


@given(acts=ACTS)
@examples(60, full=2000)
def test_no_counter_ever_goes_down(acts: list[tuple[str, int, set[int]]]) -> None:
    """Whoever works, dies, begins anew and does not answer; and what was told is never lost."""
    join = WorkersJoin()
    counts = [0] * WORKERS
    told = [0] * WORKERS
    kept = shown = 0
    births = list(range(WORKERS))
    for act, number, silent in acts:
        if act == "work":
            counts[number] += 1
        elif act == "die":
            kept += told[number]
            counts[number] = told[number] = 0
            births[number] = max(births) + 1
        else:
            heard = set(range(WORKERS)) - silent
            join.take(
                {
                    n: Snapshot(
                        str(births[n]), {SENT: {"x": counts[n]}, TTFT: {"x": [counts[n], 0.0]}}
                    )
                    if n in heard
                    else None
                    for n in range(WORKERS)
                }
            )
            for n in heard:
                told[n] = counts[n]
            found = join.joined(heard)
            rows = found.get(SENT, {})
            now = rows.get("x", 0)
            assert now == kept + sum(told)
            assert now >= shown
            assert found.get(TTFT, {}).get("x", [0, 0.0]) == [now, 0.0]
            shown = kept + sum(told)


def test_every_gauge_says_how_it_joins() -> None:
    for family in FAMILIES.values():
        if family.kind is not Kind.GAUGE:
            assert family.join == "sum"
        assert ("worker" in family.labels) == (family.join == "worker")


def test_series_without_rows() -> None:
    empty: Series = WorkersJoin().joined([])
    assert empty == {}
