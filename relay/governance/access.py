"""Everything that lets callers in by keys, put together: for whoever starts a worker.

access = Access(config.auth, engine, clock)
await access.start()
services.gate = access.gate
...
await access.aclose()
"""

from __future__ import annotations

import time
from typing import Final

import structlog
from sqlalchemy import Engine

from relay.config import AuthConfig
from relay.deadline import Clock
from relay.governance.directory import Directory
from relay.governance.directory_sync import DirectorySync
from relay.governance.gate import KeyGate
from relay.governance.pepper import Pepper, Peppers
from relay.store.directory_reader import DirectoryReader

_log = structlog.get_logger("relay.keys")

_MISSED_LOOKS: Final = 4
_MIN_BEHIND_S: Final = 1.0


def peppers_of(config: AuthConfig) -> Peppers:
    """Of the configuration, which has looked at whether they are strong enough."""
    old = [Pepper(secret.get_secret_value()) for secret in config.old_peppers]
    return Peppers(Pepper(config.pepper.get_secret_value()), old)


class Access:
    """The directory, who keeps it up to date, and the gate that asks it."""

    def __init__(self, config: AuthConfig, engine: Engine, clock: Clock) -> None:
        """
        Args:
            engine: of the store; stays its owner's to dispose of, after `aclose`.
            clock: monotonic, seconds.
        """
        interval_s = config.sync_ms / 1000
        self.peppers: Final = peppers_of(config)
        self.directory: Final = Directory(
            self.peppers,
            clock,
            stale_s=float(config.stale_s),
            behind_s=max(_MIN_BEHIND_S, _MISSED_LOOKS * interval_s),
        )
        self.sync: Final = DirectorySync(
            self.directory, DirectoryReader(engine), clock, interval_s=interval_s
        )
        self.gate: Final = KeyGate(self.directory, clock, wall_us)

    async def start(self) -> None:
        """Read who may call. A store that cannot be read keeps nobody from starting: callers are
        told UNAVAILABLE until it can."""
        if not await self.sync.start():
            _log.error("keys_not_read", until="the store can be read, nobody is let in")

    async def aclose(self) -> None:
        """Look no more. Idempotent, bounded in time."""
        await self.sync.aclose()


def wall_us() -> int:
    """Microseconds since 1970."""
    return time.time_ns() // 1000
