"""What a worker keeps of the semantic cache from one configuration to the next: answers, models.

What a configuration needs is looked for when it is taken up, so that a package or a file that is
missing stops a start or a reload, and no request.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from relay.cache.embed_base import Embedder
from relay.cache.semantic import SemanticCache
from relay.cache.semantic_error import SemanticCacheError
from relay.cache.semantic_store import SemanticStore
from relay.config.semantic_cache import SemanticCacheConfig
from relay.config.store import StoreConfig
from relay.deadline import Clock

_PACKAGES: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    "provider": ("semantic", ("numpy", "usearch")),
    "wordllama": ("semantic", ("numpy", "usearch", "wordllama")),
    "onnx": ("semantic-onnx", ("numpy", "usearch", "onnxruntime", "tokenizers")),
}
"""By who makes the vectors: the extra of `rtrelay`, and what it brings."""


def missing_packages(config: SemanticCacheConfig) -> str:
    """What is not installed here, and how to install it, in one line; empty where all is there."""
    extra, names = _PACKAGES[config.embeddings]
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if not missing:
        return ""
    return f"cache.semantic: not installed: {', '.join(missing)}; pip install 'rtrelay[{extra}]'"


class SemanticShelf:
    """Of one worker; whoever makes it closes it.

    Args:
        clock: monotonic.
        wall_clock: seconds since 1970.
    """

    def __init__(
        self,
        store: StoreConfig | None,
        *,
        clock: Clock = time.monotonic,
        wall_clock: Clock = time.time,
    ) -> None:
        self._config = store
        self._clock = clock
        self._wall_clock = wall_clock
        self._store: SemanticStore | None = None
        self._embedders: dict[tuple[object, ...], Embedder] = {}
        """By their settings. Those that are used no more stay: what runs may still ask them."""
        self._cache: SemanticCache | None = None

    def take(self, config: SemanticCacheConfig) -> SemanticCache:
        """The cache of one configuration, over what is kept already. A model that was not there
        before is read here and now: 0.2 s for wordllama, 0.4 s for one of 23 MB.

        Raises:
            SemanticCacheError: a package, a model or a file is missing.
            ValueError: `store.redis` is no address; the message does not hold it.
        """
        if missing := missing_packages(config):
            raise SemanticCacheError(missing)
        embedder = self._embedder(config)  # before the store: see `_loaded`
        if self._store is None:
            self._store = self._opened(config)
        else:
            self._store.resize(config.max_entries, config.max_bytes)
        self._cache = SemanticCache(config, self._store, embedder, wall_clock=self._wall_clock)
        return self._cache

    def lacks(self, config: SemanticCacheConfig) -> bool:
        """Whether `take` would read a model, which takes some tenths of a second."""
        return _settings(config) not in self._embedders

    async def load(self, config: SemanticCacheConfig) -> None:
        """Read what `take` needs in a thread, so that a reload stops nobody. What is missing is for
        `take` to tell."""
        if not self.lacks(config) or missing_packages(config):
            return
        with contextlib.suppress(SemanticCacheError):
            embedder = await asyncio.to_thread(_loaded, config)
            self._embedders.setdefault(_settings(config), embedder)

    async def check(self) -> None:
        """At start: whether Redis, if it is there to say so, has what is needed.

        Raises:
            SemanticCacheError: it has not; says what is missing.
        """
        if self._store is not None:
            await self._store.check()

    def describe(self) -> dict[str, object]:
        """For people; of the configuration that was taken last."""
        return {} if self._cache is None else self._cache.describe()

    async def aclose(self) -> None:
        """Bounded in time. Idempotent."""
        store, self._store = self._store, None
        embedders, self._embedders = self._embedders, {}
        if store is not None:
            await store.aclose()
        for embedder in embedders.values():
            await embedder.aclose()

    def _embedder(self, config: SemanticCacheConfig) -> Embedder:
        settings = _settings(config)
        found = self._embedders.get(settings)
        if found is None:
            found = self._embedders[settings] = _loaded(config)
        return found

    def _opened(self, config: SemanticCacheConfig) -> SemanticStore:
        # Late: relays without the extra have neither numpy nor usearch.
        store = self._config
        if config.redis and store is not None and store.redis is not None:
            from relay.cache.semantic_redis import RedisVectors

            return RedisVectors(
                store.redis.get_secret_value(),
                patience_s=config.redis_timeout_ms / 1000,
                clock=self._clock,
                max_entries=config.max_entries,
            )
        from relay.cache.semantic_memory import MemoryVectors

        return MemoryVectors(config.max_entries, config.max_bytes, clock=self._clock)


def _settings(config: SemanticCacheConfig) -> tuple[object, ...]:
    return (config.embeddings, config.model, config.dimensions, config.directory)


def _loaded(config: SemanticCacheConfig) -> Embedder:
    if config.embeddings == "wordllama":
        from relay.cache.embed_wordllama import WordllamaEmbedder

        return WordllamaEmbedder.load()
    if config.embeddings == "onnx":
        # Loaded behind usearch (2.26), onnxruntime (1.32) ends the process by a segmentation fault;
        # the other way round both are well.
        if "usearch" in sys.modules and "onnxruntime" not in sys.modules:
            raise SemanticCacheError(
                "cache.semantic.embeddings: `onnx` is taken up at a restart, not at a reload of a"
                " relay that has a semantic cache already"
            )
        from relay.cache.embed_onnx import OnnxEmbedder

        return OnnxEmbedder.load(Path(config.directory))
    from relay.cache.embed_provider import ProviderEmbedder

    return ProviderEmbedder(config.model, config.dimensions)
