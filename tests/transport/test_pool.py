"""What the pool decides and when, over a fake engine on the virtual clock, with exact times."""

from __future__ import annotations

import asyncio
import math
import random
from dataclasses import dataclass, field, replace
from typing import Literal

import pytest
import uvloop

from relay.errors import (
    ConnectError,
    ConnectTimeout,
    Draining,
    PoolExhausted,
    RelayError,
    Retry,
    StreamReset,
)
from relay.transport.base import (
    Origin,
    PhaseMark,
    UpstreamRequest,
    UpstreamStream,
    UsedConnection,
)
from relay.transport.engine import StreamEnd, StreamOwner, TransportSettings
from relay.transport.pool import PooledTransport
from relay.transport.stream import EngineStream
from tests.fakes.names import AtOnce
from tests.fakes.virtual_time import on_virtual_time, run, since_start_s

H2 = Origin("https", "provider.test", 443)
H1 = Origin("http", "provider.test", 80)
POST = UpstreamRequest("POST", "/", [], b"{}")

STEADY = TransportSettings(
    max_streams=2,
    max_connections=2,
    max_http1_connections=3,
    dial_timeout_s=3.0,
    probe_interval_s=30.0,
    probe_timeout_s=5.0,
    idle_timeout_s=1e6,
    max_age_s=1e9,
    jitter=0.0,
    backoff_initial_s=0.1,
    backoff_max_s=1.0,
)
"""Round figures, no jitter, nothing but probes happens by itself."""


class FakeStream(EngineStream):
    """Has no body; ends when told to."""

    def __init__(self, version: Literal["1.1", "2"], owner: StreamOwner) -> None:
        super().__init__(200, [], version, owner)
        self.left = False

    async def __anext__(self) -> bytes:
        raise self._done()

    def finish(self) -> None:
        """As if its body had been read."""
        self._done()

    def lose(self) -> None:
        """As if its connection had gone."""
        self._broken(StreamEnd.LOST)

    def calm(self) -> None:
        """As if its connection had gone with ENHANCE_YOUR_CALM."""
        self._broken(StreamEnd.CALMED)

    def _leave(self) -> None:
        self.left = True


@dataclass
class FakeConnection:
    """One that dials in `dial_s`, answers probes in `probe_s` and requests in `headers_s`."""

    engine: FakeEngine
    dial_s: float
    failure: RelayError | RuntimeError | None
    version: Literal["1.1", "2"]
    made_s: float
    connect_timeout_s: float
    probe_s: float = 0.0
    headers_s: float = 0.0
    resets_probes: bool = False
    """Every HEAD is answered by a reset of its stream."""
    probes_s: list[float] = field(default_factory=list)
    """When it was probed, the dial left out."""
    streams: list[FakeStream] = field(default_factory=list)
    closed_s: float | None = None
    is_dialled: bool = False

    @property
    def is_closed(self) -> bool:
        return self.closed_s is not None

    async def send(
        self, request: UpstreamRequest, owner: StreamOwner, mark: PhaseMark | None = None
    ) -> FakeStream:
        if mark is not None:
            mark("request_sent")
        if not self.is_dialled:
            await _pause(min(self.dial_s, self.connect_timeout_s))
            if self.dial_s > self.connect_timeout_s:
                raise ConnectTimeout("no connection in time")
            if self.failure is not None:
                raise type(self.failure)(*self.failure.args)
            self.is_dialled = True
        elif request.method == "HEAD":
            self.probes_s.append(since_start_s())
        await _pause(self.probe_s if request.method == "HEAD" else self.headers_s)
        if request.method == "HEAD" and self.resets_probes:
            owner.end(StreamEnd.BROKEN)
            raise StreamReset("the provider reset the stream (PROTOCOL_ERROR)")
        stream = FakeStream(self.version, owner)
        if request.method != "HEAD":
            self.streams.append(stream)
        return stream

    def close(self) -> None:
        if self.closed_s is None:
            self.closed_s = since_start_s()


async def _pause(delay_s: float) -> None:
    if delay_s == math.inf:
        await asyncio.Event().wait()
    elif delay_s:
        await asyncio.sleep(delay_s)


class FakeEngine:
    """Makes connections after its own present fields; `made` holds them all."""

    def __init__(self, *, dial_s: float = 0.0, version: Literal["1.1", "2"] = "2") -> None:
        self.dial_s = dial_s
        self.version: Literal["1.1", "2"] = version
        self.failure: RelayError | RuntimeError | None = None
        self.resets_probes = False
        self.made: list[FakeConnection] = []
        self.closed = False

    def connect(
        self, origin: Origin, *, connect_timeout_s: float, addresses: tuple[str, ...]
    ) -> FakeConnection:
        del origin, addresses
        connection = FakeConnection(
            self,
            self.dial_s,
            self.failure,
            self.version,
            since_start_s(),
            connect_timeout_s,
            resets_probes=self.resets_probes,
        )
        self.made.append(connection)
        return connection

    async def aclose(self) -> None:
        self.closed = True

    @property
    def dials_s(self) -> list[float]:
        """When each connection was begun."""
        return [connection.made_s for connection in self.made]


