"""CPU of one request's accounts in SQLite, beside a bare insert into a WAL on the same disk.

    python -m bench.micro.ledger [--directory DIR] [--durability power]

A request is what the relay does for one: reserve in three budgets and wait; note an attempt; wait
until that is committed (before the first token); settle with one attempt, and wait. CPU is user and
system of all threads, less what the same coroutines cost over a store that does nothing. Between
its steps a request waits for its provider (`think_ms`), as in life; with 0 it is the worst case.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import uvloop

from relay.store.base import (
    ClosedAttempt,
    Hold,
    LedgerStore,
    OpenedAttempt,
    OpenedGeneration,
    SettledGeneration,
)
from relay.store.sqlite_file import Durability, connect
from relay.store.sqlite_ledger import SqliteLedger

CONCURRENT = (1, 16, 64)
HOLDS = tuple(Hold(f"bud_{name}", 0, 10**15) for name in ("key", "team", "organisation"))
_PHASES = '{"admitted_us":12,"planned_us":80,"asked_us":190,"first_us":301245,"ended_us":1204511}'


class NullStore:
    """Of what the coroutines themselves cost."""

    notes_first = True

    async def reserve(self, opened: OpenedGeneration, amounts: tuple[int, ...]) -> int:
        return amounts[0]

    def attempt(self, generation_id: str, opened: OpenedAttempt) -> int:
        return 0

    def settle(self, settled: SettledGeneration, holds: tuple[Hold, ...]) -> int:
        return 0

    async def committed(self, ticket: int) -> None:
        return


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one request, microseconds; of the reservation, how long it was waited for."""

    cpu_us: float
    wall_us: float
    reserve_p50_us: float
    reserve_p99_us: float


def opened(number: int) -> OpenedGeneration:
    """As the relay opens one."""
    return OpenedGeneration(
        f"gen_{number * 2654435761 % 2**32:08x}{number:08x}",
        "inst_1",
        "org_1",
        "team_1",
        "key_0123456789abcdef",
        "fast",
        "chat_completions",
        '["prod","voice"]',
        '{"call":"c-4711"}',
        "session-0123456789abcdef",
        "turn-12",
        "4bf92f3577b34da6a3ce929d0e0e4736",
        1_780_000_000_000_000 + number,
        1_780_000_900_000_000 + number,
        HOLDS,
    )


def closed(generation_id: str) -> SettledGeneration:
    """As the relay closes one."""
    attempt = ClosedAttempt(
        0,
        "actual",
        "openai",
        "gpt-4o-mini-2024-07-18",
        "primary",
        "won",
        "",
        200,
        True,
        130,
        1_204_511,
        1432,
        1024,
        0,
        178,
        0,
        "genai-prices 0.2.7",
        245,
        4100,
        _PHASES,
    )
    return SettledGeneration(
        generation_id,
        "settled",
        245,
        1_780_000_001_204_511,
        "",
        "openai",
        "gpt-4o-mini-2024-07-18",
        True,
        301_245,
        1_204_511,
        _PHASES,
        (attempt,),
    )


START = OpenedAttempt(0, "openai", "gpt-4o-mini-2024-07-18", "primary", 130, 4100)


async def request(
    store: LedgerStore | NullStore, number: int, think_s: float, waited_s: list[float]
) -> None:
    """One request's accounts."""
    generation = opened(number)
    began_s = time.perf_counter()
    await store.reserve(generation, (4100, 2000))
    waited_s.append(time.perf_counter() - began_s)
    ticket = store.attempt(generation.id, START)
    await asyncio.sleep(think_s)
    await store.committed(ticket)
    await store.committed(store.settle(closed(generation.id), HOLDS))


