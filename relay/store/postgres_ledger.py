"""The accounts on PostgreSQL.

One task writes. While a batch is on its way, others queue; the next one takes all that wait, in one
call and one transaction (group commit), so a reservation costs one round trip and one commit of the
server, whoever else there is. Several relays meet at the rows of the budgets they share, and
nowhere else.

There are two connections a worker, and more would not help: writes are in order, and those of one
budget are one after another anyway, by its row. The second one renews the lease and sweeps, so that
a batch that hangs does not cost the lease.

While PostgreSQL cannot be reached, reservations and commits are waited for `wait_s`, counted from
when it was lost; after that both are refused at once, and so is every new generation. What must not
be lost, attempts and ends of generations that run, stays in line, in order, and is written when
PostgreSQL is back. Whether a batch whose answer was lost has been written need not be known:
written again it changes nothing, and only what somebody still waits for is written again. An
extension is not: it would count twice.
"""

from __future__ import annotations

import asyncio
import heapq
import random
from asyncio import Future
from collections import deque
from collections.abc import Sequence
from typing import Final, Literal, NamedTuple

import structlog

from relay.store.base import (
    Hold,
    OpenedAttempt,
    OpenedGeneration,
    SettledGeneration,
    StoreUnavailable,
    Ticket,
)
from relay.store.engine import make_ready
from relay.store.postgres_batch import (
    ATTEMPT,
    EXTEND,
    OPEN,
    OTHER_HOLDS,
    SETTLE,
    Operation,
    admitted_at_us,
    arrays,
)
from relay.store.postgres_errors import FAILURES, Blame, blame, words
from relay.store.postgres_functions import (
    FORGET_PREDECESSORS,
    LEAVE,
    NOT_OPEN,
    SWEEP,
    TAKE_LEASE,
    WRITE,
)
from relay.store.postgres_link import PostgresLink, PostgresSettings
from relay.store.revisions import SchemaError

_log = structlog.get_logger("relay.store")

_MAX_LOST: Final = 10_000
_PASSING_PAUSE_S: Final = 0.01
_MAX_PASSING: Final = 3
"""In a row; after that it is told as a failure, and tried on."""


class _Instance(NamedTuple):
    """Whose lease it is, as kept in `instances`."""

    id: str = ""
    place: str = ""
    started_at_us: int = 0


