"""Reads who may call, whole or what has changed since, from SQLite or PostgreSQL.

One look is one transaction that sees one moment. Where the number of the last change is that of the
look before, that is all there is to read. One that is lower is another database (restored, failed
over to): then everything is read.
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
from relay.store.engine import reading


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


class DirectoryReader:
    """Blocking: called in a thread, by one at a time.

    Args:
        engine: whose owner disposes of it.
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
            with reading(self._engine) as connection:
                return _read(connection, since)
        except SQLAlchemyError as error:
            # No outage: tables that are not there, say. Its text holds the statement.
            raise StoreUnavailable(f"the keys cannot be read: {type(error).__name__}") from None


def _read(connection: Connection, since: int | None) -> Changes:
    revision: int = connection.execute(select(schema.revision.c.changed)).scalar() or 0
    if since == revision:
        return Changes(revision)
    is_whole = since is None or since > revision
    rows: list[Row] = []
    for kind in ORDER:
        columns = _READ[kind]
        wanted = select(*columns)
        if not is_whole:
            wanted = wanted.where(columns[-1] > since)
        make = _row(kind, columns)
        rows += [make(*values) for values in connection.execute(wanted)]
    return Changes(revision, tuple(rows), is_whole)
