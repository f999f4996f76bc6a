"""`POST /v1/responses`: OpenAI's Responses API; and what is kept of it, where that is on."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any, Final

import orjson

from relay.content import Policy
from relay.errors import InvalidRequest, RelayError, shown
from relay.frontends.body_fields import typed, wrong
from relay.frontends.http_errors import error_body, error_object
from relay.frontends.limits import MAX_NODES
from relay.frontends.response_store import ResponseNotFound, ResponseStore, Turn
from relay.frontends.responses_body import Earlier, previous_response_id, to_request
from relay.frontends.surface import Asked
from relay.frontends.surfaces.responses_stream import (
    Keep,
    ResponseCollector,
    ResponseEncoder,
    ResponseFrame,
)

_NOT_FOUND: Final = "previous_response_not_found"


class _PreviousNotFound(InvalidRequest):
    """400 and a code of its own, on which clients send the whole conversation again."""

    def __init__(self, response_id: str) -> None:
        super().__init__(
            f"Previous response with id '{shown(response_id)}' not found.",
            field="previous_response_id",
        )


class Responses:
    """See `relay.frontends.surface.Surface`.

    Args:
        store: None keeps nothing, and `previous_response_id` is refused.
        clock: seconds, for the store.
        max_conversation_bytes: of what `previous_response_id` may bring in.
    """

    name: Final = "responses"
    max_nodes: Final = MAX_NODES

    def __init__(
        self,
        store: ResponseStore | None,
        clock: Callable[[], float],
        max_conversation_bytes: int,
    ) -> None:
        self._store = store
        self._clock = clock
        self._max_conversation_bytes = max_conversation_bytes

    def wants_stream(self, body: dict[str, Any]) -> bool:
        return bool(typed(body, "stream", bool))

    def read(self, body: dict[str, Any], policy: Policy) -> Asked:
        turns = self._earlier(previous_response_id(body), policy.tenant)
        pieces = tuple(piece for turn in turns for piece in (turn.asked, turn.answered))
        read = to_request(body, policy, Earlier(pieces) if turns else None)
        response_id = f"resp_{secrets.token_hex(24)}"
        keep = self._keeper(response_id, policy.tenant, turns, read.input_items, read.store)
        frame = ResponseFrame(
            response_id,
            read.request.model,
            {**read.echo, "store": keep is not None},
            service_tier=read.request.service_tier,
            with_logprobs=read.wants_logprobs,
            with_relay=policy.timeline,
            keep=keep,
        )
        if self.wants_stream(body):
            return Asked(read.request, ResponseEncoder(frame), None)
        return Asked(read.request, None, ResponseCollector(frame))

    def error_body(self, error: RelayError, request_id: str) -> bytes:
        if isinstance(error, _PreviousNotFound):
            told: Any = error_object(error, request_id)
            told["error"]["code"] = _NOT_FOUND
            return orjson.dumps(told)
        return error_body(error, request_id)

    # --- what is kept -----------------------------------------------------------------------

    def _earlier(self, response_id: str, tenant: str) -> tuple[Turn, ...]:
        if not response_id:
            return ()
        if self._store is None:
            raise wrong(
                "previous_response_id",
                "needs responses to be kept, which this relay does not"
                " (server.http.responses_store): send the whole conversation as input",
            )
        try:
            turns = self._store.conversation(tenant, response_id, self._clock())
        except ResponseNotFound:
            raise _PreviousNotFound(response_id) from None
        if sum(turn.size_bytes for turn in turns) > self._max_conversation_bytes:
            raise wrong("previous_response_id", "names a conversation that is too large to go on")
        return turns

    def _keeper(
        self,
        response_id: str,
        tenant: str,
        earlier: tuple[Turn, ...],
        asked: list[Any],
        is_allowed: bool,
    ) -> Keep | None:
        store = self._store
        if store is None or not is_allowed:
            return None
        asked_json = orjson.dumps(asked)

        def keep(document: bytes, items: bytes) -> None:
            turns = (*earlier, Turn(asked_json, items))
            store.put(tenant, response_id, document, turns, self._clock())

        return keep
