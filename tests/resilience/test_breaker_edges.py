"""The breaker at the edges of its numbers: what still counts, and what just does not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from relay.resilience.breaker import Breaker, BreakerSettings, BreakerState, Permit, TripReason

CLOSED, OPEN, _, RAMP = BreakerState


def breaker(**changes: Any) -> Breaker:
    """One without jitter."""
    return Breaker(replace(BreakerSettings(), **changes), lambda: 0.5)


def permit(one: Breaker, now_s: float) -> Permit:
    taken = one.permit(now_s)
    assert taken is not None
    return taken


def succeed(one: Breaker, now_s: float, times: int = 1) -> None:
    for _ in range(times):
        permit(one, now_s).success(now_s)


def fail(one: Breaker, now_s: float, times: int = 1) -> None:
    for _ in range(times):
        permit(one, now_s).failure(now_s)


def break_off(one: Breaker, now_s: float, times: int) -> None:
    """Fail after a first token."""
    for _ in range(times):
        taken = permit(one, now_s)
        taken.observe(0.5, None, now_s)
        taken.failure(now_s)


@pytest.mark.parametrize(
    "wrong",
    [
        {"min_samples": 0},
        {"slow_samples": 0},
        {"foretold_failures": 0},
        {"ramp_failures": 0},
        {"open_s": 0.0, "max_open_s": 0.0},
        {"hinted_open_s": 0.0},
        {"probe_timeout_s": 0.0},
        {"ramp_step_s": -0.1},
        {"failure_ratio": 1.01},
        {"jitter": -0.1},
        {"slow_factor": 0.99},
        {"ramp_shares": (1.01,)},
    ],
)
def test_settings_just_beyond_what_makes_a_breaker(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        breaker(**wrong)


@pytest.mark.parametrize(
    "allowed",
    [
        {"min_samples": 1, "slow_samples": 1, "foretold_failures": 1, "ramp_failures": 1},
        {"consecutive_failures": 1, "ramp_evidence": 1},
        {"window_s": 0.5, "hinted_open_s": 0.5, "probe_timeout_s": 0.5},
        {"open_s": 0.5, "max_open_s": 0.5},
        {"ramp_step_s": 0.0},
        {"failure_ratio": 0.01},
        {"failure_ratio": 1.0},
        {"jitter": 0.0},
        {"jitter": 0.99},
        {"slow_factor": 1.0},
        {"ramp_shares": (0.01, 1.0)},
    ],
)
def test_settings_just_within(allowed: dict[str, Any]) -> None:
    assert breaker(**allowed).share(0.0) == 1.0


def test_the_ratio_counts_however_many_outcomes_there_are() -> None:
    one = breaker()
    succeed(one, 1.0, times=20)
    for _ in range(6):  # never five in a row
        fail(one, 1.0, times=4)
        succeed(one, 1.0)
    fail(one, 1.0)
    assert one.state is CLOSED  # 25 of 51
    fail(one, 1.0)
    assert (one.state, one.reason) == (OPEN, TripReason.RATIO)


def test_a_success_breaks_the_row_of_answers_that_broke_off() -> None:
    one = breaker()
    break_off(one, 1.0, times=4)
    succeed(one, 1.0)
    break_off(one, 1.0, times=4)
    assert one.state is CLOSED
    break_off(one, 1.0, times=1)
    assert one.reason is TripReason.CONSECUTIVE


def test_each_share_of_the_ramp_needs_all_its_successes() -> None:
    one = breaker()
    fail(one, 0.0, times=5)
    succeed(one, 30.0)
    assert one.state is RAMP
    succeed(one, 45.0, times=5)
    assert one.share(45.0) == 0.25
    succeed(one, 46.0, times=4)
    assert one.share(1000.0) == 0.25
    succeed(one, 46.0)
    assert one.share(60.0) == 0.50


@pytest.mark.parametrize("window_s", [5.0, 15.0])
def test_windows_of_any_length_hold_nine_tenths_of_it(window_s: float) -> None:
    one = breaker(window_s=window_s)
    fail(one, 0.0, times=4)
    kept = {"successes": 0, "failures": 4}
    assert one.describe(0.9 * window_s)["window"] == kept
    assert one.describe(window_s)["window"] == {"successes": 0, "failures": 0}


@pytest.mark.parametrize(("usual_s", "ttft_s", "is_late"), [(0.5, 0.9, False), (0.5, 1.1, True)])
@pytest.mark.parametrize("how", ["came", "overdue", "censored"])
def test_late_is_beyond_twice_what_is_usual_there(
    usual_s: float, ttft_s: float, is_late: bool, how: str
) -> None:
    one = breaker(slow_samples=1)
    taken = permit(one, 1.0)
    if how == "overdue":
        taken.overdue(ttft_s, usual_s, 1.0)
    else:
        taken.observe(ttft_s, usual_s, 1.0, is_censored=how == "censored")
    assert one.reason is (TripReason.SLOW if is_late else None)


def test_whoever_wants_to_know_is_told_of_each_edge_by_the_state_before_it() -> None:
    one = breaker()
    before: list[BreakerState] = []
    one.on_edge = before.append
    fail(one, 0.0, times=5)
    succeed(one, 30.0)
    assert before == [CLOSED, OPEN, BreakerState.HALF_OPEN]


@pytest.mark.parametrize(("draw", "period_s"), [(0.0, 8.0), (0.5, 10.0)])
def test_a_period_for_what_others_said_is_short_and_jittered_too(
    draw: float, period_s: float
) -> None:
    one = Breaker(BreakerSettings(), lambda: draw)
    assert one.suspect("another", 1, 100.0, 60.0)
    fail(one, 100.0)
    assert (one.state, one.reason) == (OPEN, TripReason.HINT)
    assert one.retry_at_s == pytest.approx(100.0 + period_s)


def test_no_ratio_is_below_nothing() -> None:
    with pytest.raises(ValueError):
        breaker(failure_ratio=-0.1)
