"""The thread that writes: a queue of operations, and one transaction for all that wait.

While a transaction runs, others queue; the next one takes all of them (group commit), so that the
cost of a commit is shared by the more, the busier it is. Waiting for the write lock is done here
and not by SQLite, whose pauses grow up to 100 ms: several processes that write a file get their
turn within a few of each other's transactions. Whoever has met another leaves a gap after his own.

Where a transaction fails for the file or the disk, the operations that somebody waits for fail with
it; those that must be written stay, in order, and are tried again until it works. Where it fails
for one operation, the batch is taken again one by one, and that one is given up.
"""

from __future__ import annotations

import random
import sqlite3
import threading
import time
from asyncio import Future
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Final

import structlog

from relay.store import sqlite_file
from relay.store import sqlite_statements as sql
from relay.store.base import BudgetSpent, StoreUnavailable
from relay.store.sqlite_books import Books
from relay.store.sqlite_file import DamagedFile, Durability

_log = structlog.get_logger("relay.store")

MAX_BATCH: Final = 256
"""Operations in one transaction: others wait for the lock so long, some 8 ms."""
MAX_KEPT: Final = 50_000
"""Operations kept for a disk that fails. One that does not find room is given up; the sweep settles
its generation at the most it can have cost."""
RETRY_S: Final = 0.25
IDLE_S: Final = 1.0
"""After so long without work what is in the WAL is moved into the file."""
LONG_IDLE_S: Final = 60.0
"""After so long what others have written is moved too."""
CHECKPOINT_OPERATIONS: Final = 2000
"""After so many, some four pages each, it is moved between two batches; others wait so long."""
_FIRST_PAUSE_S: Final = 0.0001
_LONG_PAUSE_S: Final = 0.001
_IMPATIENT_S: Final = 0.05
_GAP_S: Final = 0.0003
_CONTENDED_S: Final = 1.0
_MAX_LOST: Final = 10_000


class Operation:
    """Something to be written.

    Args:
        ticket: its number in the order they came.
        arguments: texts, numbers, and dataclasses of them.
        method: of `Books`, called with it and the arguments.
        future: gets the result, or the error; where nobody wants it any more, nothing is done. None
            where nobody waits: such an operation is kept until it is written.
    """

    __slots__ = ("arguments", "future", "method", "ticket")

    def __init__(
        self,
        ticket: int,
        method: Callable[..., object],
        arguments: tuple[Any, ...],
        future: Future[Any] | None = None,
    ) -> None:
        self.ticket = ticket
        self.method = method
        self.arguments = arguments
        self.future = future


Result = tuple["Future[Any]", object, Exception | None]
"""Of an operation that is waited for."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Of a writer; times in seconds."""

    path: Path
    durability: Durability = "process"
    busy_s: float = sqlite_file.BUSY_S
    retry_s: float = RETRY_S
    max_kept: int = MAX_KEPT
    connect: Callable[..., sqlite3.Connection] = sqlite_file.connect


