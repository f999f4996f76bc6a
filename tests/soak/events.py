"""What is done to the relay meanwhile: brown-outs, reloads, kills."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from tests.fakes.relay_fleet import all_ready
from tests.soak.callers import Tally
from tests.soak.plan import BROWN_OUT, GOOD, LAB
from tests.soak.scene import Scene


@dataclass
class Happened:
    """What was done, for the report: moment in seconds of the run, and what."""

    began_s: float = field(default_factory=time.monotonic)
    events: list[tuple[float, str]] = field(default_factory=list)

    def note(self, what: str) -> None:
        self.events.append((time.monotonic() - self.began_s, what))


class Events:
    """They come at the plan's intervals while `run` runs."""

    def __init__(self, scene: Scene, tally: Tally, happened: Happened) -> None:
        self._scene = scene
        self._tally = tally
        self._happened = happened
        self._draw = random.Random(scene.plan.seed + 1)
        self._one_at_a_time = asyncio.Lock()

    async def run(self) -> None:
        """Until cancelled."""
        plan = self._scene.plan
        async with asyncio.TaskGroup() as each:
            each.create_task(self._every(plan.reload_s, self._reload))
            each.create_task(self._every(plan.brown_out_s, self._brown_out))
            each.create_task(self._every(plan.kill_s, self._kill))

    async def _every(self, interval_s: float, act: Callable[[], Awaitable[None]]) -> None:
        while True:
            await asyncio.sleep(interval_s)
            async with self._one_at_a_time:
                await act()

    async def _reload(self) -> None:
        self._happened.note("reload")
        self._scene.relay.signal(signal.SIGHUP)

    async def _brown_out(self) -> None:
        self._happened.note("brown-out")
        emulator, loop = self._scene.emulator, asyncio.get_running_loop()
        await loop.run_in_executor(None, emulator.script, LAB, BROWN_OUT)
        try:
            await asyncio.sleep(self._scene.plan.brown_out_length_s)
        finally:
            emulator.script(LAB, GOOD)

    async def _kill(self) -> None:
        self._scene.relay.log.clear()
        pid = self._draw.choice(self._scene.workers())
        self._happened.note("kill")
        self._tally.killed_s = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        await self._scene.relay.logged("worker_died")
        await _all_there(self._scene)
        # Those that it served are told only now and then: its place was taken a moment ago.
        self._tally.killed_s = time.monotonic()


async def _all_there(scene: Scene) -> None:
    await all_ready(scene.relay, scene.plan.workers)
