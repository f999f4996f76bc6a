"""Requests as the relay's structured log tells of them.

One line a generation (`event: generation`, see `relay.generation`); other lines are passed over.
Of an attempt all that counts is what its target did: the first content came after so long, it
failed after so long, or it was left at that age and would have taken longer. What the relay itself
refused (a breaker, a limit of ours) says nothing of the target and is left out. So are copies that
nobody waits for, and legs: those of a cascade or panel are no race over one alias, and judges and
vectors answer nobody.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final, Literal, NamedTuple

import orjson

SPEAKABLE_TOKENS: Final = 8
"""What a voice needs before it can begin: a first clause of some six words."""

_OURS: Final = frozenset(
    {"BREAKER_OPEN", "LIMIT_EXCEEDED", "POOL_EXHAUSTED", "NO_CANDIDATES", "UNSUPPORTED_FEATURE"}
)
"""Failures before anything was sent."""


class Kind(enum.Enum):
    """What a target did with one attempt."""

    READY = "ready"
    """The first content came."""
    FAILED = "failed"
    LEFT = "left"
    """Cancelled by us before either; it would have taken longer."""


class Tried(NamedTuple):
    """One attempt at one target."""

    target: str
    role: str
    kind: Kind
    after_s: float
    """Since the attempt's start."""
    outcome: str
    """As it ended in the log: `success`, `failure`, `overload`, `ignored` or `lost`."""
    reason: str
    """Of a failure; else empty."""
    http_status: int
    """0 where there was none."""
    cached_tokens: int
    cost: float | None
    """Micro-dollars, as booked."""
    cost_upper: float | None


class Shadow(NamedTuple):
    """What shadow mode noted of the hedge that was not sent."""

    would_fire: bool = False
    would_win: float = 0.0
    """Probability; 0 too where the second was not known well enough."""
    would_cost: float = 0.0
    """Micro-dollars."""


class Recorded(NamedTuple):
    """One generation."""

    asked: str
    received_s: float
    """Seconds of the epoch."""
    before_race_s: float
    """From receipt to the start of the first attempt."""
    wall_s: float
    tried: tuple[Tried, ...]
    """In the order of their starts."""
    winner: str
    """Target that answered; empty for none."""
    ttft_s: float | None
    """From receipt to the first content; None without a winner."""
    is_left: bool
    """The client went before there was an answer."""
    stream_s: float
    """From the first content to the end."""
    gap_s: float
    """Between its tokens, on average."""
    prompt_estimate: int
    """From bytes."""
    prompt_tokens: int
    completion_tokens: int
    max_output_tokens: int | None = None
    first_token_s: float | None = None
    session: str = ""
    tenant: str = ""
    is_speculative: bool = False
    committed_s: float | None = None
    """Of a speculation: from receipt to its commit, None without one."""
    hedge: Literal["auto", "off", "race"] = "auto"
    delay_s: float | None = None
    max_attempts: int | None = None
    commit_on: Literal["first_content", "first_segment"] = "first_content"
    """With `first_segment`, what is called first content here is the first whole sentence."""
    shadow: Shadow = Shadow()
    added_cost: float = 0.0
    """What hedges added, as booked; micro-dollars."""

    def speakable_s(self, ttft_s: float, gap_s: float) -> float:
        """When there would be enough to speak, after this first content at this pace.

        The model of dead air: a voice begins with the first `SPEAKABLE_TOKENS` tokens, or with the
        whole answer if it is shorter; tokens come evenly. Who waits for a segment gets it whole.
        """
        if self.commit_on == "first_segment":
            return ttft_s
        tokens = min(SPEAKABLE_TOKENS, max(1, self.completion_tokens))
        return ttft_s + (tokens - 1) * gap_s


class Log(NamedTuple):
    """What was read."""

    requests: tuple[Recorded, ...]
    """In the order of their receipt."""
    passed_over: int
    """Generations that say nothing: refused before any attempt, answered by a cache, a cascade or a
    panel, copies of others, or lines without their fields."""