def pooled(engine: FakeEngine, settings: TransportSettings = STEADY) -> PooledTransport:
    return PooledTransport(engine, settings, resolver=AtOnce(), rng=random.Random(1))


async def opened(
    transport: PooledTransport, origin: Origin = H2, timeout_s: float = 2.0
) -> FakeStream:
    stream: UpstreamStream = await transport.open(origin, POST, connect_timeout_s=timeout_s)
    assert isinstance(stream, FakeStream)
    return stream


# --- dialling on demand ---------------------------------------------------------------------


@on_virtual_time
async def test_a_cold_request_waits_for_the_dial_and_no_longer() -> None:
    engine = FakeEngine(dial_s=0.25)
    transport = pooled(engine)
    stream = await opened(transport)
    assert since_start_s() == 0.25
    stream.finish()
    (await opened(transport)).finish()
    assert since_start_s() == 0.25
    assert len(engine.made) == 1
    await transport.aclose()


@on_virtual_time
async def test_dials_are_as_many_as_those_waiting_need() -> None:
    engine = FakeEngine(dial_s=0.1)
    transport = pooled(engine)
    streams = await asyncio.gather(*(opened(transport) for _ in range(4)))
    assert engine.dials_s == [0.0, 0.0]
    assert since_start_s() == 0.1
    for stream in streams:
        stream.finish()
    await transport.aclose()


@on_virtual_time
async def test_an_origin_that_turns_out_http1_gets_more_connections() -> None:
    engine = FakeEngine(dial_s=0.1, version="1.1")
    transport = pooled(engine)
    streams = await asyncio.gather(*(opened(transport) for _ in range(3)))
    # Two, as three streams over HTTP/2 would need; then it is known better.
    assert engine.dials_s == [0.0, 0.0, 0.1]
    for stream in streams:
        stream.finish()
    await transport.aclose()


@on_virtual_time
async def test_first_come_first_served() -> None:
    engine = FakeEngine()
    transport = pooled(engine, replace(STEADY, max_streams=1, max_connections=1))
    first = await opened(transport)
    order: list[int] = []

    async def ask(number: int) -> None:
        stream = await opened(transport)
        order.append(number)
        await asyncio.sleep(0.1)
        stream.finish()

    tasks = [asyncio.ensure_future(ask(number)) for number in range(4)]
    await asyncio.sleep(0.01)
    tasks.pop(1).cancel()
    first.finish()
    await asyncio.gather(*tasks)
    assert order == [0, 2, 3]
    await transport.aclose()


@on_virtual_time
async def test_the_wait_ends_on_time_with_and_without_connections() -> None:
    engine = FakeEngine(dial_s=10.0)
    transport = pooled(engine)
    with pytest.raises(ConnectTimeout):
        await opened(transport, timeout_s=0.5)
    assert since_start_s() == 0.5
    await asyncio.sleep(20)
    engine.dial_s = 0.0
    streams = [await opened(transport) for _ in range(4)]
    asked_s = since_start_s()
    with pytest.raises(PoolExhausted):
        await opened(transport, timeout_s=0.5)
    assert since_start_s() == asked_s + 0.5
    for stream in streams:
        stream.finish()
    await transport.aclose()


@on_virtual_time
async def test_a_failed_dial_fails_all_who_wait_at_once() -> None:
    engine = FakeEngine(dial_s=0.2)
    engine.failure = ConnectError("no way")
    transport = pooled(engine)
    outcomes = await asyncio.gather(*(opened(transport) for _ in range(3)), return_exceptions=True)
    assert since_start_s() == 0.2
    assert [str(outcome) for outcome in outcomes] == ["no way"] * 3
    assert len({id(outcome) for outcome in outcomes}) == 3
    # The next request is not kept waiting for the backoff.
    engine.failure = None
    (await opened(transport)).finish()
    assert since_start_s() == 0.4
    assert transport.describe()[0].last_error is None
    await transport.aclose()


@on_virtual_time
async def test_with_connections_a_failed_dial_fails_nobody() -> None:
    engine = FakeEngine()
    transport = pooled(engine)
    streams = [await opened(transport) for _ in range(2)]
    engine.failure = ConnectError("no way")
    waiting = asyncio.ensure_future(opened(transport, timeout_s=9))
    await asyncio.sleep(2.0)
    assert not waiting.done()
    # Dialled again after the backoff, not in a loop: 0.1, 0.2, 0.4, 0.8 s.
    assert engine.dials_s == [0.0, 0.0, 0.1, 0.3, 0.7, 1.5]
    streams[0].finish()
    (await waiting).finish()
    streams[1].finish()
    await transport.aclose()


@on_virtual_time
async def test_a_connection_dialled_for_the_request_is_not_reused() -> None:
    engine = FakeEngine(dial_s=0.1)
    transport = pooled(engine)
    owners: list[bool] = []
    for _ in range(2):
        stream = await opened(transport)
        owners.append(stream._owner.reused)
        stream.finish()
    assert owners == [False, True]
    assert StreamReset("x", reused=owners[1]).retry is Retry.IF_REUSED
    await transport.aclose()


# --- who is told how long a dial took ---------------------------------------------------------


