"""A provider's `/moderations`, asked over the way that its generations go: its row's address,
credential, proxy and connections.

It is no generation: nothing is raced, and no account hears of it, since providers ask nothing for
it; whoever asks bounds it in time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from relay.credentials.refusals import refuses_who_asks
from relay.dispatch import Services
from relay.errors import RelayError
from relay.guardrails.asking import OF_THE_TEXTS, CannotTell, NotAsked
from relay.guardrails.moderation import PATH, Ask
from relay.routing.endpoint import Endpoint
from relay.transport.base import UpstreamRequest

MAX_ANSWER_BYTES: Final = 1024 * 1024
CONNECT_S: Final = 3.0
_HEADERS: Final = [("content-type", "application/json"), ("accept", "application/json")]


def moderations_of(
    services: Services, endpoint_of: Callable[[str], Endpoint | None]
) -> Callable[[str], Ask]:
    """By a provider's row, how it is asked.

    Args:
        endpoint_of: the row as it is now: a reload may have changed it.
    """

    def of(provider: str) -> Ask:
        async def ask(body: bytes, zones: frozenset[str] | None) -> bytes:
            endpoint = endpoint_of(provider)
            if endpoint is None:
                raise CannotTell("there is no such provider")
            if zones is not None and endpoint.data_zone not in zones:
                raise NotAsked("outside the request's data zones")
            try:
                return await _posted(services, endpoint, body)
            except RelayError as error:
                raise CannotTell(error.reason.name.lower()) from None

        return ask

    return of


async def _posted(services: Services, endpoint: Endpoint, body: bytes) -> bytes:
    """The body of a 200; asked once more where a credential was refused that is another one now.

    Raises:
        CannotTell: another status, or a body that is too long.
        RelayError: there was no answer.
    """
    path = endpoint.base_path + PATH
    is_second = False
    while True:
        headers, sent = endpoint.signed("POST", path, _HEADERS, body, time.time())
        stream = await services.transport.open(
            endpoint.origin,
            UpstreamRequest("POST", path, headers, body),
            connect_timeout_s=CONNECT_S,
        )
        try:
            status = stream.status
            if status == 200:
                said = bytearray()
                async for chunk in stream.chunks():
                    said += chunk
                    if len(said) > MAX_ANSWER_BYTES:
                        raise CannotTell("its answer is too long")
                return bytes(said)
        finally:
            await stream.aclose()
        is_refused = refuses_who_asks(status, stream.headers)
        if is_second or not (
            is_refused
            and endpoint.credential.answered(
                status, stream.headers, sent, time.time(), services.clock()
            )
        ):
            raise (NotAsked if status in OF_THE_TEXTS else CannotTell)(f"status {status}")
        is_second = True
