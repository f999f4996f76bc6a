"""One generation for one HTTP request, whichever API it came by.

The upstream is always asked for a stream, whatever the client wants: only so can the relay tell a
slow provider from a dead one. The HTTP head waits for the commit, so that a failure before the
first token has its own status and another provider can still answer; but no longer than
`commit_headers_after_s`: then 200 and comments, since proxies give up on silent connections.

A client that goes away is the only cancel there is: the generation ends at once. One that does not
read its stream loses the connection with the generation (`SLOW_CONSUMER`): nothing that is written
for it could arrive.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any

from relay.decision import Decision
from relay.dispatch import Services
from relay.errors import (
    ClientCancelled,
    EventTooLarge,
    GuardrailBlocked,
    RelayError,
    SlowConsumer,
)
from relay.frontends.asgi import (
    ABORT,
    BEGUN,
    STREAMS,
    RawHeaders,
    Receive,
    Scope,
    Send,
    read_body,
    send_answer,
)
from relay.frontends.caller import caller_of
from relay.frontends.chat_body import decode_json
from relay.frontends.http_errors import http_status, retry_headers
from relay.frontends.http_exchange import exchange_of, piece_writer
from relay.frontends.kept_answers import Answer, AnswerLimits, Claim, KeptAnswers, digest_of
from relay.frontends.limits import MAX_NODES, Allowance
from relay.frontends.rate_headers import rate_headers
from relay.frontends.request_policy import POLICY_KEYS, read_policy
from relay.frontends.response_store import StoreLimits
from relay.frontends.surface import Collector, StreamEncoder, Surface
from relay.generation import Generation
from relay.resilience.overload import RequestClass
from relay.sse import encode_comment

_SSE_HEADERS: RawHeaders = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # nginx would collect the stream otherwise
]

MODEL_OF_PATH = "rtrelay.model"
"""Of the scope: a model that the path names, which goes before the body's."""

_COMMENT = encode_comment("relay: waiting for the provider")

_LARGE_BYTES = 256 * 1024
"""From here on a body is read step by step, so that others are served in between: the largest that
is accepted takes a tenth of a second in all."""


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """What is needed of the configuration."""

    max_request_bytes: int
    commit_headers_after_s: float
    comment_interval_s: float
    responses_store: StoreLimits | None = None
    """None keeps no responses."""
    kept_answers: AnswerLimits = field(default_factory=AnswerLimits)
    origins: tuple[str, ...] = ()
    """Of pages that may open a WebSocket; `*` for all."""


async def serve_generation(
    surface: Surface,
    services: Services,
    settings: HttpSettings,
    answers: KeptAnswers,
    scope: Scope,
    receive: Receive,
    send: Send,
    request_id: str,
) -> None:
    """Serve one request to its end, or give the answer that it had before.

    Raises:
        DownstreamError: before anything was sent; the caller answers.
        ClientCancelled: it went away before its request was read.
    """
    received_s = services.clock()
    raw = await read_body(scope, receive, settings.max_request_bytes)
    is_large = len(raw) > _LARGE_BYTES
    body = await _decode(raw, surface.max_nodes)
    caller = caller_of(scope)
    policy, model = read_policy(scope, body, caller)
    if policy.is_batch and not caller.is_batch:  # its body alone says so
        services.overload.check(RequestClass.BATCH)
    is_streamed = surface.wants_stream(body)
    for key in POLICY_KEYS:
        body.pop(key, None)
    if model := model or scope.get(MODEL_OF_PATH, ""):
        body["model"] = model
    key, digest = policy.idempotency_key, b""
    if key:
        digest = digest_of(scope["path"].encode(), model.encode(), raw)
    del raw
    if is_streamed:
        await send({"type": STREAMS})
    asked = surface.read(body, policy)
    if is_large:
        await asyncio.sleep(0)
    exchange = exchange_of(send)
    claim: Claim | None = None
    if key:
        # By key: what one may ask for, another of the same team perhaps may not.
        found = answers.claim(policy.key_id or policy.tenant, key, digest, send)
        if isinstance(found, Answer):
            await found.send(send, request_id_headers(request_id))
            return
        claim, send = found, found.send
    generation = Generation(
        services,
        asked.request,
        generation_id=request_id,
        frontend=surface.name,
        received_s=received_s,
    )
    scope[BEGUN] = True
    listener: asyncio.Task[None] | None = None
    if exchange is not None:
        exchange.when_lost(lambda: generation.cancel(_gone()))
    else:
        waiting = _cancel_on_disconnect(receive, generation)
        listener = asyncio.get_running_loop().create_task(waiting)
    try:
        if asked.answer is not None:
            await _Stream(surface, generation, asked.answer, settings, send, request_id).run()
        elif asked.document is not None:
            await _whole(surface, generation, asked.document, send, request_id)
    finally:
        if claim is not None:
            claim.settle(is_clean=generation.end is not None and generation.end.error is None)
        if listener is not None:
            listener.cancel()
            await asyncio.wait([listener])


