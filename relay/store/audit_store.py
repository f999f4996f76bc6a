"""The audit log in the database: one chain for all workers and machines.

Whoever adds entries holds the lock on the head's row until his transaction ends, so numbers have no
gap and no repeat, whoever writes: SQLite gives the write lock, PostgreSQL the row's. Add them last:
others wait meanwhile. A transaction that is rolled back leaves no trace, not even a number.

Blocking: called in a thread.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Table,
    insert,
    select,
    text,
    type_coerce,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError
from sqlalchemy.types import NullType

from relay.governance.audit_chain import EMPTY, AuditKey, Entry, Head, Row, seal
from relay.store.base import StoreUnavailable
from relay.store.engine import reading, writing
from relay.store.schema import audit, audit_head

LOCK_WAIT_S: Final = 5
"""How long `write` waits for another's transaction."""
STATEMENT_S: Final = 10
_ROWS_A_FETCH: Final = 2000


class ChainBroken(StoreUnavailable):
    """The head is not the end of the chain; `relay audit verify` tells more. Nothing is added to
    such a chain."""


class NotWritten(StoreUnavailable):
    """Entries were not written, or it is not known."""

    def __init__(self, why: str, head: Head | None) -> None:
        super().__init__(why)
        self.head = head
        """The end that the chain has if they were written after all; None: they were not."""


class AuditStore:
    """Adds entries, and tells the head. Any thread may use it.

    Args:
        engine: of the database; the caller disposes of it.
        key: what entries are signed with.
    """

    def __init__(self, engine: Engine, key: AuditKey) -> None:
        self._engine = engine
        self._key = key

    def append(self, connection: Connection, entries: Sequence[Entry]) -> Head:
        """Add entries within the caller's transaction, as the last thing that it does.

        Returns:
            The chain's end once the transaction is committed.

        Raises:
            ChainBroken: the caller must not commit.
            DBAPIError: as of any statement.
        """
        end = _lock(connection)
        rows = seal(end, entries, self._key)
        if not rows:
            return end
        head = Head(rows[-1].seq, rows[-1].mac)
        try:
            connection.execute(insert(audit), [_values(row) for row in rows])
        except IntegrityError:
            raise ChainBroken(
                f"the audit log has entries beyond its head, which counts {end.seq}"
            ) from None
        connection.execute(update(audit_head).where(_HEAD).values(seq=head.seq, mac=head.mac))
        return head

    def write(self, entries: Sequence[Entry], *, unless: Head | None = None) -> Head:
        """Add entries in a transaction of their own.

        Args:
            unless: `NotWritten.head` of the last try with these entries: if they are there since
                then, nothing is added.

        Raises:
            ChainBroken, NotWritten
            DataError: a value that the database does not take; `entry` makes none.
        """
        head: Head | None = None
        try:
            with writing(self._engine) as connection:
                _bound(connection)
                if unless is not None:
                    _lock(connection)  # whoever wrote it has ended by then
                    if _mac(connection, unless.seq) == unless.mac:
                        return unless
                head = self.append(connection, entries)
        except ChainBroken:
            raise
        except StoreUnavailable as error:
            raise NotWritten(str(error), head) from error
        except DataError:
            raise
        except DBAPIError as error:  # no such table, no such right: somebody can mend it
            raise NotWritten(str(error.orig).partition("\n")[0], head) from None
        return head

    def head(self) -> Head:
        """The end of the chain; raises StoreUnavailable."""
        with _readable(), reading(self._engine) as connection:
            return read_head(connection) or EMPTY

    def mac_of(self, seq: int) -> bytes | None:
        """The MAC of an entry, None if there is none; raises StoreUnavailable."""
        with _readable(), reading(self._engine) as connection:
            return _mac(connection, seq)


@contextmanager
def _readable() -> Iterator[None]:
    """As `write` tells it of what somebody can mend."""
    try:
        yield
    except DBAPIError as error:
        raise StoreUnavailable(str(error.orig).partition("\n")[0]) from None


