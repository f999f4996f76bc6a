"""What hedges may cost: requests, money, tenants; model-checked."""

from __future__ import annotations

import random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from relay.resilience.hedge_budget import (
    CAP_REQUESTS,
    MIN_HARD_COUNT,
    WINDOW,
    Charge,
    HedgeBudget,
    HedgeBudgets,
)


def test_starts_half_full_and_earns_its_share() -> None:
    budget = HedgeBudget(0.05, 0.2)
    taken = 0
    while budget.take(0.0):
        taken += 1
    assert taken == MIN_HARD_COUNT == CAP_REQUESTS / 2
    for _ in range(19):
        budget.earn(0.0)
        assert budget.refuses(0.0) == "requests"
    budget.earn(0.0)
    for _ in range(200):  # the hard count must have been earned too
        budget.earn(0.0)
    assert budget.take(0.0) is not None


def test_none_at_all() -> None:
    budget = HedgeBudget(0.0, 1.0)
    for _ in range(1000):
        budget.earn(1.0)
    assert budget.refuses(0.0) == "requests"


@pytest.mark.parametrize("share", [0.02, 0.05, 0.15])
def test_never_over_its_share_of_any_window(share: float) -> None:
    """Everybody wants to hedge all the time, after a quiet hour and in bursts."""
    rng = random.Random(1)
    budget = HedgeBudget(share, 1.0)
    log: list[int] = []
    for number in range(4 * WINDOW):
        budget.earn(0.0)
        log.append(0)
        wants = number > WINDOW and rng.random() < (1.0 if (number // 500) % 2 else 0.3)
        if wants and budget.take(0.0):
            log[-1] = 1
    hedges = sum(log[:WINDOW])
    worst = hedges
    for at in range(WINDOW, len(log)):
        hedges += log[at] - log[at - WINDOW]
        worst = max(worst, hedges)
    assert 0.9 * share * WINDOW <= worst <= share * WINDOW * 1.005


def test_money_is_a_limit_of_its_own_and_is_settled() -> None:
    budget = HedgeBudget(1.0, 0.2)
    budget.earn(100.0)  # half of 20 mean requests
    charge = budget.take(900.0)
    assert charge is not None
    assert budget.refuses(150.0) == "money"
    budget.settle(charge, 400.0)
    assert budget.refuses(150.0) == ""
    second = budget.take(500.0)
    assert second is not None
    budget.settle(second, 5000.0)  # its provider did not stop: a debt
    assert budget.money is not None
    assert budget.money < 0
    for _ in range(300):
        budget.earn(100.0)
    assert budget.refuses(100.0) == ""


def test_unknown_prices_are_held_by_the_count_alone() -> None:
    budget = HedgeBudget(0.5, 0.0)
    budget.earn(None)
    assert budget.take(0.0) is not None
    assert budget.take(10.0) is not None, "no price of a primary is known to compare with"


def test_beside_free_requests_nothing_that_costs_can_be_paid() -> None:
    budget = HedgeBudget(0.5, 10.0)
    budget.earn(0.0)
    assert budget.refuses(10.0) == "money"
    assert budget.take(0.0) is not None


def test_a_debt_is_paid_off_within_the_credit() -> None:
    budget = HedgeBudget(1.0, 1.0)
    budget.earn(10.0)
    charge = budget.take(10.0)
    assert charge is not None
    budget.settle(charge, 1e18)
    for _ in range(21):
        assert budget.refuses(10.0) == "money"
        budget.earn(10.0)
    assert budget.take(10.0) is not None


def test_deadlines_take_at_most_four_tenths() -> None:
    budget = HedgeBudget(0.05, 1.0)
    for _ in range(10_000):
        budget.earn(0.0)
    by_deadline = 0
    while budget.take(0.0, by_deadline=True):
        by_deadline += 1
    assert by_deadline == 0.4 * CAP_REQUESTS
    assert budget.refuses(0.0, by_deadline=True) == "deadline_share"
    assert budget.refuses(0.0) == ""


def test_a_tenant_cannot_spend_for_others() -> None:
    budgets = HedgeBudgets(0.05, 1.0)
    for number in range(4000):
        budgets.earn("a" if number % 2 else "b", 0.0)
    while budgets.take("a", 0.0):
        pass
    assert budgets.of("a").refuses(0.0) == "requests"
    assert budgets.of("b").refuses(0.0) == ""
    assert budgets.operator.refuses(0.0) == "requests", "it had 20, and `a` had them"
    for _ in range(100):
        budgets.earn("b", 0.0)
    assert budgets.take("b", 0.0) is not None
    assert budgets.take("a", 0.0) is None


def test_a_tenant_may_have_shares_of_its_own() -> None:
    budgets = HedgeBudgets(0.0, 0.0)
    budgets.limit(0.05, 0.2, 0.5, 1.0)
    for _ in range(1000):
        budgets.earn("a", 1.0)
        budgets.earn("b", 1.0)
    for tenant in ("a", "b"):
        budget = budgets.of(tenant)
        assert (budget.max_extra_requests, budget.max_extra_cost) == (0.5, 1.0)
    taken = 0
    while budgets.take("a", 0.0):
        taken += 1
    assert taken == CAP_REQUESTS, "all that the operator had, though others had earned a half"
    assert (budgets.refuses("a", 0.0), budgets.of("a").hedges) == ("requests", taken)
    budgets.limit(0.05, 0.2, 0.0, None)
    assert budgets.of("a").max_extra_cost == 0.2
    assert budgets.refuses("b", 0.0) == "requests"
    budgets.limit(0.05, 0.2)
    assert budgets.of("b").max_extra_requests == 0.05


def test_the_latest_tenants_first() -> None:
    budgets = HedgeBudgets(0.05, 0.2)
    for tenant in ("a", "b", "c", "a"):
        budgets.earn(tenant, None)
    assert list(budgets.latest(2)) == ["a", "c"]


class BudgetMachine(RuleBasedStateMachine):
    """Credit and money against a plain account."""

    def __init__(self) -> None:
        super().__init__()
        self.budget = HedgeBudget(0.1, 0.3)
        self.requests = 0
        self.hedges = 0
        self.spent = 0.0
        self.earned_costs: list[float] = []
        self.open: list[Charge] = []

    @rule(cost=st.floats(0, 100))
    def earn(self, cost: float) -> None:
        self.budget.earn(cost)
        self.requests += 1
        if cost > 0:
            self.earned_costs.append(cost)

    @rule(cost=st.floats(0, 400), by_deadline=st.booleans())
    def take(self, cost: float, by_deadline: bool) -> None:
        why = self.budget.refuses(cost, by_deadline=by_deadline)
        charge = self.budget.take(cost, by_deadline=by_deadline)
        assert (charge is None) == bool(why)
        if charge is not None:
            self.hedges += 1
            self.open.append(charge)
            if self.earned_costs:
                self.spent += cost

    @rule(factor=st.floats(0, 3))
    def settle(self, factor: float) -> None:
        if self.open:
            charge = self.open.pop()
            self.budget.settle(charge, charge.cost * factor)
            if self.earned_costs:
                self.spent += charge.cost * (factor - 1)

    @invariant()
    def counts_are_bounded(self) -> None:
        assert self.hedges <= CAP_REQUESTS / 2 + 0.1 * self.requests + 1e-6
        assert self.hedges <= max(MIN_HARD_COUNT, 0.1 * self.requests)
        assert 0.0 <= self.budget.credit <= CAP_REQUESTS

    @invariant()
    def money_is_bounded(self) -> None:
        if self.earned_costs and self.budget.money is not None:
            most = max(self.earned_costs)
            assert self.budget.money <= CAP_REQUESTS * most + 1e-6


BudgetMachine.TestCase.settings = settings(max_examples=60, deadline=None)
TestBudgetMachine = BudgetMachine.TestCase


def test_fullness_is_that_of_the_scarcer_credit() -> None:
    budget = HedgeBudget(0.05, 0.2)
    assert budget.fullness == 0.5
    for _ in range(400):
        budget.earn(10.0)
    assert budget.fullness == 1.0
    assert budget.take(150.0) is not None
    assert budget.fullness == 0.25  # 50 of 200 are left, and 19 of 20 requests


# --- to the number ----------------------------------------------------------------------------


def test_money_is_earned_by_shares_and_capped_at_twenty_mean_requests() -> None:
    budget = HedgeBudget(0.5, 0.2)
    assert budget.money is None
    budget.earn(100.0)
    assert budget.money == pytest.approx(10 * 100 + 0.2 * 100)
    budget.earn(200.0)  # the mean is 101 now
    assert budget.money == pytest.approx(1020 + 0.2 * 200)
    for _ in range(2000):
        budget.earn(50.0)
    assert budget.money == pytest.approx(20 * 50)
    budget.earn(None)
    assert budget.money == pytest.approx(20 * 50)
    assert budget.requests == 2003


def test_a_hedge_takes_what_it_is_reckoned_to_cost_and_settles_what_it_did() -> None:
    budget = HedgeBudget(0.5, 0.0)
    budget.earn(100.0)
    charge = budget.take(300.0)
    assert charge == Charge(300.0)
    assert (budget.money, budget.credit, budget.hedges) == (700.0, 9.5, 1)
    assert budget.take(0.0) == Charge(0.0)
    assert budget.money == 700.0
    budget.settle(charge, 120.0)
    assert budget.money == 880.0
    budget.settle(Charge(0.0), -5.0)
    assert budget.money == 880.0, "nothing costs less than nothing"
    budget.settle(Charge(1e9), 0.0)
    assert budget.money == 2000.0
    budget.settle(Charge(0.0), 1e9)
    assert budget.money == -2000.0


@pytest.mark.parametrize(("cost", "why"), [(1000.0, ""), (1000.5, "money")])
def test_money_suffices_to_the_last_of_it(cost: float, why: str) -> None:
    budget = HedgeBudget(0.5, 0.0)
    budget.earn(100.0)
    assert budget.refuses(cost) == why


def test_a_hedge_counts_until_ten_thousand_later_requests_in_whole_hundreds() -> None:
    budget = HedgeBudget(1.0, 1.0)
    assert budget.extra_share == 0.0
    assert budget.take(0.0) is not None
    for _ in range(WINDOW + 99):
        budget.earn(None)
    assert budget.extra_share == pytest.approx(1 / (WINDOW + 99))
    budget.earn(None)
    assert budget.extra_share == 0.0
    assert budget.take(0.0) is not None
    assert budget.extra_share == pytest.approx(1 / WINDOW)


@pytest.mark.parametrize(("requests", "allowed"), [(0, 10), (39, 10), (44, 11), (48, 12)])
def test_the_hard_count_is_ten_or_the_share_of_the_window(requests: int, allowed: int) -> None:
    budget = HedgeBudget(0.25, 1.0)
    for _ in range(requests):
        budget.earn(None)
    taken = 0
    while budget.refuses(0.0) != "share":
        budget._credit = 20.0
        assert budget.take(0.0) is not None
        taken += 1
    assert taken == allowed


def test_credit_of_requests_needs_a_whole_one() -> None:
    budget = HedgeBudget(0.25, 1.0)
    while budget.take(0.0) is not None:
        pass
    assert budget.credit == 0.0
    for _ in range(3):
        budget.earn(None)
        assert budget.refuses(0.0) == "requests"
    budget.earn(None)
    assert budget.credit == 1.0
    assert budget.refuses(0.0) != "requests"


def test_deadlines_have_a_credit_of_their_own_that_is_earned_by_a_part() -> None:
    budget = HedgeBudget(0.625, 1.0)
    taken = 0
    while budget.take(0.0, by_deadline=True) is not None:
        taken += 1
    assert taken == 4
    for _ in range(3):
        budget.earn(None)
        assert budget.refuses(0.0, by_deadline=True) == "deadline_share"
    budget.earn(None)
    assert budget.refuses(0.0, by_deadline=True) == ""
    for _ in range(1000):
        budget.earn(None)
    assert budget._deadline_credit == 0.4 * CAP_REQUESTS


def test_fullness_is_that_of_whichever_is_less() -> None:
    budget = HedgeBudget(0.5, 0.0)
    assert budget.fullness == 0.5
    budget.earn(100.0)
    assert budget.fullness == pytest.approx(0.5)  # of money; of requests it is more
    assert budget.take(500.0) is not None
    assert budget.fullness == pytest.approx(0.25)
    free = HedgeBudget(0.5, 0.0)
    free.earn(0.0)
    assert free.fullness == pytest.approx(10.5 / 20)


def test_both_payers_pay_or_neither() -> None:
    budgets = HedgeBudgets(1.0, 1.0)
    for _ in range(40):
        budgets.earn("a", 100.0)
    tenant, operator = budgets.of("a"), budgets.operator
    assert budgets.refuses("a", 2001.0) == "money"
    assert budgets.take("a", 2001.0) is None
    while operator.take(0.0) is not None:  # somebody else's
        pass
    before = tenant.credit
    assert budgets.take("a", 0.0) is None
    assert tenant.credit == before
    budgets.limit(1.0, 1.0, 0.0)
    budgets.earn("a", 100.0)
    had = operator.credit
    assert budgets.take("a", 0.0) is None
    assert operator.credit == had
    budgets.limit(1.0, 1.0)
    charge = budgets.take("a", 10.0)
    assert charge is not None
    money = (operator.money, budgets.of("a").money)
    budgets.settle("a", charge, 4.0)
    assert money[0] is not None
    assert money[1] is not None
    assert (operator.money, budgets.of("a").money) == (money[0] + 6.0, money[1] + 6.0)


def test_tenants_are_remembered_within_a_bound_the_latest_longest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("relay.resilience.hedge_budget.MAX_TENANTS", 2)
    budgets = HedgeBudgets(1.0, 1.0)
    first, second = budgets.of("first"), budgets.of("second")
    assert budgets.of("first") is first
    budgets.of("third")
    assert list(budgets.latest(5)) == ["third", "first"]
    assert budgets.latest(1) == {"third": budgets.of("third")}
    assert budgets.of("first") is first
    assert budgets.of("second") is not second
