"""What each provider did with what it was asked.

Availability is of attempts that are the provider's to answer: those that it answered whole over
those and the ones that it failed or refused. Left out are attempts that we gave up (a lost race, a
client that went), that were refused here, and that its answer says are the request's own fault.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from relay.observability.report.rows import BROKEN, CALLERS, CUT, REJECTED, Tried
from relay.observability.report.sketch import Sketch

_Z: Final = 1.96
"""Of an interval that holds 95 of 100."""


@dataclass(slots=True)
class Score:
    """Of one target, or of all of a provider."""

    attempts: int = 0
    answered: int = 0
    """Whole answers."""
    failed: int = 0
    """Of its failures; those below are among them, but for `rate_limited` (refusals of their own).
    """
    truncated: int = 0
    """Answers that had begun and have no end."""
    refused: int = 0
    """Too busy: overloads, rate limits among them."""
    rate_limited: int = 0
    """429 of them."""
    rejected: int = 0
    """The request's own fault."""
    left: int = 0
    """Given up by us, or by the client."""
    unclear: int = 0
    """Its worker died."""
    wins: int = 0
    """Answers that went to clients."""
    hedges: int = 0
    """Attempts here beside another."""
    hedges_won: int = 0
    hedges_lost: int = 0
    outrun: int = 0
    """Attempts here that a hedge elsewhere answered for."""
    cost_micro: int = 0
    upper_micro: int = 0
    estimated_micro: int = 0
    unpriced: int = 0
    """Attempts of which nobody knows what they cost."""
    ttft: Sketch = field(default_factory=Sketch)
    """Of its attempts, from their starts."""

    def merge(self, other: Score) -> None:
        """Count in another's."""
        for name in _COUNTS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.ttft.merge(other.ttft)

    def add(self, one: Tried, *, is_hedge_won: bool, times: int = 1) -> None:
        """Count an attempt, or several that are alike.

        Args:
            is_hedge_won: the generation was answered by a hedge.
        """
        self.attempts += times
        self._outcome(one, times)
        if one.first_us is not None:
            self.ttft.add(one.first_us, times)
        elif one.outcome == "ignored":
            self.ttft.add_censored(max(0, one.ended_us - one.started_us), times)
        if one.role == "hedge":
            self.hedges += times
            if one.is_winner:
                self.hedges_won += times
            else:
                self.hedges_lost += times
        elif is_hedge_won and not one.is_winner:
            self.outrun += times
        if one.is_winner:
            self.wins += times
        if one.cost_micro is None:
            self.unpriced += times
        else:
            upper_micro = one.cost_micro if one.upper_micro is None else one.upper_micro
            self.cost_micro += times * one.cost_micro
            self.upper_micro += times * upper_micro
            if one.is_estimated:
                self.estimated_micro += times * one.cost_micro

    def _outcome(self, one: Tried, times: int) -> None:
        if one.outcome == "success":
            self.answered += times
        elif one.reason in REJECTED or one.reason in CALLERS:
            self.rejected += times
        elif one.outcome == "overload":
            self.refused += times
            if one.http_status == 429 or one.reason == "UPSTREAM_RATE_LIMITED":
                self.rate_limited += times
        elif one.outcome == "failure" and one.reason not in CUT:
            self.failed += times
            if one.first_us is not None and one.reason in BROKEN:
                self.truncated += times
        elif one.outcome == "abandoned":
            self.unclear += times
        else:
            self.left += times

    @property
    def availability(self) -> Share:
        """Answered of what was its to answer."""
        return share(self.answered, self.answered + self.failed + self.refused)

    @property
    def cost_per_1k_micro(self) -> float | None:
        """Of a thousand answers that went to clients, what was lost on the way among it; None
        without any. With `unpriced` attempts it is at least that."""
        if not self.wins or self.unpriced == self.attempts:
            return None
        return 1000.0 * self.cost_micro / self.wins


_COUNTS: Final = tuple(name for name in Score.__slots__ if name != "ttft")


class Share(NamedTuple):
    """A part of a number, and between which bounds the true one lies, 95 times of 100."""

    part: int
    of: int
    value: float | None
    """None of nothing."""
    low: float | None
    high: float | None


def share(part: int, of: int) -> Share:
    """Bounds by Wilson's score (JASA 1927), which are right for few and near 100 % too."""
    if of == 0:
        return Share(part, of, None, None, None)
    value = part / of
    middle = value + _Z * _Z / (2 * of)
    spread = _Z * math.sqrt(value * (1 - value) / of + _Z * _Z / (4 * of * of))
    scale = 1 + _Z * _Z / of
    low, high = (middle - spread) / scale, (middle + spread) / scale
    return Share(part, of, value, max(0.0, min(low, value)), min(1.0, max(high, value)))
