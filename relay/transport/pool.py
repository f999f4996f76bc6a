"""Warm connections per origin, behind any engine: `PooledTransport` is the `Transport`.

Strategy: decide first, act second. `OriginPool.tick` looks at connections, queue and clock and
decides without awaiting what to dial, probe, replace or close; dials and probes are short tasks
that report back. A request takes a slot with `acquire_nowait`, without a task switch, or waits
in line.

A connection is dialled by a probe of our own (HEAD, no credentials) and is usable when that is
answered: TCP, TLS and SETTINGS are done by then, and the HTTP version is known. So no request
pays for a dial on a warm origin, a cold one costs one round trip more, and a connect timeout
never limits how long a provider may think. Engines redial by themselves when a connection turns
out to be closed; the probe interval bounds how long such a one can lie in the pool.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable, Collection, Coroutine
from functools import partial
from typing import cast

from relay.errors import (
    ConnectError,
    ConnectTimeout,
    Draining,
    PoolExhausted,
    RelayError,
    UpstreamError,
)
from relay.resolving import Resolver
from relay.transport.base import (
    Headers,
    Origin,
    OriginState,
    PhaseMark,
    UpstreamRequest,
    UpstreamStream,
    UsedConnection,
)
from relay.transport.dialling import addresses_of
from relay.transport.engine import (
    Engine,
    EngineConnection,
    StreamEnd,
    StreamOwner,
    TransportSettings,
)
from relay.transport.resets import ResetLimit
from relay.transport.slots import Lease, OriginSlots, PooledConnection

_STALE_AFTER_S = 1.0
"""When a connection is lost, those of its siblings that were silent for longer are probed at
once: what broke one (a balancer going away) has often broken all. So is one over which nothing has
come for as long as a request waited that was then given up."""

_PROBE_HEADERS: Headers = [("accept", "*/*")]
_PROBE_BODY_BYTES = 65_536
"""The answer to a HEAD has no body; should one come, no more than this is read."""

_PROBE_MARGIN_S = 0.25
"""Added to the dial timeout, so that the engine's own bound on TCP and TLS speaks first."""


OnDial = Callable[[Origin, float], None]
"""Called with the seconds that a dial of ours took (TCP, TLS and the answer to the probe), also of
one that failed. Left out are a failure after a failure, a dial that was cancelled, and one whose
probe went unanswered, of which the time is not known. A failure after `dial_timeout_s` took no less
than that. What it raises goes to the loop's exception handler."""


class PooledTransport:
    """A `Transport`: an engine, and one `OriginPool` for each origin asked for.

    Made inside the running loop that uses it; whoever makes it awaits `aclose`.
    """

    def __init__(
        self,
        engine: Engine,
        settings: TransportSettings,
        *,
        resolver: Resolver,
        rng: random.Random | None = None,
    ) -> None:
        self._engine = engine
        self._resolver = resolver
        self._settings = settings
        self._rng = rng or random.Random()  # noqa: S311 - jitter, not a secret
        self._pools: dict[Origin, OriginPool] = {}
        self.on_dial: OnDial | None = None
        """See `OnDial`; may be set at any time."""
        self._retained: frozenset[Origin] | None = None
        """None until `retain` was called: then every origin is."""
        self._closed = False

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
        """See `Transport.open`."""
        pool = self._pools.get(origin)
        if pool is None:
            pool = self._pool(origin)
        lease = pool.acquire_nowait(None if apart_from is None else apart_from.connection)
        if lease is None:
            lease = await pool.acquire(connect_timeout_s)
        if used is not None:
            # It may outlive the connection, and keeps no socket open: that ends with `raw.close`.
            used.connection = lease.connection
        if mark is not None:
            mark("pool_wait")
        pending = _PendingRequest()
        lease.holder = pending
        connection = lease.connection
        try:
            stream = await connection.raw.send(request, lease, mark)
        except asyncio.CancelledError:
            lease.end(StreamEnd.ABORTED)
            if pending.is_ours():
                raise Draining("the transport was closed") from None
            raise
        except BaseException:
            lease.end(StreamEnd.BROKEN)
            raise
        connection.alive_s = pool.now_s()
        lease.answered = True
        if lease.how is None:
            lease.holder = stream
        return stream

    async def warm(
        self,
        origin: Origin,
        connections: int,
        *,
        probe_path: str | None = None,
        max_streams: int | None = None,
    ) -> None:
        """See `Transport.warm`."""
        await self._pool(origin).warm(connections, probe_path, max_streams)

    def retain(self, origins: Collection[Origin]) -> None:
        """See `Transport.retain`."""
        self._retained = frozenset(origins)
        for origin, pool in list(self._pools.items()):
            if origin not in self._retained:
                pool.release()

    def describe(self) -> list[OriginState]:
        """See `Transport.describe`."""
        return [pool.state() for pool in self._pools.values()]

    async def aclose(self, grace_s: float = 0.0) -> None:
        """See `Transport.aclose`."""
        if self._closed:
            return
        self._closed = True
        try:
            await asyncio.gather(*(pool.aclose(grace_s) for pool in self._pools.values()))
        finally:
            await self._engine.aclose()

    def _pool(self, origin: Origin) -> OriginPool:
        pool = self._pools.get(origin)
        if pool is None:
            if self._closed:
                raise Draining("the transport is closed")
            pool = OriginPool(
                origin,
                self._engine,
                self._settings,
                self._resolver,
                self._rng,
                self._forget,
                self._dialled,
            )
            self._pools[origin] = pool
            if self._retained is not None and origin not in self._retained:
                pool.is_released = True
        return pool

    def _forget(self, origin: Origin) -> None:
        """The pool of an origin that was let go holds nothing any more."""
        del self._pools[origin]

    def _dialled(self, origin: Origin, took_s: float) -> None:
        if self.on_dial is None:
            return
        try:
            self.on_dial(origin, took_s)
        except Exception as error:  # noqa: BLE001 - who listens must not cost a connection
            asyncio.get_running_loop().call_exception_handler(
                {"message": "on_dial failed", "exception": error}
            )


