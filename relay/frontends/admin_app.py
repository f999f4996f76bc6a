"""The admin listener, on a port of its own: health, and what the worker holds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

from relay.frontends.asgi import Receive, Scope, Send, send_answer

State = Callable[[], dict[str, Any]]


class AdminApp:
    """`/healthz`, `/readyz` and `/admin/state`; anything else is 404. HEAD is GET whose body is not
    sent."""

    def __init__(self, is_ready: Callable[[], bool], state: State) -> None:
        """
        Args:
            state: what `/admin/state` shows: JSON values, no secrets.
        """
        self._is_ready = is_ready
        self._state = state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        if scope["method"] not in ("GET", "HEAD"):
            allowed = [(b"allow", b"GET, HEAD")]
            await send_answer(send, 405, b'{"error":"only GET here"}', allowed)
        elif scope["path"] == "/healthz":
            await send_answer(send, 200, b'{"status":"ok"}')
        elif scope["path"] == "/readyz":
            is_ready = self._is_ready()
            body = b'{"status":"ready"}' if is_ready else b'{"status":"draining"}'
            await send_answer(send, 200 if is_ready else 503, body)
        elif scope["path"] == "/admin/state":
            await send_answer(send, 200, orjson.dumps(self._state()))
        else:
            await send_answer(send, 404, b'{"error":"there is nothing here"}')
