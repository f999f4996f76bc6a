"""Token counts of the Messages API, normalised to OpenAI's way of counting.

`input_tokens` leaves out what was read from the cache or written to it; OpenAI's prompt count
has both inside. `output_tokens` includes thinking on either side. The wire sends its counts in
two pieces, the second cumulative, so that they are merged and never added.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from relay.codecs.token_counts import token_count, usage_of
from relay.content import Usage

MAX_NAMES: Final = 64
"""Of counts and what stands beside them; only keeps a mad peer from filling memory."""


def merge(held: dict[str, Any], news: Mapping[str, Any]) -> None:
    """Put later counts over earlier ones; a null says nothing where there is a count already."""
    for name, value in news.items():
        if name not in held and len(held) >= MAX_NAMES:
            continue
        if value is not None or name not in held:
            held[name] = value


def normalise(raw: Mapping[str, Any]) -> Usage | None:
    """Counts from a `usage` object, None when it holds none.

    A negative or absurd count is clamped, and the result then marked as estimated.
    """
    fresh = token_count(raw.get("input_tokens"))
    output = token_count(raw.get("output_tokens"))
    cached = token_count(raw.get("cache_read_input_tokens"))
    written = token_count(raw.get("cache_creation_input_tokens"))
    if fresh is None and output is None:
        return None
    details = raw.get("output_tokens_details")
    return usage_of(
        (fresh or 0) + (cached or 0) + (written or 0),
        output or 0,
        None,
        cached=cached,
        cache_write=written,
        reasoning=token_count(details.get("thinking_tokens")) if type(details) is dict else None,
        raw=raw,
    )
