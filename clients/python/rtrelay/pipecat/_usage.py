"""Token counts in Pipecat's terms."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipecat.metrics.metrics import LLMTokenUsage

if TYPE_CHECKING:
    from rtrelay.v1 import End


def usage_of(end: End) -> LLMTokenUsage | None:
    """The tokens of an answer, the relay's own count where the provider gave none (after a cancel);
    None if no provider was asked."""
    if not end.HasField("usage"):
        return None
    usage = end.usage
    return LLMTokenUsage(
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        total_tokens=usage.total_tokens or usage.prompt_tokens + usage.completion_tokens,
        cache_read_input_tokens=usage.cached_tokens if usage.HasField("cached_tokens") else None,
        cache_creation_input_tokens=(
            usage.cache_write_tokens if usage.HasField("cache_write_tokens") else None
        ),
        reasoning_tokens=usage.reasoning_tokens if usage.HasField("reasoning_tokens") else None,
    )