async def load(
    store: LedgerStore | NullStore, concurrent: int, requests: int, think_s: float, first: int
) -> Figures:
    """So many at once, each as soon as the one before it is over."""
    waited_s: list[float] = []

    async def caller(number: int) -> None:
        for position in range(requests // concurrent):
            await request(store, first + position * concurrent + number, think_s, waited_s)

    began_s, cpu_s = time.perf_counter(), time.process_time()
    async with asyncio.TaskGroup() as group:
        for number in range(concurrent):
            group.create_task(caller(number))
    cpu_s, wall_s = time.process_time() - cpu_s, time.perf_counter() - began_s
    waited_s.sort()
    return Figures(
        cpu_s / requests * 1e6,
        wall_s / requests * 1e6,
        statistics.median(waited_s) * 1e6,
        waited_s[len(waited_s) * 99 // 100] * 1e6,
    )


def bare_insert_us(
    directory: Path, durability: Durability, rows: int = 2000, pause_s: float = 0.0
) -> float:
    """CPU of one row put into a table in WAL mode, a transaction each, by the standard library;
    after a pause it meets caches that others have used and a core that sleeps, as the relay does
    with one caller."""
    with closing(connect(directory / "bare.db", durability=durability, create=True)) as database:
        database.execute("CREATE TABLE IF NOT EXISTS bare (id TEXT PRIMARY KEY, words TEXT)")
        words = "w" * 400
        cpu_s = 0.0
        for number in range(rows):
            key = f"{number * 2654435761 % 2**32:08x}"
            if pause_s:
                time.sleep(pause_s)
            began_s = time.process_time()
            database.execute("INSERT OR REPLACE INTO bare VALUES (?, ?)", (key, words))
            cpu_s += time.process_time() - began_s
    return cpu_s / rows * 1e6


async def _measure(
    directory: Path, durability: Durability, requests: int, think_s: float, rounds: int
) -> dict[str, Figures]:
    found: dict[str, Figures] = {}
    store = SqliteLedger(directory / "relay.db", durability)
    await store.start("inst_1", "bench", 1_780_000_000_000_000, 3600.0)
    first = round(think_s * 1e9) + 1  # ids that no other measurement has used
    try:
        for concurrent in CONCURRENT:
            best: list[Figures] = []
            for _ in range(rounds):
                idle = await load(NullStore(), concurrent, requests, think_s, first)
                busy = await load(store, concurrent, requests, think_s, first)
                first += requests
                best.append(
                    Figures(
                        busy.cpu_us - idle.cpu_us,
                        busy.wall_us,
                        busy.reserve_p50_us,
                        busy.reserve_p99_us,
                    )
                )
            found[str(concurrent)] = min(best, key=lambda one: one.cpu_us)
    finally:
        await store.aclose()
    return found


def measure(
    directory: Path,
    durability: Durability = "process",
    *,
    requests: int = 1920,
    think_ms: float = 20.0,
    rounds: int = 3,
) -> dict[str, Figures]:
    """By how many are under way at once, the best of so many rounds."""
    return uvloop.run(_measure(directory, durability, requests, think_ms / 1e3, rounds))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--directory", type=Path, help="on the disk in question")
    parser.add_argument("--durability", choices=["process", "power"], default="process")
    parser.add_argument("--requests", type=int, default=1920)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    shown: dict[str, object] = {}
    with tempfile.TemporaryDirectory(dir=arguments.directory) as name:
        directory = Path(name)
        for think_ms in (0.0, 20.0):
            bare_us = bare_insert_us(
                directory, arguments.durability, 200 if think_ms else 2000, think_ms / 1e3
            )
            shown[f"bare_insert@{think_ms:g}ms"] = round(bare_us, 1)
            if not arguments.json:
                print(f"a bare insert into a WAL every {think_ms:g} ms: {bare_us:.1f} us of CPU")
            figures = measure(
                directory,
                arguments.durability,
                requests=arguments.requests if think_ms == 0 else arguments.requests // 3,
                think_ms=think_ms,
                rounds=arguments.rounds,
            )
            for concurrent, one in figures.items():
                shown[f"{concurrent}@{think_ms:g}ms"] = {
                    "cpu_us": round(one.cpu_us, 1),
                    "reserve_p50_us": round(one.reserve_p50_us, 1),
                    "reserve_p99_us": round(one.reserve_p99_us, 1),
                }
                if not arguments.json:
                    print(
                        f"{concurrent:>3} at once, provider {think_ms:>4.0f} ms:"
                        f" {one.cpu_us:6.1f} us of CPU a request,"
                        f" {one.cpu_us / bare_us:4.1f} x a bare insert;"
                        f" reserve p50 {one.reserve_p50_us:6.0f} p99 {one.reserve_p99_us:6.0f} us"
                    )
    if arguments.json:
        print(json.dumps(shown))


if __name__ == "__main__":
    main()
