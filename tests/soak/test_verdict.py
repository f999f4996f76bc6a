"""The verdict of a soak sees what it is there to see."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from tests.soak.plan import Plan
from tests.soak.samples import Held, Quiet, Samples
from tests.soak.verdict import Drained, judge, lives, slope_mib_h

LONG = Plan(minutes=120)
GOOD_END = Drained(
    not_ready_ms=20, running=5, cut=0, exit_s=1.5, exit_status=0, grace_s=10, open_rows=0
)
GOOD: dict[str, Any] = {
    "wrongs": 0,
    "whole": 90,
    "compared": 90,
    "worst_late_s": 0.1,
    "drained": GOOD_END,
}


def moments(
    memory_mib: Callable[[float], float] = lambda _: 140.0, pids: Sequence[int] = (7, 8)
) -> list[Quiet]:
    """One a minute for two hours."""
    return [
        Quiet(
            at_s=60.0 * minute,
            workers={pid: Held(60.0 * minute, pid, memory_mib(minute / 60), 40) for pid in pids},
            tasks=26,
            open_rows=0,
            reserved_micro=0,
            requests=minute * 1000,
            left=minute * 200,
        )
        for minute in range(1, 121)
    ]


def missed(quiet: Sequence[Quiet], plan: Plan = LONG, **changes: Any) -> list[str]:
    found = judge(plan, Samples(quiet=list(quiet)), **{**GOOD, **changes})
    return [one.name for one in found if one.holds is False]


def test_a_good_run_holds() -> None:
    assert missed(moments()) == []


def test_memory_that_grows_is_seen_and_the_leak_is_told() -> None:
    names = missed(moments(lambda hours: 140 + 30 * hours))
    assert names == [
        "memory of a worker grows, after warming up",
        "growth for each cancelled or left request, all growth counted",
    ]
    assert missed(moments(lambda hours: 140 + 5 * hours)) == []


def test_what_grows_while_it_warms_up_is_not_held_against_it() -> None:
    assert missed(moments(lambda hours: 140 + min(40.0, 200 * hours))) == []


def test_one_odd_moment_moves_nothing() -> None:
    rows = [(float(second), 100.0) for second in range(0, 7200, 60)]
    rows[50] = (rows[50][0], 900.0)
    assert slope_mib_h(rows) == 0.0
    assert slope_mib_h([(second, 100 + second / 3600) for second, _ in rows]) == pytest.approx(1.0)
    assert slope_mib_h(rows[:2]) is None


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"tasks": 60}, "tasks of all workers, the same"),
        ({"open_rows": 1}, "open rows while nothing runs"),
        ({"reserved_micro": 5}, "money put aside while nothing runs"),
        (
            {"workers": {7: Held(7200.0, 7, 140.0, 90), 8: Held(7200.0, 8, 140.0, 40)}},
            "descriptors of a worker, first to last quiet moment",
        ),
    ],
)
def test_what_is_left_is_seen(change: dict[str, Any], name: str) -> None:
    quiet = moments()
    quiet[-1] = quiet[-1]._replace(**change)
    assert missed(quiet) == [name]


@pytest.mark.parametrize(
    ("change", "count"),
    [
        ({"wrongs": 1}, 1),
        ({"compared": 89}, 1),
        ({"worst_late_s": 0.3}, 1),
        ({"whole": 0, "compared": 0}, 1),
        ({"drained": replace(GOOD_END, cut=1)}, 1),
        ({"drained": replace(GOOD_END, running=0)}, 1),
        ({"drained": replace(GOOD_END, not_ready_ms=140)}, 1),
        ({"drained": replace(GOOD_END, exit_s=13, exit_status=1, open_rows=2)}, 2),
    ],
)
def test_what_was_wrong_is_seen(change: dict[str, Any], count: int) -> None:
    assert len(missed(moments(), **change)) == count


def test_a_worker_that_was_started_later_warms_up_first() -> None:
    early, late = moments(pids=(7, 8))[:60], moments(pids=(7, 9))[60:]
    found = lives(LONG, [*early, *late])
    assert [one.at_s for one in found[7]][:1] == [900.0]
    assert [one.at_s for one in found[9]][:1] == [late[15].at_s]
    assert missed([*early, *late]) == []
    short = lives(Plan(minutes=2), [*early, *late])
    assert [one.at_s for one in short[9]][:1] == [late[1].at_s]


def test_times_of_a_short_run_are_judged_where_they_are_far_over() -> None:
    def names(**changes: Any) -> list[str]:
        return missed(moments(), Plan(minutes=2), **changes)

    assert names(worst_late_s=0.3, drained=replace(GOOD_END, not_ready_ms=140)) == []
    assert len(names(worst_late_s=3.0, drained=replace(GOOD_END, not_ready_ms=1400))) == 2