def told(transport: PooledTransport) -> list[tuple[Origin, float]]:
    """What `on_dial` will have been told."""
    dials: list[tuple[Origin, float]] = []
    transport.on_dial = lambda origin, took_s: dials.append((origin, took_s))
    return dials


@on_virtual_time
async def test_the_time_of_a_dial_is_told() -> None:
    engine = FakeEngine(dial_s=0.25)
    transport = pooled(engine)
    dials = told(transport)
    await transport.warm(H2, 1)
    assert dials == [(H2, 0.25)]
    (await opened(transport)).finish()
    await asyncio.sleep(40)
    assert engine.made[0].probes_s
    assert len(dials) == 1, "neither a request nor a later probe is a dial"
    await transport.aclose()


@pytest.mark.parametrize(
    ("dial_s", "failure", "took_s"),
    [
        (0.125, ConnectError("refused"), 0.125),
        (math.inf, None, 3.0),
        (0.5, StreamReset("cut"), 0.5),
    ],
    ids=["refused", "timed out", "cut"],
)
def test_the_time_of_a_failed_dial_is_told(
    dial_s: float, failure: RelayError | None, took_s: float
) -> None:
    @on_virtual_time
    async def check() -> None:
        engine = FakeEngine(dial_s=dial_s)
        engine.failure = failure
        transport = pooled(engine)
        dials = told(transport)
        await transport.warm(H2, 1)
        assert dials == [(H2, took_s)]
        await transport.aclose()

    check()


@on_virtual_time
async def test_an_origin_that_stays_away_is_told_once() -> None:
    engine = FakeEngine(dial_s=math.inf)
    transport = pooled(engine)
    dials = told(transport)
    await transport.warm(H2, 1)
    await asyncio.sleep(60)
    assert dials == [(H2, 3.0)]
    engine.dial_s = 0.125
    await asyncio.sleep(5)
    assert dials == [(H2, 3.0), (H2, 0.125)]
    engine.dial_s = math.inf
    await transport.warm(H2, 2)
    assert dials[2:] == [(H2, 3.0)]
    await transport.aclose()


@on_virtual_time
async def test_a_dial_of_unknown_length_is_not_told() -> None:
    engine = FakeEngine(dial_s=0.125)
    transport = pooled(engine)
    dials = told(transport)
    warming = asyncio.ensure_future(transport.warm(H2, 1))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    engine.made[0].probe_s = math.inf  # connected, and its probe goes unanswered
    await warming
    assert transport.describe()[0].connections == 1
    engine.dial_s = 2.0
    warming = asyncio.ensure_future(transport.warm(H2, 2))
    await asyncio.sleep(1.0)
    await transport.aclose()  # cancels the dial
    await warming
    assert dials == []


@on_virtual_time
async def test_a_dial_whose_probe_is_reset_is_told() -> None:
    engine = FakeEngine(dial_s=0.125)
    engine.resets_probes = True
    transport = pooled(engine)
    dials = told(transport)
    await transport.warm(H2, 1)
    assert dials == [(H2, 0.125)]
    await transport.aclose()


@on_virtual_time
async def test_who_is_told_and_raises_costs_no_connection() -> None:
    engine = FakeEngine()
    transport = pooled(engine)
    failures: list[object] = []
    asyncio.get_running_loop().set_exception_handler(
        lambda _, context: failures.append(context["exception"])
    )
    bug = ValueError("a bug of who listens")

    def listen(origin: Origin, took_s: float) -> None:
        raise bug

    transport.on_dial = listen
    await transport.warm(H2, 1)
    assert failures == [bug]
    (await opened(transport)).finish()
    await transport.aclose()


# --- apart from another request ---------------------------------------------------------------


@on_virtual_time
async def test_a_second_request_goes_over_another_connection() -> None:
    engine = FakeEngine()
    transport = pooled(engine, replace(STEADY, max_streams=4))
    await transport.warm(H2, 2)
    load = [await opened(transport) for _ in range(4)]
    idle, busy = engine.made
    for stream in idle.streams:
        stream.finish()
    idle.headers_s = 1.0
    first, second = UsedConnection(), UsedConnection()
    waiting = asyncio.ensure_future(
        transport.open(H2, POST, connect_timeout_s=2, used=first, apart_from=UsedConnection())
    )
    await asyncio.sleep(0.5)
    assert first.connection is not None, "known while its headers are waited for"
    apart = await transport.open(H2, POST, connect_timeout_s=2, used=second, apart_from=first)
    assert second.connection is not first.connection
    assert apart is busy.streams[-1], "by load alone it would have been the other"
    for one in (await waiting, apart):
        one.abort()
    for stream in load:
        stream.finish()
    await transport.aclose()


@on_virtual_time
async def test_to_be_apart_nobody_waits_or_dials() -> None:
    engine = FakeEngine(dial_s=0.25)
    transport = pooled(engine)
    await transport.warm(H2, 1)
    first, second = UsedConnection(), UsedConnection()
    streams = [
        await transport.open(H2, POST, connect_timeout_s=2, used=first),
        await transport.open(H2, POST, connect_timeout_s=2, used=second, apart_from=first),
    ]
    assert second.connection is first.connection
    assert (since_start_s(), len(engine.made)) == (0.25, 1)
    for stream in streams:
        stream.abort()
    await transport.aclose()


