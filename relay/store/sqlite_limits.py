"""Limits that the workers of one machine share in an SQLite file.

A connection and a thread of its own; what has come together since the last batch is one
transaction. The file is one beside the accounts' (`limits_path`) and not theirs: so nobody waits
for their fsyncs, what is in it may be lost (`synchronous` is off), and one that is broken is made
anew. Its tables are `rate_levels` and `leases` of `relay.store.schema`.

The clock is read when the write lock is held, so that workers that wait for each other see it go
forward; moments in the file are of the wall clock, which all of them and the next boot share.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from sqlalchemy.dialects import sqlite
from sqlalchemy.schema import CreateTable

from relay.store.limit_backend import INSTANCES, Answer, BackendDown, Batch, Reply
from relay.store.limit_store import LEASE, Charge
from relay.store.schema import leases, rate_levels
from relay.store.sqlite_file import make_private
from relay.store.token_bucket import (
    FULL_AFTER_US,
    MAX_STEP_BACK_US,
    MILLI,
    corrected,
    refilled,
    was_stepped_back,
)

_FIRST_WAIT_S: Final = 0.0002
_LONGEST_WAIT_S: Final = 0.005
"""For the write lock. SQLite's own waits grow to 100 ms, and a transaction here takes a fraction of
one."""

_LEVEL: Final = "SELECT level_milli, at_us FROM rate_levels WHERE bucket = ?"
_PUT_LEVEL: Final = (
    "INSERT OR REPLACE INTO rate_levels (bucket, level_milli, at_us) VALUES (?, ?, ?)"
)
_LEASES: Final = "SELECT instance_id, held, until_us FROM leases WHERE bucket = ?"
_PUT_LEASE: Final = (
    "INSERT OR REPLACE INTO leases (bucket, instance_id, held, until_us) VALUES (?, ?, ?, ?)"
)
_DROP_LEASE: Final = "DELETE FROM leases WHERE bucket = ? AND instance_id = ?"
_CUT_LEASES: Final = "UPDATE leases SET until_us = ? WHERE until_us > ?"
_OLD_LEASES: Final = "DELETE FROM leases WHERE until_us <= ?"
_OLD_LEVELS: Final = "DELETE FROM rate_levels WHERE at_us <= ?"


def limits_path(database: str | Path) -> Path:
    """The file for limits beside a database's: `relay.db` has `relay.db-limits`."""
    path = Path(database)
    return path.with_name(path.name + "-limits")


def wall_us() -> int:
    """Microseconds since 1970."""
    return time.time_ns() // 1000


class SqliteBackend:
    """One worker's connection.

    Args:
        database: the accounts' file; that for limits is made beside it.
        instance_id: unique among all that share the file.
        lease_s: after so long without a word from it an instance's leases are free.
        patience_s: for the write lock, and for the disk.
        now_us: a clock that all who share the file read.
    """

    name: Final = "sqlite"

    def __init__(
        self,
        database: str | Path,
        *,
        instance_id: str,
        lease_s: float = 15.0,
        patience_s: float = 0.25,
        now_us: Callable[[], int] = wall_us,
    ) -> None:
        self._path = limits_path(database)
        self._instance_id = instance_id
        self._lease_us = round(lease_s * 1e6)
        self._patience_s = patience_s
        self._now_us = now_us
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="limits")
        self._running: asyncio.Future[Answer] | None = None
        self._connection: sqlite3.Connection | None = None

    async def exchange(self, batch: Batch) -> Answer:
        """See `Backend`."""
        if self._running is not None and not self._running.done():
            raise BackendDown("the disk has not answered yet")
        loop = asyncio.get_running_loop()
        self._running = running = loop.run_in_executor(self._thread, self._exchange, batch)
        # A thread is not interrupted: what is cancelled here goes on there, and is known then.
        return await asyncio.shield(running)

    async def aclose(self) -> None:
        """See `Backend`."""
        if self._running is not None and not self._running.done():
            await asyncio.wait([self._running], timeout=2 * self._patience_s)
        self._thread.submit(self._disconnect)
        self._thread.shutdown(wait=False)

    # --- in the thread ----------------------------------------------------------------------

    def _exchange(self, batch: Batch) -> Answer:
        try:
            for _ in range(2):
                try:
                    return self._in_transaction(batch)
                except sqlite3.DatabaseError as error:
                    self._disconnect()
                    if not _is_broken(error):
                        raise
            # Twice, since another worker may have made it anew meanwhile. What was in it is worth
            # a minute's limits: no reason to have none.
            self._remove()
            return self._in_transaction(batch)
        except (sqlite3.Error, OSError) as error:
            self._disconnect()
            raise BackendDown(f"{type(error).__name__}: {error}") from None

    def _connected(self) -> sqlite3.Connection:
        if self._connection is None:
            make_private(self._path)
            connection = sqlite3.connect(
                self._path, timeout=self._patience_s, isolation_level=None, check_same_thread=False
            )
            self._connection = connection
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = OFF")
            for table in (rate_levels, leases):
                made = CreateTable(table, if_not_exists=True).compile(dialect=sqlite.dialect())
                connection.execute(str(made))
            connection.execute("PRAGMA busy_timeout = 0")  # `_begin` waits in its own way
        return self._connection

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()

    def _remove(self) -> None:
        for end in ("", "-wal", "-shm"):
            self._path.with_name(self._path.name + end).unlink(missing_ok=True)

    def _begin(self, connection: sqlite3.Connection) -> None:
        """
        Raises:
            sqlite3.OperationalError: somebody else has held the lock for the whole patience.
        """
        until_s = time.monotonic() + self._patience_s
        wait_s = _FIRST_WAIT_S
        while True:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                    raise
                if time.monotonic() >= until_s:
                    raise
                time.sleep(wait_s)
                wait_s = min(2 * wait_s, _LONGEST_WAIT_S)
            else:
                return

    def _in_transaction(self, batch: Batch) -> Answer:
        connection = self._connected()
        self._begin(connection)
        try:
            work = _Work(connection, self._instance_id, self._lease_us, self._now_us())
            answer = work.do(batch)
            connection.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            raise
        return answer


