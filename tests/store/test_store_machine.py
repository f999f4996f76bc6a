"""M1 to M10 of budgets on the real stores; what is done and asked is in `tests.governance`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from relay.store.base import LedgerStore
from relay.store.engine import engine_for, reading
from relay.store.postgres_ledger import PostgresLedger
from relay.store.rebuild import drifts
from relay.store.sqlite_ledger import SqliteLedger
from tests.fakes.properties import IS_FULL
from tests.governance.ledger_steps import drive
from tests.governance.ledger_worlds import Rows, SqlWorld
from tests.governance.test_budget_machine import NIGHT_S, run_machine_on

OPERATIONS = 10_000 if IS_FULL else 250
CHECK_EVERY = 10 if IS_FULL else 25


@pytest.fixture(params=["sqlite", "postgresql"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SqlWorld]:
    if request.param == "sqlite":
        path = tmp_path / "relay.db"
        url = f"sqlite:///{path}"

        def make() -> LedgerStore:
            return SqliteLedger(path, linger_s=0.0)
    else:
        url = request.getfixturevalue("postgres_url")

        def make() -> LedgerStore:
            return PostgresLedger(url)

    engine = engine_for(url)
    yield SqlWorld(engine, make)
    engine.dispose()


class RebuiltWorld(SqlWorld):
    """Whose counters are added up again by the database each time they are looked at (M10)."""

    def rows(self) -> Rows:
        with reading(self.engine) as connection:
            assert drifts(connection) == []
        return super().rows()


@pytest.mark.timeout(NIGHT_S)
def test_long_run(world: SqlWorld) -> None:
    rebuilt = RebuiltWorld(world.engine, world.ledger)
    done = drive(rebuilt, 11, OPERATIONS, check_every=CHECK_EVERY, episode=250)
    assert done == OPERATIONS


@pytest.mark.timeout(NIGHT_S)
def test_machine(world: SqlWorld) -> None:
    run_machine_on(world, 40 if IS_FULL else 3, 40 if IS_FULL else 15)
