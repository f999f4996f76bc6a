"""What a generation's way knows of caches."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from relay.answer import Answer
from relay.content import GenerateRequest
from relay.decision import Decision
from relay.policy.base import Legs


class CacheScope(NamedTuple):
    """Within which answers may be given again: part of every key."""

    tenant: str
    """The team; where there are no keys, the bearer's name."""
    key_id: str
    route: str
    """The name that rules and experiments have come to: an alias, a cascade, a panel."""
    zones: str
    """Data zones, sorted and joined; "" for anywhere."""
    version: str
    """Digest of everything in the configuration that could have made another answer."""


class Turn(Protocol):
    """What the caches have to do with one generation. Owed one `close`."""

    @property
    def answer(self) -> Answer | None:
        """A kept one; None on a miss."""
        ...

    def recording(self, answer: Answer) -> Answer:
        """On a miss: the same answer, kept when it has come to its clean end."""
        ...

    def close(self) -> None:
        """The generation is over, however it ended: whoever waited for the same goes on. What was
        recorded whole has been kept before. Idempotent, never waits or raises."""
        ...


class Caches(Protocol):
    """Of one worker; made once a configuration, over stores that outlive it."""

    async def turn(
        self, request: GenerateRequest, scope: CacheScope, decision: Decision, legs: Legs
    ) -> Turn | None:
        """Look a request up; an equal one that runs is waited for, for a bounded time.

        Args:
            request: as input guardrails left it.
            decision: `cache` and what belongs to it is filled.
            legs: to ask for embeddings, under the generation's account.

        Returns:
            None where nothing is to be kept or found.

        Raises:
            CacheMiss: nothing but a kept answer was wanted, and there is none.

        Nothing else but for bugs: a store that fails is a miss.
        Cancelled: nothing is held.
        """
        ...
