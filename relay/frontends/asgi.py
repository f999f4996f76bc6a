"""The little of ASGI that the shim needs: types, a bounded body, plain JSON answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from relay.errors import ClientCancelled, InvalidRequest, RequestTooLarge

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
RawHeaders = list[tuple[bytes, bytes]]

JSON_TYPE = (b"content-type", b"application/json")


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
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientCancelled("the client went away")
        chunk: bytes = message.get("body", b"")
        body += chunk
        if len(body) > max_bytes:
            raise _too_large(max_bytes)
        if not message.get("more_body", False):
            return body


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
