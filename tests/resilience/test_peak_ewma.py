"""The present level: up at once, down slowly, back to the typical value without news."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.resilience.peak_ewma import PEAK_LIMIT, PeakEwma
from tests.fakes.properties import examples


def test_without_samples_it_is_the_typical_value() -> None:
    assert PeakEwma().level_s(0.6, 123.0) == 0.6


def test_trouble_is_seen_within_a_few_samples_and_forgotten_over_a_minute() -> None:
    level = PeakEwma()
    for at in range(20):
        level.observe(0.5, 0.5, at * 0.1)
    for at in range(3):
        level.observe(3.0, 0.5, 2.0 + at * 0.1)
    assert level.level_s(0.5, 2.3) > 1.3
    assert level.level_s(0.5, 12.0) > 1.0
    assert level.level_s(0.5, 120.0) == pytest.approx(0.5, abs=0.03)


def test_one_straggler_is_no_trouble() -> None:
    level = PeakEwma()
    for at in range(50):
        level.observe(0.5, 0.5, at * 0.1)
    level.observe(40.0, 0.5, 5.0)
    assert level.level_s(0.5, 5.0) == pytest.approx(1.0, abs=0.01)
    for at in range(20):
        level.observe(0.5, 0.5, 5.1 + at * 0.1)
    assert level.level_s(0.5, 7.1) < 0.6


@examples(200)
@given(st.lists(st.tuples(st.floats(0.001, 100), st.floats(-5, 20)), max_size=100))
def test_stays_between_what_it_was_told(samples: list[tuple[float, float]]) -> None:
    """Also when the clock jumps."""
    level, now_s, lowest, highest = PeakEwma(), 0.0, 0.5, 0.5
    for value_s, step_s in samples:
        now_s += step_s
        level.observe(value_s, 0.5, now_s)
        value_s = min(value_s, PEAK_LIMIT * 0.5)
        lowest, highest = min(lowest, value_s), max(highest, value_s)
        assert lowest - 1e-9 <= level.level_s(0.5, now_s) <= highest + 1e-9
