"""The places where limits are kept, each with a clock that tests set: one suite runs over all.

A world gives stores that share its place, as the workers of one machine or of several do; in
memory there is one store alone.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Protocol

import pytest
from redis import Redis

from relay.store.limit_store import LimitStore
from relay.store.memory_limits import MemoryLimits
from relay.store.redis_limits import RedisBackend, script_text
from relay.store.shared_limits import SharedLimits
from relay.store.sqlite_limits import SqliteBackend

START_US = 1_800_000_000_000_000
LEASE_S = 12.0
PATIENCE_S = 2.0
"""Machines that test are busy; what happens when a place is slow is tested by itself."""

_TIME = "redis.call('TIME')"


class World(Protocol):
    """One place."""

    is_shared: bool

    @property
    def now_us(self) -> int: ...

    def set_time(self, now_us: int) -> None:
        """To any moment, also an earlier one."""
        ...

    async def store(self, instance_id: str) -> LimitStore:
        """Started; owned by the world."""
        ...

    async def aclose(self) -> None: ...


class _Places:
    """What the three have in common."""

    is_shared = True

    def __init__(self) -> None:
        self.now_us = START_US
        self.stores: list[LimitStore] = []

    def set_time(self, now_us: int) -> None:
        self.now_us = now_us

    async def aclose(self) -> None:
        for store in self.stores:
            await store.aclose()
        self.stores.clear()

    async def _start(self, store: LimitStore) -> LimitStore:
        await store.start()
        self.stores.append(store)
        return store


class MemoryWorld(_Places):
    is_shared = False

    async def store(self, instance_id: str) -> LimitStore:
        if self.stores:
            return self.stores[0]
        return await self._start(MemoryLimits())


class SqliteWorld(_Places):
    def __init__(self, directory: Path) -> None:
        super().__init__()
        self._path = directory / "relay.db"

    async def store(self, instance_id: str) -> LimitStore:
        backend = SqliteBackend(
            self._path,
            instance_id=instance_id,
            lease_s=LEASE_S,
            patience_s=PATIENCE_S,
            now_us=lambda: self.now_us,
        )
        return await self._start(SharedLimits(backend, patience_s=PATIENCE_S, lease_s=LEASE_S))


class RedisWorld(_Places):
    """Redis with its clock in a key, by the script as it is but for where it gets the time."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = url
        self._client: Redis = Redis.from_url(url)
        self._client.flushdb()
        self.set_time(self.now_us)
        text = script_text()
        assert text.count(_TIME) == 1
        self._script = text.replace(_TIME, "redis.call('HMGET', 'test:time', 's', 'us')")

    def set_time(self, now_us: int) -> None:
        super().set_time(now_us)
        seconds, us = divmod(now_us, 1_000_000)
        self._client.hset("test:time", mapping={"s": seconds, "us": us})

    async def store(self, instance_id: str) -> LimitStore:
        backend = RedisBackend(
            self._url,
            instance_id=instance_id,
            lease_s=LEASE_S,
            connect_timeout_s=PATIENCE_S,
            script=self._script,
        )
        return await self._start(SharedLimits(backend, patience_s=PATIENCE_S, lease_s=LEASE_S))

    async def aclose(self) -> None:
        await super().aclose()
        self._client.close()


WORLDS = ("memory", "sqlite", "redis")


def make_world(name: str, directory: Path, request: pytest.FixtureRequest) -> World:
    """By its name in `WORLDS`; skips where there is no such server."""
    if name == "memory":
        return MemoryWorld()
    if name == "sqlite":
        return SqliteWorld(directory)
    return RedisWorld(request.getfixturevalue("redis_url"))


@pytest.fixture(params=WORLDS)
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    """Each of the three places."""
    made = make_world(request.param, tmp_path, request)
    yield made
    await made.aclose()


@pytest.fixture(params=["sqlite", "redis"])
async def shared_world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    """Each of those that several processes share."""
    made = make_world(request.param, tmp_path, request)
    yield made
    await made.aclose()
