"""Counts of the last quarter of an hour in slices of ten seconds, by alias and target.

Slices are cut by the wall clock, so those of several workers can be laid upon one another. Bounded:
so many slices, so many aliases and pairs in each; what comes beyond that counts under `OTHERS`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any, Final

from relay.errors import AdmissionError
from relay.observability.live.policy_rows import PolicyName, PolicyRow, names_of, take_row
from relay.observability.live.quantiles import Counts, bucket_of
from relay.observability.live.record import outcome_of, shown, ttft_us
from relay.outcome import AttemptOutcome, AttemptRole, GenerationEnd, fate_of

SLICE_S: Final = 10
SLICES: Final = 91
"""Fifteen minutes, and the one that is being filled."""
MAX_ALIASES: Final = 64
MAX_PAIRS: Final = 256
MAX_BUDGETS: Final = 32
"""Told of one alias."""
OTHERS: Final = "(others)"
COPIED: Final = "(shadow copies)"
"""The alias of copies of requests, whatever was asked for."""
DIRECT: Final = "(named directly)"
"""The alias of generations that named a provider's model themselves."""


class PairCounts:
    """Attempts at one target for one alias."""

    __slots__ = (
        "censored",
        "cost",
        "failed",
        "finished",
        "hedges",
        "held_back",
        "lost",
        "lost_us",
        "overloaded",
        "started",
        "won",
    )

    def __init__(self) -> None:
        self.finished: Counts = {}
        self.censored: Counts = {}
        self.started = self.hedges = self.won = self.lost = self.failed = self.overloaded = 0
        self.held_back = 0
        """Not sent: its breaker, a limit or a budget said no."""
        self.lost_us = 0
        """Sum of the ages at which losers were reset."""
        self.cost = 0.0

    def to_list(self) -> list[Any]:
        """As JSON data, in the order of `PAIR_FIELDS` after the two counts."""
        return [self.finished, self.censored, *(getattr(self, name) for name in PAIR_FIELDS)]


PAIR_FIELDS: Final = (
    "started",
    "hedges",
    "won",
    "lost",
    "failed",
    "overloaded",
    "held_back",
    "lost_us",
    "cost",
)


class AliasCounts:
    """Generations of one alias."""

    __slots__ = (
        "added_cost",
        "budgets",
        "cost",
        "fates",
        "fired",
        "hedge_won",
        "reasons",
        "refused",
        "ttft",
    )

    def __init__(self) -> None:
        self.ttft: Counts = {}
        """As clients had it: hedges and failovers included."""
        self.fates: dict[str, int] = {}
        self.reasons: dict[str, int] = {}
        """Of those that failed or were limited."""
        self.budgets: dict[str, int] = {}
        """Those that refused generations, by id."""
        self.refused: dict[str, int] = {}
        """Hedges whose time came and that did not start, by why."""
        self.fired = self.hedge_won = 0
        self.cost = self.added_cost = 0.0

    def to_list(self) -> list[Any]:
        """As JSON data, in the order of `ALIAS_FIELDS`."""
        return [getattr(self, name) for name in ALIAS_FIELDS]


ALIAS_FIELDS: Final = (
    "ttft",
    "fates",
    "reasons",
    "budgets",
    "refused",
    "fired",
    "hedge_won",
    "cost",
    "added_cost",
)


