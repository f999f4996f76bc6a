"""The engine of the hot path: wreq (Rust), one client for each connection.

A wreq client multiplexes all its requests to an origin over one HTTP/2 connection, so a pool of
N connections is N clients. All share one runtime of one worker: the default of one per core
costs 60 % more CPU. What else was learnt the hard way is beside the line it shaped.

wreq's exceptions tell phase and cause in their text alone, as the debug form of the Rust error
(with the URL in it). It is read here for the few words below and goes no further.

Trust is explicit: the origin's `ca_file`, else what the machine trusts (`trust.py`, read once, when
the first connection needs it), else, on a machine without roots, the set that wreq was built with.

A name is resolved by the pool, and wreq is held to its addresses, also where it dials again by
itself; who has answered is looked at all the same.

Known limits: a stream refused (REFUSED_STREAM, GOAWAY with NO_ERROR) is tried three times by wreq
before the error is ours.
"""

from __future__ import annotations

import asyncio
import re
from datetime import timedelta
from ipaddress import ip_address
from typing import Any

import wreq
from wreq import exceptions

from relay.addresses import faces, literal_of
from relay.errors import (
    ConnectError,
    ConnectTimeout,
    RemoteProtocolError,
    StreamRefused,
    StreamReset,
    TlsFailed,
    UpstreamError,
)
from relay.transport.base import (
    MAX_HEAD_BYTES,
    Headers,
    Origin,
    PhaseMark,
    UpstreamRequest,
)
from relay.transport.engine import StreamEnd, StreamOwner, TransportSettings
from relay.transport.stream import EngineStream, reset_by_provider
from relay.transport.trust import roots_of, system_roots

_METHODS = {
    "GET": wreq.Method.GET,
    "POST": wreq.Method.POST,
    "HEAD": wreq.Method.HEAD,
    "PUT": wreq.Method.PUT,
    "PATCH": wreq.Method.PATCH,
    "DELETE": wreq.Method.DELETE,
}

_CONNECT_FAILURES = (
    exceptions.ConnectionError,
    exceptions.ProxyConnectionError,
    exceptions.TlsError,
)
_FAILURES = (
    *_CONNECT_FAILURES,
    exceptions.BodyError,
    exceptions.ConnectionResetError,
    exceptions.DecodingError,
    exceptions.RequestError,
    exceptions.TimeoutError,
)

_RESET = re.compile(r"kind: Reset\(StreamId\(\d+\), (\w+), (\w+)\)")
_GOAWAY = re.compile(r'kind: GoAway\(b"(?:[^"\\]|\\.)*", (\w+), (\w+)\)')
_CUT = "kind: UnexpectedEof"
"""Between two chunks the text goes on with "unexpected EOF during chunk size line"."""
_NOT_HTTP = re.compile(r"Parse\(|chunk size|InvalidInput")
_TLS = re.compile(r"SSL routines|code: (?:SSL|SYSCALL|ZERO_RETURN)\b")
"""BoringSSL's words. SYSCALL: the connection was cut during the handshake."""
_MIN_TLS = wreq.TlsVersion.TLS_1_2
_FOREVER = timedelta(days=365)


