"""The lag of the loop: what is late is seen, and forgotten after a while."""

from __future__ import annotations

import asyncio
import time

import pytest

from relay.observability.metrics.loop_lag import EVERY_S, WINDOW_S, LoopLag


def test_the_worst_is_kept_for_a_window_or_two() -> None:
    lag = LoopLag()
    lag.late(0.2, 0.0)
    lag.late(0.001, 1.0)
    assert lag.worst_s == 0.2
    lag.late(0.003, WINDOW_S + 1)
    assert lag.worst_s == 0.2
    lag.late(0.002, 2 * WINDOW_S + 2)
    assert lag.worst_s == 0.003
    assert sum(lag.histogram.counts) == 4
    assert lag.histogram.total == pytest.approx(0.206)


def test_a_timer_that_is_early_is_not_late() -> None:
    lag = LoopLag()
    lag.late(-0.0001, 0.0)
    assert (lag.histogram.counts[0], lag.histogram.total) == (1, 0.0)


async def test_a_loop_that_is_held_is_late() -> None:
    lag = LoopLag()
    lag.start()
    time.sleep(EVERY_S + 0.05)
    await asyncio.sleep(0.01)
    assert lag.worst_s >= 0.04
    lag.aclose()
    lag.aclose()
    count = sum(lag.histogram.counts)
    await asyncio.sleep(EVERY_S * 1.5)
    assert sum(lag.histogram.counts) == count
