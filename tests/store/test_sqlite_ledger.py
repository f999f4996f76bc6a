"""SqliteLedger: what is written, in which order, and by how many processes."""

from __future__ import annotations

import asyncio
import multiprocessing
import random
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from relay.store import learned, sqlite_writer
from relay.store.base import BudgetSpent, StoreUnavailable
from relay.store.revisions import SchemaError
from relay.store.sqlite_file import DamagedFile
from relay.store.sqlite_ledger import SWEEP_ROWS, SqliteLedger
from tests.store.accounts import (
    LEASE_US,
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


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "relay.db"


async def begun(file: Path, instance_id: str = "inst_1", place: str = "host 0") -> SqliteLedger:
    ledger = SqliteLedger(file)
    await ledger.start(instance_id, place, NOW_US, 60.0)
    return ledger


@pytest.fixture
async def ledger(file: Path) -> AsyncIterator[SqliteLedger]:
    made = await begun(file)
    yield made
    await made.aclose()


def states(file: Path) -> dict[str, str]:
    return dict(rows(file, "SELECT id, state FROM generations"))


# --- one generation -----------------------------------------------------------------------------


async def test_a_generation_from_its_reservation_to_its_account(
    ledger: SqliteLedger, file: Path
) -> None:
    one = opened(1, hold(), hold(None, "bud_2", 86_400))
    assert await ledger.reserve(one, (500,)) == 500
    assert periods(file) == {KEY: (0, 500, 0), ("bud_2", 86_400): (0, 500, 0)}
    await ledger.committed(ledger.attempt(one.id, STARTED))
    assert rows(file, "SELECT state, upper_micro, cost_micro FROM attempts") == [
        ("open", 500, None)
    ]
    await ledger.committed(ledger.settle(settled(1, 70), one.holds))
    assert periods(file) == {KEY: (70, 0, 0), ("bud_2", 86_400): (70, 0, 0)}
    assert rows(
        file,
        "SELECT state, settled_micro, provider, is_usage_final, ttft_us, holds FROM generations",
    ) == [("settled", 70, "openai", 1, 300, '[["bud_1",0],["bud_2",86400]]')]
    assert rows(file, "SELECT state, outcome, cost_micro, output_tokens FROM attempts") == [
        ("actual", "won", 70, 5)
    ]


async def test_one_that_no_budget_counts(ledger: SqliteLedger, file: Path) -> None:
    ledger.open(opened(1))
    ledger.attempt("gen_1", STARTED)
    await ledger.committed(ledger.settle(settled(1), ()))
    assert states(file) == {"gen_1": "settled"}
    assert periods(file) == {}


async def test_what_nobody_waits_for_is_written_soon(ledger: SqliteLedger, file: Path) -> None:
    ledger.open(opened(1))
    while not states(file):
        await asyncio.sleep(0.001)


async def test_what_is_spent_beyond_the_reservation_is_told(
    ledger: SqliteLedger, file: Path
) -> None:
    await ledger.reserve(opened(1, hold(1000)), (100,))
    await ledger.committed(ledger.settle(settled(1, 130), ()))
    assert periods(file) == {KEY: (130, 0, 30)}


# --- budgets ------------------------------------------------------------------------------------


async def test_of_the_amounts_the_first_that_is_left_is_taken(ledger: SqliteLedger) -> None:
    assert await ledger.reserve(opened(1, hold(1000)), (600, 300)) == 600
    assert await ledger.reserve(opened(2, hold(1000)), (600, 500, 300, 100)) == 300
    with pytest.raises(BudgetSpent) as caught:
        await ledger.reserve(opened(3, hold(1000)), (600, 101))
    assert caught.value.left_micro == 100
    assert caught.value.hold == hold(1000)
    assert await ledger.reserve(opened(3, hold(1000)), (100,)) == 100


async def test_all_budgets_or_none(ledger: SqliteLedger, file: Path) -> None:
    wide, tight = hold(1000, "bud_1"), hold(10, "bud_2")
    with pytest.raises(BudgetSpent) as caught:
        await ledger.reserve(opened(1, wide, tight), (100, 20))
    assert caught.value.hold == tight
    assert periods(file) == {}
    assert states(file) == {}


async def test_a_soft_budget_is_only_counted(ledger: SqliteLedger, file: Path) -> None:
    assert await ledger.reserve(opened(1, hold(None)), (10**12,)) == 10**12
    assert periods(file) == {KEY: (0, 10**12, 0)}


async def test_at_the_edge_as_many_as_it_is_worth(ledger: SqliteLedger, file: Path) -> None:
    asked = [ledger.reserve(opened(n, hold(2000)), (100,)) for n in range(200)]
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert answers.count(100) == 20
    assert sum(isinstance(one, BudgetSpent) for one in answers) == 180
    for n in range(200):
        if answers[n] == 100:
            ledger.settle(settled(n, 0, state="void"), ())
    await ledger.committed(ledger.settle(settled("none"), ()))
    assert periods(file) == {}
    assert await ledger.reserve(opened("more", hold(2000)), (2000,)) == 2000


async def test_more_is_put_aside_for_an_open_one(ledger: SqliteLedger, file: Path) -> None:
    one = opened(1, hold(1000))
    await ledger.reserve(one, (400,))
    await ledger.extend(one.id, one.holds, 500)
    assert periods(file) == {KEY: (0, 900, 0)}
    with pytest.raises(BudgetSpent):
        await ledger.extend(one.id, one.holds, 101)
    await ledger.committed(ledger.settle(settled(1, 850), one.holds))
    assert periods(file) == {KEY: (850, 0, 0)}
    for gone in ("gen_1", "gen_none"):
        with pytest.raises(StoreUnavailable, match="not open"):
            await ledger.extend(gone, one.holds, 1)
    assert_sums(file)


# --- once ---------------------------------------------------------------------------------------


async def test_settling_again_changes_nothing(ledger: SqliteLedger, file: Path) -> None:
    await ledger.reserve(opened(1, hold()), (500,))
    for micro in (70, 90):
        ledger.settle(settled(1, micro), ())
    await ledger.committed(ledger.settle(settled(1, 0, state="void"), ()))
    assert periods(file) == {KEY: (70, 0, 0)}
    assert rows(file, "SELECT cost_micro FROM attempts") == [(70,)]


async def test_reserving_again_reserves_nothing_more(ledger: SqliteLedger, file: Path) -> None:
    one = opened(1, hold())
    assert await ledger.reserve(one, (500,)) == 500
    assert await ledger.reserve(one, (400,)) == 500
    assert periods(file) == {KEY: (0, 500, 0)}
    ledger.settle(settled(1), ())
    with pytest.raises(StoreUnavailable, match="is over"):
        await ledger.reserve(one, (400,))


async def test_a_reservation_that_nobody_waits_for_any_more_is_void_after_it(
    ledger: SqliteLedger, file: Path
) -> None:
    for n, turns in enumerate((0, 1, 2, 5, 20)):
        task = asyncio.create_task(ledger.reserve(opened(n, hold()), (100,)))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        ledger.settle(settled(n, 0, state="void"), ())
    await ledger.committed(ledger.settle(settled("none"), ()))
    assert periods(file) == {}
    assert set(states(file).values()) <= {"void"}


async def test_settling_what_was_never_opened_changes_nothing(
    ledger: SqliteLedger, file: Path
) -> None:
    await ledger.committed(ledger.settle(settled(1), (hold(),)))
    assert states(file) == {}
    assert periods(file) == {}
    assert rows(file, "SELECT * FROM attempts") == []


async def test_one_operation_that_cannot_be_written_takes_no_other_with_it(
    ledger: SqliteLedger, file: Path
) -> None:
    ledger.open(opened(1))
    bad = ledger.settle(settled(1, 2**64), ())  # SQLite has 64 bits
    ledger.open(opened(2))
    good = ledger.settle(settled(2), ())
    with pytest.raises(StoreUnavailable, match="OverflowError"):
        await ledger.committed(bad)
    await ledger.committed(good)
    assert states(file) == {"gen_1": "open", "gen_2": "settled"}
    assert await ledger.reserve(opened(3, hold()), (1,)) == 1


# --- what others left ---------------------------------------------------------------------------


async def test_what_a_dead_worker_left_is_settled_at_its_most(
    ledger: SqliteLedger, file: Path
) -> None:
    for n, amount in ((1, 600), (2, 50), (3, 40)):
        await ledger.reserve(opened(n, hold(2000), instance_id="inst_0"), (amount,))
    ledger.attempt("gen_1", STARTED)
    ledger.attempt("gen_1", STARTED.__class__(1, "other", "m", "hedge", 200, None))
    ledger.attempt("gen_2", STARTED)
    await ledger.reserve(opened("mine", hold(2000)), (7,))
    assert await ledger.sweep(NOW_US + 1, 2) == 2
    assert await ledger.sweep(NOW_US + 1, 2) == 1
    assert await ledger.sweep(NOW_US + 1, 2) == 0
    assert states(file) == {
        "gen_1": "estimated",
        "gen_2": "estimated",
        "gen_3": "void",
        "gen_mine": "open",
    }
    assert periods(file) == {KEY: (1000, 7, 450)}
    assert rows(file, "SELECT state, cost_micro FROM attempts ORDER BY 1, 2") == [
        ("estimated", 500),
        ("estimated", 500),
        ("unpriced", None),
    ]
    await ledger.committed(ledger.settle(settled(1, 60), ()))  # it lives after all
    assert periods(file) == {KEY: (1000, 7, 450)}
    assert_sums(file)


async def test_leases_end(ledger: SqliteLedger, file: Path) -> None:
    await ledger.reserve(opened(1, hold()), (10,))
    await ledger.reserve(opened(2, hold(), lease_until_us=NOW_US + 3 * LEASE_US), (10,))
    assert await ledger.sweep(NOW_US + LEASE_US - 1, 100) == 0
    await ledger.renew(NOW_US + LEASE_US, 120.0)
    assert await ledger.sweep(NOW_US + LEASE_US, 100) == 1
    assert states(file) == {"gen_1": "void", "gen_2": "open"}
    assert await ledger.sweep(NOW_US + 3 * LEASE_US, 100) == 1
    assert rows(file, "SELECT * FROM instances") == []
    await ledger.renew(NOW_US + 3 * LEASE_US, 60.0)
    assert rows(file, "SELECT id, place, lease_until_us FROM instances") == [
        ("inst_1", "host 0", NOW_US + 4 * LEASE_US)
    ]


async def test_a_successor_knows_at_once_that_its_place_was_left(file: Path) -> None:
    first = await begun(file, "inst_1")
    other = await begun(file, "inst_2", "host 1")
    await first.reserve(opened(1, hold()), (10,))
    await other.reserve(opened(2, hold(), instance_id="inst_2"), (10,))
    successor = await begun(file, "inst_3")  # of the first, which was killed
    assert await successor.sweep(NOW_US + 1, 100) == 1
    assert states(file) == {"gen_1": "void", "gen_2": "open"}
    for one in (first, other, successor):
        await one.aclose()
    assert rows(file, "SELECT * FROM instances") == []


async def test_ready_at_once_over_many_open_rows(file: Path) -> None:
    await (await begun(file)).aclose()
    many = 100_000
    with closing(sqlite3.connect(file)) as database, database:
        database.execute(
            "INSERT INTO budget_periods (budget_id, period_start_s, reserved_micro)"
            f" VALUES ('bud_1', 0, {2 * many})"
        )
        database.execute(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)"
            " INSERT INTO generations SELECT 'old_' || i, 'open', 'inst_0', 'o', 't', 'k', 'a',"
            " 's', '[]', '{}', '', '', '', i, i, '[[\"bud_1\",0]]', 2, NULL, NULL, NULL, NULL,"
            " NULL, NULL, NULL, NULL, NULL, NULL, NULL FROM n",
            (many,),
        )
    began_s = time.monotonic()
    ledger = await begun(file, "inst_2")
    sweeping = asyncio.create_task(ledger.sweep(NOW_US, many))
    assert await ledger.reserve(opened(1, hold(None)), (5,)) == 5
    assert time.monotonic() - began_s < 2.0
    assert await sweeping == SWEEP_ROWS
    assert await ledger.sweep(NOW_US, 10) == 10
    assert periods(file) == {KEY: (0, 2 * (many - SWEEP_ROWS - 10) + 5, 0)}
    await ledger.aclose()


