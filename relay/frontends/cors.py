"""Browsers that ask for another site: whose pages may ask, and whose may read (CORS).

Nobody's by default. A relay on loopback holds keys, and a page that somebody visits can send it a
request without asking first (as `text/plain`, or by a host name that is made to mean 127.0.0.1):
it could not read the answer, and the keys' owner would pay. So whatever changes or costs something
and says that a page sent it (`origin`, which scripts cannot leave out) is refused unless the
operator names that origin; what only reads is left to the browser, but for what is read without a
key by a name that a page could have (`check_host`). A browser's own bearer is given
by its page, never as a credential of the browser's, so `allow_credentials` stays off.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Final
from urllib.parse import urlsplit

from starlette.middleware.cors import CORSMiddleware

from relay.errors import PermissionDenied
from relay.frontends.asgi import TLS, Receive, Scope, Send, header

App = Callable[[Scope, Receive, Send], Awaitable[None]]

_EXPOSED = (
    "idempotent-replayed",
    "request-id",
    "retry-after",
    "server-timing",
    "x-relay-attempts",
    "x-relay-cache",
    "x-relay-model",
    "x-relay-provider",
    "x-relay-request-id",
    "x-relay-tokens",
)
MAX_AGE_S = 600
"""How long a browser may keep an answer to its question; more than Chromium keeps is no use."""


_READS: Final = frozenset({"GET", "HEAD", "OPTIONS"})


def check_request(scope: Scope, origins: Collection[str]) -> None:
    """See `check_page`, of a request that does more than read; others may come from anywhere."""
    if scope["method"] not in _READS:
        check_page(scope, origins)


def check_page(scope: Scope, origins: Collection[str]) -> None:
    """
    Args:
        origins: of pages that may ask; `*` for all.

    Raises:
        PermissionDenied: another page sent this.
    """
    origin = header(scope, b"origin")
    if origin and origin not in origins and "*" not in origins:
        raise PermissionDenied("server.http.cors_origins does not name this page's origin")


def check_host(scope: Scope, origins: Collection[str] = ()) -> None:
    """Of a read that nobody needs a key for. A page whose host name was made to mean this machine
    (DNS rebinding) is, to its browser, of this very site: it names no origin when it reads, and
    may see the answer. What it cannot choose is that its name goes out as `host`.

    Args:
        origins: of pages that may ask, whose hosts may too; `*` for all.

    Raises:
        PermissionDenied: the host is a name that could be anybody's. Under TLS it is one that the
            certificate has, and nothing is looked at.
    """
    name = header(scope, b"host").lower()
    if not name or TLS in scope.get("extensions", {}):
        return
    if "*" in origins or f"http://{name}" in origins or f"https://{name}" in origins:
        return
    try:
        # Before a bracket the library passes over what stands: `a[::1]` is this machine to it.
        host = name if name.rfind("[") > 0 else urlsplit(f"//{name}").hostname or ""
        if host == "localhost" or host.endswith(".localhost"):
            return
        ipaddress.ip_address(host)
    except ValueError:
        raise PermissionDenied(
            "without keys this is served to who asks for it by an address or localhost"
        ) from None


def with_cors(app: App, origins: Sequence[str]) -> App:
    """The application, its answers readable by pages of these origins; itself where there are none.

    Requests without an `origin` header pay nothing for it, others one call for each write.
    """
    if not origins:
        return app
    return CORSMiddleware(
        app,
        allow_origins=origins,
        allow_methods=("GET", "POST", "PUT", "PATCH", "DELETE"),
        allow_headers=("*",),
        expose_headers=_EXPOSED,
        max_age=MAX_AGE_S,
    )
