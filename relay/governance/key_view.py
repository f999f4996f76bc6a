"""A key as a request sees it: with all that stands above it."""

from __future__ import annotations

from dataclasses import dataclass

from relay.governance.budget_scopes import BudgetRow
from relay.governance.limits import KeyLimits
from relay.governance.scopes import Scopes


@dataclass(frozen=True, slots=True)
class KeyView:
    """One key at one moment; never changes."""

    key_id: str
    team_id: str
    organisation_id: str
    scopes: Scopes
    tags: tuple[str, ...]
    """Put on every request of it."""
    limits: KeyLimits
    budgets: tuple[BudgetRow, ...]
    """Of the key, its team and its organisation; see `Directory.tag_budgets` for those of tags."""
