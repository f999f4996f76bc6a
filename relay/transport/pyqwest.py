"""The second HTTP/2 engine: pyqwest (Rust, reqwest), one transport for each connection.

The same behaviour as wreq at about four times the CPU for an event, so that the choice of the
first stays reversible. It is held to the addresses that the pool has found, as wreq is; it does not
tell who has answered.

Known limits: no HTTP/2 keep-alive pings (the pool's probes find dead connections); windows
cannot be set, so a reader that stops lets 2 MiB in before its provider is stopped; a stream
refused (REFUSED_STREAM, GOAWAY with NO_ERROR) is tried three times before the error is ours; with
several connections in use, a request's body has been seen to go out without its END_STREAM until
something else woke it.
"""

from __future__ import annotations

import asyncio
from typing import cast

import pyqwest

from relay.addresses import literal_of
from relay.errors import (
    ConnectError,
    ConnectTimeout,
    RemoteProtocolError,
    StreamRefused,
    StreamReset,
    TlsFailed,
    UpstreamError,
)
from relay.transport.base import Headers, Origin, PhaseMark, UpstreamRequest
from relay.transport.engine import StreamEnd, StreamOwner, TransportSettings
from relay.transport.stream import EngineStream, reset_by_provider
from relay.transport.trust import roots_of

_NO_PROXY = pyqwest.Proxy("http://127.0.0.1:9", no_proxy="*,0.0.0.0/0,::/0")
"""Without an explicit proxy the environment's would be used; this one excludes every host (the
star stands for names alone)."""

_VERSIONS = {
    "auto": None,
    "h1": pyqwest.HTTPVersion.HTTP1,
    "h2": pyqwest.HTTPVersion.HTTP2,
}
_FAILURES = (
    ConnectionError,
    TimeoutError,
    pyqwest.ReadError,
    pyqwest.RemoteProtocolError,
    pyqwest.WriteError,
)
_TLS_WORDS = ("certificate", "corrupt message", "fatal alert", "handshake", "peer ")
_CUT_WORDS = ("before message", "closed", "unexpected EOF")


class PyqwestEngine:
    """Makes `PyqwestConnection`s."""

    def __init__(self, settings: TransportSettings) -> None:
        self._keepalive_s = settings.ping_interval_s

    def connect(
        self, origin: Origin, *, connect_timeout_s: float, addresses: tuple[str, ...]
    ) -> PyqwestConnection:
        """See `Engine.connect`.

        Raises:
            OSError: `ca_file` cannot be read.
            ConnectError: it holds no certificates.
        """
        pem = None if origin.ca_file is None else roots_of(origin.ca_file)
        try:
            transport = self._transport(origin, pem, connect_timeout_s, addresses)
        except RuntimeError:  # "builder error: invalid peer certificate"
            if pem is None:
                raise
            raise ConnectError("the origin's ca_file holds what is no certificate") from None
        return PyqwestConnection(transport, origin.url)

    def _transport(
        self,
        origin: Origin,
        pem: bytes | None,
        connect_timeout_s: float,
        addresses: tuple[str, ...],
    ) -> pyqwest.HTTPTransport:
        is_name = addresses and literal_of(origin.host) is None
        return pyqwest.HTTPTransport(
            tls_ca_cert=pem,
            tls_include_system_certs=pem is None,
            http_version=_VERSIONS[origin.http],
            proxy=origin.egress_proxy or _NO_PROXY,
            connect_timeout=connect_timeout_s,
            pool_idle_timeout=None,
            pool_max_idle_per_host=1,
            tcp_keepalive_interval=self._keepalive_s,
            enable_gzip=False,
            enable_brotli=False,
            enable_zstd=False,
            follow_redirects=False,
            dns_overrides={origin.host: addresses} if is_name else None,
            enable_otel=False,
        )

    async def aclose(self) -> None:
        """Nothing to do: what is shared is the process's own."""