class Writer:
    """Owns the connection; `open` it, `start` it, then `put` operations from one other thread.

    Args:
        instance_id: whose lease it is.
        tell: called in the writer's thread after every batch, with the results of what is waited
            for; `written`, `failure` and `lost` are up to date by then.
    """

    def __init__(
        self, settings: Settings, instance_id: str, tell: Callable[[list[Result]], None]
    ) -> None:
        self.written = 0
        """The last ticket that is as durable as it will be."""
        self.failure: str | None = None
        """Why nothing can be written now."""
        self.lost: dict[int, str] = {}
        """Tickets of operations that were given up, the last of them, and why."""
        self.lost_ever = 0
        """Operations that were given up, so far."""
        self._settings = settings
        self._instance_id = instance_id
        self._tell = tell
        self._queue: SimpleQueue[list[Operation] | None] = SimpleQueue()
        self._connection: sqlite3.Connection | None = None
        self._mover: sqlite3.Connection | None = None
        self._books: Books | None = None
        self._file: tuple[int, int] | None = None
        self._kept: deque[Operation] = deque()
        self._retry_at_s = 0.0
        self._contended_until_s = 0.0
        self._unmoved = 0
        self._is_stopping = False
        self._closed: Callable[[], None] = _nothing

    def start(self) -> None:
        """Begin to write what is put."""
        threading.Thread(target=self._run, name="relay-store", daemon=True).start()

    def put(self, operations: list[Operation]) -> None:
        """Hand over; never waits."""
        self._queue.put(operations)

    def stop(self, closed: Callable[[], None]) -> None:
        """Write what waits, give up the lease and the connection; `closed` is called after that, in
        the writer's thread. Once, after `start`."""
        self._closed = closed
        self._queue.put(None)

    # --- in the writer's thread, or before it starts ------------------------------------------

    def open(self) -> None:
        """Connect; raises sqlite3.Error."""
        settings = self._settings
        self.close()
        # Locks are waited for in `_begin`.
        self._connection = settings.connect(
            settings.path, durability=settings.durability, busy_s=0.0
        )
        self._mover = settings.connect(settings.path, durability=settings.durability, busy_s=0.0)
        self._books = Books(self._connection)
        self._file = _identity(settings.path)

    def close(self) -> None:
        """Disconnect. Idempotent."""
        for connection in (self._mover, self._connection):
            if connection is not None:
                try:
                    connection.close()
                except sqlite3.Error as error:
                    _log.warning("store_not_closed", why=str(error))
        self._mover = self._connection = self._books = None

    def once(self, work: Callable[[Books], object]) -> None:
        """Do something in a transaction of its own.

        Raises:
            sqlite3.Error: nothing was changed.
        """
        connection, books = self._begin()
        try:
            work(books)
            books.finish()
            connection.execute(sql.COMMIT)
            books.committed()
        except BaseException:
            self._roll_back()
            raise

    def _run(self) -> None:
        try:
            while not self._is_stopping:
                batch = self._next()
                if self.failure is not None:
                    self._recover(batch)
                elif batch:
                    self._commit(batch)
                    self._after_batch()
                elif not self._is_stopping:
                    self._move()
            self._leave()
        finally:
            self.close()
            self._closed()

    def _next(self) -> list[Operation]:
        """What waits: all of it, or as many lists as make a batch. Nothing after a pause."""
        batch: list[Operation] = []
        try:
            taken = self._queue.get(timeout=self._pause_s())
            while taken is not None:
                batch += taken
                if len(batch) >= MAX_BATCH:
                    return batch
                taken = self._queue.get(block=False)
            self._is_stopping = True
        except Empty:
            pass
        return batch

    def _pause_s(self) -> float:
        if self.failure is not None:
            return max(0.0, self._retry_at_s - time.monotonic())
        return IDLE_S if self._unmoved else LONG_IDLE_S

    def _after_batch(self) -> None:
        if self._unmoved >= CHECKPOINT_OPERATIONS:
            self._move()
        if time.monotonic() < self._contended_until_s and not self._queue.empty():
            time.sleep(_GAP_S)

    # --- a batch ------------------------------------------------------------------------------

    def _commit(self, batch: list[Operation]) -> bool:
        """Whether it was written, as far as it can be."""
        results: list[Result] = []
        try:
            if self._connection is None or self.failure is not None:
                self.open()
            connection, books = self._begin()
            for one in batch:
                future = one.future
                if future is None:
                    one.method(books, *one.arguments)
                elif not future.cancelled():
                    results.append(_tried(books, one, future))
            books.finish()
            connection.execute(sql.COMMIT)
            books.committed()
        except sqlite3.Error as error:
            self._roll_back()
            if _is_outage(error):
                self._fail(batch, error)
                return False
            return self._commit_one_by_one(batch)
        except Exception as error:  # noqa: BLE001 - a bug in one must not stop all others
            _log.error("store_operation_bug", error=type(error).__name__, exc_info=error)
            self._roll_back()
            return self._commit_one_by_one(batch)
        self._done(batch[-1].ticket, len(batch))
        self._tell(results)
        return True

    def _commit_one_by_one(self, batch: list[Operation]) -> bool:
        """After one of them was found to be at fault itself. Texts that are none are mended."""
        for position, one in enumerate(batch):
            one.arguments = tuple(mended(value) for value in one.arguments)
            results: list[Result] = []
            try:
                self.once(partial(_do, one, results))
            except Exception as error:  # noqa: BLE001 - as above
                if isinstance(error, sqlite3.Error) and _is_outage(error):
                    self._fail(batch[position:], error)
                    return False
                self._lose([one], f"{type(error).__name__}: {error}")
            self._done(one.ticket, 1)
            self._tell(results)
        return True

    def _begin(self) -> tuple[sqlite3.Connection, Books]:
        """The write lock, waited for at most `busy_s`."""
        connection, books = self._connection, self._books
        if connection is None or books is None:
            raise sqlite3.OperationalError("the store is closed")
        began_s = 0.0
        while True:
            try:
                connection.execute(sql.BEGIN)
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                    raise
                now_s = time.monotonic()
                began_s = began_s or now_s
                if now_s >= began_s + self._settings.busy_s:
                    raise
                self._contended_until_s = now_s + _CONTENDED_S
                is_short = now_s < began_s + _IMPATIENT_S
                pause_s = _FIRST_PAUSE_S if is_short else _LONG_PAUSE_S
                time.sleep(pause_s * random.uniform(0.5, 1.5))  # noqa: S311 - no secret
            else:
                books.begin()
                return connection, books

    def _roll_back(self) -> None:
        connection = self._connection
        if connection is not None and connection.in_transaction:
            try:
                connection.execute(sql.ROLLBACK)
            except sqlite3.Error:
                self.close()  # it is opened anew for the next batch

    # --- when it fails ------------------------------------------------------------------------

    def _recover(self, batch: list[Operation]) -> None:
        """Try again what is kept, and then what has come; before its time only keep it."""
        self._keep(batch)
        if time.monotonic() < self._retry_at_s and not self._is_stopping:
            self._give_up(list(self._kept), self.failure or "")
            self._kept = deque(one for one in self._kept if one.future is None)
            return
        if not self._kept:
            self._probe()
        while self._kept:
            some = [self._kept.popleft() for _ in range(min(MAX_BATCH, len(self._kept)))]
            if not self._commit(some):
                return

    def _probe(self) -> None:
        try:
            self.open()
            self.once(partial(_touch, self._instance_id))
        except sqlite3.Error as error:
            self._fail([], error)
        else:
            self._done(self.written, 1)

    def _keep(self, operations: list[Operation]) -> None:
        room = max(0, self._settings.max_kept - len(self._kept))
        self._kept.extend(operations[:room])
        if len(operations) > room:
            self._lose(operations[room:], "too much is waiting to be written")

    def _done(self, ticket: int, operations: int) -> None:
        self.written = ticket
        self._unmoved += operations
        if self.failure is not None:
            self.failure = None
            _log.warning("store_works_again", path=self._settings.path.name)

    def _fail(self, batch: list[Operation], error: sqlite3.Error) -> None:
        path = self._settings.path
        if sqlite_file.is_damage(error):
            why = str(DamagedFile(path, str(error)))
        else:
            why = f"{path.name}: {error}"
        if self.failure is None:
            _log.error("store_failed", why=why)
        self.failure = why
        self._retry_at_s = time.monotonic() + self._settings.retry_s
        self._kept.extendleft([one for one in reversed(batch) if one.future is None])
        self._give_up(batch, why)

    def _give_up(self, operations: list[Operation], why: str) -> None:
        self._tell(
            [
                (one.future, None, StoreUnavailable(why))
                for one in operations
                if one.future is not None
            ]
        )

    def _lose(self, operations: list[Operation], why: str) -> None:
        _log.error("store_operations_lost", count=len(operations), why=why)
        self.lost_ever += len(operations)
        for one in operations:
            if one.future is None:
                self.lost[one.ticket] = why
        while len(self.lost) > _MAX_LOST:
            del self.lost[next(iter(self.lost))]
        self._give_up(operations, why)

    # --- beside the batches -------------------------------------------------------------------

    def _move(self) -> None:
        """Move the WAL into the file, under the write lock (see `sqlite_file`)."""
        self._unmoved = 0
        mover = self._mover
        if mover is None:
            return
        if _identity(self._settings.path) != self._file:
            _log.error("store_file_replaced", path=self._settings.path.name)
            self.close()
            return
        try:
            connection, _ = self._begin()
            try:
                sqlite_file.checkpoint(mover)
            finally:
                connection.execute(sql.ROLLBACK)
        except sqlite3.Error as error:
            _log.warning("store_checkpoint_failed", why=str(error))
            self._roll_back()

    def _leave(self) -> None:
        if self._kept:
            # Their generations stay open, and the sweep settles them.
            _log.error("store_operations_unwritten", count=len(self._kept))
        try:
            if self._connection is not None:
                self.once(partial(_leave, self._instance_id))
        except sqlite3.Error as error:
            _log.warning("store_lease_kept", why=str(error))


