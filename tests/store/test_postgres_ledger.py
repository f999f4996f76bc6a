"""The accounts on a real PostgreSQL: the suite of every store."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy

from relay.store.postgres_ledger import PostgresLedger
from tests.store.ledger_contract import LedgerContract


class PostgresLedgers:
    """Stores on one database of a real server."""

    def __init__(self, url: str) -> None:
        self.url = url
        dialect = url.replace("postgresql:", "postgresql+psycopg:", 1)
        self.engine = sqlalchemy.create_engine(dialect, poolclass=sqlalchemy.NullPool)

    def make(self) -> PostgresLedger:
        return PostgresLedger(self.url)


@pytest.fixture
def ledgers(postgres_url: str) -> Iterator[PostgresLedgers]:
    found = PostgresLedgers(postgres_url)
    yield found
    found.engine.dispose()


class TestPostgresLedger(LedgerContract):
    pass
