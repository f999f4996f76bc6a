"""A request's place among those that a worker has taken on.

It is taken once the request is there whole: who sends a body as slowly as he may would else hold as
many places as he has connections, with nothing charged to his limits, and all others be refused.
"""

from __future__ import annotations

from typing import Any

from relay.dispatch import Services
from relay.frontends.asgi import WEBSOCKET, Receive, Scope
from relay.resilience.overload import RequestClass


class Place:
    """Of one request over HTTP; whoever makes it owes it a `leave`."""

    __slots__ = ("_is_taken", "_kind", "_overload", "_receive")

    def __init__(
        self, services: Services, kind: RequestClass, scope: Scope, receive: Receive
    ) -> None:
        """
        Raises:
            Overloaded, Draining: of a WebSocket, which has no body and is taken at once.
        """
        self._overload = services.overload
        self._kind = kind
        self._receive = receive
        self._is_taken = False
        if WEBSOCKET in scope:
            self._take()

    async def receive(self) -> Any:
        """As the request's own `Receive`.

        Raises:
            Overloaded, Draining: the body has come, and the worker has too much to do by now.
        """
        message = await self._receive()
        if (
            not self._is_taken
            and message["type"] == "http.request"
            and not message.get("more_body", False)
        ):
            self._take()
        return message

    def _take(self) -> None:
        self._overload.check(self._kind)
        self._overload.enter()
        self._is_taken = True

    def leave(self) -> None:
        """The request is over."""
        if self._is_taken:
            self._is_taken = False
            self._overload.leave()