@on_virtual_time
async def test_who_waited_in_line_is_told_its_connection() -> None:
    engine = FakeEngine(dial_s=0.25)
    transport = pooled(engine)
    used = UsedConnection()
    waiting = asyncio.ensure_future(transport.open(H2, POST, connect_timeout_s=2, used=used))
    await asyncio.sleep(0.125)
    in_line = used.connection
    (await waiting).abort()
    assert in_line is None
    assert used.connection is not None
    await transport.aclose()


# --- warmth ---------------------------------------------------------------------------------


@on_virtual_time
async def test_warming_dials_one_after_the_other() -> None:
    engine = FakeEngine(dial_s=0.1)
    transport = pooled(engine)
    await transport.warm(H2, 2)
    assert engine.dials_s == [0.0, 0.1]
    assert since_start_s() == 0.2
    await transport.aclose()


def test_a_timer_that_is_due_at_once_does_no_harm() -> None:
    """uvloop has no timer for what is due within half a millisecond: it gives a plain handle."""

    async def main() -> None:
        engine = FakeEngine()
        transport = pooled(engine, replace(STEADY, probe_interval_s=0.0002))
        for _ in range(20):
            streams = [await opened(transport) for _ in range(2)]
            for stream in streams:
                stream.finish()
            await asyncio.sleep(0)
        await transport.aclose()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


@on_virtual_time
async def test_a_failed_refill_backs_off() -> None:
    engine = FakeEngine()
    engine.failure = ConnectError("away")
    transport = pooled(engine)
    await transport.warm(H2, 2)
    assert since_start_s() == 0.0
    assert transport.describe()[0].last_error == "away"
    await asyncio.sleep(4.0)
    assert engine.dials_s == [0.0, 0.1, 0.3, 0.7, 1.5, 2.5, 3.5]
    engine.failure = None
    await asyncio.sleep(1.0)
    assert engine.dials_s[-2:] == [4.5, 4.5]
    assert transport.describe()[0].connections == 2
    await transport.aclose()


@on_virtual_time
async def test_a_dial_that_fails_by_a_fault_of_ours_backs_off_too() -> None:
    """As of a host that no name can be, which some engines say in a way of their own."""
    told: list[str] = []
    asyncio.get_running_loop().set_exception_handler(
        lambda _, context: told.append(repr(context.get("exception")))
    )
    engine = FakeEngine()
    engine.failure = RuntimeError("builder error")
    transport = pooled(engine)
    with pytest.raises(ConnectError, match=r"\(RuntimeError\)"):
        await opened(transport)
    await transport.warm(H2, 1)
    await asyncio.sleep(4.0)
    assert len(engine.made) < 10
    assert told == [repr(engine.failure)] * len(engine.made)
    assert all(connection.is_closed for connection in engine.made)
    await transport.aclose()


@on_virtual_time
async def test_silence_is_probed_and_an_answer_is_as_good() -> None:
    engine = FakeEngine()
    transport = pooled(engine)
    await transport.warm(H2, 1)
    await asyncio.sleep(20)
    (await opened(transport)).finish()
    await asyncio.sleep(70)
    assert engine.made[0].probes_s == [50.0, 80.0]
    assert len(engine.made) == 1
    await transport.aclose()


@on_virtual_time
async def test_an_unanswered_probe_replaces_the_connection() -> None:
    engine = FakeEngine()
    transport = pooled(engine)
    await transport.warm(H2, 1)
    engine.made[0].probe_s = math.inf
    await asyncio.sleep(40)
    assert engine.made[0].closed_s == 35.0
    assert engine.dials_s == [0.0, 35.0]
    assert transport.describe()[0].connections == 1
    await transport.aclose()


@on_virtual_time
async def test_an_unanswered_probe_has_the_siblings_asked() -> None:
    engine = FakeEngine()
    transport = pooled(engine)
    await transport.warm(H2, 2)
    await asyncio.sleep(10)
    (await opened(transport)).finish()
    (silent,) = [one for one in engine.made if not one.streams]
    silent.probe_s = math.inf
    await asyncio.sleep(26)  # 30 without a word, and 5 for the probe
    (busy,) = [one for one in engine.made[:2] if one.streams]
    assert silent.closed_s == 35.0
    assert busy.probes_s == [35.0], "its own would be due at 40"
    await transport.aclose()