def _is_broken(error: sqlite3.DatabaseError) -> bool:
    return error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


class _Work:
    """One transaction: each bucket is read once and written once."""

    def __init__(
        self, connection: sqlite3.Connection, instance_id: str, lease_us: int, now_us: int
    ) -> None:
        self._connection = connection
        self._instance_id = instance_id
        self._lease_us = lease_us
        self._now_us = now_us
        self._levels: dict[str, tuple[int, int]] = {}
        """As read, or as they are to be."""
        self._written: dict[str, tuple[int, int]] = {}
        self._others: dict[str, int] = {}
        self._own: dict[str, int] = {}
        self._own_written: dict[str, int] = {}

    def do(self, batch: Batch) -> Answer:
        for bucket, limit, by in batch.corrections:
            level, at_us = self._level(bucket, limit)
            self._levels[bucket] = self._written[bucket] = (corrected(level, limit, by), at_us)
        totals: list[int] = []
        for bucket, units in batch.held:
            others, _ = self._leases(bucket)
            self._own[bucket] = self._own_written[bucket] = units
            totals.append(others + units)
        replies = [self._take(charges) for charges in batch.takes]
        self._write()
        if batch.is_renewal:
            self._tidy()
        is_known = self._leases(INSTANCES)[1] > 0
        return Answer(replies, totals, is_known)

    def _take(self, charges: Sequence[Charge]) -> Reply:
        after: list[int] = []
        levels: list[tuple[str, tuple[int, int]]] = []
        owned: list[tuple[str, int]] = []
        is_granted = True
        for bucket, limit, amount, kind in charges:
            if kind == LEASE:
                others, own = self._leases(bucket)
                value = others + own + amount
                is_granted = is_granted and value <= limit
                owned.append((bucket, own + amount))
            else:
                level, at_us = self._level(bucket, limit)
                value = level - amount * MILLI
                is_granted = is_granted and value >= 0
                levels.append((bucket, (value, at_us)))
            after.append(value)
        if is_granted:
            self._levels.update(levels)
            self._written.update(levels)
            self._own.update(owned)
            self._own_written.update(owned)
        return Reply(is_granted, after)

    def _level(self, bucket: str, limit: int) -> tuple[int, int]:
        known = self._levels.get(bucket)
        if known is None:
            known = self._connection.execute(_LEVEL, (bucket,)).fetchone()
            if known is None:
                return limit * MILLI, self._now_us
            self._levels[bucket] = known
            if was_stepped_back(known[1], self._now_us):  # written also where nothing is granted
                known = self._levels[bucket] = self._written[bucket] = (known[0], self._now_us)
        return refilled(known[0], known[1], limit, self._now_us)

    def _leases(self, bucket: str) -> tuple[int, int]:
        """What the others hold, and this instance."""
        if bucket not in self._own:
            others = own = 0
            for instance_id, held, until_us in self._connection.execute(_LEASES, (bucket,)):
                if instance_id == self._instance_id:
                    own = held
                elif until_us > self._now_us:
                    others += held
            self._others[bucket], self._own[bucket] = others, own
        return self._others[bucket], self._own[bucket]

    def _write(self) -> None:
        execute = self._connection.executemany
        if self._written:
            execute(_PUT_LEVEL, [(name, *state) for name, state in self._written.items()])
        if self._own_written:
            until_us, whose = self._now_us + self._lease_us, self._instance_id
            own = self._own_written.items()
            execute(_PUT_LEASE, [(name, whose, units, until_us) for name, units in own if units])
            execute(_DROP_LEASE, [(name, whose) for name, units in own if not units])

    def _tidy(self) -> None:
        """Drop what says nothing any more; leases that the clock, stepped back, made long are cut
        to one from now."""
        now_us, execute = self._now_us, self._connection.execute
        longest_us = now_us + self._lease_us
        execute(_OLD_LEASES, (now_us,))
        execute(_CUT_LEASES, (longest_us, longest_us + MAX_STEP_BACK_US))
        execute(_OLD_LEVELS, (now_us - FULL_AFTER_US,))
