"""Experiments: requests for one name, divided between arms, and arms that were stopped.

`Experiments.assign` is pure but for counters: in memory, some microseconds, no clock of its own.
What guard rails have found (`relay.policy.guard_rail`) is taken over from the experiments of the
configuration before, as long as an experiment's `edition` and the arm stay what they were.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from relay.config.experiments import ExperimentConfig
from relay.content import GenerateRequest
from relay.decision import Decision
from relay.outcome import Ended
from relay.policy.assignment import Division
from relay.policy.guard_rail import Rails, Stop, seen_of

OnStopped = Callable[[str, Stop], object]
"""Told that an arm of an experiment was stopped; never waits, never raises."""

_PLACES = 1 << 64


class Assigned(NamedTuple):
    """What a request becomes."""

    use: str
    """The arm's, or the control's where the arm was stopped."""
    experiment: str
    arm: str
    """That it gets, and is counted with."""
    unit: str
    """A name for the unit in this experiment, that tells nothing of who it is; "" where the
    request did not say whose it is."""

    def of(self, request: GenerateRequest) -> GenerateRequest:
        """The request under the arm's name; what the client asked for is what permissions and
        limits go by."""
        if request.model == self.use:
            return request
        return replace(request, model=self.use, asked_as=request.asked_as or request.model)

    def tell(self, decision: Decision) -> None:
        """Write it down."""
        decision.experiment = self.experiment
        decision.arm = self.arm
        decision.unit = self.unit


@dataclass(slots=True)
class Counts:
    """Of one experiment, since the worker began."""

    assigned: int = 0
    outside: int = 0
    """Not of the share that takes part."""
    without_unit: int = 0
    """Divided by itself: the request had no value of what the experiment is sticky to."""
    redirected: int = 0
    """Sent to the control, since their arm was stopped."""


@dataclass(slots=True)
class Running:
    """One experiment."""

    name: str
    config: ExperimentConfig
    division: Division
    uses: dict[str, str]
    control: str
    starts_s: float
    ends_s: float
    rails: Rails | None
    stopped: dict[str, Stop] = field(default_factory=dict)
    counts: Counts = field(default_factory=Counts)


class Experiments:
    """Of one worker and one configuration.

    Args:
        config: by name.
        before: those that these take the place of.
        on_stopped: told of each arm that a guard rail has stopped.
    """

    def __init__(
        self,
        config: Mapping[str, ExperimentConfig],
        before: Experiments | None = None,
        on_stopped: OnStopped | None = None,
    ) -> None:
        self._on_stopped = on_stopped
        self.running = {name: _running(name, row) for name, row in config.items()}
        """By name; for the experiments that take the place of these."""
        self._by_model: dict[str, list[Running]] = {}
        for one in self.running.values():
            if one.config.enabled:
                self._by_model.setdefault(one.config.model, []).append(one)
        if before is not None:
            for name, one in self.running.items():
                if (old := before.running.get(name)) is not None:
                    _take_over(one, old)

    def __bool__(self) -> bool:
        """Whether there is any to ask."""
        return bool(self._by_model)

    def assign(
        self, name: str, request: GenerateRequest, now_s: float, draw: Callable[[], float]
    ) -> Assigned | None:
        """
        Args:
            name: that is asked for.
            now_s: wall clock, seconds since 1970.
            draw: a random number of [0, 1), for requests that do not say whose they are.

        Returns:
            None where no experiment has it.
        """
        for one in self._by_model.get(name, ()):
            if one.starts_s <= now_s < one.ends_s:
                return _assigned(one, request, draw)
        return None

    def peek(self, name: str, request: GenerateRequest, now_s: float) -> Assigned | None:
        """As `assign` will say of requests of the same unit, without counting: for what is asked
        about a request before it is made. None also where the request does not say whose it is."""
        for one in self._by_model.get(name, ()):
            if one.starts_s <= now_s < one.ends_s:
                unit = unit_of(request, one)
                place = one.division.place_of(unit)
                if not unit or not one.division.takes_part(place):
                    return None
                return _in_arm(one, unit, place)[0]
        return None

    # --- guard rails --------------------------------------------------------------------------

    def heard(self, ended: Ended) -> None:
        """A generation has ended; a `Listener`. Stops its arm where that was the last straw."""
        decision = ended.end.decision
        if decision is None or not decision.experiment or ended.frontend == "shadow":
            return
        one = self.running.get(decision.experiment)
        if one is None or one.rails is None or decision.arm not in one.uses:
            return
        seen = seen_of(ended)
        if seen is not None:
            self._judged(one, one.rails.heard(decision.arm, decision.unit, seen))

    def felt(self, experiment: str, arm: str, unit: str, score: float) -> None:
        """A user has said what he thinks of an answer.

        Args:
            unit: as `Assigned.unit`, or the generation's id where that is empty.
        """
        one = self.running.get(experiment)
        if one is not None and one.rails is not None and arm in one.uses:
            self._judged(one, one.rails.felt(arm, unit, score))

    def _judged(self, one: Running, stop: Stop | None) -> None:
        if stop is not None and stop.arm not in one.stopped:
            one.stopped[stop.arm] = stop
            if self._on_stopped is not None:
                self._on_stopped(one.name, stop)

    def stop(self, experiment: str, stop: Stop) -> bool:
        """Stop an arm, for what another worker or an administrator has found; False where there is
        no such arm, where it is the control, or where it is stopped already. Nobody is told."""
        one = self.running.get(experiment)
        if one is None or stop.arm not in one.uses or stop.arm == one.control:
            return False
        if stop.arm in one.stopped:
            return False
        one.stopped[stop.arm] = stop
        if one.rails is not None:
            one.rails.redirect(stop.arm)
        return True

    def resume(self, experiment: str, arm: str) -> bool:
        """Let an arm run again, judged anew; False where it is not stopped."""
        one = self.running.get(experiment)
        if one is None or one.stopped.pop(arm, None) is None:
            return False
        if one.rails is not None:
            one.rails.forget(arm)
        return True

    def stops(self) -> list[tuple[str, Stop]]:
        """Of all arms that are stopped, with the experiment's name."""
        return [(one.name, stop) for one in self.running.values() for stop in one.stopped.values()]

    def facts(self, experiment: str, arm: str) -> tuple[int, str] | None:
        """What a stop of an arm holds for: the edition, and what the arm uses. None where there is
        no such arm."""
        one = self.running.get(experiment)
        return None if one is None or arm not in one.uses else (one.config.edition, one.uses[arm])

    def describe(self) -> dict[str, Any]:
        """For `/admin/state`."""
        return {
            name: {
                "enabled": one.config.enabled,
                "model": one.config.model,
                "control": one.control,
                "edition": one.config.edition,
                "assigned": one.counts.assigned,
                "outside": one.counts.outside,
                "without_unit": one.counts.without_unit,
                "redirected": one.counts.redirected,
                "stopped": {arm: stop.as_dict() for arm, stop in one.stopped.items()},
                "rails": None if one.rails is None else one.rails.describe(),
            }
            for name, one in self.running.items()
        }


