"""What is known of one target's time to first token: a sliding sketch of normalised samples.

Strategy. A sample is divided by what its prompt explains, so that a long prompt is not taken for
a straggler: TTFT grows about linearly with the prompt tokens that are not cached (13-23 ms per
1,000 on published frontier models at 50k tokens and more), so a sample is expressed as what it
would have been with an empty prompt, `ttft / (1 + k * uncached / 1000)`, and `k` is fitted slowly,
off the hot path.

The sketch counts in logarithmic buckets (DDSketch, Masson et al., VLDB 2019: relative error 2 %).
It slides as a ring of six parts: a part closes after 150 samples, or after a minute if it has 50;
the oldest goes when a seventh opens. So busy targets forget within minutes and quiet ones keep
their last samples for hours; what is older than six hours goes in any case. Insertion is O(1),
reading a quantile is a walk over 300 integers: done every few seconds, never per request.

Attempts that were cancelled before their first token are *censored*: all that is known is that
they would have taken longer than their age. Every quantile treats them by Kaplan and Meier's
estimator (JASA 1958). Counted at their age they would be harmless for a primary, which is given up
late; but a target that is mostly second is given up after some 50 ms, as soon as the primary
answers, and would pass for the fastest of all. How much is known is counted in finished samples.

Sketches of the same target, one of each worker, can be merged: that is done when a worker starts
and reads what was kept. While they run, workers learn each for itself.

A pure state machine: times are arguments, seconds of a monotonic clock.
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

RELATIVE_ERROR: Final = 0.02
_GROWTH: Final = (1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR)
_LOG_GROWTH: Final = math.log(_GROWTH)
MIN_S: Final = 0.001
MAX_S: Final = 120.0
_BUCKETS: Final = math.ceil(math.log(MAX_S / MIN_S) / _LOG_GROWTH) + 2

PARTS: Final = 6
PART_SAMPLES: Final = 150
PART_S: Final = 60.0
PART_MIN_SAMPLES: Final = 50
"""A part with fewer stays open beyond its minute, so that low traffic learns too."""
KEEP_S: Final = 6 * 3600.0

RECENT_SAMPLES: Final = 50
DRIFT_NOISE: Final = 1.3
"""Three standard errors of the median of 50 samples with a spread of 0.5 (lognormal) are 1.3."""

PRIOR_SAMPLES: Final = 100
"""Weight of the prior: n samples of its own count n / (n + 100), the prior the rest."""
PRIOR_ENDS: Final = 500
"""With so many samples the prior has faded out: what is known needs no belief beside it."""

DEFAULT_SLOPE: Final = 0.03
"""Of TTFT per 1,000 uncached prompt tokens, relative to an empty prompt: 15 ms on 500 ms."""
MAX_SLOPE: Final = 0.5
_SLOPE_PRIOR_WEIGHT: Final = 50.0
_DECAY: Final = 0.998
_MOST_SUM: Final = 1e18
_MOST_COUNT: Final = 1 << 40
"""Of what is read back: more was never counted, and could not be reckoned with."""


class Prior(NamedTuple):
    """What is believed of a target before it has samples: quantiles, seconds, and the slope.

    The defaults are about the middle of the medians and p95s that were published for frontier
    models over 24 hours in 2026.
    """

    p50_s: float = 0.6
    p95_s: float = 2.0
    p99_s: float = 4.0
    slope: float = DEFAULT_SLOPE

    def quantile_s(self, share: float) -> float:
        """Log-linear between the points, level beyond them."""
        points = ((0.5, self.p50_s), (0.95, self.p95_s), (0.99, self.p99_s))
        if share <= points[0][0]:
            return self.p50_s
        for (left, left_s), (right, right_s) in itertools.pairwise(points):
            if share <= right:
                part = (share - left) / (right - left)
                return math.exp(math.log(left_s) * (1 - part) + math.log(right_s) * part)
        return self.p99_s


class _Part:
    """A stretch of time: counts by bucket, finished and censored apart."""

    __slots__ = ("borrowed", "censored", "finished", "known", "opened_s", "samples")

    def __init__(self, opened_s: float) -> None:
        self.borrowed: _Part | None = None
        """Those of all that another sketch counted."""
        self.opened_s = opened_s
        self.samples = 0
        self.known = 0  # of them finished
        self.finished: dict[int, int] = {}
        self.censored: dict[int, int] = {}

    def add(self, other: _Part) -> None:
        """Count in all that another has counted, borrowed or not."""
        self.opened_s = min(self.opened_s, other.opened_s)
        self.samples += other.samples
        self.known += other.known
        for counts, more in (
            (self.finished, other.finished),
            (self.censored, other.censored),
        ):
            for bucket, count in more.items():
                counts[bucket] = counts.get(bucket, 0) + count
        if other.borrowed is not None:
            if self.borrowed is None:
                self.borrowed = _Part(other.borrowed.opened_s)
            self.borrowed.add(other.borrowed)

    def lent(self) -> _Part:
        """A copy for another sketch, to which all of it is borrowed."""
        part = self._copy()
        part.borrowed = self._copy()
        return part

    def _copy(self) -> _Part:
        part = _Part(self.opened_s)
        part.samples, part.known = self.samples, self.known
        part.finished, part.censored = dict(self.finished), dict(self.censored)
        return part

    def own(self) -> tuple[dict[int, int], dict[int, int]]:
        """Finished and censored ones without what is borrowed."""
        if self.borrowed is None:
            return self.finished, self.censored
        finished = _less(self.finished, self.borrowed.finished)
        return finished, _less(self.censored, self.borrowed.censored)


def _less(counts: Mapping[int, int], others: Mapping[int, int]) -> dict[int, int]:
    left = {bucket: count - others.get(bucket, 0) for bucket, count in counts.items()}
    return {bucket: count for bucket, count in left.items() if count}


def _bucket(value_s: float) -> int:
    if value_s <= MIN_S:
        return 0
    return min(_BUCKETS - 1, 1 + int(math.log(value_s / MIN_S) / _LOG_GROWTH))


def _value_s(bucket: int) -> float:
    """The middle of a bucket, within the relative error of everything in it."""
    if bucket == 0:
        return MIN_S
    return MIN_S * math.exp((bucket - 0.5) * _LOG_GROWTH)


class LatencySketch:
    """The normalised TTFT of one target."""

    __slots__ = (
        "_censored",
        "_finished",
        "_parts",
        "_recent",
        "_sums",
        "known",
        "prior",
        "samples",
        "slope",
    )

    def __init__(self, prior: Prior | None = None) -> None:
        self.prior = prior or Prior()
        self._parts: deque[_Part] = deque()
        self._finished = [0] * _BUCKETS
        self._censored = [0] * _BUCKETS
        self.samples = 0
        """How many the window holds, censored ones included."""
        self.known = 0
        """And without them."""
        self.slope = self.prior.slope
        """Relative growth per 1,000 uncached prompt tokens; changed by `refit` alone."""
        self._sums = [0.0] * 5  # weighted: 1, x, y, x*x, x*y
        self._recent: deque[float] = deque(maxlen=RECENT_SAMPLES)

    # --- normalising ------------------------------------------------------------------------

    def scale(self, prompt_tokens: int, cached_tokens: int = 0) -> float:
        """How much longer than with an empty prompt the first token takes, at least 1."""
        return 1.0 + self.slope * max(0, prompt_tokens - cached_tokens) / 1000.0

    # --- learning ---------------------------------------------------------------------------

    def record(self, ttft_s: float, prompt_tokens: int, cached_tokens: int, now_s: float) -> float:
        """A first token came after `ttft_s`; returns the normalised value, seconds."""
        uncached = max(0, prompt_tokens - cached_tokens) / 1000.0
        value_s = ttft_s / (1.0 + self.slope * uncached)
        self._add(value_s, now_s, is_censored=False)
        sums = self._sums
        # A straggler says nothing of the prompt: it counts as no more than three medians.
        y = min(ttft_s, 3 * self.prior.p50_s if self.samples < 20 else 3 * self._typical_s())
        for index, term in enumerate((1.0, uncached, y, uncached * uncached, uncached * y)):
            sums[index] = sums[index] * _DECAY + term
        return value_s

    def record_censored(
        self, age_s: float, prompt_tokens: int, cached_tokens: int, now_s: float
    ) -> float:
        """An attempt was given up at `age_s` before its first token; its normalised age."""
        value_s = age_s / self.scale(prompt_tokens, cached_tokens)
        self._add(value_s, now_s, is_censored=True)
        return value_s

    def _typical_s(self) -> float:
        """A cheap stand-in for the median: the mean of what is regressed."""
        weight = self._sums[0]
        return self._sums[2] / weight if weight > 0 else self.prior.p50_s

    def _add(self, value_s: float, now_s: float, *, is_censored: bool) -> None:
        parts = self._parts
        part = parts[-1] if parts else None
        if (
            part is None
            or part.known >= PART_SAMPLES
            or (now_s - part.opened_s >= PART_S and part.known >= PART_MIN_SAMPLES)
        ):
            part = _Part(now_s)
            parts.append(part)
            if len(parts) > PARTS:
                self._drop(parts.popleft())
        bucket = _bucket(value_s)
        counts, merged = (
            (part.censored, self._censored) if is_censored else (part.finished, self._finished)
        )
        counts[bucket] = counts.get(bucket, 0) + 1
        merged[bucket] += 1
        part.samples += 1
        self.samples += 1
        if not is_censored:
            part.known += 1
            self.known += 1
        self._recent.append(value_s)

    def _drop(self, part: _Part) -> None:
        for bucket, count in part.finished.items():
            self._finished[bucket] -= count
        for bucket, count in part.censored.items():
            self._censored[bucket] -= count
        self.samples -= part.samples
        self.known -= part.known

    def expire(self, now_s: float) -> None:
        """Forget what is older than `KEEP_S`. Off the hot path."""
        while self._parts and now_s - self._parts[0].opened_s > KEEP_S:
            self._drop(self._parts.popleft())

    def merge(self, *others: LatencySketch) -> None:
        """Take in what others have learnt of the same target. Off the hot path.

        The window is what one sketch would have that had counted for all: parts stand in order of
        their opening, neighbours are joined as far as a part may hold them if there are too many,
        and the newest stay. So no more is known than of one busy target, and nothing older.

        What comes from others is borrowed: it counts in everything that is read and slides out as
        the rest does, but `to_dict` leaves it out, since they keep it themselves. So no sample is
        counted twice, however often sketches are kept and merged. The slope becomes the average
        by evidence, and that of the others is what `refit` draws to.
        """
        parts = list(self._parts)
        parts += [part.lent() for other in others for part in other._parts]  # noqa: SLF001
        parts.sort(key=lambda part: part.opened_s)
        if len(parts) > PARTS:
            parts = _joined(parts)
        self._parts = deque(parts)
        self._finished, self._censored = [0] * _BUCKETS, [0] * _BUCKETS
        self.samples = self.known = 0
        for part in parts:
            self._count(part)
        slopes = [(other.slope, other._sums[0]) for other in others]  # noqa: SLF001
        weight = sum(weight for _, weight in slopes)
        if weight > 0:
            weighed = sum(slope * weight for slope, weight in slopes)
            self.prior = self.prior._replace(slope=weighed / weight)
            own = self._sums[0]
            self.slope = (weighed + self.slope * own) / (weight + own)

    def _count(self, part: _Part) -> None:
        for bucket, count in part.finished.items():
            self._finished[bucket] += count
        for bucket, count in part.censored.items():
            self._censored[bucket] += count
        self.samples += part.samples
        self.known += part.known

    def refit(self) -> None:
        """Fit the slope anew to what was recorded. Off the hot path.

        Least squares with forgetting, drawn to the prior's by `_SLOPE_PRIOR_WEIGHT` samples at
        1,000 tokens, so that prompts of one length (no evidence) leave it alone.
        """
        weight, x, y, xx, xy = self._sums
        if weight < 1.0 or y <= 0.0:
            return
        mean_x, mean_y = x / weight, y / weight
        variance = max(0.0, xx / weight - mean_x * mean_x) * weight
        covariance = (xy / weight - mean_x * mean_y) * weight
        base_s = mean_y / (1.0 + self.slope * mean_x)
        prior_b = self.prior.slope * base_s
        b = (covariance + prior_b * _SLOPE_PRIOR_WEIGHT) / (variance + _SLOPE_PRIOR_WEIGHT)
        a = mean_y - b * mean_x
        if a <= 0.1 * mean_y:
            a = 0.1 * mean_y
        self.slope = min(max(b / a, 0.0), MAX_SLOPE)

    # --- reading ----------------------------------------------------------------------------

    def raw_quantile_s(self, share: float) -> float | None:
        """The normalised TTFT that `share` of first tokens come within; None if nothing is known.

        Where all that would tell was given up earlier: the longest that is known.
        """
        found = self.raw_quantiles_s((share,))
        return found[0] if found else None

    def raw_quantiles_s(self, shares: Sequence[float]) -> tuple[float, ...]:
        """The same of several shares, ascending, in one walk; empty if nothing is known."""
        at_risk = self.samples
        if self.known == 0:
            return ()
        wanted = [1.0 - share * (at_risk - 1) / at_risk - 1e-12 for share in shares]
        found: list[float] = []
        alive, latest = 1.0, 0
        for bucket, (finished, censored) in enumerate(
            zip(self._finished, self._censored, strict=True)
        ):
            if finished:
                alive *= 1.0 - finished / at_risk
                latest = bucket
                while alive < wanted[len(found)]:
                    found.append(_value_s(bucket))
                    if len(found) == len(wanted):
                        return tuple(found)
            elif censored:
                latest = bucket
            at_risk -= finished + censored
        return (*found, *[_value_s(latest)] * (len(wanted) - len(found)))

    def quantile_s(self, share: float) -> float:
        """The same, drawn to the prior while samples are few (weighted geometric mean)."""
        own_s = self.raw_quantile_s(share)
        prior_s = self.prior.quantile_s(share)
        if own_s is None:
            return prior_s
        belief = PRIOR_SAMPLES * max(0.0, 1.0 - self.known / PRIOR_ENDS)
        weight = self.known / (self.known + belief)
        return math.exp(weight * math.log(own_s) + (1 - weight) * math.log(prior_s))

    def drift(self) -> float:
        """How much slower the last samples are than the window, 1.0 at least: median over median.

        The window needs hundreds of samples to follow a provider that has become slower; until
        then a trigger taken from it alone would fire on everybody.
        """
        recent = self._recent
        if len(recent) < RECENT_SAMPLES or self.samples < 4 * RECENT_SAMPLES:
            return 1.0
        median_s = sorted(recent)[RECENT_SAMPLES // 2]
        window_s = self.raw_quantile_s(0.5)
        ratio = median_s / window_s if window_s else 1.0
        # Medians of so few differ by chance; below this it is no drift.
        return ratio if ratio > DRIFT_NOISE else 1.0

    @property
    def is_learned(self) -> bool:
        """Whether the window has enough samples of its own for a trigger."""
        return self.known >= PRIOR_SAMPLES

    def as_prior(self) -> Prior:
        """What is known here, as what is believed of another target. Off the hot path."""
        return Prior(self.quantile_s(0.5), self.quantile_s(0.95), self.quantile_s(0.99), self.slope)

    def survival(self, after_s: float) -> float:
        """Share of first tokens that take longer than `after_s` (normalised); Kaplan-Meier.

        1.0 for an empty window.
        """
        at_risk = self.samples
        alive = 1.0
        last = _bucket(after_s)
        for bucket in range(last + 1):
            finished = self._finished[bucket]
            if finished and at_risk > 0:
                alive *= 1.0 - finished / at_risk
            at_risk -= finished + self._censored[bucket]
            if at_risk <= 0:
                break
        return alive

    def counts(self) -> list[tuple[float, int, int]]:
        """`(seconds, finished, censored)` of every bucket that holds something, ascending."""
        return [
            (_value_s(bucket), finished, censored)
            for bucket, (finished, censored) in enumerate(
                zip(self._finished, self._censored, strict=True)
            )
            if finished or censored
        ]

    # --- keeping ----------------------------------------------------------------------------

    def to_dict(self, now_s: float) -> dict[str, Any]:
        """What survives a restart, without what is borrowed; ages instead of moments, since clocks
        start anew."""
        own = [(part.opened_s, *part.own()) for part in self._parts]
        return {
            "buckets": _BUCKETS,
            "slope": self.slope,
            "sums": list(self._sums),
            "parts": [
                {
                    "age_s": now_s - opened_s,
                    "finished": {str(k): v for k, v in finished.items()},
                    "censored": {str(k): v for k, v in censored.items()},
                }
                for opened_s, finished, censored in own
                if finished or censored
            ],
        }

    @classmethod
    def from_dict(
        cls, kept: Mapping[str, Any], now_s: float, *, away_s: float, prior: Prior | None = None
    ) -> LatencySketch:
        """Take up what was kept.

        Args:
            away_s: how long ago it was saved; below 0, by a clock that went back, is now.

        Raises:
            ValueError: it is not what `to_dict` writes, or of another version's buckets.
        """
        sketch = cls(prior)
        try:
            if kept["buckets"] != _BUCKETS:
                raise ValueError("the sketch has other buckets")
            slope = float(kept["slope"])
            sums = [float(value) for value in kept["sums"]]
            if len(sums) != len(sketch._sums) or not math.isfinite(slope):
                raise ValueError("the sketch has other sums")
            if not all(0.0 <= value <= _MOST_SUM for value in sums):
                raise ValueError("the sketch has sums that cannot be")
            for row in list(kept["parts"])[-PARTS:]:
                age_s = float(row["age_s"])
                if not math.isfinite(age_s):
                    raise ValueError("a part of the sketch has no age")
                part = _Part(now_s - max(0.0, away_s) - max(0.0, age_s))
                for name, counts in (("finished", part.finished), ("censored", part.censored)):
                    for key, value in row[name].items():
                        bucket, count = int(key), int(value)
                        if not 0 <= bucket < _BUCKETS or not 0 <= count <= _MOST_COUNT:
                            raise ValueError("the sketch counts what it cannot")
                        counts[bucket] = count
                        part.samples += count
                        part.known += count if name == "finished" else 0
                sketch._count(part)
                sketch._parts.append(part)
        except (KeyError, TypeError, AttributeError, OverflowError) as error:
            raise ValueError(f"no sketch: {error}") from error
        sketch.slope = min(max(slope, 0.0), MAX_SLOPE)
        sketch._sums = sums
        sketch.expire(now_s)
        return sketch


def _joined(parts: Sequence[_Part]) -> list[_Part]:
    """The newest of so many parts, in order of their opening: at most `PARTS`, of neighbours
    together where a part may hold so many."""
    joined: list[_Part] = []  # the newest first
    for part in reversed(parts):
        if joined and joined[-1].known + part.known <= PART_SAMPLES:
            joined[-1].add(part)
        elif len(joined) == PARTS:
            break
        else:
            joined.append(part)
    return joined[::-1]