class _PendingRequest:
    """A request whose head has not come: aborting it cancels the task that waits for it."""

    __slots__ = ("_aborted", "_task")

    def __init__(self) -> None:
        self._task = asyncio.current_task()
        self._aborted = False

    def abort(self) -> None:
        if self._task is not None and not self._aborted:
            self._aborted = True
            self._task.cancel()

    def is_ours(self) -> bool:
        """Whether the cancellation came from `abort` alone, and then take it back."""
        return self._aborted and self._task is not None and self._task.uncancel() == 0


class _Waiter:
    """A request in line for a slot, as a future."""

    __slots__ = ("future",)

    def __init__(self, future: asyncio.Future[Lease[EngineConnection]]) -> None:
        self.future = future

    def grant(self, lease: Lease[EngineConnection]) -> bool:
        if self.future.done():
            return False
        self.future.set_result(lease)
        return True

    def fail(self, error: RelayError) -> None:
        if not self.future.done():
            self.future.set_exception(error)


class _DialOwner:
    """Owner of the probe that dials: there is no slot to free yet."""

    reused = False

    def __init__(self) -> None:
        self.how: StreamEnd | None = None
        """How the probe's stream ended; None while it has not."""

    def end(self, how: StreamEnd) -> None:
        """See `StreamOwner.end`."""
        if self.how is None:
            self.how = how


