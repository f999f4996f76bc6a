"""Generations and attempts to write, and what a SQLite file says of them afterwards."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson

from relay.store.base import (
    ClosedAttempt,
    Hold,
    OpenedAttempt,
    OpenedGeneration,
    SettledGeneration,
)

NOW_US = 1_780_000_000_000_000
LEASE_US = 60_000_000

OPENED = OpenedGeneration(
    "gen_0",
    "inst_1",
    "org_1",
    "team_1",
    "key_1",
    "fast",
    "chat",
    "[]",
    "{}",
    "",
    "",
    "",
    NOW_US,
    NOW_US + LEASE_US,
    (),
)
STARTED = OpenedAttempt(0, "openai", "m", "primary", 100, 500)
ENDED = ClosedAttempt(
    0, "actual", "openai", "m", "primary", "won", "", 200, True, 100, 900, 10, 0, 0, 5, 0, "p 1",
    70, 500, "{}",
)  # fmt: skip
SETTLED = SettledGeneration(
    "gen_0", "settled", 70, NOW_US + 900, "", "openai", "m", True, 300, 900, "{}", (ENDED,)
)


def hold(cap_micro: int | None = 1000, budget_id: str = "bud_1", start_s: int = 0) -> Hold:
    """One budget in one period."""
    return Hold(budget_id, start_s, cap_micro)


def opened(number: int | str, *holds: Hold, **more: Any) -> OpenedGeneration:
    """A generation that begins."""
    return replace(OPENED, id=f"gen_{number}", holds=holds, **more)


def settled(number: int | str, micro: int = 70, **more: Any) -> SettledGeneration:
    """A generation that ends, with one attempt of that cost; without one where it is void."""
    state = more.get("state", "settled")
    attempts = () if state == "void" else (replace(ENDED, cost_micro=micro),)
    return replace(SETTLED, id=f"gen_{number}", settled_micro=micro, attempts=attempts, **more)


def rows(path: Path, statement: str, *values: object) -> list[tuple[Any, ...]]:
    """What the file answers."""
    with closing(sqlite3.connect(path)) as database:
        return database.execute(statement, values).fetchall()


def periods(path: Path) -> dict[tuple[str, int], tuple[int, int, int]]:
    """Settled, reserved and overrun of every budget in every period."""
    found = rows(
        path,
        "SELECT budget_id, period_start_s, settled_micro, reserved_micro, overrun_micro"
        " FROM budget_periods",
    )
    return {(row[0], row[1]): row[2:] for row in found if row[2:] != (0, 0, 0)}


def summed(generations: Iterable[tuple[Any, ...]]) -> dict[tuple[str, int], tuple[int, int, int]]:
    """What `periods` must say by generations: their state, holds, reserved and settled."""
    totals: dict[tuple[str, int], list[int]] = defaultdict(lambda: [0, 0, 0])
    for state, holds, reserved, spent in generations:
        for budget_id, start_s in orjson.loads(holds):
            one = totals[budget_id, start_s]
            if state == "open":
                one[1] += reserved
            else:
                one[0] += spent
                one[2] += max(0, spent - reserved)
    return {key: (one[0], one[1], one[2]) for key, one in totals.items() if any(one)}


def assert_sums(path: Path) -> None:
    """That the counters are the sums over the generations, and the file is sound."""
    found = rows(path, "SELECT state, holds, reserved_micro, settled_micro FROM generations")
    assert periods(path) == summed(found)
    assert rows(path, "PRAGMA integrity_check") == [("ok",)]
