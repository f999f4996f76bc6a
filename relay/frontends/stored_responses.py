"""`GET` and `DELETE /v1/responses/{id}`, where responses are kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import orjson

from relay.frontends.asgi import Receive, Scope, Send, send_answer
from relay.frontends.caller import caller_of
from relay.frontends.http_generation import request_id_headers
from relay.frontends.response_store import ResponseStore

RESPONSES: Final = "/v1/responses"


class StoredResponses:
    """Answers for the paths below `RESPONSES`.

    Raises (all methods):
        ResponseNotFound: there is no such response for the caller.
    """

    def __init__(self, store: ResponseStore, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock

    async def get(self, scope: Scope, receive: Receive, send: Send, request_id: str) -> None:
        """The response as it ended."""
        document = self._store.document(*_asked(scope), self._clock())
        await send_answer(send, 200, document, request_id_headers(request_id))

    async def delete(self, scope: Scope, receive: Receive, send: Send, request_id: str) -> None:
        """Forget it."""
        tenant, response_id = _asked(scope)
        self._store.delete(tenant, response_id, self._clock())
        told = {"id": response_id, "object": "response", "deleted": True}
        await send_answer(send, 200, orjson.dumps(told), request_id_headers(request_id))


def _asked(scope: Scope) -> tuple[str, str]:
    """Tenant and id."""
    return caller_of(scope).tenant, scope["path"][len(RESPONSES) + 1 :]
