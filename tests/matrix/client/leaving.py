"""Clients that leave: in good order, and without a word (rows C1 and C2)."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import orjson
import pytest
from rtrelay.v1 import GenerateRequest, GenerateResponse, Outcome

import relay.server
from relay.generation import Generation
from tests.fakes.converse_client import GENERATE, Conversation, start
from tests.fakes.h2_server import CANCEL, ServerStream
from tests.fakes.relay_under_test import chat_body, chunk, eventually
from tests.matrix.client.raw import connected, key_of, post
from tests.matrix.client.standing import who_reads_nothing_is_waited_for
from tests.matrix.row import Part, Row, Stage
from tests.matrix.world import CHAT, USAGE, World, word, world

RESET_S = 0.05
LOOKS = 3
"""A machine may be busy once and again; a relay that is slow is slow each time."""

Leave = Callable[[], Awaitable[None]]


class Place:
    """A provider that stops at some point of its answer."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = pieces
        self.reached = asyncio.Event()
        self.stream: ServerStream | None = None

    async def script(self, stream: ServerStream) -> None:
        self.stream = stream
        if self._pieces:
            await stream.send_headers()
        for piece in self._pieces:
            await stream.send(piece)
        self.reached.set()
        await stream.hang()


@asynccontextmanager
async def asking(here: World, face: str, words: str) -> AsyncIterator[Leave]:
    """A client that has asked, and has heard so much; what is yielded makes it leave."""
    if face == "converse":
        async with here.relay.talk() as talk:
            await talk.start("g", model="alone")
            await talk.says(words, "g")

            async def barge_in() -> None:
                await talk.cancel("g")
                answer = await talk.ended("g", timeout_s=3)
                assert answer.end is not None
                assert answer.end.outcome == Outcome.OUTCOME_CANCELLED
                await talk.half_close()
                assert await talk.over() is None, "the session lives on"

            yield barge_in
    elif face == "generate":
        rpc: Any = here.relay.channel.unary_stream(
            GENERATE,
            request_serializer=GenerateRequest.SerializeToString,
            response_deserializer=GenerateResponse.FromString,
        )
        call = rpc(
            GenerateRequest(start=start("g", "alone")),
            metadata=(("authorization", f"Bearer {key_of(here)}"),),
        )
        heard = ""
        while heard != words:
            heard += (await call.read()).delta.text

        async def cancel() -> None:
            call.cancel()
            assert await call.code() == grpc.StatusCode.CANCELLED

        yield cancel
    else:
        body = orjson.dumps(chat_body("alone", stream=face == "sse"))
        async with connected(here.relay.worker.http_port) as client:
            client.send(post(here, body))
            if words and face == "sse":
                await client.reader.readuntil(words.encode())

            async def hang_up() -> None:
                client.writer.close()

            yield hang_up


async def _reset_at_s(here: World, stream: ServerStream) -> float:
    """When the provider saw the reset, once it has."""
    await here.lab.until(lambda: stream.reset_code is not None)
    assert stream.reset_code == CANCEL
    assert stream.reset_at_s is not None
    return stream.reset_at_s


async def leaves(stage: Stage, words: str, *pieces: bytes, has_usage: bool = False) -> None:
    face = stage.draw.choice(("converse", "generate", "sse", "json"))
    took_s: list[float] = []
    async with world(stage) as here:
        while not took_s or (min(took_s) > RESET_S and len(took_s) < LOOKS):
            place = Place(*pieces)
            here.lab.routes[CHAT] = place.script
            async with asking(here, face, words) as leave:
                await asyncio.wait_for(place.reached.wait(), 5)
                stream = place.stream
                assert stream is not None
                if pieces:  # what was sent has been taken
                    await asyncio.sleep(0.02)
                began_s = time.monotonic()
                await leave()
                took_s.append(await _reset_at_s(here, stream) - began_s)
        assert min(took_s) <= RESET_S, took_s
        assert not here.spare.requests(CHAT)
        for booked in await here.booked(len(took_s)):
            assert (booked.state, booked.asked) == ("estimated", ["lab"]), booked
            assert (booked.cost_micro == 200) == has_usage


async def before_the_first_token(stage: Stage) -> None:
    role = chunk({"role": "assistant", "content": ""})
    await leaves(stage, "", *stage.draw.choice([(), (role,), (role,)]))


async def between_tokens(stage: Stage) -> None:
    count = stage.draw.randint(1, 5)
    words = [f"w{number} " for number in range(count)]
    await leaves(stage, "".join(words), *map(word, words))


async def after_usage(stage: Stage) -> None:
    usage = chunk(usage=USAGE, choices=[])
    await leaves(stage, "One", word("One") + chunk(finish="stop") + usage, has_usage=True)


def clients_are_not_heard(patch: pytest.MonkeyPatch) -> None:
    """That a generation hears of its client's cancel, or of its going."""
    patch.setattr(Generation, "cancel", lambda *_: False)


# --- C2 ---------------------------------------------------------------------------------------


