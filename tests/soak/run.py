"""One run from start to verdict."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tests.soak.books import compare
from tests.soak.callers import Callers, Tally
from tests.soak.ending import drain
from tests.soak.events import Events, Happened
from tests.soak.plan import Plan
from tests.soak.samples import Sampler, Samples
from tests.soak.scene import Scene, scene
from tests.soak.verdict import Figure, judge


class Run(NamedTuple):
    """What a run leaves."""

    figures: list[Figure]
    tally: Tally
    samples: Samples
    happened: Happened

    @property
    def holds(self) -> bool:
        """Whether nothing that is judged is missed."""
        return all(one.holds is not False for one in self.figures)


async def soak(plan: Plan, folder: Path, say: Callable[[str], None]) -> Run:
    """Run it; `folder` holds what the processes write."""
    async with scene(plan, folder) as here:
        return await _soak(plan, here, say)


async def _soak(plan: Plan, here: Scene, say: Callable[[str], None]) -> Run:
    tally, happened = Tally(), Happened()
    callers = Callers(here, tally)
    sampler = Sampler(here, callers, happened)
    asking = asyncio.create_task(callers.run())
    others = [
        asyncio.create_task(sampler.run()),
        asyncio.create_task(Events(here, tally, happened).run()),
    ]
    loop, compared, told = asyncio.get_running_loop(), 0, 0
    end_s = loop.time() + plan.minutes * 60
    try:
        while loop.time() < end_s:
            await asyncio.sleep(min(plan.cycle_s, max(0.0, end_s - loop.time())))
            _raise_failed(asking, *others)
            quiet = await sampler.look_while_quiet()
            compared += compare(here.books, tally)
            memory = ", ".join(f"{one.resident_mib:.0f}" for one in quiet.workers.values())
            say(
                f"{quiet.at_s:.0f} s: {quiet.requests} requests, {memory} MiB,"
                f" {quiet.tasks:.0f} tasks, {tally.wrongs} wrong"
            )
            for what in tally.wrong[told:]:
                say(f"    {what}")
            told = len(tally.wrong)
        for task in others:  # nothing else breaks now
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await asyncio.sleep(2.0)  # under load again
        drained = await drain(here, callers)
    finally:
        for task in (asking, *others):
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(asking, *others, return_exceptions=True)
    compared += compare(here.books, tally)
    here.books.check()
    figures = judge(
        plan,
        sampler.samples,
        wrongs=tally.wrongs,
        whole=tally.outcomes["whole"],
        compared=compared,
        worst_late_s=tally.worst_late_s,
        drained=drained,
    )
    return Run(figures, tally, sampler.samples, happened)


def _raise_failed(*tasks: asyncio.Task[None]) -> None:
    """A task of the run that has ended has failed."""
    for task in tasks:
        if task.done():
            task.result()
