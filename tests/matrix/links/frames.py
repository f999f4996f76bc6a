"""What a provider's HTTP/2 frames say of its connection (rows U13, U15)."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

import relay.attempt
import relay.transport.wreq
from relay.deadline import Scope, Timer
from relay.errors import StreamRefused, StreamReset
from relay.transport.pool import OriginPool
from relay.transport.resets import ResetLimit
from tests.fakes.h2_server import (
    ENHANCE_YOUR_CALM,
    NO_ERROR,
    H2Server,
    ServerStream,
    SettingCodes,
    goaway,
    in_turn,
    stream_chunks,
)
from tests.matrix.links.telling import (
    SPARED,
    Story,
    answered_by_spare,
    comes_true,
    reasons,
    refused,
    scale_down,
    story,
)
from tests.matrix.row import Part, Row, Stage
from tests.matrix.world import CHAT, WHOLE_MICRO, World, whole_answer, world

WHOLE = stream_chunks(whole_answer("One", " two"))


async def answers(here: World, face: str, model: str = "pair") -> None:
    """`lab` does, itself."""
    reply = await here.ask(face, model)
    assert reply.is_clean, reply
    assert (reply.text, reply.provider) == ("One two", "lab")


# --- U13 ------------------------------------------------------------------------------------------


async def goes_before_ours(stage: Stage) -> None:
    """Our stream is above last_stream_id: it was not processed."""
    closes = stage.draw.random() < 0.5
    stories: list[Story] = [[("lab", "primary", "actual")]]
    if closes:  # which may overtake the word: then it is a stale connection, U6
        stories.append([("lab", "primary", "free"), ("lab", "retry", "actual")])
    async with world(stage) as here:
        here.lab.routes[CHAT] = in_turn(goaway(processed=False, close=closes), WHOLE)
        await answers(here, here.face())
        (booked,) = await here.booked(1)
        assert story(booked) in stories
        assert booked.cost_micro == WHOLE_MICRO
        first, second = here.lab.requests(CHAT)
        assert first.connection is not second.connection


async def always_goes_before_ours(stage: Stage) -> None:
    async with world(stage) as here:
        here.lab.routes[CHAT] = goaway(processed=False)
        face = here.face()
        answered_by_spare(await here.ask(face, "pair"))
        refused(await here.ask(face, "alone"), face, "UPSTREAM_REFUSED_STREAM", 503)
        saved, lost = await here.booked(2)
        assert story(saved) == SPARED
        assert saved.cost_micro == WHOLE_MICRO
        assert lost.state == "void"


async def wants_calm(stage: Stage) -> None:
    """ENHANCE_YOUR_CALM: it takes our cancels for an attack."""
    async with world(stage) as here:
        here.lab.routes[CHAT] = goaway(processed=False, code=ENHANCE_YOUR_CALM)
        answered_by_spare(await here.ask(here.face(), "pair"))
        (booked,) = await here.booked(1)
        assert story(booked) == SPARED
        assert len(here.lab.requests(CHAT)) == 1, "it is not asked again at once"
        calmed = {  # how often each has asked for it
            state.origin.port: state.calmed
            for state in here.relay.worker.services.transport.describe()
        }
        assert calmed == {here.lab.port: 1, here.spare.port: 0}


async def goes_after_ours(stage: Stage) -> None:
    """Our stream is at or below it, and goes on."""
    gate = asyncio.Event()

    closes = stage.draw.random() < 0.5

    async def slow(stream: ServerStream) -> None:
        await gate.wait()
        await WHOLE(stream)

    async with world(stage) as here:
        here.lab.routes[CHAT] = in_turn(
            goaway(processed=True, code=NO_ERROR, then=slow, close=closes), WHOLE
        )
        face = here.face()
        first = asyncio.create_task(answers(here, face))
        going = await here.lab.request(CHAT)
        await answers(here, face)  # meanwhile, somewhere else
        gate.set()
        await first
        assert here.lab.requests(CHAT)[1].connection is not going.connection
        for booked in await here.booked(2):
            assert story(booked) == [("lab", "primary", "actual")]
            assert booked.cost_micro == WHOLE_MICRO


def refusals_are_resets(patch: pytest.MonkeyPatch) -> None:
    """That what is above last_stream_id was not processed."""
    mapped = relay.transport.wreq._mapped

    def without(error: Exception, **named: Any) -> Any:
        failure, how = mapped(error, **named)
        if isinstance(failure, StreamRefused):
            failure = StreamReset(failure.public_message)
        return failure, how

    patch.setattr(relay.transport.wreq, "_mapped", without)


def nobody_listens(patch: pytest.MonkeyPatch) -> None:
    """The share of cancels that is lowered when a provider asks for calm."""
    patch.setattr(ResetLimit, "calm", lambda *_: None)


# --- U15 ------------------------------------------------------------------------------------------

WINDOW, STREAMS = SettingCodes.INITIAL_WINDOW_SIZE, SettingCodes.MAX_CONCURRENT_STREAMS


def lab_of(stage: Stage, settings: dict[SettingCodes, int]) -> H2Server:
    return H2Server(tls=stage.authority.server_context(alpn=("h2",)), settings=settings)


async def one_stream_each(stage: Stage) -> None:
    """Two connections of one stream each: the third request waits, and then goes elsewhere."""
    lab = lab_of(stage, {STREAMS: 1})
    gate = asyncio.Event()

    async def gated(stream: ServerStream) -> None:
        await gate.wait()
        await WHOLE(stream)

    lab.routes[CHAT] = gated
    more = {
        "transport": {"max_connections": 2},
        "providers": {"lab": {"max_streams": 1, "warm_connections": stage.draw.choice((0, 1, 2))}},
    }
    async with world(stage, more, lab=lab, connect_ms=400) as here:
        face = here.face()
        running = [asyncio.create_task(answers(here, face)) for _ in range(2)]
        both = await comes_true(lambda: len(lab.requests(CHAT)) == 2)
        assert both, "the second has a connection of its own"
        answered_by_spare(await here.ask(face, "pair"))
        gate.set()
        await asyncio.gather(*running)
        assert len(lab.requests(CHAT)) == 2
        booked = await here.booked(3)
        (waited,) = [one for one in booked if len(one.attempts) > 1]
        assert story(waited) == SPARED
        assert reasons(waited) == ["POOL_EXHAUSTED", ""]
        assert sum(one.cost_micro for one in booked) == 3 * WHOLE_MICRO


async def fewer_streams_than_known(stage: Stage) -> None:
    """The engine holds a request back behind another one, and does not say so."""
    lab = lab_of(stage, {STREAMS: 1})
    scale_down(stage, probe_timeout_s=0.2)
    gate = asyncio.Event()

    async def held(stream: ServerStream) -> None:
        chunks = whole_answer("One", " two")
        await stream.send_headers()
        await stream.send(chunks[0] + chunks[1])
        await gate.wait()
        await stream.send(b"".join(chunks[2:]), end=True)

    lab.routes[CHAT] = in_turn(held, WHOLE)
    async with world(stage, lab=lab, first_token_ms=FIRST_TOKEN_MS) as here:
        face = here.face()
        first = asyncio.create_task(answers(here, face))
        going = await lab.request(CHAT)
        answered_by_spare(await here.ask(face, "pair"))
        others = [one for one in lab.connections if one is not going.connection]
        assert others or await comes_true(lambda: len(lab.connections) > 1), "no other connection"
        await answers(here, face)
        assert lab.requests(CHAT)[-1].connection is not going.connection
        gate.set()
        await first
        _, waited, _ = await here.booked(3)
        assert waited.asked == ["lab", "spare"]
        assert reasons(waited) == ["FIRST_TOKEN_TIMEOUT", ""]


async def one_byte_at_a_time(stage: Stage) -> None:
    """A request trickles out through a window of some bytes, as it is opened."""
    lab = lab_of(stage, {WINDOW: stage.draw.randint(1, 4)})
    lab.routes[CHAT] = WHOLE
    async with world(stage, lab=lab) as here:
        face = here.face()
        await answers(here, face)
        (booked,) = await here.booked(1)
        assert booked.cost_micro == WHOLE_MICRO
        assert b'"messages"' in lab.requests(CHAT)[0].body


FIRST_TOKEN_MS = 600


async def no_window_at_all(stage: Stage) -> None:
    """A window that is never opened: the request cannot be sent, and nobody spins."""
    lab = lab_of(stage, {WINDOW: 0})
    async with world(stage, lab=lab, first_token_ms=FIRST_TOKEN_MS) as here:
        face = here.face()
        asking = asyncio.create_task(here.ask(face, "pair"))
        (stream,) = [await lab.request(CHAT)]
        began_s, spent_s = time.monotonic(), time.process_time()
        await lab.until(lambda: stream.reset_code is not None, timeout_s=10)
        waited_s, spent_s = time.monotonic() - began_s, time.process_time() - spent_s
        answered_by_spare(await asking)
        assert waited_s < FIRST_TOKEN_MS / 1000 + LATE_S
        assert spent_s < waited_s / 2, "it was busy while it waited"
        assert not stream.body
        (booked,) = await here.booked(1)
        assert booked.asked == ["lab", "spare"]
        assert reasons(booked) == ["FIRST_TOKEN_TIMEOUT", ""]


async def changes_in_mid_run(stage: Stage) -> None:
    """While answers run: windows, frames, streams, the header table, in any order."""
    gate = asyncio.Event()

    async def gated(stream: ServerStream) -> None:
        await stream.send_headers()
        chunks = whole_answer("One", " two")
        await stream.send(chunks[0])
        await gate.wait()
        for part in chunks[1:]:
            await stream.send(part)
        await stream.end()

    changes: list[dict[SettingCodes | int, int]] = [
        {WINDOW: stage.draw.choice((0, 1, 100))},
        {WINDOW: 1 << 20},
        {STREAMS: stage.draw.choice((0, 1))},
        {STREAMS: 100},
        {SettingCodes.HEADER_TABLE_SIZE: stage.draw.choice((0, 65_536))},
        {SettingCodes.MAX_FRAME_SIZE: stage.draw.choice((16_384, 1 << 20))},
        {0xF0F0: 7},  # of no meaning
    ]
    async with world(stage) as here:
        here.lab.routes[CHAT] = gated
        face = here.face()
        running = [asyncio.create_task(answers(here, face)) for _ in range(3)]
        await here.lab.until(lambda: len(here.lab.requests(CHAT)) == 3)
        for change in changes:
            for connection in here.lab.open_connections:
                connection.update_settings(change)
        gate.set()
        await asyncio.gather(*running)
        await answers(here, face)
        for booked in await here.booked(4):
            assert story(booked) == [("lab", "primary", "actual")]
            assert booked.cost_micro == WHOLE_MICRO


LATE_S = 2.0


def later(scope: Scope, delay_s: float | None, make: Any) -> Timer:
    return Timer(scope, None if delay_s is None else delay_s + LATE_S + 1, make)


def first_tokens_are_waited_for(patch: pytest.MonkeyPatch) -> None:
    """The limit of the first token."""
    patch.setattr(relay.attempt, "Timer", later)


def nobody_doubts(patch: pytest.MonkeyPatch) -> None:
    """The question to a connection over which a request had no answer."""
    patch.setattr(OriginPool, "_doubt", lambda *_: None)


def streams_are_not_counted(patch: pytest.MonkeyPatch) -> None:
    """The provider's own number of streams a connection."""
    warm = OriginPool.warm

    async def without(self: OriginPool, connections: int, path: str | None, _: int | None) -> None:
        await warm(self, connections, path, None)

    patch.setattr(OriginPool, "warm", without)


