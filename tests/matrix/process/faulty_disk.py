"""A disk that fails as it is told, under all that the relay of this process writes to SQLite.

    disk = FaultyDisk(stage.patch)      # before the relay connects
    disk.fail("eio")
    ...
    disk.mend()

What the test itself reads and writes, in its own thread, is left alone: the relay's loop writes
nothing, its threads do.
"""

from __future__ import annotations

import sqlite3
import threading
from typing import Any, Literal

import pytest

Fault = Literal["eio", "read_only"]
FAULTS: tuple[Fault, ...] = ("eio", "read_only")
_WRITES = ("INSERT", "UPDATE", "DELETE", "WITH")
_BEGINS = ("BEGIN", *_WRITES)


class FaultyDisk:
    """See the module.

    Args:
        patch: of `sqlite3.connect`; what is open already does not fail.
        only: text of the statements that fail; all that write if empty.
    """

    def __init__(self, patch: pytest.MonkeyPatch, only: str = "") -> None:
        self.fault: Fault | None = None
        self.failed = 0
        """Statements so far."""
        self._only = only
        connect = sqlite3.connect

        def connect_here(*where: Any, **how: Any) -> sqlite3.Connection:
            connection: _Connection = connect(*where, **{**how, "factory": _Connection})
            connection.disk = self
            return connection

        patch.setattr(sqlite3, "connect", connect_here)
        patch.setattr(sqlite3.dbapi2, "connect", connect_here)

    def fail(self, fault: Fault) -> None:
        self.fault = fault

    def mend(self) -> None:
        self.fault = None

    def meet(self, connection: sqlite3.Connection, statement: str) -> None:
        """
        Raises:
            sqlite3.OperationalError: as SQLite does, for a read that fails or one that it makes.
        """
        if threading.current_thread() is threading.main_thread():
            return
        words = statement.lstrip().upper()
        if not words.startswith(_BEGINS):
            return
        fails = words.startswith(_WRITES) and self._only in statement
        fault = self.fault if fails else None
        self.failed += fault is not None
        sqlite3.Connection.execute(connection, f"PRAGMA query_only = {int(fault == 'read_only')}")
        if fault == "eio":
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR
            raise error


class _Cursor(sqlite3.Cursor):
    def execute(self, statement: str, *more: Any) -> Any:
        self.connection.disk.meet(self.connection, statement)  # type: ignore[attr-defined]
        return super().execute(statement, *more)

    def executemany(self, statement: str, *more: Any) -> Any:
        self.connection.disk.meet(self.connection, statement)  # type: ignore[attr-defined]
        return super().executemany(statement, *more)


class _Connection(sqlite3.Connection):
    disk: FaultyDisk

    def cursor(self, factory: Any = None) -> Any:
        return super().cursor(_Cursor)

    def execute(self, statement: str, *more: Any) -> Any:
        if hasattr(self, "disk"):
            self.disk.meet(self, statement)
        return super().execute(statement, *more)

    def executemany(self, statement: str, *more: Any) -> Any:
        self.disk.meet(self, statement)
        return super().executemany(statement, *more)
