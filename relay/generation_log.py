"""The one line that the log has of a generation: what people grep, and `relay replay` reads.

A field that has nothing to say is null. Units are in the names: microseconds, micro-dollars.
"""

from __future__ import annotations

from dataclasses import fields

import structlog

from relay.content import FinishReason, GenerateRequest
from relay.errors import MAX_SHOWN_CHARS
from relay.outcome import GenerationEnd, HedgeRecord
from relay.trace_context import trace_id

_log = structlog.get_logger("relay.generation")

_HEDGE_FIELDS = tuple(
    (field.name, f"{field.name}_micro_usd" if "cost" in field.name else field.name)
    for field in fields(HedgeRecord)
)
"""Attribute, and name in the log, which has its unit."""
_ALWAYS_TOLD = frozenset({"fired", "won"})
"""Of a hedge that was decided on, also where they are 0 and False."""


def log_end(
    end: GenerationEnd,
    request: GenerateRequest,
    *,
    generation_id: str,
    client_id: str,
    frontend: str,
    prompt_estimate: int | None,
    committed_s: float | None,
) -> None:
    """Log how a generation ended, with its whole timeline; no prompt, no output, no key.

    Args:
        client_id: what the client calls it, "" if it gave it no name.
        prompt_estimate: tokens, from bytes; None if it was never planned.
        committed_s: of a speculation: from receipt to its commit, None without one.
    """
    policy, error, usage = request.policy, end.error, end.usage
    _log.info(
        "generation",
        id=generation_id,
        client_id=client_id or None,
        frontend=frontend,
        asked=request.model[:MAX_SHOWN_CHARS],
        turn=policy.turn_id or None,
        trace_id=trace_id(policy.traceparent) or None,
        client=policy.client or None,
        key=policy.key_id or None,
        tags=policy.tags or None,
        labels=policy.labels or None,
        provider=end.provider or None,
        model=end.model or None,
        status=error.status_code.name if error else "OK",
        reason=error.reason.name if error else None,
        finish=FinishReason(end.finish_reasons[0]).name if 0 in end.finish_reasons else None,
        attempts=[
            {
                "target": f"{record.provider}/{record.model}",
                "role": record.role.value,
                "outcome": "lost" if record.is_loser else record.outcome.value,
                "reason": record.error.reason.name if record.error else None,
                "status": record.http_status or None,
                "mended": record.mended_events or None,
                "started_us": record.started_us,
                "ended_us": record.ended_us,
                "first_content_us": sum(record.phases_us.values())
                if "first_content" in record.phases_us
                else None,
                "cached_tokens": record.cached_tokens or None,
                "tokens_seen": record.tokens_seen or None,
                "cost_micro_usd": record.cost,
                "cost_upper_micro_usd": record.cost_upper,
            }
            for record in end.attempts
        ],
        hedge=_hedge_fields(end.hedge, is_wished=policy.hedge.mode == "race"),
        wish=_wish(request, prompt_estimate, committed_s),
        prompt_tokens=usage.prompt_tokens if usage else None,
        completion_tokens=usage.completion_tokens if usage else None,
        usage_estimated=usage.is_estimated if usage else None,
        wall_us=end.wall_us,
        timeline_us=end.phases_us,
        stalls=end.stall_count,
        longest_gap_us=end.longest_gap_us,
        cancel_us=end.cancel_us,
    )


def _hedge_fields(hedge: HedgeRecord | None, *, is_wished: bool) -> dict[str, object] | None:
    """What the log tells of a hedge: None where nothing was to be decided, nor asked for."""
    if hedge is None or (hedge.reason == "disabled" and not is_wished):
        return None
    is_timed = hedge.delay_us is not None and not hedge.is_shadow
    found: dict[str, object] = {}
    for name, shown in _HEDGE_FIELDS:
        value = getattr(hedge, name)
        if value not in (None, "", False) or (is_timed and name in _ALWAYS_TOLD):
            found[shown] = value
    return found


def _wish(
    request: GenerateRequest, prompt_estimate: int | None, committed_s: float | None
) -> dict[str, object] | None:
    """What the request asked of the plan: all of it that `relay replay` needs beside the answer.
    None where it asked for nothing and nothing was sent."""
    policy, hedge = request.policy, request.policy.hedge
    fields: dict[str, object] = {
        "prompt_estimate": prompt_estimate,
        "max_output_tokens": request.sampling.max_output_tokens,
        "first_token_s": policy.budgets.first_token_s,
        "session": policy.session_id[:MAX_SHOWN_CHARS],
        "tenant": policy.tenant,
        "commit_on": policy.commit_on if policy.commit_on != "first_content" else None,
        "speculative": policy.speculative,
        "committed_s": committed_s,
        "hedge": hedge.mode if hedge.mode != "auto" else None,
        "delay_s": hedge.delay_s,
        "max_attempts": hedge.max_attempts,
    }
    return {name: value for name, value in fields.items() if value not in (None, "", False)} or None
