"""What speculative starts of large tiers may cost, by cascade and tenant.

The credit of `relay.resilience.hedge_budget`, with other words: every request of a cascade earns
its share, and of money a share of what the large model alone would have cost; a speculative start
takes one request and the price of a whole answer, and gives back what it did not cost. A start that
was needed after all has cost nothing extra.
"""

from __future__ import annotations

from relay.config.cascades import SpeculateConfig
from relay.resilience.hedge_budget import Charge, HedgeBudgets


class SpeculationBudgets:
    """Of every cascade by name; it outlives configurations."""

    def __init__(self) -> None:
        self._budgets: dict[str, HedgeBudgets] = {}

    def of(self, cascade: str, config: SpeculateConfig) -> HedgeBudgets:
        """The budget of one, under the present configuration."""
        budget = self._budgets.get(cascade)
        if budget is None:
            budget = HedgeBudgets(config.max_share, config.max_extra_cost)
            self._budgets[cascade] = budget
        else:
            budget.limit(config.max_share, config.max_extra_cost)
        return budget


class Stake:
    """A speculative start that was paid for; settled once."""

    def __init__(self, budget: HedgeBudgets, tenant: str, charge: Charge) -> None:
        self._budget = budget
        self._tenant = tenant
        self._charge = charge
        self._is_settled = False

    def settle(self, extra_cost: float | None) -> None:
        """It has cost so many micro-dollars more than was needed; None: as was put aside."""
        if not self._is_settled:
            self._is_settled = True
            cost = self._charge.cost if extra_cost is None else extra_cost
            self._budget.settle(self._tenant, self._charge, cost)


def stake(budget: HedgeBudgets, tenant: str, cost: float | None) -> Stake | None:
    """Pay for a start; None where it cannot be paid.

    Args:
        cost: of a whole answer of the large model; None where no price is known, which the count
            of requests alone holds then.
    """
    charge = budget.take(tenant, cost or 0.0)
    return Stake(budget, tenant, charge) if charge is not None else None
