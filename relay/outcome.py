"""How things ended: one record an attempt, one end a generation."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import NamedTuple

from relay.content import FinishReason, GenerateRequest, Usage
from relay.errors import RelayError


class AttemptOutcome(enum.Enum):
    """What came of an attempt; the four words that breakers and limiters understand."""

    SUCCESS = "success"
    FAILURE = "failure"
    OVERLOAD = "overload"
    """429, 503 or 529: it has enough to do. Of a 503 that names no time a breaker thinks otherwise
    (`relay.target_state.looks_dead`)."""
    IGNORED = "ignored"
    """Ended by us: a lost race, a client's cancel."""


class AttemptRole(enum.Enum):
    """Why an attempt was started."""

    PRIMARY = "primary"
    HEDGE = "hedge"
    """Beside one that runs."""
    FAILOVER = "failover"
    """In place of one that failed."""
    RETRY = "retry"
    """Once more at the same target: its connection was stale, and the provider saw nothing."""


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
    is_loser: bool = False
    """Another attempt won while this one ran."""
    http_version: str = ""
    http_status: int = 0
    mended_events: int = 0
    """Events that could not be passed on as they were (`Codec.mended_events`): the provider's
    fault, told in the log."""
    role: AttemptRole = AttemptRole.PRIMARY
    cost: float | None = None
    """Estimated, micro-dollars; None where no price is known."""
    cost_upper: float | None = None
    """As if the provider had not stopped when it was cancelled, but gone on to the request's own
    limit; without one to 300 tokens, or to what answers of the alias have, whichever is more."""
    is_free: bool = True
    """The provider has certainly billed nothing: nothing was sent, or it answered with an error."""
    prompt_tokens: int = 0
    """Estimated, as this target counts."""
    tokens_seen: int = 0
    """Of its answer, before it ended: as the provider counted, else estimated."""
    cached_tokens: int = 0
    """Of the prompt, in the provider's cache: as it counted, else as was believed."""
    phases_us: dict[str, int] = field(default_factory=dict)
    """pool_wait, request_sent, response_headers, first_content, each from the one before; those
    that it came to."""


@dataclass(slots=True)
class HedgeRecord:
    """What was decided about a second attempt for one generation, and what came of it."""

    reason: str
    """Why it was timed as it was, or why there was none (`HedgeReason`)."""
    delay_us: int | None = None
    """After the first attempt's start; None for no timed hedge."""
    second: str | None = None
    """`provider/model` that would be asked."""
    is_shadow: bool = False
    """Nothing was sent: what would have been is below."""
    fired: int = 0
    """Further attempts that were started by the timer."""
    won: bool = False
    """One of them gave the answer."""
    refused: str = ""
    """Why it did not start when its time had come."""
    cost: float | None = None
    """Estimated for one that loses, micro-dollars."""
    added_cost: float | None = None
    """Had some fired: what all attempts cost over what the first would have cost alone, for this
    answer; at least 0, micro-dollars. None where a price is not known."""
    added_cost_upper: float | None = None
    """The same as if no provider stopped when it is cancelled."""
    would_fire: bool | None = None
    """In shadow mode: its time came before the first content, and everything that is asked before
    a hedge starts (credit, room, throttle, common mode) said yes."""
    would_win: float | None = None
    """In shadow mode, had it fired: the probability that it would have been first; None while the
    second target is not known well enough."""
    would_cost: float | None = None
    """In shadow mode, had it fired: `added_cost`, expected over who would have won."""
    would_cost_upper: float | None = None
    """The same as if no provider stopped when it is cancelled."""


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
    hedge: HedgeRecord | None = None
    """None where there was no plan."""
    service_tier: str = ""
    """As the answer says, empty where it does not."""
    cancel_us: int | None = None
    """Of one that a frame of the client cancelled: from reading the frame to the upstream being
    given up; None for other ends."""

    @property
    def wall_us(self) -> int:
        """From receipt to end."""
        return sum(self.phases_us.values())


class Ended(NamedTuple):
    """A generation that has ended, as listeners are told of it (`Services.on_ended`)."""

    end: GenerationEnd
    request: GenerateRequest
    """As it was admitted, else as it was asked for."""
    generation_id: str
    """The relay's own."""
    frontend: str
    """`converse`, `generate`, `prewarm`, or the name of an HTTP surface."""
    was_planned: bool
    """It was admitted, and a plan was made."""


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
