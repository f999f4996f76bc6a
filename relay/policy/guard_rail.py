"""What stops an arm of an experiment while it runs: it is worse than the control, beyond doubt.

In each respect that has a rail, something bad is waited for, and it is asked in which arm it
happened (`relay.policy.evidence`):

- errors: a unit's first answer that failed;
- first content: a unit's first answer that was slower than the control's running quantile; for the
  arm, than `max_ratio` times it. That threshold is of the past alone, so an arm that is no slower
  than it may be exceeds its own no oftener than the control does;
- cost: the same of what answers cost;
- feedback: units are paired, one of the arm with one of the control, in the order of their
  feedback, and it is asked which of a pair is the unhappy one where one is.

A unit (a user, a session, ...) counts once in each respect, since its requests are all in one arm
and much alike: a thousand failures of one user are one. Requests without a unit are units of their
own. The error probability is divided evenly by the respects of all arms (Bonferroni), so `alpha`
holds for the experiment as a whole.

Pure: no clock. Some microseconds a generation.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple

from relay.config.experiments import GuardRailsConfig
from relay.errors import Reason
from relay.outcome import Ended, fate_of
from relay.policy.evidence import Evidence
from relay.policy.rolling import LastShare, Lately, RollingQuantile

Respect = Literal["error_share", "first_content", "cost", "feedback", "ceiling", "told"]
"""`ceiling`: it failed too often, without a test. `told`: by another worker, or by somebody."""

LEAST_VALUES: Final = 100
"""Of the control, before there is a quantile to compare with."""
_OF_THE_ARM: Final = frozenset(
    {
        Reason.UPSTREAM_REJECTED,
        Reason.UPSTREAM_CONTENT_BLOCKED,
        Reason.UNSUPPORTED_FEATURE,
        Reason.UNKNOWN_MODEL,
    }
)
"""Refusals of a request that another arm may well have taken."""


class Seen(NamedTuple):
    """What one generation says of its arm."""

    is_failed: bool | None
    """None where its client left: nobody knows."""
    first_content_us: int | None
    """At least so long, where the client left before it; None where none came."""
    cost_micro: float | None


class Stop(NamedTuple):
    """Why an arm was stopped."""

    arm: str
    respect: Respect
    in_arm: int
    """Bad things that happened in the arm, and"""
    in_control: int
    """in the control."""
    log_evidence: float
    """Natural logarithm of the likelihood ratio; 0 without a test."""

    def as_dict(self) -> dict[str, Any]:
        """For logs, the audit and `/admin/state`."""
        return {
            "arm": self.arm,
            "respect": self.respect,
            "in_arm": self.in_arm,
            "in_control": self.in_control,
            "log_evidence": round(self.log_evidence, 2),
        }


def seen_of(ended: Ended) -> Seen | None:
    """None where it says nothing of the arm: the caller was refused for his own sake."""
    end = ended.end
    fate = fate_of(end.error)
    is_failed: bool | None = fate == "failed"
    if fate == "cancelled":
        is_failed = None
    elif fate in ("refused", "limited"):
        if end.error is None or end.error.reason not in _OF_THE_ARM:
            return None
        is_failed = True
    first_us: int | None = None
    if "first_content" in end.phases_us:
        first_us = ended.first_content_us
    elif is_failed is None:
        first_us = end.wall_us
    costs = [record.cost for record in end.attempts]
    known = [cost for cost in costs if cost is not None]
    return Seen(is_failed, first_us, sum(known) if len(known) == len(costs) else None)


@dataclass(slots=True)
class _Arm:
    """What is known of one arm."""

    answers: int = 0
    units: Lately = field(default_factory=Lately)
    lone_units: int = 0
    """Requests without a unit."""
    last: LastShare = field(default_factory=LastShare)
    evidence: dict[Respect, Evidence] = field(default_factory=dict)
    unpaired: list[bool] = field(default_factory=list)
    """Feedback that waits for one of the control: whether it is bad."""
    control_unpaired: list[bool] = field(default_factory=list)
    """Of the control, that waits for one of this arm."""

    @property
    def unit_count(self) -> int:
        return len(self.units) + self.lone_units


@dataclass(slots=True)
class State:
    """What rails know, and what outlives a reload of the configuration."""

    first_contents: RollingQuantile = field(default_factory=RollingQuantile)
    """Of the control, microseconds."""
    costs: RollingQuantile = field(default_factory=RollingQuantile)
    """Of the control, micro-dollars."""
    counted: dict[Respect, Lately] = field(default_factory=dict)
    """Units that have been counted."""
    arms: dict[str, _Arm] = field(default_factory=dict)


_MOST_UNPAIRED: Final = 1000


class Rails:
    """Of one experiment.

    Args:
        weights: by arm.
        control: the arm that others are compared with; it is never stopped.
    """

    def __init__(
        self, config: GuardRailsConfig, weights: Mapping[str, float], control: str
    ) -> None:
        self._config = config
        self._weights = dict(weights)
        self._control = control
        self._redirected: set[str] = set()
        self.state = State(arms={arm: _Arm() for arm in weights})
        respects = [
            name
            for name in ("error_share", "first_content", "cost", "feedback")
            if getattr(config, name) is not None
        ]
        judged = sum(arm != control and weight > 0 for arm, weight in weights.items())
        self._alpha = config.alpha / max(1, judged * len(respects))

    # --- what is heard ------------------------------------------------------------------------

    def heard(self, arm: str, unit: str, seen: Seen) -> Stop | None:
        """A generation of an arm has ended; what it stops, if it was the last straw.

        Args:
            unit: "" for a request that has none.
        """
        mine = self.state.arms.get(arm)
        if mine is None or arm in self._redirected:
            return None
        mine.answers += 1
        if unit:
            mine.units.is_new(unit)
        else:
            mine.lone_units += 1
        found = self._failures(arm, mine, unit, seen)
        found = found or self._slowness(arm, unit, seen.first_content_us)
        return found or self._dearness(arm, unit, seen.cost_micro)

    def _failures(self, arm: str, mine: _Arm, unit: str, seen: Seen) -> Stop | None:
        rail = self._config.error_share
        if seen.is_failed is None:
            return None
        mine.last.add(seen.is_failed)
        if rail is None or not seen.is_failed:
            return None
        if rail.ceiling is not None and arm != self._control and mine.last.is_full:
            usual = self.state.arms[self._control].last
            if mine.last.share > rail.ceiling and usual.share < mine.last.share / 2:
                return self._stopped(Stop(arm, "ceiling", mine.last.bad, usual.bad, 0.0))
        return self._happened("error_share", arm, unit, rail.max_ratio)

    def _slowness(self, arm: str, unit: str, value: int | None) -> Stop | None:
        rail = self._config.first_content
        if rail is None or value is None:
            return None
        return self._beyond(
            "first_content",
            self.state.first_contents,
            rail.quantile,
            rail.max_ratio,
            arm,
            unit,
            value,
        )

    def _dearness(self, arm: str, unit: str, value: float | None) -> Stop | None:
        rail = self._config.cost
        if rail is None or value is None:
            return None
        return self._beyond(
            "cost", self.state.costs, rail.quantile, rail.max_ratio, arm, unit, value
        )

    def _beyond(
        self,
        respect: Respect,
        usual: RollingQuantile,
        quantile: float,
        max_ratio: float,
        arm: str,
        unit: str,
        value: float,
    ) -> Stop | None:
        """A value, of which more is worse. The control's counts against its quantile before it."""
        is_control = arm == self._control
        bound = usual.quantile(quantile) if len(usual) >= LEAST_VALUES else None
        if is_control:
            usual.add(value)
        if bound is None or value <= (bound if is_control else bound * max_ratio):
            return None
        return self._happened(respect, arm, unit, 1.0)

    def felt(self, arm: str, unit: str, score: float) -> Stop | None:
        """A user's word on an answer."""
        rail = self._config.feedback
        if rail is None or arm not in self.state.arms or arm in self._redirected:
            return None
        if not self._is_first("feedback", unit):
            return None
        is_bad = score < rail.bad_below
        others = self._others() if arm == self._control else [arm]
        for name in others:
            other = self.state.arms[name]
            own, theirs = other.unpaired, other.control_unpaired
            if arm == self._control:
                own, theirs = theirs, own
            if not theirs:
                if len(own) < _MOST_UNPAIRED:
                    own.append(is_bad)
                continue
            if theirs.pop(0) is is_bad:
                continue
            is_in_arm = is_bad is (arm != self._control)
            self._weigh("feedback", name, is_in_arm=is_in_arm, odds=rail.max_ratio)
        return self._judged("feedback", others)

    # --- what it comes to ---------------------------------------------------------------------

    def _is_first(self, respect: Respect, unit: str) -> bool:
        return self.state.counted.setdefault(respect, Lately()).is_new(unit)

    def _happened(self, respect: Respect, arm: str, unit: str, max_ratio: float) -> Stop | None:
        """Something bad, in the order of time."""
        if not self._is_first(respect, unit):
            return None
        is_control = arm == self._control
        of_control = self._weights[self._control] + sum(
            self._weights[name] for name in self._redirected
        )
        others = self._others() if is_control else [arm]
        for name in others:
            if of_control and self._weights[name]:
                odds = max_ratio * self._weights[name] / of_control
                self._weigh(respect, name, is_in_arm=not is_control, odds=odds)
        return self._judged(respect, others)

    def _weigh(self, respect: Respect, arm: str, *, is_in_arm: bool, odds: float) -> None:
        evidence = self.state.arms[arm].evidence.setdefault(respect, Evidence())
        evidence.heard(is_in_arm=is_in_arm, odds=odds)

    def _judged(self, respect: Respect, arms: Iterable[str]) -> Stop | None:
        """The first of these that has too much against it; another is found with the next event."""
        least = self._config.min_units
        if self.state.arms[self._control].unit_count < least:
            return None
        for name in arms:
            evidence = self.state.arms[name].evidence.get(respect)
            if evidence is None or self.state.arms[name].unit_count < least:
                continue
            if evidence.is_enough(self._alpha):
                return self._stopped(
                    Stop(name, respect, evidence.in_arm, evidence.in_control, evidence.log_value)
                )
        return None

    def _stopped(self, stop: Stop) -> Stop:
        self.redirect(stop.arm)
        return stop

    def _others(self) -> list[str]:
        return [
            arm for arm in self.state.arms if arm != self._control and arm not in self._redirected
        ]

    # --- what others decide -------------------------------------------------------------------

    def redirect(self, arm: str) -> None:
        """The arm's traffic is the control's from now on."""
        if arm != self._control and arm in self.state.arms:
            self._redirected.add(arm)

    def forget(self, arm: str) -> None:
        """It runs again, and what was found against it is forgotten."""
        self._redirected.discard(arm)
        if arm in self.state.arms:
            self.state.arms[arm] = _Arm()

    def take_over(self, old: Rails, arms: Iterable[str]) -> None:
        """What was known of these arms, the control among them, goes on."""
        known = old.state
        self.state = State(known.first_contents, known.costs, known.counted, self.state.arms)
        for arm in arms:
            if arm in known.arms and arm in self.state.arms:
                self.state.arms[arm] = known.arms[arm]

    def describe(self) -> dict[str, Any]:
        """For `/admin/state`."""
        return {
            arm: {
                "answers": one.answers,
                "units": one.unit_count,
                "last_failed": one.last.bad,
                "log_evidence": {
                    respect: round(evidence.log_value, 2)
                    for respect, evidence in one.evidence.items()
                },
            }
            for arm, one in self.state.arms.items()
        }
