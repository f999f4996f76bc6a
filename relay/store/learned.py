"""What was learnt of targets, kept over restarts in one SQLite table.

Losing it costs a few hundred requests of learning and nothing else, so it is written as a whole
every minute and at the end, by a thread, without being waited for by any request. Every worker
writes rows of what it has seen itself; one that starts takes up the rows of all, also of workers
that are no more, and does not write them again. While they run, they do not read each other's.

Blocking: called in a thread.
"""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Final, NamedTuple

from relay.store.sqlite_file import BrokenOff, make_private, require_in_place

_TABLE: Final = """
CREATE TABLE IF NOT EXISTS learned (
    target TEXT NOT NULL,
    worker INTEGER NOT NULL,
    saved_at REAL NOT NULL,
    state TEXT NOT NULL,
    PRIMARY KEY (target, worker)
)
"""
_BUSY_S: Final = 2.0
MEASURED: Final = -1
"""The worker that `relay measure` writes as: there is none of that number, so all take it up."""
MAX_ROWS: Final = 8
"""Of one target that are taken up: more of them would say the same again."""


class StoreError(Exception):
    """The file cannot be read or written; the message says why."""


class Learned(NamedTuple):
    """What one worker of an earlier run knew of one target."""

    saved_at_s: float
    """Seconds since 1970."""
    state: Mapping[str, Any]
    is_own: bool
    """Of the worker that reads it."""


def sqlite_path(url: str) -> Path | None:
    """The file of `sqlite:///relative` or `sqlite:////absolute`; None for other stores."""
    prefix = "sqlite:///"
    return Path(url[len(prefix) :]) if url.startswith(prefix) and len(url) > len(prefix) else None


def load(path: Path, worker: int) -> dict[str, list[Learned]]:
    """What is kept, by target: this worker's own row first, then those of others, the newest first;
    nothing where there is no file yet. Rows that cannot be read are left out: they are of another
    version.

    Raises:
        StoreError
    """
    if not path.exists():
        return {}
    _require_in_place(path)
    try:
        with closing(sqlite3.connect(path, timeout=_BUSY_S)) as database:
            database.execute(_TABLE)
            rows = database.execute(
                "SELECT target, worker = ?, saved_at, state FROM learned"
                " ORDER BY worker = ? DESC, saved_at DESC",
                (worker, worker),
            ).fetchall()
    except sqlite3.Error as error:
        raise StoreError(f"{path.name}: {error}") from error
    found: dict[str, list[Learned]] = {}
    for target, is_own, saved_at_s, text in rows:
        if not isinstance(target, str) or len(found.get(target, ())) >= MAX_ROWS:
            continue
        try:
            state = json.loads(text)
        except (ValueError, TypeError, RecursionError):
            continue
        if isinstance(state, dict) and _is_moment(saved_at_s):
            found.setdefault(target, []).append(Learned(saved_at_s, state, bool(is_own)))
    return found


def _require_in_place(path: Path) -> None:
    """
    Raises:
        StoreError: a restore of the file was broken off.
    """
    try:
        require_in_place(path)
    except BrokenOff as error:
        raise StoreError(str(error)) from None


def _is_moment(value: object) -> bool:
    """SQLite keeps anything in any column."""
    return isinstance(value, float) and math.isfinite(value)


def save(path: Path, worker: int, states: Mapping[str, Mapping[str, Any]], now_s: float) -> None:
    """Write all of it in one transaction.

    Args:
        now_s: seconds since 1970.

    Raises:
        StoreError: nothing was changed.
    """
    rows = [(target, worker, now_s, json.dumps(state)) for target, state in states.items()]
    _require_in_place(path)
    make_private(path)
    try:
        with closing(sqlite3.connect(path, timeout=_BUSY_S)) as database, database:
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA wal_autocheckpoint = 0")  # see `sqlite_file`
            database.execute(_TABLE)
            database.executemany("INSERT OR REPLACE INTO learned VALUES (?, ?, ?, ?)", rows)
    except sqlite3.Error as error:
        raise StoreError(f"{path.name}: {error}") from error
