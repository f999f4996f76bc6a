"""The tables on a real PostgreSQL: equal to `schema.py`, made once, and brought up under load."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import aclosing

import pytest
from sqlalchemy import Connection, Engine, text

from relay.store import engine as engines
from relay.store.base import StoreUnavailable
from relay.store.engine import engine_for, make_ready, migrate, revision_of, writing
from relay.store.postgres_ledger import PostgresLedger
from relay.store.postgres_link import PostgresSettings
from relay.store.revisions import HEAD, SchemaError
from tests.fakes.accounts import LEASE_S, NOW_US, closed, hold, opened, settled, started
from tests.fakes.postgres_server import PASSWORD
from tests.store.schema_match import assert_is_schema

BUDGET = hold(cap_micro=None)


@pytest.fixture
def engine(empty_postgres_url: str) -> Iterator[Engine]:
    made = engine_for(empty_postgres_url)
    yield made
    made.dispose()


def test_a_migrated_database_is_what_the_schema_says(engine: Engine) -> None:
    assert migrate(engine)
    assert revision_of(engine) == HEAD
    assert_is_schema(engine)
    assert not migrate(engine)


def test_a_migration_that_fails_leaves_nothing(engine: Engine) -> None:
    with writing(engine) as connection:
        connection.execute(text("CREATE TABLE audit (not_ours TEXT)"))
    with pytest.raises(Exception, match="already exists"):
        migrate(engine)
    with engine.connect() as connection:
        names = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
        assert connection.execute(text(names)).all() == [("audit",)]


def test_one_migration_waits_for_another(
    engine: Engine, empty_postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second finds everything done, and does not fail at tables that are there."""
    has_begun, may_end = threading.Event(), threading.Event()
    upgrade = engines._upgrade
    calls: list[str] = []

    def slow(connection: object, to: str) -> None:
        calls.append(to)
        upgrade(connection, to)  # type: ignore[arg-type]
        has_begun.set()
        assert may_end.wait(10)

    monkeypatch.setattr(engines, "_upgrade", slow)
    results: list[bool] = []
    first = threading.Thread(target=lambda: results.append(migrate(engine)))
    second = threading.Thread(target=make_ready, args=(empty_postgres_url,))
    first.start()
    assert has_begun.wait(10)
    second.start()
    with engine.connect() as connection:
        waits = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        while connection.scalar(text(waits)) == 0:
            pass
    may_end.set()
    first.join()
    second.join()
    assert results == [True]
    assert calls == [HEAD]
    assert_is_schema(engine)


async def test_relays_that_start_at_once_on_an_empty_database(empty_postgres_url: str) -> None:
    stores = [PostgresLedger(empty_postgres_url) for _ in range(3)]
    try:
        await asyncio.gather(
            *(
                store.start(name, f"host/{name}", NOW_US, LEASE_S)
                for name, store in zip("abc", stores, strict=True)
            )
        )
        for name, store in zip("abc", stores, strict=True):
            one = opened(f"gen_{name}", [BUDGET], instance_id=name)
            assert await store.reserve(one, (5,)) == 5
    finally:
        for store in stores:
            await store.aclose()


async def test_one_that_may_not_migrate_says_what_to_do(empty_postgres_url: str) -> None:
    store = PostgresLedger(empty_postgres_url, migrate="never")
    with pytest.raises(SchemaError, match="relay store migrate") as error:
        await store.start("a", "host/a", NOW_US, LEASE_S)
    await store.aclose()
    assert PASSWORD not in str(error.value)


async def test_an_old_relay_writes_while_a_new_one_adds_to_the_tables(
    engine: Engine, empty_postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rolling upgrade: its prepared statements and its function go on, before, while and after
    columns come, and it connects anew over tables that are ahead of it. Nor do the two ever wait
    for each other."""
    store = PostgresLedger(empty_postgres_url, PostgresSettings(lock_s=3.0, batch_s=6.0))
    is_over = False
    count = 0

    async def write() -> None:
        nonlocal count
        while not is_over:
            name = f"gen_{count}"
            await store.reserve(opened(name, [BUDGET]), (7,))
            store.attempt(name, started(0))
            end = settled(name, 3, attempts=(closed(0, 3),))
            await store.committed(store.settle(end, [BUDGET]))
            count += 1

    async with aclosing(store):
        await store.start("a", "host/a", NOW_US, LEASE_S)
        writing_task = asyncio.create_task(write())
        _set_revision(engine, "1_0000")
        with monkeypatch.context() as patch:
            patch.setattr(engines, "_upgrade", _add)
            assert await asyncio.to_thread(migrate, engine)
        at_upgrade = count
        async with asyncio.timeout(10):
            while count < at_upgrade + 20:
                await asyncio.sleep(0.005)
        store._write_link.drop()
        while count < at_upgrade + 40:
            await asyncio.sleep(0.005)
        is_over = True
        await writing_task
    with engine.connect() as connection:
        rows = connection.execute(
            text("SELECT state, later, count(*) FROM generations GROUP BY 1, 2")
        )
        assert rows.all() == [("settled", "new", count)]
        deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
        assert connection.scalar(text(deadlocks)) == 0


def _add(connection: Connection, _: str) -> None:
    for table in ("generations", "attempts", "budget_periods"):
        add = f"ALTER TABLE {table} ADD COLUMN later TEXT NOT NULL DEFAULT 'new'"
        connection.execute(text(add))
        connection.execute(text("SELECT pg_sleep(0.02)"))
    connection.execute(text("UPDATE alembic_version SET version_num = '1_9999'"))


def _set_revision(engine: Engine, revision: str) -> None:
    with writing(engine) as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :it"), {"it": revision})


async def test_a_new_era_stops_an_old_relay_when_it_connects(
    engine: Engine, empty_postgres_url: str
) -> None:
    settings = PostgresSettings(wait_s=0.3, close_s=0.2)
    async with aclosing(PostgresLedger(empty_postgres_url, settings)) as store:
        await store.start("a", "host/a", NOW_US, LEASE_S)
        _set_revision(engine, "2_0001")
        store._write_link.drop()
        with pytest.raises(StoreUnavailable, match="cannot serve over"):
            await store.reserve(opened("gen_1", [BUDGET]), (7,))


def test_what_is_acknowledged_is_on_the_disk(engine: Engine, empty_postgres_url: str) -> None:
    """Acts of administrators and the audit log too, whatever is usual in the database."""
    with writing(engine) as connection:
        name = connection.scalar(text("SELECT quote_ident(current_database())"))
        connection.execute(text(f"ALTER DATABASE {name} SET synchronous_commit = off"))
    other = engine_for(empty_postgres_url)
    try:
        with writing(other) as connection:
            assert connection.scalar(text("SHOW synchronous_commit")) == "on"
    finally:
        other.dispose()
