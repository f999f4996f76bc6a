"""`POST /v1/messages`: Anthropic's Messages API.

`anthropic-version` is accepted and says nothing here: there is one version. The names of
`anthropic-beta` go on to providers of this wire, with those of the provider's row; other wires know
none of them.
"""

from __future__ import annotations

from typing import Any, Final

from relay.content import Policy
from relay.errors import InvalidRequest, RelayError
from relay.frontends.asgi import Scope
from relay.frontends.body_fields import typed
from relay.frontends.limits import MAX_LABEL_CHARS, MAX_NODES, MAX_TAGS, check_count
from relay.frontends.messages_body import to_request
from relay.frontends.messages_errors import error_body
from relay.frontends.surface import Asked
from relay.frontends.surfaces.messages_stream import MessageEventEncoder
from relay.frontends.surfaces.messages_whole import MessageCollector
from relay.tokens import estimate_prompt_tokens

_BETA_HEADER: Final = b"anthropic-beta"


class Messages:
    """See `relay.frontends.surface.Surface`; one object a request, whose headers it has read."""

    name: Final = "messages"
    max_nodes: Final = MAX_NODES

    def __init__(self, betas: tuple[str, ...] = ()) -> None:
        self._betas = betas

    @classmethod
    def of_scope(cls, scope: Scope) -> Messages:
        """The surface for one request.

        Raises:
            InvalidRequest: too many betas, or one of an absurd length.
        """
        return cls(betas_of(scope))

    def wants_stream(self, body: dict[str, Any]) -> bool:
        return bool(typed(body, "stream", bool))

    def read(self, body: dict[str, Any], policy: Policy) -> Asked:
        request = to_request(body, policy, betas=self._betas)
        shows, tells = request.want_reasoning, policy.timeline
        if not self.wants_stream(body):
            collector = MessageCollector(request.model, with_thinking=shows, with_relay=tells)
            return Asked(request, None, collector)
        encoder = MessageEventEncoder(
            request.model,
            lambda: estimate_prompt_tokens(request),
            with_thinking=shows,
            with_relay=tells,
        )
        return Asked(request, encoder, None)

    def error_body(self, error: RelayError, request_id: str) -> bytes:
        return error_body(error, request_id)


def betas_of(scope: Scope) -> tuple[str, ...]:
    """The names of all `anthropic-beta` headers of a request.

    Raises:
        InvalidRequest: too many of them, or one of an absurd length.
    """
    field = _BETA_HEADER.decode()
    betas: list[str] = []
    for name, value in scope["headers"]:
        if name == _BETA_HEADER:
            betas += [beta.strip() for beta in value.decode("latin-1").split(",", MAX_TAGS)]
    check_count(len(betas), MAX_TAGS, field)
    for beta in betas:
        if len(beta) > MAX_LABEL_CHARS or not beta.isascii() or not beta.isprintable():
            raise InvalidRequest(f"{field} holds a name that is none", field=field)
    return tuple(filter(None, betas))
