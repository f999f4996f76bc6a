"""Limits in an SQLite file that is locked, broken, full, or cannot be written."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from statistics import median

import pytest

from relay.store.limit_store import LEASE, RATE, Charge, LimitSpent
from relay.store.shared_limits import SharedLimits
from relay.store.sqlite_limits import SqliteBackend, limits_path
from relay.store.token_bucket import FULL_AFTER_US
from tests.store.limit_worlds import START_US

PATIENCE_S = 0.2
CALM_S = 5.0
"""The patience of tests in which nothing is slow but the machine."""
MARGIN_S = 1.0
"""Of a busy machine, on top of one wait."""
RPM = Charge("rpm", 60, 1, RATE)
SLOT = Charge("slot", 5, 1, LEASE)


@asynccontextmanager
async def limits_in(
    directory: Path, instance_id: str = "me", patience_s: float = CALM_S
) -> AsyncIterator[SharedLimits]:
    backend = SqliteBackend(directory / "relay.db", instance_id=instance_id, patience_s=patience_s)
    limits = SharedLimits(backend, patience_s=patience_s, probe_s=0.05)
    await limits.start()
    try:
        yield limits
    finally:
        await limits.aclose()


async def take(limits: SharedLimits, *charges: Charge) -> float:
    """Returns: how long it took, seconds."""
    began_s = time.perf_counter()
    await limits.take(charges or (RPM, SLOT), START_US)
    return time.perf_counter() - began_s


async def until_up(limits: SharedLimits) -> None:
    async with asyncio.timeout(10.0):
        while limits.describe()["is_down"]:
            await asyncio.sleep(0.01)


def rows(directory: Path, table: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(limits_path(directory / "relay.db"))) as connection:
        order = {"leases": "SELECT * FROM leases", "rate_levels": "SELECT * FROM rate_levels"}
        return connection.execute(order[table]).fetchall()


def test_the_file_is_beside_the_accounts(tmp_path: Path) -> None:
    assert limits_path(tmp_path / "relay.db") == tmp_path / "relay.db-limits"


async def test_the_accounts_file_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "relay.db").write_bytes(b"accounts")
    async with limits_in(tmp_path) as limits:
        await take(limits)
    assert (tmp_path / "relay.db").read_bytes() == b"accounts"


async def test_levels_outlive_the_workers_and_leases_do_not(tmp_path: Path) -> None:
    async with limits_in(tmp_path) as limits:
        await take(limits, Charge("rpm", 60, 60, RATE), SLOT)
    assert rows(tmp_path, "leases") == []
    async with limits_in(tmp_path) as limits:
        with pytest.raises(LimitSpent):
            await take(limits, Charge("rpm", 60, 60, RATE))


async def test_locked_for_longer_than_the_patience(tmp_path: Path) -> None:
    async with limits_in(tmp_path, patience_s=PATIENCE_S) as limits:
        await take(limits)
        with closing(
            sqlite3.connect(limits_path(tmp_path / "relay.db"), isolation_level=None)
        ) as other:
            other.execute("BEGIN IMMEDIATE")
            assert await take(limits) < PATIENCE_S + MARGIN_S
            more_s = []
            for _ in range(5):
                more_s.append(await take(limits, RPM))
                await asyncio.sleep(0.05)
            assert median(more_s) < PATIENCE_S / 2
            assert limits.describe()["is_down"]
            other.execute("ROLLBACK")
        await until_up(limits)
        await take(limits)
        assert [row[2] for row in rows(tmp_path, "leases") if row[0] == "slot"] == [3]


async def test_a_file_that_is_broken_is_made_anew_and_leases_are_told_again(
    tmp_path: Path,
) -> None:
    path = limits_path(tmp_path / "relay.db")
    path.write_bytes(b"this is no database, and longer than the head of one" * 100)
    async with limits_in(tmp_path) as limits:
        assert limits.times_down == 0
        await take(limits)
        assert [row[2] for row in rows(tmp_path, "leases") if row[0] == "slot"] == [1]


async def test_broken_under_two_workers_they_still_share_it(tmp_path: Path) -> None:
    path = limits_path(tmp_path / "relay.db")
    async with limits_in(tmp_path, "one") as one, limits_in(tmp_path, "two") as two:
        for limits in (one, two):
            await take(limits)
        path.with_name(path.name + "-wal").unlink()
        path.write_bytes(b"x" * 8192)
        for limits in (one, two):
            limits._backend._disconnect()  # type: ignore[attr-defined]
        for limits in (one, two):
            await take(limits)
            await until_up(limits)
        await asyncio.sleep(0.05)
        held = {row[1]: row[2] for row in rows(tmp_path, "leases") if row[0] == "slot"}
        assert held == {"one": 2, "two": 2}


async def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    async with limits_in(tmp_path / "missing") as limits:
        assert await take(limits) < MARGIN_S
        assert limits.describe()["is_down"]
        (tmp_path / "missing").mkdir()
        await until_up(limits)
        assert [row[2] for row in rows(tmp_path / "missing", "leases") if row[0] == "slot"] == [1]


async def test_a_full_disk_refuses_nobody(tmp_path: Path) -> None:
    async with limits_in(tmp_path) as limits:
        await take(limits)
        connection = limits._backend._connection  # type: ignore[attr-defined]
        connection.execute("PRAGMA max_page_count = 1")  # no page more than there are
        charges = [Charge(f"{i:0150d}", 60, 1, RATE) for i in range(100)]
        assert await take(limits, *charges) < MARGIN_S
        assert limits.times_down == 1
        await until_up(limits)  # it connects anew, and the bound is one of a connection
        await take(limits)


async def test_what_says_nothing_any_more_is_dropped(tmp_path: Path) -> None:
    now_us = START_US
    backend = SqliteBackend(
        tmp_path / "relay.db", instance_id="me", lease_s=15.0, now_us=lambda: now_us
    )
    limits = SharedLimits(backend, patience_s=CALM_S)
    await limits.start()
    try:
        await take(limits, *(Charge(f"old{i}", 60, 1, RATE) for i in range(10)))
        now_us += FULL_AFTER_US + 1
        limits._renew()
        await take(limits)
        await take(limits)
        assert {row[0] for row in rows(tmp_path, "rate_levels")} == {"rpm"}
    finally:
        await limits.aclose()


async def test_the_file_is_its_owners_whatever_the_umask_says(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        async with limits_in(tmp_path) as limits:
            await take(limits)
            modes = {one.name: one.stat().st_mode & 0o777 for one in tmp_path.iterdir()}
    finally:
        os.umask(before)
    assert modes
    assert set(modes.values()) == {0o600}, modes
