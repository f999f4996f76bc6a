"""How a client of OpenAI's chat wants its answer: as events or whole, with usage or without."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from relay.errors import InvalidRequest


class StreamOptions(NamedTuple):
    """`stream` and `stream_options` of a body."""

    is_streamed: bool
    wants_usage: bool


def read_stream_options(body: Mapping[str, Any]) -> StreamOptions:
    """
    Raises:
        InvalidRequest: one of them is wrong, or usage is asked of what is no stream.
    """
    stream = body.get("stream")
    if stream is not None and not isinstance(stream, bool):
        raise InvalidRequest("stream must be true or false", field="stream")
    options = body.get("stream_options")
    if options is None:
        return StreamOptions(bool(stream), False)
    if not isinstance(options, dict):
        raise InvalidRequest("stream_options must be an object", field="stream_options")
    if not stream:
        raise InvalidRequest("stream_options needs stream: true", field="stream_options")
    wants_usage = options.get("include_usage")
    if wants_usage is not None and not isinstance(wants_usage, bool):
        raise InvalidRequest(
            "stream_options.include_usage must be true or false",
            field="stream_options.include_usage",
        )
    return StreamOptions(True, bool(wants_usage))