class WreqEngine:
    """Makes `WreqConnection`s that share one Rust runtime."""

    def __init__(self, settings: TransportSettings) -> None:
        self._runtime = wreq.Runtime(
            workers=1, work_steal=False, thread_name="relay-wreq", max_blocking_threads=2
        )
        self._http2_options = wreq.Http2Options(
            # A stopped reader lets 2.3 MB in by default.
            initial_window_size=settings.stream_window_bytes,
            initial_connection_window_size=settings.connection_window_bytes,
            adaptive_window=False,
            keep_alive_interval=timedelta(seconds=settings.ping_interval_s),
            keep_alive_timeout=timedelta(seconds=settings.ping_timeout_s),
            keep_alive_while_idle=True,
            # 16 MB by default.
            max_header_list_size=2 * MAX_HEAD_BYTES,
        )
        self._trust: dict[tuple[str | None, str], wreq.CertStore | None] = {}

    def connect(
        self, origin: Origin, *, connect_timeout_s: float, addresses: tuple[str, ...]
    ) -> WreqConnection:
        """See `Engine.connect`.

        Raises:
            OSError: `ca_file` cannot be read.
            ConnectError: it, or what the environment names instead, holds no certificates.
        """
        config: dict[str, Any] = {}
        if origin.scheme == "https" or origin.egress_proxy is not None:
            store = self._trusted(origin.ca_file, origin.ca_digest)
            if store is not None:
                config["tls_verify"] = store
        if origin.egress_proxy is not None:
            config["proxies"] = [wreq.Proxy.all(origin.egress_proxy)]
        else:
            # Else proxies would come from the environment.
            config["no_proxy"] = True
        if addresses and literal_of(origin.host) is None:
            dns = wreq.DnsOptions()
            dns.add_resolve(origin.host, [ip_address(address) for address in addresses])
            config["dns_options"] = dns
        if origin.http == "h2":
            config["http2_only"] = True
        elif origin.http == "h1":
            config["http1_only"] = True
        client = wreq.Client(
            runtime=self._runtime,
            redirect=wreq.redirect.Policy.none(),
            tls_min_version=_MIN_TLS,
            connect_timeout=timedelta(seconds=connect_timeout_s),
            # Idle connections would be dropped after 90 s in spite of pings; the pool decides.
            pool_idle_timeout=_FOREVER,
            pool_max_idle_per_host=1,
            http2_options=self._http2_options,
            headers={"accept-encoding": "identity"},
            gzip=False,
            brotli=False,
            deflate=False,
            zstd=False,
            **config,
        )
        return WreqConnection(client, origin.url, addresses)

    async def aclose(self) -> None:
        """Nothing to do: the runtime ends with its last client."""

    def _trusted(self, ca_file: str | None, digest: str) -> wreq.CertStore | None:
        key = (ca_file, digest)
        if key not in self._trust:
            self._trust[key] = _system_store() if ca_file is None else _store_of(ca_file)
        return self._trust[key]


def _store_of(ca_file: str) -> wreq.CertStore:
    try:
        return wreq.CertStore.from_pem_stack(roots_of(ca_file))
    except exceptions.TlsError:
        raise ConnectError("the origin's ca_file holds what is no certificate") from None


def _system_store() -> wreq.CertStore | None:
    """None for the roots that wreq was built with."""
    roots = system_roots()
    if roots is None:
        return None
    try:
        return wreq.CertStore.from_pem_stack(roots.pem)
    except exceptions.TlsError:
        if roots.variable:
            raise ConnectError(f"{roots.variable} names what is no certificate") from None
        return None


class WreqConnection:
    """One wreq client: at most one HTTP/2 connection, redialled by wreq when it is gone."""

    __slots__ = ("_client", "_peers", "_url")

    def __init__(self, client: wreq.Client, url: str, addresses: tuple[str, ...]) -> None:
        self._client: wreq.Client | None = client
        self._url = url
        self._peers = frozenset(
            face for address in addresses for face in faces(ip_address(address))
        )
        """Who may answer; empty behind a proxy."""

    async def send(
        self, request: UpstreamRequest, owner: StreamOwner, mark: PhaseMark | None = None
    ) -> WreqStream:
        """See `EngineConnection.send`."""
        if self._client is None:
            raise StreamReset("the connection was closed", reused=True)
        method, path, headers, body = request
        options: dict[str, Any] = {"headers": _header_map(headers)}
        if body:
            options["body"] = body
        # No local name for the client: an exception's traceback would keep its connection open.
        pending = self._client.request(_METHODS[method], self._url + path, **options)
        if mark is not None:
            mark("request_sent")
        try:
            # Cancelled here, wreq resets the stream within a millisecond.
            response = await pending
        except _FAILURES as error:
            failure, how = _mapped(error, headers_received=False, reused=owner.reused)
            owner.end(how)
            raise failure from None
        if self._peers and not self._is_peer(response):
            await response.close()
            owner.end(StreamEnd.LOST)
            raise ConnectError("the connection leads to another address than it was made for")
        return WreqStream(response, owner)

    def _is_peer(self, response: wreq.Response) -> bool:
        # Every request of a dial's is preceded by its probe, which has no credentials.
        peer = response.remote_addr
        return peer is not None and bool(faces(peer.ip()) & self._peers)

    def close(self) -> None:
        """Let the client go: its connection ends with its last stream.

        Not `Client.close()`: that raises CancelledError in every task that waits on it.
        """
        self._client = None


