"""Generations that have ended, as listeners are told of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from relay.content import GenerateRequest, Policy, Usage
from relay.errors import RelayError
from relay.outcome import (
    AttemptOutcome,
    AttemptRecord,
    AttemptRole,
    Ended,
    GenerationEnd,
    HedgeRecord,
)
from relay.timeline import PHASES

PHASES_US = {
    "admission": 200,
    "route": 50,
    "race_wait": 0,
    "pool_wait": 20,
    "request_sent": 130,
    "response_headers": 200_000,
    "first_content": 100_000,
    "relay_out": 100,
    "stream": 490_000,
    "stalls": 0,
    "end": 50,
}
"""0.5 ms of ours before the first output, 300.4 ms to the first content."""


def attempt(
    provider: str = "lab",
    model: str = "m",
    *,
    role: AttemptRole = AttemptRole.PRIMARY,
    outcome: AttemptOutcome = AttemptOutcome.SUCCESS,
    error: RelayError | None = None,
    is_loser: bool = False,
    is_sent: bool = True,
    cost: float | None = None,
    ready_us: int | None = 300_000,
) -> AttemptRecord:
    """One that was sent, and answered in 300 ms."""
    record = AttemptRecord(provider=provider, model=model, started_us=400, role=role)
    record.outcome, record.error, record.is_loser = outcome, error, is_loser
    record.is_free, record.cost = not is_sent, cost
    if is_sent:
        record.phases_us = {"pool_wait": 20, "request_sent": 130}
        if ready_us is not None:
            record.phases_us |= {"response_headers": 0, "first_content": ready_us - 150}
    record.is_winner = error is None and not is_loser
    return record


def usage(completion: int = 50, prompt: int = 100, **more: Any) -> Usage:
    """As a provider counts."""
    return Usage(
        prompt_tokens=prompt,
        completion_tokens=completion,
        total_tokens=prompt + completion,
        **more,
    )


def ended(
    model: str = "fast",
    *,
    attempts: Sequence[AttemptRecord] | None = None,
    error: RelayError | None = None,
    provider: str = "lab",
    phases_us: dict[str, int] | None = None,
    used: Usage | None = None,
    hedge: HedgeRecord | None = None,
    frontend: str = "chat_completions",
    was_planned: bool = True,
    policy: Policy | None = None,
    stalls: int = 0,
) -> Ended:
    """One that `lab/m` answered."""
    records = (attempt(),) if attempts is None else tuple(attempts)
    end = GenerationEnd(
        error=error,
        finish_reasons={},
        raw_finish_reasons={},
        usage=usage() if used is None and provider else used,
        is_usage_final=True,
        attempts=records,
        phases_us={**dict.fromkeys(PHASES, 0), **(PHASES_US if phases_us is None else phases_us)},
        stall_count=stalls,
        longest_gap_us=45_000,
        provider=provider,
        model="m" if provider else "",
        response_id="",
        has_output=bool(provider),
        hedge=hedge,
    )
    request = GenerateRequest(model=model, messages=(), policy=policy or Policy())
    return Ended(end, request, "gen_1", frontend, was_planned)
