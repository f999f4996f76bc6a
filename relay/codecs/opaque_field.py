"""Provider fields that are passed on unread (`reasoning_details`, `logprobs`, ...), as events."""

from __future__ import annotations

from typing import Any

from relay.codecs import lenient_json
from relay.content import OpaqueDelta, StreamEvent


def pass_on(key: str, value: Any, events: list[StreamEvent], choice: int = 0) -> bool:
    """Append the field; False for one that no JSON of ours can hold (`lenient_json.dumps`).

    Such a field is left out and the answer goes on: frontends copy the JSON of an `OpaqueDelta`
    into their own as it stands, so that an empty one would break everything around it. The caller
    counts it in `Codec.mended_events`.
    """
    if value_json := lenient_json.dumps(value):
        events.append(OpaqueDelta(key, value_json, choice))
        return True
    return False
