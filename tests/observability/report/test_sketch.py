"""Times in buckets: quantiles, and what is known of what was given up."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.observability.report.sketch import MAX_US, Curve, Sketch, bucket_of, value_of
from tests.fakes.properties import examples


def filled(values: list[float], censored: list[float] | None = None) -> Sketch:
    sketch = Sketch()
    for value in values:
        sketch.add(value)
    for age in censored or ():
        sketch.add_censored(age)
    return sketch


@given(st.lists(st.floats(200, 3e9), min_size=1, max_size=200), st.sampled_from([0.5, 0.95, 0.99]))
@examples(50)
def test_a_quantile_is_one_of_the_values_within_its_error(
    values: list[float], share: float
) -> None:
    found = filled(values).quantile_us(share)
    nearest = sorted(values)[math.ceil(share * len(values)) - 1]
    assert found == pytest.approx(nearest, rel=0.0101)


@given(st.lists(st.floats(200, 3e9), max_size=50), st.lists(st.floats(200, 3e9), max_size=50))
@examples(30)
def test_parts_add_up(left: list[float], right: list[float]) -> None:
    whole = filled(left + right, right)
    added = filled(left)
    added.merge(filled(right, right))
    assert (added.finished, added.censored) == (whole.finished, whole.censored)
    assert (added.known, added.samples) == (whole.known, whole.samples)


@given(st.floats(101, 3.5e9))
@examples(50)
def test_a_bucket_stands_for_what_is_in_it(value: float) -> None:
    assert value_of(bucket_of(value)) == pytest.approx(value, rel=0.0101)


def test_the_ends() -> None:
    assert bucket_of(0) == bucket_of(-5) == 0
    assert bucket_of(1e30) == bucket_of(MAX_US)
    assert filled([]).quantile_us(0.5) is None
    assert filled([]).curve().longest_us is None


def test_what_was_given_up_took_longer() -> None:
    """Kaplan and Meier: of four that are left at 200 nothing is known but that."""
    curve = filled([100.0] * 4 + [1000.0] * 2, [500.0] * 4).curve()
    assert curve.quantile_us(0.4) == pytest.approx(100, rel=0.01)
    assert curve.quantile_us(0.5) == pytest.approx(1000, rel=0.01), "the others may be as long"


def test_beyond_all_that_was_waited_for_nothing_is_made_up() -> None:
    curve = filled([100.0] * 6, [500.0] * 4).curve()
    assert curve.quantile_us(0.6) == pytest.approx(100, rel=0.02)
    assert curve.quantile_us(0.95) is None
    assert curve.longest_us == pytest.approx(500, rel=0.01)


def test_what_an_attempt_would_have_taken() -> None:
    curve = filled([1000.0] * 50 + [2000.0] * 30 + [4000.0] * 20).curve()
    mean, over, excess = curve.beyond(1500.0, 3000.0)
    assert mean == pytest.approx(0.6 * 2000 + 0.4 * 4000, rel=0.01)
    assert over == pytest.approx(0.4)
    assert excess == pytest.approx(0.4 * 1000, rel=0.05)
    assert curve.beyond(9000.0, 3000.0) == (9000.0, 1.0, 6000.0), "older than any: as it was"
    assert Curve(Sketch()).beyond(9.0, 5.0)[0] == pytest.approx(100.0)


def test_the_estimate_is_that_of_the_truth() -> None:
    """What is cancelled by a hedge after an independent time is estimated without a bias."""
    rng = random.Random(7)
    sketch, truth, ages = Sketch(), [], []
    for _ in range(20_000):
        value, cut = rng.lognormvariate(12.5, 0.7), rng.uniform(5e5, 9e5)
        if value <= cut:
            sketch.add(value)
        elif rng.random() < 0.9:  # most are cancelled; some losers run on
            sketch.add_censored(cut)
            truth.append(value)
            ages.append(cut)
        else:
            sketch.add(value)
    curve = sketch.curve()
    expected = sum(curve.beyond(age, 0.0)[0] for age in ages)
    assert expected == pytest.approx(sum(truth), rel=0.1)
