"""httpx transports that connect to addresses that were judged, and to no others.

For what the relay sends of its own accord (webhooks, spans). The name is looked up for each request
and the request is sent to its addresses in turn until one can be connected to; TLS and the `Host`
header still go by the name.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any

import httpx2

from relay.addresses import faces
from relay.resolving import NotAllowed, NotFound, Resolver, addresses_now

_NOWHERE = "the address leads nowhere"
_REFUSED = "the address leads where nothing may be sent (allow_private)"


class PinnedTransport(httpx2.AsyncBaseTransport):
    """Asks `inner` for addresses instead of names.

    Args:
        inner: closed with this one.
        private: see `addresses.may_connect`.
    """

    def __init__(
        self,
        inner: httpx2.AsyncBaseTransport,
        private: Sequence[str] | None = None,
        resolver: Resolver | None = None,
    ) -> None:
        self._inner = inner
        self._private = private
        self._resolver = resolver or Resolver()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """See httpx. Nothing is sent where the name leads to no address that is allowed.

        Raises:
            httpx2.ConnectError: that, or no address can be connected to.
        """
        try:
            addresses = await self._resolver.addresses(_host(request), self._private)
        except NotFound:
            raise httpx2.ConnectError(_NOWHERE, request=request) from None
        except NotAllowed:
            raise httpx2.ConnectError(_REFUSED, request=request) from None
        for address in addresses[:-1]:
            try:
                return await self._ask(request, address)
            except (httpx2.ConnectError, httpx2.ConnectTimeout):
                continue
        return await self._ask(request, addresses[-1])

    async def _ask(self, request: httpx2.Request, address: str) -> httpx2.Response:
        answer = await self._inner.handle_async_request(pinned(request, address))
        if not is_peer(answer, address):
            await answer.aclose()
            raise httpx2.ConnectError(_REFUSED, request=request)
        return answer

    async def aclose(self) -> None:
        await self._inner.aclose()


class PinnedSyncTransport(httpx2.BaseTransport):
    """As `PinnedTransport`, for a thread."""

    def __init__(self, inner: httpx2.BaseTransport, private: Sequence[str] | None = None) -> None:
        self._inner = inner
        self._private = private

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """See `PinnedTransport.handle_async_request`."""
        try:
            addresses = addresses_now(_host(request), self._private)
        except NotFound:
            raise httpx2.ConnectError(_NOWHERE, request=request) from None
        except NotAllowed:
            raise httpx2.ConnectError(_REFUSED, request=request) from None
        for address in addresses[:-1]:
            try:
                return self._ask(request, address)
            except (httpx2.ConnectError, httpx2.ConnectTimeout):
                continue
        return self._ask(request, addresses[-1])

    def _ask(self, request: httpx2.Request, address: str) -> httpx2.Response:
        answer = self._inner.handle_request(pinned(request, address))
        if not is_peer(answer, address):
            answer.close()
            raise httpx2.ConnectError(_REFUSED, request=request)
        return answer

    def close(self) -> None:
        self._inner.close()


def _host(request: httpx2.Request) -> str:
    return request.url.raw_host.decode("ascii").strip("[]")


def pinned(request: httpx2.Request, address: str) -> httpx2.Request:
    """The same request to one address of its host. The body's stream is shared."""
    return httpx2.Request(
        request.method,
        request.url.copy_with(host=address),
        headers=request.headers,  # with the `host` that the name gave
        stream=request.stream,
        extensions={**request.extensions, "sni_hostname": _host(request)},
    )


def is_peer(answer: httpx2.Response, address: str) -> bool:
    """Whether an answer came from the address that it was sent to, as far as the socket says."""
    stream: Any = answer.extensions.get("network_stream")
    peer = None if stream is None else stream.get_extra_info("server_addr")
    if not peer:
        return True  # a fake's, which has no socket
    came = ip_address(str(peer[0]).partition("%")[0])
    return faces(came) == faces(ip_address(address.partition("%")[0]))
