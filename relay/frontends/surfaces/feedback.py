"""`POST /v1/feedback`: what a user thinks of an answer; and the same by gRPC."""

from __future__ import annotations

from typing import Any, Final

import orjson
from rtrelay.v1 import relay_pb2 as relay_pb

from relay.dispatch import Services
from relay.errors import InvalidRequest, shown
from relay.frontends.asgi import Receive, Scope, Send, send_answer
from relay.frontends.caller import Caller, caller_of
from relay.frontends.http_generation import HttpSettings, read_json, request_id_headers
from relay.frontends.proto_in import parse
from relay.governance.feedback import checked

PATH: Final = "/v1/feedback"
MAX_BYTES: Final = 65_536
"""Of one: a comment of two thousand characters, however they are escaped."""
_FIELDS: Final = ("request_id", "score", "label", "comment")


async def feedback(
    services: Services,
    settings: HttpSettings,
    scope: Scope,
    receive: Receive,
    send: Send,
    request_id: str,
) -> None:
    """Serve one request to its end.

    Raises:
        RelayError: nothing was sent; the caller answers.
        ClientCancelled: it went away before its request was read.
    """
    max_bytes = min(MAX_BYTES, settings.max_request_bytes)
    body: dict[str, Any] = await read_json(scope, receive, max_bytes)
    for name in body:
        if name not in _FIELDS:
            raise InvalidRequest(
                f"{shown(name)} is not known; known are {', '.join(_FIELDS)}", field=shown(name)
            )
    word = checked(*(body.get(name) for name in _FIELDS))
    caller = caller_of(scope)
    given = await services.feedback.give(word, caller.tenant, caller.key_id)
    value = {
        "object": "feedback",
        "request_id": word.request_id,
        "counts_for_experiment": given.counts_for_experiment,
    }
    await send_answer(send, 200, orjson.dumps(value), request_id_headers(request_id))


async def feedback_message(services: Services, data: bytes, caller: Caller) -> bytes:
    """Serve one `FeedbackRequest`; the bytes of its answer.

    Raises:
        RelayError
    """
    asked = parse(relay_pb.FeedbackRequest, data, MAX_BYTES)
    score = asked.score if asked.HasField("score") else None
    word = checked(asked.request_id, score, asked.label, asked.comment)
    given = await services.feedback.give(word, caller.tenant, caller.key_id)
    return relay_pb.FeedbackResponse(
        counts_for_experiment=given.counts_for_experiment
    ).SerializeToString()