# --- beginning and end --------------------------------------------------------------------------


async def test_what_waits_at_the_end_is_written(file: Path) -> None:
    ledger = await begun(file)
    ledger.open(opened(1))
    ledger.settle(settled(1), ())
    await ledger.aclose()
    await ledger.aclose()
    assert states(file) == {"gen_1": "settled"}
    assert rows(file, "SELECT * FROM instances") == []
    assert not file.with_name("relay.db-wal").exists()
    with pytest.raises(StoreUnavailable, match="not open"):
        ledger.open(opened(2))
    with pytest.raises(StoreUnavailable, match="not open"):
        ledger.settle(settled(2), ())


async def test_a_start_that_is_cancelled_leaves_nothing_open(file: Path) -> None:
    ledger = SqliteLedger(file)
    for _ in range(3):
        starting = asyncio.create_task(ledger.start("inst_1", "host 0", NOW_US, 60.0))
        await asyncio.sleep(0.002)
        starting.cancel()
        await asyncio.wait([starting])
    await ledger.aclose()
    await ledger.start("inst_1", "host 0", NOW_US, 60.0)
    assert await ledger.reserve(opened(1, hold()), (5,)) == 5
    await ledger.aclose()
    async with asyncio.timeout(10.0):  # the last connection takes the WAL with it
        while file.with_name("relay.db-wal").exists():
            await asyncio.sleep(0.01)


