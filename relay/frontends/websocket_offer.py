"""Whether a request's head offers to go on as a WebSocket (RFC 6455 4.2.1), and the answer."""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Final, NamedTuple

from relay.frontends.asgi import RawHeaders

_MAGIC: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_KEY_BYTES: Final = 16


class Offer(NamedTuple):
    """What the handshake's own headers say."""

    key: bytes
    subprotocols: tuple[str, ...]
    """In the client's order. Browsers have no other place for a credential: never log them."""

    def accepting(self, subprotocol: str | None) -> RawHeaders:
        """Headers of the answer that accepts it."""
        digest = hashlib.sha1(self.key + _MAGIC, usedforsecurity=False).digest()
        headers = [
            (b"upgrade", b"websocket"),
            (b"connection", b"Upgrade"),
            (b"sec-websocket-accept", base64.b64encode(digest)),
        ]
        if subprotocol is not None:
            headers.append((b"sec-websocket-protocol", subprotocol.encode("latin-1")))
        return headers


def offer_of(method: bytes, version: str, headers: RawHeaders) -> Offer | None:
    """The offer in a head; None for another protocol's, a wrong one, or one with a body.

    Args:
        headers: names in lower case.
    """
    if method != b"GET" or version != "1.1":
        return None
    is_asked = _tokens(headers, b"upgrade") == ["websocket"]
    if not is_asked or "upgrade" not in _tokens(headers, b"connection"):
        return None
    found = [[v for n, v in headers if n == name] for name in _SINGLE]
    versions, keys, lengths, encodings = found
    has_body = bool(encodings) or any(length != b"0" for length in lengths)
    if versions != [b"13"] or len(keys) != 1 or has_body:
        return None
    try:
        raw = base64.b64decode(keys[0], validate=True)
    except (binascii.Error, ValueError):  # bytes that are no ASCII
        return None
    if len(raw) != _KEY_BYTES:
        return None
    names = [value.decode("latin-1") for n, value in headers if n == b"sec-websocket-protocol"]
    return Offer(keys[0], tuple(filter(None, (one.strip() for one in ",".join(names).split(",")))))


_SINGLE: Final = (
    b"sec-websocket-version",
    b"sec-websocket-key",
    b"content-length",
    b"transfer-encoding",
)


def _tokens(headers: RawHeaders, name: bytes) -> list[str]:
    values = b",".join(value for n, value in headers if n == name).decode("latin-1").lower()
    return [token for token in (one.strip() for one in values.split(",")) if token]
