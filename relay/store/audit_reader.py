"""A database opened to be read alone: also a copy, also where nothing may be written.

Blocking: called in a thread.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, Engine, NullPool, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from relay.store.engine import engine_for

_BUSY_S: Final = 5.0


def reader_for(url: str) -> Engine:
    """An engine that changes nothing, neither rows nor the file's mode.

    Texts of SQLite that are no UTF-8 are read too, with surrogates.

    Raises:
        ValueError: it is no sqlite:///FILE or postgresql://...; the message does not quote it.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise ValueError("a sqlite:///FILE or postgresql://... address is expected") from None
    if parsed.get_backend_name() != "sqlite":
        engine = engine_for(url, pool_size=1)
        event.listen(engine, "begin", _read_only)
        return engine
    if not parsed.database:
        raise ValueError("a sqlite:///FILE or postgresql://... address is expected")
    path = Path(parsed.database)
    engine = create_engine(
        "sqlite+pysqlite://",
        creator=lambda: _connect(path),
        poolclass=NullPool,
        hide_parameters=True,
    )
    event.listen(engine, "begin", _begin)
    return engine


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(
        sqlite_uri(path), uri=True, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
    )
    connection.text_factory = _text
    return connection


def sqlite_uri(path: Path) -> str:
    """How the file is opened. A file in WAL mode needs others beside it, which cannot be made in a
    folder that is not ours to write: there nobody changes it either."""
    wal = path.with_name(f"{path.name}-wal")
    is_still = not os.access(path.absolute().parent, os.W_OK) and not wal.exists()
    return f"{path.absolute().as_uri()}?mode=ro{'&immutable=1' if is_still else ''}"


def _text(data: bytes) -> str:
    return data.decode(errors="surrogateescape")


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN")


def _read_only(connection: Connection) -> None:
    connection.exec_driver_sql("SET TRANSACTION READ ONLY")
