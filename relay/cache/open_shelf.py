"""From the configuration to where exact answers stand."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from relay.cache.memory import MemoryStore
from relay.cache.shelf import Shelf
from relay.config.cache import ExactCacheConfig
from relay.config.store import StoreConfig
from relay.deadline import Clock

if TYPE_CHECKING:
    from relay.cache.redis_store import RedisStore


def open_shelf(
    config: ExactCacheConfig,
    store: StoreConfig | None,
    *,
    clock: Clock = time.monotonic,
    wall_clock: Clock = time.time,
) -> Shelf:
    """Empty, but for what Redis has; whoever opens it closes it.

    Raises:
        ValueError: `store.redis` is no address; the message does not hold it.
    """
    shared: RedisStore | None = None
    if config.redis and store is not None and store.redis is not None:
        # Here: relays without Redis are spared its client's imports.
        from relay.cache.redis_store import RedisStore

        shared = RedisStore(
            store.redis.get_secret_value(), patience_s=config.redis_timeout_ms / 1000, clock=clock
        )
    return Shelf(
        MemoryStore(config.max_entries, config.max_bytes),
        shared,
        memory_ttl_s=float(config.memory_ttl_s),
        clock=clock,
        wall_clock=wall_clock,
    )


def resized(shelf: Shelf, config: ExactCacheConfig) -> None:
    """After a reload: memory as large as it may be now. Redis stays as it was opened."""
    shelf.memory.resize(config.max_entries, config.max_bytes)
    shelf.memory_ttl_s = float(config.memory_ttl_s)
