"""Counters of budgets against the sum of their generations, on both databases."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, select

from relay.store import schema
from relay.store.counters import Difference
from relay.store.engine import engine_for, migrate, reading, writing
from relay.store.rebuild import drifts, repair


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'relay.db'}"
    else:
        url = request.getfixturevalue("postgres_url")
    engine = engine_for(url, pool_size=1)
    if request.param == "sqlite":
        migrate(engine)
    yield engine
    engine.dispose()


def add(
    engine: Engine,
    generation_id: str,
    holds: list[list[Any]],
    reserved: int,
    settled: int | None = None,
) -> None:
    """A row of `generations`, open while `settled` is None."""
    row: dict[str, Any] = {
        column.name: "" for column in schema.generations.columns if not column.nullable
    }
    row |= {
        "id": generation_id,
        "state": "open" if settled is None else "settled",
        "admitted_at_us": 1,
        "lease_until_us": 2,
        "holds": json.dumps(holds),
        "reserved_micro": reserved,
        "settled_micro": settled,
    }
    with writing(engine) as connection:
        connection.execute(schema.generations.insert().values(**row))


def store(engine: Engine, budget_id: str, start_s: int, *sums: int) -> None:
    """A row of `budget_periods`."""
    with writing(engine) as connection:
        connection.execute(
            schema.budget_periods.insert().values(
                budget_id=budget_id,
                period_start_s=start_s,
                settled_micro=sums[0],
                reserved_micro=sums[1],
                overrun_micro=sums[2],
                alerted_percent=80,
            )
        )


def found(engine: Engine, kept_since_s: int = 0) -> list[Difference]:
    with reading(engine) as connection:
        return drifts(connection, kept_since_s=kept_since_s)


def test_sums(engine: Engine) -> None:
    add(engine, "a", [["k", 0], ["t", 86_400]], 100, 60)
    add(engine, "b", [["k", 0]], 50)
    add(engine, "c", [["k", 0]], 10, 25)
    add(engine, "free", [], 0, 7)
    store(engine, "k", 0, 85, 50, 15)
    store(engine, "t", 86_400, 60, 0, 0)
    store(engine, "idle", 0, 0, 0, 0)
    assert found(engine) == []


def test_every_difference_is_told_and_mended(engine: Engine) -> None:
    add(engine, "a", [["k", 0], ["t", 0]], 100, 60)
    add(engine, "b", [["k", 0]], 50)
    store(engine, "k", 0, 61, 50, 0)
    store(engine, "ghost", 5, 0, 9, 0)
    expected = [
        Difference("ghost", 5, "reserved", 9, 0),
        Difference("k", 0, "settled", 61, 60),
        Difference("t", 0, "settled", 0, 60),
    ]
    assert found(engine) == expected
    with writing(engine) as connection:
        assert repair(connection) == expected
    assert found(engine) == []
    periods = schema.budget_periods.c
    with reading(engine) as connection:
        alerted = connection.execute(
            select(periods.alerted_percent).where(periods.budget_id == "k")
        ).scalar_one()
    assert alerted == 80, "what was told is not told again"


def test_periods_whose_generations_were_deleted_are_left_alone(engine: Engine) -> None:
    store(engine, "k", 0, 500, 0, 0)
    store(engine, "k", 86_400, 500, 0, 0)
    store(engine, "k", 172_800, 500, 0, 0)
    assert [one.period_start_s for one in found(engine, kept_since_s=172_800)] == [172_800]
    with writing(engine) as connection:
        assert len(repair(connection, kept_since_s=172_800)) == 1
    assert [one.period_start_s for one in found(engine)] == [0, 86_400]


def test_amounts_beyond_32_bits(engine: Engine) -> None:
    for number in range(3):
        add(engine, f"g{number}", [["k", 0]], 4_000_000_000_000, 3_000_000_000_000)
    store(engine, "k", 0, 9_000_000_000_000, 0, 0)
    assert found(engine) == []
