"""Where a key is found in a request, and what else is known of who sends it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from relay.errors import RequestTooLarge
from relay.frontends.asgi import TLS, WEBSOCKET
from relay.frontends.caller import (
    MAX_METADATA_BYTES,
    NOBODY,
    Caller,
    caller_of,
    caller_of_rpc,
    caller_of_scope,
)
from relay.frontends.websocket_offer import Offer
from relay.governance.gate import Identity, OpenGate
from relay.governance.tenant import Tenants
from relay.governance.token_text import Minted

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
KEY = "sk-relay-0123456789"
OURS = Minted("virtual key", "0123456789abcdef", "s" * 43).text
THEIRS = Minted("virtual key", "C" * 16, "d" * 43).text
TENANTS = Tenants("salt")
OPEN = OpenGate(TENANTS)


class AskedGate:
    """Notes what it is asked."""

    needs_keys = True
    is_ready = True

    def __init__(self) -> None:
        self.asked: list[tuple[str, tuple[str, ...], str]] = []

    def identify(self, bearer: str, names: Sequence[str] = (), peer: str = "") -> Identity:
        self.asked.append((bearer, tuple(names), peer))
        return Identity("team_1", "key_1")

    def view(self, key_id: str) -> None:
        return None


class FakeRpc:
    def __init__(self, metadata: Any, peer: str = "ipv4:10.0.0.1:555", auth: Any = None) -> None:
        self._metadata, self._peer, self._auth = metadata, peer, auth or {}

    def invocation_metadata(self) -> Any:
        return self._metadata

    def auth_context(self) -> Any:
        return self._auth

    def peer(self) -> str:
        return self._peer


def bearer_of(*headers: tuple[str, str], **scope: Any) -> str:
    gate = AskedGate()
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers]
    caller = caller_of_scope(gate, {"headers": raw, **scope})
    assert caller == Caller("team_1", "", "key_1")
    ((bearer, _, _),) = gate.asked
    as_metadata = AskedGate()
    caller_of_rpc(as_metadata, FakeRpc(headers))
    if WEBSOCKET not in scope:
        assert as_metadata.asked[0][0] == bearer
    return bearer


@pytest.mark.parametrize("name", ["authorization", "x-api-key", "api-key"])
@pytest.mark.parametrize("value", [OURS, f"Bearer {OURS}", f" bearer   {OURS} "])
def test_a_key_in_any_of_its_places(name: str, value: str) -> None:
    assert bearer_of(("host", "h"), (name, value)) == OURS


@pytest.mark.parametrize(
    ("headers", "meant"),
    [
        ([("x-api-key", KEY), ("authorization", "Bearer a")], "a"),
        ([("api-key", "b"), ("x-api-key", "a")], "a"),
        ([("authorization", "Bearer any"), ("api-key", OURS)], OURS),
        (
            [
                ("authorization", f"Bearer {OURS}"),
                ("x-api-key", THEIRS),
            ],
            OURS,
        ),
        ([("authorization", "Bearer "), ("x-api-key", "a")], "a"),
        ([("authorization", "Basic dTpw")], "Basic dTpw"),
        ([("authorization", "")], ""),
        ([("x-authorization", OURS), ("cookie", OURS)], ""),
    ],
)
def test_which_of_several_is_meant(headers: list[tuple[str, str]], meant: str) -> None:
    assert bearer_of(*headers) == meant


def test_a_browsers_key_is_a_subprotocol_of_its_websocket() -> None:
    offer = Offer(b"", ("realtime", f"openai-insecure-api-key.{OURS}"))
    assert bearer_of(**{WEBSOCKET: offer}) == OURS
    headers = ("authorization", f"Bearer {KEY}")
    assert bearer_of(headers, **{WEBSOCKET: Offer(b"", ("openai-insecure-api-key.x",))}) == KEY


def test_certificates_and_addresses() -> None:
    gate = AskedGate()
    tls = {"extensions": {TLS: {"names": ("DNS:a.test",)}}, "client": ("10.0.0.9", 5)}
    caller_of_scope(gate, {"headers": [], **tls})
    caller_of_scope(gate, {"headers": [], "extensions": {}, "client": None})
    assert gate.asked == [("", ("DNS:a.test",), "10.0.0.9"), ("", (), "")]


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("ipv4:10.0.0.1:555", "10.0.0.1"),
        ("ipv6:%5B::1%5D:40", "::1"),
        ("ipv6:[fe80::1%25eth0]:40", "fe80::1"),
        ("unix:/run/relay.sock", "unix:/run/relay.sock"),
        ("unix:", "unix:"),
    ],
)
def test_addresses_of_rpcs(peer: str, address: str) -> None:
    gate = AskedGate()
    caller_of_rpc(gate, FakeRpc((), peer))
    assert gate.asked == [("", (), address)]


def test_without_keys_bearers_name_tenants() -> None:
    headers = [(b"authorization", f"Bearer {KEY}".encode()), (b"traceparent", TRACE.encode())]
    me = Caller(TENANTS.name(KEY), TRACE)
    assert caller_of_scope(OPEN, {"headers": headers}) == me
    nonsense = {"headers": [(b"traceparent", b"nonsense \xff")]}
    assert caller_of_scope(OPEN, nonsense) == NOBODY
    assert caller_of_scope(OPEN, {"headers": [(b"authorization", b"Bearer \xff\xfe")]}).tenant != ""
    metadata = (("authorization", f"Bearer {KEY}"), ("traceparent", TRACE))
    assert caller_of_rpc(OPEN, FakeRpc(metadata)) == me
    states = [(b"tracestate", b"a=1"), (b"tracestate", b"b=2")]
    assert caller_of_scope(OPEN, {"headers": [*headers, *states]}) == me._replace(
        tracestate="a=1,b=2"
    )
    assert caller_of_scope(OPEN, {"headers": states}) == NOBODY
    with_state = (*metadata, ("tracestate", "a=1"))
    assert caller_of_rpc(OPEN, FakeRpc(with_state)) == me._replace(tracestate="a=1")
    assert caller_of_rpc(OPEN, FakeRpc((("authorization-bin", b"\xff"),))) == NOBODY
    assert caller_of_rpc(OPEN, FakeRpc(None)) == NOBODY


def test_a_handler_that_was_reached_without_the_question_serves_nothing() -> None:
    with pytest.raises(KeyError):
        caller_of({"headers": []})


def test_metadata_of_a_call_has_a_limit() -> None:
    value = "v" * (MAX_METADATA_BYTES - 32 - len("x-large"))
    assert caller_of_rpc(OPEN, FakeRpc([("x-large", value)])) == NOBODY
    for much in ([("x-large", value + "v")], [("x", "")] * 300, [("x-bin", b"v" * 9000)]):
        with pytest.raises(RequestTooLarge, match="8192 is the limit") as refused:
            caller_of_rpc(OPEN, FakeRpc(much))
        assert refused.value.metadata["field"] == "metadata"
