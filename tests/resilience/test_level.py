"""The present level: trouble within a few samples, no straggler, back to the typical value."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.resilience.level import PEAK_LIMIT, WEIGHT, Level
from tests.fakes.properties import examples

HYSTERESIS = 1 / 0.9


def test_without_samples_it_is_the_typical_value() -> None:
    assert Level().level_s(0.6, 123.0) == 0.6


@pytest.mark.parametrize(("factor", "samples"), [(1.5, 6), (2.0, 4), (3.0, 2), (6.0, 2)])
def test_trouble_is_seen_within_a_few_samples(factor: float, samples: int) -> None:
    level = Level()
    for at in range(50):
        level.observe(0.5, 0.5, at * 0.1)
    seen = 0
    while level.level_s(0.5, 5.0) <= 0.5 * HYSTERESIS:
        level.observe(0.5 * factor, 0.5, 5.0)
        seen += 1
    assert seen == samples


def test_trouble_is_forgotten_without_news() -> None:
    level = Level()
    for _ in range(30):
        level.observe(3.0, 0.5, 0.0)
    assert level.level_s(0.5, 0.0) > 1.1
    assert level.level_s(0.5, 10.0) > 0.6
    assert level.level_s(0.5, 60.0) == pytest.approx(0.5, rel=0.01)


def test_one_straggler_is_no_trouble() -> None:
    level = Level()
    for at in range(50):
        level.observe(0.5, 0.5, at * 0.1)
    level.observe(40.0, 0.5, 5.0)
    assert level.level_s(0.5, 5.0) == pytest.approx(0.5 * PEAK_LIMIT**WEIGHT)


def test_a_heavy_tail_seldom_passes_for_trouble() -> None:
    """Lognormal with p95 = 2.2 medians: what published providers look like."""
    rng = random.Random(1)
    level, over = Level(), 0
    for at in range(20_000):
        level.observe(rng.lognormvariate(0.0, 0.48), 1.0, at * 0.2)
        over += level.level_s(1.0, at * 0.2) > 1.2
    assert over < 0.02 * 20_000


@examples(200)
@given(st.lists(st.tuples(st.floats(0, 100), st.floats(-5, 20)), max_size=100))
def test_stays_between_what_it_was_told(samples: list[tuple[float, float]]) -> None:
    """Also when the clock jumps."""
    level, now_s, lowest, highest = Level(), 0.0, 0.5, 0.5
    for value_s, step_s in samples:
        now_s += step_s
        level.observe(value_s, 0.5, now_s)
        value_s = min(max(value_s, 0.5 / PEAK_LIMIT), PEAK_LIMIT * 0.5)
        lowest, highest = min(lowest, value_s), max(highest, value_s)
        assert lowest - 1e-9 <= level.level_s(0.5, now_s) <= highest + 1e-9