async def test_the_wal_does_not_grow_without_end(
    ledger: SqliteLedger, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_writer, "CHECKPOINT_OPERATIONS", 20)
    wal = file.with_name("relay.db-wal")
    sizes = []
    for n in range(300):
        await ledger.reserve(opened(n, hold(None)), (5,))
        sizes.append(wal.stat().st_size)
    assert max(sizes) < 1_000_000  # of the 7 MB that were written
    assert file.stat().st_size > 100_000


async def test_a_damaged_file_is_refused_and_left(file: Path) -> None:
    words = b"not a database at all" * 1000
    file.write_bytes(words)
    ledger = SqliteLedger(file)
    with pytest.raises(DamagedFile, match="relay store restore"):
        await ledger.start("inst_1", "p", NOW_US, 60.0)
    await ledger.aclose()
    assert file.read_bytes() == words


async def test_tables_of_another_version_are_refused(ledger: SqliteLedger, file: Path) -> None:
    with closing(sqlite3.connect(file)) as database, database:
        database.execute("UPDATE alembic_version SET version_num = '2_0001'")
    other = SqliteLedger(file)
    with pytest.raises(SchemaError, match="does not know"):
        await other.start("inst_2", "p", NOW_US, 60.0)
    with closing(sqlite3.connect(file)) as database, database:
        database.execute("UPDATE alembic_version SET version_num = '1_0000'")
    behind = SqliteLedger(file, migrate="never")
    with pytest.raises(SchemaError, match="relay store migrate"):
        await behind.start("inst_2", "p", NOW_US, 60.0)


