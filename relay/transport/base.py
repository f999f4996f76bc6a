"""The one door to the network: what every upstream HTTP engine looks like from outside.

The relay sees `Transport` and `UpstreamStream` and nothing of the engine behind them. Each
engine is one file beside this one; `tests/fakes/memory_transport.py` is the in-memory twin.
The conformance suite (`tests/transport/test_conformance.py`) holds every engine to what the
docstrings here promise.

A cancelled or aborted stream costs the provider nothing more: over HTTP/2 it is
RST_STREAM(CANCEL) on a connection that lives on, over HTTP/1.1 the socket is closed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from typing import Any, Literal, NamedTuple, Protocol

Headers = list[tuple[str, str]]
"""Header names in lower case, in order of arrival; values as text (latin-1)."""

MAX_HEAD_BYTES = 64 * 1024
"""Of the names and values in a response's head; real ones have some kilobytes."""

MAX_READY_CHUNKS = 64
"""How many chunks a stream may hand out without a turn of the loop, all being there already."""

HttpMode = Literal["auto", "h1", "h2"]
"""`auto`: ALPN over TLS, HTTP/1.1 over plain text. `h2` over plain text: prior knowledge."""


class Origin(NamedTuple):
    """Where connections go and how: the key of the warm pool."""

    scheme: Literal["https", "http"]
    host: str
    port: int
    http: HttpMode = "auto"
    ca_file: str | None = None
    """PEM file of the only trusted roots; None for those that the machine trusts."""
    egress_proxy: str | None = None
    ca_digest: str = ""
    """Stands for what `ca_file` holds: with other roots it is another origin, so that connections
    made under the old ones are not used for it."""
    private: tuple[str, ...] | None = None
    """Networks that are not global and may be connected to all the same: see
    `relay.addresses.may_connect`. Through an egress proxy, which looks names up itself, it says
    nothing."""

    @property
    def url(self) -> str:
        """`scheme://host:port` without a path (brackets around an IPv6 address)."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


class UpstreamRequest(NamedTuple):
    """One request, ready to send. `headers` hold secrets: never log them."""

    method: Literal["GET", "POST", "HEAD", "PUT", "PATCH", "DELETE"]
    path: str
    """Path and query, beginning with `/`."""
    headers: Headers
    body: bytes

    def __repr__(self) -> str:
        return f"UpstreamRequest({self.method}, {len(self.body)} bytes)"


class UpstreamStream(Protocol):
    """A response whose head has arrived. Whoever holds it must `aclose()` or `abort()` it."""

    status: int
    headers: Headers
    http_version: Literal["1.1", "2"]

    def chunks(self) -> AsyncIterator[bytes | memoryview]:
        """The body as it arrives, one item a DATA frame or read; call once.

        Empty frames are left out. After `MAX_READY_CHUNKS` items that were there already the loop
        has a turn. Read to the end: over HTTP/1.1 a body that is left before its
        end costs the connection.

        Raises:
            StreamReset, RemoteProtocolError: the stream broke, or its length is not what the
                head promised; never a clean stop for a cut body. (One exception, which no
                engine shows: RST_STREAM(NO_ERROR) after part of a body without content-length
                looks like its end. A body delimited by the end of an HTTP/1.1 connection
                cannot be checked either. The codec's own end tells.)

        Cancelled: the stream is aborted. After `abort()`, by whichever task, a pending read
        and all later ones raise StreamReset.
        """
        ...

    def abort(self) -> None:
        """Stop now: the provider sees RST_STREAM(CANCEL) (HTTP/1.1: a closed socket).

        Idempotent, never awaits, never raises; no effect after the end of the body.
        """
        ...

    async def aclose(self) -> None:
        """Leave the stream: releases its slot; aborts it if the body is not at its end.

        Idempotent; succeeds even when the goodbye fails.
        """
        ...


class ReadsAhead(Protocol):
    """An `UpstreamStream` whose reads can be awaited without a coroutine of ours in between: for
    the tokens of an answer, where that coroutine costs as much as the work."""

    read_next: Callable[[], Awaitable[Any]] | None
    """One read of the engine's own. None: it cannot, iterate over `chunks`.

    Whatever it gives that is no `memoryview` with something in it, and whatever it raises but
    CancelledError, is given to `put_back`; the next item of `chunks` is made of that. Cancelled:
    the stream is to be aborted."""

    def put_back(self, outcome: Any) -> None:
        """What the last `read_next` gave or raised, and its caller has no use for."""
        ...


PhaseMark = Callable[[str], None]
"""Called with `pool_wait` when a stream slot is ours and `request_sent` when the request has
been handed to the engine; must not raise."""


class UsedConnection:
    """Which connection a request was given, so that another can be sent apart from it.

    One is made for each `open` that is to be told of, and only the transport looks into it. A hedge
    at the same target wants it: what holds the first up may be its connection.
    """

    __slots__ = ("connection",)

    def __init__(self) -> None:
        self.connection: object | None = None
        """None until the request has a stream slot."""


class Transport(Protocol):
    """An upstream HTTP client with warm connections."""

    async def open(
        self,
        origin: Origin,
        request: UpstreamRequest,
        *,
        connect_timeout_s: float,
        mark: PhaseMark | None = None,
        used: UsedConnection | None = None,
        apart_from: UsedConnection | None = None,
    ) -> UpstreamStream:
        """Send the request and return when the response head is here.

        Waits for headers without a limit: the caller owns the first-token timer and cancels.

        Args:
            used: told which connection the request goes over, before it is sent.
            apart_from: of an earlier request: take another connection than it has. It is a wish:
                where no other has a free slot, or the earlier one has none yet, it changes
                nothing. Nobody waits or dials for it.

        Raises:
            ConnectError, TlsFailed, ConnectTimeout: no connection; nothing was sent.
            PoolExhausted: no stream slot became free within `connect_timeout_s`.
            StreamRefused: the provider did not process the request.
            StreamReset: broken before the head; `Retry.IF_REUSED` where a reused connection
                broke, and not where the provider reset the stream, which it has then seen.
            RemoteProtocolError: the answer is not HTTP.
            Draining: the transport is closed or closing.

        Cancelled: the request is withdrawn at once (RST_STREAM(CANCEL) when it had been sent)
        and its slot is free. The caller closes the stream returned.
        """
        ...

    async def warm(
        self,
        origin: Origin,
        connections: int,
        *,
        probe_path: str | None = None,
        max_streams: int | None = None,
    ) -> None:
        """Open `connections` connections to the origin and keep them warm until `aclose`.

        Returns when they are open, or when the first attempt to open one has failed. Called
        again with another number, it sets the target anew; 0 lets them go when idle.

        Args:
            probe_path: what our own HEAD requests ask for, without credentials; any status
                counts as alive. None for the configured default.
            max_streams: stream slots of one HTTP/2 connection to this origin, from now on also
                of those that are open. None for the configured default.

        Raises nothing for an origin that cannot be reached: it is tried again in the
        background, and `describe` says so.
        """
        ...

    def retain(self, origins: Collection[Origin]) -> None:
        """Let all other origins go. Never waits.

        Nothing is dialled, probed or kept warm there any more; a connection closes with its last
        stream, the idle ones at once, and the origin leaves `describe` with its last connection.
        A request that asks one of them all the same is served, over a connection that lasts as
        long as its streams; `warm` takes an origin back.
        """
        ...

    def describe(self) -> list[OriginState]:
        """What the pool holds, one row an origin, for `relay check`, metrics and tests."""
        ...

    async def aclose(self, grace_s: float = 0.0) -> None:
        """Close every connection, waiting up to `grace_s` for open streams. Idempotent."""
        ...


class OriginState(NamedTuple):
    """One origin of the pool, for people and metrics."""

    origin: Origin
    connections: int
    """Connections we believe usable."""
    open_streams: int
    waiting: int
    """Requests waiting for a stream slot."""
    streams_opened: int
    """Since start."""
    streams_aborted: int
    last_error: str | None
    """Public text of the last failure to connect, None after a success."""
    calmed: int = 0
    """How many times the provider was seen to ask for calm (GOAWAY ENHANCE_YOUR_CALM)."""
    max_reset_share: float = 1.0
    """Share of its streams that a connection may have reset before it is replaced; lower for an
    hour after such a word."""
    slots: int = 0
    """Streams that the usable connections can carry at once."""
