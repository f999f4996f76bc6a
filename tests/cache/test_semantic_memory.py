"""Answers by meaning in memory: bounded, expiring, and gone from the index when they are gone."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cache.semantic_world import vector_of
from tests.fakes.properties import examples
from tests.fakes.virtual_time import now_s, on_virtual_time, run

np = pytest.importorskip("numpy", reason="the extra `semantic` is not installed")

from relay.cache.semantic_memory import ENTRY_BYTES, MemoryVectors  # noqa: E402

HOME = b"p" * 24
AWAY = b"q" * 24


def store(max_entries: int = 10, max_bytes: int = 1 << 20) -> MemoryVectors:
    return MemoryVectors(max_entries, max_bytes, clock=now_s)


def put(vectors: MemoryVectors, text: str, *, home: bytes = HOME, ttl_s: float = 60.0) -> None:
    vectors.put(home, vector_of(text), text, text.encode(), ttl_s)


async def texts(vectors: MemoryVectors, text: str, home: bytes = HOME) -> list[str]:
    found = await vectors.nearest(home, vector_of(text), count=4, at_least=0.9)
    assert all(near.written == near.text.encode() for near in found)
    return [near.text for near in found]


@on_virtual_time
async def test_found_in_its_partition_alone() -> None:
    vectors = store()
    put(vectors, "one two")
    assert await texts(vectors, "one two") == ["one two"]
    assert await texts(vectors, "three four") == []
    assert await texts(vectors, "one two", AWAY) == []


@on_virtual_time
async def test_expires() -> None:
    vectors = store()
    put(vectors, "one", ttl_s=10)
    await asyncio.sleep(9.5)
    assert await texts(vectors, "one") == ["one"]
    await asyncio.sleep(0.5)
    assert await texts(vectors, "one") == []
    assert len(vectors) == 0
    assert vectors.held_bytes == 0
    assert vectors.describe()["partitions"] == 0


@on_virtual_time
async def test_what_was_used_longest_ago_goes_first() -> None:
    vectors = store(max_entries=2)
    put(vectors, "one")
    put(vectors, "two")
    vectors.used(HOME, "one")
    put(vectors, "three", home=AWAY)
    assert await texts(vectors, "one") == ["one"]
    assert await texts(vectors, "two") == []
    assert vectors.evicted == 1


@on_virtual_time
async def test_bounded_in_bytes() -> None:
    one = ENTRY_BYTES + 3 * len("word 0") + 4 * 64
    vectors = store(max_bytes=3 * one)
    for number in range(6):
        put(vectors, f"word {number}")
    assert len(vectors) == 3
    assert vectors.held_bytes == 3 * one
    vectors.resize(2, 3 * one)
    assert len(vectors) == 2
    vectors.put(HOME, vector_of("x"), "x", bytes(4 * one), 60)
    assert len(vectors) == 2


@on_virtual_time
async def test_the_same_text_takes_its_place() -> None:
    vectors = store()
    put(vectors, "one")
    vectors.put(HOME, vector_of("one"), "one", b"new", 60)
    (near,) = await vectors.nearest(HOME, vector_of("one"), count=4, at_least=0.9)
    assert near.written == b"new"
    assert len(vectors) == 1


@on_virtual_time
async def test_vectors_of_another_size_are_no_neighbours() -> None:
    vectors = store()
    put(vectors, "one")
    other = np.ones(5, dtype=np.float32) / np.sqrt(5)
    assert await vectors.nearest(HOME, other, count=4, at_least=0.0) == []
    vectors.put(HOME, other, "two", b"two", 60)
    assert await texts(vectors, "one") == ["one"]
    assert len(vectors) == 1


@on_virtual_time
async def test_closed_it_holds_nothing() -> None:
    vectors = store()
    put(vectors, "one")
    await vectors.aclose()
    await vectors.aclose()
    put(vectors, "two")
    assert await texts(vectors, "one") == []
    assert len(vectors) == 0


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["put", "put", "used", "wait", "find"]),
        st.sampled_from(["a b", "c d", "e f", "g h", "i j"]),
        st.sampled_from([HOME, AWAY]),
    ),
    max_size=40,
)


@given(STEPS)
@examples(40, full=3000)
def test_never_more_than_it_may_and_never_another(steps: Any) -> None:
    async def go() -> None:
        vectors = store(max_entries=4, max_bytes=5 * ENTRY_BYTES)
        kept: dict[tuple[bytes, str], float] = {}
        for step, text, home in steps:
            if step == "put":
                put(vectors, text, home=home, ttl_s=10)
                kept[home, text] = now_s() + 10
            elif step == "used":
                vectors.used(home, text)
            elif step == "wait":
                await asyncio.sleep(4)
            elif found := await texts(vectors, text, home):
                assert found == [text]
                assert now_s() < kept[home, text]
            assert len(vectors) <= 4
            assert vectors.held_bytes <= 5 * ENTRY_BYTES
        await vectors.aclose()

    run(go())
