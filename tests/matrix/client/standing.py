"""Clients that stand still: who do not read, and who have nothing to say (rows C3 and C4)."""

from __future__ import annotations

import asyncio
import contextlib

import grpc
import orjson
import pytest

from relay.dispatch import Services
from relay.frontends.grpc_service import _Conversation
from relay.http_server import HttpServer
from tests.fakes.converse_client import Conversation, reason_of, status_of
from tests.fakes.h2_server import CANCEL, ServerStream, stream_chunks
from tests.fakes.relay_under_test import chat_body, eventually
from tests.matrix.client.raw import (
    Frames,
    framed,
    grpc_headers,
    key_of,
    post,
    request_bytes,
    small_window,
)
from tests.matrix.row import Part, Row, Stage
from tests.matrix.world import CHAT, whole_answer, word, world

SLOW = {"server": {"slow_consumer_ms": 300}}
PIECE = "x" * 4096
HELD_BYTES = 400_000
"""What the relay may hold for one who does not read, and the kernel."""


class Endless:
    """A provider that goes on for as long as it is read."""

    def __init__(self) -> None:
        self.streams: list[ServerStream] = []

    async def script(self, stream: ServerStream) -> None:
        self.streams.append(stream)
        await stream.send_headers()
        while True:
            await stream.send(word(PIECE))


async def http_is_not_read(stage: Stage) -> None:
    lab, is_streamed = Endless(), stage.draw.random() < 0.7
    loop = asyncio.get_running_loop()
    async with world(stage, SLOW) as here:
        here.lab.routes[CHAT] = (
            lab.script if is_streamed else stream_chunks(whole_answer(*[PIECE] * 2000))
        )
        with small_window() as client:
            await loop.sock_connect(client, ("127.0.0.1", here.relay.worker.http_port))
            body = orjson.dumps(chat_body("alone", stream=is_streamed))
            await loop.sock_sendall(client, post(here, body))
            stream = await here.lab.request(CHAT)
            if is_streamed:
                await here.lab.until(lambda: stream.reset_code == CANCEL)
                assert stream.sent_bytes < 10 * HELD_BYTES, "it was not read on"
            (listener,) = here.relay.worker._http_servers[:1]
            own = client.getsockname()
            await eventually(
                lambda: (
                    own
                    not in [
                        one.transport.get_extra_info("peername") for one in listener.connections
                    ]
                )
            )
        (booked,) = await here.booked(1)
        assert booked.asked == ["lab"]
        if is_streamed:
            assert booked.state == "estimated"


async def a_window_of_nothing(stage: Stage) -> None:
    """HTTP/2 windows that never open, of a call by hand."""
    lab = Endless()
    async with world(stage, SLOW) as here:
        here.lab.routes[CHAT] = lab.script
        window_bytes = stage.draw.choice((0, 1, 1000))
        async with Frames(here.relay.worker.grpc_port, window_bytes=window_bytes) as client:
            id_ = client.call(grpc_headers(here), framed(request_bytes()))
            stream = await here.lab.request(CHAT)
            await here.lab.until(lambda: stream.reset_code == CANCEL)
            assert stream.sent_bytes < HELD_BYTES, "it was not read on"
            assert not client.rpcs[id_].is_over, "nothing can be told to a window that is shut"
        (booked,) = await here.booked(1)
        assert (booked.state, booked.asked) == ("estimated", ["lab"])


async def a_session_reads_again(stage: Stage) -> None:
    lab = Endless()
    options = [
        ("grpc.http2.bdp_probe", 0),
        ("grpc.http2.lookahead_bytes", 65_536),
        ("grpc.use_local_subchannel_pool", 1),
    ]
    async with world(stage, SLOW) as here:
        here.lab.routes[CHAT] = lab.script
        address = f"127.0.0.1:{here.relay.worker.grpc_port}"
        key = {"authorization": f"Bearer {key_of(here)}"}
        async with (
            grpc.aio.insecure_channel(address, options=options) as channel,
            Conversation(channel, metadata=key) as talk,
        ):
            await talk.start("g", model="alone")
            await talk.until(lambda: talk.answer("g").text)
            talk.is_reading.clear()
            await here.lab.until(lambda: lab.streams[0].reset_code == CANCEL)
            talk.is_reading.set()
            answer = await talk.ended("g")
            assert answer.end is not None
            assert (reason_of(answer.end.error), answer.end.error.code) == ("SLOW_CONSUMER", 8)
            here.lab.routes[CHAT] = stream_chunks(whole_answer("still", " here"))
            await talk.start("g2", model="alone")
            assert (await talk.ended("g2")).text == "still here", "the session goes on"
        first, second = await here.booked(2)
        assert (first.state, second.state) == ("estimated", "settled")


