"""One answer of an experiment as its report reads it, from wherever it was written down."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from relay.observability.report.rows import CALLERS, LEFT

Fate = Literal["ok", "failed", "left", "refused"]

OF_THE_ARM: Final = frozenset(
    {"UPSTREAM_REJECTED", "UPSTREAM_CONTENT_BLOCKED", "UNSUPPORTED_FEATURE", "UNKNOWN_MODEL"}
)
"""Refusals that another arm may not have had: as `relay.policy.guard_rail`."""


@dataclass(slots=True)
class Observed:
    """One answer."""

    generation_id: str
    arm: str
    unit: str
    """Whose it is; the generation's id where the request did not say."""
    at_us: int
    reason: str
    """Of its failure; empty for a clean end."""
    ttft_us: int | None
    wall_us: int
    cost_micro: float | None
    """None where a price is not known."""
    finish: str
    """`STOP`, `LENGTH`, ...; empty where the source does not know."""
    score: float | None = None
    """The last that its user gave."""
    weight: float = 1.0
    """How many it stands for: more than one in a log that is sampled."""

    @property
    def fate(self) -> Fate:
        """`refused`: for what the caller did; `left`: by the client."""
        if not self.reason:
            return "ok"
        if self.reason in LEFT:
            return "left"
        is_callers = self.reason in CALLERS and self.reason not in OF_THE_ARM
        return "refused" if is_callers else "failed"


@dataclass(slots=True)
class Notes:
    """What a source could not tell; filled while it is read."""

    unreadable: int = 0
    open: int = 0
    """Generations that are not over."""
    sampled: int = 0
    """Lines that stand for several answers."""