ROWS = {
    "U13": Row(
        "U13",
        inject="GOAWAY with last_stream_id below, or not below, our stream",
        client="below: nothing of it, or another provider's answer; else the stream finishes",
        accounting="below: void; else settled",
        retry="below: at once on a new connection, then the next target; who asks for calm "
        "(ENHANCE_YOUR_CALM) is not asked again at once, and sees fewer cancels for an hour",
        parts=(
            Part(
                "below_once",
                goes_before_ours,
                undefended="the HTTP engine sends it again by itself",
            ),
            Part("below_always", always_goes_before_ours, refusals_are_resets),
            Part("calm", wants_calm, nobody_listens),
            Part(
                "not_below",
                goes_after_ours,
                undefended="the HTTP engine goes on with it, and dials for those that come",
            ),
        ),
        also=(
            "tests/transport/test_http2.py::test_goaway_lets_a_processed_stream_finish",
            "tests/integration/test_adversity.py::test_goaway_below_a_running_stream_is_told",
        ),
    ),
    "U15": Row(
        "U15",
        inject="SETTINGS: one stream a connection (which its row says, or not), a window of a few "
        "bytes or of none, changes while streams run",
        client="an answer; where no stream becomes free within the connect limit, or unknown to us "
        "within that of the first token, another provider's",
        accounting="nothing for who waited in our line; what the HTTP engine held back is "
        "estimated, since it does not say so",
        retry="the next target, and then another connection; no loop spins meanwhile",
        parts=(
            Part("one_stream", one_stream_each, streams_are_not_counted),
            Part("unknown_limit", fewer_streams_than_known, nobody_doubts),
            Part(
                "small_window", one_byte_at_a_time, undefended="flow control is the HTTP engine's"
            ),
            Part("no_window", no_window_at_all, first_tokens_are_waited_for),
            Part(
                "changes", changes_in_mid_run, undefended="SETTINGS are the HTTP engine's business"
            ),
        ),
        also=(
            "tests/transport/test_http2.py::test_a_server_with_one_stream_a_connection",
            "tests/transport/test_http2.py::test_a_request_body_larger_than_the_server_s_window",
        ),
    ),
}
