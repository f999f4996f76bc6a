"""Bounds hold what they promise: simulated over and over, and against textbook numbers."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from scipy import stats

from relay.observability.experiments.estimates import (
    Estimate,
    Sums,
    Weighed,
    difference,
    holm,
    mean,
    mismatch,
    quantile,
    rank_test,
    share,
)
from tests.fakes.properties import IS_FULL

RUNS = 2000 if IS_FULL else 150


def single(values: list[float]) -> dict[str, Sums]:
    """Units of one answer each."""
    return {str(index): Sums(value, 1) for index, value in enumerate(values)}


def test_a_mean_of_single_answers_has_students_bounds() -> None:
    draw = random.Random(1)
    values = [draw.gauss(10, 2) for _ in range(40)]
    found = mean(single(values), 0.95)
    assert found is not None
    low, high = stats.t.interval(0.95, 39, *_mean_and_error(values))
    assert found.low == pytest.approx(low)
    assert found.high == pytest.approx(high)


def _mean_and_error(values: list[float]) -> tuple[float, float]:
    return float(stats.tmean(values)), float(stats.tsem(values))


def test_a_share_of_single_answers_has_wilsons_bounds() -> None:
    found = share(single([1.0] * 12 + [0.0] * 188), 0.95)
    assert found is not None
    wanted = stats.binomtest(12, 200).proportion_ci(0.95, "wilson")
    assert found.value == 0.06
    assert found.low == pytest.approx(wanted.low, abs=0.002)
    assert found.high == pytest.approx(wanted.high, abs=0.002)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_none_of_many_is_not_never(value: float) -> None:
    found = share(single([value] * 50), 0.95)
    assert found is not None
    assert found.low is not None
    assert found.high is not None
    assert found.high - found.low == pytest.approx(0.075, abs=0.01)


def covers(found: Estimate | None, truth: float) -> bool:
    assert found is not None
    low = float("-inf") if found.low is None else found.low
    high = float("inf") if found.high is None else found.high
    return low <= truth <= high


def failures(draw: random.Random) -> Estimate | None:
    """Of users, each with a share of failures of his own, 0.1 in the mean."""
    units = {}
    for number in range(80):
        own, answers = draw.betavariate(0.5, 4.5), draw.randint(1, 30)
        units[str(number)] = Sums(sum(draw.random() < own for _ in range(answers)), answers)
    return share(units, 0.95)


def costs(draw: random.Random) -> Estimate | None:
    units = {}
    for number in range(80):
        own, answers = draw.uniform(5, 15), draw.randint(1, 30)
        units[str(number)] = Sums(sum(draw.gauss(own, 1) for _ in range(answers)), answers)
    return mean(units, 0.95)


def first_contents(draw: random.Random) -> Estimate | None:
    """Of users, whose median is 1 altogether: log-normal within and between them."""
    values = []
    for number in range(80):
        own = draw.gauss(0, 0.5)
        values += [
            Weighed(2.718281828 ** (own + draw.gauss(0, 0.5)), str(number), 1.0) for _ in range(12)
        ]
    return quantile(sorted(values), 0.5, 0.95)


@pytest.mark.parametrize(
    ("estimate", "truth"), [(failures, 0.1), (costs, 10.0), (first_contents, 1.0)]
)
def test_bounds_hold_the_truth_where_answers_of_a_user_are_alike(
    estimate: Callable[[random.Random], Estimate | None], truth: float
) -> None:
    held = sum(covers(estimate(random.Random(seed)), truth) for seed in range(RUNS))
    assert held / RUNS >= 0.91, "95 % are promised"
    assert held / RUNS < 1.0, "nor is it everything"


def test_answers_taken_for_units_would_promise_too_much() -> None:
    """What is avoided: the same answers, each a unit of its own."""
    held = 0
    for seed in range(RUNS):
        draw, units = random.Random(seed), {}
        for number in range(40):
            own = draw.uniform(5, 15)
            for index in range(25):
                units[f"{number} {index}"] = Sums(draw.gauss(own, 1), 1)
        held += covers(mean(units, 0.95), 10.0)
    assert held / RUNS < 0.6


def test_a_quantile_of_few_has_no_bound_at_its_end() -> None:
    found = quantile([Weighed(float(n), str(n), 1.0) for n in range(20)], 0.95, 0.95)
    assert found is not None
    assert found.value == 18.0
    assert found.low is not None
    assert found.high is None


def test_what_stands_for_several_counts_as_several() -> None:
    found = quantile([Weighed(1.0, "a", 1.0), Weighed(2.0, "b", 9.0)], 0.5, 0.95)
    assert found is not None
    assert found.value == 2.0


def test_of_one_unit_only_its_value_is_known() -> None:
    one = {"a": Sums(5.0, 10.0)}
    for found in (mean(one, 0.95), share(one, 0.95), quantile([Weighed(0.5, "a", 1)], 0.5, 0.95)):
        assert found == Estimate(0.5, None, None, None, 1)
    assert mean({}, 0.95) is share({}, 0.95) is quantile([], 0.5, 0.95) is None


def test_a_difference_of_means_is_welchs() -> None:
    draw = random.Random(4)
    arm = [draw.gauss(11, 3) for _ in range(30)]
    control = [draw.gauss(10, 1) for _ in range(60)]
    found = difference(mean(single(arm), 0.95), mean(single(control), 0.95))
    assert found is not None
    wanted = stats.ttest_ind(arm, control, equal_var=False)
    assert found.p == pytest.approx(wanted.pvalue)
    interval = wanted.confidence_interval(0.95)
    assert found.low == pytest.approx(interval.low, abs=0.05)
    assert found.high == pytest.approx(interval.high, abs=0.05)


def test_a_difference_of_shares_is_newcombes() -> None:
    """56/70 against 48/80: his example (1998, method 10) has 0.0524 to 0.3339."""
    arm = share(single([1.0] * 56 + [0.0] * 14), 0.95)
    control = share(single([1.0] * 48 + [0.0] * 32), 0.95)
    found = difference(arm, control)
    assert found is not None
    assert found.value == pytest.approx(0.2)
    assert found.low == pytest.approx(0.0524, abs=0.004)
    assert found.high == pytest.approx(0.3339, abs=0.004)


def test_nothing_is_told_of_a_difference_without_bounds() -> None:
    lone = Estimate(1.0, None, None, None, 1)
    found = difference(lone, Estimate(2.0, 1.0, 3.0, 0.5, 10))
    assert found is not None
    assert (found.value, found.low, found.high, found.p) == (-1.0, None, None, None)
    assert difference(None, lone) is None


def test_ranks() -> None:
    assert rank_test([1.0], [2.0, 3.0]) is None
    found = rank_test([1, 2, 3, 4, 5, 6, 7, 8], [11, 12, 13, 14, 15, 16, 17, 18])
    assert found is not None
    assert found < 0.001


def test_units_that_are_divided_wrongly_are_found() -> None:
    even = {"a": 1.0, "b": 1.0}
    assert mismatch({"a": 5000, "b": 5050}, even) == pytest.approx(0.618, abs=0.01)
    found = mismatch({"a": 5000, "b": 5400}, even)
    assert found is not None
    assert found < 0.001
    assert mismatch({"a": 3, "b": 3}, even) is None
    assert mismatch({"a": 100}, {"a": 1.0, "b": 0.0}) is None
    assert mismatch({"a": 9000, "b": 1000}, {"a": 9.0, "b": 1.0}) == pytest.approx(1.0)


def test_holm() -> None:
    assert holm([0.01, None, 0.04, 0.03]) == [pytest.approx(0.03), None, 0.06, 0.06]
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []
