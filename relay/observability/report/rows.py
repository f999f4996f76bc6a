"""One generation as a report reads it, from wherever it was written down."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

CALLERS: Final = frozenset(
    {
        "INVALID_REQUEST",
        "SETUP_REQUIRED",
        "UNKNOWN_MODEL",
        "UNSUPPORTED_FEATURE",
        "UNAUTHENTICATED",
        "PERMISSION_DENIED",
        "REQUEST_TOO_LARGE",
        "DUPLICATE_GENERATION",
        "TOO_MANY_GENERATIONS",
        "NOT_IMPLEMENTED",
        "LIMIT_EXCEEDED",
        "BUDGET_EXCEEDED",
        "UPSTREAM_REJECTED",
        "UPSTREAM_CONTENT_BLOCKED",
        "GUARDRAIL_BLOCKED",
        "CACHE_MISS",
    }
)
"""Ends that say something of the request, or of what its caller may, and nothing of the service:
`relay.outcome.REFUSED` and `LIMITED`, as they are stored."""
LEFT: Final = frozenset({"CLIENT_CANCELLED", "SLOW_CONSUMER", "SESSION_IDLE"})
"""The client went: `relay.outcome.LEFT`, as it is stored."""
CUT: Final = LEFT | {"DEADLINE_EXCEEDED"}
"""The client went, or its own time was over: an attempt was ended before its provider could."""
ABANDONED: Final = "ABANDONED"
"""The worker died: what its client saw nobody knows."""
OURS: Final = frozenset(
    {
        "BREAKER_OPEN",
        "LIMIT_EXCEEDED",
        "POOL_EXHAUSTED",
        "NO_CANDIDATES",
        "UNSUPPORTED_FEATURE",
        "DRAINING",
    }
)
"""Of an attempt: it was refused here, and its provider saw nothing."""
REJECTED: Final = frozenset({"UPSTREAM_REJECTED", "UPSTREAM_CONTENT_BLOCKED"})
BROKEN: Final = frozenset(
    {
        "UPSTREAM_TRUNCATED",
        "UPSTREAM_RESET",
        "UPSTREAM_PROTOCOL",
        "UPSTREAM_EVENT_TOO_LARGE",
        "STREAM_STALLED",
        "ATTEMPT_TIMEOUT",
    }
)
"""Of an attempt that has begun its answer: the answer has no end."""


class Tried(NamedTuple):
    """One attempt at one provider."""

    provider: str
    model: str
    role: str
    """`primary`, `hedge`, `failover` or `retry`."""
    outcome: str
    """`success`, `failure`, `overload`, `ignored` (left by us: a lost race, a client that went) or
    `abandoned` (its worker died)."""
    reason: str
    """Of a failure; else empty."""
    http_status: int
    """0 where there was none."""
    is_winner: bool
    started_us: int
    """Since the generation was received."""
    ended_us: int
    """The same clock."""
    first_us: int | None
    """Of its first content, since its own start; None where none came."""
    cost_micro: int | None
    """Micro-dollars; None where no price is known."""
    upper_micro: int | None
    """The most that it can have cost."""
    is_estimated: bool

    @property
    def target(self) -> str:
        """`provider/model`."""
        return f"{self.provider}/{self.model}"


class Generation(NamedTuple):
    """One generation that is over."""

    received_us: int
    """Since 1970."""
    alias: str
    team: str
    """Its id; empty where it has none, or the source does not know."""
    key: str
    reason: str
    """Of its failure; empty for a clean end."""
    ttft_us: int | None
    """From receipt to first content; None where none came."""
    wall_us: int
    tried: tuple[Tried, ...]
    """In the order of their starts."""
    times: int = 1
    """How many generations it stands for: more than one in a log that is sampled."""


@dataclass(slots=True)
class SourceNotes:
    """What a source could not tell; filled while it is read."""

    readable: int = 0
    """Lines of a log, of generations or of something else."""
    unreadable: int = 0
    """Lines that are none of the relay's log, or of generations without the fields that are needed.
    """
    open: int = 0
    """Generations in the range that are not over."""
    sampled: int = 0
    """Lines of a log that stand for several generations each."""
    stand_for: int = 0
    """How many all of these stand for."""
    has_teams: bool = True
    names: dict[str, str] = field(default_factory=dict)
    """Of teams and keys, by id."""


def joined(tried: Iterable[Tried]) -> Iterator[Tried]:
    """Attempts as providers see them: what was refused here is none, and a stale connection with
    its free second try is one, from the first one's start."""
    kept: list[Tried] = []
    for one in tried:
        if one.reason in OURS:
            continue
        if one.role == "retry" and kept and kept[-1].target == one.target:
            before = kept.pop()
            first_us = one.first_us
            if first_us is not None:
                first_us += one.started_us - before.started_us
            one = one._replace(role=before.role, started_us=before.started_us, first_us=first_us)
        kept.append(one)
    yield from kept
