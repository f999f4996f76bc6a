"""Kept answers in a real Redis that is killed, stopped, slow, full, or holds something else."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from statistics import median

import pytest
import redis
from structlog.testing import capture_logs

from relay.cache import redis_store
from relay.cache.open_shelf import open_shelf, resized
from relay.cache.redis_store import CONNECTIONS, FAILURES, MAX_WRITES, PREFIX, RedisStore
from relay.config.cache import ExactCacheConfig
from relay.config.store import StoreConfig
from tests.cache.world import World, asked
from tests.fakes.redis_server import PASSWORD, RedisServer
from tests.fakes.slow_proxy import SlowProxy

pytestmark = pytest.mark.sockets

PATIENCE_S = 0.2
CALM_S = 5.0
"""The patience of tests in which nothing is slow but the machine."""
MARGIN_S = 1.0
"""Of a busy machine, on top of one wait."""
AT_ONCE_S = PATIENCE_S / 2
"""The median of look-ups that wait for nobody."""
KEY = bytes(range(32))
BYTES = 1000


@asynccontextmanager
async def store_on(url: str, patience_s: float = CALM_S) -> AsyncIterator[RedisStore]:
    store = RedisStore(url, patience_s=patience_s, clock=time.monotonic)
    try:
        yield store
    finally:
        await store.aclose()


async def written(store: RedisStore) -> None:
    """What was put is there."""
    while store._writes:
        await asyncio.wait(set(store._writes))


async def get(store: RedisStore, key: bytes = KEY) -> tuple[bytes | None, float]:
    """Returns: what was found, and how long it took in seconds."""
    began_s = time.perf_counter()
    found = await store.get(key, BYTES)
    return found, time.perf_counter() - began_s


async def until(store: RedisStore, *, is_away: bool) -> None:
    async with asyncio.timeout(10.0):
        while store.is_away is not is_away:
            await get(store)
            await asyncio.sleep(0.01)


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as made:
        yield made


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_store, "PAUSE_S", 0.05)
    monkeypatch.setattr(redis_store, "MAX_PAUSE_S", 0.2)


def name_of(key: bytes) -> bytes:
    return PREFIX + key.hex().encode()


async def test_what_was_put_is_found_for_its_time(redis_url: str, client: redis.Redis) -> None:
    async with store_on(redis_url) as store:
        assert (await get(store))[0] is None
        store.put(KEY, b"answer", 60.0)
        await written(store)
        assert (await get(store))[0] == b"answer"
        assert 59_000 < client.pttl(name_of(KEY)) <= 60_000
        store.put(KEY, b"another", 0.0)
        store.put(KEY, b"another", 0.0004)
        await written(store)
        assert (await get(store))[0] == b"answer"
        store.put(KEY, b"another", 0.05)
        await written(store)
        await asyncio.sleep(0.1)
        assert (await get(store))[0] is None
        assert store.failures == 0


async def test_values_are_bounded_and_belong_to_their_key(
    redis_url: str, client: redis.Redis
) -> None:
    async with store_on(redis_url) as store:
        store.put(KEY, b"x" * BYTES, 60.0)
        await written(store)
        assert (await get(store))[0] == b"x" * BYTES
        store.put(KEY, b"x" * (BYTES + 1), 60.0)
        await written(store)
        assert (await get(store))[0] is None
        client.set(name_of(KEY), b"y" * 10_000_000)
        assert (await get(store))[0] is None
        other = KEY[::-1]
        store.put(other, b"other's", 60.0)
        await written(store)
        client.copy(name_of(other).decode(), name_of(KEY).decode(), replace=True)
        assert (await get(store))[0] is None, "written under another key"
        assert (await get(store, other))[0] == b"other's"


async def test_what_redis_refuses_is_a_miss_and_does_not_close_it(
    redis_url: str, client: redis.Redis
) -> None:
    client.lpush(name_of(KEY), "a list")
    async with store_on(redis_url) as store:
        for _ in range(2 * FAILURES):
            assert (await get(store))[0] is None
        assert (store.is_away, store.failures) == (False, 2 * FAILURES)
        assert len(store._free) == 1, "a refusal is a whole answer"
    client.delete(name_of(KEY))


async def test_full_it_is_still_read(own_redis: RedisServer) -> None:
    async with store_on(own_redis.url()) as store:
        store.put(KEY, b"answer", 60.0)
        await written(store)
        with redis.Redis.from_url(own_redis.url()) as client:
            client.config_set("maxmemory", "1")
            client.config_set("maxmemory-policy", "noeviction")
        for _ in range(2 * FAILURES):
            store.put(KEY[::-1], b"more", 60.0)
            await written(store)
        assert (await get(store))[0] == b"answer"
        assert not store.is_away


async def test_it_is_not_there_and_comes(own_redis: RedisServer) -> None:
    own_redis.stop()
    async with store_on(own_redis.url(), PATIENCE_S) as store:
        with capture_logs() as logs:
            for _ in range(FAILURES):
                found, took_s = await get(store)
                assert found is None
                assert took_s < PATIENCE_S + MARGIN_S
        assert store.is_away
        assert [entry["event"] for entry in logs] == ["cache_store_away"]
        assert PASSWORD not in repr(logs)
        own_redis.start()
        await until(store, is_away=False)
        store.put(KEY, b"answer", 60.0)
        await written(store)
        assert (await get(store))[0] == b"answer"


async def test_hanging_it_costs_three_waits_and_then_none(own_redis: RedisServer) -> None:
    async with store_on(own_redis.url(), PATIENCE_S) as store:
        store.put(KEY, b"answer", 60.0)
        await written(store)
        own_redis.pause()
        try:
            for _ in range(FAILURES):
                found, took_s = await get(store)
                assert found is None
                assert PATIENCE_S * 0.9 < took_s < PATIENCE_S + MARGIN_S
            took_all_s = []
            for _ in range(15):
                took_all_s.append((await get(store))[1])
                await asyncio.sleep(0.03)  # also while it is tried again
            assert median(took_all_s) < AT_ONCE_S / 10
            assert (store.is_away, store.times_away) == (True, 1)
        finally:
            own_redis.resume()
        await until(store, is_away=False)
        assert (await get(store))[0] == b"answer"


async def test_killed_in_the_middle_it_is_found_again(own_redis: RedisServer) -> None:
    async with store_on(own_redis.url(), PATIENCE_S) as store:
        store.put(KEY, b"answer", 60.0)
        await written(store)
        own_redis.kill()
        assert (await get(store))[0] is None
        own_redis.start()
        await until(store, is_away=False)
        assert (await get(store))[0] is None, "it is empty now"
        store.put(KEY, b"answer", 60.0)
        await written(store)
        assert (await get(store))[0] == b"answer"


async def test_a_late_answer_is_nobody_elses(own_redis: RedisServer) -> None:
    """Given up in the middle, a connection is not used again."""
    async with SlowProxy(own_redis.port) as proxy:
        url = own_redis.url().replace(str(own_redis.port), str(proxy.port))
        async with store_on(url) as store:
            keys = [bytes([number]) * 32 for number in range(20)]
            for key in keys:
                store.put(key, key[:1] + b"'s", 60.0)
            await written(store)
            proxy.delay_s = 0.05
            for key in keys[:10]:
                task = asyncio.ensure_future(store.get(key, BYTES))
                await asyncio.sleep(0.01)
                task.cancel()
                await asyncio.wait([task])
            proxy.delay_s = 0.0
            found = await asyncio.gather(*(store.get(key, BYTES) for key in keys))
            assert found == [key[:1] + b"'s" for key in keys]
            assert len(store._free) <= CONNECTIONS


async def test_a_hundred_at_once_use_few_connections(redis_url: str, client: redis.Redis) -> None:
    async with store_on(redis_url) as store:
        store.put(KEY, b"answer", 60.0)
        await written(store)
        found = await asyncio.gather(*(store.get(KEY, BYTES) for _ in range(100)))
        assert found == [b"answer"] * 100
        clients = [row for row in client.client_list() if row["name"] == "rtrelay-cache"]
        assert 1 <= len(clients) <= CONNECTIONS


async def test_writes_under_way_are_bounded(own_redis: RedisServer) -> None:
    async with store_on(own_redis.url(), PATIENCE_S) as store:
        own_redis.pause()
        try:
            for _ in range(MAX_WRITES + 10):
                store.put(KEY, b"answer", 60.0)
            assert (len(store._writes), store.dropped_writes) == (MAX_WRITES, 10)
            began_s = time.perf_counter()
            await store.aclose()
            assert time.perf_counter() - began_s < 0.5 + MARGIN_S
        finally:
            own_redis.resume()
        assert (await get(store))[0] is None, "closed, it has nothing"
        store.put(KEY, b"answer", 60.0)


async def test_a_wrong_password_is_a_miss(redis_url: str) -> None:
    async with store_on(redis_url.replace(PASSWORD, "wrong-one")) as store:
        with capture_logs() as logs:
            for _ in range(FAILURES):
                assert (await get(store))[0] is None
        assert store.is_away
        assert "wrong-one" not in repr(logs)


def test_a_wrong_address_is_told_without_it() -> None:
    with pytest.raises(ValueError, match=r"store\.redis") as raised:
        RedisStore("http://:canary-1@x", patience_s=1.0, clock=time.monotonic)
    assert "canary-1" not in str(raised.value)
    assert raised.value.__suppress_context__


async def test_two_workers_share_it(redis_url: str) -> None:
    config = ExactCacheConfig(redis_timeout_ms=5000)
    store = StoreConfig.model_validate({"redis": redis_url})
    shelves = [open_shelf(config, store) for _ in range(2)]
    try:
        here, there = (World(shelf=shelf) for shelf in shelves)
        await here.ask(asked("of two workers"))
        shared = shelves[0].shared
        assert isinstance(shared, RedisStore)
        await written(shared)
        found = await there.ask(asked("of two workers"))
        assert (found.decision.cache, found.was_asked) == ("hit", False)
        assert found.text == "Hello you"
    finally:
        for shelf in shelves:
            await shelf.aclose()


async def test_memory_alone_where_there_is_no_redis_or_it_is_not_wanted(redis_url: str) -> None:
    store = StoreConfig.model_validate({"redis": redis_url})
    config = ExactCacheConfig(max_entries=5, memory_ttl_s=3)
    assert open_shelf(config, None).shared is None
    assert open_shelf(config, StoreConfig()).shared is None
    shelf = open_shelf(ExactCacheConfig(redis=False), store)
    assert shelf.shared is None
    for number in range(9):
        shelf.put(bytes([number]), b"x", 60.0)
    resized(shelf, config)
    assert (len(shelf.memory), shelf.memory_ttl_s) == (5, 3.0)
    await shelf.aclose()
