"""Dead air as it was, and as it would have been."""

from __future__ import annotations

import random

import pytest

from relay.observability.report.rows import Generation, joined
from relay.observability.report.sketch import Curve, Sketch
from relay.observability.report.waits import Bought, Waits, bought, wait_of
from tests.fakes.report_rows import generation, hedged, lognormal, tried

LIMIT_US = 1_000_000


def of(*given: Generation, curve: Curve | None = None) -> tuple[Waits, Bought]:
    waits = Waits()
    for one in given:
        waits.add(one, list(joined(one.tried)), LIMIT_US)
    return waits, bought(waits, lambda _: curve, LIMIT_US)


def test_waits() -> None:
    assert wait_of(generation(tried(first_us=5))) == 5
    assert wait_of(generation(tried(outcome="failure"), reason="UPSTREAM_FAILED", wall_us=7)) == 7
    assert wait_of(generation(reason="INVALID_REQUEST", wall_us=7)) is None
    assert wait_of(generation(wall_us=7)) is None, "no content by its nature"
    assert wait_of(generation(reason="ABANDONED", wall_us=7)) is None


def test_without_hedges_both_are_the_same() -> None:
    waits, found = of(generation(tried(first_us=400_000)), generation(tried(first_us=1_600_000)))
    assert (found.counted, found.dead, found.dead_us) == (2, 1, 600_000)
    assert (found.dead_before, found.dead_before_us, found.saved_us) == (1, 600_000, 0)
    assert (waits.hedged, waits.extra_micro) == (0, 0)


def test_a_lost_hedge_costs_and_changes_nothing() -> None:
    one = hedged(primary_us=800_000, hedge_us=700_000, delay_us=300_000)
    waits, found = of(one)
    assert (waits.hedged, waits.hedge_won, waits.extra_micro, waits.extra_upper_micro) == (
        1, 0, 4, 20
    )  # fmt: skip
    assert found.saved_us == 0


def test_a_first_attempt_that_ran_on_says_what_it_would_have_been() -> None:
    loser = tried(outcome="ignored", first_us=2_500_000, ended_us=2_500_000, cost_micro=7)
    winner = tried("b/m", "hedge", started_us=500_000, first_us=100_000)
    waits, found = of(generation(loser, winner))
    assert (found.dead, found.dead_before, found.dead_before_us) == (0, 1, 1_500_000)
    assert found.saved_us == 1_900_000
    assert (found.rated, found.estimated, found.unrated) == (1, 0, 0)
    assert waits.extra_micro == 7


def test_after_a_failure_the_second_would_have_been_asked_then() -> None:
    failed = tried(outcome="failure", reason="UPSTREAM_FAILED", ended_us=900_000)
    winner = tried("b/m", "hedge", started_us=500_000, first_us=600_000)
    waits, found = of(generation(failed, winner))
    assert found.saved_us == 400_000, "0.9 s and 0.6 s instead of 1.1 s"
    assert waits.extra_micro == 0, "what failed would have cost the same"


def test_what_nobody_knows_counts_as_nothing_saved() -> None:
    one = hedged(primary_us=9_000_000, hedge_us=700_000, delay_us=600_000)
    _, found = of(one)
    assert (found.unrated, found.rated, found.saved_us) == (1, 0, 0)
    assert (found.dead, found.dead_before, found.dead_before_us) == (1, 1, 300_000)


def test_the_estimate_is_near_the_truth() -> None:
    rng = random.Random(3)
    races, truth_us, dead_us, dead = [], 0, 0, 0
    sketch = Sketch()
    for index in range(20_000):
        primary_us, hedge_us = lognormal(rng, 300_000, 0.8), lognormal(rng, 250_000, 0.3)
        one = hedged(primary_us, hedge_us, 600_000)
        races.append(one)
        if index % 3 == 0:  # a part of the traffic is not hedged, and shows the whole tail
            sketch.add(primary_us)
            continue
        truth_us += max(0, primary_us - (one.ttft_us or 0))
        dead += primary_us > LIMIT_US
        dead_us += max(0, primary_us - LIMIT_US)
    for index, one in enumerate(races):
        first = one.tried[0]
        if index % 3 and first.first_us is not None:
            sketch.add(first.first_us)
        elif index % 3:
            sketch.add_censored(first.ended_us)
    _, found = of(*(one for index, one in enumerate(races) if index % 3), curve=sketch.curve())
    assert found.saved_us == pytest.approx(truth_us, rel=0.1)
    assert found.dead_before == pytest.approx(dead, rel=0.1)
    assert found.dead_before_us == pytest.approx(dead_us, rel=0.1)
    assert found.estimated == found.rated > 500