class Slice:
    """Ten seconds."""

    __slots__ = ("aliases", "index", "pairs", "policies")

    def __init__(self, index: int) -> None:
        self.index = index
        """Of ten seconds since 1970."""
        self.aliases: dict[str, AliasCounts] = {}
        self.pairs: dict[tuple[str, str], PairCounts] = {}
        self.policies: dict[PolicyName, PolicyRow] = {}

    def to_dict(self) -> dict[str, Any]:
        """As JSON data."""
        return {
            "index": self.index,
            "aliases": {name: counts.to_list() for name, counts in self.aliases.items()},
            "pairs": [[*names, *counts.to_list()] for names, counts in self.pairs.items()],
            "policies": [[*names, *row.to_list()] for names, row in self.policies.items()],
        }

    def _alias(self, name: str) -> AliasCounts:
        counts = self.aliases.get(name)
        if counts is None:
            if len(self.aliases) >= MAX_ALIASES:
                name = OTHERS
            counts = self.aliases.setdefault(name, AliasCounts())
        return counts

    def _pair(self, alias: str, target: str) -> PairCounts:
        counts = self.pairs.get((alias, target))
        if counts is None:
            pair = (alias, target) if len(self.pairs) < MAX_PAIRS else (OTHERS, OTHERS)
            counts = self.pairs.setdefault(pair, PairCounts())
        return counts

    def take(self, alias: str, end: GenerationEnd) -> None:
        """Count a generation and its attempts."""
        counts = self._alias(alias)
        fate = fate_of(end.error)
        counts.fates[fate] = counts.fates.get(fate, 0) + 1
        if end.error is not None and fate in ("failed", "limited"):
            reason = end.error.reason.name
            counts.reasons[reason] = counts.reasons.get(reason, 0) + 1
            budget = end.error.metadata.get("budget")
            if budget and (budget in counts.budgets or len(counts.budgets) < MAX_BUDGETS):
                counts.budgets[budget] = counts.budgets.get(budget, 0) + 1
        first_us = ttft_us(end)
        if first_us is not None:
            bucket = bucket_of(first_us)
            counts.ttft[bucket] = counts.ttft.get(bucket, 0) + 1
        if end.decision is not None:
            for name in names_of(end.decision, alias):
                take_row(self.policies, name, end)
        hedge = end.hedge
        if hedge is not None:
            counts.fired += hedge.fired
            counts.hedge_won += hedge.won
            counts.added_cost += hedge.added_cost or 0.0
            if hedge.refused:
                counts.refused[hedge.refused] = counts.refused.get(hedge.refused, 0) + 1
        for record in end.attempts:
            pair = self._pair(alias, shown(f"{record.provider}/{record.model}"))
            if isinstance(record.error, AdmissionError):
                pair.held_back += 1
                continue
            pair.started += 1
            pair.hedges += record.role is AttemptRole.HEDGE
            outcome = outcome_of(record)
            pair.won += outcome == "won"  # one that was cut later has failed, and counts once
            pair.failed += outcome == "failure"
            pair.overloaded += outcome == "overload"
            if record.cost is not None:
                pair.cost += record.cost
                counts.cost += record.cost
            # What runs on to be learnt of has no end yet: it is as old as the generation was.
            age_us = max(0, (record.ended_us or end.wall_us) - record.started_us)
            if outcome == "lost":
                pair.lost += 1
                pair.lost_us += age_us
            if "first_content" in record.phases_us:
                bucket = bucket_of(sum(record.phases_us.values()))
                pair.finished[bucket] = pair.finished.get(bucket, 0) + 1
            elif record.outcome is AttemptOutcome.IGNORED:
                bucket = bucket_of(age_us)
                pair.censored[bucket] = pair.censored.get(bucket, 0) + 1


class Slices:
    """The last of them, oldest first; those in which nothing ended are not there."""

    def __init__(self) -> None:
        self._slices: deque[Slice] = deque(maxlen=SLICES)

    def take(self, alias: str, end: GenerationEnd, now_s: float) -> None:
        """Count a generation that ended now, seconds since 1970."""
        index = int(now_s // SLICE_S)
        slices = self._slices
        if not slices or slices[-1].index < index:
            slices.append(Slice(index))
        # A clock that was put back counts in the newest slice until it has caught up.
        slices[-1].take(alias, end)

    def since(self, index: int) -> Iterator[Slice]:
        """Those from this one on."""
        return (each for each in self._slices if each.index >= index)
