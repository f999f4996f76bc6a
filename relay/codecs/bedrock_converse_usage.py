"""Token counts of Converse, normalised to OpenAI's way of counting.

`inputTokens` leaves out what was read from the cache or written to it; OpenAI's prompt count has
both inside. `totalTokens` is not used: what it adds up is not said.

Source: AWS's page on prompt caching, 2026.
"""

from __future__ import annotations

from typing import Any

from relay.codecs.block_values import text_of
from relay.codecs.token_counts import token_count, usage_of
from relay.content import Usage


def normalise(raw: Any, tier: Any = None) -> Usage | None:
    """Counts from a `usage` object, None when it holds none, an estimate when it lacks one.

    Args:
        tier: the `serviceTier` beside it: what was had, which is the usual one where a dearer had
            no room. Kept with the provider's own object too.
    """
    if type(raw) is not dict:
        return None
    fresh, output = token_count(raw.get("inputTokens")), token_count(raw.get("outputTokens"))
    if fresh is None and output is None:
        return None
    cached = token_count(raw.get("cacheReadInputTokens"))
    written = token_count(raw.get("cacheWriteInputTokens"))
    return usage_of(
        (fresh or 0) + (cached or 0) + (written or 0),
        output or 0,
        None,
        cached=cached,
        cache_write=written,
        reasoning=None,
        raw={**raw, "serviceTier": tier} if type(tier) is dict else raw,
        is_whole=fresh is not None and output is not None,
        service_tier=text_of(tier.get("type")) if type(tier) is dict else "",
    )
