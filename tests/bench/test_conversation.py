"""The short form of the conversation bench: real processes, at three times the speed of people.

Only what must hold on any machine is asked: texts are right (else it raises), what is given up is
stopped at the provider, and hedging cuts the tail of the same times. A machine with much else to do
takes a tenth of a second to pass a cancel on, so some streams may come to their end before it.
"""

from __future__ import annotations

import os

import pytest

from bench.calls.figures import CAUSES, ArmFigures
from bench.cases.conversation import Plan, hold
from bench.rig import QUICK, Rig
from bench.stats import merged
from tests.fakes.properties import IS_FULL

pytestmark = [
    pytest.mark.bench,
    pytest.mark.sockets,
    pytest.mark.timeout(120),
    pytest.mark.skipif(
        not (IS_FULL or "CI" in os.environ), reason="20 s of calls: in CI and `make nightly` (CI=1)"
    ),
]

PLAN = Plan(pace=3.0, sets=3, rounds=1)
TAIL_BOUND = 0.9
"""Of the hedged worst over that of the same line without: 0.4 to 0.75 on a machine in use."""


def worst_tenth_us(figures: ArmFigures) -> float:
    """The mean of the longest tenth of waits for a first sentence: steadier than one quantile."""
    waited = merged(figures.first_segment.values())
    return sum(waited.quantile(0.905 + 0.01 * k) for k in range(10)) / 10


def test_calls_over_every_line() -> None:
    with Rig(QUICK) as rig:
        found = hold(rig, PLAN)
    for arm, figures in found.items():
        assert (figures.turns, figures.failed) == (48, []), arm
        # Most of nine each; those whose answer was whole by then are not among them.
        assert figures.abandoned["superseded"].count, arm
        assert figures.abandoned["barge_in"].count >= 3, arm
        stopped = sum(histogram.count for histogram in figures.abandoned.values())
        assert len(figures.not_stopped) <= 0.25 * stopped, (arm, figures.not_stopped)
        assert 0 < figures.wasted.total() < figures.produced / 2, arm
        assert set(figures.wasted) <= set(CAUSES)
    for arm in ("sse", "converse"):
        hedged = found[f"{arm}_hedged"]
        assert hedged.hedges
        assert not found[arm].hedges
        assert worst_tenth_us(hedged) < TAIL_BOUND * worst_tenth_us(found[arm])
