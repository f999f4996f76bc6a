"""gRPC's health service, which is served to those without a key, with a bound on what it holds.

`Watch` stays open for as long as its client likes and costs some 36 KB meanwhile. `Check` is over
at once and has no bound of its own; all RPCs of a connection are bounded by the server's
`grpc.max_concurrent_streams`.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any, Final

import grpc
from grpc_health.v1 import health, health_pb2

from relay.frontends.caller import address_of_peer

MOST_OF_CONNECTION: Final = 16
"""Clients watch one service or two."""
MOST_OF_ADDRESS: Final = 256
"""So that no one place takes all of them."""
MOST: Final = 1024
"""Of a worker: 40 MB."""
_WORKER: Final = "this worker"


class BoundedHealth(health.aio.HealthServicer):  # type: ignore[misc]  # the library has no types
    """See the module. Watches have a condition of their own: the library's is taken from those that
    wait when one of them ends, so that they hear of no change any more."""

    def __init__(self) -> None:
        super().__init__()
        self._open: Counter[str] = Counter()
        self._statuses: dict[str, int] = {}
        self._changed = asyncio.Condition()

    @property
    def open_watches(self) -> int:
        """How many are open now."""
        return self._open[_WORKER]

    async def set(self, service: str, status: int) -> None:
        """Tell of a service from now on, and those that watch it."""
        await super().set(service, status)
        self._statuses[service] = status
        async with self._changed:
            self._changed.notify_all()

    async def Watch(self, request: Any, context: Any) -> None:
        """
        Raises:
            grpc.aio.AbortError: RESOURCE_EXHAUSTED, too many are open.
        """
        bounds = _bounds(context.peer())
        for name, most in bounds.items():
            if self._open[name] >= most:
                await context.abort(
                    grpc.StatusCode.RESOURCE_EXHAUSTED,
                    f"{most} health watches are open of {name}: end some, or use Check",
                )
        self._open.update(bounds.keys())
        try:
            await self._watch(request.service, context)
        finally:
            for name in bounds:
                self._open[name] -= 1
                if not self._open[name]:
                    del self._open[name]

    async def _watch(self, service: str, context: Any) -> None:
        """Until it is cancelled."""
        told: int | None = None

        def is_new() -> bool:
            return self._status(service) != told

        while True:
            told = self._status(service)
            await context.write(health_pb2.HealthCheckResponse(status=told))
            async with self._changed:  # not while it is written: a client may be slow to read
                await self._changed.wait_for(is_new)

    def _status(self, service: str) -> int:
        unknown: int = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
        return self._statuses.get(service, unknown)


def _bounds(peer: str) -> dict[str, int]:
    """How many may be open, by what they are counted under. Connections of a Unix socket are not
    told apart, and come from this machine: they have the worker's bound alone."""
    if not peer.startswith(("ipv4:", "ipv6:")):
        return {_WORKER: MOST}
    return {
        f"the connection {peer}": MOST_OF_CONNECTION,
        f"the address {address_of_peer(peer)}": MOST_OF_ADDRESS,
        _WORKER: MOST,
    }
