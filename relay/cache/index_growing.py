"""An index that begins flat and grows into a graph, without the loop ever waiting for it to grow.

New vectors are found at once, in the flat part. When that has become large, a task moves them into
the graph, a few at a time and in a thread; each stays in the flat part until the graph has it. What
is removed is forgotten at once and taken out of the graph later. A search that comes while the
thread has the graph waits for those few, and the loop goes on meanwhile.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor
from typing import Final

from relay.cache.embed_base import Vector
from relay.cache.index_flat import FlatIndex, Near
from relay.cache.index_graph import GraphIndex

FLAT_FLOATS: Final = 1 << 19
"""Of the flat part: 2048 vectors of 256 numbers, compared in a tenth of a millisecond."""
STEP: Final = 1
"""Vectors that a thread adds before whoever searches has a turn."""
_MOST_DEAD: Final = 64
_MOST_LEFT: Final = 2
"""Of the flat part, moving stops at one in so many."""


class GrowingIndex:
    """Of one loop.

    Args:
        thread: where the graph is changed; not owned.
    """

    def __init__(
        self, dimensions: int, thread: Executor, *, flat_floats: int = FLAT_FLOATS
    ) -> None:
        self.dimensions = dimensions
        self._flat = FlatIndex(dimensions)
        self._flat_most = max(16, flat_floats // dimensions)
        self._graph: GraphIndex | None = None
        self._dead: set[int] = set()
        """In the graph, and removed."""
        self._thread = thread
        self._turn = asyncio.Lock()
        """Whose the graph is."""
        self._moving: asyncio.Task[None] | None = None
        self._is_closed = False

    def __len__(self) -> int:
        graph = 0 if self._graph is None else len(self._graph) - len(self._dead)
        return len(self._flat) + graph

    @property
    def is_moving(self) -> bool:
        """Whether a thread is at work."""
        return self._moving is not None

    def add(self, number: int, vector: Vector) -> None:
        """A number that was never there before."""
        self._flat.add(number, vector)
        if len(self._flat) > self._flat_most:
            self._move()

    def remove(self, number: int) -> None:
        """A number that is there."""
        if not self._flat.remove(number):
            self._dead.add(number)
            if len(self._dead) >= _MOST_DEAD:
                self._move()

    async def search(self, vector: Vector, count: int) -> list[Near]:
        """The nearest, nearest first; of the graph about the nearest.

        Cancelled: nothing is held.
        """
        if self._graph is None:
            return self._flat.search(vector, count)
        async with self._turn:
            found = self._graph.search(vector, count + min(len(self._dead), _MOST_DEAD))
            flat = self._flat.search(vector, count)
        known = {near.number for near in flat}
        flat += [
            near for near in found if near.number not in self._dead and near.number not in known
        ]
        flat.sort(key=_similarity, reverse=True)
        return flat[:count]

    async def settled(self) -> None:
        """Wait until nothing is being moved."""
        while self._moving is not None:
            await asyncio.wait([self._moving])

    def close(self) -> None:
        """Nothing is moved any more; the few that a thread has are let go."""
        self._is_closed = True
        if self._moving is not None:
            self._moving.cancel()

    def _move(self) -> None:
        if self._moving is None and not self._is_closed:
            self._moving = asyncio.get_running_loop().create_task(
                self._moved(), name="semantic cache: index grows"
            )
            self._moving.add_done_callback(self._is_over)

    def _is_over(self, task: asyncio.Task[None]) -> None:
        self._moving = None
        if not task.cancelled() and (error := task.exception()) is not None:
            task.get_loop().call_exception_handler(
                {"message": "semantic cache: an index could not grow", "exception": error}
            )

    async def _moved(self) -> None:
        loop = asyncio.get_running_loop()
        graph = self._graph
        if graph is None:
            graph = await loop.run_in_executor(self._thread, GraphIndex, self.dimensions)
            self._graph = graph
        while len(self._flat) > self._flat_most // _MOST_LEFT:
            numbers, rows = self._flat.some(STEP)
            async with self._turn:
                await _to_its_end(loop.run_in_executor(self._thread, graph.add, numbers, rows))
                for number in numbers:
                    if not self._flat.remove(number):  # removed while the thread had it
                        self._dead.add(number)
        while self._dead:
            dead = [*self._dead][:STEP]
            async with self._turn:
                await _to_its_end(loop.run_in_executor(self._thread, graph.remove, dead))
                self._dead.difference_update(dead)


async def _to_its_end(work: asyncio.Future[None]) -> None:
    """A thread cannot be stopped: cancelled, it is waited for; the graph is its own until then."""
    try:
        await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait([work])
        raise


def _similarity(near: Near) -> float:
    return near.similarity
