"""A loop that stands still: told once, with what it is at, and not where everybody stood still."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import MutableMapping
from typing import Any

import pytest
from structlog.testing import capture_logs

from relay.loop_watch import BEAT_S, BLOCKED_S, LOOK_S, OWN_PAUSE_S, Beats, LoopWatch
from tests.fakes.relay_under_test import eventually


def looks(beats: Beats, from_s: float, until_s: float) -> list[float]:
    """What is told by looks in time, from one moment to another."""
    told, now_s = [], from_s
    while now_s < until_s:
        now_s += LOOK_S
        if silent_s := beats.look(now_s):
            told.append(silent_s)
    return told


def test_a_loop_that_beats_is_fine() -> None:
    beats = Beats(0.0)
    for step in range(1, 40):
        assert beats.look(step * LOOK_S) == 0.0
        if step * LOOK_S % BEAT_S == 0:
            assert beats.beat(step * LOOK_S) == 0.0


def test_one_that_stands_still_is_told_once_and_its_end() -> None:
    beats = Beats(0.0)
    assert looks(beats, 0.0, 10.0) == [pytest.approx(BLOCKED_S)]
    assert beats.beat(10.1) == pytest.approx(10.1)
    assert beats.beat(10.6) == 0.0
    assert looks(beats, 10.0, 20.0) == [pytest.approx(BLOCKED_S, abs=LOOK_S)]


def test_a_pause_of_everybody_blames_nobody() -> None:
    beats = Beats(0.0)
    assert beats.look(LOOK_S) == 0.0
    late_s = LOOK_S + LOOK_S + OWN_PAUSE_S + 0.01
    assert beats.look(late_s) == 0.0
    assert looks(beats, late_s, late_s + BLOCKED_S - LOOK_S) == []
    assert looks(beats, late_s + BLOCKED_S - LOOK_S, late_s + BLOCKED_S + LOOK_S) != []


def looks_for_a_needle(lines: list[MutableMapping[str, Any]]) -> None:
    until_s = time.monotonic() + 20
    while not lines and time.monotonic() < until_s:
        time.sleep(0.001)


async def test_what_it_is_at_is_told() -> None:
    watch = LoopWatch()
    with capture_logs() as lines:
        watch.start()
        (thread,) = [one for one in threading.enumerate() if one.name == "loop watch"]
        looks_for_a_needle(lines)
        await eventually(lambda: len(lines) == 2, 10)
        watch.close()
        watch.close()
        await asyncio.to_thread(thread.join, 5)
        assert not thread.is_alive()
    blocked, goes_on = lines
    assert (blocked["event"], blocked["log_level"]) == ("loop_blocked", "error")
    assert any("looks_for_a_needle" in line for line in blocked["stack"])
    assert goes_on["event"] == "loop_goes_on"
    assert goes_on["stood_s"] >= blocked["silent_s"] >= BLOCKED_S
