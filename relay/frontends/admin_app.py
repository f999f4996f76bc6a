"""The admin listener, on a port of its own: health, what the process holds, and what else is
mounted there.

The same application in a worker that is alone and in a supervisor of several, which asks its
workers: what differs is given.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

import orjson

from relay.errors import PermissionDenied
from relay.frontends.asgi import Receive, Scope, Send, send_answer
from relay.frontends.cors import check_host


class Readiness(NamedTuple):
    """Whether new requests should be sent here, and what `/readyz` says of it."""

    is_ready: bool
    told: Mapping[str, Any]


State = Callable[[], Awaitable[dict[str, Any]]]
Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]


class AdminApp:
    """`/healthz`, `/readyz`, `/admin/state` and what is mounted; anything else is 404. HEAD is GET
    whose body is not sent."""

    def __init__(
        self,
        readiness: Callable[[], Readiness],
        state: State,
        mounts: Mapping[str, Asgi] | None = None,
    ) -> None:
        """
        Args:
            state: what `/admin/state` shows: JSON values, no secrets.
            mounts: further applications by path, such as `/metrics` or `/admin/v1`: each has its
                path and all below it, is given the scope as it came, and looks after methods and
                credentials itself. The longest path that fits has it.
        """
        self._readiness = readiness
        self._state = state
        self._mounts = sorted((mounts or {}).items(), key=lambda row: -len(row[0]))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        path = scope["path"]
        for prefix, app in self._mounts:
            if path == prefix or path.startswith(prefix + "/"):
                await app(scope, receive, send)
                return
        if scope["method"] not in ("GET", "HEAD"):
            allowed = [(b"allow", b"GET, HEAD")]
            await send_answer(send, 405, b'{"error":"only GET here"}', allowed)
        elif path == "/healthz":
            await send_answer(send, 200, b'{"status":"ok"}')
        elif path == "/readyz":
            is_ready, told = self._readiness()
            await send_answer(send, 200 if is_ready else 503, orjson.dumps(told))
        elif path == "/admin/state":
            try:
                check_host(scope)
            except PermissionDenied as error:
                await send_answer(send, 403, orjson.dumps({"error": error.public_message}))
                return
            await send_answer(send, 200, orjson.dumps(await self._state()))
        else:
            await send_answer(send, 404, b'{"error":"there is nothing here"}')
