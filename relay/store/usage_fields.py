"""What usage is asked by: the names of dimensions, and what they are in the database.

Of a generation: organisation, team, key, alias, surface, session, state, reason, tag, label:NAME,
hour, day, month. Of its attempts: provider, model, role, outcome, charge (how sure `cost_micro` is:
actual, estimated, free, unpriced).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    TableValuedAlias,
    and_,
    cast,
    false,
    func,
    select,
)
from sqlalchemy.dialects.postgresql import JSONB

from relay.store.schema import attempts, generations

_OF_GENERATION: Final[Mapping[str, Column[Any]]] = {
    "organisation": generations.c.organisation_id,
    "team": generations.c.team_id,
    "key": generations.c.key_id,
    "alias": generations.c.alias,
    "surface": generations.c.surface,
    "session": generations.c.session_id,
    "state": generations.c.state,
    "reason": generations.c.reason,
}
OF_ATTEMPT: Final[Mapping[str, Column[Any]]] = {
    "provider": attempts.c.provider,
    "model": attempts.c.model,
    "role": attempts.c.role,
    "outcome": attempts.c.outcome,
    "charge": attempts.c.state,
}
TIMES: Final = ("hour", "day", "month")
DIMENSIONS: Final = (*_OF_GENERATION, *OF_ATTEMPT, "tag", "label:NAME", *TIMES)
MAX_LABEL: Final = 128
MAX_VALUES: Final = 1000


class UsageError(ValueError):
    """What is asked for is not there; the message names the field."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which generations."""

    since_us: int | None = None
    """Admitted then or later."""
    until_us: int | None = None
    """Admitted before."""
    where: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Dimensions with the values that are looked for; of each any one."""

    def within(self, **parts: str) -> Selection:
        """The same within an organisation or a team, whatever else is asked for; "" is no bound.

        A bound and a wish that contradict each other leave nothing.
        """
        where = dict(self.where)
        for name, value in parts.items():
            if value:
                asked = where.get(name)
                where[name] = (value,) if asked is None or value in asked else ()
        return Selection(self.since_us, self.until_us, where)


def checked(name: str, *, is_filter: bool = False) -> str:
    """A dimension's name.

    Raises:
        UsageError
    """
    field_name = "where" if is_filter else "by"
    if name.startswith("label:"):
        if not 0 < len(name) - 6 <= MAX_LABEL or "\0" in name:
            raise UsageError(f"{field_name}: label:NAME has a name of 1 to {MAX_LABEL} characters")
        return name
    known = DIMENSIONS[: -len(TIMES)] if is_filter else DIMENSIONS
    if name not in known or name == "label:NAME":
        raise UsageError(f"{field_name}: {name[:64]!r} is none of {', '.join(known)}")
    return name


def tags_of(connection: Connection, name: str) -> TableValuedAlias:
    """The tags of a generation as a table of one column, `value`."""
    if connection.dialect.name == "postgresql":
        each = func.jsonb_array_elements_text(cast(generations.c.tags, JSONB))
        return each.table_valued("value", name=name).render_derived()
    return func.json_each(generations.c.tags).table_valued("value", name=name)


def generation_column(connection: Connection, name: str) -> ColumnElement[Any]:
    """Of a dimension that a generation has one value of, but times; "" where it has none."""
    if name.startswith("label:"):
        found: ColumnElement[Any]
        if connection.dialect.name == "postgresql":
            found = cast(generations.c.labels, JSONB)[name[6:]].astext
        else:
            each = func.json_each(generations.c.labels).table_valued("key", "value")
            query = select(each.c.value).where(each.c.key == name[6:]).correlate(generations)
            found = query.limit(1).scalar_subquery()
        return func.coalesce(found, "")
    return func.coalesce(_OF_GENERATION[name], "")


def attempt_conditions(selection: Selection) -> list[ColumnElement[bool]]:
    """What attempts must be."""
    return [
        _is_one(func.coalesce(OF_ATTEMPT[name], ""), values)
        for name, values in selection.where.items()
        if name in OF_ATTEMPT
    ]


def generation_conditions(
    connection: Connection, selection: Selection
) -> list[ColumnElement[bool]]:
    """What generations must be.

    Raises:
        UsageError: a dimension that is not there, or too many values.
    """
    at_us = generations.c.admitted_at_us
    found: list[ColumnElement[bool]] = []
    if selection.since_us is not None:
        found.append(at_us >= selection.since_us)
    if selection.until_us is not None:
        found.append(at_us < selection.until_us)
    for name, values in selection.where.items():
        checked(name, is_filter=True)
        if len(values) > MAX_VALUES:
            raise UsageError(f"{name}: at most {MAX_VALUES} values")
        if any("\0" in value for value in values):
            raise UsageError(f"{name}: a text without NUL is expected")
        if name == "tag":
            tags = tags_of(connection, "wanted")
            query = select(tags.c.value).where(_is_one(tags.c.value, values))
            found.append(query.correlate(generations).exists())
        elif name in _OF_GENERATION:
            column: ColumnElement[Any] = _OF_GENERATION[name]
            # Without a function around it, so that an index can be used.
            found.append(_is_one(func.coalesce(column, "") if "" in values else column, values))
        elif name not in OF_ATTEMPT:
            found.append(_is_one(generation_column(connection, name), values))
    return found


def _is_one(column: ColumnElement[Any], values: Iterable[str]) -> ColumnElement[bool]:
    wanted = list(values)
    if not wanted:
        return false()
    return and_(column == wanted[0]) if len(wanted) == 1 else column.in_(wanted)
