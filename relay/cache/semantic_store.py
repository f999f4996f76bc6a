"""Where answers stand that are found by meaning: what the cache knows of its stores."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from relay.cache.embed_base import Vector


class Neighbour(NamedTuple):
    """A kept answer to a turn near the one that is asked."""

    text: str
    similarity: float
    written: bytes
    """The answer, as `Stored.encode` wrote it."""
    key: int | None
    """Its text's `strict_key`; None where that is not known."""


class SemanticStore(Protocol):
    """Outlives reloads of the configuration. Partitions never see each other's."""

    async def nearest(
        self, partition: bytes, vector: Vector, *, count: int, at_least: float
    ) -> list[Neighbour]:
        """Of one partition, nearest first, none of which has expired.

        Args:
            count: at most.
            at_least: similarity.

        Never raises but for bugs; a store that cannot say has none. Cancelled: nothing is held.
        """
        ...

    def put(
        self,
        partition: bytes,
        vector: Vector,
        text: str,
        written: bytes,
        ttl_s: float,
        key: int | None = None,
    ) -> None:
        """Keep an answer, in place of what the same text had. Never waits or raises."""
        ...

    async def check(self) -> None:
        """At start.

        Raises:
            SemanticCacheError: it cannot do what is needed; says what is missing.
        """
        ...

    def resize(self, max_entries: int, max_bytes: int) -> None:
        """From now on."""
        ...

    def used(self, partition: bytes, text: str) -> None:
        """The answer to this text was given."""
        ...

    def describe(self) -> dict[str, object]:
        """For people."""
        ...

    async def aclose(self) -> None:
        """Bounded in time. Idempotent."""
        ...