async def test_what_was_learnt_is_kept_in_the_same_file(ledger: SqliteLedger, file: Path) -> None:
    await asyncio.to_thread(learned.save, file, 0, {"a/m": {"x": 1}}, 1.0)
    assert await ledger.reserve(opened(1, hold()), (5,)) == 5
    loaded = await asyncio.to_thread(learned.load, file, 0)
    assert loaded["a/m"][0].state == {"x": 1}


async def test_counters_that_another_has_changed_are_read_again(
    ledger: SqliteLedger, file: Path
) -> None:
    assert await ledger.reserve(opened(1, hold(1000)), (400,)) == 400
    with closing(sqlite3.connect(file)) as database, database:
        database.execute("UPDATE budget_periods SET settled_micro = 500")
    with pytest.raises(BudgetSpent) as caught:
        await ledger.reserve(opened(2, hold(1000)), (101,))
    assert caught.value.left_micro == 100
    assert await ledger.reserve(opened(2, hold(1000)), (100,)) == 100
    assert periods(file) == {KEY: (500, 500, 0)}


# --- several workers on one file ----------------------------------------------------------------


def _in_a_process(file: Path, number: int, ready: Any, results: Any, work: Any) -> None:
    async def run() -> None:
        ledger = SqliteLedger(file)
        await ledger.start(f"inst_{number}", f"host {number}", NOW_US, 60.0)
        ready.wait()
        results.put((number, await work(ledger, number)))
        ready.wait()
        await ledger.aclose()

    asyncio.run(run())


