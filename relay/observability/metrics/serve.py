"""The page on the admin listener: open where nobody needs a token, else a route of the
administration that takes `state.read`, as `/admin/state` does."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, Protocol

import orjson

from relay.errors import PermissionDenied
from relay.frontends.admin.route import Raw, Route
from relay.frontends.admin_app import Asgi
from relay.frontends.asgi import Receive, Scope, Send, send_answer
from relay.frontends.cors import check_host
from relay.observability.metrics.page import CONTENT_TYPE

PERMISSION: Final = "state.read"

Page = Callable[[], Awaitable[bytes]]


class HasPage(Protocol):
    """A worker's metrics, or a supervisor's."""

    path: str

    async def page(self) -> bytes:
        """In Prometheus' text format."""
        ...


def parts_of(metrics: HasPage | None) -> tuple[list[Route], dict[str, Asgi]]:
    """What an admin listener adds for it: a route for those that have a token, or an application
    for everybody who reaches the listener."""
    if metrics is None:
        return [], {}
    page = metrics.page

    async def come() -> Raw:
        return Raw([await page()], CONTENT_TYPE)

    route = Route(
        "GET",
        metrics.path,
        PERMISSION,
        "Metrics of all workers, in Prometheus' text format",
        None,
        {"type": "string"},
        content_type=CONTENT_TYPE,
        come=come,
    )
    return [route], {metrics.path: MetricsApp(metrics.path, page)}


class MetricsApp:
    """GET and HEAD; nothing below its path."""

    def __init__(self, path: str, page: Page) -> None:
        self._path = path
        self._page = page

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] != self._path:
            await send_answer(send, 404, b'{"error":"there is nothing here"}')
            return
        if scope["method"] not in ("GET", "HEAD"):
            allowed = [(b"allow", b"GET, HEAD")]
            await send_answer(send, 405, b'{"error":"only GET here"}', allowed)
            return
        try:
            check_host(scope)
        except PermissionDenied as error:
            await send_answer(send, 403, orjson.dumps({"error": error.public_message}))
            return
        text = await self._page()
        headers = [
            (b"content-type", CONTENT_TYPE.encode()),
            (b"content-length", b"%d" % len(text)),
            (b"cache-control", b"no-store"),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": text})
