"""The end under load: the relay is told to stop while callers ask."""

from __future__ import annotations

import asyncio
import signal
import time

import httpx2

from tests.soak.callers import Callers
from tests.soak.scene import DRAIN_GRACE_MS, Scene
from tests.soak.verdict import Drained

ASK_ON_S = 0.3
"""Callers go on for so long: what comes now is refused."""


async def drain(scene: Scene, callers: Callers) -> Drained:
    """Send SIGTERM and watch. Callers are paused then, and stay so.

    Those that run must come to the ends that they would have come to: a broken transport, or a
    failure of a good request, is one that was cut. New ones are refused and are not counted.
    """
    tally, loop = callers.tally, asyncio.get_running_loop()
    running = callers.running
    before = tally.wrongs
    stopped_s = time.monotonic()
    tally.stopped_s = stopped_s
    watched = asyncio.create_task(_not_ready_s(scene, stopped_s))
    scene.relay.signal(signal.SIGTERM)
    await asyncio.sleep(ASK_ON_S)
    callers.pause()
    status = await scene.relay.exited(timeout_s=DRAIN_GRACE_MS / 1000 + 20)
    exit_s = time.monotonic() - stopped_s
    await callers.all_ended()
    not_ready_s = await watched
    return Drained(
        not_ready_ms=not_ready_s * 1000,
        running=running,
        cut=tally.wrongs - before,
        exit_s=exit_s,
        exit_status=status,
        grace_s=DRAIN_GRACE_MS / 1000,
        open_rows=await loop.run_in_executor(None, scene.books.open_rows),
    )


async def _not_ready_s(scene: Scene, stopped_s: float) -> float:
    """From SIGTERM until `/readyz` does not say 200 any more."""
    async with scene.relay.http("admin") as admin:
        while True:
            asked_s = time.monotonic()
            try:
                answer = await admin.get("/readyz", timeout=1.0)
            except (OSError, httpx2.TransportError):
                return asked_s - stopped_s
            if answer.status_code != 200:
                return asked_s - stopped_s
            await asyncio.sleep(0.005)
