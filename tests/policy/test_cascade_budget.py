"""Stakes of speculative starts: paid before, settled once."""

from __future__ import annotations

import pytest

from relay.config.cascades import SpeculateConfig
from relay.policy.cascade_budget import SpeculationBudgets, stake
from relay.resilience.hedge_budget import HedgeBudgets


def budget(max_share: float = 1.0, max_extra_cost: float = 0.1) -> HedgeBudgets:
    config = SpeculateConfig(after_ms=0, max_share=max_share, max_extra_cost=max_extra_cost)
    found = SpeculationBudgets().of("smart", config)
    found.earn("t", 100.0)
    return found


def money(found: HedgeBudgets) -> float:
    held = found.operator.money
    assert held is not None
    return held


@pytest.mark.parametrize(("cost", "left"), [(0.0, 1010.0), (30.0, 980.0), (None, 910.0)])
def test_what_was_not_spent_comes_back_once(cost: float | None, left: float) -> None:
    found = budget()
    taken = stake(found, "t", 100.0)
    assert taken is not None
    assert money(found) == pytest.approx(910.0)
    taken.settle(cost)
    taken.settle(0.0)
    assert money(found) == pytest.approx(left)


def test_what_cannot_be_paid_is_not_started() -> None:
    assert stake(budget(max_share=0.0), "t", 1.0) is None
    found = budget()
    assert stake(found, "t", 2000.0) is None
    assert money(found) == pytest.approx(1010.0)


def test_without_a_price_the_count_holds_it() -> None:
    found = HedgeBudgets(0.5, 0.0)
    starts = 0
    for _ in range(100):
        found.earn("t", None)
        starts += stake(found, "t", None) is not None
    assert 45 <= starts <= 60


def test_tenants_do_not_spend_each_others() -> None:
    found = budget(max_share=0.5)
    for _ in range(200):
        found.earn("u", 100.0)
    starts = 0
    while stake(found, "t", 100.0) is not None:
        starts += 1
    assert starts <= 10  # what it begins with, and its share of one request
    assert stake(found, "u", 100.0) is not None
