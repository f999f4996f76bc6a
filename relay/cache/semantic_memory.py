"""Answers by meaning in the memory of one worker, bounded by number, bytes and time.

The one that was used longest ago goes first, over all partitions. What has expired is never given,
and goes when it is found, or when it is the oldest and room is needed.
"""

from __future__ import annotations

from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from relay.cache.embed_base import Vector
from relay.cache.index_growing import GrowingIndex
from relay.cache.semantic_store import Neighbour
from relay.deadline import Clock

ENTRY_BYTES: Final = 900
"""What an entry takes beside its text, answer and vector: objects, places in four tables, links of
the graph. Measured by `python -m bench.semantic memory`."""
_VECTOR_BYTES: Final = 4
"""A number of it, in the flat part; the graph takes half as much."""
_EXPIRED_A_PUT: Final = 2
"""Of the oldest, so many are looked at with each new one."""


class _Entry:
    __slots__ = ("expires_s", "held_bytes", "key", "partition", "text", "written")

    def __init__(
        self,
        partition: bytes,
        text: str,
        written: bytes,
        expires_s: float,
        held_bytes: int,
        key: int | None,
    ) -> None:
        self.partition = partition
        self.text = text
        self.written = written
        self.expires_s = expires_s
        self.held_bytes = held_bytes
        self.key = key


class _Partition:
    __slots__ = ("index", "numbers")

    def __init__(self, index: GrowingIndex) -> None:
        self.index = index
        self.numbers: dict[str, int] = {}
        """Of each text."""


class MemoryVectors:
    """A `SemanticStore`.

    Args:
        max_entries, max_bytes: at least one of each; what does not fit is not kept.
        clock: monotonic.
    """

    def __init__(self, max_entries: int, max_bytes: int, *, clock: Clock) -> None:
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._clock = clock
        self._entries: OrderedDict[int, _Entry] = OrderedDict()
        self._partitions: dict[bytes, _Partition] = {}
        self._next = 0
        self._thread = ThreadPoolExecutor(1, "semantic-index")
        self._is_closed = False
        self.held_bytes = 0
        self.evicted = 0
        """Since the start, for want of room."""

    def __len__(self) -> int:
        return len(self._entries)

    async def check(self) -> None:
        """See `SemanticStore`: memory can."""

    def resize(self, max_entries: int, max_bytes: int) -> None:
        """From now on; what is too much goes at once."""
        self._max_entries, self._max_bytes = max_entries, max_bytes
        self._make_room()

    async def nearest(
        self, partition: bytes, vector: Vector, *, count: int, at_least: float
    ) -> list[Neighbour]:
        """See `SemanticStore`."""
        home = self._partitions.get(partition)
        if home is None or home.index.dimensions != len(vector):
            return []
        now_s = self._clock()
        found: list[Neighbour] = []
        for near in await home.index.search(vector, count):
            if near.similarity < at_least:
                break
            entry = self._entries.get(near.number)
            if entry is None:  # gone while the index was asked
                continue
            if now_s >= entry.expires_s:
                self._forget(near.number)
                continue
            found.append(Neighbour(entry.text, near.similarity, entry.written, entry.key))
        return found

    def used(self, partition: bytes, text: str) -> None:
        """An answer was given: it is the last to go now."""
        home = self._partitions.get(partition)
        number = None if home is None else home.numbers.get(text)
        if number is not None:
            self._entries.move_to_end(number)

    def put(
        self,
        partition: bytes,
        vector: Vector,
        text: str,
        written: bytes,
        ttl_s: float,
        key: int | None = None,
    ) -> None:
        """See `SemanticStore`."""
        held_bytes = len(written) + 2 * len(text) + _VECTOR_BYTES * len(vector) + ENTRY_BYTES
        if ttl_s <= 0 or held_bytes > self._max_bytes or self._is_closed:
            return
        home = self._partitions.get(partition)
        if home is not None and home.index.dimensions != len(vector):
            return  # a provider that changed its model behind its name; the old ones expire
        if home is not None and (old := home.numbers.get(text)) is not None:
            self._forget(old)
        now_s = self._clock()
        self._drop_expired(now_s)
        home = self._partitions.get(partition)  # the last of it may just have gone
        if home is None:
            home = _Partition(GrowingIndex(len(vector), self._thread))
            self._partitions[partition] = home
        number = self._next
        self._next += 1
        home.numbers[text] = number
        home.index.add(number, vector)
        self._entries[number] = _Entry(partition, text, written, now_s + ttl_s, held_bytes, key)
        self.held_bytes += held_bytes
        self._make_room()

    def describe(self) -> dict[str, object]:
        """See `SemanticStore`."""
        return {
            "entries": len(self._entries),
            "bytes": self.held_bytes,
            "partitions": len(self._partitions),
            "evicted": self.evicted,
        }

    @property
    def is_growing(self) -> bool:
        """Whether a thread is at work on an index."""
        return any(home.index.is_moving for home in self._partitions.values())

    async def settled(self) -> None:
        """Wait until every index has come to rest."""
        for home in [*self._partitions.values()]:
            await home.index.settled()

    async def aclose(self) -> None:
        """See `SemanticStore`. What a thread does to an index ends by itself, in milliseconds."""
        self._is_closed = True
        homes = [*self._partitions.values()]
        for home in homes:
            home.index.close()
        for home in homes:
            await home.index.settled()
        self._partitions.clear()
        self._entries.clear()
        self.held_bytes = 0
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _drop_expired(self, now_s: float) -> None:
        for _ in range(_EXPIRED_A_PUT):
            number = next(iter(self._entries), None)
            if number is None or now_s < self._entries[number].expires_s:
                return
            self._forget(number)

    def _forget(self, number: int) -> None:
        entry = self._entries.pop(number)
        self.held_bytes -= entry.held_bytes
        home = self._partitions[entry.partition]
        del home.numbers[entry.text]
        if home.numbers:
            home.index.remove(number)
        else:
            home.index.close()
            del self._partitions[entry.partition]

    def _make_room(self) -> None:
        while self.held_bytes > self._max_bytes or len(self._entries) > self._max_entries:
            self._forget(next(iter(self._entries)))
            self.evicted += 1
