"""The in-memory twin of `Transport`: scripted endpoints, exact times, no sockets.

Time is the loop's, so on a virtual clock every recorded time is exact. Endpoints are keyed by
the host of the origin:

    transport = MemoryTransport({
        "slow.test": FakeEndpoint(connect_s=0.01, headers_s=0.8, chunks=[(0.0, b"data: ...")]),
        "dead.test": FakeEndpoint(fault=ConnectError("refused"), fault_at="connect"),
        "flaky.test": [FakeEndpoint(status=503), FakeEndpoint(chunks=[(0.0, b"ok")])],
    })
    ... the code under test runs ...
    assert [a.host for a in transport.attempts] == ["slow.test", "dead.test"]
    assert transport.attempts[0].aborted_s == 0.25

A list plays one endpoint a request, the last for all that follow. `transport.unfinished` is
empty when every attempt was ended or aborted, which each test should find.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from relay.errors import (
    ConnectError,
    ConnectTimeout,
    Draining,
    PoolExhausted,
    RelayError,
    StreamReset,
)
from relay.transport.base import (
    MAX_READY_CHUNKS,
    Headers,
    Origin,
    OriginState,
    PhaseMark,
    UpstreamRequest,
    UsedConnection,
)


@dataclass(frozen=True, kw_only=True)
class FakeEndpoint:
    """How one provider behaves."""

    connect_s: float = 0.0
    """From being asked to a stream slot; `math.inf` for a black hole. 0 is a warm connection."""
    headers_s: float = 0.0
    """From the request being sent to its response head; `math.inf` to hang."""
    status: int = 200
    headers: Headers = field(default_factory=lambda: [("content-type", "text/event-stream")])
    chunks: Sequence[tuple[float, bytes]] = ()
    """`(gap_s, data)`: each chunk comes `gap_s` after the one before was read; inf to stall."""
    fault: RelayError | None = None
    """Raised instead of going on; a fresh copy each time."""
    fault_at: Literal["connect", "headers", "body"] = "headers"
    """When: instead of a connection, instead of the head, or after the last chunk."""
    max_streams: int | None = None
    """Stream slots; None for no limit. Requests beyond them wait for `connect_timeout_s`."""


@dataclass(eq=False)
class MemoryAttempt:
    """One `open` and what became of it; times are the loop's."""

    host: str
    origin: Origin
    request: UpstreamRequest
    started_s: float
    connection: int | None = None
    """0, or 1 where it was asked to be apart from one that had 0: two are always there. None until
    it has a stream slot."""
    sent_s: float | None = None
    headers_s: float | None = None
    ended_s: float | None = None
    """The body was read to its end, or the attempt failed by itself."""
    aborted_s: float | None = None
    """It was left: cancelled, aborted, or closed before the end of the body."""
    failure: RelayError | None = None
    chunks_read: int = 0

    @property
    def is_over(self) -> bool:
        """Whether it ended in one way or the other."""
        return self.ended_s is not None or self.aborted_s is not None


class _Site:
    """One host: its endpoints, its slots, who waits."""

    def __init__(self, endpoints: Sequence[FakeEndpoint]) -> None:
        self.endpoints = list(endpoints)
        self.open_streams = 0
        self.opened = 0
        self.aborted = 0
        self.waiters: list[asyncio.Future[None]] = []
        self.warm = 0

    def next_endpoint(self) -> FakeEndpoint:
        return self.endpoints.pop(0) if len(self.endpoints) > 1 else self.endpoints[0]

    async def acquire(self, max_streams: int | None, timeout_s: float) -> None:
        """Take a slot, waiting in line for at most `timeout_s`."""
        if max_streams is None or self.open_streams < max_streams:
            self.open_streams += 1
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiters.append(waiter)
        try:
            async with asyncio.timeout(timeout_s):
                await waiter
        except (TimeoutError, asyncio.CancelledError) as error:
            if waiter.done() and not waiter.cancelled():
                self.release()
            if isinstance(error, TimeoutError):
                raise PoolExhausted(f"no slot became free within {timeout_s:g} s") from None
            raise

    def release(self) -> None:
        """Hand the slot to the first in line, or free it."""
        while self.waiters:
            waiter = self.waiters.pop(0)
            if not waiter.done():
                waiter.set_result(None)
                return
        self.open_streams -= 1


