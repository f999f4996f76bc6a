"""Thresholds and messages on both databases, also where several workers look at once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, select

from relay.governance.alerts import payload
from relay.store import outbox_store, schema
from relay.store.base import StoreUnavailable
from relay.store.engine import engine_for, migrate, reading, writing
from relay.store.outbox_store import LOOK_BACK_S, OutboxStore

NOW_S = int(datetime(2026, 6, 15, 12, tzinfo=UTC).timestamp())
NOW_US = NOW_S * 1_000_000
TODAY_S = int(datetime(2026, 6, 15, tzinfo=UTC).timestamp())
HOLD_US = 60_000_000


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'relay.db'}"
    else:
        url = request.getfixturevalue("postgres_url")
    engine = engine_for(url)
    if request.param == "sqlite":
        migrate(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def outbox(engine: Engine) -> OutboxStore:
    return OutboxStore(engine)


def budget(engine: Engine, budget_id: str, **fields: Any) -> None:
    row = {
        "id": budget_id,
        "scope": "tag",
        "scope_id": "batch",
        "organisation_id": None,
        "period": "day",
        "time_zone": "UTC",
        "limit_micro": 1_000,
        "is_hard": 1,
        "alert_percents": "[50, 80, 100]",
        "created_at_us": 1,
        "changed": 1,
        **fields,
    }
    with writing(engine) as connection:
        connection.execute(schema.budgets.insert().values(**row))


def spend(engine: Engine, budget_id: str, micro: int, start_s: int = TODAY_S) -> None:
    """So much is settled, as the ledger writes it."""
    table = schema.budget_periods
    where = (table.c.budget_id == budget_id) & (table.c.period_start_s == start_s)
    with writing(engine) as connection:
        changed = connection.execute(table.update().where(where).values(settled_micro=micro))
        if changed.rowcount == 0:
            connection.execute(
                table.insert().values(
                    budget_id=budget_id, period_start_s=start_s, settled_micro=micro
                )
            )


def percents(outbox: OutboxStore, now_us: int = NOW_US) -> list[int]:
    return [one.percent for one in outbox.notice(now_us, payload)]


def rows(engine: Engine) -> list[Any]:
    with reading(engine) as connection:
        return list(connection.execute(select(schema.outbox).order_by(schema.outbox.c.id)))


# --- thresholds -----------------------------------------------------------------------------


def test_each_threshold_is_noticed_once(engine: Engine, outbox: OutboxStore) -> None:
    budget(engine, "b")
    assert percents(outbox) == []
    spend(engine, "b", 499)
    assert percents(outbox) == []
    spend(engine, "b", 800)
    assert percents(outbox) == [50, 80]
    assert percents(outbox) == []
    spend(engine, "b", 1_200)
    assert percents(outbox) == [100]
    told = [json.loads(row.payload) for row in rows(engine)]
    assert [one["threshold_percent"] for one in told] == [50, 80, 100]
    assert [one["spent_micro"] for one in told] == [800, 800, 1_200]
    assert rows(engine)[0].dedupe == f"budget:b:{TODAY_S}:50"


def test_many_that_are_near_do_not_hide_the_one_that_is_over(
    engine: Engine, outbox: OutboxStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox_store, "MOST_AT_ONCE", 2)
    for number in range(5):
        budget(engine, f"b{number}")
        spend(engine, f"b{number}", 600 if number == 4 else 400, TODAY_S - 86_400)
        spend(engine, f"b{number}", 600 if number == 3 else 400)
    found = [(one.budget_id, one.period_start_s) for one in outbox.notice(NOW_US, payload)]
    assert found == [("b3", TODAY_S), ("b4", TODAY_S - 86_400)]


def test_each_period_is_told_anew(engine: Engine, outbox: OutboxStore) -> None:
    budget(engine, "b")
    spend(engine, "b", 600, TODAY_S - 86_400)
    spend(engine, "b", 600, TODAY_S)
    assert percents(outbox) == [50, 50]
    assert percents(outbox) == []


def test_a_changed_limit_tells_nothing_twice(engine: Engine, outbox: OutboxStore) -> None:
    budget(engine, "b")
    spend(engine, "b", 600)
    assert percents(outbox) == [50]
    table = schema.budgets
    for limit, due in ((10_000, []), (700, [80]), (100, [100])):
        with writing(engine) as connection:
            connection.execute(table.update().values(limit_micro=limit))
        assert percents(outbox) == due


@pytest.mark.parametrize(
    "fields",
    [
        {"alert_percents": "[]"},
        {"alert_percents": "nonsense"},
        {"alert_percents": '{"a": 1}'},
        {"archived_at_us": 5},
    ],
)
def test_nothing_to_tell(engine: Engine, outbox: OutboxStore, fields: dict[str, Any]) -> None:
    budget(engine, "b", **fields)
    spend(engine, "b", 5_000)
    assert percents(outbox) == []


def test_old_periods_are_let_go_and_all_time_is_not(engine: Engine, outbox: OutboxStore) -> None:
    budget(engine, "day")
    budget(engine, "total", period="total")
    spend(engine, "day", 900, TODAY_S - LOOK_BACK_S - 86_400)
    spend(engine, "total", 900, 0)
    found = outbox.notice(NOW_US, payload)
    assert {(one.budget_id, one.percent) for one in found} == {("total", 50), ("total", 80)}


def test_limits_of_any_size(engine: Engine, outbox: OutboxStore) -> None:
    budget(engine, "none", limit_micro=0)
    budget(engine, "tiny", limit_micro=1)
    budget(engine, "huge", limit_micro=(1 << 62) - 1)
    for one in ("none", "tiny", "huge"):
        spend(engine, one, 1)
    found = outbox.notice(NOW_US, payload)
    assert {(one.budget_id, one.percent) for one in found} == {
        (name, percent) for name in ("none", "tiny") for percent in (50, 80, 100)
    }


def test_without_an_address_they_are_only_marked(engine: Engine, outbox: OutboxStore) -> None:
    budget(engine, "b")
    spend(engine, "b", 600)
    assert [one.percent for one in outbox.notice(NOW_US, None)] == [50]
    assert rows(engine) == []
    assert percents(outbox) == []


def test_of_many_workers_one_notices(engine: Engine) -> None:
    for number in range(5):
        budget(engine, f"b{number}")
        spend(engine, f"b{number}", 900)
    with ThreadPoolExecutor(4) as workers:
        looks = [workers.submit(OutboxStore(engine).notice, NOW_US, payload) for _ in range(4)]
        noticed = [one.dedupe for look in looks for one in look.result()]
    assert len(noticed) == len(set(noticed)) == 10
    assert sorted(noticed) == sorted(row.dedupe for row in rows(engine))


def test_looking_changes_no_account(engine: Engine, outbox: OutboxStore) -> None:
    """M9: however often it is looked and told."""
    budget(engine, "b")
    spend(engine, "b", 900)
    for _ in range(3):
        outbox.notice(NOW_US, payload)
        for message in outbox.claim(NOW_US, 0, 10):
            outbox.postpone(message.id, NOW_US)
    with reading(engine) as connection:
        periods = connection.execute(select(schema.budget_periods)).all()
    assert [(row.settled_micro, row.reserved_micro, row.overrun_micro) for row in periods] == [
        (900, 0, 0)
    ]
    assert len(rows(engine)) == 2


# --- messages -------------------------------------------------------------------------------


@pytest.fixture
def filled(engine: Engine, outbox: OutboxStore) -> OutboxStore:
    """With two messages."""
    budget(engine, "b")
    spend(engine, "b", 900)
    outbox.notice(NOW_US, payload)
    return outbox


def test_a_claimed_message_is_nobody_elses(filled: OutboxStore) -> None:
    first = filled.claim(NOW_US, HOLD_US, 1)
    second = filled.claim(NOW_US, HOLD_US, 10)
    assert [one.tries for one in first + second] == [1, 1]
    assert {one.dedupe for one in first + second} == {
        f"budget:b:{TODAY_S}:{percent}" for percent in (50, 80)
    }
    assert filled.claim(NOW_US, HOLD_US, 10) == []


def test_who_dies_with_it_loses_it(filled: OutboxStore) -> None:
    filled.claim(NOW_US, HOLD_US, 10)
    assert filled.claim(NOW_US + HOLD_US - 1, HOLD_US, 10) == []
    again = filled.claim(NOW_US + HOLD_US, HOLD_US, 10)
    assert [one.tries for one in again] == [2, 2]


def test_delivered_and_given_up_are_done_with(engine: Engine, filled: OutboxStore) -> None:
    one, other = filled.claim(NOW_US, HOLD_US, 10)
    filled.delivered(one.id, NOW_US + 1)
    filled.give_up(other.id, NOW_US + 2)
    assert filled.claim(NOW_US + 10 * HOLD_US, HOLD_US, 10) == []
    assert [(row.delivered_at_us, row.given_up_at_us) for row in rows(engine)] == [
        (NOW_US + 1, None),
        (None, NOW_US + 2),
    ]


def test_postponed(filled: OutboxStore) -> None:
    one, other = filled.claim(NOW_US, HOLD_US, 10)
    filled.postpone(one.id, NOW_US + 5)
    filled.postpone(other.id, NOW_US + 9)
    assert [found.id for found in filled.claim(NOW_US + 5, HOLD_US, 10)] == [one.id]


def test_a_late_note_changes_nothing_that_was_delivered(
    engine: Engine, filled: OutboxStore
) -> None:
    one, _ = filled.claim(NOW_US, HOLD_US, 10)
    filled.delivered(one.id, NOW_US + 1)
    filled.postpone(one.id, 0)
    filled.give_up(one.id, 3)
    row = rows(engine)[0]
    assert (row.delivered_at_us, row.given_up_at_us) == (NOW_US + 1, None)


def test_old_ones_are_forgotten_when_they_are_done(engine: Engine, filled: OutboxStore) -> None:
    one, _ = filled.claim(NOW_US, HOLD_US, 10)
    filled.delivered(one.id, NOW_US)
    assert filled.forget(NOW_US) == 0
    assert filled.forget(NOW_US + 1) == 1
    assert len(rows(engine)) == 1


def test_of_many_workers_each_message_is_claimed_by_one(engine: Engine) -> None:
    budget(engine, "b", alert_percents=json.dumps(list(range(1, 16))))
    spend(engine, "b", 1_000)
    OutboxStore(engine).notice(NOW_US, payload)
    with ThreadPoolExecutor(4) as workers:
        claims = [workers.submit(OutboxStore(engine).claim, NOW_US, HOLD_US, 3) for _ in range(8)]
        claimed = [one.id for claim in claims for one in claim.result()]
    assert len(claimed) == len(set(claimed)) == 15


def test_database_that_is_gone(tmp_path: Path) -> None:
    engine = engine_for(f"sqlite:///{tmp_path / 'none' / 'relay.db'}")
    with pytest.raises(StoreUnavailable):
        OutboxStore(engine).notice(NOW_US, payload)
    engine.dispose()
