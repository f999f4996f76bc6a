"""Deletes old accounts once a day, in the first worker of a machine."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Final, Protocol

import structlog

from relay.governance import audit_actions as actions
from relay.governance.audit_trail import Trail
from relay.store.base import StoreUnavailable

_log = structlog.get_logger("relay.retention")

FIRST_S: Final = 60.0
"""After the start: a worker that is restarted often still comes to it."""
EVERY_S: Final = 86_400.0
AGAIN_S: Final = 600.0
"""After the store could not be reached or written."""
CLOSE_S: Final = 2.0


class Step(Protocol):
    """What is done (`relay.store.retention.Retention`)."""

    def step(self, now_us: int) -> int:
        """Delete all that is too old; returns how many. Blocking."""
        ...


class _Stopped(Exception):
    """The worker is closing."""


class RetentionTask:
    """One worker's.

    Args:
        made: of the function that waits between batches, which ends the work at `aclose`.
        trail: is told how many were deleted.
        now_us: microseconds since 1970.
        first_s, every_s: until the first time, and from then on.
    """

    def __init__(
        self,
        made: Callable[[Callable[[float], object]], Step],
        trail: Trail,
        now_us: Callable[[], int],
        *,
        first_s: float = FIRST_S,
        every_s: float = EVERY_S,
    ) -> None:
        self._step = made(self._pause)
        self._trail = trail
        self._now_us = now_us
        self._first_s = first_s
        self._every_s = every_s
        self._stop = threading.Event()
        self._task: asyncio.Task[None] | None = None
        self._work: asyncio.Task[int] | None = None

    def start(self) -> None:
        """Begin; `aclose` ends it."""
        self._task = asyncio.create_task(self._run(), name="retention")

    async def aclose(self) -> None:
        """A batch that runs goes on to its end. Idempotent, bounded in time."""
        self._stop.set()
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        if self._work is not None:
            await asyncio.wait([self._work], timeout=CLOSE_S)

    def _pause(self, seconds: float) -> None:
        if self._stop.wait(seconds):
            raise _Stopped

    async def _run(self) -> None:
        pause_s = self._first_s
        while True:
            await asyncio.sleep(pause_s)
            pause_s = await self.once()

    async def once(self) -> float:
        """Delete what is too old now; returns seconds until the next time."""
        now_us = self._now_us()
        try:
            self._work = asyncio.create_task(asyncio.to_thread(self._step.step, now_us))
            # When cancelled the thread still has the database, until its batch is over.
            deleted = await asyncio.shield(self._work)
        except _Stopped:
            return self._every_s
        except StoreUnavailable as error:
            _log.warning("retention_behind", why=str(error))
            return min(AGAIN_S, self._every_s)
        except Exception as error:  # noqa: BLE001 - it must be tried again tomorrow
            _log.error("retention_bug", error=type(error).__name__, exc_info=error)
            return self._every_s
        if deleted:
            _log.info("usage_purged", generations=deleted)
            self._trail.note(
                actions.USAGE_PURGED,
                at_us=now_us,
                actor=actions.RELAY,
                detail={"generations": deleted},
            )
        return self._every_s
