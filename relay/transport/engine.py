"""The seam between the pool and an HTTP engine: what each engine file has to provide.

An engine makes connections that dial lazily and sends requests over them. It maps its own
errors to `relay.errors` and tells the owner of a stream when and how the stream ended; it
knows nothing of slots, warmth or rotation. Those are `pool.py`, once for all engines.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Literal, Protocol

from relay.transport.base import Origin, PhaseMark, UpstreamRequest, UpstreamStream

EngineName = Literal["wreq", "pyqwest", "httpx"]

NOT_ALLOWED = "the provider's name leads to an address that its row does not allow (allow_private)"
"""Why nothing is connected to: what is said of it to whoever asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TransportSettings:
    """How the pool and its engine behave. Every interval and age is jittered by `jitter`."""

    max_streams: int = 100
    """Stream slots of one HTTP/2 connection; an HTTP/1.1 connection has one."""
    max_connections: int = 8
    """HTTP/2 connections an origin may have; requests beyond their slots wait."""
    max_http1_connections: int = 64
    """HTTP/1.1 connections an origin may have."""
    dial_timeout_s: float = 3.0
    """Bound on TCP and TLS of one dial. A request that waits for one has its own bound."""
    probe_path: str = "/"
    """What the probe (a HEAD without credentials) asks for; any status counts as alive."""
    probe_interval_s: float = 30.0
    """A connection that has answered nothing for so long is probed."""
    probe_timeout_s: float = 5.0
    """A probe unanswered for so long has failed: the connection is replaced."""
    ping_interval_s: float = 15.0
    """HTTP/2 keep-alive pings, idle or not, where the engine has them."""
    ping_timeout_s: float = 10.0
    idle_timeout_s: float = 90.0
    """Connections above the warm target are closed when idle for so long."""
    max_age_s: float = 1800.0
    """A connection older than this is replaced, then drained."""
    max_requests: int = 900
    """A connection that has carried so many is replaced; below nginx's default of 1,000, after
    which it sends GOAWAY."""
    max_reset_share: float = 0.35
    """An HTTP/2 connection of whose streams we reset so many is replaced: servers take many resets
    for an attack. `resets.py` says what that costs."""
    judged_from: int = 25
    """Streams of a connection from which on that share counts. Of fewer a few cancels in a row,
    which is one user who talks, would make it."""
    reset_limit_from: int = 100
    """From so many streams on servers are known to judge; those replaced before are bounded."""
    early_rotations: int = 6
    """Connections of an origin replaced for their resets before that, a minute."""
    max_resets: int = 150
    """So many resets are enough, whatever their share: below Netty's 200 within 30 s."""
    jitter: float = 0.2
    """Relative spread of intervals, ages and counts, so that connections do not move together."""
    backoff_initial_s: float = 0.1
    backoff_max_s: float = 15.0
    stream_window_bytes: int = 65_535
    """HTTP/2 receive window of a stream: what a stopped reader lets in."""
    connection_window_bytes: int = 1 << 20


class StreamEnd(enum.Enum):
    """How a stream ended, as the pool needs to know it."""

    DONE = "done"
    """Its body was read to the end."""
    ABORTED = "aborted"
    """We left it: cancelled, aborted or closed early."""
    BROKEN = "broken"
    """It broke; the connection may be sound."""
    LOST = "lost"
    """It broke because its connection did, or is going (GOAWAY): use it no more."""
    CALMED = "calmed"
    """LOST, and the GOAWAY said ENHANCE_YOUR_CALM: the provider counts resets, or pings, and had
    enough. Engines show the code only to streams above the GOAWAY's last_stream_id: those that the
    provider took break like any others when it closes, an idle connection goes in silence."""

    @property
    def is_lost(self) -> bool:
        """Whether the connection went with it."""
        return self is StreamEnd.LOST or self is StreamEnd.CALMED


class StreamOwner(Protocol):
    """Who wants to hear of a stream's end: the lease of the pool's slot."""

    reused: bool
    """Whether the connection was there before the request came."""

    def end(self, how: StreamEnd) -> None:
        """Record the end and free the slot. Idempotent: the first call counts. Never raises."""
        ...


class EngineConnection(Protocol):
    """One connection (or the client that keeps exactly one); dials at its first request."""

    async def send(
        self, request: UpstreamRequest, owner: StreamOwner, mark: PhaseMark | None = None
    ) -> UpstreamStream:
        """Send the request and return when the response head is here.

        Calls `mark("request_sent")` when the request is handed over, and `owner.end` exactly
        when the stream is over; when `send` itself raises, it may leave `owner.end` to its
        caller unless the connection is lost with it.

        Raises: as `Transport.open`, except PoolExhausted.

        Cancelled: the request is withdrawn at once.
        """
        ...

    def close(self) -> None:
        """Use it no more: closes when its last stream has ended. Idempotent, never raises."""
        ...


class Engine(Protocol):
    """Makes connections."""

    def connect(
        self, origin: Origin, *, connect_timeout_s: float, addresses: tuple[str, ...]
    ) -> EngineConnection:
        """A connection to the origin that is not dialled yet; TCP and TLS get the timeout.

        Args:
            addresses: the only ones that it may ever be connected to, also when the engine dials
                again; best first. Empty behind an egress proxy, which looks names up itself.

        Raises:
            OSError: `origin.ca_file` cannot be read.
            ConnectError: the engine cannot do what the origin asks for.
        """
        ...

    async def aclose(self) -> None:
        """Free what connections share. The connections have been closed before."""
        ...
