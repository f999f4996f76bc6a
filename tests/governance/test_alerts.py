"""Which thresholds are told, and in which words."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.governance.alerts import Crossing, checked_percents, crossed, payload
from tests.fakes.properties import examples

DAY_S = int(datetime(2026, 3, 28, 23, tzinfo=UTC).timestamp())
CROSSING = Crossing(
    budget_id="bud_1",
    scope="team",
    scope_id="team_1",
    organisation_id="org_1",
    period="day",
    time_zone="Europe/Berlin",
    limit_micro=12_500_000,
    is_hard=True,
    period_start_s=DAY_S,
    spent_micro=10_000_001,
    reserved_micro=7,
    percent=80,
)


@pytest.mark.parametrize(
    ("spent", "limit", "told", "due"),
    [
        (0, 1_000, 0, ()),
        (499, 1_000, 0, ()),
        (500, 1_000, 0, (50,)),
        (1_000, 1_000, 0, (50, 80, 100)),
        (1_000, 1_000, 80, (100,)),
        (1_000, 1_000, 100, ()),
        (799, 1_000, 0, (50,)),
        (0, 0, 0, ()),
        (1, 0, 0, (50, 80, 100)),
        (1, 1, 0, (50, 80, 100)),
        (-5, 1_000, 0, ()),
    ],
)
def test_crossed(spent: int, limit: int, told: int, due: tuple[int, ...]) -> None:
    assert crossed(spent, limit, (100, 50, 80), told) == due


@examples(100)
@given(
    amounts=st.lists(st.integers(0, 500), max_size=30),
    limit=st.integers(1, 2_000),
    percents=st.sets(st.integers(1, 200), max_size=5),
)
def test_each_threshold_is_told_once_and_only_when_it_is_true(
    amounts: list[int], limit: int, percents: set[int]
) -> None:
    spent = told = 0
    said: list[int] = []
    for amount in amounts:
        spent += amount
        due = crossed(spent, limit, percents, told)
        told = due[-1] if due else told
        said += due
    assert said == sorted(one for one in percents if spent and spent * 100 >= limit * one)


def test_payload() -> None:
    told = json.loads(payload(CROSSING, DAY_S * 1_000_000 + 5))
    assert told == {
        "id": f"budget:bud_1:{DAY_S}:80",
        "type": "budget.threshold",
        "created_at": "2026-03-28T23:00:00Z",
        "budget": {
            "id": "bud_1",
            "scope": "team",
            "scope_id": "team_1",
            "organisation_id": "org_1",
            "period": "day",
            "time_zone": "Europe/Berlin",
            "is_hard": True,
            "limit_micro": 12_500_000,
            "limit_usd": "12.5",
        },
        "period_start": "2026-03-28T23:00:00Z",
        "period_end": "2026-03-29T22:00:00Z",
        "threshold_percent": 80,
        "spent_micro": 10_000_001,
        "spent_usd": "10.000001",
        "reserved_micro": 7,
    }


def test_all_time_has_no_edges() -> None:
    told = json.loads(payload(CROSSING._replace(period="total", period_start_s=0), 0))
    assert (told["period_start"], told["period_end"]) == (None, None)


def test_dedupe_fits_its_column() -> None:
    longest = CROSSING._replace(budget_id="b" * 32, period_start_s=1 << 40, percent=1_000)
    assert len(longest.dedupe) <= 128


@pytest.mark.parametrize("value", [[80, 50, 80], (50, 80)])
def test_percents(value: object) -> None:
    assert checked_percents(value) == (50, 80)


@pytest.mark.parametrize("value", ["80", [0], [1_001], [1.5], [True], list(range(1, 18)), None])
def test_wrong_percents(value: object) -> None:
    with pytest.raises(ValueError, match="alert_percents"):
        checked_percents(value)
