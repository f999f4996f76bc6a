"""The little of ASGI that the shim needs: types, a bounded body, plain JSON answers, and three
messages of our own that say what ASGI has no word for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from relay.errors import ClientCancelled, InvalidRequest, RequestTooLarge

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
RawHeaders = list[tuple[bytes, bytes]]
Early = Callable[[Scope], "tuple[int, RawHeaders, bytes] | None"]
"""Status, headers and body of an answer that a request's head alone decides, at once; None for
every other request, which the application then gets. Neither waits nor raises."""

JSON_TYPE = (b"content-type", b"application/json")

STREAMS = "rtrelay.response.streams"
"""Message to `send`, before the head: the answer comes piece by piece, so a client that ends its
sending side has hung up. Without it such a client still gets its answer."""

TLS = "rtrelay.tls"
"""Of the scope's `extensions`, on connections with TLS: `names` of the client's verified
certificate, as `relay.tls.names` writes them; empty where it showed none."""

BEGUN = "rtrelay.begun"
"""Of the scope, once a generation or a provider has the request: from then on its errors are told
by them."""

ABORT = "rtrelay.response.abort"
"""Message to `send` at any time, which never waits: break the connection and drop what was not
written yet. `receive` then says `http.disconnect`."""

WEBSOCKET = "rtrelay.websocket"
"""Of the scope: the `Offer` of a request that is a WebSocket's handshake too; absent in others. Who
does not take it up answers as if it were not there."""

TAKE_OVER = "rtrelay.response.take_over"
"""Message to `send`, in place of a head: `headers` leave in an answer of 101, and the connection
belongs to `protocol` (an `asyncio.Protocol`) from then on. Nothing more may be sent, and `receive`
says no more when the client goes."""


class HeadIsOut(RuntimeError):
    """A second head: what was to be answered cannot be told any more."""


def header(scope: Scope, name: bytes) -> str:
    """The first value of a header, empty if absent."""
    for key, value in scope["headers"]:
        if key == name:
            text: str = value.decode("latin-1")
            return text
    return ""


async def read_body(scope: Scope, receive: Receive, max_bytes: int) -> bytes:
    """The whole body, bounded.

    Raises:
        RequestTooLarge: announced or found to be over the limit; nothing beyond it was kept.
        InvalidRequest: the body is compressed; nobody's SDK does that, and bombs are.
        ClientCancelled: the client went away before the end of the body.
    """
    if header(scope, b"content-encoding") not in ("", "identity"):
        raise InvalidRequest("content-encoding must be identity", field="content-encoding")
    announced = header(scope, b"content-length")
    if announced.isdigit() and int(announced) > max_bytes:
        raise _too_large(max_bytes)
    body: bytes | bytearray = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientCancelled("the client went away")
        chunk: bytes = message.get("body", b"")
        if len(body) + len(chunk) > max_bytes:
            raise _too_large(max_bytes)
        if not message.get("more_body", False):
            return bytes(body) + chunk if body else chunk
        if not body:
            body = bytearray(chunk)
        else:
            body += chunk  # in place: to copy what is there for every piece would be quadratic


def _too_large(max_bytes: int) -> RequestTooLarge:
    return RequestTooLarge(f"the body is larger than {max_bytes} bytes")


async def send_answer(
    send: Send, status: int, body: bytes, headers: Iterable[tuple[bytes, bytes]] = ()
) -> None:
    """A complete response with a JSON body."""
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [JSON_TYPE, (b"content-length", b"%d" % len(body)), *headers],
        }
    )
    await send({"type": "http.response.body", "body": body})