_HEAD: Final = audit_head.c.id == 1


def _lock(connection: Connection) -> Head:
    """Lock the head, and make it where there is none.

    Raises:
        ChainBroken: there is none, though there are entries.
    """
    # A write on both databases: SQLite has no lock of rows, and PostgreSQL's SELECT ... FOR UPDATE
    # would be no more than this.
    lock = update(audit_head).where(_HEAD).values(seq=audit_head.c.seq)
    lock_head = lock.returning(audit_head.c.seq, audit_head.c.mac)
    found = connection.execute(lock_head).one_or_none()
    if found is None:
        dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
        first = dialect.insert(audit_head).values(id=1, seq=EMPTY.seq, mac=EMPTY.mac)
        connection.execute(first.on_conflict_do_nothing())
        found = connection.execute(lock_head).one()
        # Looked at under the lock: another may have made the head, and entries, since we looked.
        if found.seq == 0 and connection.execute(select(audit.c.seq).limit(1)).first() is not None:
            raise ChainBroken("the audit log has entries and no head")
    return Head(found.seq, found.mac)


def _bound(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_WAIT_S}s'"))
        connection.execute(text(f"SET LOCAL statement_timeout = '{STATEMENT_S}s'"))


def _values(row: Row) -> dict[str, object]:
    return {"seq": row.seq, **row.entry._asdict(), "previous": row.previous, "mac": row.mac}


def _mac(connection: Connection, seq: int) -> bytes | None:
    found: bytes | None = connection.scalar(select(audit.c.mac).where(audit.c.seq == seq))
    return found


# --- reading --------------------------------------------------------------------------------


class Selection(NamedTuple):
    """Which entries; all of them by default."""

    since_us: int | None = None
    until_us: int | None = None
    """Not included."""
    actor: str = ""
    action: str = ""
    """`key.*` is everything that begins with `key.`."""
    organisation_id: str = ""
    outcome: str = ""

    @property
    def is_all(self) -> bool:
        return self == Selection()

    def conditions(self) -> list[ColumnElement[bool]]:
        """As SQL, its values bound."""
        found: list[ColumnElement[bool]] = []
        if self.since_us is not None:
            found.append(audit.c.at_us >= self.since_us)
        if self.until_us is not None:
            found.append(audit.c.at_us < self.until_us)
        if self.action.endswith("*"):
            found.append(audit.c.action.startswith(self.action[:-1], autoescape=True))
        elif self.action:
            found.append(audit.c.action == self.action)
        equal = {name: getattr(self, name) for name in ("actor", "organisation_id", "outcome")}
        return found + [audit.c[name] == value for name, value in equal.items() if value]


def read_head(connection: Connection) -> Head | None:
    """The head as it stands there; None if there is none."""
    found = connection.execute(select(audit_head.c.seq, _raw("mac", audit_head)).where(_HEAD))
    row = found.one_or_none()
    return None if row is None else Head(*row)


def read_rows(
    connection: Connection,
    selection: Selection = Selection(),  # noqa: B008 - immutable
    *,
    newest_first: bool = False,
    limit: int | None = None,
    before: int | None = None,
) -> Iterator[Row]:
    """Entries by their number, a few thousand in memory at a time. On SQLite columns hold what
    somebody has put in them, whatever their type.

    Args:
        before: only those with a smaller number.
    """
    columns = [_raw(column.name) for column in audit.c]
    order = audit.c.seq.desc() if newest_first else audit.c.seq
    query = select(*columns).where(*selection.conditions()).order_by(order).limit(limit)
    if before is not None:
        query = query.where(audit.c.seq < before)
    options = {"yield_per": _ROWS_A_FETCH}
    for some in connection.execute(query, execution_options=options).partitions():
        for row in some:
            yield Row(row[0], Entry(*row[1:8]), row[8], row[9])


def _raw(name: str, table: Table = audit) -> ColumnElement[Any]:
    """A column without what SQLAlchemy makes of its values, which raises of odd ones."""
    return type_coerce(table.c[name], NullType()).label(name)
