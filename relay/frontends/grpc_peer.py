"""Calls that are refused for the certificate or the TLS of their connection, before any handler."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from typing import Any

import grpc

from relay.errors import Unauthenticated
from relay.frontends.caller import address_of_peer
from relay.frontends.grpc_status import to_trailers

AuthContext = Mapping[str, Iterable[bytes]]
_Continuation = Callable[[grpc.HandlerCallDetails], Awaitable[Any]]


class RpcCheck(grpc.aio.ServerInterceptor):
    """Looks at each RPC of every service, so once a session too, before its handler runs."""

    def __init__(self) -> None:
        self._guarded: dict[Any, Any] = {}
        """By the handler itself: a server has a few."""

    async def intercept_service(
        self, continuation: _Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Any:
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        guarded = self._guarded.get(handler)
        if guarded is None:
            guarded = self._guarded[handler] = self._guard(handler)
        return guarded

    def _guard(self, handler: Any) -> Any:
        kind = "stream" if handler.request_streaming else "unary"
        kind += "_stream" if handler.response_streaming else "_unary"
        inner = getattr(handler, kind)
        if inspect.isasyncgenfunction(inner):

            async def yields(request: Any, context: Any) -> AsyncIterator[Any]:
                await self.check(context)
                async for answer in inner(request, context):
                    yield answer

            return handler._replace(**{kind: yields})

        async def returns(request: Any, context: Any) -> Any:
            await self.check(context)
            return await inner(request, context)

        return handler._replace(**{kind: returns})

    async def check(self, context: Any) -> None:
        """
        Raises:
            grpc.aio.AbortError: it is refused, and its client was told.
        """
        raise NotImplementedError


class PeerCheck(RpcCheck):
    """See the module."""

    def __init__(
        self,
        refusal: Callable[[AuthContext], str],
        on_refused: Callable[[str, str], object] = lambda _, __: None,
    ) -> None:
        """
        Args:
            refusal: why an RPC with this auth context is not taken, in words for its client; ""
                where it is.
            on_refused: told of each, with the client's address and why.
        """
        super().__init__()
        self._refusal = refusal
        self._on_refused = on_refused

    async def check(self, context: Any) -> None:
        if why := self._refusal(context.auth_context()):
            self._on_refused(address_of_peer(context.peer()), why)
            details, status = to_trailers(Unauthenticated(why))
            await context.abort(
                grpc.StatusCode.UNAUTHENTICATED,
                details,
                trailing_metadata=(("grpc-status-details-bin", status),),
            )
