"""One answer of an experiment as its report reads it, from wherever it was written down."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

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


@dataclass(frozen=True, slots=True)
class Copied:
    """One copy of a shadow, beside what it is a copy of; None for what is not known of both."""

    generation_id: str
    reason: str
    """Of its failure; empty for a clean end."""
    first_content_more_ms: float | None
    whole_more_ms: float | None
    cost_more_micro: float | None
    is_same_finish: bool | None
    is_equal: bool | None
    is_same_tools: bool | None
    likeness: float | None
    length_ratio: float | None


def copied_of(
    generation_id: str,
    reason: str,
    ttft_us: int | None,
    wall_us: int,
    cost_micro: float | None,
    told: Mapping[str, Any],
) -> Copied:
    """Of a row of a copy.

    Args:
        told: its decision's `shadow`.

    Raises:
        TypeError: something in it is of another kind.
    """
    chars, of_chars = told.get("chars"), told.get("of_chars")
    finish, of_finish = told.get("finish"), told.get("of_finish")
    return Copied(
        generation_id=generation_id,
        reason=reason,
        first_content_more_ms=_more(ttft_us, told.get("of_first_content_us"), 1000),
        whole_more_ms=_more(wall_us, told.get("of_wall_us"), 1000),
        cost_more_micro=_more(cost_micro, told.get("of_cost_micro"), 1),
        is_same_finish=finish == of_finish if finish and of_finish else None,
        is_equal=told.get("is_equal"),
        is_same_tools=told.get("same_tools"),
        likeness=told.get("likeness"),
        length_ratio=chars / of_chars if chars is not None and of_chars else None,
    )


def _more(value: float | None, than: float | None, unit: float) -> float | None:
    return None if value is None or than is None else (value - than) / unit


@dataclass(slots=True)
class Notes:
    """What a source could not tell; filled while it is read."""

    unreadable: int = 0
    open: int = 0
    """Generations that are not over."""
    sampled: int = 0
    """Lines that stand for several answers."""
