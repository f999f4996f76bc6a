"""Generations that have ended, as the dashboard's parts are told of them."""

from __future__ import annotations

from typing import Any

from relay.content import GenerateRequest, Policy, Usage
from relay.errors import RelayError
from relay.observability.live.recorder import Recorder
from relay.outcome import (
    AttemptOutcome,
    AttemptRecord,
    AttemptRole,
    Ended,
    GenerationEnd,
    HedgeRecord,
)


def attempt(
    target: str = "north/a",
    *,
    started_us: int = 0,
    first_us: int | None = 200_000,
    ended_us: int = 500_000,
    outcome: AttemptOutcome = AttemptOutcome.SUCCESS,
    role: AttemptRole = AttemptRole.PRIMARY,
    **more: Any,
) -> AttemptRecord:
    """One; `first_us` after its start, None where it never came to content."""
    provider, _, model = target.partition("/")
    phases = {} if first_us is None else {"pool_wait": 0, "first_content": first_us}
    return AttemptRecord(
        provider,
        model,
        started_us,
        ended_us=ended_us,
        outcome=outcome,
        role=role,
        phases_us=phases,
        **more,
    )


def lost(target: str = "north/a", *, ended_us: int = 300_000, **more: Any) -> AttemptRecord:
    """One that was reset before its first content."""
    return attempt(
        target,
        first_us=None,
        ended_us=ended_us,
        outcome=AttemptOutcome.IGNORED,
        is_loser=True,
        **more,
    )


def ended(
    *attempts: AttemptRecord, error: RelayError | None = None, hedge: HedgeRecord | None = None
) -> GenerationEnd:
    """The end of a generation with these attempts; the one that `is_winner` gave its answer."""
    winner = next((one for one in attempts if one.is_winner), None)
    first_us = 0 if winner is None else winner.started_us + sum(winner.phases_us.values())
    return GenerationEnd(
        error=error,
        finish_reasons={},
        raw_finish_reasons={},
        usage=Usage(prompt_tokens=10, completion_tokens=20, total_tokens=30) if winner else None,
        is_usage_final=True,
        attempts=attempts,
        phases_us={"admission": 0, "first_content": first_us, "stream": 100_000},
        stall_count=0,
        longest_gap_us=0,
        provider=winner.provider if winner else "",
        model=winner.model if winner else "",
        response_id="",
        has_output=winner is not None,
        hedge=hedge,
    )


def won(first_us: int = 200_000, target: str = "north/a", **more: Any) -> GenerationEnd:
    """One attempt, and it answered."""
    return ended(attempt(target, first_us=first_us, is_winner=True, **more))


def request(model: str = "voice", **policy: Any) -> GenerateRequest:
    """What was asked."""
    return GenerateRequest(model, (), policy=Policy(**policy))


def tell(
    recorder: Recorder,
    end: GenerationEnd,
    asked: GenerateRequest,
    generation_id: str,
    frontend: str = "generate",
) -> None:
    """A generation ended in this worker."""
    recorder.ended(Ended(end, asked, generation_id, frontend, bool(end.attempts)))
