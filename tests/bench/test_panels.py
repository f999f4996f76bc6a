"""The panel's bench: what its simulation gives is what the times alone say."""

from __future__ import annotations

import random

import pytest

from bench.panels import simulated
from bench.panels.world import COMMON_MISTAKE, JUDGED, Draw, World, cost_of, predicted
from bench.replay.data import Exponential
from bench.replay.world import Provider

PROVIDERS = tuple(Provider(row, row, Exponential(1.0)) for row in ("a", "b", "c"))


def world(requests: int = 200) -> World:
    rng = random.Random(7)
    rows = [
        tuple(
            Draw(
                rng.expovariate(1.0),
                rng.randint(1, 40),
                80.0,
                rng.choice([JUDGED, JUDGED, COMMON_MISTAKE, number]),
            )
            for number in range(3)
        )
        for _ in range(requests)
    ]
    return World(PROVIDERS, rows)


@pytest.mark.parametrize("early_stop", [True, False])
def test_the_simulated_panel_does_what_the_times_say(early_stop: bool) -> None:
    drawn = world()
    played = simulated.panel(drawn, early_stop=early_stop)
    for draws, one in zip(drawn.requests, played, strict=True):
        promise = predicted(draws, early_stop=early_stop)
        assert one.ttft_s == pytest.approx(promise.decided_s)
        # The clock's last bit may tell a token that comes at the very moment.
        assert abs(one.tokens - sum(promise.tokens)) <= 1


def test_stopping_early_changes_no_answer() -> None:
    drawn = world()
    early, late = simulated.panel(drawn), simulated.panel(drawn, early_stop=False)
    assert [one.is_right for one in early] == [one.is_right for one in late]
    assert sum(one.tokens for one in early) < sum(one.tokens for one in late)
    assert not any(one.stopped for one in late)


def test_tokens_come_one_by_one() -> None:
    one = Draw(1.0, 3, 10.0, JUDGED)
    assert [one.seen_tokens(after_s) for after_s in (0.9, 1.0, 1.15, 9.0)] == [0, 1, 2, 3]
    assert one.whole_s == pytest.approx(1.2)
    assert cost_of(PROVIDERS[0], 10, 100) == pytest.approx(150.0)
