"""Which of several equally good answers is it?"""

from __future__ import annotations

import math
from collections.abc import Sequence

from relay.config.panels import TieRule
from relay.policy.panel_errors import NoAgreement
from relay.policy.panel_poll import Answered


def broken(rule: TieRule, tied: Sequence[Answered], panel: str) -> Answered:
    """
    Args:
        tied: at least one.
        panel: its name, for the error.

    Raises:
        NoAgreement: by the rule `fail`, and there are several.
    """
    if len(tied) == 1:
        return tied[0]
    if rule == "fail":
        raise NoAgreement(f"panel {panel!r}: {len(tied)} answers are equally good (on_tie: fail)")
    if rule == "soonest":
        return min(tied, key=lambda one: one.nth)
    if rule == "cheapest":
        return min(tied, key=lambda one: (_cost(one), one.member))
    return min(tied, key=lambda one: one.member)


def _cost(one: Answered) -> float:
    """An unknown price is the highest."""
    return math.inf if one.whole.cost is None else one.whole.cost
