"""Which target is asked first and which second, from plain values.

`rank` orders the candidates of one request. Certain refusals go last, the one that opens soonest
first; a target that is being brought back gets only its share of first places; among the rest the
mode decides:

    ordered    the operator's order, or sorted by price (`cheapest`) or by median (`fastest`)
    balanced   the lowest present level, with a tenth of hysteresis for whoever was first the last
               time; one whose concurrency limit is more than half used counts as slower
    tail       the pair, and its delay, with the lowest estimated p99 together (`best_pair`), if it
               was worked out; else balanced. One request in five begins at a candidate that is not
               known yet, till it is: by hedges alone that takes thousands of requests

A session that has a warm prompt cache at a target stays there while it is healthy: what moves
it is trouble, not a better neighbour.

`pick_second` is the other half: by the lowest estimated p99 of the pair, then the same model, then
by price.

No clocks, no state: the caller gives what is known, and a random draw where one is needed.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

HYSTERESIS: Final = 0.9
"""Another must be better by a tenth to take the first place."""
HOT: Final = 0.5
"""Of a concurrency limit, in flight: below it, load says nothing about a provider (Prequal's cold),
and a penalty for it would only spread requests over slower ones."""
HOT_COST: Final = 4.0
"""A target at its limit counts as three times as slow."""
P50_SLACK: Final = 1.25
"""In tail mode the first's median may be at most so much over the best median."""
WIDE_SLACK: Final = 1.62
WIDE_GAIN: Final = 0.6
"""And up to the wide slack, if that leaves so much of the p99 or less: half more, and the 4 % by
which each of two medians may be misread from the sketch's buckets."""
EXPLORE: Final = 0.2
"""Of first places in tail mode for a candidate that is not known yet. To know it costs the same
samples however they are spread; a larger part has them sooner."""


class Mode(enum.Enum):
    """How the first is chosen among the healthy."""

    ORDERED = "ordered"
    BALANCED = "balanced"
    TAIL = "tail"


class Sort(enum.Enum):
    """The order of `ordered`."""

    CONFIGURED = "configured"
    CHEAPEST = "cheapest"
    FASTEST = "fastest"


class TargetStats(NamedTuple):
    """What is known of one candidate when a request is planned."""

    wait_s: float = 0.0
    """How long it is certain to refuse (rate limits, an open breaker); 0 if it may be asked."""
    share: float = 1.0
    """Of first places it may have: 1 healthy, less while it is brought back, 0 ejected."""
    p50_s: float = 0.6
    """For this request's prompt."""
    level_s: float = 0.6
    """Its TTFT at present, for this request's prompt."""
    utilisation: float = 0.0
    """Requests in flight as a part of its concurrency limit."""
    price: float | None = None
    """Estimated cost of the request there, in any one unit; None if unknown."""
    is_warm: bool = False
    """The session has a prompt cache there."""
    is_known: bool = True
    """Its latency has been learnt."""


class Ranking(NamedTuple):
    """The order of candidates, by index."""

    order: tuple[int, ...]
    is_last_resort: bool
    """Nobody may be asked by rights; the first is asked all the same."""
    is_explored: bool = False
    """The first is first to be learnt of."""


def rank(
    stats: Sequence[TargetStats],
    *,
    mode: Mode = Mode.ORDERED,
    sort: Sort = Sort.CONFIGURED,
    last_first: int | None = None,
    tail_first: int | None = None,
    draw: Callable[[], float] = lambda: 0.0,
) -> Ranking:
    """The candidates in the order in which they are asked.

    Args:
        stats: one row a candidate, in the operator's order.
        last_first: who was first the last time (hysteresis of `balanced`).
        tail_first: the first of the best pair (`tail`).
        draw: a number in [0, 1): whether a target that is brought back, or that is not known,
            gets this first place.
    """
    indices = range(len(stats))
    if len(stats) == 1:
        only = stats[0]
        return Ranking((0,), only.wait_s > 0 or only.share <= 0)

    able: list[int] = []
    ramping: list[int] = []
    refusing: list[int] = []
    for index in indices:
        row = stats[index]
        if row.wait_s > 0 or row.share <= 0:
            refusing.append(index)
        elif row.share >= 1 or draw() < row.share:
            able.append(index)
        else:
            ramping.append(index)
    if len(refusing) > 1:
        refusing.sort(key=lambda index: stats[index].wait_s)
    if mode is not Mode.ORDERED or sort is not Sort.CONFIGURED:
        able.sort(key=_key(stats, mode, sort, last_first))
    explored = None
    if mode is Mode.TAIL:
        unknown = next((index for index in able if not stats[index].is_known), None)
        if unknown is not None and draw() < EXPLORE:
            tail_first = explored = unknown
        if tail_first in able:
            able.remove(tail_first)
            able.insert(0, tail_first)
    for index in able:
        if stats[index].is_warm:
            able.remove(index)
            able.insert(0, index)
            break
    order = (*able, *ramping, *refusing)
    return Ranking(order, not able and not ramping, explored is not None and order[0] == explored)


def _key(
    stats: Sequence[TargetStats], mode: Mode, sort: Sort, last_first: int | None
) -> Callable[[int], float]:
    if mode is Mode.ORDERED:
        if sort is Sort.CHEAPEST:
            # An unknown price is no bargain.
            return lambda index: math.inf if (cost := stats[index].price) is None else cost
        return lambda index: stats[index].p50_s

    def load(index: int) -> float:
        row = stats[index]
        cost = row.level_s * (1 + HOT_COST * max(0.0, row.utilisation - HOT))
        return cost * HYSTERESIS if index == last_first else cost

    return load


# --- the pair with the lowest tail --------------------------------------------------------------


class Survival(NamedTuple):
    """One target's tail as a step function: `share[i]` of first tokens take longer than `at_s[i]`.

    Ascending in time, descending in share; between points the share of the earlier one holds.
    """

    at_s: tuple[float, ...]
    share: tuple[float, ...]

    def after(self, moment_s: float) -> float:
        """Share that takes longer than `moment_s`; 1 before the first point."""
        low, high = 0, len(self.at_s)
        while low < high:
            middle = (low + high) // 2
            if self.at_s[middle] <= moment_s:
                low = middle + 1
            else:
                high = middle
        return 1.0 if low == 0 else self.share[low - 1]

    def quantile_s(self, share: float) -> float:
        """The first moment after which at most `1 - share` is left; the last point at worst."""
        left = 1.0 - share
        for moment_s, remaining in zip(self.at_s, self.share, strict=True):
            if remaining <= left:
                return moment_s
        return self.at_s[-1] if self.at_s else math.inf


def hedged_quantile_s(
    primary: Survival, second: Survival, delay_s: float, share: float = 0.99
) -> float:
    """The quantile of a hedged pair, independent draws: P(X > t) * P(Y > t - delay) = 1 - share."""
    left = 1.0 - share
    moments = sorted({*primary.at_s, *(moment_s + delay_s for moment_s in second.at_s)})
    low, high = 0, len(moments)
    while low < high:
        middle = (low + high) // 2
        t = moments[middle]
        both = primary.after(t) * (second.after(t - delay_s) if t >= delay_s else 1.0)
        if both <= left:
            high = middle
        else:
            low = middle + 1
    return moments[low] if low < len(moments) else math.inf


class Pair(NamedTuple):
    """Who is first, who second, after which delay, and what p99 that should give."""

    first: int
    second: int | None
    delay_s: float | None
    p99_s: float


def best_pair(
    survivals: Sequence[Survival], *, trigger_share: float, kept: int | None = None
) -> Pair:
    """The pair with the lowest estimated p99 at this budget.

    Firsts whose median is over the best by more than `P50_SLACK` are left out; up to `WIDE_SLACK`
    one is taken whose p99 is `WIDE_GAIN` of what the others can give, or less. So a provider that
    is slower and never slow is found, and nobody pays with every turn for a little less tail.

    Args:
        survivals: one a candidate, at least one.
        trigger_share: the percentile at which the hedge fires, such as 0.96.
        kept: who is first at present. Another must be better by a tenth, as figures are now: the
            estimate of a p99 is noisy, and caches are warm there.

    Raises:
        ValueError: no candidates.
    """
    medians = [survival.quantile_s(0.5) for survival in survivals]
    if not medians:
        raise ValueError("no candidates")
    fastest_s = min(medians)
    pairs = [
        _best_with(first, survivals, median_s, trigger_share)
        for first, median_s in enumerate(medians)
        if median_s <= WIDE_SLACK * fastest_s
    ]
    near = [pair for pair in pairs if medians[pair.first] <= P50_SLACK * fastest_s]
    best, any_best = (min(some, key=lambda pair: pair.p99_s) for some in (near, pairs))
    if any_best.p99_s <= WIDE_GAIN * best.p99_s:
        best = any_best
    present = next((pair for pair in pairs if pair.first == kept), None)
    if present is not None and best.p99_s >= HYSTERESIS * present.p99_s:
        return present
    return best


def _best_with(
    first: int, survivals: Sequence[Survival], median_s: float, trigger_share: float
) -> Pair:
    """The best that this first can be part of: alone, or with one of the others."""
    primary = survivals[first]
    best = Pair(first, None, None, primary.quantile_s(0.99))
    delay_s = max(primary.quantile_s(trigger_share), 1.2 * median_s)
    for second, other in enumerate(survivals):
        if second != first:
            p99_s = hedged_quantile_s(primary, other, delay_s)
            if p99_s < best.p99_s:
                best = Pair(first, second, delay_s, p99_s)
    return best


def pick_second(
    rated: Sequence[tuple[float, float]],
    *,
    is_same_model: Sequence[bool] = (),
    tolerance: float = 0.05,
) -> int | None:
    """Who should be asked second, by its place: the lowest estimated p99 of the pair; among those
    within `tolerance` of it whoever has the first's model (another region, another door to it),
    then the cheapest, then the first listed.

    Args:
        rated: `(p99 of the pair, price)` of those that may be asked.
        is_same_model: of each of them; empty: of none.
    """
    if not rated:
        return None
    bound_s = min(p99_s for p99_s, _ in rated) * (1 + tolerance)
    close = [
        (not (is_same_model and is_same_model[at]), price, p99_s, at)
        for at, (p99_s, price) in enumerate(rated)
        if p99_s <= bound_s
    ]
    return min(close)[3]
