"""Limits over a real Redis that is killed, stopped, slow, emptied, made a replica."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from statistics import median

import pytest
import redis
from structlog.testing import capture_logs

from relay.store.limit_backend import INSTANCES
from relay.store.limit_store import LEASE, RATE, Charge, LimitSpent
from relay.store.redis_limits import PREFIX, RedisBackend, script_text
from relay.store.shared_limits import SharedLimits
from relay.store.token_bucket import FULL_AFTER_US, MAX_DEBT_MINUTES, MAX_STEP_BACK_US
from tests.fakes.redis_server import PASSWORD, RedisServer
from tests.fakes.slow_proxy import SlowProxy

pytestmark = pytest.mark.sockets

PATIENCE_S = 0.25
CALM_S = 5.0
"""The patience of tests in which nothing is slow but the machine."""
PROBE_S = 0.1
MARGIN_S = 1.0
"""Of a busy machine, on top of one wait."""
AT_ONCE_S = PATIENCE_S / 2
"""The median of admissions that wait for nobody."""
RPM = Charge("rpm", 600, 1, RATE)
SLOT = Charge("slot", 5, 1, LEASE)


@asynccontextmanager
async def limits_on(
    url: str, instance_id: str = "me", patience_s: float = CALM_S
) -> AsyncIterator[SharedLimits]:
    backend = RedisBackend(
        url, instance_id=instance_id, lease_s=15.0, connect_timeout_s=2 * patience_s
    )
    limits = SharedLimits(backend, patience_s=patience_s, lease_s=15.0, probe_s=PROBE_S)
    await limits.start()
    try:
        yield limits
    finally:
        await limits.aclose()


async def take(limits: SharedLimits, *charges: Charge) -> float:
    """Returns: how long it took, seconds."""
    began_s = time.perf_counter()
    await limits.take(charges or (RPM, SLOT), time.time_ns() // 1000)
    return time.perf_counter() - began_s


async def until(limits: SharedLimits, *, is_down: bool) -> None:
    async with asyncio.timeout(10.0):
        while limits.describe()["is_down"] is not is_down:
            await asyncio.sleep(0.01)


async def settled(limits: SharedLimits) -> None:
    """What was to be told is told: a batch of later has been done."""
    await take(limits, Charge("settled", 1_000_000, 1, RATE))


def held(client: redis.Redis, bucket: str = "slot") -> int:
    rows = client.hgetall(PREFIX + bucket)
    return sum(int(value.split()[0]) for value in rows.values())


def level(client: redis.Redis, bucket: str = "rpm") -> int | None:
    value = client.get(PREFIX + bucket)
    return None if value is None else int(value.split()[0])


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as made:
        yield made


async def test_by_redis_own_clock(redis_url: str, client: redis.Redis) -> None:
    async with limits_on(redis_url) as limits:
        # What the caller's clock says does not matter.
        for now_us in (0, 10**18):
            await limits.take([RPM, SLOT], now_us)
        assert level(client) == pytest.approx(598_000, abs=1000)
        at_us = int(client.get(PREFIX + "rpm").split()[1])  # type: ignore[union-attr]
        assert abs(at_us - time.time_ns() // 1000) < 5e6
        assert held(client) == 2
        assert 0 < client.pttl(PREFIX + "slot") <= 15_000
        assert 0 < client.pttl(PREFIX + "rpm") < 30_000
    assert held(client) == 0
    assert held(client, INSTANCES) == 0


async def test_one_script_of_one_call_an_admission(redis_url: str, client: redis.Redis) -> None:
    async with limits_on(redis_url) as limits:
        client.config_resetstat()
        await asyncio.gather(*(take(limits) for _ in range(5)))
        calls = client.info("commandstats")["cmdstat_evalsha"]["calls"]
        assert calls == 5


async def test_a_script_that_is_not_there_is_loaded_and_nothing_is_lost(
    redis_url: str, client: redis.Redis
) -> None:
    client.script_flush()
    async with limits_on(redis_url) as limits:
        await take(limits)
        client.script_flush()
        await asyncio.gather(*(take(limits) for _ in range(3)))
        client.script_flush()
        limits.give_back("slot", 2)
        await settled(limits)
        assert limits.times_down == 0
        assert held(client) == 2
        assert level(client) == pytest.approx(596_000, abs=1000)


async def test_down_at_the_start(own_redis: RedisServer) -> None:
    own_redis.stop()
    began_s = time.perf_counter()
    async with limits_on(own_redis.url(), patience_s=PATIENCE_S) as limits:
        assert time.perf_counter() - began_s < 2 * PATIENCE_S + MARGIN_S
        assert median([await take(limits) for _ in range(4)]) < AT_ONCE_S
        own_redis.start()
        await until(limits, is_down=False)
        with redis.Redis.from_url(own_redis.url()) as client:
            assert held(client) == 4
            assert level(client) < 600_000  # type: ignore[operator]
            await take(limits)
            with pytest.raises(LimitSpent):
                await take(limits)
            assert held(client) == 5


async def test_killed_in_the_middle_and_started_again_empty(own_redis: RedisServer) -> None:
    async with limits_on(own_redis.url(), patience_s=PATIENCE_S) as limits:
        await take(limits)
        own_redis.kill()
        assert await take(limits) < PATIENCE_S + MARGIN_S
        assert median([await take(limits) for _ in range(3)]) < AT_ONCE_S
        with pytest.raises(LimitSpent):  # what Redis had granted counts here too
            await take(limits, Charge("slot", 5, 2, LEASE))
        own_redis.start()
        await until(limits, is_down=False)
        with redis.Redis.from_url(own_redis.url()) as client:
            assert held(client) == 5


async def test_stopped_in_the_middle_costs_one_patience(own_redis: RedisServer) -> None:
    async with limits_on(own_redis.url(), patience_s=PATIENCE_S) as limits:
        await take(limits)
        own_redis.pause()
        try:
            took_s = await asyncio.gather(*(take(limits, RPM) for _ in range(20)))
            assert max(took_s) < PATIENCE_S + MARGIN_S
            more_s = []
            for _ in range(8):
                more_s.append(await take(limits, RPM))
                await asyncio.sleep(0.05)  # also while it is tried again
            assert median(more_s) < AT_ONCE_S
            assert limits.describe()["is_down"]
        finally:
            own_redis.resume()
        await until(limits, is_down=False)
        await settled(limits)
        with redis.Redis.from_url(own_redis.url()) as client:
            assert held(client) == 1


async def test_half_a_second_slow(own_redis: RedisServer) -> None:
    async with SlowProxy(own_redis.port) as proxy:
        url = own_redis.url().replace(str(own_redis.port), str(proxy.port))
        async with limits_on(url, patience_s=PATIENCE_S) as limits:
            await take(limits)
            await until(limits, is_down=False)
            proxy.delay_s = 0.5
            assert PATIENCE_S * 0.9 < await take(limits) < PATIENCE_S + MARGIN_S
            more_s = []
            for _ in range(15):
                more_s.append(await take(limits, RPM))
                await asyncio.sleep(0.05)
            assert median(more_s) < AT_ONCE_S
            assert limits.describe()["is_down"]
            proxy.delay_s = 0.0
            await until(limits, is_down=False)
            await take(limits)
            await settled(limits)
            with redis.Redis.from_url(own_redis.url()) as client:
                assert held(client) == 3


async def test_emptied_in_the_middle(redis_url: str, client: redis.Redis) -> None:
    async with limits_on(redis_url) as limits, limits_on(redis_url, "other") as other:
        for _ in range(4):
            await take(limits)
        client.flushdb()
        await take(limits)
        await settled(limits)
        assert held(client) == 5
        assert level(client) == pytest.approx(599_000, abs=1000)  # one more minute's worth
        with pytest.raises(LimitSpent):
            await take(other)
        assert limits.times_down == 0


async def test_a_connection_that_was_closed_while_it_was_quiet_is_no_failure(
    redis_url: str, client: redis.Redis
) -> None:
    async with limits_on(redis_url) as limits:
        await take(limits)
        mine = next(
            row
            for row in client.client_list()
            if (row["name"], row["db"]) == ("rtrelay-limits", redis_url.rpartition("/")[2])
        )
        client.client_kill_filter(_id=mine["id"])
        await asyncio.sleep(0.05)
        limits._backend._used_s -= 2.0  # type: ignore[attr-defined]
        await take(limits)
        assert limits.times_down == 0
        assert held(client) == 2


async def test_made_a_replica_and_back(own_redis: RedisServer) -> None:
    """As after a fail-over whose old primary still answers: it takes no writes."""
    async with limits_on(own_redis.url()) as limits:
        await take(limits)
        with redis.Redis.from_url(own_redis.url()) as client:
            client.replicaof("127.0.0.1", "1")
            assert await take(limits) < MARGIN_S
            assert limits.describe()["is_down"]
            client.replicaof("NO", "ONE")
            await until(limits, is_down=False)
            assert held(client) == 2
            # It comes back without its last writes.
            client.delete(PREFIX + "slot", PREFIX + "rpm", PREFIX + INSTANCES)
            await take(limits)
            await settled(limits)
            assert held(client) == 3


async def test_full_memory_refuses_nobody(own_redis: RedisServer) -> None:
    async with limits_on(own_redis.url()) as limits:
        await take(limits)
        with redis.Redis.from_url(own_redis.url()) as client:
            client.config_set("maxmemory", 1)
            assert await take(limits) < MARGIN_S
            assert limits.describe()["is_down"]
            client.config_set("maxmemory", 0)
            await until(limits, is_down=False)
            assert held(client) == 2


async def test_relays_that_are_known_share_the_limit_while_it_is_away(
    own_redis: RedisServer,
) -> None:
    url = own_redis.url()
    async with limits_on(url, "a") as one, limits_on(url, "b") as two, limits_on(url, "c") as three:
        for limits in (one, two, three):
            limits._renew()
            await settled(limits)
        assert [limits.instances for limits in (one, two, three)] == [3, 3, 3]
        own_redis.kill()
        granted = 0
        for limits in (one, two, three):
            for _ in range(30):
                try:
                    await take(limits, Charge("share", 60, 1, RATE))
                except LimitSpent:
                    continue
                granted += 1
        assert granted == 60


async def test_no_secret_is_told(own_redis: RedisServer) -> None:
    with capture_logs() as lines:
        async with limits_on(own_redis.url()) as limits:
            own_redis.kill()
            await take(limits)
            told = repr(limits.describe()) + repr(limits._backend)
        wrong = own_redis.url().replace(PASSWORD, PASSWORD + "x")
        own_redis.start()
        async with limits_on(wrong) as limits:
            await take(limits)
            assert limits.describe()["is_down"]
        with pytest.raises(ValueError, match=r"store\.redis") as raised:
            RedisBackend(f"redis://:{PASSWORD}@127.0.0.1:{PASSWORD}", instance_id="me")
    assert lines
    assert PASSWORD not in repr(lines) + told + str(raised.value)
    assert raised.value.__context__ is None or raised.value.__suppress_context__


def test_the_script_has_the_same_numbers() -> None:
    text = script_text()

    def number(name: str) -> int:
        found = re.search(rf"local {name} = (\d+)", text)
        assert found is not None
        return int(found[1])

    assert number("FULL_AFTER") == FULL_AFTER_US
    assert number("STEP_BACK") == MAX_STEP_BACK_US
    assert number("MAX_DEBT_MINUTES") == MAX_DEBT_MINUTES
