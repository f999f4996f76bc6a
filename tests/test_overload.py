"""What a worker counts, hears and says about having too much to do; without a socket."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest
from structlog.testing import capture_logs

from relay.config import OverloadConfig
from relay.errors import Draining, Overloaded, Retry
from relay.memory_limit import memory_limit_bytes
from relay.overload import (
    LEAST_RSS_BYTES,
    LOOKS_A_MEASURE,
    RETRY_AFTER_S,
    TRIM_EVERY_S,
    Overload,
    bounds_of,
)
from relay.resilience.overload import CALM_S, Bounds, RequestClass
from tests.fakes.virtual_time import now_s, on_virtual_time

BATCH, NEW, LIVE = RequestClass
MIB = 1 << 20


class Worker:
    """An overload control with hands on its clock and its memory."""

    def __init__(self, bounds: Bounds) -> None:
        self.now_s = 100.0
        self.rss_bytes = 0
        self.chance = 0.5
        self.trims = 0
        self.overload = Overload(
            bounds,
            clock=lambda: self.now_s,
            chance=lambda: self.chance,
            rss_bytes=lambda: self.rss_bytes,
            trim=self._trim,
        )

    def _trim(self) -> None:
        assert threading.current_thread() is not threading.main_thread()
        self.trims += 1

    def look(self, lag_s: float = 0.0, *, count: int = 1, every_s: float = 0.05) -> None:
        for _ in range(count):
            self.now_s += every_s
            self.overload.looked(lag_s)

    def refused(self, kind: RequestClass) -> Overloaded:
        with pytest.raises(Overloaded) as raised:
            self.overload.check(kind)
        return raised.value


def full() -> Worker:
    worker = Worker(Bounds(max_generations=10))
    for _ in range(8):
        worker.overload.enter()
    return worker


def test_a_refusal_says_when_to_come_again_and_not_to_all_the_same() -> None:
    worker = full()
    for kind in (BATCH, NEW):
        hints = set()
        for worker.chance in (0.0, 0.5, 1.0):
            error = worker.refused(kind)
            assert error.retry_after_s is not None
            hints.add(error.retry_after_s / RETRY_AFTER_S[kind])
        assert hints == {0.5, 1.0, 1.5}
    assert error.retry is Retry.SAFE
    assert error.metadata == {"class": "new"}


def test_places_are_given_back() -> None:
    worker = full()
    worker.refused(NEW)
    worker.overload.leave()
    worker.overload.check(NEW)
    worker.overload.open_session()
    worker.overload.close_session()
    assert (worker.overload.in_flight, worker.overload.sessions) == (7, 0)


def test_a_change_is_one_line_and_not_one_a_refusal() -> None:
    worker = full()
    with capture_logs() as lines:
        for _ in range(100):
            worker.refused(BATCH)
            worker.look()
        for _ in range(100):
            worker.refused(NEW)
            worker.refused(BATCH)
            worker.look()
        for _ in range(8):
            worker.overload.leave()
        worker.look(count=round(CALM_S / 0.05) + 1)
    told = [(line["event"], line.get("refused"), line.get("why")) for line in lines]
    assert told == [
        ("overload", "batch", "generations"),
        ("overload", "new", "generations"),
        ("overload_over", None, None),
    ]
    assert lines[-1]["took_s"] == pytest.approx(10 + CALM_S, abs=0.2)
    assert worker.overload.describe()["shed"] == {"batch/generations": 200, "new/generations": 100}


def test_a_drain_is_told_as_one() -> None:
    worker = Worker(Bounds())
    worker.overload.drain()
    for kind in RequestClass:
        with pytest.raises(Draining):
            worker.overload.check(kind)
    with pytest.raises(Draining):
        worker.overload.check_session(NEW)
    assert not worker.overload.shed


async def test_memory_is_looked_at_and_what_is_free_is_given_back() -> None:
    worker = Worker(Bounds(max_rss_bytes=100 * MIB))
    worker.rss_bytes = 93 * MIB
    worker.look(count=LOOKS_A_MEASURE - 1)
    worker.overload.check(NEW)
    worker.look()
    worker.refused(NEW)
    worker.overload.check(LIVE)
    await until(lambda: worker.trims == 1)
    await asyncio.sleep(0.01)  # and the loop has heard of it
    worker.look(count=LOOKS_A_MEASURE * 4)
    assert worker.trims == 1, "not again and again"
    worker.look(count=LOOKS_A_MEASURE, every_s=TRIM_EVERY_S / LOOKS_A_MEASURE)
    await until(lambda: worker.trims == 2)
    worker.rss_bytes = 10 * MIB
    worker.look(count=LOOKS_A_MEASURE)
    worker.overload.check(BATCH)
    await worker.overload.aclose()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)


async def test_resident_memory_is_read_of_the_system() -> None:
    overload = Overload(Bounds(max_rss_bytes=1 << 50))
    overload.start()
    await until(lambda: overload.describe()["rss_mib"] > 10)
    await overload.aclose()
    await overload.aclose()


@on_virtual_time
async def test_it_looks_twenty_times_a_second_and_ends() -> None:
    overload = Overload(Bounds())
    looks: list[tuple[float, float]] = []
    overload.looked = lambda lag_s: looks.append((now_s(), lag_s))  # type: ignore[method-assign]
    overload.start()
    await asyncio.sleep(1.01)
    await overload.aclose()
    assert len(looks) == 20
    assert all(lag_s == pytest.approx(0.0) for _, lag_s in looks)
    await asyncio.sleep(1)
    assert len(looks) == 20


# --- the bounds of one worker ---------------------------------------------------------------------


def test_workers_share_the_memory() -> None:
    whole = memory_limit_bytes()
    assert whole is not None
    assert bounds_of(OverloadConfig(), 1).max_rss_bytes == int(0.8 * whole)
    assert bounds_of(OverloadConfig(), 4).max_rss_bytes == int(0.8 * whole / 4)
    assert bounds_of(OverloadConfig(), 1 << 20).max_rss_bytes == LEAST_RSS_BYTES, "none is at rest"
    assert bounds_of(OverloadConfig(max_rss_mib=7), 4).max_rss_bytes == 7 * MIB
    assert bounds_of(OverloadConfig(max_rss_mib=0), 4).max_rss_bytes == 0
