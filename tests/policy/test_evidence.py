from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.policy.evidence import Evidence
from tests.fakes.properties import IS_FULL, examples


@given(st.lists(st.floats(0.01, 100), max_size=8))
@examples(30)
def test_it_is_a_fair_game_at_the_odds_that_are_allowed(odds: list[float]) -> None:
    """The mean of the ratio over both outcomes of each event is what it was before."""

    def value(outcomes: tuple[bool, ...]) -> float:
        from math import exp

        one = Evidence()
        for is_in_arm, ratio in zip(outcomes, odds, strict=True):
            one.heard(is_in_arm=is_in_arm, odds=ratio)
        return exp(one.log_value)

    mean = 0.0
    for number in range(2 ** len(odds)):
        outcomes = tuple(bool(number >> index & 1) for index in range(len(odds)))
        probability = 1.0
        for is_in_arm, ratio in zip(outcomes, odds, strict=True):
            in_arm = ratio / (1 + ratio)
            probability *= in_arm if is_in_arm else 1 - in_arm
        mean += probability * value(outcomes)
    assert mean == pytest.approx(1.0, rel=1e-6)


def stopped_after(share_in_arm: float, odds: float, alpha: float, most: int, seed: int) -> int:
    """How many events it took; 0 where it was never enough."""
    draw = random.Random(seed)
    one = Evidence()
    for number in range(1, most + 1):
        one.heard(is_in_arm=draw.random() < share_in_arm, odds=odds)
        if one.is_enough(alpha):
            return number
    return 0


@pytest.mark.parametrize("odds", [0.2, 1.0, 3.0])
def test_looking_after_every_event_stops_no_oftener_than_alpha(odds: float) -> None:
    runs, alpha = (2000 if IS_FULL else 300), 0.1
    stops = sum(
        stopped_after(odds / (1 + odds), odds, alpha, 400, seed) > 0 for seed in range(runs)
    )
    assert stops <= runs * alpha


def test_twice_as_bad_is_found_and_ten_times_soon() -> None:
    took = [stopped_after(2 / 3, 1.0, 0.05, 2000, seed) for seed in range(40)]
    assert all(took)
    assert sorted(took)[20] < 150
    soon = [stopped_after(10 / 11, 1.0, 0.05, 2000, seed) for seed in range(40)]
    assert max(soon) < 40


def test_better_than_allowed_never_is_enough() -> None:
    assert not any(stopped_after(0.3, 1.0, 0.05, 1000, seed) for seed in range(50))
