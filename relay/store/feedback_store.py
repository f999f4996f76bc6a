"""What clients have said of answers, on either database: the last word on each.

Blocking: called in a thread.
"""

from __future__ import annotations

from sqlalchemy import Engine, select
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from relay.store.engine import reading, writing
from relay.store.feedback_rows import FeedbackRow, Rated
from relay.store.schema import feedback, generations


class FeedbackStore:
    """
    Args:
        engine: of `relay.store.engine`; its owner disposes of it.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def rated(self, generation_id: str) -> Rated | None:
        """None where the accounts have no such generation; raises StoreUnavailable."""
        of = generations.c
        with reading(self._engine) as connection:
            row = connection.execute(
                select(of.team_id, of.decision).where(of.id == generation_id)
            ).one_or_none()
        return None if row is None else Rated(row.team_id, row.decision or "")

    def write(self, row: FeedbackRow) -> None:
        """In place of what was said of that generation before; raises StoreUnavailable."""
        insert = postgres_insert if self._engine.dialect.name == "postgresql" else sqlite_insert
        values = row._asdict()
        with writing(self._engine) as connection:
            connection.execute(
                insert(feedback)
                .values(**values)
                .on_conflict_do_update(
                    index_elements=["generation_id"],
                    set_={name: value for name, value in values.items() if name != "generation_id"},
                )
            )
