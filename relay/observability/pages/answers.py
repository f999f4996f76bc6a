"""What the pages are answered with: each answer says what a browser may do with it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import orjson

from relay.frontends.admin.problems import Problem
from relay.frontends.asgi import STREAMS, Scope, Send, header
from relay.observability.pages.assets import Asset

POLICY: Final = b"; ".join(
    (
        b"default-src 'none'",
        b"script-src 'self'",
        b"style-src 'self'",
        b"img-src 'self'",
        b"connect-src 'self'",
        b"base-uri 'none'",
        b"form-action 'none'",
        b"frame-ancestors 'none'",
        # Names come from configuration and clients: no text can become markup, whatever we do.
        b"require-trusted-types-for 'script'",
        b"trusted-types 'none'",
    )
)
"""Nothing from elsewhere, nothing inline."""
ALWAYS: Final = (
    (b"content-security-policy", POLICY),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
)
NO_STORE: Final = (b"cache-control", b"no-store")
Headers = Iterable[tuple[bytes, bytes]]


async def whole(
    send: Send, status: int, body: bytes, content_type: bytes, headers: Headers = ()
) -> None:
    """One answer."""
    length = (b"content-length", b"%d" % len(body))
    told = [(b"content-type", content_type), length, *ALWAYS, *headers]
    await send({"type": "http.response.start", "status": status, "headers": told})
    await send({"type": "http.response.body", "body": body})


async def file(scope: Scope, send: Send, asset: Asset) -> None:
    """A file, or that it has not changed."""
    kept = [(b"etag", asset.etag), (b"cache-control", b"no-cache")]
    if header(scope, b"if-none-match").encode("latin-1") == asset.etag:
        headers = [*ALWAYS, *kept]
        await send({"type": "http.response.start", "status": 304, "headers": headers})
        await send({"type": "http.response.body", "body": b""})
        return
    await whole(send, 200, asset.body, asset.content_type, kept)


async def document(send: Send, data: Any, status: int = 200, headers: Headers = ()) -> None:
    """JSON, never kept."""
    body = orjson.dumps(data)
    await whole(send, status, body, b"application/json", [NO_STORE, *headers])


async def problem(send: Send, fault: Problem) -> None:
    """What went wrong, in the administration's own words."""
    headers: list[tuple[bytes, bytes]] = []
    if fault.status == 401:
        headers.append((b"www-authenticate", b'Bearer realm="rtrelay administration"'))
    if fault.retry_s is not None:
        headers.append((b"retry-after", b"%d" % max(1, round(fault.retry_s))))
    if fault.allowed:
        headers.append((b"allow", fault.allowed.encode()))
    error = {"code": fault.code, "message": str(fault), "field": fault.field}
    await document(send, {"error": error}, fault.status, headers)


async def stream(send: Send) -> None:
    """The head of server-sent events."""
    await send({"type": STREAMS})
    headers = [
        (b"content-type", b"text/event-stream; charset=utf-8"),
        (b"x-accel-buffering", b"no"),
        NO_STORE,
        *ALWAYS,
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
