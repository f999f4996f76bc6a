"""A clock that is put forward ends nobody's lease."""

from __future__ import annotations

import pytest

from relay.governance.clock_steps import ClockSteps

LEASE_S = 30.0
HOUR_S = 3600.0


def wall_us(now_s: float, ahead_s: float = 0.0) -> int:
    return round((1_790_000_000 + now_s + ahead_s) * 1e6)


def test_a_clock_that_goes_is_calm() -> None:
    steps = ClockSteps(LEASE_S)
    # Also where nobody asked for long: a machine that slept, by both clocks.
    assert all(steps.is_calm(wall_us(now_s), now_s) for now_s in (0.0, 5.0, 10.0, 500.0, 505.0))


@pytest.mark.parametrize("step_s", [LEASE_S / 3 + 0.1, HOUR_S])
def test_after_a_step_a_lease_is_waited_for(step_s: float) -> None:
    steps = ClockSteps(LEASE_S)
    assert steps.is_calm(wall_us(0.0), 0.0)
    assert not steps.is_calm(wall_us(5.0, step_s), 5.0)
    assert not steps.is_calm(wall_us(34.9, step_s), 34.9)
    assert steps.is_calm(wall_us(35.0, step_s), 35.0)


def test_a_step_within_the_wait_begins_it_anew() -> None:
    steps = ClockSteps(LEASE_S)
    steps.is_calm(wall_us(0.0), 0.0)
    steps.is_calm(wall_us(5.0, HOUR_S), 5.0)
    assert not steps.is_calm(wall_us(30.0, 2 * HOUR_S), 30.0)
    assert not steps.is_calm(wall_us(59.0, 2 * HOUR_S), 59.0)
    assert steps.is_calm(wall_us(60.0, 2 * HOUR_S), 60.0)


@pytest.mark.parametrize("step_s", [-HOUR_S, 1.0])
def test_a_step_back_or_a_small_one_ends_no_lease(step_s: float) -> None:
    steps = ClockSteps(LEASE_S)
    steps.is_calm(wall_us(0.0), 0.0)
    assert steps.is_calm(wall_us(5.0, step_s), 5.0)
