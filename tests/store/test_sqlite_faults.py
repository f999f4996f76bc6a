"""SqliteLedger while its file or disk fails: who is refused, what is kept, and how it goes on."""

from __future__ import annotations

import asyncio
import multiprocessing
import resource
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from relay.store import sqlite_file
from relay.store.base import StoreUnavailable
from relay.store.sqlite_ledger import MAX_WAITING, SqliteLedger
from relay.store.sqlite_writer import Settings
from tests.store.accounts import (
    NOW_US,
    STARTED,
    assert_sums,
    hold,
    opened,
    periods,
    rows,
    settled,
)

KEY = ("bud_1", 0)
LARGE = '["' + "x" * 6000 + '"]'
"""More than a page, so that each needs a new one."""


class FailingCursor(sqlite3.Cursor):
    """Fails as a disk does whose writes fail."""

    def execute(self, statement: str, *more: Any) -> Any:
        connection = self.connection
        assert isinstance(connection, FailingConnection)
        if connection.disk.has_eio and statement.lstrip().startswith("INSERT"):
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR
            raise error
        return super().execute(statement, *more)


class FailingConnection(sqlite3.Connection):
    disk: Disk

    def cursor(self, factory: Any = FailingCursor) -> Any:
        return super().cursor(FailingCursor)


