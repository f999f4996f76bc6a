"""When the hedge fires, by table."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.resilience.hedge_policy import (
    DEADLINE_MARGIN_S,
    HedgeReason,
    TargetView,
    aim,
    late_after_s,
    time_hedge,
    view,
)
from relay.resilience.latency import LatencySketch
from tests.fakes.properties import examples

STEADY = TargetView(p50_s=0.5, p75_s=0.6, trigger_s=1.2, is_learned=True)
SECOND = TargetView(p50_s=0.6, p75_s=0.7, trigger_s=1.5, is_learned=True)
NEW = TargetView(p50_s=0.6, p75_s=0.8, trigger_s=2.0, is_learned=False)
TIGHT = TargetView(p50_s=0.5, p75_s=0.51, trigger_s=0.55, is_learned=True)


@pytest.mark.parametrize(
    ("primary", "left_s", "fixed_s", "delay_s", "reason"),
    [
        (STEADY, None, None, 1.2, HedgeReason.LEARNED),
        (NEW, None, None, 2.0, HedgeReason.DEFAULT),
        (STEADY, None, 0.3, 0.3, HedgeReason.FIXED),
        # A light tail: p96 is hardly over the median, so hedging there would be racing.
        (TIGHT, None, None, 0.6, HedgeReason.LEARNED),
        # 3 s leave room: 3 - 0.7 - 0.03 is later than the learned delay.
        (STEADY, 3.0, None, 1.2, HedgeReason.LEARNED),
        # 1.7 s do not: 1.7 - 0.7 - 0.03.
        (STEADY, 1.7, None, 0.97, HedgeReason.DEADLINE),
        # 1.2 s: not before the primary's own p75.
        (STEADY, 1.2, None, 0.6, HedgeReason.DEADLINE),
        # 0.5 s: the hedge would start when the time is over.
        (STEADY, 0.5, None, None, HedgeReason.TOO_LATE),
        (NEW, 1.5, None, 0.77, HedgeReason.DEADLINE),
        (NEW, 0.6, None, 0.5, HedgeReason.DEADLINE),
    ],
)
def test_delay(
    primary: TargetView,
    left_s: float | None,
    fixed_s: float | None,
    delay_s: float | None,
    reason: HedgeReason,
) -> None:
    timing = time_hedge(primary, SECOND, fixed_s=fixed_s, first_token_left_s=left_s)
    assert timing.delay_s == pytest.approx(delay_s)
    assert timing.reason is reason
    assert timing.by_deadline is (reason is HedgeReason.DEADLINE)


@pytest.mark.parametrize(
    ("fullness", "part"),
    [(-0.1, 0.8), (0.0, 0.8), (0.49, 0.8), (0.5, 0.9), (0.75, 0.95), (1.0, 0.95)],
)
def test_it_aims_higher_with_more_credit(fullness: float, part: float) -> None:
    assert aim(fullness) == part


def test_a_target_is_seen_through_its_sketch_and_the_prompt() -> None:
    sketch = LatencySketch()
    for at in range(1000):
        sketch.record(0.5 + (at * 617 % 1000) / 1000, 0, 0, at / 10)
    seen = view(sketch, 2.0, 0.04)
    assert seen.p50_s == pytest.approx(2 * sketch.quantile_s(0.5))
    assert seen.trigger_s == pytest.approx(2 * sketch.quantile_s(0.96))
    assert seen.is_learned


@examples(300)
@given(st.floats(0.01, 20), st.floats(1, 3), st.floats(1, 10), st.floats(0.01, 60))
def test_a_limit_only_ever_makes_it_earlier(
    p50_s: float, to_p75: float, to_trigger: float, left_s: float
) -> None:
    primary = TargetView(p50_s, p50_s * to_p75, p50_s * to_p75 * to_trigger, is_learned=True)
    free = time_hedge(primary, SECOND)
    limited = time_hedge(primary, SECOND, first_token_left_s=left_s)
    assert free.delay_s is not None
    if limited.delay_s is not None:
        assert limited.delay_s <= free.delay_s
        assert limited.delay_s < left_s
        if limited.by_deadline:
            assert (
                limited.delay_s
                >= min(primary.p75_s, left_s - SECOND.p75_s - DEADLINE_MARGIN_S) - 1e-9
            )


class Line:
    """A sketch whose share of so much takes ten times as many seconds, and half as long again
    lately."""

    is_learned = True

    def quantile_s(self, share: float) -> float:
        return 10 * share

    def drift(self) -> float:
        return 1.5


def test_what_is_seen_of_a_target_is_stretched_by_the_prompt_and_its_trigger_by_the_drift() -> None:
    seen = view(Line(), 3.0, 0.2)
    assert seen.p50_s == pytest.approx(15.0)
    assert seen.p75_s == pytest.approx(22.5)
    assert seen.trigger_s == pytest.approx(8 * 3 * 1.5)
    assert seen.is_learned


@pytest.mark.parametrize(("trigger_s", "late_s"), [(0.5, 0.6), (0.61, 0.61)])
def test_nobody_is_late_before_a_fifth_over_the_median(trigger_s: float, late_s: float) -> None:
    assert late_after_s(TargetView(0.5, 0.5, trigger_s, is_learned=True)) == pytest.approx(late_s)


@pytest.mark.parametrize(
    ("left_s", "delay_s", "reason"),
    [
        # Just as late as was learned: nothing needs to be earlier.
        (1.2 + 0.7 + DEADLINE_MARGIN_S + 1e-9, 1.2, HedgeReason.LEARNED),
        (1.2 + 0.7 + DEADLINE_MARGIN_S - 1e-3, 1.199, HedgeReason.DEADLINE),
        # The primary's own p75, if the hedge then starts before the limit.
        (0.6001, 0.6, HedgeReason.DEADLINE),
        (0.6, None, HedgeReason.TOO_LATE),
    ],
)
def test_limits_to_the_millisecond(
    left_s: float, delay_s: float | None, reason: HedgeReason
) -> None:
    timing = time_hedge(STEADY, SECOND, first_token_left_s=left_s)
    assert timing.reason is reason
    assert timing.delay_s == (None if delay_s is None else pytest.approx(delay_s))


@pytest.mark.parametrize(
    ("fixed_s", "left_s", "expected"),
    [
        (0.3, 0.31, (0.3, HedgeReason.FIXED)),
        (0.3, 0.3, (None, HedgeReason.TOO_LATE)),
        (0.6, 0.9, (0.6, HedgeReason.FIXED)),  # not before the primary's p75, which is no earlier
    ],
)
def test_a_fixed_delay_that_a_limit_leaves_no_room_to_move(
    fixed_s: float, left_s: float, expected: tuple[float | None, HedgeReason]
) -> None:
    assert time_hedge(STEADY, SECOND, fixed_s=fixed_s, first_token_left_s=left_s) == expected
