"""Names of organisations, teams and keys in a selection, as people type them, made to ids.

Blocking: called in a thread.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection, select

from relay.store import schema
from relay.store.usage_fields import Selection

_TABLES: Final = {
    "organisation": schema.organisations,
    "team": schema.teams,
    "key": schema.keys,
}


def by_id(connection: Connection, selection: Selection) -> Selection:
    """The same by ids: a name stands for all that have it, what is no name stays as it is."""
    where = dict(selection.where)
    for name, table in _TABLES.items():
        if name in where:
            ids: list[str] = []
            for value in where[name]:
                query = select(table.c.id).where(table.c.name == value)
                ids += sorted(connection.scalars(query)) or [value]
            where[name] = tuple(dict.fromkeys(ids))
    return Selection(selection.since_us, selection.until_us, where)
