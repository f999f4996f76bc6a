"""Quantiles from buckets, against the sorted samples."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from relay.observability.live.quantiles import (
    MAX_BUCKET,
    Counts,
    add,
    bucket_of,
    quantile,
    value_us,
)
from tests.fakes.properties import examples

times_us = st.floats(200, 1e8)


def counts_of(values: list[float]) -> Counts:
    counts: Counts = {}
    for value in values:
        add(counts, {bucket_of(value): 1})
    return counts


@given(st.lists(times_us, min_size=1, max_size=60), st.sampled_from([0.5, 0.95, 0.99]))
@examples(60)
def test_a_quantile_is_the_samples_own_within_the_error(values: list[float], share: float) -> None:
    exact = sorted(values)[math.ceil(share * len(values) - 1e-9) - 1]
    found = quantile(counts_of(values), {}, share)
    assert found is not None
    assert not found.is_floor
    assert abs(found.us / exact - 1) < 0.03


@given(st.lists(times_us, min_size=1), st.lists(times_us), st.sampled_from([0.5, 0.95]))
@examples(60)
def test_who_was_given_up_never_makes_it_quicker(
    finished: list[float], given_up: list[float], share: float
) -> None:
    alone = quantile(counts_of(finished), {}, share)
    both = quantile(counts_of(finished), counts_of(given_up), share)
    assert alone is not None
    assert both is not None
    assert both.us >= alone.us or both.is_floor


@given(st.lists(times_us, min_size=1), st.lists(times_us, min_size=1))
@examples(40)
def test_counts_of_two_add_up_to_those_of_both(one: list[float], other: list[float]) -> None:
    counts = counts_of(one)
    add(counts, counts_of(other))
    assert counts == counts_of(one + other)


def test_a_slow_target_whose_hedges_win_is_not_quick() -> None:
    """One in ten came, at 100 ms; nine were reset at 300 ms: the median is over 300."""
    found = quantile(counts_of([100_000]), counts_of([300_000] * 9), 0.5)
    assert found is not None
    assert found.is_floor
    assert 290_000 < found.us < 310_000


def test_nothing_and_extremes() -> None:
    assert quantile({}, {}, 0.5) is None
    assert bucket_of(0) == bucket_of(99) == 0
    assert bucket_of(1e12) == MAX_BUCKET
    assert value_us(0) == 100
