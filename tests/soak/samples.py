"""What the relay holds: while it works, and at moments when nothing runs."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from tests.fakes.metrics_page import MetricsPage
from tests.fakes.relay_under_test import eventually
from tests.soak.callers import Callers
from tests.soak.events import Happened
from tests.soak.scene import Scene

MIB = 1024 * 1024
SETTLE_S = 1.5
"""After the last answer: connections close, batches are written, losers end."""


class Held(NamedTuple):
    """One process at one moment."""

    at_s: float
    pid: int
    resident_mib: float
    descriptors: int


class Quiet(NamedTuple):
    """The relay at a moment when nothing runs."""

    at_s: float
    workers: dict[int, Held]
    tasks: float
    """Of all workers."""
    open_rows: int
    reserved_micro: int
    requests: int
    """That had been asked until then."""
    left: int
    """Of them were cancelled or left."""


@dataclass
class Samples:
    """All that was seen."""

    held: list[Held] = field(default_factory=list)
    quiet: list[Quiet] = field(default_factory=list)


def held(pid: int, at_s: float) -> Held | None:
    """A process now; None if it is gone."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
        descriptors = len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return None
    return Held(at_s, pid, pages * os.sysconf("SC_PAGE_SIZE") / MIB, descriptors)


class Sampler:
    """Looks at the workers while `run` runs, and at a quiet relay when told to."""

    def __init__(self, scene: Scene, callers: Callers, happened: Happened) -> None:
        self._scene = scene
        self._callers = callers
        self._happened = happened
        self.samples = Samples()

    def _now_s(self) -> float:
        return time.monotonic() - self._happened.began_s

    def _workers(self) -> dict[int, Held]:
        at_s = self._now_s()
        found = {pid: held(pid, at_s) for pid in self._scene.workers()}
        return {pid: one for pid, one in found.items() if one is not None}

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self.samples.held += self._workers().values()
            await asyncio.sleep(self._scene.plan.sample_s)

    async def look_while_quiet(self) -> Quiet:
        """Have the callers pause, wait until nothing runs, look, let them go on.

        Raises:
            TimeoutError: something runs on.
        """
        self._callers.pause()
        try:
            await self._callers.all_ended()
            books, loop = self._scene.books, asyncio.get_running_loop()
            await eventually(lambda: books.open_rows() == 0, 20.0)
            await asyncio.sleep(SETTLE_S)  # what is looked for is what does not go away by itself
            async with self._scene.relay.http("admin") as admin:
                page = await MetricsPage.get(admin, **self._scene.admin)
            rows = await loop.run_in_executor(
                None, books.rows, "SELECT coalesce(sum(reserved_micro), 0) AS n FROM budget_periods"
            )
            outcomes = self._callers.tally.outcomes
            left = sum(outcomes[name] for name in ("left", "cancelled", "vanished"))
            found = Quiet(
                self._now_s(),
                self._workers(),
                page.sum("rtrelay_tasks"),
                books.open_rows(),
                int(rows[0]["n"]),
                sum(outcomes.values()),
                left,
            )
        finally:
            self._callers.resume()
        self.samples.quiet.append(found)
        return found