async def read_json(scope: Scope, receive: Receive, max_bytes: int) -> dict[str, Any]:
    """The body of a request as a JSON object, bounded in bytes, values and depth.

    Raises:
        InvalidRequest, RequestTooLarge: it is none, or beyond the bounds.
        ClientCancelled: the client went away before its end.
    """
    return await _decode(await read_body(scope, receive, max_bytes))


async def _decode(raw: bytes, max_nodes: int = MAX_NODES) -> dict[str, Any]:
    is_large = len(raw) > _LARGE_BYTES
    nodes = Allowance(max_nodes).take_json(raw, "body")
    if is_large:
        await asyncio.sleep(0)
    body = decode_json(raw, max_nodes, nodes=nodes)
    if is_large:
        await asyncio.sleep(0)
    return body


async def _cancel_on_disconnect(receive: Receive, generation: Generation) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    generation.cancel(_gone())


def _gone() -> ClientCancelled:
    return ClientCancelled("the client closed the connection")


def _relay_headers(surface: Surface, generation: Generation, request_id: str) -> RawHeaders:
    """Who answered, how long each phase up to the first content took, and where the caller stands
    with his limits."""
    decision = generation.decision
    headers = [
        *request_id_headers(request_id),
        (b"x-relay-attempts", b"%d" % generation.attempts_started),
        (b"x-relay-cache", b"off" if decision is None else decision.cache.encode()),
    ]
    if (winner := generation.winner) is not None:
        headers.append((b"x-relay-provider", header_text(winner.provider)))
        headers.append((b"x-relay-model", header_text(winner.model)))
    phases = generation.timeline.until_first_content()
    if phases:
        timing = ", ".join([f"{name};dur={us / 1000:.3f}" for name, us in phases.items()])
        headers.append((b"server-timing", timing.encode()))
    if (state := generation.rate_state) is not None:
        headers += rate_headers(surface.name, state, time.time())
    return headers


def request_id_headers(request_id: str) -> RawHeaders:
    """The relay's name for a request; the second is where Anthropic's clients look for it."""
    named = request_id.encode()
    return [(b"x-relay-request-id", named), (b"request-id", named)]


def header_text(text: str) -> bytes:
    """A model's name comes from the caller: only visible ASCII may enter a header."""
    if text.isascii() and text.isprintable() and " " not in text:
        return text.encode()
    return "".join(c if "!" <= c <= "~" else "?" for c in text).encode()


