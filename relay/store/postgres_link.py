"""One connection to PostgreSQL that is made anew when it is lost.

A connection that was lost in the middle of a call leaves a question: did the server write? It may
even still be at it. So before its successor writes, the server is told to end the lost session, and
waited for: then what was written is there, and nothing more will come. Where a follower has taken
over there is no such session, and what it has is what counts.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple

import asyncpg

from relay.store.base import StoreUnavailable
from relay.store.postgres_address import has_several_hosts, place_of
from relay.store.postgres_errors import FAILURES, words
from relay.store.postgres_functions import SWEEP_FUNCTION, WRITE_FUNCTION
from relay.store.revisions import require_usable

FENCE_MS: Final = 500
"""How long the server may take to end a lost session before connecting is tried again."""

_SESSION: Final = """
SELECT
    pg_backend_pid() AS pid,
    (SELECT backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()) AS started_at,
    pg_is_in_recovery() OR current_setting('transaction_read_only') = 'on' AS is_read_only
"""
_FENCE: Final = """
SELECT pg_terminate_backend(pid, $3) FROM pg_stat_activity
WHERE pid = $1 AND backend_start = $2 AND usename = current_user
"""
_DURABLE: Final = """
SELECT set_config('synchronous_commit', 'on', false)
WHERE current_setting('synchronous_commit') = 'off'
"""
_REVISION: Final = "SELECT version_num FROM alembic_version"

Connection = Any
Prepared = Any
"""Of asyncpg, which tells no types."""


@dataclass(frozen=True, slots=True)
class PostgresSettings:
    """How long PostgreSQL is waited for, and how much is kept for it; times in seconds."""

    wait_s: float = 2.0
    """What a reservation, and whoever waits for a commit, waits at most."""
    connect_s: float = 2.0
    batch_s: float = 5.0
    """After so long without an answer a connection is given up."""
    lock_s: float = 1.0
    first_backoff_s: float = 0.05
    last_backoff_s: float = 1.0
    close_s: float = 5.0
    max_batch: int = 256
    """Operations in one transaction."""
    max_waiting: int = 10_000
    """Operations in line; with more of them no generation is opened."""
    max_kept: int = 50_000
    """Operations in line; with more of them no attempt or end is taken either, and sweeps settle
    their generations at the most they can have cost."""


class _Session(NamedTuple):
    """What names a session of a server."""

    pid: int
    started_at: datetime


class PostgresLink:
    """A connection for one task at a time; `connection` is None while there is none.

    Args:
        url: `postgresql://...`, of one server or of several (`host1,host2`), of which the one that
            writes is taken.
        name: shown in the server's list of sessions.
    """

    def __init__(self, url: str, name: str, settings: PostgresSettings) -> None:
        self._dsn = url
        self._target = "primary" if has_several_hosts(url) else "any"
        self.place = place_of(url)
        self._name = name
        self._settings = settings
        self._lost: _Session | None = None
        self._session: _Session | None = None
        self.connection: Connection | None = None
        self._prepared: dict[str, Prepared] = {}

    async def connect(self) -> None:
        """Be connected to the server that writes, with the functions in place.

        Raises:
            SchemaError: its tables are not those of this relay.
            StoreUnavailable: it cannot be reached.

        Cancelled: not connected.
        """
        try:
            async with asyncio.timeout(self._settings.connect_s + FENCE_MS / 1000):
                await self._connect()
        except FAILURES as error:
            self.drop()
            # Neither the cause nor its traceback: asyncpg's may hold parts of the address.
            raise StoreUnavailable(f"PostgreSQL at {self.place}: {words(error)}") from None
        except BaseException:
            self.drop()
            raise

    async def _connect(self) -> None:
        settings = self._settings
        self.drop()
        connection = self.connection = await asyncpg.connect(
            self._dsn,
            timeout=settings.connect_s,
            target_session_attrs=self._target,
            statement_cache_size=0,
            server_settings={
                "application_name": self._name,
                "statement_timeout": _ms(settings.batch_s),
                "lock_timeout": _ms(settings.lock_s),
                "idle_in_transaction_session_timeout": _ms(settings.batch_s),
                # A plan made while a table was empty must not read all of it when it is large.
                "enable_seqscan": "off",
                "jit": "off",
            },
        )
        found = await connection.fetchrow(_SESSION)
        if found["is_read_only"]:
            raise StoreUnavailable(f"PostgreSQL at {self.place}: it takes no writes (a follower)")
        if self._lost is not None:
            ended = await connection.fetchval(
                _FENCE, self._lost.pid, self._lost.started_at, FENCE_MS
            )
            if ended is False:
                raise StoreUnavailable(
                    f"PostgreSQL at {self.place}: it is still busy with a session that was lost"
                )
            self._lost = None
        try:
            revision = await connection.fetchval(_REVISION)
        except asyncpg.UndefinedTableError:
            revision = None
        require_usable(revision)
        await connection.execute(_DURABLE + ";" + WRITE_FUNCTION + SWEEP_FUNCTION)
        self._session = _Session(found["pid"], found["started_at"])

    async def ask(self, statement: str, *values: object) -> list[Any]:
        """Run one statement, which is prepared once a connection; its rows.

        Raises:
            what `postgres_errors.FAILURES` names; ConnectionError after `batch_s`.
        """
        connection = self.connection
        if connection is None:
            raise ConnectionError("it is not connected")
        # Not asyncpg's own timeout: that asks the server to cancel, and waits for it to answer.
        timer = asyncio.get_running_loop().call_later(self._settings.batch_s, self.drop)
        try:
            prepared = self._prepared.get(statement)
            if prepared is None:
                prepared = await connection.prepare(statement)
                if self.connection is connection:
                    self._prepared[statement] = prepared
            rows: list[Any] = await prepared.fetch(*values)
        except Exception:
            if self.connection is not connection:
                raise TimeoutError from None
            raise
        except BaseException:  # what the server is asked, and answers, is nobody's any more
            self.drop()
            raise
        else:
            return rows
        finally:
            timer.cancel()

    def drop(self) -> None:
        """Give the connection up without a word to the server; the next one ends its session."""
        self._prepared.clear()
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.terminate()
            if self._session is not None:
                self._lost = self._session
        self._session = None

    async def aclose(self) -> None:
        """Disconnect. Idempotent, bounded in time."""
        self._prepared.clear()
        connection, self.connection = self.connection, None
        self._session = None
        if connection is not None:
            try:
                await connection.close(timeout=1.0)
            except FAILURES:
                connection.terminate()


def _ms(seconds: float) -> str:
    return str(int(seconds * 1000))
