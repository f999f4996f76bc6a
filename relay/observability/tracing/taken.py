"""What is taken of a generation's end in the loop: plain values, no request and no exception.

A queue of requests would hold their prompts, and an exception its frames.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from relay.content import Policy, ReasoningOptions, Sampling, Usage
from relay.errors import Reason, RelayError
from relay.observability.recording import Prompt, Recording, recording_of
from relay.outcome import Ended, HedgeRecord
from relay.trace_context import GenerationTrace


class TakenError(NamedTuple):
    """Of an error."""

    reason: str
    message: str
    """Public text."""
    is_cancel: bool


class TakenAttempt(NamedTuple):
    """Of an attempt; times in microseconds since the generation was received."""

    provider: str
    model: str
    role: str
    outcome: str
    is_winner: bool
    is_loser: bool
    started_us: int
    ended_us: int
    phases_us: Mapping[str, int]
    error: TakenError | None
    http_status: int
    http_version: str
    prompt_tokens: int
    tokens_seen: int
    cached_tokens: int
    cost_micro: float | None


class Taken(NamedTuple):
    """Of a generation."""

    trace: GenerationTrace
    ended_ns: int
    """Since 1970."""
    generation_id: str
    client_id: str
    frontend: str
    model: str
    """As it was asked for."""
    is_embedding: bool
    output_kind: str
    """Of the response format, empty for none."""
    sampling: Sampling
    reasoning: ReasoningOptions
    policy: Policy
    provider: str
    answered_model: str
    response_id: str
    service_tier: str
    finish_reasons: tuple[str, ...]
    usage: Usage | None
    is_usage_final: bool
    error: TakenError | None
    phases_us: Mapping[str, int]
    stall_count: int
    longest_gap_us: int
    cancel_us: int | None
    hedge: HedgeRecord | None
    attempts: tuple[TakenAttempt, ...]
    prompt: Prompt | None
    answer: Recording | None


def take(ended: Ended, trace: GenerationTrace, ended_ns: int, max_chars: int) -> Taken:
    """
    Args:
        max_chars: of a prompt that is kept; 0 keeps none, nor the answer.
    """
    end, request, recorded = ended.end, ended.request, ended.recorded
    return Taken(
        trace=trace,
        ended_ns=ended_ns,
        generation_id=ended.generation_id,
        client_id=ended.client_id,
        frontend=ended.frontend,
        model=request.model,
        is_embedding=request.embedding is not None,
        output_kind=request.response_format.kind if request.response_format else "",
        sampling=request.sampling,
        reasoning=request.reasoning,
        policy=request.policy,
        provider=end.provider,
        answered_model=ended.response_model or end.model,
        response_id=end.response_id,
        service_tier=end.service_tier,
        finish_reasons=tuple(
            reason.name.lower() for _, reason in sorted(end.finish_reasons.items())
        ),
        usage=end.usage,
        is_usage_final=end.is_usage_final,
        error=_error(end.error),
        phases_us=end.phases_us,
        stall_count=end.stall_count,
        longest_gap_us=end.longest_gap_us,
        cancel_us=end.cancel_us,
        hedge=end.hedge,
        attempts=tuple(
            TakenAttempt(
                record.provider,
                record.model,
                record.role.value,
                "lost" if record.is_loser else record.outcome.value,
                record.is_winner,
                record.is_loser,
                record.started_us,
                record.ended_us,
                dict(record.phases_us),  # one that runs on to its first content fills it yet
                _error(record.error),
                record.http_status,
                record.http_version,
                record.prompt_tokens,
                record.tokens_seen,
                record.cached_tokens,
                record.cost,
            )
            for record in end.attempts
        ),
        prompt=Prompt(request, max_chars) if max_chars else None,
        answer=recording_of(recorded) if max_chars else None,
    )


def _error(error: RelayError | None) -> TakenError | None:
    if error is None:
        return None
    reason = error.reason
    return TakenError(reason.name, error.public_message, reason is Reason.CLIENT_CANCELLED)
