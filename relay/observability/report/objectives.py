"""What was promised, and whether a generation kept it.

An objective says that so many percent of the generations get their first content in time. The rest
is the error budget. A generation counts as

- good, if its first content came in time, however its answer ended;
- bad, if it came later, or not at all;
- nothing, if its end says something of the request (`rows.CALLERS`), if the client went in time
  (what would have come nobody knows; later it is bad), if its worker died, or if it has no first
  content by its nature (embeddings, what is handed through).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from relay.observability.report.minutes import MinuteCounts, Sums
from relay.observability.report.rows import ABANDONED, CALLERS, CUT, Generation


class Objective(NamedTuple):
    """One promise."""

    name: str
    percent: float
    """Of generations; above 0, below 100."""
    within_ms: float
    aliases: tuple[str, ...] = ()
    """That it is about; none: all."""

    @property
    def budget_share(self) -> float:
        """That may miss it."""
        return 1.0 - self.percent / 100.0

    def verdict(self, one: Generation) -> bool | None:
        """Whether it was kept; None where it does not count."""
        if self.aliases and one.alias not in self.aliases:
            return None
        within_us = self.within_ms * 1000.0
        if one.ttft_us is not None:
            return one.ttft_us <= within_us
        if not one.reason or one.reason in CALLERS or one.reason == ABANDONED:
            return None
        if one.reason in CUT:
            return False if one.wall_us > within_us else None
        return False


class Window(NamedTuple):
    """A pair of windows that are looked at together: the long one says that it matters, the short
    one that it still goes on (Google, The Site Reliability Workbook, chapter 5)."""

    long_min: int
    short_min: int
    burn: float
    """Times faster than the budget allows for, from which on somebody is told."""
    told: str
    """`page` or `ticket`."""


WINDOWS: Final = (
    Window(60, 5, 14.4, "page"),
    Window(360, 30, 6.0, "page"),
    Window(4320, 360, 1.0, "ticket"),
)
LEAST: Final = 50
"""Generations in a long window without which its rate is not judged: one of two is no half."""


class Burn(NamedTuple):
    """What one pair of windows saw."""

    window: Window
    judged_min: int
    """Minutes whose long window lies in the range and has generations enough."""
    held_min: int
    """Of them, those in which both rates were over."""
    episodes: int
    """Stretches of such minutes."""
    worst: float | None
    """The highest rate of the long window; None where no minute was judged."""
    worst_at_us: int | None
    last: float | None
    """The rate at the end of the range."""


def burns(
    objective: Objective, counts: MinuteCounts, since_us: int, until_us: int
) -> Iterator[Burn]:
    """Over the minutes of a range; the last one is `until_us`'s."""
    first, last = since_us // 60_000_000, max(since_us, until_us - 1) // 60_000_000
    for window in WINDOWS:
        yield _burn(window, objective.budget_share, counts, first, last)


def _burn(window: Window, budget: float, counts: MinuteCounts, first: int, last: int) -> Burn:
    long, short = Sums(counts, window.long_min), Sums(counts, window.short_min)
    judged = held = episodes = 0
    worst = rate = None
    worst_at = None
    was_held = False
    for minute in range(first, last + 1):
        long.to(minute)
        short.to(minute)
        rate = None
        is_held = False
        if minute - first + 1 >= window.long_min and long.good + long.bad >= LEAST:
            judged += 1
            rate = long.bad / (long.good + long.bad) / budget
            if worst is None or rate > worst:
                worst, worst_at = rate, minute
            total = short.good + short.bad
            is_held = (
                rate >= window.burn and total > 0 and short.bad / total / budget >= window.burn
            )
        held += is_held
        episodes += is_held and not was_held
        was_held = is_held
    at_us = None if worst_at is None else worst_at * 60_000_000
    return Burn(window, judged, held, episodes, worst, at_us, rate)