class MemoryTransport:
    """A `Transport` whose providers are `FakeEndpoint`s. `attempts` tells what happened."""

    def __init__(self, endpoints: Mapping[str, FakeEndpoint | Sequence[FakeEndpoint]]) -> None:
        self.attempts: list[MemoryAttempt] = []
        self._sites: dict[str, _Site] = {}
        self._origins: dict[Origin, _Site] = {}
        self._streams: set[MemoryStream] = set()
        self._pending: dict[asyncio.Task[object], MemoryAttempt] = {}
        self._idle = asyncio.Event()
        self._closed = asyncio.Event()
        for host, endpoint in endpoints.items():
            self.set(host, endpoint)

    def set(self, host: str, endpoint: FakeEndpoint | Sequence[FakeEndpoint]) -> None:
        """Script a host anew; attempts under way keep their endpoint."""
        script = [endpoint] if isinstance(endpoint, FakeEndpoint) else endpoint
        if (site := self._sites.get(host)) is not None:
            site.endpoints = list(script)
        else:
            self._sites[host] = _Site(script)

    @property
    def unfinished(self) -> list[MemoryAttempt]:
        """Attempts that neither ended nor were aborted: leaks, once a test is over."""
        return [attempt for attempt in self.attempts if not attempt.is_over]

    def to(self, host: str) -> list[MemoryAttempt]:
        """Attempts at one host, oldest first."""
        return [attempt for attempt in self.attempts if attempt.host == host]

    async def open(
        self,
        origin: Origin,
        request: UpstreamRequest,
        *,
        connect_timeout_s: float,
        mark: PhaseMark | None = None,
        used: UsedConnection | None = None,
        apart_from: UsedConnection | None = None,
    ) -> MemoryStream:
        """See `Transport.open`. A host without a script is a refused connection."""
        if self._closed.is_set():
            raise Draining("the transport is closed")
        loop = asyncio.get_running_loop()
        attempt = MemoryAttempt(origin.host, origin, request, loop.time())
        self.attempts.append(attempt)
        site = self._sites.get(origin.host)
        if site is None:
            attempt.ended_s = loop.time()
            attempt.failure = ConnectError("the provider cannot be reached")
            raise attempt.failure
        self._origins[origin] = site
        endpoint = site.next_endpoint()
        task = asyncio.current_task()
        assert task is not None
        self._pending[task] = attempt
        leased = False
        try:
            await self._connect(endpoint, connect_timeout_s)
            await site.acquire(endpoint.max_streams, connect_timeout_s)
            site.opened += 1
            leased = True
            other = None if apart_from is None else apart_from.connection
            attempt.connection = int(other == (origin, 0))
            if used is not None:
                used.connection = (origin, attempt.connection)
            if mark is not None:
                mark("pool_wait")
            attempt.sent_s = loop.time()
            if mark is not None:
                mark("request_sent")
            await _sleep(endpoint.headers_s)
            if endpoint.fault is not None and endpoint.fault_at == "headers":
                raise copy_of(endpoint.fault)
            attempt.headers_s = loop.time()
        except asyncio.CancelledError:
            attempt.aborted_s = loop.time()
            site.aborted += 1
            if leased:
                site.release()
            if self._closed.is_set() and task.uncancel() == 0:
                raise Draining("the transport was closed") from None
            raise
        except RelayError as error:
            attempt.ended_s = loop.time()
            attempt.failure = error
            if leased:
                site.release()
            raise
        finally:
            del self._pending[task]
            self._idle.set()
        stream = MemoryStream(endpoint, attempt, site, self._stream_over)
        self._streams.add(stream)
        return stream

    async def warm(
        self,
        origin: Origin,
        connections: int,
        *,
        probe_path: str | None = None,
        max_streams: int | None = None,
    ) -> None:
        """Remember the number; a twin's connections cost nothing."""
        del probe_path, max_streams
        site = self._sites.setdefault(origin.host, _Site([FakeEndpoint()]))
        site.warm = connections
        self._origins[origin] = site

    def retain(self, origins: Collection[Origin]) -> None:
        """Forget the others' numbers; a request that asks one is served all the same."""
        for origin in self._origins.keys() - set(origins):
            if not self._origins[origin].open_streams:
                del self._origins[origin]

    def describe(self) -> list[OriginState]:
        """See `Transport.describe`."""
        return [
            OriginState(
                origin=origin,
                connections=site.warm,
                open_streams=site.open_streams,
                waiting=sum(not waiter.done() for waiter in site.waiters),
                streams_opened=site.opened,
                streams_aborted=site.aborted,
                last_error=None,
            )
            for origin, site in self._origins.items()
        ]

    async def aclose(self, grace_s: float = 0.0) -> None:
        """See `Transport.aclose`."""
        self._closed.set()
        try:
            async with asyncio.timeout(grace_s):
                while self._streams or self._pending:
                    self._idle.clear()
                    await self._idle.wait()
        except TimeoutError:
            pass
        for stream in list(self._streams):
            stream.abort()
        for task in list(self._pending):
            task.cancel()

    def _stream_over(self, stream: MemoryStream) -> None:
        self._streams.discard(stream)
        self._idle.set()

    async def _connect(self, endpoint: FakeEndpoint, timeout_s: float) -> None:
        if endpoint.connect_s > timeout_s:
            await _sleep(timeout_s)
            raise ConnectTimeout(f"no connection within {timeout_s:g} s")
        if endpoint.connect_s:
            await _sleep(endpoint.connect_s)
        if endpoint.fault is not None and endpoint.fault_at == "connect":
            raise copy_of(endpoint.fault)


