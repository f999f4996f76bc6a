"""Who a request comes from, as what is around it tells: not what it asks for.

Asked once for every HTTP request and every RPC, before anything else is read of it. A key comes as
`authorization: Bearer`, as `x-api-key` (Anthropic's clients), as `api-key` (Azure's), from a
browser's WebSocket among its subprotocols, or is stood for by a client certificate. Where there
are several, the first that looks like a key of ours is meant: SDKs send others along.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

from relay.errors import InvalidRequest, RequestTooLarge
from relay.frontends.asgi import TLS, WEBSOCKET, Scope
from relay.governance import token_text
from relay.governance.gate import Gate
from relay.tls.names import names_of
from relay.trace_context import valid_traceparent, valid_tracestate

CALLER: Final = "rtrelay.caller"
"""Of the scope of an HTTP request whose caller was let in: a `Caller`. A handler that asks for one
where there is none is a bug, and serves nothing."""
BROWSER_KEY: Final = "openai-insecure-api-key."
"""What a browser puts before its key, having no headers, to make it a subprotocol."""
MAX_METADATA_BYTES: Final = 8192
"""Of a call, as HTTP/2 counts them (RFC 9113, 6.5.2)."""
_FIELD_BYTES: Final = 32
_HEADERS: Final = {b"authorization": 0, b"x-api-key": 1, b"api-key": 2}
"""Where keys are, and which of them counts first."""
_METADATA: Final = {name.decode(): rank for name, rank in _HEADERS.items()}
_SCHEME: Final = "bearer"
CLASS: Final = "x-relay-class"
"""Header, and key of the metadata: what a request is, where it matters who is refused first."""
_CLASS: Final = CLASS.encode()
BATCH: Final = "batch"
CLASSES: Final = ("interactive", BATCH)


class Caller(NamedTuple):
    """What holds for every generation of one HTTP request or one RPC."""

    tenant: str = ""
    """Who pays; "" where there are no keys and no bearer came."""
    traceparent: str = ""
    """Valid, or empty."""
    key_id: str = ""
    """Of the key that asks; "" where there are no keys."""
    tracestate: str = ""
    """Valid, or empty; of a `traceparent`, never alone."""
    is_batch: bool = False
    """It says that it can wait."""


NOBODY = Caller()


class RpcContext(Protocol):
    """What is needed of grpc's."""

    def invocation_metadata(self) -> Any: ...

    def auth_context(self) -> Mapping[str, Iterable[bytes]]: ...

    def peer(self) -> str: ...


def caller_of(scope: Scope) -> Caller:
    """Of an HTTP request that was let in."""
    caller: Caller = scope[CALLER]
    return caller


def caller_of_scope(gate: Gate, scope: Scope) -> Caller:
    """Of an HTTP request, names of headers in lower case.

    Raises:
        Unauthenticated, TooManyBadKeys, StoreDown: as `Gate.identify`.
    """
    found: list[tuple[int, str]] = []
    traceparent, tracestates, is_batch = "", [], False
    for name, value in scope["headers"]:
        if (rank := _HEADERS.get(name)) is not None:
            found.append((rank, value.decode("latin-1")))
        elif name == b"traceparent":
            traceparent = valid_traceparent(value.decode("latin-1"))
        elif name == b"tracestate":
            tracestates.append(value.decode("latin-1"))
        elif name == _CLASS:  # a word that is wrong is told by who reads the rest of the wishes
            is_batch = value == b"batch"
    if (offer := scope.get(WEBSOCKET)) is not None:
        found += [
            (len(_HEADERS), name.removeprefix(BROWSER_KEY))
            for name in offer.subprotocols
            if name.startswith(BROWSER_KEY)
        ]
    names: Sequence[str] = scope.get("extensions", {}).get(TLS, {}).get("names", ())
    client = scope.get("client")
    identity = gate.identify(_bearer(found), names, client[0] if client else "")
    tracestate = valid_tracestate(",".join(tracestates)) if traceparent and tracestates else ""
    return Caller(identity.tenant, traceparent, identity.key_id, tracestate, is_batch)


def caller_of_rpc(gate: Gate, context: RpcContext) -> Caller:
    """Of an RPC.

    Raises:
        RequestTooLarge: its metadata is over `MAX_METADATA_BYTES`. grpc's core, told the same
            limit, lets any size pass until the client has acknowledged its settings, so with the
            first call of a connection.
        InvalidRequest: `x-relay-class` is none that there is.
        Unauthenticated, TooManyBadKeys, StoreDown: as `Gate.identify`.
    """
    found: list[tuple[int, str]] = []
    traceparent, tracestates, is_batch = "", [], False
    size_bytes = 0
    for name, value in context.invocation_metadata() or ():
        size_bytes += len(name) + len(value) + _FIELD_BYTES
        if not isinstance(value, str):
            continue
        if (rank := _METADATA.get(name)) is not None:
            found.append((rank, value))
        elif name == "traceparent":
            traceparent = valid_traceparent(value)
        elif name == "tracestate":
            tracestates.append(value)
        elif name == CLASS:
            is_batch = means_batch(CLASS, value)
    if size_bytes > MAX_METADATA_BYTES:
        raise RequestTooLarge(
            f"the metadata has {size_bytes} bytes, and {MAX_METADATA_BYTES} is the limit",
            metadata={
                "field": "metadata",
                "limit_bytes": str(MAX_METADATA_BYTES),
                "size_bytes": str(size_bytes),
            },
        )
    names: Sequence[str] = ()
    peer = ""
    if gate.needs_keys:  # both cost more than all the rest
        names = names_of(context.auth_context())
        peer = address_of_peer(context.peer())
    identity = gate.identify(_bearer(found), names, peer)
    tracestate = valid_tracestate(",".join(tracestates)) if traceparent and tracestates else ""
    return Caller(identity.tenant, traceparent, identity.key_id, tracestate, is_batch)


def means_batch(field: str, value: object) -> bool:
    """Whether a request says that it can wait.

    Raises:
        InvalidRequest: the word is no class.
    """
    if value not in CLASSES:
        raise InvalidRequest(f"{field} must be {' or '.join(CLASSES)}", field=field)
    return value == BATCH


def _bearer(found: list[tuple[int, str]]) -> str:
    """The one that counts of those that came."""
    if len(found) == 1:
        return _without_scheme(found[0][1])
    found.sort(key=lambda one: one[0])
    bearers = [bearer for _, value in found if (bearer := _without_scheme(value))]
    ours = (bearer for bearer in bearers if token_text.looks_like_one(bearer))
    return next(ours, bearers[0] if bearers else "")


def _without_scheme(value: str) -> str:
    """The scheme's word does not matter, nor do spaces around the bearer."""
    scheme, _, rest = value.strip().partition(" ")
    return rest.strip() if scheme.lower() == _SCHEME else value.strip()


def address_of_peer(peer: str) -> str:
    """Without the port: of `ipv4:127.0.0.1:5`, `ipv6:[::1]:5` or `ipv6:%5B::1%5D:5`, `unix:...`."""
    kind, _, rest = peer.partition(":")
    if kind not in ("ipv4", "ipv6"):
        return peer
    host = rest.replace("%5B", "[").replace("%5D", "]").rpartition(":")[0]
    return host.strip("[]").partition("%")[0]
