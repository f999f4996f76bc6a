"""What is counted of one target, one alias, one frontend: plain numbers, raised in the loop."""

from __future__ import annotations

from typing import NamedTuple

from relay.observability.metrics.histogram import Histogram
from relay.timeline import PHASES


class Bounds(NamedTuple):
    """Of the histograms, seconds."""

    added: tuple[float, ...]
    ttft: tuple[float, ...]
    phase: tuple[float, ...]
    mean_gap: tuple[float, ...]
    longest_gap: tuple[float, ...]
    wall: tuple[float, ...]


class TargetRow:
    """Of a model at a provider."""

    __slots__ = (
        "attempts",
        "cached",
        "completion",
        "cost_micro",
        "errors",
        "is_told",
        "longest_gap",
        "mean_gap",
        "prompt",
        "sent",
        "stalls",
        "ttft",
        "unpriced",
    )

    def __init__(self, bounds: Bounds) -> None:
        self.is_told = False
        """Nothing was raised since it was last shown."""
        self.attempts: dict[tuple[str, str], int] = {}
        """By role and outcome."""
        self.errors: dict[str, int] = {}
        self.sent = 0
        self.ttft = Histogram(bounds.ttft)
        self.mean_gap = Histogram(bounds.mean_gap)
        self.longest_gap = Histogram(bounds.longest_gap)
        self.stalls = 0
        self.prompt = 0
        self.cached = 0
        self.completion = 0
        self.cost_micro = 0.0
        self.unpriced = 0


class AliasRow:
    """Of a name that is asked for."""

    __slots__ = (
        "dead_air",
        "decisions",
        "denied",
        "errors",
        "generations",
        "hedge_cost_micro",
        "hedge_cost_upper_micro",
        "judged",
        "sent",
        "shadow_cost_micro",
        "shadow_cost_upper_micro",
        "shadow_won",
        "shadowed",
        "ttft",
        "won",
    )

    def __init__(self, bounds: Bounds) -> None:
        self.generations: dict[tuple[str, str], int] = {}
        """By frontend and outcome."""
        self.errors: dict[tuple[str, str], int] = {}
        """By source and reason."""
        self.ttft = Histogram(bounds.ttft)
        self.judged = 0
        self.dead_air = 0
        self.decisions: dict[str, int] = {}
        self.sent = 0
        self.won = 0
        self.denied: dict[str, int] = {}
        self.shadowed = 0
        self.shadow_won = 0.0
        self.hedge_cost_micro = 0.0
        self.hedge_cost_upper_micro = 0.0
        self.shadow_cost_micro = 0.0
        self.shadow_cost_upper_micro = 0.0


class FrontendRow:
    """Of a way to ask."""

    __slots__ = ("added", "wall")

    def __init__(self, bounds: Bounds) -> None:
        self.added = Histogram(bounds.added)
        self.wall = Histogram(bounds.wall)


class PhaseRow:
    """Of a provider's generations."""

    __slots__ = ("phases",)

    def __init__(self, bounds: Bounds) -> None:
        self.phases = {name: Histogram(bounds.phase) for name in PHASES}
