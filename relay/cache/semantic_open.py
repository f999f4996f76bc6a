"""From the configuration to the semantic cache: what it needs is looked for once, at start."""

from __future__ import annotations

import asyncio
import importlib.util
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


async def open_vectors(
    config: SemanticCacheConfig, store: StoreConfig | None, *, clock: Clock = time.monotonic
) -> SemanticStore:
    """Where answers stand, empty but for what Redis has; whoever opens it closes it.

    Raises:
        SemanticCacheError: the extra is not installed, or Redis cannot search vectors.
        ValueError: `store.redis` is no address; the message does not hold it.
    """
    _check_packages(config)
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
    """After a reload: as large as it may be now. Redis stays as it was opened otherwise."""
    vectors.resize(config.max_entries, config.max_bytes)


async def open_semantic(
    config: SemanticCacheConfig, vectors: SemanticStore, *, wall_clock: Clock = time.time
) -> SemanticCache:
    """The cache of one configuration. Models are read in a thread.

    Raises:
        SemanticCacheError: what makes the vectors is not installed or cannot be read.
    """
    _check_packages(config)
    embedder = await asyncio.to_thread(_embedder, config)
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


def _check_packages(config: SemanticCacheConfig) -> None:
    extra, names = _PACKAGES[config.embeddings]
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if missing:
        raise SemanticCacheError(
            f"cache.semantic: {' and '.join(missing)}"
            f" {'is' if len(missing) == 1 else 'are'} not installed; pip install 'rtrelay[{extra}]'"
        )
