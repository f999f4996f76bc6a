"""Servers and places for the tests of stores."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.fakes.redis_server import BINARY, RedisServer
from tests.store.limit_worlds import MemoryWorld, RedisWorld, SqliteWorld, World

WORLDS = ("memory", "sqlite", "redis")


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One for all tests of a session that leave it as it is."""
    if BINARY is None:
        pytest.skip("redis-server is not installed")
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


def make_world(name: str, directory: Path, request: pytest.FixtureRequest) -> World:
    if name == "memory":
        return MemoryWorld()
    if name == "sqlite":
        return SqliteWorld(directory)
    return RedisWorld(request.getfixturevalue("redis_server"))


@pytest.fixture(params=WORLDS)
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    """Each of the three places."""
    made = make_world(request.param, tmp_path, request)
    yield made
    await made.aclose()
