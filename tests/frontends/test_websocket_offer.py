"""Which heads offer a WebSocket, and what accepts it."""

from __future__ import annotations

import pytest

from relay.frontends.asgi import RawHeaders
from relay.frontends.websocket_offer import offer_of

HANDSHAKE: RawHeaders = [
    (b"host", b"r"),
    (b"connection", b"keep-alive, Upgrade"),
    (b"upgrade", b"WebSocket"),
    (b"sec-websocket-version", b"13"),
    (b"sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ=="),
]


def test_the_example_of_the_standard() -> None:
    named = (b"sec-websocket-protocol", b"chat, superchat")
    offer = offer_of(b"GET", "1.1", [*HANDSHAKE, named, (named[0], b"more")])
    assert offer is not None
    assert offer.subprotocols == ("chat", "superchat", "more")
    assert dict(offer.accepting("chat")) == {
        b"upgrade": b"websocket",
        b"connection": b"Upgrade",
        b"sec-websocket-accept": b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
        b"sec-websocket-protocol": b"chat",
    }
    assert b"sec-websocket-protocol" not in dict(offer.accepting(None))


def test_an_empty_body_is_none() -> None:
    assert offer_of(b"GET", "1.1", [*HANDSHAKE, (b"content-length", b"0")]) is not None


@pytest.mark.parametrize(
    ("method", "version", "name", "value"),
    [
        (b"POST", "1.1", b"", b""),
        (b"GET", "1.0", b"", b""),
        (b"GET", "1.1", b"upgrade", b"h2c"),
        (b"GET", "1.1", b"upgrade", b"websocket, h2c"),
        (b"GET", "1.1", b"upgrade", b""),
        (b"GET", "1.1", b"connection", b"keep-alive"),
        (b"GET", "1.1", b"sec-websocket-version", b"8"),
        (b"GET", "1.1", b"sec-websocket-key", b""),
        (b"GET", "1.1", b"sec-websocket-key", b"c2hvcnQ="),
        (b"GET", "1.1", b"sec-websocket-key", b"\xff*"),
        (b"GET", "1.1", b"content-length", b"5"),
        (b"GET", "1.1", b"transfer-encoding", b"chunked"),
    ],
)
def test_what_is_no_handshake(method: bytes, version: str, name: bytes, value: bytes) -> None:
    headers = [(n, v) for n, v in HANDSHAKE if n != name]
    assert offer_of(method, version, [*headers, (name, value)]) is None


@pytest.mark.parametrize("name", [b"sec-websocket-version", b"sec-websocket-key"])
def test_said_twice_is_wrong(name: bytes) -> None:
    assert offer_of(b"GET", "1.1", [*HANDSHAKE, (name, dict(HANDSHAKE)[name])]) is None
