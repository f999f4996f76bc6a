"""Times to first token as others published them, as distributions that can be drawn from.

A provider known by percentiles is a quantile function: straight lines of log(time) over log(1 - q),
which is a Pareto tail between two known points, beyond the last one the same line up to twice the
largest time seen. Below the median nothing is published; there the line goes down to 0.6 medians
(a guess: it moves p50 of a race, and no tail). So p99.9 of few hundred samples is extrapolated.
"""

from __future__ import annotations

import bisect
import csv
import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Final, Protocol

from relay.emulator import shared_data

LOWEST_MEDIANS: Final = 0.6
_AGENT_RUN_SAMPLES: Final = 870
"""What the notes take for runs that do not say how many turns they had."""


class Tail(Protocol):
    """The quantile function of a provider's time to first token."""

    def at(self, share: float) -> float:
        """Seconds that `share` (in [0, 1)) of the times are below."""
        ...


class Percentiles:
    """See the module.

    Args:
        points: `(share, seconds)`, ascending, from the median up.
        most_s: no draw is longer.
    """

    def __init__(self, points: Sequence[tuple[float, float]], most_s: float) -> None:
        median_s = points[0][1]
        self._left = [0.0] + [-math.log(1.0 - share) for share, _ in points]
        self._log_s = [math.log(LOWEST_MEDIANS * median_s)] + [math.log(s) for _, s in points]
        self._most_s = most_s

    def at(self, share: float) -> float:
        left = -math.log(1.0 - share)
        above = min(max(1, bisect.bisect_left(self._left, left)), len(self._left) - 1)
        x0, x1 = self._left[above - 1], self._left[above]
        y0, y1 = self._log_s[above - 1], self._log_s[above]
        return min(self._most_s, math.exp(y0 + (left - x0) / (x1 - x0) * (y1 - y0)))


class Shifted:
    """Another one's, times a factor at every share: what is known of a second door is, at most, by
    how much its median differs."""

    def __init__(self, tail: Tail, factor: float) -> None:
        self._tail = tail
        self._factor = factor

    def at(self, share: float) -> float:
        return self._factor * self._tail.at(share)


class Steadied:
    """Another one's with its tail drawn in: what is above the median is the square root of as many
    medians. A guess at what a tier buys that is said to be more even; nobody has published one."""

    def __init__(self, tail: Tail) -> None:
        self._tail = tail
        self._median_s = tail.at(0.5)

    def at(self, share: float) -> float:
        value_s = self._tail.at(share)
        medians = value_s / self._median_s
        return self._median_s * math.sqrt(medians) if medians > 1.0 else value_s


class Bootstrap:
    """Drawn from what was measured."""

    def __init__(self, values_s: Sequence[float]) -> None:
        self._values_s = sorted(values_s)

    def at(self, share: float) -> float:
        return self._values_s[int(share * len(self._values_s))]


class Exponential:
    """For tests: what a race of two of them gives is known."""

    def __init__(self, mean_s: float) -> None:
        self._mean_s = mean_s

    def at(self, share: float) -> float:
        return -self._mean_s * math.log(1.0 - share)


def _rows(file: str) -> Iterator[dict[str, str]]:
    path = shared_data.find(shared_data.ttft_data(), file)
    if path is None:
        raise FileNotFoundError(f"{file} is not in {shared_data.ttft_data()} (RELAY_TTFT_DATA)")
    with path.open(newline="") as lines:
        yield from csv.DictReader(lines)


@lru_cache(maxsize=64)
def published(source: str, model: str) -> Percentiles:
    """A model of `published_percentiles.csv`; `source` is the beginning of its source."""
    for row in _rows("published_percentiles.csv"):
        if row["source"].startswith(source) and row["model"] == model:
            points = [
                (share, float(row[column]) / 1e3)
                for share, column in ((0.5, "p50_ms"), (0.95, "p95_ms"), (0.99, "p99_ms"))
                if row[column]
            ]
            samples = int(row["n"] or _AGENT_RUN_SAMPLES)
            most_s = float(row["max_ms"]) / 1e3
            points.append((1.0 - 1.0 / samples, most_s))
            return Percentiles(points, 2.0 * most_s)
    raise LookupError(f"no {model!r} in {source!r}")


@lru_cache(maxsize=16)
def measured(provider: str, model: str) -> Bootstrap:
    """A provider and model of the llmperf leaderboard; failed requests are left out."""
    values = [
        float(row["ttft_ms"]) / 1e3
        for row in _rows("llmperf_leaderboard.csv")
        if row["provider"] == provider and row["model"] == model and row["ttft_ms"]
    ]
    if not values:
        raise LookupError(f"no {model!r} of {provider!r}")
    return Bootstrap(values)


@lru_cache(maxsize=1)
def chat_trace() -> tuple[tuple[float, int, int], ...]:
    """`(arrival, prompt tokens, output tokens)` of an hour of a chat service (Azure, 2023)."""
    return tuple(
        (float(row["t_s"]), int(row["context_tokens"]), max(1, int(row["generated_tokens"])))
        for row in _rows("azure_llm_2023_conv.csv")
    )


@lru_cache(maxsize=1)
def ms_per_1k_tokens() -> float:
    """The middle of the slopes of long prompts (Epoch, 2026): least squares, one a model."""
    by_model: dict[str, list[tuple[float, float]]] = {}
    for row in _rows("epoch_long_context.csv"):
        if row["ttft_ms"]:
            point = (float(row["prompt_tokens"]) / 1e3, float(row["ttft_ms"]))
            by_model.setdefault(row["model"], []).append(point)
    slopes = []
    for points in by_model.values():
        mean_x = sum(x for x, _ in points) / len(points)
        mean_y = sum(y for _, y in points) / len(points)
        slopes.append(
            sum((x - mean_x) * (y - mean_y) for x, y in points)
            / sum((x - mean_x) ** 2 for x, _ in points)
        )
    slopes.sort()
    return (slopes[(len(slopes) - 1) // 2] + slopes[len(slopes) // 2]) / 2
