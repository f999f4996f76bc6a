"""What was learnt of targets, kept over restarts in one SQLite table.

Losing it costs a few hundred requests of learning and nothing else, so it is written as a whole
every minute and at the end, by a thread, without being waited for by any request. Every worker
writes rows of its own; one that starts takes up its own, or those of another where it has none.

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


class StoreError(Exception):
    """The file cannot be read or written; the message says why."""


class Learned(NamedTuple):
    """What an earlier run knew of one target."""

    saved_at_s: float
    """Seconds since 1970."""
    state: Mapping[str, Any]


def sqlite_path(url: str) -> Path | None:
    """The file of `sqlite:///relative` or `sqlite:////absolute`; None for other stores."""
    prefix = "sqlite:///"
    return Path(url[len(prefix) :]) if url.startswith(prefix) and len(url) > len(prefix) else None


def load(path: Path, worker: int) -> dict[str, Learned]:
    """What is kept, by target; nothing where there is no file yet. Rows that cannot be read are
    left out: they are of another version.

    Raises:
        StoreError
    """
    if not path.exists():
        return {}
    try:
        with closing(sqlite3.connect(path, timeout=_BUSY_S)) as database:
            database.execute(_TABLE)
            rows = database.execute(
                "SELECT target, saved_at, state FROM learned ORDER BY worker = ?, saved_at",
                (worker,),
            ).fetchall()
    except sqlite3.Error as error:
        raise StoreError(f"{path.name}: {error}") from error
    found: dict[str, Learned] = {}
    for target, saved_at_s, text in rows:  # ours come last and win
        try:
            state = json.loads(text)
        except ValueError:
            continue
        if isinstance(state, dict) and _is_moment(saved_at_s):
            found[target] = Learned(saved_at_s, state)
    return found


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
    try:
        with closing(sqlite3.connect(path, timeout=_BUSY_S)) as database, database:
            database.execute("PRAGMA journal_mode = WAL")
            database.execute(_TABLE)
            database.executemany("INSERT OR REPLACE INTO learned VALUES (?, ?, ?, ?)", rows)
    except sqlite3.Error as error:
        raise StoreError(f"{path.name}: {error}") from error