class PyqwestConnection:
    """One pyqwest transport: at most one HTTP/2 connection, redialled by it when it is gone."""

    __slots__ = ("_transport", "_url")

    def __init__(self, transport: pyqwest.HTTPTransport, url: str) -> None:
        self._transport: pyqwest.HTTPTransport | None = transport
        self._url = url

    async def send(
        self, request: UpstreamRequest, owner: StreamOwner, mark: PhaseMark | None = None
    ) -> PyqwestStream:
        """See `EngineConnection.send`."""
        if self._transport is None:
            raise StreamReset("the connection was closed", reused=True)
        method, path, headers, body = request
        pending = self._transport.execute(
            pyqwest.Request(method, self._url + path, _header_map(headers), body or None)
        )
        if mark is not None:
            mark("request_sent")
        try:
            response = await pending
        except _FAILURES as error:
            failure, how = _mapped(error, headers_received=False, reused=owner.reused)
            owner.end(how)
            raise failure from None
        return PyqwestStream(response, owner)

    def close(self) -> None:
        """Let the transport go: its connection ends with its last stream."""
        self._transport = None


class PyqwestStream(EngineStream):
    """A response whose body is read through pyqwest's iterator."""

    __slots__ = ("_next", "_response")

    def __init__(self, response: pyqwest.Response, owner: StreamOwner) -> None:
        super().__init__(
            response.status,
            list(response.headers.items()),
            "2" if response.http_version == pyqwest.HTTPVersion.HTTP2 else "1.1",
            owner,
        )
        self._response = response
        self._next = response.content.__anext__

    async def __anext__(self) -> bytes | memoryview:
        try:
            while True:
                chunk = cast("bytes | memoryview", await self._next())
                if len(chunk):
                    return chunk
        except StopAsyncIteration:
            raise self._done() from None
        except _FAILURES as error:
            if self._end is not None:
                raise self._done() from None
            failure, how = _mapped(error, headers_received=True)
            self._broken(how)
            raise failure from None
        except asyncio.CancelledError:
            self.abort()
            raise

    def _leave(self) -> None:
        # It acts when called; what it returns for awaiting is empty.
        self._response.aclose()


def _header_map(headers: Headers) -> pyqwest.Headers:
    result = pyqwest.Headers(headers)
    if "accept-encoding" not in result:
        result["accept-encoding"] = "identity"
    return result


def _mapped(
    error: Exception, *, headers_received: bool, reused: bool = False
) -> tuple[UpstreamError, StreamEnd]:
    """The relay's error for one of pyqwest's, and what became of stream and connection.

    The text (with the URL in it) is read for a few words and goes no further.
    """
    text = str(error)

    def reset(message: str) -> StreamReset:
        return StreamReset(message, headers_received=headers_received, reused=reused)

    if isinstance(error, ConnectionError | TimeoutError):
        return _connect_error(error, text), StreamEnd.LOST
    if isinstance(error, pyqwest.StreamError):
        if "connection error received" in text:
            # A GOAWAY, and this stream is above its last_stream_id: those below it go on.
            code = error.code.name
            is_calm = error.code is pyqwest.StreamErrorCode.ENHANCE_YOUR_CALM
            how = StreamEnd.CALMED if is_calm else StreamEnd.LOST
            if headers_received:
                return reset(f"the provider left the connection ({code})"), how
            return StreamRefused("the provider is leaving the connection"), how
        if error.code is pyqwest.StreamErrorCode.REFUSED_STREAM and not headers_received:
            return StreamRefused("the provider refused the stream"), StreamEnd.BROKEN
        text = f"the provider reset the stream ({error.code.name})"
        return reset_by_provider(text, headers_received)
    if "stream error detected" in text:
        wrong = RemoteProtocolError("the response breaks HTTP/2 or its own content-length")
        return wrong, StreamEnd.BROKEN
    if "error detected" in text:
        return RemoteProtocolError("the provider's frames break HTTP/2"), StreamEnd.LOST
    if isinstance(error, pyqwest.RemoteProtocolError) and not any(
        word in text for word in _CUT_WORDS
    ):
        return RemoteProtocolError("the provider's answer is not HTTP"), StreamEnd.LOST
    return reset("the connection broke"), StreamEnd.LOST


def _connect_error(error: Exception, text: str) -> ConnectError:
    if isinstance(error, TimeoutError):
        return ConnectTimeout("no connection in time")
    if "dns error" in text:
        return ConnectError("the provider's name does not resolve")
    # Up to the last colon-separated parts the text holds the URL, which may hold any word.
    cause = text.rpartition("(Connect)")[2]
    if any(word in cause for word in _TLS_WORDS):
        return TlsFailed("the TLS handshake with the provider failed")
    return ConnectError("the provider cannot be reached")
