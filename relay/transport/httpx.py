"""The reference engine: httpx (through httpx2, its maintained continuation), HTTP/1.1 only.

Pure Python and well known: what the other engines are compared with, and the way out where an
egress path speaks HTTP/1.1 alone. Its HTTP/2 is left out on purpose: it never resets a stream,
so a hedge's loser would run, and be billed, to its end.

Known limits: one request at a time on a connection; leaving a stream costs its connection;
buffers of asyncio and kernel, not a window, bound what a reader that stops lets in.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import AsyncGenerator, AsyncIterable
from typing import Any, cast

import httpx2

from relay.errors import (
    ConnectError,
    ConnectTimeout,
    RemoteProtocolError,
    StreamReset,
    TlsFailed,
    UpstreamError,
)
from relay.pinned_http import is_peer, pinned
from relay.transport.base import MAX_READY_CHUNKS, Origin, PhaseMark, UpstreamRequest
from relay.transport.engine import StreamEnd, StreamOwner, TransportSettings
from relay.transport.stream import EngineStream

_FAILURES = (httpx2.TransportError,)
_ONE_CONNECTION = httpx2.Limits(
    max_connections=1, max_keepalive_connections=1, keepalive_expiry=None
)
_CUT_WORDS = ("disconnected", "closed connection", "incomplete")


class HttpxEngine:
    """Makes `HttpxConnection`s and awaits the clean-up of what was left in a hurry."""

    def __init__(self, settings: TransportSettings) -> None:
        del settings  # nothing of it applies: no HTTP/2, and the pool does the rest
        self._contexts: dict[tuple[str | None, str], ssl.SSLContext] = {}
        self._cleanups: set[asyncio.Task[None]] = set()

    def connect(
        self, origin: Origin, *, connect_timeout_s: float, addresses: tuple[str, ...]
    ) -> HttpxConnection:
        """See `Engine.connect`.

        Raises:
            ConnectError: the origin asks for HTTP/2.
        """
        if origin.http == "h2":
            raise ConnectError("the httpx engine speaks HTTP/1.1 only")
        transport = httpx2.AsyncHTTPTransport(
            verify=self._context(origin.ca_file, origin.ca_digest),
            trust_env=False,
            http1=True,
            http2=False,
            limits=_ONE_CONNECTION,
            proxy=origin.egress_proxy,
        )
        return HttpxConnection(self, transport, origin.url, connect_timeout_s, addresses)

    async def aclose(self) -> None:
        """Await the clean-up of aborted streams and closed connections."""
        while self._cleanups:
            await asyncio.wait(self._cleanups)

    def clean_up(self, coroutine: Any) -> None:
        """Run the asynchronous half of a synchronous goodbye."""
        task = asyncio.ensure_future(_quietly(coroutine))
        self._cleanups.add(task)
        task.add_done_callback(self._cleanups.discard)

    def _context(self, ca_file: str | None, digest: str) -> ssl.SSLContext:
        context = self._contexts.get((ca_file, digest))
        if context is None:
            context = ssl.create_default_context(cafile=ca_file)
            self._contexts[ca_file, digest] = context
        return context


class HttpxConnection:
    """One httpx transport held to one HTTP/1.1 connection."""

    __slots__ = ("_addresses", "_closed", "_engine", "_extensions", "_socket", "_transport", "_url")

    def __init__(
        self,
        engine: HttpxEngine,
        transport: httpx2.AsyncHTTPTransport,
        url: str,
        connect_timeout_s: float,
        addresses: tuple[str, ...],
    ) -> None:
        self._engine = engine
        self._addresses = addresses
        """The only ones; empty behind a proxy."""
        self._transport = transport
        self._url = url
        self._extensions = {
            "timeout": {"connect": connect_timeout_s, "read": None, "write": None, "pool": None},
            "trace": self._trace,
        }
        self._socket: Any = None
        """The TCP stream between its connection and the end of the TLS handshake."""
        self._closed = False

    async def send(
        self, request: UpstreamRequest, owner: StreamOwner, mark: PhaseMark | None = None
    ) -> HttpxStream:
        """See `EngineConnection.send`."""
        if self._closed:
            raise StreamReset("the connection was closed", reused=True)
        method, path, headers, body = request
        message = httpx2.Request(
            method, self._url + path, headers=headers, content=body, extensions=self._extensions
        )
        message.headers.setdefault("accept-encoding", "identity")
        if mark is not None:
            mark("request_sent")
        try:
            response = await self._ask(message)
        except _FAILURES as error:
            owner.end(StreamEnd.LOST)
            raise _mapped(error, headers_received=False, reused=owner.reused) from None
        return HttpxStream(self._engine, response, owner)

    async def _ask(self, message: httpx2.Request) -> httpx2.Response:
        """By the first of the addresses that can be connected to, which it then stays with."""
        if not self._addresses:
            return await self._transport.handle_async_request(message)
        *others, last = self._addresses
        for address in others:
            with contextlib.suppress(httpx2.ConnectError, httpx2.ConnectTimeout):
                return await self._ask_at(message, address)
        return await self._ask_at(message, last)

    async def _ask_at(self, message: httpx2.Request, address: str) -> httpx2.Response:
        response = await self._transport.handle_async_request(pinned(message, address))
        if not is_peer(response, address):
            await response.aclose()
            raise httpx2.ConnectError("another peer")
        self._addresses = (address,)
        return response

    async def _trace(self, event: str, info: dict[str, Any]) -> None:
        # httpcore forgets the socket when a TLS handshake is cancelled.
        if event == "connection.connect_tcp.complete":
            self._socket = info["return_value"]
        elif event == "connection.start_tls.complete":
            self._socket = None
        elif event == "connection.start_tls.failed" and self._socket is not None:
            self._engine.clean_up(self._socket.aclose())
            self._socket = None

    def close(self) -> None:
        """Close the idle connection."""
        if not self._closed:
            self._closed = True
            self._engine.clean_up(self._transport.aclose())


class HttpxStream(EngineStream):
    """A response whose body is read through httpx's generator."""

    __slots__ = ("_body", "_count", "_engine", "_is_reading", "_response")

    def __init__(self, engine: HttpxEngine, response: httpx2.Response, owner: StreamOwner) -> None:
        super().__init__(
            response.status_code,
            [
                (name.decode("latin-1").lower(), value.decode("latin-1"))
                for name, value in response.headers.raw
            ],
            "1.1",
            owner,
        )
        self._engine = engine
        self._response = response
        body = cast("AsyncIterable[bytes]", response.stream).__aiter__()
        self._body = cast("AsyncGenerator[bytes, None]", body)
        self._is_reading = False
        self._count = 0

    async def __anext__(self) -> bytes:
        self._is_reading = True
        try:
            # One read of the socket may hold thousands of HTTP/1.1 chunks.
            self._count += 1
            if not self._count % MAX_READY_CHUNKS:
                await asyncio.sleep(0)
            return await self._body.__anext__()
        except StopAsyncIteration:
            await self._response.aclose()
            raise self._done() from None
        except _FAILURES as error:
            if self._end is not None:
                raise self._done() from None
            self._broken(StreamEnd.LOST)
            raise _mapped(error, headers_received=True) from None
        except asyncio.CancelledError:
            # httpx has closed the connection on its way here.
            self.abort()
            raise
        finally:
            self._is_reading = False

    def _leave(self) -> None:
        # The provider sees the end now; the generators are wound up when the loop next runs. A
        # pending read finds the connection ended and winds up by itself.
        _shut_down(self._response)
        if not self._is_reading:
            self._engine.clean_up(self._wind_up())

    async def _wind_up(self) -> None:
        await self._body.aclose()
        await self._response.aclose()


