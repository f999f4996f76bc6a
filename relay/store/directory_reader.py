"""Reads who may call, whole or what has changed since, from SQLite or PostgreSQL.

Whoever has seen a number of `revision` has seen all that was changed before it (`schema`). So the
number is read first and the rows up to it after that, whatever the isolation of the transaction: a
change that is committed in between is the next look's. A number that is lower than the one before
is another database (one restored, or failed over to): then everything is read.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from sqlalchemy import Column, Connection, Engine, Table, select
from sqlalchemy.exc import SQLAlchemyError

from relay.store import schema
from relay.store.base import StoreUnavailable
from relay.store.directory_rows import (
    ORDER,
    BudgetEntry,
    CertificateRow,
    Changes,
    CredentialRow,
    KeyRow,
    OrganisationRow,
    Row,
    TeamRow,
)


def _row(kind: Callable[..., Row], columns: tuple[Column[Any], ...]) -> Callable[..., Row]:
    """From what the columns hold to a row: moments that only say whether become that."""
    flags = {
        at
        for at, column in enumerate(columns)
        if column.name in ("archived_at_us", "revoked_at_us")
    }

    def make(*values: Any) -> Row:
        return kind(*(v is not None if at in flags else v for at, v in enumerate(values)))

    return make


def _columns(table: Table, *names: str) -> tuple[Column[Any], ...]:
    return tuple(table.c[name] for name in (*names, "changed"))


_READ: Final[dict[Any, tuple[Column[Any], ...]]] = {
    OrganisationRow: _columns(schema.organisations, "id", "limits", "archived_at_us"),
    TeamRow: _columns(schema.teams, "id", "organisation_id", "limits", "archived_at_us"),
    KeyRow: _columns(
        schema.keys, "id", "team_id", "scopes", "tags", "limits", "expires_at_us", "revoked_at_us"
    ),
    CredentialRow: _columns(
        schema.credentials, "id", "key_id", "mac", "pepper_id", "expires_at_us", "revoked_at_us"
    ),
    CertificateRow: _columns(schema.certificates, "subject", "key_id", "revoked_at_us"),
    BudgetEntry: _columns(
        schema.budgets,
        "id",
        "scope",
        "scope_id",
        "organisation_id",
        "period",
        "time_zone",
        "limit_micro",
        "is_hard",
        "alert_percents",
        "archived_at_us",
    ),
}


MAX_READS: Final = 3
"""Of everything, while others make changes: with the last of them the look after it, which reads
them again, makes good what did not belong together."""


class DirectoryReader:
    """Blocking: called in a thread, by one at a time.

    Args:
        engine: whose owner disposes of it. Its connections have to give up in bounded time.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def changes(self, since: int | None) -> Changes:
        """
        Args:
            since: `revision` of the look before; None for everything.

        Raises:
            StoreUnavailable: it cannot be read; what is known stays as it is.
        """
        try:
            with self._engine.connect() as connection:
                return self._read(connection, since)
        except SQLAlchemyError as error:
            # Its text holds the statement and perhaps the address: the kind of fault is enough.
            cause = getattr(error, "orig", None) or error
            raise StoreUnavailable(f"the keys cannot be read ({type(cause).__name__})") from None

    def _read(self, connection: Connection, since: int | None) -> Changes:
        revision = _revision(connection)
        if since == revision:
            return Changes(revision)
        if since is not None and since < revision:
            return Changes(revision, _rows(connection, since, revision))
        # Up to no number: what is changed while it is read would be taken for deleted.
        rows, before = _rows(connection), revision
        for _ in range(MAX_READS - 1):
            revision = _revision(connection)
            if revision == before:
                break
            rows, before = _rows(connection), revision
        return Changes(before, rows, is_whole=True)


def _revision(connection: Connection) -> int:
    return connection.execute(select(schema.revision.c.changed)).scalar() or 0


def _rows(
    connection: Connection, since: int | None = None, until: int | None = None
) -> tuple[Row, ...]:
    """Those with a number over `since`, up to and with `until`."""
    rows: list[Row] = []
    for kind in ORDER:
        columns = _READ[kind]
        changed, wanted = columns[-1], select(*columns)
        if since is not None:
            wanted = wanted.where(changed > since, changed <= until)
        make = _row(kind, columns)
        rows += [make(*values) for values in connection.execute(wanted)]
    return tuple(rows)
