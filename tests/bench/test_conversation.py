"""The short form of the conversation bench: real processes, at three times the speed of people.

Only what must hold on any machine is asked: texts are right (else it raises), what is given up is
stopped at the provider, and hedging cuts the tail of the same times.
"""

from __future__ import annotations

import pytest

from bench.calls.figures import CAUSES
from bench.cases.conversation import TAIL_AIM, Plan, hold
from bench.rig import QUICK, Rig
from bench.stats import merged

pytestmark = [pytest.mark.bench, pytest.mark.sockets, pytest.mark.timeout(120)]

PLAN = Plan(pace=3.0, sets=3, rounds=1)
TAIL_BOUND = 1.2 * TAIL_AIM


def test_calls_over_every_line() -> None:
    with Rig(QUICK) as rig:
        found = hold(rig, PLAN)
    p95_us = {}
    for arm, figures in found.items():
        assert (figures.turns, figures.failed, figures.not_stopped) == (48, [], 0), arm
        # Most of nine each; those whose answer was whole by then are not among them.
        assert figures.abandoned["superseded"].count, arm
        assert figures.abandoned["barge_in"].count >= 3, arm
        assert 0 < figures.wasted.total() < figures.produced / 2, arm
        assert set(figures.wasted) <= set(CAUSES)
        p95_us[arm] = merged(figures.first_segment.values()).quantile(0.95)
    for arm in ("sse_hedged", "converse_hedged"):
        assert found[arm].hedges
        assert p95_us[arm] < TAIL_BOUND * p95_us["direct"]
    assert not found["converse"].hedges
