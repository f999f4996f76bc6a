"""Who a request comes from, as the headers around it tell: not what it asks for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from relay.governance.tenant import Tenants
from relay.trace_context import valid_traceparent


class Caller(NamedTuple):
    """What holds for every generation of one HTTP request or one RPC."""

    tenant: str = ""
    """Who pays; "" without a bearer or key."""
    traceparent: str = ""
    """Valid, or empty."""


NOBODY = Caller()


def caller_of_headers(tenants: Tenants, headers: Iterable[tuple[bytes, bytes]]) -> Caller:
    """Of the headers of an HTTP request, names in lower case."""
    tenant = traceparent = ""
    for name, value in headers:
        if name == b"authorization":
            tenant = tenants.name(value.decode("latin-1"))
        elif name == b"x-api-key":  # Anthropic's clients; one key is one tenant either way
            tenant = tenant or tenants.name(value.decode("latin-1"))
        elif name == b"traceparent":
            traceparent = valid_traceparent(value.decode("latin-1"))
    return Caller(tenant, traceparent)


def caller_of_metadata(
    tenants: Tenants, metadata: Iterable[tuple[str, str | bytes]] | None
) -> Caller:
    """Of an RPC's metadata."""
    tenant = traceparent = ""
    for name, value in metadata or ():
        if isinstance(value, str):
            if name == "authorization":
                tenant = tenants.name(value)
            elif name == "traceparent":
                traceparent = valid_traceparent(value)
    return Caller(tenant, traceparent)
