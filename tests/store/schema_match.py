"""Whether a migrated database is what `relay.store.schema` says, for SQLite and PostgreSQL."""

from __future__ import annotations

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import CheckConstraint, Engine, inspect

from relay.store import schema


def assert_is_schema(engine: Engine) -> None:
    """That a migrated database has what `schema.py` says, and nothing else."""
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection,
            opts={
                "compare_type": True,
                "compare_server_default": True,
                "include_name": lambda name, kind, _: (kind, name) != ("table", "learned"),
            },
        )
        assert compare_metadata(context, schema.metadata) == []
        found = inspect(connection)
        for table in schema.metadata.sorted_tables:
            checks = {one["name"] for one in found.get_check_constraints(table.name)}
            wanted = {
                str(one.name) for one in table.constraints if isinstance(one, CheckConstraint)
            }
            assert checks == wanted, table.name