def in_processes(file: Path, count: int, work: Callable[..., Any]) -> dict[int, Any]:
    context = multiprocessing.get_context("spawn")
    ready, results = context.Barrier(count), context.Queue()
    workers = [
        context.Process(target=_in_a_process, args=(file, number, ready, results, work))
        for number in range(count)
    ]
    for worker in workers:
        worker.start()
    found = dict(results.get(timeout=40) for _ in workers)
    for worker in workers:
        worker.join(20)
        assert worker.exitcode == 0
    return found


async def _spend(ledger: SqliteLedger, number: int) -> list[float]:
    """Reservations as fast as they go; how long each waited."""
    waited_s: list[float] = []
    rng = random.Random(number)

    async def caller(name: int) -> None:
        for n in range(25):
            one = opened(f"{number}_{name}_{n}", hold(50_000), instance_id=f"inst_{number}")
            began_s = time.monotonic()
            await ledger.reserve(one, (100,))
            waited_s.append(time.monotonic() - began_s)
            ledger.attempt(one.id, STARTED)
            ledger.settle(settled(f"{number}_{name}_{n}", rng.choice((0, 20, 50))), one.holds)

    await asyncio.gather(*(caller(name) for name in range(4)))
    await ledger.committed(ledger.settle(settled("none"), ()))
    return waited_s


EDGE = hold(2000, "bud_edge")


async def _at_the_edge(ledger: SqliteLedger, number: int) -> int:
    """How many of fifty, of a budget that is worth twenty."""
    asked = [
        ledger.reserve(opened(f"e_{number}_{n}", EDGE, instance_id=f"inst_{number}"), (100,))
        for n in range(50)
    ]
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert all(one == 100 or isinstance(one, BudgetSpent) for one in answers)
    return answers.count(100)


async def _spend_and_meet(ledger: SqliteLedger, number: int) -> tuple[int, list[float]]:
    return await _at_the_edge(ledger, number), await _spend(ledger, number)


def test_four_workers_write_one_file_in_turn_and_spend_a_budget_exactly(file: Path) -> None:
    found = in_processes(file, 4, _spend_and_meet)
    assert sum(count for count, _ in found.values()) == 20
    assert {len(waits) for _, waits in found.values()} == {100}
    assert max(max(waits) for _, waits in found.values()) < 2.0
    ended = {row[0] for row in rows(file, "SELECT id FROM generations WHERE state = 'settled'")}
    assert ended == {
        f"gen_{number}_{name}_{n}" for number in range(4) for name in range(4) for n in range(25)
    }
    assert periods(file)["bud_edge", 0] == (0, 2000, 0)
    assert_sums(file)