def _shut_down(response: httpx2.Response) -> None:
    stream = response.extensions.get("network_stream")
    sock = None if stream is None else stream.get_extra_info("socket")
    if sock is None or sock.fileno() < 0:
        return
    # By a duplicate, because the loops hand out socket objects that may not be shut down.
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(sock.fileno())) as duplicate:
        duplicate.shutdown(socket.SHUT_RDWR)


async def _quietly(coroutine: Any) -> None:
    # The goodbye of a connection that may be broken already: its failure changes nothing.
    with contextlib.suppress(httpx2.TransportError, OSError):
        await coroutine


def _mapped(
    error: httpx2.TransportError, *, headers_received: bool, reused: bool = False
) -> UpstreamError:
    """The relay's error for one of httpx's. Messages of h11 hold no data, yet none is used."""
    match error:
        case httpx2.ConnectTimeout():
            return ConnectTimeout("no connection in time")
        case httpx2.ConnectError() | httpx2.ProxyError():
            return _connect_error(error)
        case httpx2.RemoteProtocolError() if not any(word in str(error) for word in _CUT_WORDS):
            return RemoteProtocolError("the provider's answer is not HTTP")
        case _:
            return StreamReset(
                "the connection broke", headers_received=headers_received, reused=reused
            )


def _connect_error(error: BaseException) -> ConnectError:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLError):
            return TlsFailed("the TLS handshake with the provider failed")
        if isinstance(cause, socket.gaierror):
            return ConnectError("the provider's name does not resolve")
        cause = cause.__cause__ or cause.__context__
    return ConnectError("the provider cannot be reached")
