"""Reservations against one budget on a real PostgreSQL, beside a bare `INSERT; COMMIT`, the usual
transaction of a locked row, and a check in Redis before the row.

Callers ask one after another, as fast as they are answered (closed loop). Client, server and Redis
share the cores. Every arm commits a row a request; arms take turns in each round.

- `insert`: one row, one connection a caller: what a commit costs here.
- `locked_row`: BEGIN, SELECT ... FOR UPDATE, UPDATE, INSERT, COMMIT; one connection a caller.
- `statements`: the same, for all that wait at once (group commit), over one connection.
- `reserve`: the ledger: all that wait at once, one call of its function.
- `reserve_x4`: the same callers over four ledgers, as four relays that share the budget.
- `open`: the ledger without a budget, to its commit: what the check of the budget costs beside it.
- `redis_insert`: a Lua script in Redis checks and counts, then `insert`.
- `redis_open`: the same script, then `open`.
"""

from __future__ import annotations

import asyncio
import itertools
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from typing import Any, Final

import asyncpg
import uvloop
from redis.asyncio import Redis

from bench.result import CaseResult
from bench.rig import Rig
from bench.stats import COARSE, Histogram
from relay.store.base import OpenedGeneration
from relay.store.engine import make_ready
from relay.store.postgres_ledger import PostgresLedger
from tests.fakes.accounts import LEASE_S, NOW_US, hold, opened
from tests.fakes.postgres_server import PostgresServer, postgres_bin
from tests.fakes.redis_server import RedisServer

CALLERS: Final = (1, 16, 64)
CAP: Final = 10**15
BUDGET: Final = hold("bud_hot", CAP)
AMOUNT: Final = 500

_INSERT: Final = """
INSERT INTO generations (
    id, state, instance_id, organisation_id, team_id, key_id, alias, surface, tags, labels,
    session_id, turn_id, trace_id, admitted_at_us, lease_until_us, holds, reserved_micro
) SELECT id, 'open', 'a', 'org_1', 'team_1', 'key_1', 'fast', 'chat', '["voice"]', '{"call":"7"}',
    'session_1', 'turn_1', '0af7651916cd43dd8448eb211c80319c', 1, 2, '[["bud_hot",0]]', 500
FROM unnest($1::text[]) AS new (id)
"""
_BUDGET: Final = "INSERT INTO budget_periods (budget_id, period_start_s) VALUES ('bud_hot', 0)"
_LOCK: Final = """
SELECT settled_micro, reserved_micro FROM budget_periods
WHERE budget_id = 'bud_hot' AND period_start_s = 0 FOR UPDATE
"""
_RAISE: Final = """
UPDATE budget_periods SET reserved_micro = reserved_micro + $1
WHERE budget_id = 'bud_hot' AND period_start_s = 0
"""
_LUA: Final = """
local used = tonumber(redis.call('HGET', KEYS[1], 'reserved') or '0')
local cap, amount = tonumber(ARGV[1]), tonumber(ARGV[2])
if used + amount > cap then return {0, cap - used} end
redis.call('HINCRBY', KEYS[1], 'reserved', amount)
return {1, amount}
"""

Ask = Callable[[str], Awaitable[object]]
"""Reserve for a generation of this id."""