class PostgresLedger:
    """A `LedgerStore`; made and used in one loop.

    Args:
        url: `postgresql://user:password@host:port/database`, as asyncpg takes it: several hosts,
            Unix sockets and `sslmode` too. Not through a pooler that changes sessions between
            statements.
        migrate: whether tables are made, and those of an older revision brought up, at the start.
    """

    def __init__(
        self,
        url: str,
        settings: PostgresSettings | None = None,
        *,
        migrate: Literal["auto", "never"] = "auto",
    ) -> None:
        self.notes_first = False
        self._url = url
        self._migrate: Literal["auto", "never"] = migrate
        self._settings = settings or PostgresSettings()
        self._links = [PostgresLink(url, name, self._settings) for name in ("relay", "relay-keep")]
        self._write_link, self._keep_link = self._links
        self._keep_lock = asyncio.Lock()
        self._instance = _Instance()
        self._lease_us = 0
        self._lease_until_us = 0
        self._queue: deque[Operation] = deque()
        self._flying: list[Operation] = []
        self._ticket = 0
        self._written = 0
        self._lost: dict[Ticket, str] = {}
        self.operations_lost = 0
        self._waiters: list[tuple[Ticket, int, Future[None]]] = []
        self._waiter_number = 0
        self._something = asyncio.Event()
        self._failure = ""
        self._failed_at_s = 0.0
        self._is_closing = False
        self._writer: asyncio.Task[None] | None = None
        self._random = random.Random()  # noqa: S311 - jitter, not a secret

    @property
    def waiting(self) -> int:
        """Operations in line and on their way."""
        return len(self._queue) + len(self._flying)

    @property
    def failure(self) -> str:
        """Why PostgreSQL cannot be asked now; empty while it can."""
        return self._failure

    # --- the protocol -------------------------------------------------------------------------

    async def start(self, instance_id: str, place: str, now_us: int, lease_s: float) -> None:
        """As of LedgerStore; also makes the tables, or brings them up. After a failure it may be
        tried again.

        Raises:
            SchemaError: the relay must not start; the message says what to do.
            StoreUnavailable
        """
        self._instance = _Instance(instance_id, place, now_us)
        self._lease_us = int(lease_s * 1e6)
        try:
            await self._connect_first()
            try:
                await self._write_link.ask(FORGET_PREDECESSORS, place, instance_id)
                await self._take_lease(self._write_link, now_us)
            except FAILURES as error:
                self._write_link.drop()
                raise self._unavailable(error) from None
        except BaseException:
            self._write_link.drop()
            raise
        self._writer = asyncio.create_task(self._write(), name="postgres ledger")

    async def _connect_first(self) -> None:
        try:
            await self._write_link.connect()
        except SchemaError:
            await asyncio.to_thread(make_ready, self._url, self._migrate)
            await self._write_link.connect()

    async def reserve(self, opened: OpenedGeneration, amounts: Sequence[int]) -> int:
        """As of LedgerStore, within `wait_s`; of a generation that is open already, what it has."""
        return await self._wait_for(OPEN, opened.id, opened, opened.holds, amounts)

    def open(self, opened: OpenedGeneration) -> Ticket:
        """As of LedgerStore.

        Raises:
            StoreUnavailable: too much is waiting, or PostgreSQL has been gone for `wait_s`.
        """
        self._require_room(self._settings.max_waiting)
        if self._give_up_after_s() <= 0:
            raise StoreUnavailable(self._failure)
        return self._put(Operation(OPEN, 0, opened.id, opened, (), (0,)))

    async def extend(self, generation_id: str, holds: Sequence[Hold], more_micro: int) -> None:
        """As of LedgerStore, within `wait_s`. Raises StoreUnavailable also where the generation is
        not open, or was opened with other holds."""
        await self._wait_for(EXTEND, generation_id, None, holds, (more_micro,))

    def attempt(self, generation_id: str, opened: OpenedAttempt) -> Ticket:
        """As of LedgerStore. Of a generation that is not open, say because a sweep has ended it,
        nothing is noted, and `committed` of it raises: what such an attempt gives must not go out.

        Raises:
            StoreUnavailable: more than `max_kept` is waiting.
        """
        self._require_room(self._settings.max_kept)
        return self._put(Operation(ATTEMPT, 0, generation_id, opened))

    def settle(self, settled: SettledGeneration, holds: Sequence[Hold]) -> Ticket:
        """As of LedgerStore; of a generation that is not open nothing changes.

        Args:
            holds: those that it was opened with.

        Raises:
            StoreUnavailable: more than `max_kept` is waiting.
        """
        self._require_room(self._settings.max_kept)
        return self._put(Operation(SETTLE, 0, settled.id, settled, holds))

    async def committed(self, ticket: Ticket) -> None:
        """As of LedgerStore, within `wait_s`; after that it stays in line, and may be asked for
        again."""
        if ticket > self._written:
            await self._until_written(ticket)
        why = self._lost.get(ticket)
        if why is not None:
            raise StoreUnavailable(why)

    async def renew(self, now_us: int, lease_s: float) -> None:
        self._lease_us = int(lease_s * 1e6)
        async with self._keep_lock:
            await self._connect_keeper()
            try:
                await self._take_lease(self._keep_link, now_us)
            except FAILURES as error:
                raise self._keeper_failed(error) from None

    async def sweep(self, now_us: int, limit: int) -> int:
        """As of LedgerStore; generations that another is sweeping are left to it."""
        async with self._keep_lock:
            await self._connect_keeper()
            try:
                rows = await self._keep_link.ask(SWEEP, now_us, limit)
            except FAILURES as error:
                raise self._keeper_failed(error) from None
            count: int = rows[0][0]
            return count

    async def aclose(self) -> None:
        """As of LedgerStore, within `close_s`; what could not be written is left to the sweeps."""
        self._is_closing = True
        self._something.set()
        writer, self._writer = self._writer, None
        try:
            if writer is not None:
                await asyncio.wait([writer], timeout=self._settings.close_s)
                if writer.done() and self._write_link.connection is not None:
                    await self._leave()
        finally:
            if writer is not None and not writer.done():
                writer.cancel()
                await asyncio.wait([writer])
            self._give_up("the store is closed")
            for link in self._links:
                await link.aclose()

    async def _leave(self) -> None:
        try:
            await self._write_link.ask(LEAVE, self._instance.id)
        except FAILURES as error:
            _log.warning("store_lease_kept", why=words(error))

    # --- in line ------------------------------------------------------------------------------

    def _put(self, operation: Operation) -> Ticket:
        self._ticket += 1
        operation.ticket = self._ticket
        self._queue.append(operation)
        self._something.set()
        return self._ticket

    def _require_room(self, limit: int) -> None:
        if self._is_closing:
            raise StoreUnavailable("the store is closed")
        if len(self._queue) >= limit:
            raise StoreUnavailable(self._failure or "too much is waiting to be written")

    def _give_up_after_s(self) -> float:
        """How long to wait for PostgreSQL from now on."""
        if not self._failure:
            return self._settings.wait_s
        now_s = asyncio.get_running_loop().time()
        return self._failed_at_s + self._settings.wait_s - now_s

    async def _wait_for(
        self,
        kind: int,
        generation_id: str,
        opened: OpenedGeneration | None,
        holds: Sequence[Hold],
        amounts: Sequence[int],
    ) -> int:
        self._require_room(self._settings.max_waiting)
        wait_s = self._give_up_after_s()
        if wait_s <= 0:
            raise StoreUnavailable(self._failure)
        loop = asyncio.get_running_loop()
        waiter: Future[int] = loop.create_future()
        operation = Operation(kind, 0, generation_id, opened, holds, amounts, waiter)
        operation.timer = loop.call_later(wait_s, self._too_late, operation)
        self._put(operation)
        try:
            return await waiter
        finally:
            operation.timer.cancel()

    def _too_late(self, operation: Operation) -> None:
        operation.fail(self._failure or self._told("it did not answer in time"))

    async def _until_written(self, ticket: Ticket) -> None:
        wait_s = self._give_up_after_s()
        if self._is_closing and self._writer is None:
            raise StoreUnavailable("the store is closed")
        if wait_s <= 0:
            raise StoreUnavailable(self._failure)
        waiter: Future[None] = asyncio.get_running_loop().create_future()
        self._waiter_number += 1
        heapq.heappush(self._waiters, (ticket, self._waiter_number, waiter))
        try:
            async with asyncio.timeout(wait_s):
                await waiter
        except TimeoutError:
            raise StoreUnavailable(
                self._failure or self._told("it did not answer in time")
            ) from None

    def _now_written(self, ticket: Ticket) -> None:
        self._written = max(self._written, ticket)
        waiters = self._waiters
        while waiters and waiters[0][0] <= self._written:
            waiter = heapq.heappop(waiters)[2]
            if not waiter.done():
                waiter.set_result(None)

    def _give_up(self, why: str) -> None:
        """Nothing more will be written."""
        left = [*self._flying, *self._queue]
        self._flying, self._queue = [], deque()
        for operation in left:
            operation.fail(why)
        for _, _, waiter in self._waiters:
            if not waiter.done():
                waiter.set_exception(StoreUnavailable(why))
        self._waiters.clear()
        if kept := sum(operation.waiter is None for operation in left):
            # Their generations stay open, and sweeps settle them.
            _log.error("store_operations_unwritten", count=kept)

    # --- the writer ---------------------------------------------------------------------------

    async def _write(self) -> None:
        """Write what is in line until the store is closed and nothing is."""
        queue = self._queue
        while True:
            if not queue:
                if self._is_closing:
                    return
                self._something.clear()
                await self._something.wait()
                continue
            count = min(len(queue), self._settings.max_batch)
            batch = self._flying = [queue.popleft() for _ in range(count)]
            await self._write_batch(batch)
            self._flying = []
            self._now_written(batch[-1].ticket)

    async def _write_batch(self, batch: list[Operation]) -> None:
        """Return when it is written, or cannot ever be, and PostgreSQL can be asked."""
        tries = passing = 0
        while batch or self._failure:
            try:
                if self._write_link.connection is None:
                    await self._reconnect(tries)
                batch = [operation for operation in batch if operation.is_wanted]
                await self._call(batch)
            except StoreUnavailable as error:
                self._failed(str(error))
                tries += 1
            except Exception as error:  # noqa: BLE001 - whatever it is must not stop the writer
                match blame(error):
                    case Blame.OPERATION:
                        await self._without_what_is_at_fault(batch, error)
                        return
                    case Blame.PASSING:
                        passing += 1
                        if passing >= _MAX_PASSING:
                            self._failed(self._told(words(error)))
                        await asyncio.sleep(_PASSING_PAUSE_S * self._random.uniform(0.5, 1.5))
                    case Blame.SERVER:
                        if not isinstance(error, FAILURES):
                            _log.error("store_bug", error=type(error).__name__, exc_info=error)
                        # Nobody knows whether they were written; once more could be twice.
                        for operation in batch:
                            if operation.kind == EXTEND:
                                operation.fail(self._told(words(error)))
                        self._write_link.drop()
                        self._failed(self._told(words(error)))
                        tries += 1
            else:
                return

    async def _without_what_is_at_fault(self, batch: list[Operation], error: Exception) -> None:
        """Write all of a batch but what cannot be written."""
        if len(batch) == 1:
            self._lose(batch[0], f"{type(error).__name__}: {words(error)}")
            return
        half = len(batch) // 2
        await self._write_batch(batch[:half])
        await self._write_batch(batch[half:])

    async def _call(self, batch: list[Operation]) -> None:
        if not batch:
            self._works()
            return
        last_us = admitted_at_us(batch)
        # Nobody may find the lease over while it opens generations.
        lease_until_us = last_us + self._lease_us
        is_short = last_us and last_us + self._lease_us // 2 > self._lease_until_us
        values = arrays(batch)
        rows = await self._write_link.ask(
            WRITE, *values, *self._instance, lease_until_us if is_short else None
        )
        if is_short:
            self._lease_until_us = max(self._lease_until_us, lease_until_us)
        self._works()
        for operation, amount, hold, left in zip(batch, *rows[0], strict=True):
            operation.answer(amount, hold, left)
            if hold == OTHER_HOLDS:
                self._lose(operation, "it was opened with other holds")
            elif hold == NOT_OPEN and operation.waiter is None:
                self._not_open(operation)

    def _not_open(self, operation: Operation) -> None:
        """What was handed over for it cannot be kept: nobody may be told that it is durable. An end
        is: by whatever ended it before."""
        if not isinstance(operation.what, SettledGeneration):
            self._lose(operation, f"generation {operation.generation_id} is not open")
        elif operation.what.state != "void":
            _log.warning("store_settled_too_late", id=operation.generation_id)

    async def _reconnect(self, tries: int) -> None:
        if tries > 1:  # the first time at once: most losses are of one connection
            settings = self._settings
            most_s = min(settings.last_backoff_s, settings.first_backoff_s * 2 ** min(tries, 10))
            # At least a tenth, since zero would be no pause; all of it at random, since all relays
            # lose a server at the same moment.
            await asyncio.sleep(most_s * self._random.uniform(0.1, 1.0))
        await self._write_link.connect()

    def _lose(self, operation: Operation, why: str) -> None:
        _log.error("store_operation_lost", id=operation.generation_id, why=why)
        self.operations_lost += 1
        self._lost[operation.ticket] = why
        while len(self._lost) > _MAX_LOST:
            del self._lost[next(iter(self._lost))]
        operation.fail(why)

    # --- up and down --------------------------------------------------------------------------

    def _failed(self, why: str) -> None:
        if not self._failure:
            self._failed_at_s = asyncio.get_running_loop().time()
            _log.error("store_failed", why=why)
        self._failure = why

    def _works(self) -> None:
        if self._failure:
            self._failure = ""
            _log.warning("store_works_again", place=self._write_link.place)

    def _told(self, what: str) -> str:
        return f"PostgreSQL at {self._write_link.place}: {what}"

    def _unavailable(self, error: Exception) -> StoreUnavailable:
        return StoreUnavailable(self._told(words(error)))

    async def _take_lease(self, link: PostgresLink, now_us: int) -> None:
        until_us = now_us + self._lease_us
        await link.ask(TAKE_LEASE, *self._instance, until_us)
        self._lease_until_us = until_us

    async def _connect_keeper(self) -> None:
        if self._keep_link.connection is None:
            await self._keep_link.connect()

    def _keeper_failed(self, error: Exception) -> StoreUnavailable:
        if blame(error) is Blame.SERVER:
            self._keep_link.drop()
        return self._unavailable(error)
