"""Where exact answers stand: this worker's memory, and Redis behind it where there is one.

It outlives reloads of the configuration. With Redis, memory is a short-lived copy, so that what
another worker has refreshed is seen here after `memory_ttl_s` at the latest.
"""

from __future__ import annotations

import math
from typing import Protocol

from relay.cache.memory import MemoryStore
from relay.cache.single_flight import Flights
from relay.cache.stored import Given, Stored
from relay.deadline import Clock


class SharedStore(Protocol):
    """What several workers have in common; see `RedisStore`."""

    async def get(self, key: bytes, max_bytes: int) -> bytes | None: ...

    def put(self, key: bytes, written: bytes, ttl_s: float) -> None: ...

    def describe(self) -> dict[str, object]: ...

    async def aclose(self) -> None: ...


class Shelf:
    """See the module.

    Args:
        memory, shared: owned; closed with this.
        memory_ttl_s: with a shared store, the longest that memory alone is asked.
        clock: monotonic.
        wall_clock: seconds since 1970.
    """

    def __init__(
        self,
        memory: MemoryStore,
        shared: SharedStore | None = None,
        *,
        memory_ttl_s: float = math.inf,
        clock: Clock,
        wall_clock: Clock,
    ) -> None:
        self.memory = memory
        self.shared = shared
        self.memory_ttl_s = memory_ttl_s
        self.clock = clock
        self.wall_clock = wall_clock
        self.flights: Flights[Given] = Flights()
        """What is being asked now."""
        self.unreadable = 0
        """Answers that were there and could not be read: of another version, or broken."""

    def at_hand(self, key: bytes, max_age_s: float) -> Stored | None:
        """Out of memory."""
        written = self.memory.get(key, self.clock())
        if written is None:
            return None
        return self._read(written, max_age_s)

    async def fetch(self, key: bytes, max_age_s: float, max_bytes: int) -> Stored | None:
        """Out of the shared store; memory then has it too.

        Never raises; takes no longer than that store's patience.
        """
        if self.shared is None:
            return None
        written = await self.shared.get(key, max_bytes)
        if written is None:
            return None
        stored = self._read(written, max_age_s)
        if stored is not None:
            left_s = max_age_s - stored.age_s(self.wall_clock())
            self.memory.put(key, written, min(left_s, self.memory_ttl_s), self.clock())
        return stored

    def put(self, key: bytes, written: bytes, ttl_s: float) -> None:
        """Keep it, here and there. Never waits or raises."""
        if self.shared is None:
            self.memory.put(key, written, ttl_s, self.clock())
        else:
            self.memory.put(key, written, min(ttl_s, self.memory_ttl_s), self.clock())
            self.shared.put(key, written, ttl_s)

    def describe(self) -> dict[str, object]:
        """For people."""
        told: dict[str, object] = {
            "entries": len(self.memory),
            "bytes": self.memory.held_bytes,
            "evicted": self.memory.evicted,
            "unreadable": self.unreadable,
            "asked_now": len(self.flights),
            "handed_on": self.flights.handed_on,
        }
        if self.shared is not None:
            told["redis"] = self.shared.describe()
        return told

    async def aclose(self) -> None:
        """Close the shared store; bounded in time."""
        if self.shared is not None:
            await self.shared.aclose()

    def _read(self, written: bytes, max_age_s: float) -> Stored | None:
        stored = Stored.decode(written)
        if stored is None:
            self.unreadable += 1
            return None
        return stored if stored.age_s(self.wall_clock()) <= max_age_s else None