class DeadEnd:
    """A way to a port that can vanish: what is sent either way is lost from then on, and nobody is
    told. `tc netem loss 100%` without a name space: no FIN, no RST, no frame."""

    def __init__(self, port: int) -> None:
        self._to_port = port
        self._open = asyncio.Event()
        self._open.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    async def __aenter__(self) -> DeadEnd:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0, limit=4096)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def vanish(self) -> None:
        self._open.clear()

    async def _connected(self, near: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        # Small buffers: what the relay writes to somebody who is not there fills them at once.
        own = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        own.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        own.setblocking(False)
        await asyncio.get_running_loop().sock_connect(own, ("127.0.0.1", self._to_port))
        far, server = await asyncio.open_connection(sock=own, limit=4096)
        for reader, writer in ((near, server), (far, client)):
            task = asyncio.create_task(self._pass(reader, writer))
            self._tasks.add(task)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(4096):
                await self._open.wait()
                writer.write(data)
                await writer.drain()
        except OSError:
            pass  # one side is gone
        finally:
            writer.close()


TIMES = ("grpc.keepalive_time_ms", "grpc.keepalive_timeout_ms", "grpc.http2.ping_timeout_ms")


def quick_pings(stage: Stage) -> None:
    """The server's keepalive, a hundred times as fast."""
    options = relay.server.grpc_options

    def quick(*given: Any, **more: Any) -> list[tuple[str, int]]:
        return [
            (name, value // 100 if name in TIMES else value)
            for name, value in options(*given, **more)
        ]

    stage.patch.setattr(relay.server, "grpc_options", quick)


async def a_session_vanishes(stage: Stage) -> None:
    quick_pings(stage)
    count = stage.draw.randint(0, 3)
    words = [f"w{number} " for number in range(count)]
    async with world(stage) as here, DeadEnd(here.relay.worker.grpc_port) as way:
        place = Place(chunk({"role": "assistant", "content": ""}), *map(word, words))
        here.lab.routes[CHAT] = place.script
        own = [("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.insecure_channel(f"127.0.0.1:{way.port}", own) as channel:
            key = {"authorization": f"Bearer {key_of(here)}"}
            async with Conversation(channel, metadata=key) as talk:
                await talk.start("g", model="alone")
                await talk.says("".join(words), "g")
                await asyncio.wait_for(place.reached.wait(), 5)
                stream = place.stream
                assert stream is not None
                assert stream.reset_code is None, "it is there, and silent"
                way.vanish()
                await here.lab.until(lambda: stream.reset_code == CANCEL)
                service = here.relay.worker._service
                assert service is not None
                await eventually(lambda: not service.sessions)
        (booked,) = await here.booked(1)
        assert (booked.state, booked.asked) == ("estimated", ["lab"])


async def a_stream_of_http_vanishes(stage: Stage) -> None:
    long = stage.draw.choice(("x" * 1000, "y" * 30_000))
    asked: list[ServerStream] = []

    async def endless(stream: ServerStream) -> None:
        asked.append(stream)
        await stream.send_headers()
        while True:
            await stream.send(word(long))

    settings = {"server": {"slow_consumer_ms": 200}}
    async with world(stage, settings) as here, DeadEnd(here.relay.worker.http_port) as way:
        here.lab.routes[CHAT] = endless
        async with connected(way.port) as client:
            client.send(post(here, orjson.dumps(chat_body("alone"))))
            await client.reader.readuntil(b"data: ")
            way.vanish()
            await here.lab.until(lambda: asked[0].reset_code == CANCEL)
            listener = here.relay.worker._http_servers[0]
            gone = [
                one
                for one in listener.connections
                if one._running and not one._running.response_complete
            ]
            await eventually(lambda: not set(gone) & set(listener.connections))
        (booked,) = await here.booked(1)
        assert (booked.state, booked.asked) == ("estimated", ["lab"])


def nobody_is_pinged(patch: pytest.MonkeyPatch) -> None:
    """The gRPC server's keepalive."""
    options = relay.server.grpc_options
    patch.setattr(
        relay.server,
        "grpc_options",
        lambda *given, **more: [one for one in options(*given, **more) if one[0] not in TIMES],
    )


ROWS = (
    Row(
        "C1",
        inject="cancel before the first token, between tokens, after the last with its usage",
        client="`CANCELLED`; the session goes on",
        accounting="estimated: what was written; where usage was seen, by that",
        retry="never; the provider sees RST_STREAM within 50 ms",
        parts=(
            Part("before_first", before_the_first_token, clients_are_not_heard),
            Part("between", between_tokens, clients_are_not_heard),
            Part("after_usage", after_usage, clients_are_not_heard),
        ),
        also=("tests/integration/test_cancels.py", "tests/integration/test_bills.py"),
    ),
    Row(
        "C2",
        inject="a client vanishes: no FIN, no RST, no frame",
        client="nothing; found by HTTP/2 keepalive (30 s) or as one that reads nothing (30 s)",
        accounting="estimated, as C1",
        retry="never; session, stream and connection are let go",
        parts=(
            Part("session", a_session_vanishes, nobody_is_pinged),
            Part("http", a_stream_of_http_vanishes, who_reads_nothing_is_waited_for),
        ),
    ),
)
