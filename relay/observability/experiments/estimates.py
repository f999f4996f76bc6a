"""Numbers with the bounds of what they can be, where answers of one unit are alike.

Arms are drawn for units (users, sessions, ...), not for answers, so that units are what is
independent. Every estimate is a ratio of two sums over units, and its variance is that of the
units' residuals (delta method): a thousand answers of one user count as one unit that is large.

- means: the ratio, with Student's t at one degree of freedom less than there are units;
- shares: Wilson's interval, with the number of answers divided by the design effect;
- quantiles: Woodruff's interval, the bounds of the share below the quantile turned back;
- differences of two: from their own bounds (MOVER), which for shares is Newcombe's interval, and
  for means Welch's.

Sources: Deng, Knoblich and Lu, "Applying the delta method in metric analytics", KDD 2018; Wilson,
JASA 1927; Franco et al., "Comparative study of confidence intervals for proportions in complex
sample surveys", JSSAM 2019 (the design effect in it); Woodruff, JASA 1952; Newcombe, Statistics in
Medicine 1998; Zou and Donner, Statistics in Medicine 2008 (MOVER); Welch, Biometrika 1947.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import sqrt
from typing import Final, NamedTuple

from scipy import stats

FEWEST_UNITS: Final = 2
"""Below, nothing can be said of how much units differ."""


class Estimate(NamedTuple):
    """A number, and what it can be."""

    value: float
    low: float | None
    high: float | None
    """None where that cannot be told: too few units."""
    error: float | None
    """Its standard error."""
    units: int


class Difference(NamedTuple):
    """Of an arm from the control."""

    value: float
    low: float | None
    high: float | None
    p: float | None
    """Two-sided; None where there is no test."""


class Sums(NamedTuple):
    """Of one unit."""

    value: float
    answers: float


Units = Mapping[str, Sums]


def mean(units: Units, confidence: float) -> Estimate | None:
    """Of the values, all of them together; None without any."""
    found = _ratio(units)
    if found is None:
        return None
    value, error, count = found
    if error is None:
        return Estimate(value, None, None, None, count)
    reach = _critical(confidence, count) * error
    return Estimate(value, value - reach, value + reach, error, count)


def share(units: Units, confidence: float) -> Estimate | None:
    """Of the answers that are something, where values are how many of a unit's are; None without
    any answer."""
    found = _ratio(units)
    if found is None:
        return None
    value, error, count = found
    if error is None:
        return Estimate(value, None, None, None, count)
    answers = sum(one.answers for one in units.values())
    worth = float(count)
    if 0 < value < 1 and error > 0:  # else units tell nothing of how alike their answers are
        plain = value * (1 - value) / answers
        worth = answers / max(1.0, error * error / plain)
    z = _critical(confidence, count)
    low, high = _wilson(value, worth, z)
    return Estimate(value, low, high, error, count)


def _wilson(value: float, count: float, z: float) -> tuple[float, float]:
    middle = (value + z * z / (2 * count)) / (1 + z * z / count)
    reach = z * sqrt(value * (1 - value) / count + z * z / (4 * count * count))
    reach /= 1 + z * z / count
    return max(0.0, min(value, middle - reach)), min(1.0, max(value, middle + reach))


class Weighed(NamedTuple):
    """A value of one answer."""

    value: float
    unit: str
    weight: float


def quantile(values: Sequence[Weighed], at: float, confidence: float) -> Estimate | None:
    """
    Args:
        values: in the order of their sizes.
        at: share that is below.
    """
    if not values:
        return None
    value = _at(values, at)
    below: dict[str, list[float]] = {}
    for one in values:
        sums = below.setdefault(one.unit, [0.0, 0.0])
        sums[0] += one.weight * (one.value <= value)
        sums[1] += one.weight
    found = _ratio({unit: Sums(*sums) for unit, sums in below.items()})
    if found is None or found[1] is None:
        return Estimate(value, None, None, None, len(below))
    count = found[2]
    # Never less than by answers alone: at the ends few units differ.
    error = max(found[1], sqrt(at * (1 - at) / max(1.0, sum(one.weight for one in values))))
    reach = _critical(confidence, count) * error
    low = _at(values, at - reach) if at - reach > 0 else None
    high = _at(values, at + reach) if at + reach < 1 else None
    return Estimate(value, low, high, None, count)


def _at(values: Sequence[Weighed], share: float) -> float:
    wanted = share * sum(one.weight for one in values)
    passed = 0.0
    for one in values:
        passed += one.weight
        if passed >= wanted - 1e-9:
            return one.value
    return values[-1].value


def difference(
    arm: Estimate | None, control: Estimate | None, *, is_tested: bool = True
) -> Difference | None:
    """None where there is nothing to take from each other."""
    if arm is None or control is None:
        return None
    value = arm.value - control.value
    low = high = None
    if arm.low is not None and control.high is not None:
        low = value - sqrt((arm.value - arm.low) ** 2 + (control.high - control.value) ** 2)
    if arm.high is not None and control.low is not None:
        high = value + sqrt((arm.high - arm.value) ** 2 + (control.value - control.low) ** 2)
    p = None
    if is_tested and arm.error is not None and control.error is not None:
        p = _welch(value, (arm.error, arm.units), (control.error, control.units))
    return Difference(value, low, high, p)


def _welch(value: float, arm: tuple[float, int], control: tuple[float, int]) -> float | None:
    parts = [(error * error, units - 1) for error, units in (arm, control)]
    variance = sum(part for part, _ in parts)
    if variance <= 0:
        return None if value else 1.0
    degrees = variance**2 / sum(part**2 / df for part, df in parts)
    return float(2 * stats.t.sf(abs(value) / sqrt(variance), degrees))


def rank_test(arm: Sequence[float], control: Sequence[float]) -> float | None:
    """Whether units of one are mostly above units of the other (Mann and Whitney 1947): p, for a
    number a unit; None where there are too few."""
    if min(len(arm), len(control)) < FEWEST_UNITS:
        return None
    return float(stats.mannwhitneyu(arm, control, alternative="two-sided").pvalue)


def mismatch(counts: Mapping[str, int], weights: Mapping[str, float]) -> float | None:
    """Whether units are divided as they should be (chi square): p; None where that cannot be told.

    Source: Fabijan et al., "Diagnosing sample ratio mismatch in online controlled experiments",
    KDD 2019.
    """
    expected = {arm: weight for arm, weight in weights.items() if weight > 0}
    total = sum(counts.get(arm, 0) for arm in expected)
    if len(expected) < 2 or total == 0:
        return None
    whole = sum(expected.values())
    seen = [counts.get(arm, 0) for arm in expected]
    wanted = [total * weight / whole for weight in expected.values()]
    if min(wanted) < 5:  # the distribution is not that of the test yet
        return None
    return float(stats.chisquare(seen, wanted).pvalue)


def holm(values: Sequence[float | None]) -> list[float | None]:
    """p of each, made good for there being so many of them (Holm 1979)."""
    order = sorted((p, index) for index, p in enumerate(values) if p is not None)
    found: list[float | None] = [None] * len(values)
    most = 0.0
    for rank, (p, index) in enumerate(order):
        most = max(most, min(1.0, p * (len(order) - rank)))
        found[index] = most
    return found


def _ratio(units: Units) -> tuple[float, float | None, int] | None:
    """The ratio, its standard error (None for too few units), and how many units have a count."""
    rows = [one for one in units.values() if one.answers > 0]
    total = sum(one.answers for one in rows)
    if not rows or total <= 0:
        return None
    value = sum(one.value for one in rows) / total
    count = len(rows)
    if count < FEWEST_UNITS:
        return value, None, count
    squares = sum((one.value - value * one.answers) ** 2 for one in rows)
    return value, sqrt(count / (count - 1) * squares) / total, count


def _critical(confidence: float, units: int) -> float:
    return float(stats.t.ppf((1 + confidence) / 2, units - 1))
