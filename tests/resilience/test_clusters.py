"""Whether slowness comes in runs."""

from __future__ import annotations

import random

import pytest

from relay.resilience.clusters import CLUSTERED, Clusters


def seen(correlation: float, count: int, rate: float = 0.1, seed: int = 1) -> Clusters:
    """So many first tokens whose slowness follows that of the one before."""
    draw, one, is_slow = random.Random(seed), Clusters(), False
    for _ in range(count):
        if draw.random() >= correlation:  # else as the one before
            is_slow = draw.random() < rate
        one.observe(is_slow)
    return one


def test_clustered_until_it_is_known_better() -> None:
    assert Clusters().is_clustered
    assert seen(0.0, 100).is_clustered
    one = Clusters()
    pairs = 0
    while one.is_clustered:
        one.observe(True)
        one.observe(False)
        pairs += 1
    assert 15 <= pairs <= 45


@pytest.mark.parametrize("correlation", [0.0, 0.05, 0.6, 0.8])
def test_correlation_is_found(correlation: float) -> None:
    found = [seen(correlation, 5000, seed=seed) for seed in range(20)]
    mean = sum(one.correlation for one in found) / len(found)
    assert mean == pytest.approx(correlation, abs=0.08)
    right = sum(one.is_clustered == (correlation > CLUSTERED) for one in found)
    assert right >= 17


def test_it_follows_a_change() -> None:
    one = seen(0.0, 5000)
    assert not one.is_clustered
    for _ in range(60):
        one.observe(True)
    assert one.is_clustered


def test_always_slow_is_no_number_too_large() -> None:
    one = Clusters()
    for _ in range(10_000):
        one.observe(True)
    assert -1.0 <= one.correlation <= 1.0
