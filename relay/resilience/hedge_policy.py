"""When a second attempt is worth starting: the delay after the first, from what is known of both.

The rule is that of gRPC A6 and Finagle's backup requests: hedge at the percentile of the primary
that the budget leaves open, so that a budget of B extra requests fires on the slowest B of them.
It aims at 0.8 B and is capped at B: firing at exactly B empties the credit just when it is needed.
While the credit is full it aims at 0.95 B, for what is earned beyond the bucket is lost. The delay
is never below 1.2 medians of the primary, which would be racing by accident.

A client's own time limit for the first token moves the hedge earlier: the second must start early
enough that it usually (p75) makes it, but not before the primary's own p75. Such hedges are told
apart (`by_deadline`), since their share of the budget is limited.

`time_hedge` is a pure function of plain values; nothing here knows of attempts, clocks or money.
"""

from __future__ import annotations

import enum
from typing import Final, NamedTuple, Protocol

AIM: Final = 0.8
"""Of the budget, as a share of requests on which the timer fires."""
_FULLNESS_AIMS: Final = ((0.75, 0.95), (0.5, 0.9))


def aim(fullness: float) -> float:
    """The part of the budget to aim at, with so much of the most credit there may be.

    In steps, since a quantile is worked out for each.
    """
    return next((value for least, value in _FULLNESS_AIMS if fullness >= least), AIM)


MIN_DELAY_MEDIANS: Final = 1.2
DEADLINE_MARGIN_S: Final = 0.030
UNHEARD_OF_DELAY_S: Final = 2.0
"""Default delay while a target has too few samples; the class' configuration may set another."""


class Quantiles(Protocol):
    """What is read of a target's sketch; seconds, normalised."""

    def quantile_s(self, share: float) -> float: ...

    def drift(self) -> float: ...

    @property
    def is_learned(self) -> bool: ...


class HedgeReason(enum.Enum):
    """Why a hedge is timed as it is, or why there is none."""

    LEARNED = "learned"
    """By the primary's percentile."""
    DEFAULT = "default"
    """By the class' default: too few samples."""
    FIXED = "fixed"
    """By the operator's own delay, or the client's."""
    DEADLINE = "deadline"
    """Earlier than learned, for the client's time limit."""
    RACE = "race"
    """At once: the client asked for it."""
    PROBE = "probe"
    """At once: the primary is a probe of a target that was ejected."""
    SUSPECT = "suspect"
    """At once: other workers speak ill of the primary, and this is the first to look."""
    DISABLED = "disabled"
    ALONE = "alone"
    """There is no second target that may be asked."""
    SPECULATIVE = "speculative"
    """The client may yet discard the answer."""
    COMMON_MODE = "common_mode"
    """Unrelated targets are slow at once: it is not the provider."""
    THROTTLED = "throttled"
    """Too many failures lately (A6), or the provider asked for less."""
    TOO_LATE = "too_late"
    """The second could not make the client's time limit any more."""


class TargetView(NamedTuple):
    """One target as the policy sees it for one request."""

    p50_s: float
    """Of TTFT for a prompt like this one, seconds."""
    p75_s: float
    trigger_s: float
    """The percentile that the budget leaves open."""
    is_learned: bool


def view(sketch: Quantiles, scale: float, aimed_share: float) -> TargetView:
    """A target for a request whose prompt stretches its TTFT by `scale`, if the timer is to fire on
    `aimed_share` of requests."""
    return TargetView(
        p50_s=sketch.quantile_s(0.5) * scale,
        p75_s=sketch.quantile_s(0.75) * scale,
        trigger_s=sketch.quantile_s(1.0 - aimed_share) * scale * sketch.drift(),
        is_learned=sketch.is_learned,
    )


def late_after_s(primary: TargetView) -> float:
    """When a first token is later than the target's own learned delay."""
    return max(primary.trigger_s, MIN_DELAY_MEDIANS * primary.p50_s)


class HedgeTiming(NamedTuple):
    """When the second attempt starts unless the first was ready."""

    delay_s: float | None
    """After the first attempt's start; None for no timed hedge."""
    reason: HedgeReason

    @property
    def by_deadline(self) -> bool:
        """Whether the client's time limit made it earlier than what was learned."""
        return self.reason is HedgeReason.DEADLINE


def time_hedge(
    primary: TargetView,
    second: TargetView,
    *,
    fixed_s: float | None = None,
    default_s: float = UNHEARD_OF_DELAY_S,
    first_token_left_s: float | None = None,
) -> HedgeTiming:
    """The delay of the hedge.

    Args:
        fixed_s: the operator's own delay, instead of a learned one.
        default_s: while the primary has too few samples.
        first_token_left_s: what is left of the client's limit for the first token.
    """
    if fixed_s is not None:
        delay_s, reason = fixed_s, HedgeReason.FIXED
    elif primary.is_learned:
        delay_s, reason = late_after_s(primary), HedgeReason.LEARNED
    else:
        delay_s, reason = default_s, HedgeReason.DEFAULT
    if first_token_left_s is None:
        return HedgeTiming(delay_s, reason)
    latest_s = first_token_left_s - second.p75_s - DEADLINE_MARGIN_S
    if latest_s < delay_s:
        earlier_s = max(latest_s, primary.p75_s if primary.is_learned else default_s / 4)
        if earlier_s < delay_s and earlier_s < first_token_left_s:
            return HedgeTiming(earlier_s, HedgeReason.DEADLINE)
    if delay_s >= first_token_left_s:
        return HedgeTiming(None, HedgeReason.TOO_LATE)
    return HedgeTiming(delay_s, reason)
