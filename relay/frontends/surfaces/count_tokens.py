"""`POST /v1/messages/count_tokens`: how many tokens a prompt of the Messages API has.

A provider of that very wire is asked; for others the count is the relay's own estimate, from bytes,
which the header `x-relay-tokens` says (`provider` or `estimated`).
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import orjson

from relay.dispatch import Services
from relay.errors import ClientCancelled
from relay.frontends.asgi import RawHeaders, Receive, Scope, Send, send_answer
from relay.frontends.caller import caller_of
from relay.frontends.http_generation import (
    HttpSettings,
    header_text,
    read_json,
    request_id_headers,
)
from relay.frontends.messages_body import to_request
from relay.frontends.rate_headers import rate_headers
from relay.frontends.request_policy import POLICY_KEYS, read_policy
from relay.frontends.surfaces.messages import betas_of
from relay.prompt_count import PromptCount, count_prompt


async def count_tokens(
    services: Services,
    settings: HttpSettings,
    scope: Scope,
    receive: Receive,
    send: Send,
    request_id: str,
) -> None:
    """Serve one request to its end.

    Raises:
        RelayError: before anything was sent; the caller answers.
        ClientCancelled: it went away; the provider's stream is reset.
    """
    body: dict[str, Any] = await read_json(scope, receive, settings.max_request_bytes)
    policy, model = read_policy(scope, body, caller_of(scope))
    for key in POLICY_KEYS:
        body.pop(key, None)
    if model:
        body["model"] = model
    request = to_request(body, policy, betas=betas_of(scope), needs_limit=False)
    counting = asyncio.ensure_future(count_prompt(services, request, request_id))
    leaving = asyncio.ensure_future(_left(receive))
    try:
        await asyncio.wait([counting, leaving], return_when=asyncio.FIRST_COMPLETED)
        if not counting.done():
            raise ClientCancelled("the client closed the connection")
        count = counting.result()
    finally:
        counting.cancel()
        leaving.cancel()
        await asyncio.wait([counting, leaving])
    value = orjson.dumps({"input_tokens": count.tokens})
    await send_answer(send, 200, value, [*request_id_headers(request_id), *_headers(count)])


def _headers(count: PromptCount) -> RawHeaders:
    limits: RawHeaders = []
    if count.rate_state is not None:
        limits = rate_headers("messages", count.rate_state, time.time())
    return [
        *limits,
        (b"x-relay-tokens", b"estimated" if count.is_estimated else b"provider"),
        (b"x-relay-provider", header_text(count.target.endpoint.provider)),
        (b"x-relay-model", header_text(count.target.model)),
    ]


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
