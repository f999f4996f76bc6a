"""From the configuration to the stores of the hot path."""

from __future__ import annotations

from relay.config.store import StoreConfig
from relay.store.base import LedgerStore
from relay.store.learned import sqlite_path
from relay.store.limit_store import LimitStore
from relay.store.memory_limits import MemoryLimits
from relay.store.postgres_ledger import PostgresLedger
from relay.store.redis_limits import RedisBackend
from relay.store.shared_limits import SharedLimits
from relay.store.sqlite_ledger import SqliteLedger
from relay.store.sqlite_limits import SqliteBackend


def open_ledger(config: StoreConfig) -> LedgerStore:
    """Where accounts are kept; not started yet."""
    url = config.url.get_secret_value()
    path = sqlite_path(url)
    if path is not None:
        return SqliteLedger(path, config.durability, migrate=config.migrate)
    return PostgresLedger(url)


def open_limits(config: StoreConfig, instance_id: str, *, is_shared: bool) -> LimitStore:
    """Where limits are kept; not started yet.

    Args:
        is_shared: other workers of this machine count in the same ones.
    """
    if config.redis is not None:
        return SharedLimits(RedisBackend(config.redis.get_secret_value(), instance_id=instance_id))
    path = sqlite_path(config.url.get_secret_value())
    if is_shared and path is not None:
        return SharedLimits(SqliteBackend(path, instance_id=instance_id))
    return MemoryLimits()
