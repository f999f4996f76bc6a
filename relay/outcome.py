"""How things ended: one record an attempt, one end a generation."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from relay.content import FinishReason, Usage
from relay.errors import RelayError


class AttemptOutcome(enum.Enum):
    """What came of an attempt; the four words that breakers and limiters understand."""

    SUCCESS = "success"
    FAILURE = "failure"
    OVERLOAD = "overload"
    """429 or 503: the provider is well, and has enough to do."""
    IGNORED = "ignored"
    """Ended by us: a lost race, a client's cancel."""


@dataclass(slots=True)
class AttemptRecord:
    """One try at one target, filled while it runs, final when the generation ended."""

    provider: str
    model: str
    started_us: int
    """Since the generation was received."""
    ended_us: int = 0
    outcome: AttemptOutcome = AttemptOutcome.IGNORED
    error: RelayError | None = None
    is_winner: bool = False
    http_version: str = ""
    http_status: int = 0
    mended_events: int = 0
    """Events that could not be passed on as they were (`Codec.mended_events`): the provider's
    fault, told in the log."""
    phases_us: dict[str, int] = field(default_factory=dict)
    """pool_wait, request_sent, response_headers, first_content, each from the one before; those
    that it came to."""


@dataclass(frozen=True, slots=True)
class GenerationEnd:
    """The single end of a generation. `error` is None for a clean end."""

    error: RelayError | None
    finish_reasons: dict[int, FinishReason]
    """Choice index -> reason; empty if the stream broke before any."""
    raw_finish_reasons: dict[int, str]
    usage: Usage | None
    """What the provider reported, else an estimate (`is_estimated`); None if nothing was sent."""
    is_usage_final: bool
    """False when the stream ended before the provider's last word on usage."""
    attempts: tuple[AttemptRecord, ...]
    phases_us: dict[str, int]
    """The timeline: every phase, summing to the wall time."""
    stall_count: int
    longest_gap_us: int
    provider: str
    """The winner's, empty without one."""
    model: str
    """The provider's own name of the winner's model."""
    response_id: str
    has_output: bool
    """Whether any event was handed to the frontend."""

    @property
    def wall_us(self) -> int:
        """From receipt to end."""
        return sum(self.phases_us.values())


def refused(error: RelayError) -> GenerationEnd:
    """The end of a generation that never began."""
    return GenerationEnd(
        error=error,
        finish_reasons={},
        raw_finish_reasons={},
        usage=None,
        is_usage_final=True,
        attempts=(),
        phases_us={},
        stall_count=0,
        longest_gap_us=0,
        provider="",
        model="",
        response_id="",
        has_output=False,
    )
