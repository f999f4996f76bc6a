"""Stream slots of one origin: who gets which connection, and who waits.

No I/O, no clock, no tasks: time is an argument, waiters are told by a callback, and what
has to be closed is returned by `take_drained`. Invariant: while anyone waits, no usable
connection has a free slot, so first come is first served without a look at the queue.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Generic, Protocol, TypeVar

from relay.transport.engine import StreamEnd

_SPREAD_FROM = 25
"""Of fewer streams, a share is reckoned as of so many: one reset of two is not a half."""

C = TypeVar("C")
W = TypeVar("W", bound="Waiter[Any]")


class Abortable(Protocol):
    """A stream, or a request that has none yet."""

    def abort(self) -> None: ...


class PooledConnection(Generic[C]):
    """A connection and what the pool remembers of it."""

    __slots__ = (
        "alive_s",
        "answers_probes",
        "draining",
        "idle_since_s",
        "is_http2",
        "leases",
        "max_requests",
        "max_streams",
        "opened_s",
        "probe_after_s",
        "probing",
        "raw",
        "requests",
        "reset_tenths",
        "resets",
        "retire_at_s",
    )

    def __init__(
        self,
        raw: C,
        *,
        is_http2: bool,
        max_streams: int,
        max_requests: int,
        now_s: float,
        retire_at_s: float,
        probe_after_s: float,
        answers_probes: bool = True,
    ) -> None:
        self.raw = raw
        self.is_http2 = is_http2
        self.max_streams = max_streams
        self.max_requests = max_requests
        self.retire_at_s = retire_at_s
        self.probe_after_s = probe_after_s
        self.answers_probes = answers_probes
        self.opened_s = self.alive_s = self.idle_since_s = now_s
        self.leases: set[Lease[C]] = set()
        self.requests = 0
        self.resets = 0
        """Streams that we left before their end."""
        self.reset_tenths = 0
        """Their share in tenths, as of the latest end of a stream; see `suits_better`."""
        self.draining = False
        self.probing = False

    @property
    def free_slots(self) -> int:
        """Streams it can still take; 0 when it is draining, or over a limit that was lowered."""
        return 0 if self.draining else max(0, self.max_streams - len(self.leases))

    @property
    def probe_due_s(self) -> float:
        """When its silence will ask for a probe; never for one whose probes go unanswered."""
        return self.alive_s + self.probe_after_s if self.answers_probes else math.inf

    def suits_better(self, other: PooledConnection[C]) -> bool:
        """Of two with as many free slots: whether it was reset less, or answered later.

        Resets are compared in whole tenths: a finer measure would always prefer the one that has
        carried least, which is the one silent for longest and so the likeliest to be dead.
        """
        if self.reset_tenths != other.reset_tenths:
            return self.reset_tenths < other.reset_tenths
        return self.alive_s > other.alive_s

    def is_worn(self, now_s: float) -> bool:
        """Whether age or use ask for its replacement."""
        return self.requests >= self.max_requests or now_s >= self.retire_at_s


class Lease(Generic[C]):
    """One stream slot, held from being granted until `end`. It is the `StreamOwner`."""

    __slots__ = ("_slots", "answered", "connection", "counts", "holder", "how", "reused", "since_s")

    def __init__(
        self,
        slots: OriginSlots[C, Any],
        connection: PooledConnection[C],
        counts: bool,
        since_s: float,
    ) -> None:
        self._slots = slots
        self.connection = connection
        self.counts = counts
        """False for our own probes, which are not in the statistics."""
        self.reused = True
        self.holder: Abortable | None = None
        """What to abort when the pool closes over it."""
        self.how: StreamEnd | None = None
        """None while the slot is held."""
        self.answered = False
        """The head of a response has come."""
        self.since_s = since_s
        """When it was granted."""

    def end(self, how: StreamEnd) -> None:
        """Free the slot. Idempotent: the first call counts."""
        if self.how is None:
            self.how = how
            self.holder = None
            self._slots.release(self)


class Waiter(Protocol[C]):
    """Someone who waits for a slot."""

    def grant(self, lease: Lease[C]) -> bool:
        """Take the lease; False if it is not wanted any more (it then goes to the next)."""
        ...


class OriginSlots(Generic[C, W]):
    """All connections of one origin, their slots and the queue for them.

    Args:
        clock: monotonic seconds, read when a lease ends.
        on_release: called after every end of a lease (look for work: drain, refill).
    """

    def __init__(
        self, clock: Callable[[], float], on_release: Callable[[Lease[C]], None] | None = None
    ) -> None:
        self.connections: list[PooledConnection[C]] = []
        self.waiters: deque[W] = deque()
        self.streams_opened = 0
        self.streams_aborted = 0
        self._clock = clock
        self._on_release = on_release

    @property
    def usable(self) -> list[PooledConnection[C]]:
        """Connections that take new streams, busy ones included."""
        return [connection for connection in self.connections if not connection.draining]

    @property
    def open_streams(self) -> int:
        """Requests' leases held, those on draining connections included; probes are not."""
        return sum(lease.counts for c in self.connections for lease in c.leases)

    def choose(
        self, among: Iterable[PooledConnection[C]] | None = None
    ) -> PooledConnection[C] | None:
        """The connection with most free slots; of equals the one that was reset less, and then
        the one that answered last.

        Args:
            among: None for all.
        """
        best: PooledConnection[C] | None = None
        best_free = 0
        for connection in self.connections if among is None else among:
            free = connection.free_slots
            if free > best_free or (
                free == best_free and best is not None and connection.suits_better(best)
            ):
                best, best_free = connection, free
        return best

    def acquire_nowait(self, apart_from: object | None = None) -> Lease[C] | None:
        """A slot of the best connection, or None when all are taken (then `enqueue`).

        Args:
            apart_from: a connection that is taken only if no other has a free slot.
        """
        connection = None
        if apart_from is not None:
            connection = self.choose(one for one in self.connections if one is not apart_from)
        if connection is None:
            connection = self.choose()
        return None if connection is None else self.lease(connection)

    def lease(self, connection: PooledConnection[C], *, counts: bool = True) -> Lease[C]:
        """A slot of this very connection; the caller has seen that one is free."""
        lease = Lease(self, connection, counts, self._clock())
        connection.leases.add(lease)
        connection.requests += 1
        if counts:
            self.streams_opened += 1
        return lease

    def enqueue(self, waiter: W) -> None:
        """Wait at the end of the line."""
        self.waiters.append(waiter)

    def withdraw(self, waiter: W) -> None:
        """Leave the line, if still in it."""
        try:
            self.waiters.remove(waiter)
        except ValueError:
            pass

    def release(self, lease: Lease[C]) -> None:
        """Called by `Lease.end` alone."""
        connection = lease.connection
        connection.leases.discard(lease)
        if lease.counts and lease.how is StreamEnd.ABORTED:
            self.streams_aborted += 1
            connection.resets += 1
        # Over HTTP/1.1 a stream that was not read to its end takes the connection with it.
        how = lease.how
        if how is not StreamEnd.DONE and (
            not connection.is_http2 or (how is not None and how.is_lost)
        ):
            connection.draining = True
        if lease.how is StreamEnd.DONE:
            connection.alive_s = self._clock()
        if lease.counts:
            connection.idle_since_s = self._clock()
            if connection.resets:
                streams = max(connection.requests, _SPREAD_FROM)
                connection.reset_tenths = 10 * connection.resets // streams
        self.serve()
        if self._on_release is not None:
            self._on_release(lease)

    def add(self, connection: PooledConnection[C]) -> None:
        """Take in a connection that is ready, and serve those who wait."""
        self.connections.append(connection)
        self.serve()

    def serve(self) -> None:
        """Hand free slots to waiters, first come first."""
        while self.waiters and (connection := self.choose()) is not None:
            waiter = self.waiters.popleft()
            lease = self.lease(connection)
            if not waiter.grant(lease):
                # It left in the same turn of the loop. It was never opened: undo the count.
                self.streams_opened -= 1
                connection.requests -= 1
                lease.how = StreamEnd.ABORTED
                connection.leases.discard(lease)

    def take_drained(self) -> list[PooledConnection[C]]:
        """Remove and return the draining connections without streams; the caller closes them."""
        drained = [c for c in self.connections if c.draining and not c.leases]
        if drained:
            self.connections = [c for c in self.connections if not (c.draining and not c.leases)]
        return drained