class Arms:
    """What is measured, each given as a context that makes one `Ask` a caller."""

    def __init__(self, url: str, redis: Redis | None) -> None:
        self._url = url
        self._redis = redis

    def named(self) -> dict[str, Callable[[int], Any]]:
        """By name; those with Redis only where it is installed."""
        arms: dict[str, Callable[[int], Any]] = {
            "insert": self.insert,
            "locked_row": self.locked_row,
            "statements": self.statements,
            "reserve": self.reserve,
            "reserve_x4": self.reserve_x4,
            "open": self.open,
        }
        if self._redis is not None:
            arms |= {"redis_insert": self.redis_insert, "redis_open": self.redis_open}
        return arms

    @asynccontextmanager
    async def _connections(self, count: int) -> AsyncIterator[list[Any]]:
        async with AsyncExitStack() as stack:
            made = []
            for _ in range(count):
                made.append(await asyncpg.connect(self._url))
                stack.push_async_callback(made[-1].close)
            yield made

    @asynccontextmanager
    async def insert(self, callers: int) -> AsyncIterator[list[Ask]]:
        async with self._connections(callers) as connections:
            prepared = [await one.prepare(_INSERT) for one in connections]
            yield [_inserting(one) for one in prepared]

    @asynccontextmanager
    async def locked_row(self, callers: int) -> AsyncIterator[list[Ask]]:
        async with self._connections(callers) as connections:
            yield [_transaction(one) for one in connections]

    @asynccontextmanager
    async def statements(self, callers: int) -> AsyncIterator[list[Ask]]:
        async with self._connections(1) as connections:
            batcher = _Batcher(_transaction_of_many(connections[0]))
            yield [batcher.ask] * callers
            await batcher.idle()

    @asynccontextmanager
    async def _ledgers(self, count: int) -> AsyncIterator[list[PostgresLedger]]:
        async with AsyncExitStack() as stack:
            made = []
            for name in "abcd"[:count]:
                store = await stack.enter_async_context(aclosing(PostgresLedger(self._url)))
                await store.start(name, f"bench/{name}", NOW_US, LEASE_S)
                made.append(store)
            yield made

    @asynccontextmanager
    async def reserve(self, callers: int) -> AsyncIterator[list[Ask]]:
        async with self._ledgers(1) as ledgers:
            yield [_reserving(ledgers[0])] * callers

    @asynccontextmanager
    async def reserve_x4(self, callers: int) -> AsyncIterator[list[Ask]]:
        async with self._ledgers(4) as ledgers:
            asks = [_reserving(one) for one in ledgers]
            yield [asks[number % 4] for number in range(callers)]

    @asynccontextmanager
    async def open(self, callers: int) -> AsyncIterator[list[Ask]]:
        async with self._ledgers(1) as ledgers:
            yield [_opening(ledgers[0])] * callers

    def _checked(self, ask: Ask) -> Ask:
        assert self._redis is not None
        script = self._redis.register_script(_LUA)

        async def checked(name: str) -> None:
            ok, _ = await script(keys=["budget:hot"], args=[CAP, AMOUNT])
            if not ok:
                raise RuntimeError("the budget is spent")
            await ask(name)

        return checked

    @asynccontextmanager
    async def redis_insert(self, callers: int) -> AsyncIterator[list[Ask]]:
        async with self.insert(callers) as asks:
            yield [self._checked(ask) for ask in asks]

    @asynccontextmanager
    async def redis_open(self, callers: int) -> AsyncIterator[list[Ask]]:
        async with self.open(callers) as asks:
            yield [self._checked(ask) for ask in asks]


def _one(name: str, is_held: bool = True) -> OpenedGeneration:
    return opened(name, [BUDGET] if is_held else ())


def _inserting(prepared: Any) -> Ask:
    return lambda name: prepared.fetch([name])


def _transaction(connection: Any) -> Ask:
    async def ask(name: str) -> None:
        await _write_transaction(connection, [name])

    return ask


async def _write_transaction(connection: Any, names: list[str]) -> None:
    """What a client does that decides itself: five round trips."""
    async with connection.transaction():
        row = await connection.fetchrow(_LOCK)
        amount = AMOUNT * len(names)
        if row[0] + row[1] + amount > CAP:
            raise RuntimeError("the budget is spent")
        await connection.execute(_RAISE, amount)
        await connection.execute(_INSERT, names)


def _transaction_of_many(connection: Any) -> Callable[[list[str]], Awaitable[None]]:
    return lambda names: _write_transaction(connection, names)


def _reserving(ledger: PostgresLedger) -> Ask:
    amounts = (2 * AMOUNT, AMOUNT)
    return lambda name: ledger.reserve(_one(name), amounts)


def _opening(ledger: PostgresLedger) -> Ask:
    return lambda name: ledger.committed(ledger.open(_one(name, is_held=False)))


