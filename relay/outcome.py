"""How things ended: one record an attempt, one end a generation."""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal, NamedTuple, Protocol

from relay.content import Events, FinishReason, GenerateRequest, Usage
from relay.decision import Decision
from relay.errors import Reason, RelayError
from relay.timeline import PHASES

Fate = Literal["ok", "cancelled", "limited", "refused", "failed"]
"""Answered; left by its client; refused for a limit or a budget; refused for what was asked or who
asked it; and what somebody on call should know of."""

LEFT: Final = frozenset({Reason.CLIENT_CANCELLED, Reason.SLOW_CONSUMER, Reason.SESSION_IDLE})
"""The client went, or reads nothing, or says nothing. Answers that nobody wants any more are
everyday in speech (a barge-in, a call that ends), and a client that does not read has let go
without saying so: the relay and its providers did what they should, and whoever is woken by it, or
finds it in a sample of failures, can mend nothing. That a client's time was over
(`DEADLINE_EXCEEDED`) is none of these: it still waited, and nothing came."""
LIMITED: Final = frozenset({Reason.LIMIT_EXCEEDED, Reason.BUDGET_EXCEEDED})
REFUSED: Final = frozenset(
    {
        Reason.INVALID_REQUEST,
        Reason.SETUP_REQUIRED,
        Reason.UNKNOWN_MODEL,
        Reason.UNSUPPORTED_FEATURE,
        Reason.UNAUTHENTICATED,
        Reason.PERMISSION_DENIED,
        Reason.REQUEST_TOO_LARGE,
        Reason.DUPLICATE_GENERATION,
        Reason.TOO_MANY_GENERATIONS,
        Reason.NOT_IMPLEMENTED,
        Reason.UPSTREAM_REJECTED,
        Reason.UPSTREAM_CONTENT_BLOCKED,
        Reason.GUARDRAIL_BLOCKED,
        Reason.CACHE_MISS,
    }
)
"""It says something of the request, or of what its caller may, whether the relay or a provider
said it."""


def fate_of(error: RelayError | None) -> Fate:
    """How a generation came out that ended so: for everybody who counts, samples or shows ends."""
    if error is None:
        return "ok"
    reason = error.reason
    if reason in LEFT:
        return "cancelled"
    if reason in LIMITED:
        return "limited"
    return "refused" if reason in REFUSED else "failed"


_UNTIL_FIRST_CONTENT = PHASES[: PHASES.index("first_content") + 1]


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
    leg: str = ""
    """Of a cascade or panel, or a question of the relay's own: which; empty for the answer of one
    model."""
    usage: Usage | None = None
    """Of a leg that had an answer: what it used, as far as it is known."""
    is_usage_final: bool = False
    """`usage` is the provider's last word."""
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


def merged(hedges: Sequence[HedgeRecord]) -> HedgeRecord | None:
    """Of several legs as of one; None for none. Why and when is the first one's that fired, or else
    the first one's."""
    if not hedges:
        return None
    shown = next((one for one in hedges if one.fired), hedges[0])
    added = [one.added_cost for one in hedges if one.added_cost is not None]
    added_upper = [one.added_cost_upper for one in hedges if one.added_cost_upper is not None]
    return replace(
        shown,
        fired=sum(one.fired for one in hedges),
        won=any(one.won for one in hedges),
        added_cost=sum(added) if added else None,
        added_cost_upper=sum(added_upper) if added_upper else None,
    )


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
    decision: Decision | None = None
    """What policies, caches and guardrails made of it; None where they had nothing to say."""

    @property
    def wall_us(self) -> int:
        """From receipt to end."""
        return sum(self.phases_us.values())


class Recorder(Protocol):
    """Keeps what an answer says, as much of it as is wanted by those who are told of its end."""

    def take(self, events: Events) -> None:
        """The next events, in order."""
        ...


class HandedThrough(NamedTuple):
    """The end of what was handed through to a provider unread (`Services.on_handed_through`)."""

    provider: str
    surface: Literal["passthrough", "websocket"]
    status: int
    """Of the provider's answer, 101 of a WebSocket; 0 if none came."""
    error: RelayError | None
    """Why the relay ended it."""
    wall_us: int

    @property
    def outcome(self) -> str:
        """`ok`, `cancelled` by the client, `client_error` and `server_error` as the provider's
        status says, `error` where the relay ended it or nothing came."""
        if self.error is not None:
            return "cancelled" if fate_of(self.error) == "cancelled" else "error"
        if self.status >= 500:
            return "server_error"
        if self.status >= 400:
            return "client_error"
        return "ok" if self.status else "error"


COPIES: Final = "shadow"
"""The frontend of copies of requests whose answers nobody sees (`policies.shadows`)."""


class Ended(NamedTuple):
    """A generation that has ended, as it is told to those who only watch (`Services.on_ended`):
    log, traces, payloads.

    They are told once, in the loop, after everything that counts is done. They keep nothing of it
    that is large, and nothing of its errors but words: an exception leads to its frames, and those
    to prompts and keys.
    """

    end: GenerationEnd
    request: GenerateRequest
    """As it was admitted, else as it was asked for."""
    generation_id: str
    """The relay's own."""
    frontend: str
    """`converse`, `generate`, `prewarm`, or the name of an HTTP surface."""
    was_planned: bool
    """It was admitted, and a plan was made."""
    client_id: str = ""
    """What the client calls it, "" if it gave it no name."""
    prompt_estimate: int | None = None
    """Tokens, from bytes; None if it was never planned."""
    committed_s: float | None = None
    """Of a speculation: from receipt to its commit; None without one."""
    response_model: str = ""
    """What answered, as the provider itself called it; "" where it did not say."""
    recorded: Recorder | None = None
    """What was kept of the answer; None where nobody wanted it."""

    @property
    def is_copy(self) -> bool:
        """Of a request that somebody else has answered: no caller's business, good or bad."""
        return self.frontend == COPIES

    @property
    def first_content_us(self) -> int:
        """From receipt to the first content, or to the end where there was none."""
        phases = self.end.phases_us
        return sum(phases.get(phase, 0) for phase in _UNTIL_FIRST_CONTENT)

    @property
    def is_failure(self) -> bool:
        """Whether its client was told an error that he may ask about, his own mistakes among them;
        that he left (`LEFT`) is none."""
        return fate_of(self.end.error) not in ("ok", "cancelled")


Listener = Callable[[Ended], object]


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
