"""A generation that has ended as plain data: what the dashboard's list and its waterfall show.

No prompt, no answer, no secret: names of configuration and clients, times and counts. Callers may
put a key where a name belongs (a model, a turn), so such names are masked as in the log, and cut.
Made at the end of every generation, so it reads and never works anything out.
"""

from __future__ import annotations

from typing import Any, Final

from relay.content import GenerateRequest
from relay.decision import Decision
from relay.errors import MAX_SHOWN_CHARS, AdmissionError
from relay.logs import hidden
from relay.outcome import AttemptOutcome, AttemptRecord, GenerationEnd, HedgeRecord, fate_of

Record = dict[str, Any]

MAX_ATTEMPTS: Final = 16
"""Shown of one generation."""
_TO_CONTENT: Final = (
    "admission",
    "route",
    "race_wait",
    "pool_wait",
    "request_sent",
    "response_headers",
    "first_content",
)


def shown(name: str) -> str:
    """A name that a caller may have made up: without secrets, and not longer than is shown."""
    return hidden(name)[:MAX_SHOWN_CHARS]


def attempt_of(record: AttemptRecord) -> Record:
    """One attempt; times in microseconds since the generation was received, None where it never
    came to that."""
    phases = record.phases_us
    content_us = record.started_us + sum(phases.values()) if "first_content" in phases else None
    return {
        "target": shown(f"{record.provider}/{record.model}"),
        "leg": record.leg or None,
        "role": record.role.value,
        "outcome": outcome_of(record),
        "reason": record.error.reason.name if record.error else None,
        "http": record.http_status or None,
        "started_us": record.started_us,
        "content_us": content_us,
        "ended_us": record.ended_us or None,
        "phases_us": dict(phases),
        "tokens": record.tokens_seen,
        "cost_micro": record.cost,
    }


def outcome_of(record: AttemptRecord) -> str:
    """`won`, `lost`, `held_back` before it was sent, `running` while it does, or the outcome's own
    word."""
    if record.is_winner:
        return "won" if record.error is None else record.outcome.value
    if record.is_loser:
        return "lost"
    if isinstance(record.error, AdmissionError):
        return "held_back"
    if not record.ended_us and record.outcome is AttemptOutcome.IGNORED:
        return "running"
    return record.outcome.value


def hedge_of(hedge: HedgeRecord | None) -> Record | None:
    """What was decided about a second attempt."""
    if hedge is None:
        return None
    return {
        "reason": hedge.reason,
        "delay_us": hedge.delay_us,
        "second": None if hedge.second is None else shown(hedge.second),
        "shadow": hedge.is_shadow,
        "fired": hedge.fired,
        "won": hedge.won,
        "refused": hedge.refused or None,
        "added_cost_micro": hedge.added_cost,
        "would_fire": hedge.would_fire,
        "would_win": hedge.would_win,
    }


def ttft_us(end: GenerationEnd) -> int | None:
    """From receipt to the winner's first content; None without a winner."""
    if not end.provider:
        return None
    phases = end.phases_us
    return sum(phases.get(name, 0) for name in _TO_CONTENT)


def cost_micro(end: GenerationEnd) -> float | None:
    """Of all attempts, as far as prices are known; None where none is."""
    known = [record.cost for record in end.attempts if record.cost is not None]
    return sum(known) if known else None


def _decision(decision: Decision | None) -> Record | None:
    if decision is None:
        return None
    found = decision.as_dict()
    if decision.asked:  # the client's own word
        found["asked"] = shown(decision.asked)
    return found


def record_of(
    end: GenerationEnd,
    request: GenerateRequest,
    generation_id: str,
    frontend: str,
    *,
    seq: int,
    ended_ms: int,
) -> Record:
    """
    Args:
        seq: its number in this worker, from 1.
        ended_ms: when it ended, milliseconds since 1970.
    """
    error, usage, policy = end.error, end.usage, request.policy
    return {
        "seq": seq,
        "id": generation_id,
        "ended_ms": ended_ms,
        "alias": shown(request.asked_as or request.model),
        "frontend": frontend,
        "key": policy.key_id or None,
        "turn": shown(policy.turn_id) or None,
        "fate": fate_of(error),
        "status": error.status_code.name if error else "OK",
        "reason": error.reason.name if error else None,
        "budget": error.metadata.get("budget") if error else None,
        "winner": shown(f"{end.provider}/{end.model}") if end.provider else None,
        "attempts": [attempt_of(record) for record in end.attempts[:MAX_ATTEMPTS]],
        "hedge": hedge_of(end.hedge),
        "phases_us": end.phases_us,
        "wall_us": end.wall_us,
        "ttft_us": ttft_us(end),
        "stalls": end.stall_count,
        "longest_gap_us": end.longest_gap_us,
        "prompt_tokens": usage.prompt_tokens if usage else None,
        "completion_tokens": usage.completion_tokens if usage else None,
        "cost_micro": cost_micro(end),
        "decision": _decision(end.decision),
    }
