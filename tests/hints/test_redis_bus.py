"""Hints by a real Redis: there, down, stuck, refusing, and full of other people's messages."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import structlog
from redis.asyncio import Redis

from relay.hints import redis_bus
from relay.hints.redis_bus import CHANNEL, MAX_WAITING, RedisBus
from tests.fakes.redis_server import PASSWORD, RedisServer
from tests.fakes.relay_under_test import eventually

pytestmark = pytest.mark.sockets

HEARD_WITHIN_S = 0.1
HINT = {"v": 1, "target": "a/m"}


class Machine:
    """One machine's bus, and what it heard."""

    def __init__(self, url: str, name: str) -> None:
        self.heard: list[tuple[float, dict[str, Any]]] = []
        self.bus = RedisBus(url, name, self.take, draw=lambda: 0.5)

    def take(self, hint: dict[str, Any]) -> None:
        self.heard.append((time.monotonic(), hint))


@asynccontextmanager
async def machines(url: str, *names: str) -> AsyncIterator[list[Machine]]:
    several = [Machine(url, name) for name in names]
    try:
        for machine in several:
            machine.bus.start()
        yield several
    finally:
        for machine in several:
            await machine.bus.aclose()
            await machine.bus.aclose()


async def hearing(*several: Machine) -> None:
    async with asyncio.timeout(10):
        for machine in several:
            await machine.bus.is_hearing.wait()


async def until_heard(machine: Machine, say: Callable[[], object]) -> None:
    """Say it every moment: what is said while Redis is away is lost."""
    async with asyncio.timeout(20):
        while not machine.heard:
            say()
            await asyncio.sleep(0.05)


async def test_others_hear_it_at_once_and_oneself_not(redis_url: str) -> None:
    async with machines(redis_url, "one", "two", "three") as (one, two, three):
        await hearing(one, two, three)
        took_s: list[float] = []
        for number in range(20):
            said_s = time.monotonic()
            assert one.bus.publish({**HINT, "number": number})
            await eventually(lambda: len(two.heard) == len(three.heard) == number + 1)  # noqa: B023
            took_s.append(max(two.heard[-1][0], three.heard[-1][0]) - said_s)
        assert sorted(took_s)[10] < HEARD_WITHIN_S
        assert [hint["number"] for _, hint in two.heard] == list(range(20))
        assert not one.heard
        told = one.bus.describe()
        assert (told["published"], told["received"], told["lost"], told["up"]) == (20, 0, 0, True)


async def test_databases_are_apart(redis_server: RedisServer) -> None:
    async with (
        machines(redis_server.url(1), "one", "two") as (one, two),
        machines(redis_server.url(2), "other") as (other,),
    ):
        await hearing(one, two, other)
        one.bus.publish(HINT)
        await eventually(lambda: two.heard)
        assert not other.heard


async def test_other_people_s_messages(redis_url: str) -> None:
    async with machines(redis_url, "one") as (one,), Redis.from_url(redis_url) as client:
        await hearing(one)
        channel = f"{CHANNEL}:{redis_url.rpartition('/')[2]}"
        strange = [b"", b"{]", b"[]", b'{"from":1,"hint":{}}', b'{"from":"x"}', b"x" * 5000]
        for message in strange:
            await client.publish(channel, message)
        await client.publish(channel, b'{"from":"x","hint":{"v":1}}')
        await eventually(lambda: one.heard)
        assert one.bus.describe()["strange"] == len(strange)


async def test_down_at_the_start_lost_in_between_and_back(own_redis: RedisServer) -> None:
    own_redis.stop()
    with structlog.testing.capture_logs() as lines:
        async with machines(own_redis.url(), "one", "two") as (one, two):
            one.bus.publish(HINT)
            await eventually(lambda: one.bus.describe()["lost"])
            assert not one.bus.describe()["up"]
            own_redis.start()
            await hearing(one, two)
            await until_heard(two, lambda: one.bus.publish(HINT))
            own_redis.kill()
            await eventually(lambda: not two.bus.is_hearing.is_set())
            lost = one.bus.describe()["lost"]
            for _ in range(50):
                one.bus.publish(HINT)
                await asyncio.sleep(0.01)
            assert one.bus.describe()["lost"] > lost
            two.heard.clear()
            own_redis.start()
            await hearing(one, two)
            await until_heard(two, lambda: one.bus.publish(HINT))
    events = [line["event"] for line in lines]
    # A line for each going and coming, however many hints were lost.
    assert events.count("hints_not_sent") == events.count("hints_sent_again") == 2
    assert events.count("hints_not_heard") == events.count("hints_heard_again") == 4
    assert PASSWORD not in str(lines)
    assert str(own_redis.port) not in str(lines)


async def test_stuck(own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever publishes never waits, and no more than a bound is held."""
    monkeypatch.setattr(redis_bus, "TIMEOUT_S", 0.2)
    async with machines(own_redis.url(), "one", "two") as (one, two):
        await hearing(one, two)
        own_redis.pause()
        try:
            began_s = time.monotonic()
            sent = [one.bus.publish(HINT) for _ in range(MAX_WAITING + 100)]
            assert time.monotonic() - began_s < 0.2
            assert sent.count(False) == 100
            await eventually(lambda: one.bus.describe()["lost"] >= MAX_WAITING + 99)
        finally:
            own_redis.resume()
        two.heard.clear()
        await until_heard(two, lambda: one.bus.publish(HINT))


async def test_a_wrong_password_is_one_line_and_no_secret(own_redis: RedisServer) -> None:
    url = own_redis.url().replace(PASSWORD, "canary-wrong")
    with structlog.testing.capture_logs() as lines:
        async with machines(url, "one") as (one,):
            one.bus.publish(HINT)
            await eventually(lambda: one.bus.describe()["lost"] and len(lines) == 2)
    assert {line["event"] for line in lines} == {"hints_not_sent", "hints_not_heard"}
    assert "canary" not in str(lines)
    assert "canary" not in repr(one.bus.describe())
