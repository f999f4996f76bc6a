"""A worker that writes accounts until it is killed, and says what it was told is committed.

    python -m tests.store.crash_child FILE RUN [--generations N] [--die-at N]

Lines of standard output, each written at once: `ready`; `R ID MICRO` a reservation is committed;
`A ID` an attempt is; `S ID MICRO` an end is, and the client has it; `end`.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

from relay.store import sqlite_file
from relay.store.base import StoreUnavailable
from relay.store.sqlite_ledger import SqliteLedger
from relay.store.sqlite_writer import Settings
from tests.store.accounts import ENDED, NOW_US, STARTED, hold, opened, settled

CALLERS = 4
HOLDS = (hold(10**9, "bud_key"), hold(None, "bud_team", 86_400))


def say(line: str) -> None:
    os.write(1, f"{line}\n".encode())


class Mortal(sqlite3.Connection):
    """Kills the process before the statement whose turn it is."""

    statements: Iterator[int]
    die_at: int

    def _count(self) -> None:
        if next(self.statements) == self.die_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def execute(self, *what: Any) -> Any:
        self._count()
        return super().execute(*what)

    def cursor(self, factory: Any = None) -> Any:
        return super().cursor(MortalCursor)


class MortalCursor(sqlite3.Cursor):
    def execute(self, *what: Any) -> Any:
        self.connection._count()  # type: ignore[attr-defined]
        return super().execute(*what)

    def executemany(self, *what: Any) -> Any:
        self.connection._count()  # type: ignore[attr-defined]
        return super().executemany(*what)


def mortal(die_at: int) -> Any:
    """As `sqlite_file.connect`, of all connections together."""
    statements = count(1)

    def connect(path: Path, **how: Any) -> sqlite3.Connection:
        connection = sqlite3.connect(
            path, isolation_level=None, timeout=how["busy_s"], check_same_thread=False,
            factory=Mortal,
        )  # fmt: skip
        connection.statements, connection.die_at = statements, die_at
        sqlite_file.prepare(connection, how["durability"])
        return connection

    return connect


async def call(ledger: SqliteLedger, name: str, rng: random.Random) -> None:
    """One generation: now and then it is cancelled, fails, or costs more than was thought."""
    one = opened(name, *HOLDS, instance_id=f"inst_{name.partition('_')[0]}")
    amount = rng.randrange(100, 600)
    reserved = await ledger.reserve(one, (amount,))
    say(f"R {one.id} {reserved}")
    ordinals = range(rng.choice((1, 1, 2)))
    for ordinal in ordinals:
        await ledger.committed(ledger.attempt(one.id, replace(STARTED, ordinal=ordinal)))
    say(f"A {one.id}")
    await asyncio.sleep(rng.random() * 0.004)
    micro = rng.choice((0, rng.randrange(700)))
    end = replace(
        settled(name, micro, state="settled" if micro else "void"),
        attempts=tuple(replace(ENDED, ordinal=ordinal, cost_micro=micro) for ordinal in ordinals),
    )
    await ledger.committed(ledger.settle(end, one.holds))
    say(f"S {one.id} {end.settled_micro}")


async def run(path: Path, number: int, generations: int, die_at: int) -> None:
    settings = Settings(path, connect=mortal(die_at)) if die_at else Settings(path)
    ledger = SqliteLedger(path, settings=settings)
    await ledger.start(f"inst_{number}", "host 0", NOW_US, 60.0)
    say("ready")
    rng = random.Random(number)
    names = count()

    async def caller() -> None:
        while (n := next(names)) < generations:
            try:
                await call(ledger, f"{number}_{n}", rng)
            except StoreUnavailable as error:
                say(f"refused {error}")

    await asyncio.gather(*(caller() for _ in range(CALLERS)))
    await ledger.aclose()
    say("end")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("file", type=Path)
    parser.add_argument("run", type=int)
    parser.add_argument("--generations", type=int, default=10**9)
    parser.add_argument("--die-at", type=int, default=0)
    given = parser.parse_args()
    asyncio.run(run(given.file, given.run, given.generations, given.die_at))


if __name__ == "__main__":
    main()
