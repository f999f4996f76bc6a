"""What the semantic cache's tests share: an embedder without a model, and the cache over it."""

from __future__ import annotations

import hashlib
import math
from typing import Any, cast

import pytest

np = pytest.importorskip("numpy", reason="the extra `semantic` is not installed")
pytest.importorskip("usearch", reason="the extra `semantic` is not installed")

from relay.cache.base import CacheScope  # noqa: E402
from relay.cache.embed_base import EmbeddingFailed, Vector  # noqa: E402
from relay.cache.semantic import SemanticCache, SemanticLook  # noqa: E402
from relay.cache.semantic_memory import MemoryVectors  # noqa: E402
from relay.cache.semantic_store import SemanticStore  # noqa: E402
from relay.cache.stored import Batch, Kept, Stored  # noqa: E402
from relay.config.semantic_cache import SemanticCacheConfig  # noqa: E402
from relay.content import GenerateRequest, ResponseInfo, TextDelta  # noqa: E402
from relay.policy.base import Legs  # noqa: E402
from tests.cache.world import NO_LEGS, SCOPE, asked, wall_s  # noqa: E402
from tests.fakes.virtual_time import now_s  # noqa: E402

DIMENSIONS = 64


class WordEmbedder:
    """A bag of words: each word a fixed direction, a text their sum. As blind to order and as deaf
    to "not" as real ones, and exact."""

    name = "words"
    default_threshold = 0.5

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.fails = False

    async def vector(self, text: str, request: GenerateRequest, legs: Legs) -> Vector:
        self.texts.append(text)
        if self.fails:
            raise EmbeddingFailed("no")
        return vector_of(text)

    async def aclose(self) -> None:
        pass


def vector_of(text: str) -> Vector:
    """Of `WordEmbedder`."""
    total = np.zeros(DIMENSIONS, dtype=np.float32)
    for word in text.casefold().replace("?", "").split():
        seed = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=4).digest(), "big")
        total += np.random.default_rng(seed).standard_normal(DIMENSIONS).astype(np.float32)
    return total / np.linalg.norm(total)


def stored(text: str = "Paris.", *, made_s: float | None = None, events: Any = ()) -> Stored:
    """A small whole answer."""
    told = [ResponseInfo("r", "large", 0), TextDelta(text), *events]
    made_s = wall_s() if made_s is None else made_s
    return Stored("acme", "large", made_s, 70, [Batch(0, cast(list[Kept], told))])


class World:
    """A semantic cache of one route, on a virtual clock."""

    def __init__(
        self,
        embedder: Any = None,
        *,
        store: SemanticStore | None = None,
        **config: Any,
    ) -> None:
        given = {"routes": {SCOPE.route: {}}, "embeddings": "wordllama", **config}
        self.config = SemanticCacheConfig(**given)
        self.embedder = embedder or WordEmbedder()
        self.store = store or MemoryVectors(
            self.config.max_entries, self.config.max_bytes, clock=now_s
        )
        self.cache = SemanticCache(self.config, self.store, self.embedder, wall_clock=wall_s)

    async def look(
        self,
        request: GenerateRequest | str,
        scope: CacheScope = SCOPE,
        *,
        is_refresh: bool = False,
        max_age_s: float = math.inf,
    ) -> SemanticLook | None:
        if isinstance(request, str):
            request = asked(request)
        return await self.cache.look(
            request, scope, NO_LEGS, is_refresh=is_refresh, max_age_s=max_age_s
        )

    async def keep(
        self,
        request: GenerateRequest | str,
        answer: str = "Paris.",
        scope: CacheScope = SCOPE,
        **fields: Any,
    ) -> None:
        """Miss and keep."""
        look = await self.look(request, scope)
        assert look is not None
        assert look.hit is None
        look.keep(stored(answer, **fields))

    async def answer(
        self, request: GenerateRequest | str, scope: CacheScope = SCOPE, **fields: Any
    ) -> str | None:
        """The kept text; None for a miss."""
        look = await self.look(request, scope, **fields)
        if look is None or look.hit is None:
            return None
        events = [event for batch in look.hit.stored.batches for event in batch.events]
        return "".join(event.text for event in events if isinstance(event, TextDelta))
