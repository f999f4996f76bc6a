"""Indices: the nearest are found while they grow, and the loop never waits for that."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.properties import examples

np = pytest.importorskip("numpy", reason="the extra `semantic` is not installed")
pytest.importorskip("usearch", reason="the extra `semantic` is not installed")

from relay.cache.index_flat import FlatIndex  # noqa: E402
from relay.cache.index_graph import GraphIndex  # noqa: E402
from relay.cache.index_growing import GrowingIndex  # noqa: E402

SIZE = 8


@pytest.fixture
def thread() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


def vectors(count: int, seed: int = 1, size: int = SIZE) -> Any:
    rows = np.random.default_rng(seed).standard_normal((count, size)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


ROWS = vectors(64)
STEPS = st.lists(
    st.tuples(st.sampled_from(["add", "add", "remove", "search"]), st.integers(0, 63)), max_size=80
)


@given(STEPS)
@examples(60, full=5000)
def test_flat_finds_what_there_is(steps: list[tuple[str, int]]) -> None:
    index = FlatIndex(SIZE)
    held: set[int] = set()
    for step, number in steps:
        if step == "add":
            index.add(number, ROWS[number])
            held.add(number)
        elif step == "remove":
            assert index.remove(number) == (number in held)
            held.discard(number)
        else:
            found = index.search(ROWS[number], 5)
            scores = sorted((float(ROWS[one] @ ROWS[number]) for one in held), reverse=True)
            assert [near.similarity for near in found] == pytest.approx(scores[:5], abs=1e-5)
            assert {near.number for near in found} <= held
        assert len(index) == len(held)


@given(STEPS)
@examples(25, full=1000)
def test_growing_holds_what_was_added(steps: list[tuple[str, int]]) -> None:
    """With a flat part of 16, so that most of it goes through the graph; numbers are used once."""

    async def run() -> None:
        with ThreadPoolExecutor(1) as thread:
            index = GrowingIndex(SIZE, thread, flat_floats=16 * SIZE)
            held: dict[int, int] = {}
            for following, (step, row) in enumerate(steps):
                if step == "add":
                    index.add(following, ROWS[row])
                    held[following] = row
                elif step == "remove" and held:
                    number = [*held][row % len(held)]
                    index.remove(number)
                    del held[number]
                else:
                    found = await index.search(ROWS[row], 4)
                    assert {near.number for near in found} <= held.keys()
                    best = max(
                        (float(ROWS[one] @ ROWS[row]) for one in held.values()), default=None
                    )
                    if best is not None:
                        assert found[0].similarity == pytest.approx(best, abs=0.01)
                assert len(index) == len(held)
            await index.settled()
            assert len(index) == len(held)
            found = await index.search(ROWS[0], 64)
            assert len({near.number for near in found}) == len(found)
            index.close()
            await index.settled()

    asyncio.run(run())


async def test_new_ones_are_found_while_it_grows(thread: ThreadPoolExecutor) -> None:
    rows = vectors(600, size=32)
    index = GrowingIndex(32, thread, flat_floats=100 * 32)
    for number, row in enumerate(rows):
        index.add(number, row)
        if number % 50 == 0:
            (near,) = await index.search(row, 1)
            assert near.number == number
    await index.settled()
    assert not index.is_moving
    found = [(await index.search(row, 1))[0].number for row in rows]
    assert sum(number == place for place, number in enumerate(found)) >= 0.99 * len(rows)


async def test_the_loop_goes_on_while_a_thread_has_the_graph(
    thread: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = threading.Event()
    let_go = threading.Event()
    add = GraphIndex.add

    def slow(self: GraphIndex, numbers: Any, rows: Any) -> None:
        held.set()
        assert let_go.wait(5)
        add(self, numbers, rows)

    monkeypatch.setattr(GraphIndex, "add", slow)
    index = GrowingIndex(SIZE, thread, flat_floats=16 * SIZE)
    for number in range(17):
        index.add(number, ROWS[number])
    await asyncio.to_thread(held.wait, 5)
    search = asyncio.create_task(index.search(ROWS[3], 1))
    for _ in range(10):
        await asyncio.sleep(0)
    assert not search.done()  # waits for its turn, and nobody else does
    index.remove(0)  # in the thread's hands
    let_go.set()
    (near,) = await search
    assert near.number == 3
    await index.settled()
    assert len(index) == 16
    assert all(near.number != 0 for near in await index.search(ROWS[0], 17))


async def test_a_search_that_is_cancelled_holds_nothing(thread: ThreadPoolExecutor) -> None:
    index = GrowingIndex(SIZE, thread, flat_floats=16 * SIZE)
    for number in range(40):
        index.add(number, ROWS[number])
    search = asyncio.create_task(index.search(ROWS[3], 1))
    await asyncio.sleep(0)
    search.cancel()
    await asyncio.wait([search])
    await index.settled()
    assert (await index.search(ROWS[3], 1))[0].number == 3


async def test_closed_while_it_grows(thread: ThreadPoolExecutor) -> None:
    index = GrowingIndex(SIZE, thread, flat_floats=16 * SIZE)
    for number in range(60):
        index.add(number, ROWS[number])
    await asyncio.sleep(0)
    index.close()
    await index.settled()
    index.add(60, ROWS[60])
    assert not index.is_moving
