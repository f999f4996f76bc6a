"""The accounts in a SQLite file (LedgerStore), for one machine and any number of its workers.

What must be known before anything goes on (`reserve`, `extend`, `committed`) goes to the writer's
thread at once. What nobody waits for yet is put to it together after `LINGER_S`: the note of an
attempt costs no transaction of its own while other work is going on, and is written long before the
provider's first token. One callback a batch comes back to the loop, and none where nobody waits.

While the file or its disk fails, `reserve`, `open`, `attempt` and what waits for them raise
StoreUnavailable at once, and `settle` is kept and written once it works again, without a restart.
"""

from __future__ import annotations

import asyncio
import heapq
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

from relay.store.base import (
    Hold,
    OpenedAttempt,
    OpenedGeneration,
    SettledGeneration,
    StoreUnavailable,
    Ticket,
)
from relay.store.engine import make_ready
from relay.store.revisions import Standing, require_usable, standing
from relay.store.sqlite_books import Books
from relay.store.sqlite_file import (
    BUSY_S,
    DamagedFile,
    Durability,
    connect,
    is_damage,
    require_sound,
)
from relay.store.sqlite_writer import Operation, Result, Settings, Writer

LINGER_S: Final = 0.002
"""How long what nobody waits for is gathered."""
MAX_WAITING: Final = 10_000
"""Operations that are not written yet; more of them are refused."""
CLOSE_S: Final = 10.0
SWEEP_ROWS: Final = 500
"""Generations that one transaction sweeps: others wait for it some 20 ms."""


