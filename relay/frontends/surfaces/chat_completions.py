"""`POST /v1/chat/completions`: OpenAI's chat API."""

from __future__ import annotations

from typing import Any, Final

from relay.content import Policy
from relay.errors import RelayError
from relay.frontends.chat_body import to_request
from relay.frontends.http_errors import error_body
from relay.frontends.legacy_functions import uses_functions
from relay.frontends.limits import MAX_NODES
from relay.frontends.stream_options import read_stream_options
from relay.frontends.surface import Asked
from relay.frontends.surfaces.chat_document import ChatCollector
from relay.frontends.surfaces.chat_stream import ChatChunkEncoder


class ChatCompletions:
    """See `relay.frontends.surface.Surface`."""

    name: Final = "chat_completions"
    max_nodes: Final = MAX_NODES

    def wants_stream(self, body: dict[str, Any]) -> bool:
        return read_stream_options(body).is_streamed

    def read(self, body: dict[str, Any], policy: Policy) -> Asked:
        wants_stream, wants_usage = read_stream_options(body)
        request = to_request(body, policy)
        if not wants_stream:
            collector = ChatCollector(
                request.model, with_relay=policy.timeline, as_functions=uses_functions(body)
            )
            return Asked(request, None, collector)
        encoder = ChatChunkEncoder(
            request.model,
            with_usage=wants_usage,
            with_relay=policy.timeline,
            as_functions=uses_functions(body),
        )
        return Asked(request, encoder, None)

    def error_body(self, error: RelayError, request_id: str) -> bytes:
        return error_body(error, request_id)
