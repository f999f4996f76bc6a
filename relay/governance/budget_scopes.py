"""Which budgets a generation counts against, and in which of their periods.

Every budget that applies must have enough: of the key, of its team and organisation, and of each
tag. None of them stands for another, so what a team spends is the sum over its keys whether or not
they have budgets of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, Literal, NamedTuple

from relay.governance import periods
from relay.store.base import Hold

Scope = Literal["key", "team", "organisation", "tag"]
SCOPES: Final[tuple[Scope, ...]] = ("key", "team", "organisation", "tag")


class BudgetRow(NamedTuple):
    """A row of `budgets`, as it is held in memory."""

    id: str
    scope: str
    """One of `SCOPES`."""
    scope_id: str
    """Of the key, team or organisation; or the tag."""
    organisation_id: str | None
    """Whose it is; None for a tag of anybody."""
    period: str
    """day, month or total."""
    time_zone: str
    limit_micro: int
    is_hard: bool
    """Whether it stops what would go over; else it is only told of."""
    alert_percents: tuple[int, ...]
    """Of `limit_micro`, ascending: what is told when so much is spent."""
    archived: bool


TagBudgets = Callable[[str, Iterable[str]], tuple[BudgetRow, ...]]
"""Budgets of an organisation's id and tags (`Directory.tag_budgets`)."""

_MOST_KNOWN: Final = 4096


def holds(budgets: Iterable[BudgetRow], now_us: int) -> tuple[Hold, ...]:
    """What a reservation made now counts against: one hold a budget, in the order of their ids.

    The order is the same everywhere, so two reservations over the same budgets take their rows in
    one order and cannot wait for each other. Budgets that are archived are left out, one that is
    there twice (of two tags, say) counts once.

    Args:
        now_us: of the admission, microseconds since 1970; the period is that which holds it.
    """
    live = {budget.id: budget for budget in budgets if not budget.archived}
    return tuple(
        Hold(
            budget_id,
            periods.start_s(budget.period, budget.time_zone, now_us),
            budget.limit_micro if budget.is_hard else None,
        )
        for budget_id, budget in sorted(live.items())
    )


class HoldMemo:
    """`holds` of budgets that were asked for before: the rows of a key are one object until one of
    them changes, and what is held of them is the same until a period ends."""

    def __init__(self) -> None:
        self._known: dict[int, _Known] = {}

    def holds(self, budgets: tuple[BudgetRow, ...], now_us: int) -> tuple[Hold, ...]:
        """See `holds`."""
        known = self._known.get(id(budgets))
        if (
            known is not None
            and known.budgets is budgets
            and known.from_us <= now_us < known.until_us
        ):
            return known.holds
        found = holds(budgets, now_us)
        bounds = [periods.bounds_s(one.period, one.time_zone, now_us) for one in budgets]
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        self._known[id(budgets)] = _Known(
            budgets,  # kept, so that no other object gets its id
            found,
            max((start_s for start_s, _ in bounds), default=0) * 1_000_000,
            min((end_s for _, end_s in bounds), default=0) * 1_000_000,
        )
        return found


class _Known(NamedTuple):
    budgets: tuple[BudgetRow, ...]
    holds: tuple[Hold, ...]
    from_us: int
    until_us: int


def has_hard(found: Iterable[Hold]) -> bool:
    """Whether one of the budgets stops what would go over it."""
    return any(hold.cap_micro is not None for hold in found)
