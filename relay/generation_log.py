"""The one line that the log has of a generation: what people grep, and `relay replay` reads.

A field that has nothing to say is null. Units are in the names: microseconds, micro-dollars.
Where only a share is logged, the line says by which it was chosen (`share`): a line stands for
1/share generations.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields

import structlog

from relay.content import FinishReason, GenerateRequest
from relay.decision import Decision
from relay.errors import MAX_SHOWN_CHARS
from relay.logs import hidden
from relay.outcome import Ended, HedgeRecord
from relay.trace_context import is_in_share, trace_id, trace_of

_log = structlog.get_logger("relay.generation")

_HEDGE_FIELDS = tuple(
    (field.name, f"{field.name}_micro_usd" if "cost" in field.name else field.name)
    for field in fields(HedgeRecord)
)
"""Attribute, and name in the log, which has its unit."""
_ALWAYS_TOLD = frozenset({"fired", "won"})
"""Of a hedge that was decided on, also where they are 0 and False."""


class GenerationLog:
    """Logs those of a share, and always those that failed, were hedged, stalled or were slow; a
    `Listener`.

    Args:
        share: 0 to 1; by the trace's id, so that of a trace all is logged or nothing, and the same
            is kept of its spans where their share is the same.
        slow_us: until the first content.
        makes_traces: spans are made: a generation of nobody's trace has one of its own.
    """

    def __init__(self, share: float, slow_us: int, *, makes_traces: bool) -> None:
        self._share = share
        self._slow_us = slow_us
        self._makes_traces = makes_traces
        self.left_out = 0

    def __call__(self, ended: Ended) -> None:
        """Log it, or count it."""
        policy = ended.request.policy
        told = trace_id(policy.traceparent)
        if self._share >= 1.0 and (told or not self._makes_traces):
            log_end(ended)
            return
        made = told or trace_of(ended.generation_id, "").trace_id
        shown = made if self._makes_traces else told
        if self._is_kept(ended):
            log_end(ended, trace=shown, share=1.0 if self._share < 1.0 else None)
        elif is_in_share(made, self._share):
            log_end(ended, trace=shown, share=self._share if self._share < 1.0 else None)
        else:
            self.left_out += 1

    def _is_kept(self, ended: Ended) -> bool:
        end = ended.end
        return (
            ended.is_failure
            or len(end.attempts) > 1
            or end.stall_count > 0
            or ended.first_content_us > self._slow_us
        )


def log_end(ended: Ended, *, trace: str = "", share: float | None = None) -> None:
    """Log how a generation ended, with its whole timeline; no prompt, no output, no key.

    Args:
        trace: the id of the trace it is in; the client's if empty.
        share: of generations such as this one, how many are logged; None where all are.
    """
    end, request = ended.end, ended.request
    policy, error, usage = request.policy, end.error, end.usage
    _log.info(
        "generation",
        id=ended.generation_id,
        client_id=hidden(ended.client_id) or None,
        frontend=ended.frontend,
        asked=hidden(request.model)[:MAX_SHOWN_CHARS],
        turn=hidden(policy.turn_id) or None,
        trace_id=trace or trace_id(policy.traceparent) or None,
        client=hidden(policy.client) or None,
        key=policy.key_id or None,
        tags=tuple(map(hidden, policy.tags)) or None,
        labels=_hidden(policy.labels),
        provider=end.provider or None,
        model=hidden(end.model) or None,
        status=error.status_code.name if error else "OK",
        reason=error.reason.name if error else None,
        finish=FinishReason(end.finish_reasons[0]).name if 0 in end.finish_reasons else None,
        attempts=[
            {
                "target": hidden(f"{record.provider}/{record.model}"),
                "leg": record.leg or None,
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
        wish=_wish(request, ended.prompt_estimate, ended.committed_s),
        prompt_tokens=usage.prompt_tokens if usage else None,
        completion_tokens=usage.completion_tokens if usage else None,
        usage_estimated=usage.is_estimated if usage else None,
        wall_us=end.wall_us,
        timeline_us=end.phases_us,
        stalls=end.stall_count,
        longest_gap_us=end.longest_gap_us,
        cancel_us=end.cancel_us,
        decision=_decision(end.decision),
        share=share,
    )


def _decision(decision: Decision | None) -> dict[str, object] | None:
    if decision is None:
        return None
    found = decision.as_dict()
    if decision.asked:  # the client's own word
        found["asked"] = hidden(decision.asked)[:MAX_SHOWN_CHARS]
    return found


def _hidden(labels: Mapping[str, str]) -> dict[str, str] | None:
    return {hidden(name): hidden(value) for name, value in labels.items()} or None


def _hedge_fields(hedge: HedgeRecord | None, *, is_wished: bool) -> dict[str, object] | None:
    """What the log tells of a hedge: None where nothing was to be decided, nor asked for."""
    if hedge is None or (hedge.reason == "disabled" and not is_wished):
        return None
    is_timed = hedge.delay_us is not None and not hedge.is_shadow
    found: dict[str, object] = {}
    for name, shown in _HEDGE_FIELDS:
        value = getattr(hedge, name)
        if value not in (None, "", False) or (is_timed and name in _ALWAYS_TOLD):
            found[shown] = hidden(value) if name == "second" else value
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
        "session": hidden(policy.session_id)[:MAX_SHOWN_CHARS],
        "tenant": policy.tenant,
        "commit_on": policy.commit_on if policy.commit_on != "first_content" else None,
        "speculative": policy.speculative,
        "committed_s": committed_s,
        "hedge": hedge.mode if hedge.mode != "auto" else None,
        "delay_s": hedge.delay_s,
        "max_attempts": hedge.max_attempts,
    }
    return {name: value for name, value in fields.items() if value not in (None, "", False)} or None
