"""Keys that are limited are refused where nothing would hold it."""

from __future__ import annotations

from typing import Any

import pytest

from relay.governance.budget_scopes import BudgetRow
from relay.governance.key_view import KeyView
from relay.governance.limits import KeyLimits, Limits
from relay.governance.scopes import Scopes
from relay.governance.unkept import Unkept, check_unkept

BUDGET = BudgetRow("bud", "key", "key", "org", "total", "UTC", 1, False, (), False)


def view(**given: Any) -> KeyView:
    known = {"scopes": Scopes(), "limits": KeyLimits(), "budgets": (), **given}
    return KeyView("key", "team", "org", tags=(), **known)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"limits": KeyLimits(Limits(rpm=1))}, "limits apply"),
        ({"limits": KeyLimits(team=Limits(sessions=1))}, "limits apply"),
        ({"limits": KeyLimits(organisation=Limits(output_tpm=1))}, "limits apply"),
        ({"budgets": (BUDGET,)}, "budgets apply"),
        ({"scopes": Scopes(max_cost_micro=0)}, "max_cost_micro"),
    ],
)
def test_what_would_not_be_held(given: dict[str, Any], words: str) -> None:
    with pytest.raises(Unkept, match=f"{words}.*store.ledger"):
        check_unkept(view(**given))


def test_a_budget_of_a_tag_counts_while_it_is_there() -> None:
    with pytest.raises(Unkept, match="budgets"):
        check_unkept(view(), [BUDGET])
    check_unkept(view(), [BUDGET._replace(archived=True)])


def test_keys_with_scopes_alone_pass() -> None:
    check_unkept(None)
    check_unkept(view(scopes=Scopes(models=("fast",), may_hedge=False)))
    check_unkept(view(limits=KeyLimits(Limits())))