class MemoryStream:
    """An `UpstreamStream` that plays an endpoint's chunks."""

    def __init__(
        self,
        endpoint: FakeEndpoint,
        attempt: MemoryAttempt,
        site: _Site,
        on_over: Callable[[MemoryStream], None],
    ) -> None:
        self.status = endpoint.status
        self.headers: Headers = list(endpoint.headers)
        self.http_version: Literal["1.1", "2"] = "2"
        self._endpoint = endpoint
        self._chunks = iter(endpoint.chunks)
        self._attempt = attempt
        self._site = site
        self._on_over = on_over
        self._ahead: Any = None
        self._pending: asyncio.Future[None] | None = None

    def chunks(self) -> Self:
        """See `UpstreamStream.chunks`."""
        return self

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        ahead, self._ahead = self._ahead, None
        if isinstance(ahead, BaseException):
            raise ahead
        return await self._read() if ahead is None else bytes(ahead)

    async def read_next(self) -> memoryview:
        """See `ReadsAhead`."""
        return memoryview(await self._read())

    def put_back(self, outcome: Any) -> None:
        """See `ReadsAhead`."""
        self._ahead = outcome

    async def _read(self) -> bytes:
        attempt = self._attempt
        if attempt.is_over:
            if attempt.failure is None and attempt.aborted_s is None:
                raise StopAsyncIteration
            raise StreamReset("the stream was left before its end", headers_received=True)
        try:
            gap_s, data = next(self._chunks)
        except StopIteration:
            if self._endpoint.fault is not None and self._endpoint.fault_at == "body":
                attempt.failure = copy_of(self._endpoint.fault)
                self._over()
                raise attempt.failure from None
            self._over()
            raise StopAsyncIteration from None
        if gap_s:
            await self._pause(gap_s)
        elif attempt.chunks_read % MAX_READY_CHUNKS == MAX_READY_CHUNKS - 1:
            await asyncio.sleep(0)
        if attempt.is_over:
            raise StreamReset("the stream was left before its end", headers_received=True)
        attempt.chunks_read += 1
        return data

    def abort(self) -> None:
        """See `UpstreamStream.abort`."""
        if not self._attempt.is_over:
            self._attempt.aborted_s = asyncio.get_running_loop().time()
            self._site.aborted += 1
            self._left()
            if self._pending is not None and not self._pending.done():
                self._pending.set_result(None)

    async def aclose(self) -> None:
        """See `UpstreamStream.aclose`."""
        self.abort()

    async def _pause(self, gap_s: float) -> None:
        """Wait for the next chunk, or for `abort` by another task."""
        loop = asyncio.get_running_loop()
        self._pending = pending = loop.create_future()
        timer = None if gap_s == math.inf else loop.call_later(gap_s, _wake, pending)
        try:
            await pending
        except asyncio.CancelledError:
            self.abort()
            raise
        finally:
            if timer is not None:
                timer.cancel()

    def _over(self) -> None:
        self._attempt.ended_s = asyncio.get_running_loop().time()
        self._left()

    def _left(self) -> None:
        self._site.release()
        self._on_over(self)


async def _sleep(delay_s: float) -> None:
    if delay_s == math.inf:
        await asyncio.Event().wait()
    elif delay_s:
        await asyncio.sleep(delay_s)


def _wake(pending: asyncio.Future[None]) -> None:
    if not pending.done():
        pending.set_result(None)


def copy_of(error: RelayError) -> RelayError:
    """A fresh exception like the scripted one, so that tracebacks do not pile up on it."""
    if isinstance(error, StreamReset):
        copy = StreamReset(error.public_message, headers_received=error.headers_received)
        copy.retry = error.retry
        return copy
    return type(error)(error.public_message)
