"""An administrator's part of the whole as SQL: rows outside of it are never read for him, so that
neither an answer nor an error says that they are there. And pages of a list."""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple, TypeVar

from sqlalchemy import ColumnElement, Select, Table, and_, or_, select

from relay.administration.faults import Invalid
from relay.administration.roles import Actor
from relay.store import schema

_Query = TypeVar("_Query", bound=Select[Any])
_CURSOR: Final = re.compile(r"(\d{1,19})\.([0-9A-Za-z_]{1,32})")


class Page(NamedTuple):
    """A part of a list, in the order in which rows were made."""

    after: str = ""
    """`cursor` of the last row before; "" for the beginning."""
    limit: int | None = None

    def of(self, query: _Query, table: Table) -> _Query:
        """
        Raises:
            Invalid: `after` is no cursor.
        """
        made, id_ = table.c.created_at_us, table.c.id
        if self.after:
            found = _CURSOR.fullmatch(self.after)
            if found is None:
                raise Invalid("cursor is none that a list has given", "cursor")
            last_us, last_id = int(found[1]), found[2]
            query = query.where(or_(made > last_us, and_(made == last_us, id_ > last_id)))
        return query.order_by(made, id_).limit(self.limit)


ALL: Final = Page()


def cursor(row: dict[str, Any]) -> str:
    """Of a row, for the page after it."""
    return f"{row['created_at_us']}.{row['id']}"


def within(actor: Actor, table: Table) -> list[ColumnElement[bool]]:
    """Conditions on rows of organisations, teams, keys, administrators or budgets; none for an
    administrator of the whole."""
    organisation_id, team_id = actor.organisation_id, actor.team_id
    if not organisation_id:
        return []
    columns = table.c
    if table is schema.organisations:
        return [columns.id == organisation_id]
    if table is schema.keys:
        teams = schema.teams.c
        mine = select(teams.id).where(teams.organisation_id == organisation_id)
        of_team = [columns.team_id == team_id] if team_id else []
        return [columns.team_id.in_(mine), *of_team]
    found = [columns.organisation_id == organisation_id]
    if team_id and table is schema.budgets:
        keys = select(schema.keys.c.id).where(schema.keys.c.team_id == team_id)
        found.append(
            or_(
                and_(columns.scope == "team", columns.scope_id == team_id),
                and_(columns.scope == "key", columns.scope_id.in_(keys)),
            )
        )
    elif team_id:
        found.append((columns.id if table is schema.teams else columns.team_id) == team_id)
    return found
