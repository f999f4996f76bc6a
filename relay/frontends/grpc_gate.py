"""What else a gRPC server serves beside the relay's own service: to nobody without a key.

The relay's own service asks for itself (`RelayService.handler`). Of the others health is open, as
balancers have no keys and it tells no more than that the process serves; whatever was added beside
them, reflection today, is behind this check without having to think of it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from typing import Any

import grpc

from relay.errors import RelayError
from relay.frontends.caller import caller_of_rpc
from relay.frontends.grpc_peer import RpcCheck
from relay.frontends.grpc_service import abort
from relay.governance.gate import Gate


class KeyCheck(RpcCheck):
    """Refuses RPCs without a good key."""

    def __init__(self, gate: Gate, own: Collection[str]) -> None:
        """
        Args:
            own: full names of services that are let through: they ask for themselves, or for
                nothing.
        """
        super().__init__()
        self._gate = gate
        self._own = frozenset(own)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        # The method of a handler that is found is its registered name, to the letter: a text that
        # begins like one of ours and is not found is served to nobody.
        service = handler_call_details.method.rpartition("/")[0].removeprefix("/")
        if service in self._own:
            return await continuation(handler_call_details)
        return await super().intercept_service(continuation, handler_call_details)

    async def check(self, context: Any) -> None:
        try:
            caller_of_rpc(self._gate, context)
        except RelayError as error:
            await abort(context, error)