def mended(value: Any) -> Any:
    """The same with half characters (lone surrogates, which JSON can carry and UTF-8 cannot) told
    as question marks: in a text, or in the texts of a dataclass or a tuple."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, tuple) and type(value) is tuple:
        return tuple(mended(one) for one in value)
    if is_dataclass(value) and not isinstance(value, type):
        changes = {one.name: mended(getattr(value, one.name)) for one in fields(value)}
        return replace(value, **changes)
    return value


def _tried(books: Books, one: Operation, future: Future[Any]) -> Result:
    try:
        return future, one.method(books, *one.arguments), None
    except (BudgetSpent, StoreUnavailable) as refusal:
        return future, None, refusal


def _do(one: Operation, results: list[Result], books: Books) -> None:
    if one.future is None:
        one.method(books, *one.arguments)
    elif not one.future.cancelled():
        results.append(_tried(books, one, one.future))


def _touch(instance_id: str, books: Books) -> None:
    books.touch(instance_id)


def _leave(instance_id: str, books: Books) -> None:
    books.leave(instance_id)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _is_outage(error: sqlite3.Error) -> bool:
    """Whether the file or the disk is at fault, and not what was to be written."""
    code = getattr(error, "sqlite_errorcode", None)
    return code is None or code & 0xFF not in (
        sqlite3.SQLITE_ERROR,
        sqlite3.SQLITE_CONSTRAINT,
        sqlite3.SQLITE_MISMATCH,
        sqlite3.SQLITE_TOOBIG,
        sqlite3.SQLITE_RANGE,
        sqlite3.SQLITE_MISUSE,
    )


def _nothing() -> None:
    pass
