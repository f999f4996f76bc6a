"""The listeners that speak TLS, and the task that sees when their files change."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from datetime import datetime, timedelta

import structlog

from relay.config import Config, TlsConfig, is_like
from relay.config.pem_files import now
from relay.tls.door import Door
from relay.tls.loaded import TlsError

_log = structlog.get_logger("relay.tls")

WARN_BEFORE = timedelta(days=14)
"""Of a certificate's end: automatic renewal, a month before as a rule, has failed by then."""
WARN_EVERY = timedelta(days=1)


class Doors:
    """Of one process. `start` when it serves, `aclose` with it."""

    def __init__(self, config: Config, names: Collection[str] | None = None) -> None:
        """Blocks while the files are read.

        Args:
            names: of the listeners that this process has; None for all.

        Raises:
            TlsError: they are of no use.
        """
        self._doors: dict[str, Door] = {}
        for name in config.server.listeners if names is None else names:
            if (settings := config.tls_of(name)) is not None:
                try:
                    self._doors[name] = Door(name, settings)
                except TlsError as error:
                    raise TlsError(f"server.{name}.tls: {error}") from None
        self._lock = asyncio.Lock()
        self._warned_at: dict[str, datetime] = {}
        self._task: asyncio.Task[None] | None = None

    def __getitem__(self, name: str) -> Door | None:
        """Of a listener; None where it is plain."""
        return self._doors.get(name)

    def start(self) -> None:
        """Begin to look, where any listener wants it."""
        waits_ms = [door.settings.check_files_ms for door in self._doors.values()]
        if any(waits_ms):
            every_s = min(wait_ms for wait_ms in waits_ms if wait_ms) / 1000
            self._task = asyncio.create_task(self._run(every_s), name="tls files")

    async def aclose(self) -> None:
        """Stop looking. Idempotent."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def _run(self, every_s: float) -> None:
        while True:
            self.warn(now())
            await asyncio.sleep(every_s)
            try:
                await self._look([door for door in self.all if door.settings.check_files_ms])
            except Exception as error:  # noqa: BLE001 - it must go on
                _log.error("tls_bug", error=type(error).__name__, exc_info=error)

    @property
    def all(self) -> list[Door]:
        return list(self._doors.values())

    async def take(self, config: Config) -> None:
        """A new configuration, or a wish to look at once (SIGHUP): files at new places are taken
        up; of the rest, which needs a restart, a door keeps what it has. Never raises."""
        moved = [(door, config.tls_of(door.name)) for door in self.all]
        async with self._lock:
            for door, settings in moved:
                if is_like(door.settings, settings):
                    await _look_at(door, settings)

    async def _look(self, doors: list[Door]) -> None:
        async with self._lock:
            for door in doors:
                await _look_at(door, None)

    def warn(self, at: datetime) -> None:
        """Tell the log of certificates that end soon, once a day."""
        for door in self.all:
            ends_at = door.loaded.ends_at
            told_at = self._warned_at.get(door.name)
            if ends_at - at > WARN_BEFORE or (told_at is not None and at - told_at < WARN_EVERY):
                continue
            self._warned_at[door.name] = at
            has_ended = ends_at <= at
            _log.warning(
                "tls_certificate_expired" if has_ended else "tls_certificate_expires",
                listener=door.name,
                ends_at=f"{ends_at:%Y-%m-%dT%H:%M:%SZ}",
            )


async def _look_at(door: Door, settings: TlsConfig | None) -> None:
    try:
        is_new = await asyncio.to_thread(door.look, settings)
    except TlsError as error:
        _log.error("tls_files_refused", listener=door.name, fault=str(error))
        return
    if is_new:
        _log.info(
            "tls_files_taken_up",
            listener=door.name,
            ends_at=f"{door.loaded.ends_at:%Y-%m-%dT%H:%M:%SZ}",
        )
