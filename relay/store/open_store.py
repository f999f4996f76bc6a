"""From the configuration to the stores of the hot path."""

from __future__ import annotations

from typing import TYPE_CHECKING

from relay.config.limits import LimitsConfig
from relay.config.store import StoreConfig
from relay.store.base import LedgerStore
from relay.store.learned import sqlite_path
from relay.store.limit_store import LimitStore
from relay.store.memory_limits import MemoryLimits
from relay.store.postgres_ledger import PostgresLedger
from relay.store.shared_limits import SharedLimits
from relay.store.sqlite_ledger import SqliteLedger
from relay.store.sqlite_limits import SqliteBackend

if TYPE_CHECKING:
    from relay.store.redis_limits import RedisBackend


def open_ledger(config: StoreConfig) -> LedgerStore:
    """Where accounts are kept; not started yet."""
    url = config.url.get_secret_value()
    path = sqlite_path(url)
    if path is not None:
        return SqliteLedger(path, config.durability, migrate=config.migrate)
    return PostgresLedger(url, migrate=config.migrate)


def open_limits(
    config: StoreConfig, limits: LimitsConfig, instance_id: str, *, is_shared: bool
) -> LimitStore:
    """Where limits are kept; not started yet.

    Args:
        is_shared: other workers of this machine count in the same ones.
    """
    lease_s, patience_s = float(limits.lease_s), limits.redis_timeout_ms / 1000
    path = sqlite_path(config.url.get_secret_value())
    backend: RedisBackend | SqliteBackend
    if config.redis is not None:
        # Here: relays without Redis are spared its client's imports.
        from relay.store.redis_limits import RedisBackend

        url = config.redis.get_secret_value()
        backend = RedisBackend(url, instance_id=instance_id, lease_s=lease_s)
    elif is_shared and path is not None:
        backend = SqliteBackend(path, instance_id=instance_id, lease_s=lease_s)
    else:
        return MemoryLimits()
    return SharedLimits(
        backend, patience_s=patience_s, lease_s=lease_s, when_down=limits.when_redis_is_down
    )
