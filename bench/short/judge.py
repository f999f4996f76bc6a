"""Which ratios are clearly over their baseline: bounds that noise does not reach.

`bench/README.md` has the runs that they come from.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

BOUNDS: Final = {
    "cpu_over_nginx": 1.3,
    "cpu_over_direct_ends": 1.3,
    "ttft_p50_over_direct": 1.35,
    "token_p50_over_direct": 1.35,
    "token_p99_over_direct": 2.5,
    "micro": 1.25,
}
"""Times the baseline, by the part of a ratio's name before the slash."""


class Over(NamedTuple):
    """A ratio over its bound."""

    name: str
    value: float
    baseline: float
    bound: float

    def __str__(self) -> str:
        return (
            f"{self.name} is {self.value:.2f}: {self.value / self.baseline:.2f} times the baseline"
            f" {self.baseline:.2f}, at most {self.bound:g} times"
        )


def bound(name: str) -> float:
    """How many times its baseline a ratio may be.

    Raises:
        KeyError: there is no such kind of ratio.
    """
    return BOUNDS[name.partition("/")[0]]


def over(found: Mapping[str, float], baseline: Mapping[str, float]) -> list[Over]:
    """The ratios over their bounds.

    Raises:
        KeyError: one has no baseline.
    """
    return [
        Over(name, value, baseline[name], bound(name))
        for name, value in found.items()
        if value > bound(name) * baseline[name]
    ]
