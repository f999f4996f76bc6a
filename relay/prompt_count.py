"""How many tokens a prompt has: the provider's own count where its wire has one, else an estimate.

The first candidate of the route is asked, since its count is the one that would be paid for. It is
no generation: nothing is raced, and the provider's limits, breaker and price know nothing of it; of
the caller's limits it is a request, else who has used them up could ask the provider on and on. A
provider that cannot say, or not in time, costs the caller nothing but exactness; one that refuses
the prompt itself is heard.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final, NamedTuple

import structlog

from relay.codecs.base import CountsTokens
from relay.content import GenerateRequest
from relay.credentials.refusals import is_credential_refused
from relay.dispatch import Services
from relay.errors import (
    Draining,
    OutsideZones,
    Reason,
    RelayError,
    Source,
)
from relay.governance.ledger import Asked, RateState
from relay.redaction import redact
from relay.routing.target import Target
from relay.tokens import estimate_prompt_tokens
from relay.transport.base import UpstreamRequest

_log = structlog.get_logger("relay.prompt_count")

MOST_S: Final = 5.0
"""From the question to the count: it comes within some hundred milliseconds, or is not worth it."""

_MAX_BODY_BYTES: Final = 64 * 1024

_SURFACE: Final = "count_tokens"
_HEARD: Final = frozenset({Reason.UPSTREAM_REJECTED, Reason.UPSTREAM_CONTENT_BLOCKED})


class PromptCount(NamedTuple):
    """Tokens of a prompt."""

    tokens: int
    is_estimated: bool
    target: Target
    """Whose tokens they are."""
    rate_state: RateState | None = None
    """Where the caller stands with his limits; None where there are none."""


async def count_prompt(
    services: Services, request: GenerateRequest, request_id: str
) -> PromptCount:
    """
    Args:
        request_id: the relay's own.

    Raises:
        UnknownModel: no target has this name.
        PermissionDenied, Unauthenticated, StoreDown: as `relay.governance.grants.granted`.
        LimitReached: the caller's requests of this minute are used up.
        Draining: this worker is shutting down.
        GuardrailBlocked: a guardrail refuses it.
        UnsupportedFeature, InvalidRequest: the target's wire cannot say something of it.
        UpstreamStatus: the provider refuses the prompt.

    Cancelled: the provider's stream is reset.
    """
    if services.is_draining:
        raise Draining("this relay is shutting down; connect again")
    course = services.course
    if course is not None:
        request = course.choose(request, _SURFACE, estimate_prompt_tokens(request))
    asked = Asked(request_id, request, services.catalog, _SURFACE, 0)
    allowed, route, rate_state = await services.ledger.count(asked)
    request = allowed  # with the tags of the key, which guardrails may be for, and its zones
    if course is not None:
        request = await course.checked(request, _SURFACE)
    target = route.candidates[0]
    zones = allowed.policy.zones
    try:
        if zones is not None and target.zone not in zones:
            _log.error("target_outside_zones", provider=target.endpoint.provider)
            raise OutsideZones(f"{target.name} is outside the request's data zones")
        async with asyncio.timeout(MOST_S):
            tokens = await _ask(services, request, target)
    except TimeoutError:
        tokens = None
    except RelayError as error:
        redact(error, target.endpoint.secrets())
        if error.source is Source.DOWNSTREAM or error.reason in _HEARD:
            raise
        tokens = None
    if tokens is None:
        return PromptCount(estimate_prompt_tokens(request), True, target, rate_state)
    return PromptCount(tokens, False, target, rate_state)


async def _ask(services: Services, request: GenerateRequest, target: Target) -> int | None:
    """The provider's count; None where its wire or its door gives none, or it is not to be read.

    Raises:
        RelayError: what was asked cannot be said, or the provider did not answer.
    """
    endpoint = target.endpoint
    codec = endpoint.make_codec()
    if not isinstance(codec, CountsTokens):
        return None
    encoded = codec.encode_count(request, target.model)
    if encoded is None:
        return None
    path = endpoint.base_path + encoded.path
    is_second = False
    while True:
        headers, sent = endpoint.signed(
            "POST", path, encoded.headers, encoded.body, time.time(), request.policy.session_id
        )
        stream = await services.transport.open(
            endpoint.origin,
            UpstreamRequest("POST", path, headers, encoded.body),
            connect_timeout_s=MOST_S,
        )
        try:
            body = bytearray()
            async for chunk in stream.chunks():
                body += chunk
                if len(body) > _MAX_BODY_BYTES:
                    return None
        finally:
            await stream.aclose()
        try:
            return codec.decode_count(stream.status, stream.headers, bytes(body))
        except RelayError as error:
            # With a credential that is another one now it is asked once more.
            if is_second or not is_credential_refused(error, stream.status, stream.headers):
                raise
            if not endpoint.credential.answered(
                stream.status, stream.headers, sent, time.time(), services.clock()
            ):
                raise
            is_second = True