def who_reads_nothing_is_waited_for(patch: pytest.MonkeyPatch) -> None:
    """The limit of time for a client that takes nothing."""
    http = HttpServer.start
    patch.setattr(
        "relay.server.Services",
        lambda **given: Services(**{**given, "slow_consumer_s": 3600.0}),
    )
    patch.setattr(
        HttpServer,
        "start",
        lambda *given, **more: http(*given, **{**more, "slow_consumer_s": 3600.0}),
    )


# --- C4 ---------------------------------------------------------------------------------------

SESSIONS = 12
"""Ten thousand of them: `python -m bench run idle_sessions`."""


async def sessions_with_nothing_to_say(stage: Stage) -> None:
    settings = {"server": {"grpc": {"session_idle_ms": 400}}}
    async with world(stage, settings) as here, contextlib.AsyncExitStack() as stack:
        talks = [await stack.enter_async_context(here.relay.talk()) for _ in range(SESSIONS)]
        service = here.relay.worker._service
        assert service is not None
        busy = stage.draw.randrange(SESSIONS)
        here.lab.routes[CHAT] = stream_chunks(
            whole_answer(*[f"w{n} " for n in range(8)]), gap_s=0.1
        )
        await talks[busy].start("g", model="alone")
        await eventually(lambda: not service.sessions, 4)
        for number, talk in enumerate(talks):
            error = await talk.over()
            assert reason_of(status_of(error)) == "SESSION_IDLE", number
        assert talks[busy].answer("g").text.endswith("w7 "), "who is being answered is not idle"
        await here.booked(1)


async def half_closes_at_once(stage: Stage) -> None:
    count = stage.draw.randint(1, 4)
    async with world(stage) as here, here.relay.talk() as talk:
        here.lab.routes[CHAT] = stream_chunks(whole_answer("One", " two"), gap_s=0.01)
        for number in range(count):
            await talk.start(f"g{number}", model="alone")
        await talk.half_close()
        assert await talk.over() is None
        for number in range(count):
            assert talk.answer(f"g{number}").text == "One two"
        for booked in await here.booked(count):
            assert (booked.state, booked.cost_micro) == ("settled", 200)


def sessions_are_never_idle(patch: pytest.MonkeyPatch) -> None:
    """The limit of time for a session without a frame."""
    patch.setattr(_Conversation, "_look_whether_idle", lambda _: None)


def half_close_is_a_close(patch: pytest.MonkeyPatch) -> None:
    """That the end of a client's frames is not the end of its answers."""
    read = _Conversation._read_frames

    async def reads(conversation: _Conversation) -> None:
        await read(conversation)
        conversation._is_closed_by_client = True

    patch.setattr(_Conversation, "_read_frames", reads)


ROWS = (
    Row(
        "C3",
        inject="a slow reader; a window of nothing for ever",
        client="`SLOW_CONSUMER` (RESOURCE_EXHAUSTED) where it can be told, else a broken"
        " connection",
        accounting="estimated",
        retry="never; the provider is not read on, and is reset after 30 s",
        parts=(
            Part("http", http_is_not_read, who_reads_nothing_is_waited_for),
            Part("window", a_window_of_nothing, who_reads_nothing_is_waited_for),
            Part("session", a_session_reads_again, who_reads_nothing_is_waited_for),
        ),
        also=("tests/integration/test_back_pressure.py",),
    ),
    Row(
        "C4",
        inject="sessions that are idle, never half-closed, or half-closed at once",
        client="`SESSION_IDLE` after the limit; after an early half-close every answer",
        accounting="none; settled",
        retry="nothing is lost",
        parts=(
            Part("idle", sessions_with_nothing_to_say, sessions_are_never_idle),
            Part("half_closed", half_closes_at_once, half_close_is_a_close),
        ),
    ),
)
