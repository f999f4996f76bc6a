"""Where work goes that nobody waits for: aborted losers, streams that only need their last frame.

A task that is merely dropped can be collected while it runs and hides its errors; the reaper holds
each one until it is done, reports what it raised, and ends them all within a bound at shutdown.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import structlog

_log = structlog.get_logger("relay.reaper")


class Reaper:
    """Owns background tasks from `take` to their end. One per worker; `aclose` it last."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def take(self, work: Coroutine[Any, Any, Any]) -> None:
        """Run `work` to its end; never waits, never raises."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("background_task_failed", error=type(error).__name__, exc_info=error)

    def __len__(self) -> int:
        return len(self._tasks)

    async def aclose(self, grace_s: float = 1.0) -> None:
        """Wait up to `grace_s` for what runs, then cancel the rest and wait for it to go."""
        tasks = set(self._tasks)
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=grace_s)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late, timeout=grace_s)