def _running(name: str, row: ExperimentConfig) -> Running:
    control = row.control_arm
    return Running(
        name,
        row,
        Division(name, [(arm.name, arm.weight) for arm in row.arms], row.share),
        {arm.name: arm.use for arm in row.arms},
        control,
        row.starts_at.timestamp() if row.starts_at else float("-inf"),
        row.ends_at.timestamp() if row.ends_at else float("inf"),
        None if row.guard_rails is None else Rails(row.guard_rails, _weights(row), control),
    )


def _weights(row: ExperimentConfig) -> dict[str, float]:
    return {arm.name: arm.weight for arm in row.arms}


def _take_over(one: Running, old: Running) -> None:
    """What is known of arms that are still the same."""
    one.counts = old.counts
    if one.config.edition != old.config.edition:
        return
    same = {arm for arm, use in one.uses.items() if old.uses.get(arm) == use}
    one.stopped = {
        arm: stop for arm, stop in old.stopped.items() if arm in same and arm != one.control
    }
    if one.rails is None:
        return
    is_comparable = one.control == old.control and one.control in same
    if old.rails is not None and is_comparable and one.config.guard_rails == old.config.guard_rails:
        one.rails.take_over(old.rails, same)
    for arm in one.stopped:
        one.rails.redirect(arm)


def _assigned(one: Running, request: GenerateRequest, draw: Callable[[], float]) -> Assigned | None:
    unit = unit_of(request, one)
    division = one.division
    place = division.place_of(unit) if unit else int(draw() * _PLACES)
    if not division.takes_part(place):
        one.counts.outside += 1
        return None
    one.counts.assigned += 1
    if not unit:
        one.counts.without_unit += one.config.sticky != "none"
    found, is_redirected = _in_arm(one, unit, place)
    one.counts.redirected += is_redirected
    return found


def _in_arm(one: Running, unit: str, place: int) -> tuple[Assigned, bool]:
    """And whether it would have been in another, which was stopped."""
    arm = one.division.arm_of(place)
    is_redirected = arm in one.stopped
    if is_redirected:
        arm = one.control
    found = Assigned(one.uses[arm], one.name, arm, f"{place >> 24:010x}" if unit else "")
    return found, is_redirected


def unit_of(request: GenerateRequest, one: Running) -> str:
    """What the experiment is sticky to, as the request says it; "" where it does not."""
    sticky = one.config.sticky
    policy = request.policy
    if sticky == "key":
        return policy.key_id
    if sticky == "tenant":
        return policy.tenant
    name = policy.session_id if sticky == "session" else request.user if sticky == "user" else ""
    if not name:
        return ""
    # It is a name of the team's own: two of them may both have a user `42`. Without keys tenants
    # are called otherwise after each restart, which must move nobody.
    return f"{policy.tenant}\x00{name}" if policy.key_id else f"\x00{name}"
