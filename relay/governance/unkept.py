"""Keys whose limits, budgets or greatest cost nobody would hold: they are refused.

What a key may use and spend is counted with the accounts. A relay that keeps none (`store.ledger:
false`) serves keys with scopes alone; one that is limited is not let through as if it were not.
"""

from __future__ import annotations

from collections.abc import Iterable

from relay.errors import StoreDown
from relay.governance.budget_scopes import BudgetRow
from relay.governance.key_view import KeyView
from relay.governance.limits import NO_LIMITS


class Unkept(StoreDown):
    """Accounts are not kept here, so nothing would hold what the key is limited to."""


def check_unkept(view: KeyView | None, of_tags: Iterable[BudgetRow] = ()) -> None:
    """
    Args:
        view: None where there are no keys.
        of_tags: budgets of the tags that the request has.

    Raises:
        Unkept: naming what of the key, or above it, would not be held.
    """
    if view is None:
        return
    if view.limits != NO_LIMITS:
        what = "limits apply"
    elif view.budgets or any(not budget.archived for budget in of_tags):
        what = "budgets apply"
    elif view.scopes.max_cost_micro is not None:
        what = "a greatest cost of a request (max_cost_micro) applies"
    else:
        return
    raise Unkept(
        f"{what} to this key, and this relay keeps no accounts to hold that (store.ledger: false)"
    )
