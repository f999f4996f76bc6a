"""How many extra requests, and how much extra money, hedges may cost.

Two limits that the operator sets apart, since a cold loser can cost several times its warm primary:
`max_extra_requests` (a share of requests) and `max_extra_cost` (a share of money). Both are credit
that primaries earn and hedges spend: every primary adds its share, a hedge takes one request and
its estimated price, which is settled when the attempt has ended. Credit is capped at the worth of
20 mean requests (a larger bucket gave no better p99 in simulation, and 5.1 % extra) and starts
half full, so that a burst of slowness after a quiet hour can be answered and not more.

Over the credit stands a hard count: never more than the share of the last 10,000 requests.

Deadline-driven hedges, which fire earlier than the learned delay, may take at most 40 % of the
credit: else a tight deadline that every request carries would spend it all on requests that are
not slow.

Pure state machines: no clock at all, requests are what passes.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict, deque
from typing import Final, NamedTuple

CAP_REQUESTS: Final = 20.0
WINDOW: Final = 10_000
_PART: Final = 100
MIN_HARD_COUNT: Final = 10
"""Hedges that are allowed before the window holds enough requests to have earned them."""
DEADLINE_SHARE: Final = 0.4
_DEADLINE_CAP: Final = DEADLINE_SHARE * CAP_REQUESTS
_MEAN_DECAY: Final = 0.99
MAX_TENANTS: Final = 10_000


class Charge(NamedTuple):
    """What a hedge was granted; given back to `settle` when its attempt has ended."""

    cost: float


class HedgeBudget:
    """The credit of one payer.

    Money is in any one unit (micro-dollars). Requests without a known price earn nothing and cost
    nothing here: they are held by the count alone. Free ones earn nothing too, but with them a
    hedge that costs something cannot be paid.

    Args:
        max_extra_requests: share of requests, 0.05 for one hedge per 20 primaries; 0 for none.
        max_extra_cost: share of the primaries' cost.
    """

    __slots__ = (
        "_credit",
        "_deadline_credit",
        "_mean_cost",
        "_money",
        "_part",
        "_parts",
        "_window_hedges",
        "_window_requests",
        "hedges",
        "max_extra_cost",
        "max_extra_requests",
        "requests",
    )

    def __init__(self, max_extra_requests: float, max_extra_cost: float) -> None:
        self.max_extra_requests = max_extra_requests
        self.max_extra_cost = max_extra_cost
        self._credit = CAP_REQUESTS / 2
        self._deadline_credit = DEADLINE_SHARE * CAP_REQUESTS / 2
        self._mean_cost = 0.0
        self._money: float | None = None
        """None until the first cost is known: then half full."""
        self._parts: deque[tuple[int, int]] = deque()
        self._part = [0, 0]  # requests, hedges of the part that is filling
        self._window_requests = 0
        self._window_hedges = 0
        self.requests = 0
        self.hedges = 0

    def limit(self, max_extra_requests: float, max_extra_cost: float) -> None:
        """Take the shares of a new configuration; credit and counts stay."""
        self.max_extra_requests = max_extra_requests
        self.max_extra_cost = max_extra_cost

    def earn(self, cost: float | None) -> None:
        """A primary was admitted whose estimated cost this is; None where that is not known."""
        self.requests += 1
        self._count(0)
        credit = self._credit + self.max_extra_requests
        self._credit = credit if credit < CAP_REQUESTS else CAP_REQUESTS
        credit = self._deadline_credit + DEADLINE_SHARE * self.max_extra_requests
        self._deadline_credit = credit if credit < _DEADLINE_CAP else _DEADLINE_CAP
        if cost is not None:
            if self._money is None:
                self._mean_cost = cost
                self._money = CAP_REQUESTS / 2 * cost
            else:
                self._mean_cost = self._mean_cost * _MEAN_DECAY + cost * (1 - _MEAN_DECAY)
            self._money = min(
                CAP_REQUESTS * self._mean_cost, self._money + self.max_extra_cost * cost
            )

    def refuses(self, cost: float, *, by_deadline: bool = False) -> str:
        """Why a hedge of this estimated cost cannot be paid: "" if it can.

        `requests` (no credit), `share` (the hard count), `deadline_share` or `money`.
        """
        if self.max_extra_requests <= 0 or self._credit < 1.0:
            return "requests"
        allowed = max(MIN_HARD_COUNT, self.max_extra_requests * min(self._window_requests, WINDOW))
        if self._window_hedges + 1 > allowed:
            return "share"
        if by_deadline and self._deadline_credit < 1.0:
            return "deadline_share"
        if cost > 0 and self._money is not None and self._money < cost:
            return "money"
        return ""

    def take(self, cost: float, *, by_deadline: bool = False) -> Charge | None:
        """Pay for a hedge; None (and nothing taken) if it cannot be paid."""
        if self.refuses(cost, by_deadline=by_deadline):
            return None
        self._credit -= 1.0
        if by_deadline:
            self._deadline_credit -= 1.0
        if cost > 0 and self._money is not None:
            self._money -= cost
        self.hedges += 1
        self._count(1)
        return Charge(cost)

    def settle(self, charge: Charge, cost: float) -> None:
        """The hedge has ended and cost this. Once a charge; more than estimated is a debt, of no
        more than the credit may be: a provider that counts wrong must not end hedging for days."""
        if self._money is not None:
            most = CAP_REQUESTS * self._mean_cost
            self._money = max(-most, min(most, self._money + charge.cost - max(0.0, cost)))

    def _count(self, kind: int) -> None:
        self._part[kind] += 1
        if kind == 0:
            self._window_requests += 1
            if self._part[0] >= _PART:
                self._parts.append((self._part[0], self._part[1]))
                self._part = [0, 0]
                while self._parts and self._window_requests - self._parts[0][0] >= WINDOW:
                    requests, hedges = self._parts.popleft()
                    self._window_requests -= requests
                    self._window_hedges -= hedges
        else:
            self._window_hedges += 1

    @property
    def credit(self) -> float:
        """Hedges that could be paid now, by their number."""
        return self._credit

    @property
    def fullness(self) -> float:
        """Credit as a part of the most there may be: of requests or of money, whichever is less."""
        part = self._credit / CAP_REQUESTS
        if self._money is not None and self._mean_cost > 0:
            part = min(part, self._money / (CAP_REQUESTS * self._mean_cost))
        return part

    @property
    def money(self) -> float | None:
        """Money that hedges may cost now; None while no price is known."""
        return self._money

    @property
    def extra_share(self) -> float:
        """Hedges over requests in the window."""
        return self._window_hedges / self._window_requests if self._window_requests else 0.0


class HedgeBudgets:
    """The operator's budget, and one for each tenant under it: both must pay.

    A tenant's shares are of its own requests. Unless others are set they are the operator's: then
    no tenant spends what another has earned.
    """

    __slots__ = ("_of_tenant", "_tenants", "operator")

    def __init__(self, max_extra_requests: float, max_extra_cost: float) -> None:
        self.operator = HedgeBudget(max_extra_requests, max_extra_cost)
        self._of_tenant = (max_extra_requests, max_extra_cost)
        self._tenants: OrderedDict[str, HedgeBudget] = OrderedDict()

    def limit(
        self,
        max_extra_requests: float,
        max_extra_cost: float,
        tenant_max_extra_requests: float | None = None,
        tenant_max_extra_cost: float | None = None,
    ) -> None:
        """Take the shares of a new configuration; credit and counts stay.

        Args:
            tenant_max_extra_requests: of each tenant; None for as much as the operator's.
            tenant_max_extra_cost: the same, of money.
        """
        self.operator.limit(max_extra_requests, max_extra_cost)
        self._of_tenant = (
            max_extra_requests if tenant_max_extra_requests is None else tenant_max_extra_requests,
            max_extra_cost if tenant_max_extra_cost is None else tenant_max_extra_cost,
        )

    def of(self, tenant: str) -> HedgeBudget:
        """The tenant's budget, made when first asked for; used longest ago, forgotten first."""
        budget = self._tenants.get(tenant)
        if budget is None:
            budget = HedgeBudget(*self._of_tenant)
            self._tenants[tenant] = budget
            if len(self._tenants) > MAX_TENANTS:
                self._tenants.popitem(last=False)
        else:
            self._tenants.move_to_end(tenant)
            budget.limit(*self._of_tenant)
        return budget

    def latest(self, count: int) -> dict[str, HedgeBudget]:
        """Of the tenants who asked last, the latest first."""
        return dict(itertools.islice(reversed(self._tenants.items()), count))

    def earn(self, tenant: str, cost: float | None) -> None:
        """A primary of this tenant was admitted."""
        self.operator.earn(cost)
        self.of(tenant).earn(cost)

    def refuses(self, tenant: str, cost: float, *, by_deadline: bool = False) -> str:
        """See `HedgeBudget.refuses`; the operator's word first."""
        return self.operator.refuses(cost, by_deadline=by_deadline) or self.of(tenant).refuses(
            cost, by_deadline=by_deadline
        )

    def take(self, tenant: str, cost: float, *, by_deadline: bool = False) -> Charge | None:
        """Pay from both, or from neither."""
        budget = self.of(tenant)
        if self.operator.refuses(cost, by_deadline=by_deadline):
            return None
        charge = budget.take(cost, by_deadline=by_deadline)
        if charge is not None:
            self.operator.take(cost, by_deadline=by_deadline)
        return charge

    def settle(self, tenant: str, charge: Charge, cost: float) -> None:
        """See `HedgeBudget.settle`."""
        self.operator.settle(charge, cost)
        self.of(tenant).settle(charge, cost)