class WreqStream(EngineStream):
    """A response whose body is read through wreq's streamer."""

    __slots__ = ("_next", "_streamer")

    def __init__(self, response: wreq.Response, owner: StreamOwner) -> None:
        super().__init__(
            response.status.as_int(),
            [(str(name, "latin-1"), str(value, "latin-1")) for name, value in response.headers],
            "2" if response.version == wreq.Version.HTTP_2 else "1.1",
            owner,
        )
        self._streamer = response.stream()
        self._next = self.read_next = self._streamer.__anext__

    async def __anext__(self) -> memoryview:
        try:
            while True:
                chunk = self._ahead
                if chunk is None:
                    chunk = await self._next()
                else:
                    self._ahead = None
                    if isinstance(chunk, BaseException):
                        raise chunk
                # Trailers come as a header map, END_STREAM alone as an empty view.
                if type(chunk) is memoryview and chunk.nbytes:
                    return chunk
        except StopAsyncIteration:
            raise self._done() from None
        except _FAILURES as error:
            failure, how = _mapped(error, headers_received=True)
            self._broken(how)
            raise failure from None
        except asyncio.CancelledError:
            self.abort()
            raise

    def _leave(self) -> None:
        # Not `Response.close()`: that retires the connection with the stream.
        self._streamer.__exit__(None, None, None)


def _header_map(headers: Headers) -> dict[str, str] | wreq.HeaderMap:
    unique = dict(headers)
    if len(unique) == len(headers):
        return unique
    several = wreq.HeaderMap()
    for name, value in headers:
        several.append(name, value)
    return several


def _mapped(
    error: Exception, *, headers_received: bool, reused: bool = False
) -> tuple[UpstreamError, StreamEnd]:
    """The relay's error for one of wreq's, and what became of stream and connection."""
    text = str(error)
    if isinstance(error, _CONNECT_FAILURES):
        return _connect_error(text), StreamEnd.LOST

    def reset(message: str) -> StreamReset:
        return StreamReset(message, headers_received=headers_received, reused=reused)

    if found := _RESET.search(text):
        code, by = found.groups()
        if by != "Remote":
            # Our side found the frames wrong: a content-length not kept, most of all.
            error_ = RemoteProtocolError("the response breaks HTTP/2 or its own content-length")
            return error_, StreamEnd.BROKEN
        if code == "REFUSED_STREAM" and not headers_received:
            return StreamRefused("the provider refused the stream"), StreamEnd.BROKEN
        return reset_by_provider(f"the provider reset the stream ({code})", headers_received)
    if found := _GOAWAY.search(text):
        code, by = found.groups()
        if by != "Remote":
            return RemoteProtocolError("the provider's frames break HTTP/2"), StreamEnd.LOST
        how = StreamEnd.CALMED if code == "ENHANCE_YOUR_CALM" else StreamEnd.LOST
        if headers_received:
            return reset(f"the provider left the connection ({code})"), how
        # Streams at or below its last_stream_id go on; this one is above.
        refused = StreamRefused(f"the provider is leaving the connection ({code})")
        return refused, how
    if _CUT not in text and _NOT_HTTP.search(text):
        return RemoteProtocolError("the provider's answer is not HTTP"), StreamEnd.LOST
    return reset("the connection broke"), StreamEnd.LOST


def _connect_error(text: str) -> ConnectError:
    if "TimedOut" in text:
        return ConnectTimeout("no connection in time")
    if _TLS.search(text):
        return TlsFailed("the TLS handshake with the provider failed")
    if "dns error" in text:
        return ConnectError("the provider's name does not resolve")
    return ConnectError("the provider cannot be reached")
