"""Work that nobody waits for is still held, reported and ended."""

from __future__ import annotations

import asyncio

from structlog.testing import capture_logs

from relay.reaper import Reaper
from tests.fakes.virtual_time import on_virtual_time, since_start_s


@on_virtual_time
async def test_runs_to_the_end() -> None:
    reaper = Reaper()
    done: list[float] = []

    async def work(delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        done.append(since_start_s())

    reaper.take(work(0.25))
    reaper.take(work(0.5))
    assert len(reaper) == 2
    await asyncio.sleep(0.375)
    assert len(reaper) == 1
    await reaper.aclose()
    assert done == [0.25, 0.5]
    assert len(reaper) == 0


@on_virtual_time
async def test_failure_is_reported_and_harms_nobody() -> None:
    async def work() -> None:
        raise KeyError("a bug")

    reaper = Reaper()
    with capture_logs() as lines:
        reaper.take(work())
        await reaper.aclose()
    (line,) = lines
    assert (line["event"], line["error"]) == ("background_task_failed", "KeyError")


@on_virtual_time
async def test_closing_is_bounded() -> None:
    ended: list[str] = []

    async def work(name: str, *, is_stubborn: bool) -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            if is_stubborn:
                await asyncio.sleep(60)
            raise
        finally:
            ended.append(name)

    reaper = Reaper()
    reaper.take(work("plain", is_stubborn=False))
    reaper.take(work("stubborn", is_stubborn=True))
    await reaper.aclose(grace_s=1.0)
    assert since_start_s() == 2.0
    assert ended == ["plain"]
    await reaper.aclose(grace_s=1.0)
    assert ended == ["plain", "stubborn"]
    assert len(reaper) == 0


@on_virtual_time
async def test_closing_with_nothing_to_do_takes_no_time() -> None:
    await Reaper().aclose()
    assert since_start_s() == 0.0
