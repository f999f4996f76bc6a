"""What hedging did for one alias since the worker began, or would have done in shadow mode.

Counts and sums only, told once a generation; `/admin/state` shows them.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

from relay.outcome import AttemptRole, GenerationEnd, HedgeRecord

_BUDGET: Final = "budget_"


class HedgeCounters:
    """One alias. Money is in micro-dollars, estimated; `_upper` is the most it can have been."""

    __slots__ = (
        "by_reason",
        "extra_cost",
        "extra_cost_upper",
        "failovers",
        "fired",
        "refused",
        "requests",
        "won",
        "would_cost",
        "would_cost_upper",
        "would_fire",
        "would_unrated",
        "would_win",
    )

    def __init__(self) -> None:
        self.requests = 0
        self.fired = 0
        """Second attempts that were started by the timer."""
        self.won = 0
        """Generations that one of them answered."""
        self.failovers = 0
        """Attempts in place of one that had failed."""
        self.extra_cost = 0.0
        """What hedges added to what the first attempts would have cost alone."""
        self.extra_cost_upper = 0.0
        self.would_fire = 0
        """In shadow mode: hedges whose time came and that could have been paid for."""
        self.would_win = 0.0
        """Of these, how many would have been first: a sum of probabilities."""
        self.would_unrated = 0
        """Of these, those whose second target is not known well enough to say."""
        self.would_cost = 0.0
        self.would_cost_upper = 0.0
        self.refused: Counter[str] = Counter()
        """Hedges whose time came and that did not start, by why."""
        self.by_reason: Counter[str] = Counter()
        """Requests by how their hedge was timed, or why none was (`HedgeReason`)."""

    @property
    def budget_exhausted(self) -> int:
        """Hedges that did not start for want of credit."""
        return sum(count for why, count in self.refused.items() if why.startswith(_BUDGET))

    def ended(self, end: GenerationEnd, hedge: HedgeRecord) -> None:
        """A generation is over; `hedge` is final. Once a generation."""
        self.requests += 1
        self.by_reason[hedge.reason] += 1
        self.fired += hedge.fired
        self.won += hedge.won
        if hedge.refused:
            self.refused[hedge.refused] += 1
        for record in end.attempts:
            if record.role is AttemptRole.FAILOVER and not record.is_loser:
                self.failovers += 1
        self.extra_cost += hedge.added_cost or 0.0
        self.extra_cost_upper += hedge.added_cost_upper or 0.0
        if hedge.would_fire:
            self.would_fire += 1
            self.would_cost += hedge.would_cost or 0.0
            self.would_cost_upper += hedge.would_cost_upper or 0.0
            if hedge.would_win is None:
                self.would_unrated += 1
            else:
                self.would_win += hedge.would_win

    def to_dict(self) -> dict[str, Any]:
        """As JSON data; what shadow mode counts only where there was any. `would_win` is null while
        no second was known well enough to say: nobody knows is not none."""
        shown: dict[str, Any] = {
            "requests": self.requests,
            "fired": self.fired,
            "won": self.won,
            "failovers": self.failovers,
            "extra_cost_usd": round(self.extra_cost / 1e6, 6),
            "extra_cost_upper_usd": round(self.extra_cost_upper / 1e6, 6),
            "budget_exhausted": self.budget_exhausted,
            "refused": dict(self.refused),
            "by_reason": dict(self.by_reason),
        }
        if self.would_fire:
            shown["shadow"] = {
                "would_fire": self.would_fire,
                "would_win": None
                if self.would_unrated == self.would_fire
                else round(self.would_win, 3),
                "unrated": self.would_unrated,
                "would_cost_usd": round(self.would_cost / 1e6, 6),
                "would_cost_upper_usd": round(self.would_cost_upper / 1e6, 6),
            }
        return shown
