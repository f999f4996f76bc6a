"""Token counts of OpenAI-compatible hosts, normalised to OpenAI's way of counting."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from relay.codecs import lenient_json
from relay.codecs.token_counts import count, to_usage
from relay.content import Usage


def normalise(raw: Mapping[str, Any]) -> Usage | None:
    """Counts from a `usage` object, None when it holds none.

    A negative or absurd count is clamped, and the result then marked as estimated.
    """
    prompt = count(raw.get("prompt_tokens"))
    completion = count(raw.get("completion_tokens"))
    total = count(raw.get("total_tokens"))
    if prompt is None and completion is None and total is None:
        return None
    prompt_details = raw.get("prompt_tokens_details")
    completion_details = raw.get("completion_tokens_details")
    cached = cache_write = reasoning = None
    if isinstance(prompt_details, dict):
        cached = count(prompt_details.get("cached_tokens"))
        cache_write = count(prompt_details.get("cache_write_tokens"))
    if cached is None:
        cached = count(raw.get("prompt_cache_hit_tokens"))  # DeepSeek
    if isinstance(completion_details, dict):
        reasoning = count(completion_details.get("reasoning_tokens"))

    prompt, completion = prompt or 0, completion or 0
    if reasoning and total == prompt + completion + reasoning:
        # xAI counts reasoning beside the completion: 291 + 26 + 196 = 513.
        completion += reasoning
    if total is None:
        total = prompt + completion
    return to_usage(
        prompt,
        completion,
        total,
        cached=cached,
        cache_write=cache_write,
        reasoning=reasoning,
        raw_json=lenient_json.dumps(raw),
    )