async def given_up(transport: PooledTransport, after_s: float) -> None:
    """A request that is left, its answer not having come."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(after_s):
            await opened(transport)


@on_virtual_time
async def test_a_request_given_up_in_silence_has_its_connection_asked() -> None:
    engine = FakeEngine()
    transport = pooled(engine)
    await transport.warm(H2, 1)
    engine.made[0].headers_s = engine.made[0].probe_s = math.inf
    await asyncio.sleep(10)
    await given_up(transport, 4)
    await asyncio.sleep(6)
    assert engine.made[0].probes_s == [14.0]
    assert engine.made[0].closed_s == 19.0
    assert engine.dials_s == [0.0, 19.0]
    await transport.aclose()


@on_virtual_time
async def test_a_request_given_up_soon_has_nobody_asked() -> None:
    engine = FakeEngine()
    transport = pooled(engine)
    await transport.warm(H2, 1)
    engine.made[0].headers_s = math.inf
    await asyncio.sleep(10)
    await given_up(transport, 0.9)
    await asyncio.sleep(5)
    assert not engine.made[0].probes_s
    await transport.aclose()


@on_virtual_time
async def test_a_request_given_up_while_others_are_answered_has_nobody_asked() -> None:
    engine = FakeEngine()
    transport = pooled(engine)
    await transport.warm(H2, 1)
    engine.made[0].headers_s = math.inf
    await asyncio.sleep(10)
    leaving = asyncio.create_task(given_up(transport, 4))
    await asyncio.sleep(3.5)
    engine.made[0].headers_s = 0.0
    (await opened(transport)).finish()
    await leaving
    await asyncio.sleep(5)
    assert not engine.made[0].probes_s
    await transport.aclose()


@on_virtual_time
async def test_an_answer_that_is_left_has_nobody_asked() -> None:
    engine = FakeEngine()
    transport = pooled(engine)
    await transport.warm(H2, 1)
    stream = await opened(transport)
    await asyncio.sleep(10)
    stream.abort()
    await asyncio.sleep(5)
    assert not engine.made[0].probes_s
    await transport.aclose()


@on_virtual_time
async def test_what_broke_one_may_have_broken_all() -> None:
    engine = FakeEngine()
    transport = pooled(engine, replace(STEADY, max_connections=3))
    await transport.warm(H2, 3)
    await asyncio.sleep(10)
    (await opened(transport)).lose()
    await asyncio.sleep(1)
    probes_s = sorted(probe_s for one in engine.made for probe_s in one.probes_s)
    assert probes_s == [10.0, 10.0]
    assert engine.dials_s == [0.0, 0.0, 0.0, 10.0]
    await transport.aclose()


@on_virtual_time
async def test_probes_unanswered_from_the_first_are_given_up() -> None:
    engine = FakeEngine()
    transport = pooled(engine)
    original = engine.connect

    def connect(
        origin: Origin, *, connect_timeout_s: float, addresses: tuple[str, ...]
    ) -> FakeConnection:
        connection = original(origin, connect_timeout_s=connect_timeout_s, addresses=addresses)
        connection.probe_s = math.inf
        return connection

    engine.connect = connect  # type: ignore[method-assign]
    await transport.warm(H2, 1)
    assert since_start_s() == 3.25
    (await opened(transport)).finish()
    await asyncio.sleep(200)
    assert engine.made[0].probes_s == []
    assert len(engine.made) == 1
    await transport.aclose()


# --- rotation -------------------------------------------------------------------------------


@on_virtual_time
async def test_an_old_connection_is_replaced_before_it_goes() -> None:
    engine = FakeEngine(dial_s=0.5)
    transport = pooled(engine, replace(STEADY, max_age_s=100.0))
    await transport.warm(H2, 1)
    await asyncio.sleep(99.0)
    stream = await opened(transport)
    await asyncio.sleep(1.25)
    # Due at 100.5; its replacement takes until 101.0; nothing is interrupted.
    assert engine.dials_s == [0.0, 100.5]
    assert transport.describe()[0].connections == 1
    assert not engine.made[0].is_closed
    await asyncio.sleep(5)
    stream.finish()
    assert engine.made[0].closed_s == since_start_s()
    (await opened(transport)).finish()
    assert len(engine.made[1].streams) == 1
    await transport.aclose()


@on_virtual_time
async def test_an_old_connection_stays_while_it_cannot_be_replaced() -> None:
    engine = FakeEngine()
    transport = pooled(engine, replace(STEADY, max_age_s=10.0))
    await transport.warm(H2, 1)
    engine.failure = ConnectError("away")
    await asyncio.sleep(15.0)
    assert transport.describe()[0].connections == 1
    (await opened(transport)).finish()
    engine.failure = None
    await asyncio.sleep(2.0)
    assert engine.made[0].closed_s is not None
    assert transport.describe()[0].connections == 1
    await transport.aclose()


@on_virtual_time
async def test_a_much_used_connection_is_replaced() -> None:
    engine = FakeEngine(dial_s=0.5)
    transport = pooled(engine, replace(STEADY, max_requests=3))
    await transport.warm(H2, 1)
    for _ in range(3):
        (await opened(transport)).finish()
    await asyncio.sleep(0.2)
    (await opened(transport)).finish()  # no wait: the old one serves until the new one is there
    assert since_start_s() == 0.7
    await asyncio.sleep(1)
    assert engine.dials_s == [0.0, 0.5]
    assert engine.made[0].closed_s == 1.0
    await transport.aclose()


async def used(transport: PooledTransport, streams: int, resets: int) -> None:
    """So many streams one after another, some of them left before their end."""
    for number in range(streams):
        stream = await opened(transport)
        if number < resets:
            stream.abort()
        else:
            stream.finish()


@pytest.mark.parametrize(
    ("streams", "resets", "is_replaced"),
    [
        (24, 24, False),
        (25, 8, False),
        (25, 9, True),
        (100, 34, False),
        (100, 35, True),
        (600, 149, False),
        (600, 150, True),
    ],
)
def test_a_connection_of_many_resets_is_replaced_before_it_is_taken_for_an_attack(
    streams: int, resets: int, is_replaced: bool
) -> None:
    @on_virtual_time
    async def check() -> None:
        engine = FakeEngine()
        transport = pooled(engine)
        await transport.warm(H2, 1)
        await used(transport, streams - resets, 0)
        await used(transport, resets, resets)
        await asyncio.sleep(1)
        assert (len(engine.made) > 1) is is_replaced
        await transport.aclose()

    check()


@on_virtual_time
async def test_what_is_replaced_for_its_resets_serves_until_the_new_one_is_there() -> None:
    engine = FakeEngine(dial_s=0.5)
    transport = pooled(engine)
    await transport.warm(H2, 1)
    long = await opened(transport)
    await used(transport, 99, 99)
    assert since_start_s() == 0.5
    await asyncio.sleep(0.25)
    await used(transport, 50, 50)  # no wait, and no second dial
    await asyncio.sleep(0.5)
    assert engine.dials_s == [0.0, 0.5]
    assert not engine.made[0].is_closed, "a stream of it is still read"
    long.finish()
    assert engine.made[0].closed_s == 1.25
    (await opened(transport)).finish()
    assert len(engine.made[1].streams) == 1
    await transport.aclose()


@on_virtual_time
async def test_an_origin_that_always_loses_is_dialled_once_in_a_hundred() -> None:
    engine = FakeEngine()
    transport = pooled(engine)
    await transport.warm(H2, 2)
    for _ in range(2000):  # in 20 s
        (await opened(transport)).abort()
        await asyncio.sleep(0.01)
    carried = [len(connection.streams) for connection in engine.made if connection.is_closed]
    assert carried.count(24) + carried.count(25) == 6, "the minute's early ones"
    assert all(streams in (24, 25, 99, 100) for streams in carried)  # its dial's probe is one
    assert len(engine.made) == 2 + len(carried)
    await transport.aclose()


@on_virtual_time
async def test_after_a_word_for_calm_fewer_resets_are_enough() -> None:
    engine = FakeEngine()
    transport = pooled(engine)
    await transport.warm(H2, 1)
    assert transport.describe()[0].max_reset_share == 0.35
    both = [await opened(transport) for _ in range(2)]
    for stream in both:
        stream.calm()
    row = transport.describe()[0]
    assert (row.calmed, row.max_reset_share, row.connections) == (1, 0.175, 0)
    await asyncio.sleep(1)
    made = len(engine.made)
    await used(transport, 50, 0)
    await used(transport, 10, 10)
    await asyncio.sleep(1)
    assert len(engine.made) == made
    await used(transport, 1, 1)
    await asyncio.sleep(1)
    assert len(engine.made) == made + 1
    await transport.aclose()


@on_virtual_time
async def test_a_sixth_of_resets_replaces_no_more_than_use_does() -> None:
    engine = FakeEngine()
    transport = pooled(engine, replace(STEADY, max_requests=900))
    await transport.warm(H2, 2)
    for number in range(1800):
        stream = await opened(transport)
        if number % 6 == 0:
            stream.abort()
        else:
            stream.finish()
        await asyncio.sleep(0.01)
    assert len(engine.made) <= 4
    await transport.aclose()


@on_virtual_time
async def test_connections_of_an_origin_nobody_warms_go_when_idle() -> None:
    engine = FakeEngine()
    transport = pooled(engine, replace(STEADY, idle_timeout_s=60.0))
    (await opened(transport)).finish()
    await asyncio.sleep(100)
    assert engine.made[0].closed_s == 60.0
    assert transport.describe()[0].connections == 0
    # And then the pool is quiet: not a timer is left.
    assert transport._pools[H2]._timer is None
    await transport.aclose()


@on_virtual_time
async def test_jitter_is_downwards_and_spreads() -> None:
    engine = FakeEngine()
    transport = pooled(engine, replace(STEADY, jitter=0.5))
    await transport.warm(H2, 2)
    await asyncio.sleep(30.0)
    first_probes_s = [connection.probes_s[0] for connection in engine.made]
    assert all(15.0 <= probe_s <= 30.0 for probe_s in first_probes_s)
    assert len(set(first_probes_s)) == 2
    await transport.aclose()


# --- HTTP/1.1 -------------------------------------------------------------------------------


@on_virtual_time
async def test_over_http1_an_aborted_stream_takes_its_connection_along() -> None:
    engine = FakeEngine(version="1.1")
    transport = pooled(engine)
    await transport.warm(H1, 1)
    (await opened(transport, H1)).abort()
    assert engine.made[0].closed_s == 0.0
    await asyncio.sleep(0.1)
    assert len(engine.made) == 2
    assert transport.describe()[0].connections == 1
    await transport.aclose()


# --- origins that are let go ------------------------------------------------------------------


def origins(transport: PooledTransport) -> list[Origin]:
    return [row.origin for row in transport.describe()]


@on_virtual_time
async def test_what_is_not_retained_closes_at_once_when_idle() -> None:
    engine = FakeEngine()
    transport = pooled(engine)
    await transport.warm(H2, 2)
    await transport.warm(H1, 1)
    await asyncio.sleep(10)
    transport.retain({H1})
    assert [connection.closed_s for connection in engine.made] == [10.0, 10.0, None]
    assert origins(transport) == [H1]
    await asyncio.sleep(75)
    assert len(engine.made) == 3, "nothing is dialled there again"
    assert [connection.probes_s for connection in engine.made] == [[], [], [30.0, 60.0]]
    await transport.aclose()


@on_virtual_time
async def test_running_streams_finish_first() -> None:
    engine = FakeEngine()
    transport = pooled(engine, replace(STEADY, max_age_s=100.0))
    await transport.warm(H2, 2)
    streams = [await opened(transport) for _ in range(3)]
    transport.retain(())
    await asyncio.sleep(50)
    streams.pop(0).finish()
    assert [connection.is_closed for connection in engine.made] == [False, False]
    streams.pop(0).finish()
    await asyncio.sleep(150)  # beyond what asks for a probe, or for a replacement by age
    (row,) = transport.describe()
    assert (row.open_streams, len(engine.made)) == (1, 2)
    assert [connection.probes_s for connection in engine.made] == [[], []]
    assert sorted(connection.is_closed for connection in engine.made) == [False, True]
    streams.pop(0).finish()
    assert all(connection.is_closed for connection in engine.made)
    assert origins(transport) == []
    await transport.aclose()


@on_virtual_time
async def test_requests_in_line_at_an_origin_let_go_are_served() -> None:
    engine = FakeEngine()
    transport = pooled(engine, replace(STEADY, max_streams=1, max_connections=1))
    first = await opened(transport)
    waiting = [asyncio.ensure_future(opened(transport, timeout_s=9)) for _ in range(2)]
    await asyncio.sleep(1)
    transport.retain(())
    first.finish()
    (await waiting[0]).finish()
    (await waiting[1]).finish()
    assert [connection.closed_s for connection in engine.made] == [1.0]
    assert origins(transport) == []
    await transport.aclose()


@on_virtual_time
async def test_request_to_an_origin_let_go_is_served_and_leaves_nothing() -> None:
    """A generation that began before the reload may fall back to it."""
    engine = FakeEngine(dial_s=0.25)
    transport = pooled(engine)
    transport.retain({H1})
    stream = await opened(transport)
    assert since_start_s() == 0.25
    assert origins(transport) == [H2]
    await asyncio.sleep(100)
    stream.finish()
    assert [(one.closed_s, one.probes_s) for one in engine.made] == [(100.25, [])]
    assert origins(transport) == []
    # Nor does one that fails, or is cancelled.
    engine.failure = ConnectError("no way")
    with pytest.raises(ConnectError):
        await opened(transport)
    engine.failure = None
    cancelled = asyncio.ensure_future(opened(transport))
    await asyncio.sleep(0.125)
    cancelled.cancel()
    await asyncio.sleep(1)
    assert all(connection.is_closed for connection in engine.made)
    assert origins(transport) == []
    await transport.aclose()


@on_virtual_time
async def test_dial_and_probe_under_way_at_an_origin_let_go() -> None:
    engine = FakeEngine(dial_s=0.5)
    transport = pooled(engine)
    await transport.warm(H2, 1)
    engine.made[0].probe_s = 1.0
    await asyncio.sleep(30)  # until its probe, which is under way then
    warming = asyncio.ensure_future(transport.warm(H2, 2))
    await asyncio.sleep(0.25)
    transport.retain(())
    await warming
    assert [connection.closed_s for connection in engine.made] == [None, 31.0]
    await asyncio.sleep(10)
    assert engine.made[0].closed_s == 31.5
    assert origins(transport) == []
    await transport.aclose()


@on_virtual_time
async def test_origin_that_is_named_again_is_taken_back() -> None:
    engine = FakeEngine()
    transport = pooled(engine)
    await transport.warm(H2, 1)
    stream = await opened(transport)
    transport.retain(())
    await transport.warm(H2, 1)
    transport.retain({H2})
    stream.finish()
    assert not engine.made[0].is_closed, "the one it had is as good as a new one"
    await asyncio.sleep(40)
    assert engine.made[0].probes_s == [30.0]
    # And one that had gone is warm again.
    transport.retain(())
    assert origins(transport) == []
    await transport.warm(H2, 2)
    assert transport.describe()[0].connections == 2
    await transport.aclose()


# --- the end --------------------------------------------------------------------------------


@on_virtual_time
async def test_close_waits_for_streams_until_its_grace_is_over() -> None:
    engine = FakeEngine()
    transport = pooled(engine)
    quick, slow = await opened(transport), await opened(transport)
    asyncio.get_running_loop().call_later(1.0, quick.finish)
    await transport.aclose(grace_s=4.0)
    assert since_start_s() == 4.0
    assert not quick.left
    assert slow.left
    assert engine.closed
    assert all(connection.closed_s is not None for connection in engine.made)
    with pytest.raises(Draining):
        await opened(transport)


@on_virtual_time
async def test_close_ends_dials_and_those_who_wait() -> None:
    engine = FakeEngine(dial_s=60.0)
    transport = pooled(engine)
    waiting = asyncio.ensure_future(opened(transport, timeout_s=30))
    await asyncio.sleep(1)
    await transport.aclose(grace_s=5.0)
    with pytest.raises(Draining):
        await waiting
    assert since_start_s() == 1.0


@on_virtual_time
async def test_close_ends_a_probe_that_has_not_begun() -> None:
    engine = FakeEngine()
    transport = pooled(engine)
    await transport.warm(H2, 1)
    pool = transport._pools[H2]
    pool._slots.connections[0].alive_s = 0.0
    pool.tick()  # its probe is due: a task, not yet run
    await transport.aclose()
    assert engine.made[0].is_closed


@on_virtual_time
async def test_close_interrupts_a_request_without_headers() -> None:
    engine = FakeEngine()
    transport = pooled(engine)
    await transport.warm(H2, 1)
    engine.made[0].headers_s = math.inf
    waiting = asyncio.ensure_future(opened(transport))
    await asyncio.sleep(1)
    await transport.aclose(grace_s=2.0)
    with pytest.raises(Draining):
        await waiting
    assert since_start_s() == 3.0


@on_virtual_time
async def test_a_cancel_that_meets_the_close_is_a_cancel() -> None:
    engine = FakeEngine()
    transport = pooled(engine)
    await transport.warm(H2, 1)
    engine.made[0].headers_s = math.inf
    waiting = asyncio.ensure_future(opened(transport))
    await asyncio.sleep(1)
    waiting.cancel()
    await transport.aclose()
    with pytest.raises(asyncio.CancelledError):
        await waiting


# --- providers that do not like our probes ----------------------------------------------------


@on_virtual_time
async def test_a_reset_probe_is_no_failed_dial() -> None:
    engine = FakeEngine(dial_s=0.1)
    engine.resets_probes = True
    transport = pooled(engine)
    await transport.warm(H2, 1)
    (await opened(transport)).finish()
    await asyncio.sleep(300)
    assert len(engine.made) == 1
    assert engine.made[0].probes_s == []  # it is not asked again
    (row,) = transport.describe()
    assert (row.connections, row.last_error) == (1, None)
    await transport.aclose()


@on_virtual_time
async def test_a_probe_reset_later_leaves_the_connection() -> None:
    engine = FakeEngine()
    transport = pooled(engine)
    await transport.warm(H2, 1)
    engine.made[0].resets_probes = True
    await asyncio.sleep(300)
    assert engine.made[0].probes_s == [30.0]
    assert not engine.made[0].is_closed
    assert len(engine.made) == 1
    await transport.aclose()


# --- how many streams an origin takes ---------------------------------------------------------


@on_virtual_time
async def test_an_origin_has_its_own_number_of_streams() -> None:
    engine = FakeEngine()
    transport = pooled(engine)
    await transport.warm(H2, 1, max_streams=3)
    streams = [await opened(transport) for _ in range(3)]
    assert len(engine.made) == 1
    streams.append(await opened(transport))
    assert len(engine.made) == 2
    for stream in streams:
        stream.finish()
    await transport.aclose()


@on_virtual_time
async def test_a_changed_number_holds_for_open_connections() -> None:
    engine = FakeEngine()
    transport = pooled(engine, replace(STEADY, max_connections=1))
    await transport.warm(H2, 1, max_streams=3)
    streams = [await opened(transport) for _ in range(3)]
    await transport.warm(H2, 1, max_streams=1)
    waiting = asyncio.ensure_future(opened(transport, timeout_s=60))
    await asyncio.sleep(1)
    streams.pop().finish()
    await asyncio.sleep(1)
    assert not waiting.done()  # two still run where one may
    await transport.warm(H2, 1, max_streams=3)
    (await waiting).finish()
    assert since_start_s() == 2.0
    for stream in streams:
        stream.finish()
    await transport.aclose()


@pytest.mark.parametrize("contended", [False, True])
def test_cancelled_at_every_step_no_slot_is_lost(contended: bool) -> None:
    settings = replace(STEADY, max_streams=1, max_connections=1)
    outcomes: set[str] = set()

    async def scenario(tasks: list[asyncio.Task[None]]) -> None:
        transport = pooled(FakeEngine(dial_s=0.1), settings)
        before = await opened(transport) if contended else None

        async def request() -> None:
            stream = await opened(transport, timeout_s=5)
            try:
                await asyncio.sleep(0.1)
            finally:
                stream.abort()

        tasks.append(asyncio.ensure_future(request()))
        if before is not None:
            asyncio.get_running_loop().call_later(0.05, before.finish)
        await asyncio.wait(tasks)
        outcomes.add("cancelled" if tasks[0].cancelled() else "done")
        await asyncio.sleep(1)
        for row in transport.describe():
            assert (row.open_streams, row.waiting) == (0, 0)
        (await opened(transport)).finish()
        await transport.aclose()

    for step in range(1, 40):
        tasks: list[asyncio.Task[None]] = []

        def cancel(tasks: list[asyncio.Task[None]] = tasks) -> None:
            if tasks:
                tasks[0].cancel()

        run(scenario(tasks), at_step={step: cancel})
    assert outcomes == {"cancelled", "done"}