class OriginPool:
    """The connections of one origin: who gets which, and which to dial, probe, replace."""

    def __init__(
        self,
        origin: Origin,
        engine: Engine,
        settings: TransportSettings,
        resolver: Resolver,
        rng: random.Random,
        on_empty: Callable[[Origin], None],
        on_dial: OnDial,
    ) -> None:
        """
        Args:
            on_empty: called once it is released and holds nothing: it is then used no more.
            on_dial: see `OnDial`.
        """
        self._on_empty = on_empty
        self._on_dial = on_dial
        self._origin = origin
        self._engine = engine
        self._settings = settings
        self._resolver = resolver
        self._rng = rng
        self._loop = asyncio.get_running_loop()
        self.now_s = self._loop.time
        self._slots: OriginSlots[EngineConnection, _Waiter] = OriginSlots(
            self.now_s, self._released
        )
        self._resets = ResetLimit(settings)
        self._target = 0
        self._probe_path = settings.probe_path
        self._max_streams = settings.max_streams
        self._is_http2 = origin.http == "h2" or (origin.http == "auto" and origin.scheme == "https")
        """What the next connection is expected to speak; corrected by each that is dialled."""
        self._dials: set[asyncio.Task[None]] = set()
        self._probes: set[asyncio.Task[None]] = set()
        self._failures = 0
        """Dials that failed in a row."""
        self._backoff_until_s = 0.0
        self._dial_error: ConnectError | None = None
        """Why the latest dial failed; None after a success."""
        self._last_error: str | None = None
        self._timer: asyncio.Handle | None = None
        self._timer_at_s = math.inf
        self._changed = asyncio.Event()
        """Set after each dial and each end of a stream; `warm` and `aclose` wait on it."""
        self._closing = False
        self.is_released = False
        """Nothing is held here for its own sake: see `Transport.retain`."""

    # --- for requests -----------------------------------------------------------------------

    def acquire_nowait(self, apart_from: object | None = None) -> Lease[EngineConnection] | None:
        """A slot of a warm connection, of another than that one if it can be, or None.

        Raises:
            Draining: the transport is being closed.
        """
        if self._closing:
            raise Draining("the transport is closing")
        lease = self._slots.acquire_nowait(apart_from)
        if lease is not None and lease.connection.requests == lease.connection.max_requests:
            self._schedule(self.now_s())
        return lease

    async def acquire(self, timeout_s: float) -> Lease[EngineConnection]:
        """Wait in line for a slot, dialling where that helps.

        Raises:
            ConnectTimeout, PoolExhausted: after `timeout_s`; without and with connections.
            ConnectError, TlsFailed: there is no connection, and the dial failed.
            Draining: the transport was closed meanwhile.

        Cancelled: the place in line, or a slot granted in the same turn, is given back. The
        dial goes on: a hedge that is not needed any more has then warmed the origin.
        """
        waiter = _Waiter(self._loop.create_future())
        timer = self._loop.call_later(timeout_s, self._expire, waiter, timeout_s)
        asked_s = self.now_s()
        if not self._slots.usable and not self._dials:
            # A request is not kept from trying by the failures of others before it.
            self._backoff_until_s = 0.0
        self._slots.enqueue(waiter)
        self.tick()
        try:
            lease = await waiter.future
        except asyncio.CancelledError:
            future = waiter.future
            if future.done() and not future.cancelled() and future.exception() is None:
                future.result().end(StreamEnd.ABORTED)
            raise
        finally:
            timer.cancel()
            self._slots.withdraw(waiter)
        lease.reused = lease.connection.opened_s < asked_s
        return lease

    def _expire(self, waiter: _Waiter, timeout_s: float) -> None:
        if self._slots.usable:
            waiter.fail(PoolExhausted(f"no stream slot became free within {timeout_s:g} s"))
        else:
            waiter.fail(ConnectTimeout(f"no connection within {timeout_s:g} s"))

    def _fail_waiters(self, error: RelayError) -> None:
        while self._slots.waiters:
            # An exception object each: every raise adds its own traceback.
            self._slots.waiters.popleft().fail(type(error)(error.public_message))

    # --- for the operator -------------------------------------------------------------------

    async def warm(self, connections: int, probe_path: str | None, max_streams: int | None) -> None:
        """Hold so many connections; returns when it does, or when a dial has failed."""
        if probe_path is not None:
            self._probe_path = probe_path
        if max_streams is not None:
            self._max_streams = max_streams
            for connection in self._slots.usable:
                if connection.is_http2:
                    connection.max_streams = max_streams
            self._slots.serve()
        self._target = connections
        self.is_released = False
        self._backoff_until_s = 0.0
        self._failures = 0
        self.tick()
        while len(self._slots.usable) < self._target and self._dials and not self._failures:
            self._changed.clear()
            await self._changed.wait()

    def release(self) -> None:
        """Let connections go with their last streams; requests are served until `on_empty`."""
        self.is_released = True
        self._target = 0
        self.tick()

    def state(self) -> OriginState:
        """One row for `describe`."""
        usable = self._slots.usable
        return OriginState(
            origin=self._origin,
            connections=len(usable),
            open_streams=self._slots.open_streams,
            waiting=len(self._slots.waiters),
            streams_opened=self._slots.streams_opened,
            streams_aborted=self._slots.streams_aborted,
            last_error=self._last_error,
            calmed=self._resets.calmed,
            max_reset_share=self._resets.share(self.now_s()),
            slots=sum(connection.max_streams for connection in usable),
        )

    async def aclose(self, grace_s: float) -> None:
        """Take no more requests, wait up to `grace_s` for open streams, abort what is left."""
        self._closing = True
        if self._timer is not None:
            self._timer.cancel()
        self._fail_waiters(Draining("the transport is closing"))
        tasks = self._dials | self._probes
        for task in tasks:
            task.cancel()
        try:
            if tasks:
                await asyncio.wait(tasks)
            async with asyncio.timeout(grace_s):
                while self._slots.open_streams:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            pass
        finally:
            for connection in list(self._slots.connections):
                connection.draining = True
                for lease in list(connection.leases):
                    if lease.holder is not None:
                        lease.holder.abort()
                    lease.end(StreamEnd.ABORTED)
            self._close_drained()

    # --- decisions --------------------------------------------------------------------------

    def tick(self, at_s: float = 0.0) -> None:
        """Look at everything and start what is due. Never awaits; may be called at any time.

        Args:
            at_s: the time that a timer was set for; loops call a shade early.
        """
        if self._closing:
            return
        now_s = max(self.now_s(), at_s)
        self._retire(now_s)
        for _ in range(self._dials_due(now_s)):
            self._start(self._dials, self._dial)
        if not self.is_released:
            self._probe_silent(now_s)
        elif not (self._slots.connections or self._slots.waiters or self._dials):
            self._closing = True
            if self._timer is not None:
                self._timer.cancel()
            self._on_empty(self._origin)
            return
        self._schedule(self._next_due_s(now_s))

    def _probe_silent(self, now_s: float) -> None:
        for connection in self._slots.usable:
            if now_s >= connection.probe_due_s and not connection.probing and connection.free_slots:
                connection.probing = True
                lease = self._slots.lease(connection, counts=False)
                self._start(self._probes, partial(self._probe, lease))

    def _retire(self, now_s: float) -> None:
        """Drain what is worn and replaced, or idle and not wanted; close what is drained."""
        idle_timeout_s = 0.0 if self.is_released else self._settings.idle_timeout_s
        usable = self._slots.usable
        fresh = sum(not connection.is_worn(now_s) for connection in usable)
        wanted = self._wanted(usable)
        left = len(usable)
        for connection in usable:
            if connection.is_worn(now_s):
                goes = fresh >= wanted
            else:
                goes = (
                    left > self._target
                    and not connection.leases
                    and not self._slots.waiters
                    and now_s >= connection.idle_since_s + idle_timeout_s
                )
                fresh -= goes
            if goes:
                connection.draining = True
                left -= 1
        self._close_drained()

    def _wanted(self, usable: list[PooledConnection[EngineConnection]]) -> int:
        """How many connections the warm target and the present load ask for."""
        if self.is_released:
            return 0
        open_streams = sum(len(connection.leases) for connection in usable)
        busy = math.ceil(open_streams / self._streams_each)
        return max(self._target, min(busy, self._max_connections))

    @property
    def _streams_each(self) -> int:
        return self._max_streams if self._is_http2 else 1

    @property
    def _max_connections(self) -> int:
        settings = self._settings
        return settings.max_connections if self._is_http2 else settings.max_http1_connections

    def _dials_due(self, now_s: float) -> int:
        usable = self._slots.usable
        dialling = len(self._dials)
        may_dial = now_s >= self._backoff_until_s
        urgent = min(
            math.ceil(len(self._slots.waiters) / self._streams_each),
            max(self._max_connections, self._target) - len(usable),
        )
        if urgent > dialling and may_dial:
            return urgent - dialling
        # What nobody waits for comes one at a time. A worn connection is replaced before it is
        # retired, so for a moment there may be one more than the limit.
        fresh = sum(not connection.is_worn(now_s) for connection in usable)
        return int(fresh < self._wanted(usable) and not dialling and may_dial)

    def _next_due_s(self, now_s: float) -> float | None:
        due = [self._backoff_until_s]
        for connection in self._slots.usable:
            due += (connection.probe_due_s, connection.retire_at_s)
            if not connection.leases:
                due.append(connection.idle_since_s + self._settings.idle_timeout_s)
        # What is due already and still undone waits for an event: a dial, the end of a stream.
        return min((at_s for at_s in due if now_s < at_s < math.inf), default=None)

    def _schedule(self, at_s: float | None) -> None:
        if at_s is None:
            return
        if self._timer is not None:
            if self._timer_at_s <= at_s:
                return
            self._timer.cancel()
        # The time is kept here: for a moment less than half a millisecond away uvloop gives a
        # handle that does not know it.
        self._timer_at_s = at_s
        self._timer = self._loop.call_at(at_s, self._on_timer, at_s)

    def _on_timer(self, at_s: float) -> None:
        self._timer = None
        self.tick(at_s)

    def _released(self, lease: Lease[EngineConnection]) -> None:
        connection = lease.connection
        self._changed.set()
        if self._closing:
            self._close_drained()
            return
        if lease.how is not None and lease.how.is_lost:
            now_s = self.now_s()
            if lease.how is StreamEnd.CALMED:
                self._resets.calm(now_s)
            for sibling in self._slots.usable:
                if now_s - sibling.alive_s > _STALE_AFTER_S:
                    sibling.alive_s = 0.0
        self._doubt(lease)
        if lease.how is StreamEnd.ABORTED and connection.is_http2 and not connection.draining:
            now_s = self.now_s()
            # Else it only waits for its replacement.
            if connection.retire_at_s > now_s and self._resets.replaces(
                connection.requests, connection.resets, now_s
            ):
                connection.retire_at_s = now_s
                self._schedule(now_s)
        if connection.draining or (self.is_released and not connection.leases):
            self.tick()
        elif not connection.leases:
            self._schedule(connection.idle_since_s + self._settings.idle_timeout_s)

    def _doubt(self, lease: Lease[EngineConnection]) -> None:
        """A request was given up that had no answer: ask at once whether its connection lives, if
        nothing has come over it since. Half-open ones would else take requests until the next ping
        or probe finds them."""
        connection = lease.connection
        silent_since_s = max(lease.since_s, connection.alive_s)
        if (
            lease.how is StreamEnd.ABORTED
            and lease.counts
            and not lease.answered
            and not connection.draining
            and self.now_s() - silent_since_s > _STALE_AFTER_S
        ):
            connection.alive_s = 0.0
            self._schedule(self.now_s())

    def _close_drained(self) -> None:
        for connection in self._slots.take_drained():
            connection.raw.close()

    # --- dialling and probing ---------------------------------------------------------------

    def _start(
        self, group: set[asyncio.Task[None]], work: Callable[[], Coroutine[object, object, None]]
    ) -> None:
        task = self._loop.create_task(self._run(group, work))
        group.add(task)
        task.add_done_callback(self._report)

    async def _run(
        self, group: set[asyncio.Task[None]], work: Callable[[], Coroutine[object, object, None]]
    ) -> None:
        task = cast("asyncio.Task[None]", asyncio.current_task())
        try:
            await work()
        finally:
            # Before this task ends, so that two dials that fail in one turn see each other gone.
            group.discard(task)
            self._changed.set()
            if not self._dials and not self._slots.usable and self._dial_error is not None:
                # Nothing under way, and no streams whose end could help those who wait.
                self._fail_waiters(self._dial_error)
            self.tick()

    def _report(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (failure := task.exception()) is not None:
            self._loop.call_exception_handler(
                {"message": "a task of the pool failed", "exception": failure, "task": task}
            )

    async def _dial(self) -> None:
        settings = self._settings
        started_s = self.now_s()
        try:
            addresses = await self._addresses()
        except ConnectError as error:
            self._dial_failed(error)
            if self._failures == 1:
                self._on_dial(self._origin, self.now_s() - started_s)
            return
        try:
            raw = self._engine.connect(
                self._origin, connect_timeout_s=settings.dial_timeout_s, addresses=addresses
            )
        except OSError:
            self._dial_failed(ConnectError("the origin's ca_file cannot be read"))
            return
        except ConnectError as error:
            self._dial_failed(error)
            return
        except Exception as error:
            self._dial_failed(_not_made(error))
            raise
        answers_probes, is_http2 = True, self._origin.http == "h2"
        owner = _DialOwner()
        try:
            async with asyncio.timeout(settings.dial_timeout_s + _PROBE_MARGIN_S):
                is_http2 = await self._ask(raw, owner) == "2"
        except TimeoutError:
            # TCP and TLS had their own, shorter bound, so the connection is there: the provider
            # does not answer probes in time, which must not make it unusable.
            answers_probes = False
        except UpstreamError as error:
            if owner.how is not StreamEnd.BROKEN:
                raw.close()
                self._dial_failed(
                    error
                    if isinstance(error, ConnectError)
                    else ConnectError(f"no usable connection: {error.public_message}")
                )
                if self._failures == 1:
                    # One that follows another says that the origin is away, not how the way is:
                    # two that are away for hours would else be "everybody is slow" for hours.
                    self._on_dial(self._origin, self.now_s() - started_s)
                return
            # The provider reset the probe's stream, which only HTTP/2 can: it does not like a
            # HEAD, and the connection that told so is there.
            answers_probes, is_http2 = False, True
        except Exception as error:  # of an engine that has no name for it; told, but not in a loop
            raw.close()
            self._dial_failed(_not_made(error))
            raise
        except BaseException:
            raw.close()
            raise
        now_s = self.now_s()
        if answers_probes or owner.how is StreamEnd.BROKEN:
            # Else the time is our own patience with a probe, not what TCP and TLS took.
            self._on_dial(self._origin, now_s - started_s)
        self._is_http2 = is_http2
        self._failures = 0
        self._backoff_until_s = 0.0
        self._dial_error = self._last_error = None
        self._slots.add(
            PooledConnection(
                raw,
                is_http2=is_http2,
                max_streams=self._max_streams if is_http2 else 1,
                max_requests=max(1, int(self._jittered(settings.max_requests))),
                now_s=now_s,
                retire_at_s=now_s + self._jittered(settings.max_age_s),
                probe_after_s=self._jittered(settings.probe_interval_s),
                answers_probes=answers_probes,
            )
        )

    async def _addresses(self) -> tuple[str, ...]:
        """Where this connection may go; it is held to them for its life.

        Raises:
            ConnectError, ConnectTimeout: there are none, or there may be none.
        """
        origin = self._origin
        if origin.egress_proxy is not None:
            return ()
        try:
            async with asyncio.timeout(self._settings.dial_timeout_s):
                return await addresses_of(origin, self._resolver)
        except TimeoutError:
            raise ConnectTimeout("no address of the provider's in time") from None

    async def _ask(self, raw: EngineConnection, owner: StreamOwner) -> str:
        """Send a probe and read its answer; the HTTP version."""
        stream = await raw.send(
            UpstreamRequest("HEAD", self._probe_path, _PROBE_HEADERS, b""), owner
        )
        received_bytes = 0
        try:
            async for chunk in stream.chunks():
                received_bytes += len(chunk)
                if received_bytes > _PROBE_BODY_BYTES:
                    break
        finally:
            await stream.aclose()
        return stream.http_version

    def _dial_failed(self, error: ConnectError) -> None:
        settings = self._settings
        self._dial_error = error
        self._last_error = error.public_message
        self._failures += 1
        backoff_s = settings.backoff_initial_s * 2.0 ** min(self._failures - 1, 16)
        self._backoff_until_s = self.now_s() + self._jittered(
            min(backoff_s, settings.backoff_max_s)
        )

    async def _probe(self, lease: Lease[EngineConnection]) -> None:
        connection = lease.connection
        try:
            async with asyncio.timeout(self._settings.probe_timeout_s):
                await self._ask(connection.raw, lease)
            connection.alive_s = self.now_s()
        except (UpstreamError, TimeoutError) as error:
            self._last_error = (
                error.public_message
                if isinstance(error, UpstreamError)
                else "a probe was not answered in time"
            )
            if lease.how is StreamEnd.BROKEN:
                # It reset the probe and lives: not asked again, and not replaced for it.
                connection.answers_probes = False
                connection.alive_s = self.now_s()
            else:
                lease.end(StreamEnd.LOST)  # its siblings are then asked too
                connection.draining = True
        finally:
            connection.probing = False
            lease.end(StreamEnd.DONE)

    def _jittered(self, value: float) -> float:
        # Downwards only, so that the configured value is a bound.
        return value * (1.0 - self._settings.jitter * self._rng.random())


def _not_made(error: Exception) -> ConnectError:
    """For what an engine calls a fault of ours, such as a host that no name can be. Its text is its
    own, and may quote what it was given."""
    return ConnectError(f"no connection can be made to the origin ({type(error).__name__})")