class _Batcher:
    """All that wait at once, in one call."""

    def __init__(self, write: Callable[[list[str]], Awaitable[None]]) -> None:
        self._write = write
        self._waiting: list[tuple[str, asyncio.Future[None]]] = []
        self._task: asyncio.Task[None] | None = None

    async def ask(self, name: str) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((name, future))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())
        await future

    async def _run(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            await self._write([name for name, _ in batch])
            for _, future in batch:
                future.set_result(None)

    async def idle(self) -> None:
        if self._task is not None:
            await self._task


_numbers = itertools.count()


async def _load(asks: list[Ask], window_s: float, histogram: Histogram) -> float:
    """Requests a second of callers that ask without a pause; the first tenth is not counted."""
    began_s = time.perf_counter()
    counted_from_s = began_s + window_s / 10
    until_s = counted_from_s + window_s
    done = 0

    async def caller(ask: Ask) -> None:
        nonlocal done
        while (asked_s := time.perf_counter()) < until_s:
            await ask(f"gen_{next(_numbers)}")
            now_s = time.perf_counter()
            if asked_s >= counted_from_s:
                histogram.add((now_s - asked_s) * 1e6)
                done += now_s < until_s

    await asyncio.gather(*(caller(ask) for ask in asks))
    return done / window_s


async def _measure(
    server: PostgresServer, redis: RedisServer | None, window_s: float, rounds: int
) -> CaseResult:
    url = server.create_database("bench")
    await asyncio.to_thread(make_ready, url)
    server.execute(_BUDGET, "bench")
    client = Redis.from_url(redis.url()) if redis is not None else None
    arms = Arms(url, client).named()
    result = CaseResult(axes={"callers": list(CALLERS), "rounds": rounds, "window_s": window_s})
    rates: dict[str, list[float]] = {}
    for callers in CALLERS:
        for turn in range(rounds):
            names = list(arms)
            for name in names[turn:] + names[:turn]:
                row = f"{name}/{callers}"
                histogram = result.histograms.setdefault(row, Histogram(COARSE))
                # Small tables in each turn, or the later ones would pay for the earlier.
                server.execute("TRUNCATE generations", "bench")
                server.execute("CHECKPOINT", "bench")
                async with arms[name](callers) as asks:
                    await _warm(asks)
                    rates.setdefault(row, []).append(await _load(asks, window_s, histogram))
    for row, found in rates.items():
        name, _, callers_text = row.partition("/")
        histogram = result.histograms[row]
        bare = result.histograms[f"insert/{callers_text}"]
        p50_us = histogram.quantile(0.5)
        result.rows[row] = {
            "p50_ms": p50_us / 1e3,
            "p99_ms": histogram.quantile(0.99) / 1e3,
            "per_s": sorted(found)[len(found) // 2],
            "p50_over_insert": p50_us / bare.quantile(0.5),
        }
    result.rows = {
        f"{name}/{callers}": result.rows[f"{name}/{callers}"]
        for callers in CALLERS
        for name in arms
    }
    if client is None:
        result.notes.append("redis-server is not installed: its arms are left out")
    else:
        await client.aclose()
    return result


async def _warm(asks: list[Ask]) -> None:
    for _ in range(10):  # plans are settled after a few calls
        await asyncio.gather(*(ask(f"gen_{next(_numbers)}") for ask in asks))


def run(rig: Rig) -> CaseResult:
    """Every arm at 1, 16 and 64 callers."""
    if postgres_bin() is None:
        return CaseResult(axes={}, notes=["PostgreSQL is not installed: nothing was measured"])
    window_s, rounds = (0.5, 1) if rig.options.is_quick else (1.5, 5)
    server = PostgresServer.create()
    redis = RedisServer() if shutil.which("redis-server") else None
    try:
        server.start()
        server.create_role()
        if redis is not None:
            redis.start()
        return uvloop.run(_measure(server, redis, window_s, rounds))
    finally:
        server.remove()
        if redis is not None:
            redis.remove()
