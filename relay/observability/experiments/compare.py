"""What the arms of one experiment did, side by side."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Final, Literal, NamedTuple

from relay.observability.experiments.estimates import (
    Difference,
    Estimate,
    Sums,
    Weighed,
    difference,
    holm,
    mean,
    mismatch,
    quantile,
    rank_test,
    share,
)
from relay.observability.experiments.rows import Observed

Kind = Literal["share", "mean", "quantile"]
QUANTILES: Final = (0.5, 0.95)
SRM_P: Final = 0.001
"""Below, units are not divided as they should be, and no other number is to be believed."""


class Metric(NamedTuple):
    """One line of the comparison."""

    name: str
    label: str
    unit: str
    kind: Kind
    is_less_better: bool
    at: float = 0.0
    """Of a quantile."""


METRICS: Final = (
    Metric("failed", "answers that failed", "%", "share", True),
    Metric("ttft_p50", "first content, median", "ms", "quantile", True, 0.5),
    Metric("ttft_p95", "first content, 95th percentile", "ms", "quantile", True, 0.95),
    Metric("total_p50", "whole answer, median", "ms", "quantile", True, 0.5),
    Metric("total_p95", "whole answer, 95th percentile", "ms", "quantile", True, 0.95),
    Metric("cost", "cost of an answer, mean", "micro-dollars", "mean", True),
    Metric("left", "answers that the client left", "%", "share", True),
    Metric("score", "score of feedback, mean", "", "mean", False),
)
TESTED: Final = ("failed", "ttft_p50", "cost", "left", "score")
"""With a test of the difference; of the first content it is one of ranks, over units' medians."""


@dataclass(slots=True)
class Arm:
    """What one arm did."""

    name: str
    is_control: bool
    answers: float = 0.0
    """Those that stand for several as many."""
    units: int = 0
    refused: float = 0.0
    """For what callers did: in no other number."""
    rated: float = 0.0
    unpriced: float = 0.0
    finishes: dict[str, float] = field(default_factory=dict)
    reasons: dict[str, float] = field(default_factory=dict)
    """Of failures."""
    estimates: dict[str, Estimate | None] = field(default_factory=dict)
    differences: dict[str, Difference | None] = field(default_factory=dict)
    """From the control."""
    adjusted_p: dict[str, float | None] = field(default_factory=dict)
    """For there being several comparisons (Holm)."""


@dataclass(slots=True)
class Comparison:
    """Of one experiment."""

    name: str
    confidence: float
    arms: list[Arm]
    """The control first."""
    first_us: int | None
    last_us: int | None
    crossed: int
    """Units that were in more than one arm."""
    lone: float
    """Answers whose request did not say whose it is."""
    weights: Mapping[str, float]
    """As the configuration has them; empty where it was not given."""
    mismatch_p: float | None
    comparisons: int
    """Tests that were corrected for each other."""

    @property
    def is_mismatched(self) -> bool:
        """Units are not divided as the weights say."""
        return self.mismatch_p is not None and self.mismatch_p < SRM_P


