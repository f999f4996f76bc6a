"""A cache that looks by meaning, as the exact one sees it: asked after that one had nothing."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from relay.cache.base import CacheScope
from relay.cache.stored import Stored
from relay.content import GenerateRequest
from relay.policy.base import Legs


class NearHit(NamedTuple):
    """A kept answer to a request that means the same."""

    stored: Stored
    similarity: float
    """From 0 to 1."""


class NearLook(Protocol):
    """One request, looked up. It holds what was found out about it (its vector), so that the answer
    can be kept without asking twice."""

    @property
    def hit(self) -> NearHit | None:
        """None: ask a provider."""
        ...

    def keep(self, stored: Stored) -> None:
        """A provider has answered, whole. Called at most once, and not after a hit.

        Never waits or raises; what takes time goes on by itself, for a bounded time.
        """
        ...


class Near(Protocol):
    """Of one configuration, over a store that outlives it."""

    async def look(
        self,
        request: GenerateRequest,
        scope: CacheScope,
        legs: Legs,
        *,
        is_refresh: bool,
        max_age_s: float,
    ) -> NearLook | None:
        """Look a request up.

        Args:
            legs: to ask for embeddings, under the generation's account.
            is_refresh: nothing kept is wanted, but the new answer may be kept.
            max_age_s: nothing older is wanted, nor kept longer; infinite where the client did not
                say. What the operator allows is the cache's own to know.

        Returns:
            None where the cache has nothing to do with it: not of this route, no plain last user
            turn, the embedding could not be had in time.

        Never raises but for bugs, and takes a bounded time.
        Cancelled: nothing is held.
        """
        ...

    async def aclose(self) -> None:
        """Let go of what `keep` has begun; bounded in time."""
        ...
