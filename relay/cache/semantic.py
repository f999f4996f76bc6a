"""The semantic cache: an answer is given again to a turn that means the same.

    request -> last user turn (`semantic_turn`): a text, and a digest of all the rest
            -> vector of the text (`embed_*`)
            -> nearest kept turns of the digest's partition (`semantic_memory`, `semantic_redis`)
            -> the guard (`guard_meaning`): numbers, negations, names, ... differ in nothing
            -> its answer

Nothing but the last user turn's text is compared by meaning. Another tenant's answers, those of
another route, version of the configuration, system prompt, tools, earlier turns or sampling are in
other partitions and cannot be found.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from functools import lru_cache
from typing import Final

import structlog

from relay.cache.base import CacheScope
from relay.cache.embed_base import Embedder, EmbeddingFailed, Vector
from relay.cache.guard_meaning import Guard, Meaning, difference, meaning_of, strict_key
from relay.cache.near import NearHit
from relay.cache.semantic_store import SemanticStore
from relay.cache.semantic_turn import LastTurn, last_turn
from relay.cache.stored import Stored
from relay.config.semantic_cache import SemanticCacheConfig
from relay.content import GenerateRequest, ToolCallDone, ToolCallStart
from relay.deadline import Clock
from relay.policy.base import Legs

_log = structlog.get_logger("relay.cache")

_meaning: Final = lru_cache(maxsize=4096)(meaning_of)
_TELL_EVERY: Final = 1000


class SemanticCache:
    """A `Near`, of one configuration.

    Args:
        store, embedder: not owned; they outlive this.
        wall_clock: seconds since 1970.
    """

    def __init__(
        self,
        config: SemanticCacheConfig,
        store: SemanticStore,
        embedder: Embedder,
        *,
        wall_clock: Clock,
    ) -> None:
        self._config = config
        self._store = store
        self._embedder = embedder
        self._wall_clock = wall_clock
        self.counts: Counter[str] = Counter()
        """`look`, `hit`, `far` (nothing near), `no_vector`, and how often a neighbour was refused:
        the nearest as `differs_in_...` by the guard's word, others as `differs`."""

    async def look(
        self,
        request: GenerateRequest,
        scope: CacheScope,
        legs: Legs,
        *,
        is_refresh: bool,
        max_age_s: float,
    ) -> SemanticLook | None:
        """See `Near.look`."""
        config = self._config
        route = config.routes.get(scope.route)
        if route is None:
            return None
        turn = last_turn(
            request,
            scope,
            share=config.share,
            epoch=config.epoch,
            embedder=self._embedder.name,
            max_chars=config.max_chars,
        )
        if turn is None:
            return None
        self.counts["look"] += 1
        try:
            async with asyncio.timeout(config.embedding_timeout_ms / 1000):
                vector = await self._embedder.vector(turn.text, request, legs)
        except (EmbeddingFailed, TimeoutError) as error:
            self._no_vector(error)
            return None
        ttl_s = min(max_age_s, float(route.ttl_s or config.ttl_s))
        look = SemanticLook(self, turn, vector, ttl_s)
        if not is_refresh:
            threshold = route.threshold or config.threshold or self._embedder.default_threshold
            look.hit = await self._hit(look, threshold, route.guard or config.guard)
        return look

    async def _hit(self, look: SemanticLook, threshold: float, guard: Guard) -> NearHit | None:
        turn = look.turn
        near = await self._store.nearest(
            turn.partition, look.vector, count=self._config.neighbours, at_least=threshold
        )
        if not near:
            self.counts["far"] += 1
            return None
        meant: Meaning | None = None
        key: int | None = None
        for place, neighbour in enumerate(near):
            if neighbour.text != turn.text:
                if meant is None:
                    meant = _meaning(turn.text)
                    key = strict_key(meant)
                if place and guard == "strict" and neighbour.key not in (key, None):
                    self.counts["differs"] += 1  # in what is told of the nearest alone
                    continue
                if found := difference(_meaning(neighbour.text), meant, guard):
                    self.counts[f"differs_in_{found}"] += 1
                    continue
            stored = Stored.decode(neighbour.written)
            if stored is None or stored.age_s(self._wall_clock()) > look.ttl_s:
                continue
            self.counts["hit"] += 1
            self._store.used(turn.partition, neighbour.text)
            return NearHit(stored, min(1.0, max(0.0, neighbour.similarity)))
        return None

    def keep(self, look: SemanticLook, stored: Stored) -> None:
        """See `NearLook.keep`. Not answers that call tools: what they say to do is for the words
        that were said, and no others."""
        if any(
            isinstance(event, ToolCallStart | ToolCallDone)
            for batch in stored.batches
            for event in batch.events
        ):
            return
        written = stored.encode()
        if len(written) <= self._config.max_answer_bytes:
            turn = look.turn
            key = strict_key(_meaning(turn.text))
            self._store.put(turn.partition, look.vector, turn.text, written, look.ttl_s, key)

    def describe(self) -> dict[str, object]:
        """For people."""
        return {**self.counts, **self._store.describe()}

    async def aclose(self) -> None:
        """See `Near.aclose`: what is under way belongs to the store."""

    def _no_vector(self, error: Exception) -> None:
        self.counts["no_vector"] += 1
        if self.counts["no_vector"] % _TELL_EVERY == 1:
            _log.warning(
                "semantic_cache_no_vector",
                why=str(error) or f"{self._config.embedding_timeout_ms} ms were not enough",
                times=self.counts["no_vector"],
            )


class SemanticLook:
    """A `NearLook`."""

    def __init__(self, cache: SemanticCache, turn: LastTurn, vector: Vector, ttl_s: float) -> None:
        self._cache = cache
        self.turn = turn
        self.vector = vector
        self.ttl_s = ttl_s
        """How old an answer may be, and how long this one's is kept."""
        self.hit: NearHit | None = None

    def keep(self, stored: Stored) -> None:
        """See `NearLook`."""
        self._cache.keep(self, stored)
