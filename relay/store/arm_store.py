"""Arms of experiments that were stopped, on either database: for all workers, and over restarts.

Blocking: called in a thread, or by a command.
"""

from __future__ import annotations

from sqlalchemy import Connection, Engine, delete, select
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from relay.store.arm_rows import ArmRow
from relay.store.engine import reading, writing
from relay.store.schema import stopped_arms

_KEY = ("experiment", "arm")


class ArmStore:
    """
    Args:
        engine: of `relay.store.engine`; its owner disposes of it.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def all(self) -> list[ArmRow]:
        """Of all experiments, also of those that the file does not have any more; raises
        StoreUnavailable."""
        with reading(self._engine) as connection:
            return [ArmRow(*row) for row in connection.execute(select(stopped_arms))]

    def write(self, row: ArmRow) -> None:
        """In place of what was there of that arm; raises StoreUnavailable."""
        with writing(self._engine) as connection:
            write_in(connection, row)


def write_in(connection: Connection, row: ArmRow) -> None:
    """The same, in a transaction of the caller's."""
    insert = postgres_insert if connection.dialect.name == "postgresql" else sqlite_insert
    values = row._asdict()
    connection.execute(
        insert(stopped_arms)
        .values(**values)
        .on_conflict_do_update(
            index_elements=list(_KEY),
            set_={name: value for name, value in values.items() if name not in _KEY},
        )
    )


def delete_in(connection: Connection, experiment: str, arm: str) -> bool:
    """Let it run again; False where it is not among them."""
    found = connection.execute(
        delete(stopped_arms).where(
            stopped_arms.c.experiment == experiment, stopped_arms.c.arm == arm
        )
    )
    return bool(found.rowcount)
