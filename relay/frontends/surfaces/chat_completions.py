"""`POST /v1/chat/completions`: OpenAI's chat API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from relay.content import Policy
from relay.errors import InvalidRequest, RelayError
from relay.frontends.chat_body import to_request
from relay.frontends.http_errors import error_body
from relay.frontends.surface import Asked
from relay.frontends.surfaces.chat_stream import ChatChunkEncoder, ChatCollector


class ChatCompletions:
    """See `relay.frontends.surface.Surface`."""

    name: Final = "chat_completions"

    def wants_stream(self, body: dict[str, Any]) -> bool:
        return _stream_options(body)[0]

    def read(self, body: dict[str, Any], policy: Policy) -> Asked:
        wants_stream, wants_usage = _stream_options(body)
        request = to_request(body, policy)
        if not wants_stream:
            collector = ChatCollector(request.model, with_relay=policy.timeline)
            return Asked(request, None, collector)
        encoder = ChatChunkEncoder(
            request.model, with_usage=wants_usage, with_relay=policy.timeline
        )
        return Asked(request, encoder, None)

    def error_body(self, error: RelayError, request_id: str) -> bytes:
        return error_body(error, request_id)


def _stream_options(body: Mapping[str, Any]) -> tuple[bool, bool]:
    stream = body.get("stream")
    if stream is not None and not isinstance(stream, bool):
        raise InvalidRequest("stream must be true or false", field="stream")
    options = body.get("stream_options")
    if options is None:
        return bool(stream), False
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
    return True, bool(wants_usage)
