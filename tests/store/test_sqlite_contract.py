"""SqliteLedger does what every LedgerStore does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy

from relay.store.engine import engine_for, migrate
from relay.store.sqlite_ledger import SqliteLedger
from tests.store.ledger_contract import LedgerContract


class SqliteLedgers:
    """A file with our tables, and the stores on it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.engine: sqlalchemy.Engine = engine_for(f"sqlite:///{path}")
        migrate(self.engine)

    def make(self) -> SqliteLedger:
        return SqliteLedger(self._path)


class TestSqlite(LedgerContract):
    @pytest.fixture
    def ledgers(self, tmp_path: Path) -> Iterator[SqliteLedgers]:
        made = SqliteLedgers(tmp_path / "relay.db")
        yield made
        made.engine.dispose()
