"""What a provider did with what it was asked."""

from __future__ import annotations

import pytest

from relay.observability.report.rows import joined
from relay.observability.report.scorecard import Score, share
from tests.fakes.report_rows import tried


def test_every_end_has_its_place() -> None:
    score = Score()
    ends = [
        tried(),
        tried(outcome="failure", reason="UPSTREAM_FAILED", http_status=500),
        tried(outcome="failure", reason="UPSTREAM_TRUNCATED", first_us=5, is_winner=True),
        tried(outcome="overload", reason="UPSTREAM_RATE_LIMITED", http_status=429),
        tried(outcome="overload", reason="UPSTREAM_OVERLOADED", http_status=503),
        tried(outcome="failure", reason="UPSTREAM_REJECTED", http_status=400),
        tried(outcome="ignored"),
        tried(outcome="failure", reason="DEADLINE_EXCEEDED"),
        tried(outcome="abandoned"),
    ]
    for one in ends:
        score.add(one, is_hedge_won=False)
    assert (score.attempts, score.answered, score.failed, score.truncated) == (9, 1, 2, 1)
    assert (score.refused, score.rate_limited, score.rejected) == (2, 1, 1)
    assert (score.left, score.unclear, score.wins) == (2, 1, 2)
    assert score.availability[:3] == (1, 5, 0.2)
    assert (score.ttft.known, score.ttft.samples) == (2, 3)


def test_hedges_and_money() -> None:
    score = Score()
    score.add(
        tried(role="hedge", cost_micro=30, upper_micro=40, is_estimated=True), is_hedge_won=True
    )
    score.add(tried(role="hedge", outcome="ignored", cost_micro=5), is_hedge_won=False)
    score.add(tried(outcome="ignored", cost_micro=5, upper_micro=None), is_hedge_won=True)
    assert (score.hedges, score.hedges_won, score.hedges_lost, score.outrun) == (2, 1, 1, 1)
    assert (score.cost_micro, score.upper_micro, score.estimated_micro) == (40, 55, 30)
    assert score.cost_per_1k_micro == 40_000
    score.add(tried(cost_micro=None, upper_micro=None), is_hedge_won=False)
    assert (score.unpriced, score.cost_per_1k_micro) == (1, 20_000)
    alone = Score()
    alone.add(tried(cost_micro=None), is_hedge_won=False)
    assert alone.cost_per_1k_micro is None
    assert Score().cost_per_1k_micro is None


def test_bounds() -> None:
    """Wilson's, as tables have them: 9 of 10 is 59.6 to 98.2 %."""
    found = share(9, 10)
    assert (found.low, found.high) == pytest.approx((0.596, 0.982), abs=0.001)
    assert share(0, 0).value is None
    full = share(100, 100)
    assert full.high == 1.0
    assert full.low == pytest.approx(0.963, abs=0.001)


def test_a_stale_connection_is_no_fault_and_a_refusal_of_ours_no_attempt() -> None:
    ours = tried("a/m", outcome="failure", reason="BREAKER_OPEN")
    stale = tried("b/m", "failover", outcome="failure", reason="UPSTREAM_RESET", started_us=10)
    again = tried("b/m", "retry", started_us=60, first_us=100)
    (one,) = joined([ours, stale, again])
    assert (one.role, one.started_us, one.first_us, one.outcome) == ("failover", 10, 150, "success")
    other = tried("c/m", "retry")
    assert len(list(joined([stale, other]))) == 2