def compare(
    name: str,
    observed: Iterable[Observed],
    *,
    control: str = "",
    weights: Mapping[str, float] | None = None,
    confidence: float = 0.95,
) -> Comparison:
    """
    Args:
        control: what the others are compared with; empty for the first by weights, else by name.
        weights: by arm, in the order of the file; None where they are not known.
    """
    by_arm: dict[str, list[Observed]] = defaultdict(list)
    arms_of: dict[str, set[str]] = defaultdict(set)
    first_us: int | None = None
    last_us: int | None = None
    lone = 0.0
    for one in observed:
        by_arm[one.arm].append(one)
        arms_of[one.unit].add(one.arm)
        first_us = one.at_us if first_us is None else min(first_us, one.at_us)
        last_us = one.at_us if last_us is None else max(last_us, one.at_us)
        if one.unit == one.generation_id:
            lone += one.weight
    order = [*(weights or {}), *sorted(by_arm)]
    names = [arm for arm in dict.fromkeys(order) if arm in by_arm]
    control = control if control in by_arm else next(iter(names), "")
    names.sort(key=lambda arm: arm != control)
    arms = [_arm(arm, by_arm[arm], confidence, is_control=arm == control) for arm in names]
    medians = {arm: _medians(by_arm[arm]) for arm in names}
    tests: list[tuple[Arm, str]] = []
    for arm in arms[1:]:
        for metric in METRICS:
            found = difference(
                arm.estimates[metric.name],
                arms[0].estimates[metric.name],
                is_tested=metric.name in TESTED and metric.kind != "quantile",
            )
            if found is not None and metric.name == "ttft_p50":
                found = found._replace(p=rank_test(medians[arm.name], medians[control]))
            arm.differences[metric.name] = found
            if found is not None and found.p is not None:
                tests.append((arm, metric.name))
    adjusted = holm([_p(arm, metric) for arm, metric in tests])
    for (arm, metric_name), p in zip(tests, adjusted, strict=True):
        arm.adjusted_p[metric_name] = p
    counts = Counter(arm for arms_in in arms_of.values() for arm in arms_in)
    return Comparison(
        name=name,
        confidence=confidence,
        arms=arms,
        first_us=first_us,
        last_us=last_us,
        crossed=sum(len(arms_in) > 1 for arms_in in arms_of.values()),
        lone=lone,
        weights=dict(weights or {}),
        mismatch_p=mismatch(counts, weights) if weights else None,
        comparisons=len(tests),
    )


def _p(arm: Arm, metric: str) -> float | None:
    found = arm.differences[metric]
    return None if found is None else found.p


def _arm(name: str, observed: list[Observed], confidence: float, *, is_control: bool) -> Arm:
    arm = Arm(name, is_control)
    finishes: defaultdict[str, float] = defaultdict(float)
    reasons: defaultdict[str, float] = defaultdict(float)
    judged: list[Observed] = []
    for one in observed:
        arm.answers += one.weight
        fate = one.fate
        if fate == "refused":
            arm.refused += one.weight
            continue
        judged.append(one)
        if fate == "failed":
            reasons[one.reason] += one.weight
        elif one.finish:
            finishes[one.finish] += one.weight
        arm.rated += one.weight if one.score is not None else 0
        arm.unpriced += one.weight if one.cost_micro is None else 0
    arm.units = len({one.unit for one in observed})
    arm.finishes = _most_first(finishes)
    arm.reasons = _most_first(reasons)
    answered = [one for one in judged if one.fate != "left"]
    clean = [one for one in judged if one.fate == "ok"]
    first = _weighed(judged, lambda one: one.ttft_us)
    total = _weighed(clean, lambda one: one.wall_us)
    arm.estimates = {
        "failed": share(_sums(answered, lambda one: float(one.fate == "failed")), confidence),
        "left": share(_sums(judged, lambda one: float(one.fate == "left")), confidence),
        "cost": mean(_sums(judged, lambda one: one.cost_micro), confidence),
        "score": mean(_sums(judged, lambda one: one.score), confidence),
    }
    for metric in METRICS:
        if metric.kind == "quantile":
            values = first if metric.name.startswith("ttft") else total
            arm.estimates[metric.name] = quantile(values, metric.at, confidence)
    return arm


Value = Callable[[Observed], float | None]


def _sums(observed: Iterable[Observed], value_of: Value) -> dict[str, Sums]:
    """By unit; answers without a value are left out."""
    found: dict[str, list[float]] = {}
    for one in observed:
        value = value_of(one)
        if value is not None:
            sums = found.setdefault(one.unit, [0.0, 0.0])
            sums[0] += one.weight * value
            sums[1] += one.weight
    return {unit: Sums(*sums) for unit, sums in found.items()}


def _weighed(observed: Iterable[Observed], value_of: Value) -> list[Weighed]:
    found = [
        Weighed(value / 1000, one.unit, one.weight)
        for one in observed
        if (value := value_of(one)) is not None
    ]
    return sorted(found)


def _medians(observed: Iterable[Observed]) -> list[float]:
    """Of the first contents of each unit."""
    found: dict[str, list[float]] = defaultdict(list)
    for one in observed:
        if one.ttft_us is not None and one.fate != "refused":
            found[one.unit].append(one.ttft_us)
    return [median(values) for values in found.values()]


def _most_first(counts: Mapping[str, float]) -> dict[str, float]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