class SqliteLedger:
    """One worker's accounts in a file that others write too. See LedgerStore.

    Args:
        path: of the file; made at the start where there is none.
        durability: `process`: what is committed survives the death of the process; `power`: a loss
            of power too, for one fsync a batch.
        migrate: whether tables of an older revision are brought up at the start.
        settings: of the writer, for tests.
    """

    notes_first: Final = True

    def __init__(
        self,
        path: Path,
        durability: Durability = "process",
        *,
        migrate: Literal["auto", "never"] = "auto",
        linger_s: float = LINGER_S,
        settings: Settings | None = None,
    ) -> None:
        base = settings or Settings(path)
        self._settings = replace(base, path=path, durability=durability)
        self._migrate: Literal["auto", "never"] = migrate
        self._linger_s = linger_s
        self._writer: Writer | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pending: list[Operation] = []
        self._timer: asyncio.TimerHandle | None = None
        self._ticket = 0
        self._waiters: list[tuple[Ticket, int, asyncio.Future[None]]] = []
        self._waited = 0
        self._closed: asyncio.Future[None] | None = None
        self._lease = ("", "", 0)

    @property
    def operations_lost(self) -> int:
        """See LedgerStore."""
        return 0 if self._writer is None else self._writer.lost_ever

    async def start(self, instance_id: str, place: str, now_us: int, lease_s: float) -> None:
        """See LedgerStore; also makes the file and brings its tables up.

        Raises:
            DamagedFile, SchemaError: the relay must not start; the message says what to do.
            StoreUnavailable

        Cancelled: what was opened is closed; a lease that was taken ends by itself.
        """
        self._loop = asyncio.get_running_loop()
        self._lease = (instance_id, place, now_us)
        writer = Writer(self._settings, instance_id, self._tell)
        until_us = now_us + round(lease_s * 1e6)
        opening = asyncio.ensure_future(
            asyncio.to_thread(self._open, writer, place, now_us, until_us)
        )
        try:
            await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(partial(_close_opened, writer))
            raise
        writer.start()
        self._writer = writer

    def _open(self, writer: Writer, place: str, now_us: int, until_us: int) -> None:
        path = self._settings.path
        require_sound(path)
        try:
            self._require_schema(path)
            writer.open()
            writer.once(lambda books: books.take_place(self._lease[0], place, now_us, until_us))
        except sqlite3.Error as error:
            writer.close()
            if is_damage(error):
                raise DamagedFile(path, str(error)) from None
            raise StoreUnavailable(f"{path.name}: {error}") from error
        except BaseException:
            writer.close()
            raise

    def _require_schema(self, path: Path) -> None:
        if (revision := _revision(path)) is None or standing(revision) is Standing.BEHIND:
            make_ready(f"sqlite:///{path}", self._migrate)
        else:
            require_usable(revision)

    @property
    def waiting(self) -> int:
        """Operations that are not written yet."""
        return 0 if self._writer is None else self._ticket - self._writer.written

    @property
    def failure(self) -> str:
        """Why nothing can be written now; empty while it can."""
        return "" if self._writer is None else self._writer.failure or ""

    # --- handing over -------------------------------------------------------------------------

    async def reserve(self, opened: OpenedGeneration, amounts: Sequence[int]) -> int:
        """See LedgerStore."""
        reserved: int = await self._asked(Books.reserve, (opened, amounts))
        return reserved

    def open(self, opened: OpenedGeneration) -> Ticket:
        """See LedgerStore. Raises StoreUnavailable while nothing can be written."""
        self._working()
        return self._later(Books.open, (opened,))

    async def extend(self, generation_id: str, holds: Sequence[Hold], more_micro: int) -> None:
        """See LedgerStore."""
        await self._asked(Books.extend, (generation_id, holds, more_micro))

    def attempt(self, generation_id: str, opened: OpenedAttempt) -> Ticket:
        """See LedgerStore. Raises StoreUnavailable while nothing can be written."""
        self._working()
        return self._later(Books.attempt, (generation_id, opened))

    def settle(self, settled: SettledGeneration, holds: Sequence[Hold]) -> Ticket:
        """See LedgerStore; taken also while nothing can be written. The budgets are those that the
        generation was opened with, as they are in its row."""
        self._begun()
        return self._later(Books.settle, (settled,))

    async def renew(self, now_us: int, lease_s: float) -> None:
        """See LedgerStore."""
        instance_id, place, started_us = self._lease
        until_us = now_us + round(lease_s * 1e6)
        await self._asked(Books.renew, (instance_id, place, started_us, until_us))

    async def sweep(self, now_us: int, limit: int) -> int:
        """See LedgerStore; at most `SWEEP_ROWS` at once, so that others need not wait."""
        swept: int = await self._asked(Books.sweep, (now_us, min(limit, SWEEP_ROWS)))
        return swept

    def _begun(self) -> Writer:
        if self._writer is None:
            raise StoreUnavailable("the store is not open")
        return self._writer

    def _working(self) -> Writer:
        writer = self._begun()
        if writer.failure is not None:
            raise StoreUnavailable(writer.failure)
        if self._ticket - writer.written > MAX_WAITING:
            raise StoreUnavailable("too much is waiting to be written")
        return writer

    def _later(self, method: Callable[..., object], arguments: tuple[Any, ...]) -> Ticket:
        self._ticket = ticket = self._ticket + 1
        self._pending.append(Operation(ticket, method, arguments))
        if self._timer is None and self._loop is not None:
            self._timer = self._loop.call_later(self._linger_s, self._flush)
        return ticket

    async def _asked(self, method: Callable[..., object], arguments: tuple[Any, ...]) -> Any:
        writer = self._working()
        future = asyncio.get_running_loop().create_future()
        self._ticket += 1
        self._pending.append(Operation(self._ticket, method, arguments, future))
        self._put(writer)
        return await future

    def _flush(self) -> None:
        self._timer = None
        if self._writer is not None and self._pending:
            self._put(self._writer)

    def _put(self, writer: Writer) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        pending, self._pending = self._pending, []
        writer.put(pending)

    # --- what came of it ----------------------------------------------------------------------

    async def committed(self, ticket: Ticket) -> None:
        """See LedgerStore. What could not be written for the disk stays in line."""
        writer = self._begun()
        if ticket > writer.written:
            if writer.failure is not None:
                raise StoreUnavailable(writer.failure)
            if self._pending:
                self._put(writer)
            waiter = asyncio.get_running_loop().create_future()
            self._waited += 1
            heapq.heappush(self._waiters, (ticket, self._waited, waiter))
            # The batch may have ended, or failed, before the writer could see that somebody waits.
            if ticket <= writer.written or writer.failure is not None:
                self._wake()
            await waiter
        if writer.lost and ticket in writer.lost:
            raise StoreUnavailable(writer.lost[ticket])

    def _tell(self, results: list[Result]) -> None:
        """In the writer's thread."""
        if (results or self._waiters) and self._loop is not None:
            try:
                self._loop.call_soon_threadsafe(self._deliver, results)
            except RuntimeError:  # the loop is closed, and nobody waits any more
                pass

    def _deliver(self, results: list[Result]) -> None:
        for future, result, error in results:
            if future.done():
                continue
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)
        if self._waiters:
            self._wake()

    def _wake(self) -> None:
        writer, waiters = self._writer, self._waiters
        if writer is None:
            return
        while waiters and waiters[0][0] <= writer.written:
            waiter = heapq.heappop(waiters)[2]
            if not waiter.done():
                waiter.set_result(None)
        if writer.failure is not None:
            for _, _, waiter in waiters:
                if not waiter.done():
                    waiter.set_exception(StoreUnavailable(writer.failure))
            waiters.clear()

    async def aclose(self) -> None:
        """Write what waits, give up the lease, disconnect. Idempotent; after `CLOSE_S` the writer
        is left alone with it. Cancelled: the same, without waiting for it."""
        loop, writer = self._loop, self._writer
        if writer is None or loop is None:
            return
        if self._closed is None:
            self._closed = closed = loop.create_future()
            self._put(writer)
            writer.stop(lambda: _call(loop, _set_done, closed))
        await asyncio.wait([self._closed], timeout=CLOSE_S)
        for _, _, waiter in self._waiters:
            if not waiter.done():
                waiter.set_exception(StoreUnavailable("the store is closed"))
        self._waiters.clear()
        self._writer = None


def _revision(path: Path) -> str | None:
    """None also where there is no file yet."""
    if not path.exists():
        return None
    connection = connect(path, busy_s=BUSY_S)
    try:
        row = connection.execute(
            "SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'"
        ).fetchone()
        if row is None:
            return None
        found = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    finally:
        connection.close()
    return str(found[0]) if found else None


def _close_opened(writer: Writer, opening: asyncio.Future[None]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        writer.close()


def _set_done(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _call(loop: asyncio.AbstractEventLoop, function: Callable[..., None], argument: Any) -> None:
    try:
        loop.call_soon_threadsafe(function, argument)
    except RuntimeError:
        pass