class Disk:
    """Connects as the relay does, and fails as it is told: for connections that are open and for
    those that come."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.has_eio = False
        self._pragma = ""
        self._open: list[sqlite3.Connection] = []
        self._lock: sqlite3.Connection | None = None

    def connect(self, path: Path, **how: Any) -> sqlite3.Connection:
        connection = sqlite3.connect(
            path,
            isolation_level=None,
            timeout=how["busy_s"],
            check_same_thread=False,
            factory=FailingConnection,
        )
        connection.disk = self
        sqlite_file.prepare(connection, how["durability"])
        if self._pragma:
            connection.execute(self._pragma)
        self._open.append(connection)
        return connection

    def fail(self, how: str) -> None:
        if how == "eio":
            self.has_eio = True
        elif how == "locked":
            self._lock = sqlite3.connect(self.file, isolation_level=None)
            self._lock.execute("BEGIN IMMEDIATE")
        else:
            (pages,) = rows(self.file, "PRAGMA page_count")[0]
            limit = f"PRAGMA max_page_count = {pages}"
            self._tell({"full": limit, "read-only": "PRAGMA query_only = ON"}[how])

    def mend(self) -> None:
        self.has_eio = False
        if self._lock is not None:
            self._lock.close()
            self._lock = None
        if self._pragma:
            self._tell("PRAGMA max_page_count = 1073741823")
            self._tell("PRAGMA query_only = OFF")
        self._pragma = ""

    def _tell(self, pragma: str) -> None:
        self._pragma = pragma
        for connection in self._open:
            try:
                connection.execute(pragma)
            except sqlite3.ProgrammingError:  # closed
                pass


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "relay.db"


@pytest.fixture
def disk(file: Path) -> Disk:
    return Disk(file)


@pytest.fixture
async def ledger(file: Path, disk: Disk) -> AsyncIterator[SqliteLedger]:
    settings = Settings(file, busy_s=0.05, retry_s=0.01, max_kept=50, connect=disk.connect)
    made = SqliteLedger(file, settings=settings)
    await made.start("inst_1", "host 0", NOW_US, 60.0)
    yield made
    disk.mend()
    await made.aclose()


async def works_again(ledger: SqliteLedger, name: str = "again") -> None:
    for _ in range(1000):
        try:
            await ledger.reserve(opened(name, hold(None)), (1,))
        except StoreUnavailable:
            await asyncio.sleep(0.005)
        else:
            return
    pytest.fail("it does not work again")


async def until_it_fails(ledger: SqliteLedger) -> None:
    """A disk is full once a page is needed that is not there."""
    for n in range(500):
        await ledger.reserve(opened(f"more_{n}", hold(None), tags=LARGE), (500,))


FAULTS = ["full", "read-only", "eio", "locked"]
WORDS = {
    "full": "database or disk is full",
    "read-only": "readonly",
    "eio": "disk I/O error",
    "locked": "locked",
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_calls_are_refused_and_ends_are_kept_until_it_works_again(
    ledger: SqliteLedger, file: Path, disk: Disk, fault: str
) -> None:
    under_way = [opened(n, hold(None)) for n in range(5)]
    for one in under_way:
        await ledger.reserve(one, (500,))
        await ledger.committed(ledger.attempt(one.id, STARTED))
    disk.fail(fault)
    with pytest.raises(StoreUnavailable, match=WORDS[fault]):
        await until_it_fails(ledger)
    with pytest.raises(StoreUnavailable, match=WORDS[fault]):
        ledger.open(opened("refused"))
    with pytest.raises(StoreUnavailable, match=WORDS[fault]):
        ledger.attempt("gen_0", STARTED)
    with pytest.raises(StoreUnavailable, match=WORDS[fault]):
        await ledger.reserve(opened("refused", hold()), (1,))
    with pytest.raises(StoreUnavailable, match=WORDS[fault]):
        await ledger.renew(NOW_US, 60.0)
    assert WORDS[fault] in ledger.failure
    tickets = [ledger.settle(settled(n, 70), one.holds) for n, one in enumerate(under_way)]
    with pytest.raises(StoreUnavailable, match=WORDS[fault]):
        await ledger.committed(tickets[-1])
    disk.mend()
    await works_again(ledger)
    await ledger.committed(tickets[-1])
    assert (ledger.failure, ledger.waiting) == ("", 0)
    found = dict(rows(file, "SELECT id, state FROM generations"))
    assert {found[one.id] for one in under_way} == {"settled"}
    assert "gen_refused" not in found
    assert_sums(file)


@pytest.mark.parametrize("fault", FAULTS)
async def test_it_works_again_with_nothing_to_write(
    ledger: SqliteLedger, disk: Disk, fault: str
) -> None:
    disk.fail(fault)
    with pytest.raises(StoreUnavailable):
        await until_it_fails(ledger)
    disk.mend()
    await works_again(ledger)


async def test_a_lock_that_is_given_back_in_time_is_waited_for(
    ledger: SqliteLedger, disk: Disk
) -> None:
    disk.fail("locked")
    waiting = asyncio.create_task(ledger.reserve(opened(1, hold()), (5,)))
    await asyncio.sleep(0.01)
    assert not waiting.done()
    disk.mend()
    assert await waiting == 5


async def test_what_waits_when_it_fails_is_told_at_once(
    ledger: SqliteLedger, disk: Disk, file: Path
) -> None:
    """Several that wait for one lock, of those that come in order before and after it."""
    disk.fail("locked")
    ledger.open(opened(1))
    waiting = [
        asyncio.create_task(ledger.committed(ledger.attempt("gen_1", STARTED))),
        asyncio.create_task(ledger.reserve(opened(2, hold()), (5,))),
        asyncio.create_task(ledger.committed(ledger.settle(settled(1), ()))),
    ]
    found = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(one) for one in found] == [StoreUnavailable] * 3
    disk.mend()
    await works_again(ledger)
    assert dict(rows(file, "SELECT id, state FROM generations"))["gen_1"] == "settled"


async def test_no_more_is_kept_than_has_room(ledger: SqliteLedger, disk: Disk, file: Path) -> None:
    for n in range(60):
        await ledger.reserve(opened(n, hold(None)), (500,))
    disk.fail("locked")
    tickets = [ledger.settle(settled(n), ()) for n in range(60)]
    with pytest.raises(StoreUnavailable):
        await ledger.committed(tickets[0])
    tickets += [ledger.settle(settled("none"), ()) for n in range(20)]
    await asyncio.sleep(0.05)
    disk.mend()
    await works_again(ledger)
    for ticket in tickets[:50]:
        await ledger.committed(ticket)
    found = dict(rows(file, "SELECT id, state FROM generations"))
    assert {found[f"gen_{n}"] for n in range(50)} == {"settled"}
    for ticket in tickets[60:]:
        with pytest.raises(StoreUnavailable, match="too much is waiting"):
            await ledger.committed(ticket)
    assert 20 <= ledger.operations_lost <= 30
    assert await ledger.sweep(NOW_US + 10**9, 500) >= 1  # what was given up is settled by it
    assert_sums(file)


async def test_more_than_can_wait_is_refused(ledger: SqliteLedger, disk: Disk) -> None:
    for n in range(MAX_WAITING + 1):
        ledger.open(opened(n))
    with pytest.raises(StoreUnavailable, match="too much is waiting"):
        ledger.open(opened("more"))
    with pytest.raises(StoreUnavailable, match="too much is waiting"):
        await ledger.reserve(opened("more", hold()), (1,))
    await ledger.committed(ledger.settle(settled("none"), ()))
    ledger.open(opened("more"))


async def test_one_that_cannot_be_written_does_not_hold_up_what_is_kept(
    ledger: SqliteLedger, disk: Disk, file: Path
) -> None:
    await ledger.reserve(opened(1, hold(None)), (500,))
    await ledger.reserve(opened(2, hold(None)), (500,))
    disk.fail("locked")
    bad, good = ledger.settle(settled(1, 2**64), ()), ledger.settle(settled(2), ())
    with pytest.raises(StoreUnavailable, match="locked"):
        await ledger.committed(good)
    disk.mend()
    await works_again(ledger)
    await ledger.committed(good)
    with pytest.raises(StoreUnavailable, match="OverflowError"):
        await ledger.committed(bad)
    assert_sums(file)


async def test_it_is_closed_in_time_though_it_fails(
    ledger: SqliteLedger, disk: Disk, file: Path
) -> None:
    await ledger.reserve(opened(1, hold()), (500,))
    disk.fail("locked")
    ledger.settle(settled(1), ())
    waiting = asyncio.create_task(ledger.reserve(opened(2, hold()), (1,)))
    await asyncio.sleep(0)
    async with asyncio.timeout(5.0):
        await ledger.aclose()
    with pytest.raises(StoreUnavailable):
        await waiting
    disk.mend()
    successor = SqliteLedger(file)
    await successor.start("inst_2", "host 0", NOW_US, 60.0)
    assert await successor.sweep(NOW_US, 10) == 1
    assert periods(file) == {}
    await successor.aclose()


async def test_a_file_that_was_put_in_its_place_is_taken_up(
    ledger: SqliteLedger, file: Path
) -> None:
    await ledger.reserve(opened(1, hold()), (500,))
    writer = ledger._writer
    assert writer is not None
    with (
        closing(sqlite3.connect(file)) as source,
        closing(sqlite3.connect(file.with_name("copy.db"))) as copy,
    ):
        source.backup(copy)
    for one in file.parent.glob("relay.db*"):
        one.unlink()
    file.with_name("copy.db").rename(file)
    while writer._unmoved:  # which is when it looks
        await asyncio.sleep(0.01)
    await works_again(ledger)
    assert {row[0] for row in rows(file, "SELECT id FROM generations")} == {"gen_1", "gen_again"}


# --- a file system that takes no more -----------------------------------------------------------


def _on_a_small_disk(file: Path, results: Any) -> None:
    async def run() -> list[str]:
        settings = Settings(file, retry_s=0.01)
        ledger = SqliteLedger(file, settings=settings)
        await ledger.start("inst_1", "host 0", NOW_US, 60.0)
        for n in range(3):
            await ledger.reserve(opened(n, hold(None)), (500,))
        largest = max(one.stat().st_size for one in file.parent.iterdir())
        said = []
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest + 50_000, resource.RLIM_INFINITY))
        try:
            await until_it_fails(ledger)
        except StoreUnavailable as error:
            said.append(str(error))
        ticket = ledger.settle(settled(0), ())
        try:
            await ledger.committed(ticket)
        except StoreUnavailable as error:
            said.append(str(error))
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        await works_again(ledger)
        await ledger.committed(ticket)
        await ledger.aclose()
        return said

    results.put(asyncio.run(run()))


def test_a_file_system_that_is_full(file: Path) -> None:
    """By a limit of the process on the size of files: writes fail in the kernel."""
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    child = context.Process(target=_on_a_small_disk, args=(file, results))
    child.start()
    said = results.get(timeout=30)
    child.join(20)
    assert child.exitcode == 0
    assert len(said) == 2
    assert dict(rows(file, "SELECT id, state FROM generations"))["gen_0"] == "settled"
    assert_sums(file)
