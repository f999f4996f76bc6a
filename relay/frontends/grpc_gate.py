"""What else a gRPC server serves beside the relay's own service: to nobody without a key.

The relay's own service asks for itself (`RelayService.handler`). Of the others health is open, as
balancers have no keys and it tells no more than that the process serves; whatever was added beside
them, reflection today, is behind this interceptor without having to think of it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from typing import Any

import grpc

from relay.errors import RelayError
from relay.frontends.caller import caller_of_rpc
from relay.frontends.grpc_service import abort
from relay.governance.gate import Gate

Handler = Any
"""grpc's RpcMethodHandler, which its stubs do not describe."""


class KeyInterceptor(grpc.aio.ServerInterceptor):
    """Refuses RPCs without a good key where the gate needs keys.

    Args:
        own: full names of services that are let through: they ask for themselves, or for nothing.
    """

    def __init__(self, gate: Gate, own: Collection[str]) -> None:
        self._gate = gate
        self._own = frozenset(own)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        details: grpc.HandlerCallDetails,
    ) -> Handler:
        handler = await continuation(details)
        # The method of a handler that was found is its registered name, to the letter.
        service = details.method.rpartition("/")[0].removeprefix("/")
        if handler is None or service in self._own:
            return handler
        return self._guarded(handler)

    def _guarded(self, handler: Handler) -> Handler:
        """The same handler, behind the question who calls."""
        kind = _KINDS[handler.request_streaming, handler.response_streaming]
        serve, make = getattr(handler, kind), getattr(grpc, f"{kind}_rpc_method_handler")
        coders = (handler.request_deserializer, handler.response_serializer)
        if handler.response_streaming:

            async def stream(asked: Any, context: Any) -> AsyncIterator[Any]:
                await self._let_in(context)
                async for answer in serve(asked, context):
                    yield answer

            return make(stream, *coders)

        async def answer(asked: Any, context: Any) -> Any:
            await self._let_in(context)
            return await serve(asked, context)

        return make(answer, *coders)

    async def _let_in(self, context: Any) -> None:
        """
        Raises:
            grpc.aio.AbortError: not without a key.
        """
        try:
            caller_of_rpc(self._gate, context)
        except RelayError as error:
            await abort(context, error)


_KINDS = {
    (False, False): "unary_unary",
    (False, True): "unary_stream",
    (True, False): "stream_unary",
    (True, True): "stream_stream",
}
