"""Keeps workers of one mind about arms of experiments that were stopped, by way of the store.

Every worker judges arms by what it hears itself. What one has stopped is written down, and the
others take it up within seconds; a worker that starts has it from the beginning; and an arm that an
administrator lets run again (`relay experiments resume`) runs again everywhere. A row holds for the
edition and the `use` that it was written for: a file that changes either has begun anew.

While the store cannot be reached each worker goes by its own word.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final, Protocol, cast

import structlog

from relay.policy.experiments import Experiments
from relay.policy.guard_rail import Respect, Stop
from relay.store.arm_rows import ArmRow
from relay.store.base import StoreUnavailable

_log = structlog.get_logger("relay.experiments")

LOOK_S: Final = 5.0
FIRST_S: Final = 3.0
"""How long a start waits for the first look."""

Place = tuple[str, str, int, str]
"""Experiment, arm, edition, use."""


class Kept(Protocol):
    """Where they are (`relay.store.arm_store.ArmStore`); blocking."""

    def all(self) -> list[ArmRow]: ...

    def write(self, row: ArmRow) -> None: ...


class StoppedArms:
    """Of one worker.

    Args:
        kept: of the store.
        experiments: those that hold now; None before there are any.
        now_us: wall clock, microseconds since 1970.
    """

    def __init__(
        self,
        kept: Kept,
        experiments: Callable[[], Experiments | None],
        now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self._kept = kept
        self._experiments = experiments
        self._now_us = now_us
        self._agreed: set[Place] = set()
        """Those that the store had at the last look, or has from this worker."""
        self._wanted = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._looked = asyncio.Event()
        self._is_away = False

    async def start(self) -> None:
        """Look once, for a bounded time, and from then on every few seconds."""
        self._task = asyncio.create_task(self._keep(), name="stopped arms")
        looked = asyncio.ensure_future(self._looked.wait())
        await asyncio.wait([looked], timeout=FIRST_S)
        looked.cancel()

    def hurry(self) -> None:
        """An arm was stopped here: write it down now."""
        self._wanted.set()

    async def _keep(self) -> None:
        while True:
            await self._tried()
            self._looked.set()
            try:
                async with asyncio.timeout(LOOK_S):
                    await self._wanted.wait()
            except TimeoutError:
                continue
            self._wanted.clear()

    async def _tried(self) -> None:
        try:
            await self.look()
        except StoreUnavailable as error:
            if not self._is_away:
                _log.warning("stopped_arms_unknown", why=str(error))
            self._is_away = True
        except Exception as error:  # noqa: BLE001 - the next look may do
            _log.error("stopped_arms_bug", error=type(error).__name__, exc_info=error)
        else:
            self._is_away = False

    async def look(self) -> None:
        """Agree with the store once.

        Raises:
            StoreUnavailable
        """
        experiments = self._experiments()
        if not experiments:
            return
        rows = {_place(row): row for row in await asyncio.to_thread(self._kept.all)}
        known = {place: row for place, row in rows.items() if _is_of(experiments, place)}
        own = {
            (name, stop.arm, *facts): stop
            for name, stop in experiments.stops()
            if (facts := experiments.facts(name, stop.arm)) is not None
        }
        for place, row in known.items():
            if place not in own and experiments.stop(place[0], _stop(row)):
                _log.warning("arm_stopped_elsewhere", experiment=row.experiment, arm=row.arm)
        for place, stop in own.items():
            if place in known:
                continue
            if place in self._agreed:  # somebody has taken it out
                experiments.resume(place[0], stop.arm)
                _log.warning("arm_resumed", experiment=place[0], arm=stop.arm)
            else:
                row = _row(place, stop, self._now_us())
                await asyncio.to_thread(self._kept.write, row)
                known[place] = row
        self._agreed = set(known)

    async def aclose(self) -> None:
        """Stop looking. Idempotent; a look that runs in its thread ends by itself."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])


def _place(row: ArmRow) -> Place:
    return row.experiment, row.arm, row.edition, row.use


def _is_of(experiments: Experiments, place: Place) -> bool:
    """Whether it holds for the file as it is."""
    experiment, arm, edition, use = place
    return experiments.facts(experiment, arm) == (edition, use)


def _stop(row: ArmRow) -> Stop:
    return Stop(row.arm, cast("Respect", row.respect), row.in_arm, row.in_control, row.log_evidence)


def _row(place: Place, stop: Stop, at_us: int) -> ArmRow:
    return ArmRow(*place, stop.respect, stop.in_arm, stop.in_control, stop.log_evidence, at_us)