def read_log(lines: Iterable[bytes]) -> Log:
    """The generations of a log. Lines that are no JSON, or of other events, are not counted."""
    found: list[Recorded] = []
    passed_over = 0
    for line in lines:
        if b'"generation"' not in line:
            continue
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError:
            continue
        if not isinstance(row, dict) or row.get("event") != "generation":
            continue
        try:
            recorded = _recorded(row)
        except (KeyError, TypeError, ValueError, AttributeError):
            recorded = None
        if recorded is None:
            passed_over += 1
        else:
            found.append(recorded)
    found.sort(key=lambda one: one.received_s)
    return Log(tuple(found), passed_over)


def _recorded(row: dict[str, Any]) -> Recorded | None:
    """
    Raises:
        KeyError, TypeError, ValueError, AttributeError: it has not the fields of this version.
    """
    if row.get("frontend") == "shadow":
        return None
    rows = [one for one in row["attempts"] if not one.get("leg")]
    if not rows:
        return None
    wall_s = row["wall_us"] / 1e6
    ended_s = datetime.fromisoformat(row["timestamp"]).timestamp()
    winner = f"{row['provider']}/{row['model']}" if row["provider"] else ""
    before_us = int(rows[0]["started_us"])
    ttft_s = None
    tried: list[Tried] = []
    starts_us: list[int] = []
    for one in rows:
        if one["reason"] in _OURS:
            continue
        started_us, first_us = int(one["started_us"]), one["first_content_us"]
        if first_us is not None:
            kind, after_us = Kind.READY, int(first_us)
        else:
            is_failure = one["outcome"] in ("failure", "overload")
            kind = Kind.FAILED if is_failure else Kind.LEFT
            after_us = max(0, int(one["ended_us"] or row["wall_us"]) - started_us)
        if winner and one["target"] == winner and kind is Kind.READY and one["outcome"] != "lost":
            ttft_s = (started_us + after_us) / 1e6
        if one["role"] == "retry" and tried and tried[-1].target == one["target"]:
            # A stale connection of ours, and its free second try: one attempt for the target.
            role, began_us = tried.pop().role, starts_us.pop()
            after_us += started_us - began_us
            started_us = began_us
        else:
            role = one["role"]
        starts_us.append(started_us)
        tried.append(
            Tried(
                target=one["target"],
                role=role,
                kind=kind,
                after_s=after_us / 1e6,
                outcome=one["outcome"],
                reason=one["reason"] or "",
                http_status=int(one.get("status") or 0),
                cached_tokens=int(one.get("cached_tokens") or 0),
                cost=one.get("cost_micro_usd"),
                cost_upper=one.get("cost_upper_micro_usd"),
            )
        )
    wish, noted = row.get("wish") or {}, row.get("hedge") or {}
    prompt_tokens = int(row["prompt_tokens"] or 0)
    completion_tokens = int(row["completion_tokens"] or 0)
    timeline = row["timeline_us"]
    streamed_us = timeline["stream"] + timeline["stalls"]
    return Recorded(
        asked=row["asked"],
        received_s=ended_s - wall_s,
        before_race_s=before_us / 1e6,
        wall_s=wall_s,
        tried=tuple(tried),
        winner=winner if ttft_s is not None else "",
        ttft_s=ttft_s,
        is_left=ttft_s is None and row["status"] == "CANCELLED",
        stream_s=max(0.0, wall_s - ttft_s) if ttft_s is not None else 0.0,
        gap_s=streamed_us / 1e6 / (completion_tokens - 1) if completion_tokens > 1 else 0.0,
        prompt_estimate=int(wish.get("prompt_estimate") or prompt_tokens),
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        max_output_tokens=wish.get("max_output_tokens"),
        first_token_s=wish.get("first_token_s"),
        session=wish.get("session", ""),
        tenant=wish.get("tenant", ""),
        is_speculative=wish.get("speculative", False),
        committed_s=wish.get("committed_s"),
        hedge=wish.get("hedge", "auto"),
        delay_s=wish.get("delay_s"),
        max_attempts=wish.get("max_attempts"),
        commit_on=wish.get("commit_on", "first_content"),
        shadow=Shadow(
            noted.get("would_fire", False),
            noted.get("would_win", 0.0),
            noted.get("would_cost_micro_usd", 0.0),
        ),
        added_cost=noted.get("added_cost_micro_usd", 0.0),
    )
