"""Which budgets count, and in which period."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from relay.governance.budget_scopes import BudgetRow, HoldMemo, has_hard, holds
from relay.store.base import Hold
from tests.fakes.properties import examples

NOW_US = int(datetime(2026, 5, 31, 22, 30, tzinfo=UTC).timestamp()) * 1_000_000


def budget(budget_id: str, **fields: Any) -> BudgetRow:
    usual = BudgetRow(budget_id, "key", "key_1", "org_1", "day", "UTC", 100, True, (), False)
    return usual._replace(**fields)


def second(month: int, day: int, hour: int = 0) -> int:
    return int(datetime(2026, month, day, hour, tzinfo=UTC).timestamp())


def test_each_budget_has_a_hold_of_its_own_period() -> None:
    found = holds(
        [
            budget("c", period="total", is_hard=False),
            budget("a", period="month", time_zone="Europe/Berlin", scope="team"),
            budget("b"),
        ],
        NOW_US,
    )
    assert found == (
        Hold("a", second(5, 31, 22), 100),  # it is June in Berlin
        Hold("b", second(5, 31), 100),
        Hold("c", 0, None),
    )


def test_archived_ones_are_left_out_and_double_ones_count_once() -> None:
    tag = budget("t", scope="tag", scope_id="batch")
    assert [hold.budget_id for hold in holds([tag, budget("x", archived=True), tag], NOW_US)] == [
        "t"
    ]


def test_soft_budgets_stop_nothing() -> None:
    assert not has_hard(holds([budget("a", is_hard=False)], NOW_US))
    assert has_hard(holds([budget("a", is_hard=False), budget("b")], NOW_US))
    assert not has_hard(())


@examples(50)
@given(
    moments=st.lists(st.integers(-3 * 24 * 3600, 40 * 24 * 3600), min_size=1, max_size=12),
    of=st.lists(st.sampled_from(("day", "month", "total")), max_size=3),
    zones=st.lists(st.sampled_from(("UTC", "Europe/Berlin", "Asia/Kolkata")), min_size=3),
)
def test_what_was_asked_before_is_told_as_anew(
    moments: list[int], of: list[str], zones: list[str]
) -> None:
    memo = HoldMemo()
    first = tuple(
        budget(f"b{number}", period=period, time_zone=zone)
        for number, (period, zone) in enumerate(zip(of, zones, strict=False))
    )
    second_rows = tuple(row._replace(limit_micro=7) for row in first)
    for moment in moments:  # a clock may be put back as well
        now_us = NOW_US + moment * 1_000_000
        for rows in (first, second_rows):
            assert memo.holds(rows, now_us) == holds(rows, now_us)
            assert memo.holds(rows, now_us) == holds(rows, now_us)


@examples(50)
@given(ids=st.lists(st.text("abc", min_size=1, max_size=3)), order=st.randoms())
def test_all_take_their_rows_in_one_order(ids: list[str], order: random.Random) -> None:
    rows = [budget(one) for one in ids]
    order.shuffle(rows)
    found = [hold.budget_id for hold in holds(rows, NOW_US)]
    assert found == sorted(set(ids))


def test_holds_of_a_period_are_made_once_and_anew_for_the_next() -> None:
    """Between the period's first microsecond and its last nothing is worked out again."""
    memo, rows = HoldMemo(), (budget("a"), budget("b", period="month"))
    first_us, after_us = second(5, 31) * 1_000_000, second(6, 1) * 1_000_000
    known = memo.holds(rows, first_us)
    assert memo.holds(rows, first_us) is known
    assert memo.holds(rows, after_us - 1) is known
    assert memo.holds(rows, after_us) is not known
    again = memo.holds(rows, after_us - 1)
    assert (again, again is known) == (known, False)
    assert memo.holds(rows, first_us) is again
    assert memo.holds(rows, first_us - 1) is not again


def test_how_much_is_remembered_is_bounded() -> None:
    memo = HoldMemo()
    kept = [(budget(f"b{number}", period="total"),) for number in range(4097)]
    found = [memo.holds(rows, NOW_US) for rows in kept[:4096]]
    assert memo.holds(kept[0], NOW_US) is found[0]
    assert len(memo._known) == 4096
    memo.holds(kept[4096], NOW_US)
    assert len(memo._known) == 1
    assert memo.holds(kept[0], NOW_US) == found[0]
