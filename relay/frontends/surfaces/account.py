"""What an answer says of itself in OpenAI's words: its tokens, and the relay's own account."""

from __future__ import annotations

from typing import Any

import orjson

from relay.content import Usage
from relay.outcome import GenerationEnd


def usage_object(usage: Usage) -> dict[str, Any]:
    """Usage as OpenAI counts it, over the provider's own extra fields."""
    value: dict[str, Any] = {}
    if usage.raw_json:
        raw = orjson.loads(usage.raw_json)
        if isinstance(raw, dict):
            value = raw
    value["prompt_tokens"] = usage.prompt_tokens
    value["completion_tokens"] = usage.completion_tokens
    value["total_tokens"] = usage.total_tokens
    if usage.cached_tokens is not None:
        _details(value, "prompt_tokens_details")["cached_tokens"] = usage.cached_tokens
    if usage.reasoning_tokens is not None:
        _details(value, "completion_tokens_details")["reasoning_tokens"] = usage.reasoning_tokens
    return value


def _details(value: dict[str, Any], key: str) -> dict[str, Any]:
    details = value.get(key)
    if not isinstance(details, dict):
        details = value[key] = {}
    return details


def relay_object(end: GenerationEnd) -> dict[str, Any]:
    """The `x_relay` field: the whole timeline and the attempts."""
    return {
        "provider": end.provider,
        "model": end.model,
        "usage_final": end.is_usage_final,
        "usage_estimated": bool(end.usage and end.usage.is_estimated),
        "wall_us": end.wall_us,
        "timeline_us": end.phases_us,
        "stalls": end.stall_count,
        "longest_gap_us": end.longest_gap_us,
        "attempts": [
            {
                "provider": record.provider,
                "model": record.model,
                "outcome": record.outcome.value,
                "reason": record.error.reason.name if record.error else None,
                "started_us": record.started_us,
                "ended_us": record.ended_us,
                "winner": record.is_winner,
            }
            for record in end.attempts
        ],
    }
