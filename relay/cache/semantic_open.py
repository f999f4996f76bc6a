"""From the configuration to the semantic cache: what it needs is looked for once, at start."""

from __future__ import annotations

import asyncio
import importlib
import time
from pathlib import Path
from typing import TYPE_CHECKING

from relay.cache.embed_base import Embedder
from relay.cache.semantic_error import SemanticCacheError
from relay.cache.semantic_store import SemanticStore
from relay.config.semantic_cache import SemanticCacheConfig
from relay.config.store import StoreConfig
from relay.deadline import Clock

if TYPE_CHECKING:
    from relay.cache.semantic import SemanticCache

_NEEDED = ("numpy", "usearch")


async def open_vectors(
    config: SemanticCacheConfig, store: StoreConfig | None, *, clock: Clock = time.monotonic
) -> SemanticStore:
    """Where answers stand, empty but for what Redis has; whoever opens it closes it.

    Raises:
        SemanticCacheError: the extra is not installed, or Redis cannot search vectors.
        ValueError: `store.redis` is no address; the message does not hold it.
    """
    await asyncio.to_thread(_import_needed)
    # Here: relays without the extra have neither numpy nor usearch.
    if config.redis and store is not None and store.redis is not None:
        from relay.cache.semantic_redis import RedisVectors

        shared = RedisVectors(
            store.redis.get_secret_value(),
            patience_s=config.redis_timeout_ms / 1000,
            clock=clock,
            max_entries=config.max_entries,
        )
        try:
            await shared.check()
        except SemanticCacheError:
            await shared.aclose()
            raise
        return shared
    from relay.cache.semantic_memory import MemoryVectors

    return MemoryVectors(config.max_entries, config.max_bytes, clock=clock)


def resized(vectors: SemanticStore, config: SemanticCacheConfig) -> None:
    """After a reload: memory as large as it may be now. Redis stays as it was opened."""
    from relay.cache.semantic_memory import MemoryVectors

    if isinstance(vectors, MemoryVectors):
        vectors.resize(config.max_entries, config.max_bytes)


async def open_semantic(
    config: SemanticCacheConfig, vectors: SemanticStore, *, wall_clock: Clock = time.time
) -> SemanticCache:
    """The cache of one configuration. Models are read in a thread.

    Raises:
        SemanticCacheError: what makes the vectors is not installed or cannot be read.
    """
    embedder = await asyncio.to_thread(_embedder, config)
    from relay.cache.semantic import SemanticCache

    return SemanticCache(config, vectors, embedder, wall_clock=wall_clock)


def _embedder(config: SemanticCacheConfig) -> Embedder:
    if config.embeddings == "wordllama":
        from relay.cache.embed_wordllama import WordllamaEmbedder

        return WordllamaEmbedder.load()
    if config.embeddings == "onnx":
        from relay.cache.embed_onnx import OnnxEmbedder

        return OnnxEmbedder.load(Path(config.directory))
    from relay.cache.embed_provider import ProviderEmbedder

    return ProviderEmbedder(config.model, config.dimensions)


def _import_needed() -> None:
    missing = []
    for name in _NEEDED:
        try:
            importlib.import_module(name)
        except ImportError:
            missing.append(name)
    if missing:
        raise SemanticCacheError(
            f"cache.semantic: {' and '.join(missing)} cannot be imported; pip install"
            " 'rtrelay[semantic]'"
        )
