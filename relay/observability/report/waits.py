"""How long clients waited, how much of it was dead air, and what hedges took away of it.

A client waits from receipt to first content; one that got none waits to the end, or until it went.
Dead air is what of a wait lies beyond a threshold.

What the wait would have been *without* a hedge is known only in part. Where the first attempt won,
it is the same. Where a hedge won,

- and the first attempt ran on to its first content all the same, that is when it would have come;
- and it failed, the second target would have been asked then: its failure, and the time that the
  hedge took;
- and it was cancelled, it would have taken longer than its age: the expected time of its target,
  given that age, by all of its attempts in the same week (in the whole range where that week has
  fewer than `FEW`). Slow episodes hit both attempts, and prompts differ: an estimate.

Where the target has too few first contents even so, the wait is taken as it was and counted as
`unrated`: then hedges did more than is told.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from relay.observability.report.rows import ABANDONED, CALLERS, Generation, Tried
from relay.observability.report.sketch import Curve, bucket_of, value_of


class Unknown(NamedTuple):
    """First attempts that were cancelled since a hedge had answered, by what is known of them."""

    target: str
    started: int
    """Bucket of when it started, since receipt."""
    age: int
    """Bucket of its age when it was given up."""


@dataclass(slots=True)
class Waits:
    """Of any part of the generations. Times in microseconds."""

    counted: int = 0
    waited_us: int = 0
    dead: int = 0
    """Waits beyond the threshold."""
    dead_us: int = 0
    """And by how much, added up."""
    hedged: int = 0
    """Generations in which a hedge was sent."""
    hedge_won: int = 0
    dead_before: float = 0.0
    """The next three as they would have been without hedges, for those that are known."""
    dead_before_us: float = 0.0
    saved_us: float = 0.0
    exact: int = 0
    """Hedges that won and of which that is known."""
    unknown: Counter[Unknown] = field(default_factory=Counter)
    unknown_us: Counter[Unknown] = field(default_factory=Counter)
    """What the clients of these waited in truth."""
    unknown_dead: Counter[Unknown] = field(default_factory=Counter)
    unknown_dead_us: Counter[Unknown] = field(default_factory=Counter)
    extra_micro: int = 0
    """Cost of attempts that ran beside the one that answered, where a hedge was sent."""
    extra_upper_micro: int = 0
    extra_unpriced: int = 0

    def add(self, one: Generation, tried: list[Tried], threshold_us: int) -> None:
        """Count a generation; `tried` is as `rows.joined`."""
        times, wait_us = one.times, wait_of(one)
        hedges = any(each.role == "hedge" for each in tried)
        if hedges:
            self.hedged += times
            self._pay(tried, times)
        if wait_us is None:
            return
        self.counted += times
        self.waited_us += times * wait_us
        dead_us = max(0, wait_us - threshold_us)
        is_dead = dead_us > 0
        self.dead += times * is_dead
        self.dead_us += times * dead_us
        winner = next((each for each in tried if each.is_winner), None)
        if not hedges or winner is None or winner.role != "hedge":
            self.dead_before += times * is_dead
            self.dead_before_us += times * dead_us
            return
        self.hedge_won += times
        first = next((each for each in tried if each.role != "hedge"), None)
        if first is None:
            before_us = wait_us
        elif first.first_us is not None:
            before_us = first.started_us + first.first_us
        elif first.outcome == "ignored":
            age_us = max(0, first.ended_us - first.started_us)
            who = Unknown(first.target, bucket_of(first.started_us), bucket_of(age_us))
            self.unknown[who] += times
            self.unknown_us[who] += times * wait_us
            self.unknown_dead[who] += times * is_dead
            self.unknown_dead_us[who] += times * dead_us
            return
        else:
            before_us = first.ended_us + (winner.first_us or 0)
        before_us = max(before_us, wait_us)
        self.exact += times
        self.saved_us += times * (before_us - wait_us)
        self.dead_before += times * (before_us > threshold_us)
        self.dead_before_us += times * max(0, before_us - threshold_us)

    def _pay(self, tried: list[Tried], times: int) -> None:
        for each in tried:
            if each.is_winner or (each.role != "hedge" and each.outcome != "ignored"):
                continue
            if each.cost_micro is None:
                self.extra_unpriced += times
            else:
                upper = each.cost_micro if each.upper_micro is None else each.upper_micro
                self.extra_micro += times * each.cost_micro
                self.extra_upper_micro += times * upper


def wait_of(one: Generation) -> int | None:
    """None where nobody waited for a first content, or nobody knows; and of a request that was
    refused for its own sake."""
    if one.ttft_us is not None:
        return one.ttft_us
    if not one.reason or one.reason in CALLERS or one.reason == ABANDONED:
        return None
    return one.wall_us


class Bought(NamedTuple):
    """Waits with hedges and as they would have been without, all of it resolved."""

    counted: int
    dead: int
    dead_us: float
    waited_us: float
    dead_before: float
    dead_before_us: float
    saved_us: float
    rated: int
    """Hedges that won, and of which it is known or estimated what they saved."""
    estimated: int
    """Of them, those by the target's other attempts."""
    unrated: int
    """Those of which nothing can be said."""


def bought(waits: Waits, curve_of: Callable[[str], Curve | None], threshold_us: int) -> Bought:
    """
    Args:
        curve_of: of a target; None where too little is known of it.
    """
    dead_before, dead_before_us = waits.dead_before, waits.dead_before_us
    saved_us = waits.saved_us
    estimated = unrated = 0
    curves: dict[str, Curve | None] = {}
    for who, count in waits.unknown.items():
        if who.target not in curves:
            curves[who.target] = curve_of(who.target)
        curve = curves[who.target]
        waited_us, dead_us = waits.unknown_us[who], waits.unknown_dead_us[who]
        if curve is None:
            unrated += count
            dead_before += waits.unknown_dead[who]
            dead_before_us += dead_us
            continue
        estimated += count
        started_us = value_of(who.started) if who.started else 0.0
        mean_us, over, excess_us = curve.beyond(value_of(who.age), threshold_us - started_us)
        saved_us += max(0.0, count * (started_us + mean_us) - waited_us)
        dead_before += max(float(waits.unknown_dead[who]), count * over)
        dead_before_us += max(float(dead_us), count * excess_us)
    return Bought(
        waits.counted,
        waits.dead,
        waits.dead_us,
        waits.waited_us,
        dead_before,
        dead_before_us,
        saved_us,
        waits.exact + estimated,
        estimated,
        unrated,
    )
