"""What an admission by limits costs: four scopes, of each requests, input and output tokens.

    python -m bench.micro.limits [--redis redis://127.0.0.1:6379/9]

Medians in microseconds, one admission after the other; of a place that is shared also the CPU of
this process, beside a bare `PING` over the same library and a bare transaction of one row in a file
of its own. Redis must be given and be nobody else's: keys of limits are written there.
"""

from __future__ import annotations

import argparse
import asyncio
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path

import uvloop
from redis.asyncio import Redis

from relay.governance.charges import ChargeBook, Payer
from relay.governance.limits import KeyLimits, Limits
from relay.store.limit_store import LimitStore
from relay.store.memory_limits import MemoryLimits
from relay.store.redis_limits import RedisBackend
from relay.store.shared_limits import SharedLimits
from relay.store.sqlite_limits import SqliteBackend

_WIDE = Limits(rpm=10**8, input_tpm=10**9, output_tpm=10**9)
_LIMITS = KeyLimits(_WIDE, _WIDE, _WIDE)
_PAYER = Payer("key_x", "team_x", "org_x", _LIMITS)
ROUNDS = 4000
AT_ONCE = 64


def _book() -> ChargeBook:
    return ChargeBook(models={"fast": _WIDE})


def _show(name: str, values_ns: list[int], cpu_s: float | None = None) -> float:
    median_us = statistics.median(values_ns) / 1000
    cpu = "" if cpu_s is None else f"   cpu {cpu_s / len(values_ns) * 1e6:7.1f}"
    print(f"{name:34} {median_us:8.1f}{cpu}")
    return median_us


def in_memory() -> None:
    """Everything that an admission calls on one worker."""
    book, store = _book(), MemoryLimits()
    now_us = time.time_ns() // 1000
    took_ns: list[int] = []
    made_ns: list[int] = []
    for _ in range(5 * ROUNDS):
        now_us += 100
        began_ns = time.perf_counter_ns()
        charges = book.of_generation(_PAYER, "fast", 120, 60).all
        made_ns.append(time.perf_counter_ns() - began_ns)
        began_ns = time.perf_counter_ns()
        store.take_nowait(charges, now_us)
        took_ns.append(time.perf_counter_ns() - began_ns)
    assert len(charges) == 12
    _show("charges of a generation", made_ns)
    _show("in memory, take", took_ns)


async def _each(act: Callable[[], Awaitable[object]]) -> tuple[list[int], float]:
    for _ in range(100):
        await act()
    values_ns: list[int] = []
    cpu_s = time.process_time()
    for _ in range(ROUNDS):
        began_ns = time.perf_counter_ns()
        await act()
        values_ns.append(time.perf_counter_ns() - began_ns)
    return values_ns, time.process_time() - cpu_s


async def _shared(name: str, limits: LimitStore) -> float:
    charges = _book().of_generation(_PAYER, "fast", 120, 60).all
    await limits.start()
    try:
        median_us = _show(f"{name}, take", *await _each(lambda: limits.take(charges, 0)))
        cpu_s = time.process_time()
        began_s = time.perf_counter()
        rounds = ROUNDS // AT_ONCE
        for _ in range(rounds):
            await asyncio.gather(*(limits.take(charges, 0) for _ in range(AT_ONCE)))
        each = rounds * AT_ONCE / 1e6
        wall_us, cpu_us = (time.perf_counter() - began_s) / each, time.process_time() - cpu_s
        print(f"{name}, {AT_ONCE} at once, each{'':6} {wall_us:8.1f}   cpu {cpu_us / each:7.1f}")
    finally:
        await limits.aclose()
    return median_us


async def _main(redis: str | None) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        with closing(sqlite3.connect(path / "bare.db", isolation_level=None)) as bare:
            bare.execute("PRAGMA journal_mode = WAL")
            bare.execute("PRAGMA synchronous = NORMAL")
            bare.execute("CREATE TABLE one (id INTEGER PRIMARY KEY, value TEXT)")

            async def insert() -> None:
                bare.execute("INSERT INTO one (value) VALUES ('x')")

            insert_us = _show("a bare insert", *await _each(insert))
        limits = SharedLimits(SqliteBackend(path / "relay.db", instance_id="bench"), patience_s=5)
        take_us = await _shared("SQLite", limits)
        print(f"SQLite, take over a bare insert    {take_us / insert_us:8.2f}")
    if redis is None:
        print("Redis: none given")
        return
    async with Redis.from_url(redis) as client:
        ping_us = _show("a bare PING", *await _each(lambda: client.ping()))
    limits = SharedLimits(RedisBackend(redis, instance_id="bench"), patience_s=5)
    take_us = await _shared("Redis", limits)
    print(f"Redis, take over a bare PING       {take_us / ping_us:8.2f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--redis", help="URL of a Redis that is nobody else's")
    options = parser.parse_args()
    in_memory()
    uvloop.run(_main(options.redis))
