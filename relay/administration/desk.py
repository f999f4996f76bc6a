"""Where an act becomes a transaction: the rows, the number of the change, and the audit entry."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Engine, Table, case, insert, select, update
from sqlalchemy.exc import IntegrityError, OperationalError, ProgrammingError

from relay.administration.faults import Conflict, Denied, Invalid, NotFound
from relay.administration.reach import within
from relay.administration.roles import Actor
from relay.governance.audit_chain import Hide, entry
from relay.governance.pepper import Pepper
from relay.store import schema
from relay.store.audit_store import AuditStore
from relay.store.base import StoreUnavailable
from relay.store.engine import reading, writing

MAX_NAME: Final = 128


class Change(NamedTuple):
    """One act under way."""

    connection: Connection
    number: int
    """Of the change, for the rows it touches."""
    detail: dict[str, Any]
    """For the audit log; filled on the way."""


class Desk:
    """Of one process.

    Args:
        engine: of the store; stays its owner's.
        audit: None where nothing is audited.
        pepper: what secrets are made unreadable with.
        now_us: microseconds since 1970.
        hide: takes secrets out of texts.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        audit: AuditStore | None,
        pepper: Pepper,
        now_us: Callable[[], int],
        hide: Hide = str,
    ) -> None:
        self.engine = engine
        self.pepper = pepper
        self.now_us = now_us
        self._audit = audit
        self._hide = hide

    @contextmanager
    def change(
        self, actor: Actor, action: str, subject: str, organisation_id: str = ""
    ) -> Iterator[Change]:
        """A transaction that writes. With its end the act is done and in the audit log; if the log
        cannot be written, nothing is done.

        Raises:
            Conflict: a name is taken.
            Denied: the actor was revoked meanwhile.
            StoreUnavailable
        """
        try:
            with writing(self.engine) as connection:
                change = Change(connection, _next(connection), {})
                self._still(connection, actor)
                yield change
                if self._audit is not None:
                    told = entry(
                        action,
                        at_us=self.now_us(),
                        actor=actor.name,
                        subject=subject,
                        organisation_id=organisation_id,
                        detail=change.detail,
                        hide=self._hide,
                    )
                    self._audit.append(connection, [told])
        except IntegrityError:
            raise Conflict("another one has this name, or it was changed meanwhile") from None

    def _still(self, connection: Connection, actor: Actor) -> None:
        """See, under the lock of all changes, that whoever acts may still do so."""
        if not actor.credential_id:
            return
        table = schema.administrators
        is_his = table.c.id == actor.credential_id
        row = connection.execute(
            select(table.c.revoked_at_us, table.c.expires_at_us).where(is_his)
        ).first()
        ends_us = None if row is None else row.expires_at_us
        is_over = ends_us is not None and ends_us <= self.now_us()
        if row is None or row.revoked_at_us is not None or is_over:
            raise Denied("your token was revoked meanwhile")

    @contextmanager
    def look(self) -> Iterator[Connection]:
        """A transaction that reads; raises StoreUnavailable, also while there are no tables."""
        try:
            with reading(self.engine) as connection:
                yield connection
        except (OperationalError, ProgrammingError) as error:
            raise StoreUnavailable(f"it cannot be read: {type(error.orig).__name__}") from None


def _next(connection: Connection) -> int:
    """The number of this change; the row stays locked to the end of the transaction."""
    counted = schema.revision.c.changed
    done = connection.execute(
        update(schema.revision).values(changed=counted + 1).returning(counted)
    ).scalar_one_or_none()
    if done is None:
        connection.execute(insert(schema.revision).values(id=1, changed=1))
        return 1
    return int(done)


def new_id(prefix: str) -> str:
    """`key_` and 16 hexadecimal digits."""
    return f"{prefix}_{secrets.token_hex(8)}"


def checked_name(name: object, field: str = "name") -> str:
    """
    Raises:
        Invalid: no text of 1 to 128 printable characters.
    """
    # Nothing that does something to a terminal, or to the order in which a line is read (C1, bidi).
    is_plain = isinstance(name, str) and name.isprintable() and name == name.strip()
    if not isinstance(name, str) or not is_plain or not 0 < len(name) <= MAX_NAME:
        raise Invalid(f"{field} must be 1 to {MAX_NAME} printable characters", field)
    return name


def one(
    connection: Connection, table: Table, what: str, actor: Actor | None = None, **wanted: Any
) -> dict[str, Any]:
    """The row with these values.

    Args:
        actor: sees what is his alone; None for everything.

    Raises:
        NotFound
    """
    query = select(table).where(*([] if actor is None else within(actor, table)))
    for name, value in wanted.items():
        query = query.where(table.c[name] == value)
    row = connection.execute(query).mappings().first()
    if row is None:
        raise NotFound(f"there is no such {what}", what)
    return dict(row)


def found(
    connection: Connection, table: Table, what: str, name_or_id: str, actor: Actor
) -> dict[str, Any]:
    """Of what the actor sees by its id, or by its name where only one that lives has it.

    Raises:
        NotFound
        Conflict: several have the name: the id says which.
    """
    query = select(table).where((table.c.id == name_or_id) | (table.c.name == name_or_id))
    query = query.where(*within(actor, table)).order_by(_is_not(table, name_or_id))
    rows = [dict(row) for row in connection.execute(query.limit(20)).mappings()]
    exact = [row for row in rows if row["id"] == name_or_id]
    ended = "revoked_at_us" if "revoked_at_us" in table.c else "archived_at_us"
    live = [row for row in rows if row[ended] is None]
    for several in (exact, live, rows):
        if len(several) == 1:
            return several[0]
        if several:
            raise Conflict(f"several have the name {name_or_id!r}: name the id", what)
    raise NotFound(f"there is no {what} {name_or_id!r}", what)


def _is_not(table: Table, id_: str) -> Any:
    """An order in which the row of an id comes first."""
    return case((table.c.id == id_, 0), else_=1)


def require_free(change: Change, table: Table, name: str, *, but: str = "", **among: Any) -> None:
    """See that no other that lives has a name. Changes wait for one another, so this holds.

    Args:
        but: id of the one that is to have it.
        among: columns that the others share with it.

    Raises:
        Conflict
    """
    query = select(table.c.id).where(
        table.c.name == name, table.c.revoked_at_us.is_(None), table.c.id != but
    )
    for column, value in among.items():
        query = query.where(table.c[column] == value)
    if change.connection.execute(query.limit(1)).first() is not None:
        raise Conflict(f"another one has the name {name!r}", "name")


def set_row(change: Change, table: Table, id_: str, **values: Any) -> None:
    """Change a row by its id."""
    done = change.connection.execute(
        update(table).where(table.c.id == id_).values(**values, changed=change.number)
    )
    if done.rowcount != 1:
        raise NotFound("it is gone")


def add_row(change: Change, table: Table, **values: Any) -> None:
    """Write a new row."""
    change.connection.execute(insert(table).values(**values, changed=change.number))