class _Stream:
    """A streamed answer. The head is sent by whoever is first: the commit or the timer."""

    def __init__(
        self,
        surface: Surface,
        generation: Generation,
        encoder: StreamEncoder,
        settings: HttpSettings,
        send: Send,
        request_id: str,
    ) -> None:
        self._surface = surface
        self._generation = generation
        self._encoder = encoder
        self._settings = settings
        self._send = send
        self._request_id = request_id
        self._is_head_sent = False

    async def run(self) -> None:
        generation, encoder, send = self._generation, self._encoder, self._send
        write = piece_writer(send)
        is_released = False
        too_large: EventTooLarge | None = None
        encode_text = getattr(encoder, "encode_text", None)  # see `TextEncoder`
        if encode_text is not None:
            generation.pour_text_into(lambda delta: write(encode_text(delta)))
        async with generation:
            if not await self._commit_or_comment():
                pass  # the end is set; told below
            else:
                if not self._is_head_sent:
                    await self._send_head()
                async for events in generation:
                    try:
                        body = encoder.encode(events)
                    except EventTooLarge as error:
                        too_large = error
                        break
                    if body:
                        waiting = write(body)
                        if waiting is not None:
                            await waiting
                        if not is_released:
                            is_released = True
                            generation.released()
        if too_large is not None:
            await self._fail(too_large)
            return
        end = generation.end
        if end is None or isinstance(end.error, ClientCancelled):
            return  # nobody is there to read
        if isinstance(end.error, SlowConsumer):
            await send({"type": ABORT})
            return
        if end.error is not None:
            await self._fail(end.error)
            return
        await send({"type": "http.response.body", "body": encoder.encode_end(end)})

    async def _commit_or_comment(self) -> bool:
        """The race; past the limit, the head and then comments while it goes on."""
        commit_after_s = self._settings.commit_headers_after_s
        loop = asyncio.get_running_loop()
        commenting: asyncio.Task[None] | None = None

        def begin() -> None:
            nonlocal commenting
            commenting = loop.create_task(self._comment())

        timer = loop.call_later(commit_after_s, begin)
        try:
            return await self._generation.commit()
        finally:
            timer.cancel()
            if commenting is not None:
                commenting.cancel()
                await asyncio.wait([commenting])
                if not commenting.cancelled() and (error := commenting.exception()):
                    raise error

    async def _comment(self) -> None:
        """Head and comments until cancelled; a cancel never splits a write."""
        await self._send_head()
        while True:
            await self._send({"type": "http.response.body", "body": _COMMENT, "more_body": True})
            await asyncio.sleep(self._settings.comment_interval_s)

    async def _send_head(self) -> None:
        self._is_head_sent = True
        await self._send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [
                    *_SSE_HEADERS,
                    *_relay_headers(self._surface, self._generation, self._request_id),
                ],
            }
        )

    async def _fail(self, error: RelayError) -> None:
        """Before the head: an HTTP error. After it: an event that is no clean end."""
        if self._is_head_sent:
            data = self._encoder.encode_error(error, self._request_id)
            await self._send({"type": "http.response.body", "body": data})
            return
        await send_answer(
            self._send,
            http_status(error),
            self._surface.error_body(error, self._request_id),
            [
                *_relay_headers(self._surface, self._generation, self._request_id),
                *retry_headers(error),
            ],
        )


async def _whole(
    surface: Surface,
    generation: Generation,
    collector: Collector,
    send: Send,
    request_id: str,
) -> None:
    """One JSON document, nothing of it before the clean end."""
    async with generation:
        if await generation.commit():
            async for events in generation:
                collector.add(events)
                generation.released()
    end = generation.end
    if end is None or isinstance(end.error, ClientCancelled):
        return
    headers = _relay_headers(surface, generation, request_id)
    error = end.error or _withdrawn(end.decision)
    if error is not None:
        await send_answer(
            send,
            http_status(error),
            surface.error_body(error, request_id),
            [*headers, *retry_headers(error)],
        )
        return
    await send_answer(send, 200, collector.to_json(end), headers)


def _withdrawn(decision: Decision | None) -> GuardrailBlocked | None:
    """A guardrail that looks after release (`when: after`) has withdrawn text of an answer of which
    nothing has left yet: nothing leaves. None where it has not."""
    if decision is None or decision.retract_from is None:
        return None
    by = [one.guardrail for one in decision.guards if one.side == "output"]
    name = by[-1] if by else ""
    return GuardrailBlocked(
        "the answer was withdrawn by a guardrail", guardrail=name, side="output"
    )
