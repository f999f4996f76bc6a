"""Figures of samples: quantiles of what came, and what prompts add."""

from __future__ import annotations

import math
import random

import pytest

from relay.measuring.samples import Sample, figures, median_ranks
from tests.measuring.world import sample


def test_quantiles_are_samples() -> None:
    found = figures([sample(n / 1000) for n in random.Random(1).sample(range(1, 201), 200)])
    assert found is not None
    assert found.p50_s == pytest.approx(0.1005)
    assert (found.p90_s, found.p99_s) == (0.180, 0.198)
    assert found.per_1000_s is None, "one length says nothing of prompts"


def test_of_few_the_slowest_is_the_p99() -> None:
    found = figures([sample(value) for value in (0.3, 0.1, 0.2)])
    assert found is not None
    assert (found.p50_low_s, found.p50_s, found.p50_high_s) == (0.1, 0.2, 0.3)
    assert found.p99_s == 0.3
    assert figures([]) is None


@pytest.mark.parametrize("count", [6, 7, 10, 30, 31, 100, 1000])
def test_the_median_lies_between_the_ranks(count: int) -> None:
    """By the binomial distribution itself: 95 in a hundred, and not with fewer ranks."""
    low, high = median_ranks(count)

    def covered(low: int, high: int) -> float:
        ways: int = sum(math.comb(count, k) for k in range(low + 1, high + 1))
        return float(ways / 2**count)

    assert covered(low, high) >= 0.95
    assert covered(low + 1, high - 1) < 0.95


def test_what_prompts_add_is_between_the_lengths() -> None:
    rng = random.Random(3)
    samples: list[Sample] = []
    for number in range(40):
        tokens = 2100 if number % 2 else 100
        ttft_s = 0.4 + 0.02 * tokens / 1000 + rng.uniform(-0.001, 0.001)
        samples.append(sample(ttft_s, prompt=tokens, is_long=tokens > 1000))
    found = figures(samples)
    assert found is not None
    assert found.per_1000_s == pytest.approx(0.02, abs=0.001)
    cached = [s._replace(cached_tokens=2000) if s.is_long else s for s in samples]
    found = figures(cached)
    assert found is not None
    assert found.per_1000_s is None, "all that was long came from a cache"
