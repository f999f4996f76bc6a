"""PostgreSQL down, killed, paused, failed over, full, and busy: what the accounts do then."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, closing
from itertools import count

import psycopg
import pytest
from structlog.testing import capture_logs

from relay.store.base import StoreUnavailable
from relay.store.postgres_address import place_of
from relay.store.postgres_ledger import PostgresLedger
from relay.store.postgres_link import PostgresSettings
from tests.fakes.accounts import LEASE_S, LEASE_US, NOW_US, closed, hold, opened, settled, started
from tests.fakes.accounts import void as void_of
from tests.fakes.postgres_server import PASSWORD, PostgresServer
from tests.fakes.properties import IS_FULL
from tests.store.ledger_contract import ask, period, require_balance
from tests.store.test_postgres_ledger import PostgresLedgers

QUICK = PostgresSettings(
    wait_s=0.4, connect_s=0.4, batch_s=0.6, lock_s=0.2, last_backoff_s=0.1, close_s=2.0
)
BUDGET = hold(cap_micro=None)


@pytest.fixture(autouse=True)
def no_secret_is_told() -> Iterator[None]:
    with capture_logs() as lines:
        yield
    assert PASSWORD not in str(lines)


@pytest.fixture
def own(own_postgres_url: str) -> Iterator[PostgresLedgers]:
    found = PostgresLedgers(own_postgres_url)
    yield found
    found.engine.dispose()


@asynccontextmanager
async def running(
    url: str, settings: PostgresSettings = QUICK, name: str = "a", now_us: int = NOW_US
) -> AsyncIterator[PostgresLedger]:
    store = PostgresLedger(url, settings)
    async with aclosing(store):
        await store.start(name, f"host/{name}", now_us, LEASE_S)
        yield store


async def until_it_works(store: PostgresLedger) -> None:
    """Wait until it can be asked again."""
    async with asyncio.timeout(10):
        while store.failure:
            await asyncio.sleep(0.01)


# --- down ---------------------------------------------------------------------------------------


async def test_down_at_the_start_is_told_at_once_and_can_be_tried_again(
    own_postgres: PostgresServer, own: PostgresLedgers
) -> None:
    own_postgres.stop()
    store = PostgresLedger(own.url, QUICK)
    async with aclosing(store):
        began_s = time.monotonic()
        with pytest.raises(StoreUnavailable, match=f"127.0.0.1:{own_postgres.port}") as error:
            await store.start("a", "host/a", NOW_US, LEASE_S)
        assert time.monotonic() - began_s < 1.0
        assert PASSWORD not in repr(error.getrepr())
        own_postgres.start()
        await store.start("a", "host/a", NOW_US, LEASE_S)
        assert await store.reserve(opened("gen_1", [BUDGET]), (5,)) == 5


async def test_killed_in_the_middle_nothing_is_lost_that_was_under_way(
    own_postgres: PostgresServer, own: PostgresLedgers
) -> None:
    async with running(own.url) as store:
        await store.reserve(opened("gen_1", [BUDGET]), (50,))
        store.open(opened("gen_2"))
        await store.committed(store.attempt("gen_2", started(0)))
        own_postgres.kill()

        began_s = time.monotonic()
        with pytest.raises(StoreUnavailable):
            await store.reserve(opened("gen_3", [BUDGET]), (50,))
        assert time.monotonic() - began_s < 3 * QUICK.wait_s
        store.settle(void_of("gen_3"), [BUDGET])

        # Known to be gone: refused at once, with and without budgets.
        began_s = time.monotonic()
        for _ in range(20):
            with pytest.raises(StoreUnavailable):
                await store.reserve(opened("gen_4", [BUDGET]), (50,))
            with pytest.raises(StoreUnavailable):
                store.open(opened("gen_5"))
        assert time.monotonic() - began_s < 0.1

        # What runs goes on, and its accounts are kept.
        store.attempt("gen_1", started(0))
        store.settle(settled("gen_1", 30, attempts=(closed(0),)), [BUDGET])
        last = store.settle(settled("gen_2", 30, attempts=(closed(0),)), ())
        with pytest.raises(StoreUnavailable):
            await store.committed(last)
        own_postgres.start()
        await until_it_works(store)
        await store.committed(last)
        assert ask(own, "SELECT id, state FROM generations ORDER BY id") == [
            ("gen_1", "settled"),
            ("gen_2", "settled"),
        ]
        assert period(own, BUDGET) == (30, 0, 0)
        assert await store.reserve(opened("gen_6", [BUDGET]), (50,)) == 50
        require_balance(own)


async def test_a_restart_while_nothing_is_asked_is_not_noticed(
    own_postgres: PostgresServer, own: PostgresLedgers
) -> None:
    async with running(own.url) as store:
        await store.renew(NOW_US, LEASE_S)
        own_postgres.restart()
        assert await store.reserve(opened("gen_1", [BUDGET]), (50,)) == 50
        for attempt in range(2):  # the other connection finds out by asking
            try:
                await store.renew(NOW_US, LEASE_S)
            except StoreUnavailable:
                assert attempt == 0


async def test_it_comes_back_by_itself_when_nobody_asks(
    own_postgres: PostgresServer, own: PostgresLedgers
) -> None:
    async with running(own.url) as store:
        own_postgres.stop()
        with pytest.raises(StoreUnavailable):
            await store.reserve(opened("gen_1", [BUDGET]), (50,))
        own_postgres.start()
        await until_it_works(store)


async def test_closing_does_not_wait_for_a_dead_server(
    own_postgres: PostgresServer, own: PostgresLedgers
) -> None:
    settings = PostgresSettings(wait_s=0.2, connect_s=0.2, batch_s=0.3, close_s=0.5)
    async with running(own.url, settings) as store:
        own_postgres.pause()
        store.open(opened("gen_1"))
        waiting = asyncio.create_task(store.reserve(opened("gen_2", [BUDGET]), (50,)))
        await asyncio.sleep(0)
        began_s = time.monotonic()
        await store.aclose()
        assert time.monotonic() - began_s < 2.0
        with pytest.raises(StoreUnavailable):
            await waiting
        own_postgres.resume()


# --- hanging ------------------------------------------------------------------------------------


@pytest.mark.parametrize("pause_s", [0.5, 1.2])  # before and after the connection is given up
async def test_paused_and_resumed_nothing_counts_twice(
    own_postgres: PostgresServer, own: PostgresLedgers, pause_s: float
) -> None:
    async with running(own.url) as store:
        await store.reserve(opened("gen_0", [BUDGET]), (7,))
        own_postgres.pause()
        until_s = time.monotonic() + pause_s
        names = [f"gen_{number}" for number in range(1, 9)]
        results = await asyncio.gather(
            *(store.reserve(opened(name, [BUDGET]), (7,)) for name in names),
            return_exceptions=True,
        )
        assert all(isinstance(result, StoreUnavailable) for result in results)
        for name in names:
            store.settle(void_of(name), [BUDGET])
        last = store.settle(settled("gen_0", 5), [BUDGET])
        await asyncio.sleep(until_s - time.monotonic())
        own_postgres.resume()
        await until_it_works(store)
        await store.committed(last)
        assert period(own, BUDGET) == (5, 0, 0)
        require_balance(own)


async def test_what_a_lost_session_still_does_is_ended(own: PostgresLedgers) -> None:
    """The server works on a batch whose relay has given up: it must not write it later."""
    async with running(own.url) as store:
        await store.reserve(opened("gen_0", [BUDGET]), (7,))
        with closing(psycopg.connect(own.url)) as other:
            other.execute("SELECT * FROM budget_periods FOR UPDATE")
            reserving = asyncio.create_task(store.reserve(opened("gen_1", [BUDGET]), (7,)))
            await _until(own, "SELECT count(*) FROM pg_locks WHERE NOT granted", 1)
            session = store._write_link._session
            assert session is not None
            reserving.cancel()
            store._write_link.drop()  # as if the network had gone
            last = store.settle(settled("gen_0", 7), [BUDGET])
            await _until(own, f"SELECT count(*) FROM pg_stat_activity WHERE pid = {session.pid}", 0)
            other.rollback()
        await store.committed(last)
        assert period(own, BUDGET) == (7, 0, 0)
        assert ask(own, "SELECT id FROM generations") == [("gen_0",)]
        with pytest.raises(asyncio.CancelledError):
            await reserving


async def _until(own: PostgresLedgers, question: str, wanted: int) -> None:
    async with asyncio.timeout(5):
        while ask(own, question) != [(wanted,)]:
            await asyncio.sleep(0.005)


async def test_a_row_that_an_administrator_holds_is_waited_for_a_while(
    own: PostgresLedgers,
) -> None:
    async with running(own.url) as store:
        await store.reserve(opened("gen_0", [BUDGET]), (7,))
        with closing(psycopg.connect(own.url)) as other:
            other.execute("SELECT * FROM budget_periods FOR UPDATE")
            with pytest.raises(StoreUnavailable):
                await store.reserve(opened("gen_1", [BUDGET]), (7,))
            store.settle(void_of("gen_1"), [BUDGET])
            await store.renew(NOW_US, LEASE_S)  # the lease does not depend on it
        last = store.settle(settled("gen_0", 7), [BUDGET])
        await until_it_works(store)
        await store.committed(last)
        assert period(own, BUDGET) == (7, 0, 0)


async def test_sessions_that_are_ended_all_the_time_are_not_noticed(own: PostgresLedgers) -> None:
    order = random.Random(5)
    with closing(psycopg.connect(own.url, autocommit=True)) as other:
        async with running(own.url, PostgresSettings()) as store:
            for number in range(15):
                reserving = asyncio.create_task(
                    store.reserve(opened(f"gen_{number}", [BUDGET]), (7,))
                )
                await asyncio.sleep(order.uniform(0, 0.002))
                other.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE application_name = 'relay'"
                )
                assert await reserving == 7
                store.settle(settled(f"gen_{number}", 3), [BUDGET])
            await store.committed(store.open(opened("end")))
            assert period(own, BUDGET) == (45, 0, 0)
            require_balance(own)


async def test_kills_under_load_lose_nothing_that_was_told_to_be_written(
    own_postgres: PostgresServer, own: PostgresLedgers
) -> None:
    """Everything acknowledged is there after each kill, and the sums are right."""
    order = random.Random(17)
    reserved: set[str] = set()
    ended: set[str] = set()
    numbers = count()
    is_over = False

    async def caller(store: PostgresLedger) -> None:
        while not is_over:
            name = f"gen_{next(numbers)}"
            try:
                await store.reserve(opened(name, [BUDGET]), (7,))
            except StoreUnavailable:
                store.settle(void_of(name), [BUDGET])
                await asyncio.sleep(0.02)
                continue
            reserved.add(name)
            store.attempt(name, started(0, 7))
            ticket = store.settle(settled(name, 3, attempts=(closed(0, 3),)), [BUDGET])
            try:
                await store.committed(ticket)
            except StoreUnavailable:
                continue  # it stays in line
            ended.add(name)

    async with running(own.url) as store:
        callers = [asyncio.create_task(caller(store)) for _ in range(16)]
        for _ in range(20 if IS_FULL else 3):
            await asyncio.sleep(order.uniform(0.05, 0.25))
            own_postgres.kill()
            own_postgres.start()
            kept_reserved, kept_ended = set(reserved), set(ended)
            rows = dict(ask(own, "SELECT id, state FROM generations"))
            assert kept_reserved <= rows.keys()
            assert {rows[name] for name in kept_ended} <= {"settled"}
            await until_it_works(store)
        is_over = True
        await asyncio.gather(*callers)
        await until_it_works(store)
        await store.committed(store.open(opened("end")))
        require_balance(own)
        assert period(own, BUDGET) == (3 * len(reserved), 0, 0)
        assert len(ended) > 50


# --- others than the first ----------------------------------------------------------------------


async def test_a_follower_takes_over(own_postgres: PostgresServer, own: PostgresLedgers) -> None:
    follower = own_postgres.standby()
    url = own.url.replace("@", f"@127.0.0.1:{follower.port},", 1)
    own_postgres.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
    own_postgres.execute("SELECT pg_reload_conf()")
    try:
        with follower:
            alone = PostgresLedger(follower.url("relay_template"), QUICK)
            with pytest.raises(StoreUnavailable, match="takes no writes"):
                await alone.start("b", "host/b", NOW_US, LEASE_S)
            await alone.aclose()
            async with running(url) as store:
                await store.reserve(opened("gen_1", [BUDGET]), (7,))
                own_postgres.kill()
                with pytest.raises(StoreUnavailable):
                    await store.reserve(opened("gen_2", [BUDGET]), (7,))
                store.settle(void_of("gen_2"), [BUDGET])
                follower.execute("ALTER SYSTEM SET synchronous_standby_names = ''")
                follower.promote()
                await until_it_works(store)
                await store.committed(store.settle(settled("gen_1", 5), [BUDGET]))
            now = PostgresLedgers(follower.url("relay_template"))
            assert period(now, BUDGET) == (5, 0, 0)
            require_balance(now)
            now.engine.dispose()
    finally:
        follower.remove()


async def test_every_connection_is_in_use(
    own_postgres: PostgresServer, own: PostgresLedgers
) -> None:
    own_postgres.execute("ALTER ROLE relay CONNECTION LIMIT 1")
    async with running(own.url) as store:
        with pytest.raises(StoreUnavailable, match="too many connections"):
            await store.renew(NOW_US, LEASE_S)
        assert await store.reserve(opened("gen_1", [BUDGET]), (7,)) == 7
        second = PostgresLedger(own.url, QUICK)
        with pytest.raises(StoreUnavailable, match="too many connections"):
            await second.start("b", "host/b", NOW_US, LEASE_S)
        await second.aclose()
        own_postgres.execute("ALTER ROLE relay CONNECTION LIMIT -1")
        await store.renew(NOW_US, LEASE_S)


# --- bounds, and what cannot be written ---------------------------------------------------------


async def test_what_waits_is_bounded(own_postgres: PostgresServer, own: PostgresLedgers) -> None:
    settings = PostgresSettings(wait_s=5.0, batch_s=5.0, max_waiting=10, max_kept=20, max_batch=1)
    async with running(own.url, settings) as store:
        store.open(opened("gen_0"))
        await store.committed(store.attempt("gen_0", started(0)))
        own_postgres.pause()
        for number in range(11):  # one of them is on its way
            store.open(opened(f"gen_{number + 1}"))
            await asyncio.sleep(0)
        with pytest.raises(StoreUnavailable, match="too much is waiting"):
            store.open(opened("gen_99"))
        with pytest.raises(StoreUnavailable, match="too much is waiting"):
            await store.reserve(opened("gen_99", [BUDGET]), (1,))
        for _ in range(10):
            store.attempt("gen_0", started(0))
        with pytest.raises(StoreUnavailable, match="too much is waiting"):
            store.settle(settled("gen_0"), ())
        own_postgres.resume()


async def test_what_cannot_be_written_stops_nothing_else(postgres_url: str) -> None:
    ledgers = PostgresLedgers(postgres_url)
    async with running(postgres_url) as store:
        bad = store.open(opened("gen_bad", surface="s" * 33))
        too_large = store.open(opened("gen_large", admitted_at_us=2**64))
        tickets = [store.open(opened(f"gen_{number}")) for number in range(30)]
        await store.committed(tickets[-1])
        assert ask(ledgers, "SELECT count(*) FROM generations") == [(30,)]
        for ticket in (bad, too_large):
            with pytest.raises(StoreUnavailable):
                await store.committed(ticket)
    ledgers.engine.dispose()


async def test_an_end_with_other_budgets_is_not_booked(postgres_url: str) -> None:
    ledgers = PostgresLedgers(postgres_url)
    async with running(postgres_url) as store:
        await store.reserve(opened("gen_1", [BUDGET]), (7,))
        ticket = store.settle(settled("gen_1", 7), [hold("bud_2", None)])
        with pytest.raises(StoreUnavailable, match="other holds"):
            await store.committed(ticket)
        with pytest.raises(StoreUnavailable):
            await store.extend("gen_1", [hold("bud_2", None)], 7)
        assert period(ledgers, BUDGET) == (0, 7, 0)
    ledgers.engine.dispose()


async def test_what_a_swept_generation_still_starts_is_not_durable(postgres_url: str) -> None:
    """Nothing of it may be released: nobody would pay for it."""
    later_us = NOW_US + 2 * LEASE_US
    with capture_logs() as lines:
        async with (
            running(postgres_url, name="a") as hung,
            running(postgres_url, name="b", now_us=later_us) as other,
        ):
            await hung.reserve(opened("gen_1", [BUDGET]), (7,))
            first = hung.attempt("gen_1", started(0))
            await hung.committed(first)
            assert await other.sweep(later_us, 10) == 1
            ticket = hung.attempt("gen_1", started(1))
            with pytest.raises(StoreUnavailable, match="gen_1 is not open"):
                await hung.committed(ticket)
            await hung.committed(hung.settle(settled("gen_1", 3), [BUDGET]))
    assert [line["event"] for line in lines] == ["store_operation_lost", "store_settled_too_late"]
    assert hung.operations_lost == 1


async def test_a_lease_cannot_be_over_while_generations_are_opened(postgres_url: str) -> None:
    """The loop hung longer than its lease, and its first act is to open a generation."""
    later_us = NOW_US + 3 * LEASE_US
    async with AsyncExitStack() as stack:
        hung = await stack.enter_async_context(running(postgres_url, name="a"))
        other = await stack.enter_async_context(running(postgres_url, name="b", now_us=later_us))
        assert await other.sweep(later_us, 10) == 0
        generation = opened("gen_1", [BUDGET], admitted_at_us=later_us, lease_until_us=later_us * 2)
        await hung.reserve(generation, (7,))
        assert await other.sweep(later_us + LEASE_US - 1, 10) == 0
        assert await other.sweep(later_us + LEASE_US, 10) == 1


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://relay:{PASSWORD}@127.0.0.1:1/relay",
        f"postgresql://relay:{PASSWORD}@127.0.0.1:1/relay?sslmode=odd",
        f"postgresql://relay:{PASSWORD}/x@127.0.0.1:1/relay",
        f"postgresql://relay:{PASSWORD}#x@127.0.0.1:1/relay",
        f"postgresql://relay:{PASSWORD}?x@127.0.0.1:1/relay",
        f"postgresql://relay:{PASSWORD}@[::1/relay",
        f"postgresql://relay@127.0.0.1:{PASSWORD}/relay",
        f"postgresql:///relay?host=/nowhere&user=relay&password={PASSWORD}",
        f"mysql://relay:{PASSWORD}@127.0.0.1:1/relay",
    ],
)
async def test_an_address_never_tells_its_password(url: str) -> None:
    store = PostgresLedger(url, QUICK)
    with pytest.raises(StoreUnavailable) as error:
        await store.start("a", "host/a", NOW_US, LEASE_S)
    await store.aclose()
    told = str(error.value) + repr(store) + repr(error.value.__cause__)
    if ":canary" not in url.partition("127.0.0.1")[2]:  # a port is no secret
        assert PASSWORD not in told
        assert PASSWORD not in place_of(url)
