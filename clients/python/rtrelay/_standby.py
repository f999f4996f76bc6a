"""What a client has for the time without a relay: a provider, kept warm, and who is told."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import TYPE_CHECKING

from rtrelay._report import report
from rtrelay.stats import Counts, PathChange

if TYPE_CHECKING:
    from rtrelay.direct import Provider

WARM_EVERY_S = 40.0
"""Between two requests that keep the provider's connection open; half to the whole of it, drawn
anew each time. Servers close idle connections after one to two minutes, as a rule."""


class Standby:
    """Of one client; its sessions share it.

    Args:
        after_s, return_within_s: see `Takeover`.
        on_path_change: called in the loop.
    """

    def __init__(
        self,
        provider: Provider,
        counts: Counts,
        *,
        after_s: float,
        return_within_s: float,
        on_path_change: Callable[[PathChange], object] | None,
    ) -> None:
        self.provider = provider
        self.counts = counts
        self.after_s = after_s
        self.return_within_s = return_within_s
        self.is_away = False
        """What the client's sessions heard last: new ones begin with it."""
        self._on_path_change = on_path_change
        self._keeper: asyncio.Task[None] | None = None
        self._warming: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Keep the provider warm from now on, until `aclose`. Idempotent."""
        if self._keeper is None:
            self._keeper = asyncio.create_task(self._keep_warm(), name="rtrelay direct keeper")

    def warm_soon(self) -> None:
        """A connection was closed: have the next one before it is needed."""
        if self._warming is None and self._keeper is not None:
            self._warming = asyncio.create_task(self._warm(), name="rtrelay direct warming")

    async def aclose(self) -> None:
        """Leave no task, and close the provider. Idempotent."""
        tasks = [task for task in (self._keeper, self._warming) if task is not None]
        self._keeper = self._warming = None
        for task in tasks:
            task.cancel()
        try:
            if tasks:
                await asyncio.wait(tasks, timeout=1.0)
        finally:
            await self.provider.aclose()

    def changed(self, change: PathChange) -> None:
        """Count and tell."""
        self.is_away = change.via == "direct"
        if self.is_away:
            self.counts.takeovers += 1
        else:
            self.counts.returns += 1
        if self._on_path_change is not None:  # later: it may start and cancel what it likes
            asyncio.get_running_loop().call_soon(self._tell, self._on_path_change, change)

    @staticmethod
    def _tell(on_path_change: Callable[[PathChange], object], change: PathChange) -> None:
        try:
            on_path_change(change)
        except Exception as error:  # noqa: BLE001 - the session goes on
            report(error, "the on_path_change of a client raised")

    async def _keep_warm(self) -> None:
        while True:
            await self._ask()
            await asyncio.sleep(random.uniform(WARM_EVERY_S / 2, WARM_EVERY_S))  # noqa: S311

    async def _warm(self) -> None:
        try:
            await self._ask()
        finally:
            self._warming = None

    async def _ask(self) -> None:
        try:
            await self.provider.warm()
        except Exception as error:  # noqa: BLE001 - a user's provider; calls are not harmed
            report(error, "the warm() of the direct provider raised")
