"""Metrics of several workers, on the supervisor's port.

Each scrape asks all of them at once. What a worker had told last is kept when it dies, and so that
little is lost with it, they are asked every `KEEP_S` too, whether anybody scrapes or not.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final, Protocol

import structlog

from relay.config import MetricsConfig
from relay.observability.metrics import families as of
from relay.observability.metrics.bounds import bounds_by_name
from relay.observability.metrics.join import WorkersJoin
from relay.observability.metrics.page import page
from relay.observability.metrics.snapshot import read

_log = structlog.get_logger("relay.metrics")

KEEP_S: Final = 5.0
QUESTION: Final = "metrics"


class Asks(Protocol):
    """`relay.supervisor.Supervisor`, as far as it is needed here."""

    @property
    def count(self) -> int:
        """Workers that there should be."""
        ...

    @property
    def restarts(self) -> int:
        """Workers that were started in another's place."""
        ...

    async def ask(self, what: str) -> dict[int, Any]:
        """Every worker's answer by number; exceptions of those that gave none."""
        ...


class SupervisorMetrics:
    """`start` it, `aclose` it."""

    def __init__(self, config: MetricsConfig, workers: Asks, *, keep_s: float = KEEP_S) -> None:
        self._workers = workers
        self._keep_s = keep_s
        self._bounds = bounds_by_name(config)
        self._join = WorkersJoin()
        self._lock = asyncio.Lock()
        """One question at a time: an answer that was overtaken must not count for a later one."""
        self._task: asyncio.Task[None] | None = None
        self.path = config.path

    def start(self) -> None:
        """Begin to keep what workers tell."""
        self._task = asyncio.create_task(self._keep(), name="metrics")

    async def aclose(self) -> None:
        """Stop. Idempotent."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def page(self) -> bytes:
        """Of all workers; waits for them for no longer than the supervisor does."""
        async with self._lock:
            answered = await self._ask()
            series = await asyncio.to_thread(self._join.joined, answered)
        for number in range(self._workers.count):
            rows = series.setdefault(of.ANSWERS.name, {})
            rows.setdefault(str(number), 0)
        series[of.WORKERS.name] = {"": self._workers.count}
        series[of.ANSWERING.name] = {"": len(answered)}
        series[of.RESTARTS.name] = {"": self._workers.restarts}
        return await page(series, self._bounds)

    async def _ask(self) -> list[int]:
        """The numbers of those that answered."""
        answers = await self._workers.ask(QUESTION)
        snapshots = {number: read(answer) for number, answer in answers.items()}
        await asyncio.to_thread(self._join.take, snapshots)
        return [number for number, snapshot in snapshots.items() if snapshot is not None]

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(self._keep_s)
            try:
                async with self._lock:
                    await self._ask()
            except Exception as error:  # noqa: BLE001 - what comes later must be kept all the same
                _log.error("metrics_bug", error=type(error).__name__, exc_info=error)
