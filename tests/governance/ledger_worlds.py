"""Databases that a LedgerStore can be on, and what is in them, for tests over all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from sqlalchemy import Engine, select

from relay.store import schema
from relay.store.base import LedgerStore
from relay.store.engine import reading, writing
from tests.fakes.memory_ledger import MemoryDatabase, MemoryLedger
from tests.governance.budget_model import PeriodKey, Sums


class Rows(NamedTuple):
    """What a database says."""

    periods: dict[PeriodKey, Sums]
    """Those that are not all 0."""
    generations: dict[str, tuple[str, int, int | None]]
    """State, reserved, settled by id."""


class LedgerWorld(Protocol):
    """One database."""

    def ledger(self) -> LedgerStore:
        """A new worker's, not yet started."""
        ...

    def rows(self) -> Rows:
        """What is committed."""
        ...

    def clear(self) -> None:
        """Back to an empty one."""
        ...


class MemoryWorld:
    """No database at all."""

    def __init__(self) -> None:
        self.database = MemoryDatabase()

    def ledger(self) -> LedgerStore:
        return MemoryLedger(self.database)

    def rows(self) -> Rows:
        return Rows(
            {
                key: sums
                for key, row in self.database.periods.items()
                if any(sums := Sums(row.settled_micro, row.reserved_micro, row.overrun_micro))
            },
            {
                generation_id: (row.state, row.reserved_micro, row.settled_micro)
                for generation_id, row in self.database.generations.items()
            },
        )

    def clear(self) -> None:
        self.database = MemoryDatabase()


class SqlWorld:
    """A database with our tables.

    Args:
        make: a new ledger on it.
    """

    def __init__(self, engine: Engine, make: Callable[[], LedgerStore]) -> None:
        self.engine = engine
        self._make = make

    def ledger(self) -> LedgerStore:
        return self._make()

    def rows(self) -> Rows:
        periods, generations = schema.budget_periods.c, schema.generations.c
        with reading(self.engine) as connection:
            found = connection.execute(
                select(
                    periods.budget_id,
                    periods.period_start_s,
                    periods.settled_micro,
                    periods.reserved_micro,
                    periods.overrun_micro,
                )
            )
            sums = {(row[0], row[1]): Sums(*row[2:]) for row in found if any(row[2:])}
            found = connection.execute(
                select(
                    generations.id,
                    generations.state,
                    generations.reserved_micro,
                    generations.settled_micro,
                )
            )
            return Rows(sums, {row[0]: (row[1], row[2], row[3]) for row in found})

    def clear(self) -> None:
        with writing(self.engine) as connection:
            for table in (schema.attempts, schema.generations, schema.budget_periods):
                connection.execute(table.delete())
            connection.execute(schema.instances.delete())
