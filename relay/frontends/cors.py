"""Answers to browsers that ask for another site (CORS), for the origins that the operator names.

Off by default: a relay on loopback holds keys, and without these headers no page that somebody
visits can read what it says. A browser's own bearer is given by its page, never as a credential of
the browser's, so `allow_credentials` stays off.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from starlette.middleware.cors import CORSMiddleware

from relay.frontends.asgi import Receive, Scope, Send

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
