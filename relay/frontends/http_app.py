"""The HTTP shim: one ASGI application, a literal table of routes.

Handlers are found by exact path and method, so there is nothing to bypass. Every answer carries a
request id; every error is the OpenAI error object, so that the clients people have can read it.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Awaitable, Callable

import orjson
import structlog

from relay.dispatch import Services
from relay.errors import ClientCancelled, InvalidRequest, RelayError
from relay.frontends.asgi import RawHeaders, Receive, Scope, Send, send_answer
from relay.frontends.http_errors import error_body, http_status, retry_headers
from relay.frontends.surfaces.chat_completions import ChatSettings, chat_completions

_log = structlog.get_logger("relay.http")

Handler = Callable[[Scope, Receive, Send, str], Awaitable[None]]


class HttpApp:
    """The shim's application; serves until its server stops."""

    def __init__(self, services: Services, chat: ChatSettings) -> None:
        self._services = services
        self._chat = chat
        self._started_at_s = int(time.time())
        self._routes: dict[str, dict[str, Handler]] = {
            "/v1/chat/completions": {"POST": self._chat_completions},
            "/v1/models": {"GET": self._models},
            "/healthz": {"GET": self._healthz},
            "/readyz": {"GET": self._readyz},
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return  # no lifespan, no websocket
        request_id = f"req_{secrets.token_hex(12)}"
        try:
            await self._find(scope)(scope, receive, send, request_id)
        except ClientCancelled:
            pass  # nobody is there to read an answer
        except RelayError as error:
            # Handlers raise these before they send anything; later errors they tell themselves.
            await self._answer_error(error, send, request_id)
        except Exception:
            # uvicorn answers 500, or cuts the connection when the head is out
            _log.exception("http_bug", request_id=request_id, path=scope["path"])
            raise

    def _find(self, scope: Scope) -> Handler:
        methods = self._routes.get(scope["path"])
        if methods is None:
            raise _NoSuchPath(scope["path"])
        handler = methods.get(scope["method"])
        if handler is None:
            raise _WrongMethod(scope["method"], ", ".join(methods))
        return handler

    async def _answer_error(self, error: RelayError, send: Send, request_id: str) -> None:
        status = error.status if isinstance(error, _NoSuchPath | _WrongMethod) else None
        await send_answer(
            send,
            status or http_status(error),
            error_body(error, request_id),
            [(b"x-relay-request-id", request_id.encode()), *retry_headers(error)],
        )

    # --- routes -----------------------------------------------------------------------------

    async def _chat_completions(
        self, scope: Scope, receive: Receive, send: Send, request_id: str
    ) -> None:
        await chat_completions(self._services, self._chat, scope, receive, send, request_id)

    async def _models(self, scope: Scope, receive: Receive, send: Send, request_id: str) -> None:
        """Aliases first, then `provider/model`; from memory, since clients prewarm with it."""
        catalog = self._services.catalog
        rows = [
            {
                "id": name,
                "object": "model",
                "created": self._started_at_s,
                "owned_by": "rtrelay" if name in catalog.routes else name.partition("/")[0],
            }
            for name in catalog.names()
        ]
        body = orjson.dumps({"object": "list", "data": rows})
        headers: RawHeaders = [(b"x-relay-request-id", request_id.encode())]
        await send_answer(send, 200, body, headers)

    async def _healthz(self, scope: Scope, receive: Receive, send: Send, request_id: str) -> None:
        """The process lives and its loop turns."""
        await send_answer(send, 200, b'{"status":"ok"}')

    async def _readyz(self, scope: Scope, receive: Receive, send: Send, request_id: str) -> None:
        """Whether new work is welcome: no while draining."""
        if self._services.is_draining:
            await send_answer(send, 503, b'{"status":"draining"}')
        else:
            await send_answer(send, 200, b'{"status":"ready"}')


class _NoSuchPath(InvalidRequest):
    status = 404

    def __init__(self, path: str) -> None:
        super().__init__(f"there is nothing at {path[:200]}")


class _WrongMethod(InvalidRequest):
    status = 405

    def __init__(self, method: str, allowed: str) -> None:
        super().__init__(f"{method[:20]} is not allowed here; use {allowed}")
