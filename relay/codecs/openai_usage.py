"""Token counts of OpenAI-compatible hosts, normalised to OpenAI's way of counting."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from relay.codecs.token_counts import token_count, usage_of
from relay.content import Usage

_RESPONSES_NAMES: Final[Mapping[str, str]] = {
    "prompt_tokens": "input_tokens",
    "prompt_tokens_details": "input_tokens_details",
    "completion_tokens": "output_tokens",
    "completion_tokens_details": "output_tokens_details",
    "total_tokens": "total_tokens",
}


def normalise(counts: Mapping[str, Any], raw: Mapping[str, Any] | None = None) -> Usage | None:
    """Counts from a `usage` object, None when it holds none.

    A negative or absurd count is clamped, and the result then marked as estimated; so is one of
    which a part is not told.

    Args:
        counts: by the names of chat completions.
        raw: the provider's own object, if it has other names.
    """
    prompt = token_count(counts.get("prompt_tokens"))
    completion = token_count(counts.get("completion_tokens"))
    total = token_count(counts.get("total_tokens"))
    if prompt is None and completion is None and total is None:
        return None
    prompt_details = counts.get("prompt_tokens_details")
    completion_details = counts.get("completion_tokens_details")
    cached = cache_write = reasoning = None
    if isinstance(prompt_details, dict):
        cached = token_count(prompt_details.get("cached_tokens"))
        cache_write = token_count(prompt_details.get("cache_write_tokens"))
    if cached is None:
        cached = token_count(counts.get("prompt_cache_hit_tokens"))  # DeepSeek
    if isinstance(completion_details, dict):
        reasoning = token_count(completion_details.get("reasoning_tokens"))

    is_whole = prompt is not None and (completion is not None or total is not None)
    if total is not None:  # a part that is left out is what the others leave
        if prompt is None:
            prompt = total - (completion or 0)
            is_whole = completion is not None
        elif completion is None:
            completion = total - prompt
    prompt, completion = prompt or 0, completion or 0
    if reasoning and total == prompt + completion + reasoning:
        # xAI counts reasoning beside the completion: 291 + 26 + 196 = 513.
        completion += reasoning
    return usage_of(
        prompt,
        completion,
        total,
        cached=cached,
        cache_write=cache_write,
        reasoning=reasoning,
        raw=counts if raw is None else raw,
        is_whole=is_whole,
    )


def normalise_responses(raw: Mapping[str, Any]) -> Usage | None:
    """Counts from the `usage` object of the Responses API, which has other names for the same."""
    return normalise({name: raw.get(other) for name, other in _RESPONSES_NAMES.items()}, raw)
