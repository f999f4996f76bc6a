"""Latency distributions, in milliseconds, drawn with a seeded generator.

Written as text in model names, scripts and the configuration file:

    200                              always 200 ms
    100..300                         uniform
    exp:20                           exponential with mean 20
    q:0=80;50=200;95=900;100=3000    quantile table, percent=ms, linear between the points
    csv:FILE:COLUMN                  a value of a CSV column, drawn at random
    csv:FILE:COLUMN:name=value;...   only rows whose fields equal these
    csvseq:FILE:COLUMN[:filter]      the column in file order (keeps autocorrelation), then again
    @NAME                            a distribution named in the configuration or by the script

CSV files are read in place; a relative FILE lies in the folder of published latencies (see
`shared_data`), else under the working directory. Empty fields (failed requests of the public data
sets) are left out.
"""

from __future__ import annotations

import bisect
import csv
import random
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Protocol

from relay.emulator import shared_data


class Distribution(Protocol):
    """A source of lengths of time."""

    def draw_ms(self, rng: random.Random, index: int) -> float:
        """The next value; `index` is the number of the draw, for sources that have an order."""
        ...


class Fixed:
    """Always the same value."""

    def __init__(self, value_ms: float) -> None:
        self.value_ms = value_ms

    def draw_ms(self, rng: random.Random, index: int) -> float:
        return self.value_ms


class Uniform:
    """Evenly between two values."""

    def __init__(self, low_ms: float, high_ms: float) -> None:
        self.low_ms = low_ms
        self.high_ms = high_ms

    def draw_ms(self, rng: random.Random, index: int) -> float:
        return rng.uniform(self.low_ms, self.high_ms)


class Exponential:
    """Exponential with a mean: the gaps of a memoryless source."""

    def __init__(self, mean_ms: float) -> None:
        self.mean_ms = mean_ms

    def draw_ms(self, rng: random.Random, index: int) -> float:
        return rng.expovariate(1.0) * self.mean_ms


class QuantileTable:
    """Piecewise linear between known quantiles; flat outside them."""

    def __init__(self, points: Sequence[tuple[float, float]]) -> None:
        """Args: points: (percent, ms) pairs in any order."""
        ordered = sorted(points)
        if not ordered or ordered[0][0] < 0 or ordered[-1][0] > 100:
            raise ValueError("a quantile table needs points between 0 and 100 percent")
        self._percents = [percent for percent, _ in ordered]
        self._values = [value for _, value in ordered]

    def draw_ms(self, rng: random.Random, index: int) -> float:
        return self.at(rng.random() * 100.0)

    def at(self, percent: float) -> float:
        """The value at one quantile."""
        above = bisect.bisect_left(self._percents, percent)
        if above == 0:
            return self._values[0]
        if above == len(self._percents):
            return self._values[-1]
        low, high = self._percents[above - 1], self._percents[above]
        share = (percent - low) / (high - low)
        return self._values[above - 1] + share * (self._values[above] - self._values[above - 1])


class Samples:
    """Values that were measured: drawn at random, or one after the other."""

    def __init__(self, values_ms: Sequence[float], *, in_order: bool = False) -> None:
        if not values_ms:
            raise ValueError("no values: the file, column or filter gives nothing")
        self.values_ms = values_ms
        self._in_order = in_order

    def draw_ms(self, rng: random.Random, index: int) -> float:
        if self._in_order:
            return self.values_ms[index % len(self.values_ms)]
        return rng.choice(self.values_ms)


def parse_distribution(text: str, named: Mapping[str, Distribution]) -> Distribution:
    """Read a distribution in the notation of the module docstring.

    Raises:
        ValueError: the text is none of those, or the named file or distribution is missing.
    """
    text = text.strip()
    if text.startswith("@"):
        if text[1:] not in named:
            raise ValueError(f"no distribution named {text[1:]!r}")
        return named[text[1:]]
    kind, colon, rest = text.partition(":")
    if colon and kind == "q":
        points = [pair.partition("=") for pair in rest.split(";") if pair]
        return QuantileTable([(float(percent.lstrip("p")), float(ms)) for percent, _, ms in points])
    if colon and kind in ("csv", "csvseq"):
        file, _, tail = rest.partition(":")
        column, _, condition = tail.partition(":")
        return Samples(_column(_path(file), column, condition), in_order=kind == "csvseq")
    if colon and kind == "exp":
        return Exponential(_not_negative(rest))
    low, dots, high = text.partition("..")
    if dots:
        return Uniform(_not_negative(low), _not_negative(high))
    return Fixed(_not_negative(text))


def _not_negative(text: str) -> float:
    value = float(text)
    if not 0 <= value < float("inf"):
        raise ValueError(f"a length of time in ms was expected, not {text!r}")
    return value


def _path(file: str) -> Path:
    path = shared_data.find(shared_data.ttft_data(), file)
    if path is None:
        raise ValueError(f"cannot read {file!r}: no such file (RELAY_TTFT_DATA names the folder)")
    return path


@lru_cache(maxsize=64)
def _column(path: Path, column: str, condition: str) -> tuple[float, ...]:
    wanted = [pair.partition("=")[::2] for pair in condition.split(";") if pair]
    try:
        with path.open(newline="") as lines:
            return tuple(
                float(row[column])
                for row in csv.DictReader(lines)
                if row[column] and all(row[name] == value for name, value in wanted)
            )
    except (OSError, KeyError) as error:
        raise ValueError(f"cannot read column {column!r} of {path.name}: {error!r}") from None
