"""Which ratios are clearly over their baseline: bounds that noise does not reach.

`bench/README.md` has the runs that they come from.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

BOUNDS: Final = {
    "cpu_over_nginx": 1.25,
    "cpu_over_direct_ends": 1.25,
    "ttft_p50_over_direct": 1.35,
    "token_p50_over_direct": 1.25,
    "token_p99_over_direct": 1.8,
    "micro": 1.15,
}
"""Times the baseline, by the part of a ratio's name before the slash."""
SLACK_WITHOUT_PRIORITY: Final = 1.5
"""Times that without real-time priority: who is put aside finds cold caches, and the relay, of
which more is touched for a token, finds more of them than what it is compared with."""


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


def over(
    found: Mapping[str, float], baseline: Mapping[str, float], slack: float = 1.0
) -> list[Over]:
    """The ratios over their bounds, which are `slack` times the usual ones.

    Raises:
        KeyError: one has no baseline.
    """
    return [
        Over(name, value, baseline[name], slack * bound(name))
        for name, value in found.items()
        if value > slack * bound(name) * baseline[name]
    ]
