"""Old accounts go once a day; outages are waited out, and closing waits for one batch."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from structlog.testing import capture_logs

from relay.governance.audit_trail import NoTrail
from relay.governance.retention_task import AGAIN_S, EVERY_S, RetentionTask
from relay.store.base import StoreUnavailable


class Trail(NoTrail):
    """Remembers."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def note(self, action: str, **more: object) -> None:
        self.told.append((action, more["detail"]))


class Steps:
    """Deletes as many as it is told, or fails."""

    def __init__(self, *results: int | Exception) -> None:
        self.results = list(results)
        self.asked: list[int] = []

    def step(self, now_us: int) -> int:
        self.asked.append(now_us)
        result = self.results.pop(0)
        if isinstance(result, Exception):
            raise result
        return result


def task_of(steps: Any, trail: Trail) -> RetentionTask:
    return RetentionTask(lambda _: steps, trail, lambda: 7)


async def test_what_was_deleted_is_told() -> None:
    trail, steps = Trail(), Steps(12, 0)
    task = task_of(steps, trail)
    assert [await task.once(), await task.once()] == [EVERY_S, EVERY_S]
    assert trail.told == [("usage.purged", {"generations": 12})]
    assert steps.asked == [7, 7]


@pytest.mark.parametrize(
    ("error", "pause_s"), [(StoreUnavailable("away"), AGAIN_S), (KeyError("bug"), EVERY_S)]
)
async def test_failures_are_told_and_tried_again(error: Exception, pause_s: float) -> None:
    trail = Trail()
    with capture_logs() as logs:
        assert await task_of(Steps(error), trail).once() == pause_s
    assert [one["log_level"] for one in logs] in (["warning"], ["error"])
    assert trail.told == []


async def test_closing_ends_the_work_at_its_next_pause() -> None:
    begun, ended = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    class Long:
        def __init__(self, pause: Callable[[float], object]) -> None:
            self.pause = pause

        def step(self, _: int) -> int:
            loop.call_soon_threadsafe(begun.set)
            try:
                while True:
                    self.pause(0.01)
            finally:
                ended.set()

    task = RetentionTask(Long, Trail(), lambda: 0, first_s=0.0)
    task.start()
    await begun.wait()
    await task.aclose()
    assert ended.is_set()
    await task.aclose()
