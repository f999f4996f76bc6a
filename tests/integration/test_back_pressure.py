"""A client that does not read: the relay holds little, stops reading its provider, and in the end
gives the generation up. Nobody else notices.

How much is held is counted and not guessed: what the provider has sent, less what the client has,
less what lies in the kernel between relay and client.
"""

from __future__ import annotations

import asyncio
import fcntl
import socket
import struct
import termios
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

import grpc
import h2.config
import h2.connection
import h2.events
import h2.settings
import orjson
import pytest
from google.protobuf.message import Message as ProtoMessage
from rtrelay.v1 import (
    ConverseRequest,
    ConverseResponse,
    GenerateRequest,
    GenerateResponse,
    Outcome,
    Setup,
)

from relay.outbox import MAX_ANSWERS, Outbox
from tests.fakes.converse_client import (
    CONVERSE,
    GENERATE,
    Answer,
    Conversation,
    reason_of,
    start,
    status_of,
)
from tests.fakes.h2_server import CANCEL, H2Server, ServerStream
from tests.fakes.relay_under_test import (
    DONE,
    RelayUnderTest,
    chat_body,
    chunk,
    eventually,
    provider,
    relay_under_test,
    sse_payloads,
)

pytestmark = pytest.mark.sockets

CHAT = "/v1/chat/completions"
SIDE = "/side/v1/chat/completions"
KERNEL_BYTES = 393_216
"""Of both sockets' queues together, for one who reads nothing."""
HELD_BYTES = 400_000
"""The most that may be held in the relay for one client that does not read."""
PIECES = 2_000
PIECE = "x" * 4096
"""8 MB in all: many times what all buffers on the way hold together."""
STILL_S = 0.3
"""What has not moved for so long has stopped."""


@dataclass
class World:
    relay: RelayUnderTest
    lab: H2Server
    slow_ms: int

    async def stopped(self, index: int = 0) -> ServerStream:
        """Wait until the provider's (index+1)-th stream stands still before its end; it is
        returned."""
        stream = await self.lab.request(CHAT, index)
        seen, since = -1, 0.0
        loop = asyncio.get_running_loop()

        def stands_still() -> bool:
            nonlocal seen, since
            if stream.sent_bytes != seen:
                seen, since = stream.sent_bytes, loop.time()
            return seen > 0 and loop.time() - since > STILL_S

        await eventually(stands_still, 10)
        assert stream.is_open, "the provider was read to the end"
        return stream

    async def quiet(self) -> None:
        """Wait until no session takes or gives a frame to the client that does not read."""
        service = self.relay.worker._service
        assert service is not None
        seen: list[int] = []
        loop = asyncio.get_running_loop()
        since = loop.time()

        def stands_still() -> bool:
            nonlocal seen, since
            now = [len(one._outbox._control) for one in service._sessions if one._outbox.is_full]
            if now != seen:
                seen, since = now, loop.time()
            return bool(now) and loop.time() - since > STILL_S

        await eventually(stands_still, 10)

    @asynccontextmanager
    async def somebody_else(self) -> AsyncIterator[None]:
        """Another client, whose words flow before, during and after the block."""
        count = 0

        async def read(talk: Conversation) -> None:
            nonlocal count
            while True:
                count += 1
                await talk.start(f"side{count}", model="side")
                answer = await talk.ended(f"side{count}")
                assert answer.text == "quick"

        async with self.relay.talk() as talk:
            reading = asyncio.create_task(read(talk))
            try:
                await eventually(lambda: count > 3)
                before = count
                yield
                await eventually(lambda: count > before + 10)
            finally:
                reading.cancel()
                await asyncio.wait([reading])
            assert reading.cancelled(), "somebody else lost an answer"


@pytest.fixture(params=[60_000])
async def world(
    upstream: H2Server, ca_file: str, request: pytest.FixtureRequest
) -> AsyncIterator[World]:
    slow_ms: int = request.param
    document = {
        "server": {"slow_consumer_ms": slow_ms},
        "providers": {
            "lab": provider(upstream.url, ca_file=ca_file),
            "side": provider(f"{upstream.url}/side", ca_file=ca_file),
        },
        "models": {
            name: {"candidates": [{"provider": provider_name, "model": "m"}]}
            for name, provider_name in (("fast", "lab"), ("side", "side"))
        },
    }

    async def flood(stream: ServerStream) -> None:
        await stream.send_headers()
        for _ in range(PIECES):
            await stream.send(chunk({"content": PIECE}))
        await stream.send(chunk(finish="stop") + DONE, end=True)

    async def side(stream: ServerStream) -> None:
        await stream.send_headers()
        await stream.send(chunk({"content": "quick"}) + chunk(finish="stop") + DONE, end=True)

    upstream.routes[CHAT] = flood
    upstream.routes[SIDE] = side
    async with relay_under_test(document) as relay:
        yield World(relay, upstream, slow_ms)
        await relay.settled()


slowly = pytest.mark.parametrize("world", [600], indirect=True)


class StoppedSse:
    """A client of the shim on a bare socket, which reads when it is told to."""

    def __init__(self, relay: RelayUnderTest, **body: Any) -> None:
        """
        Args:
            body: what it asks for beside a stream.
        """
        self._relay = relay
        self._body = body
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.received = b""

    async def __aenter__(self) -> StoppedSse:
        loop = asyncio.get_running_loop()
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        await loop.sock_connect(self.socket, ("127.0.0.1", self._relay.worker.http_port))
        body = orjson.dumps({**chat_body(), **self._body})
        head = f"POST {CHAT} HTTP/1.1\r\nhost: relay\r\ncontent-length: {len(body)}\r\n\r\n"
        await loop.sock_sendall(self.socket, head.encode() + body)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.socket.close()

    async def read_to_end(self) -> bytes:
        """Read until the end of the chunked body, or until the relay closes."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(20):
            while not self.received.endswith(b"0\r\n\r\n"):
                try:
                    data = await loop.sock_recv(self.socket, 262_144)
                except ConnectionResetError:
                    break
                if not data:
                    break
                self.received += data
        return self.received

    def beyond_relay(self) -> int:
        """Bytes that have left the relay: read, in our queue, or in its socket's send queue."""
        (connection,) = [
            connection
            for connection in connections(self._relay)
            if connection.transport.get_extra_info("peername") == self.socket.getsockname()
        ]
        theirs = connection.transport.get_extra_info("socket")
        return (
            len(self.received)
            + _queued(self.socket, termios.FIONREAD)
            + _queued(theirs, termios.TIOCOUTQ)
        )


def _queued(of: socket.socket, what: int) -> int:
    size: int = struct.unpack("i", fcntl.ioctl(of.fileno(), what, b"\0\0\0\0"))[0]
    return size


def connections(relay: RelayUnderTest) -> list[Any]:
    """Connections to the shim that the relay has open."""
    return [one for listener in relay.worker._http_servers for one in listener.connections]


def kept_for(port: int) -> list[str]:
    """Rows of the kernel's table of connections to this port of this machine."""
    rows = Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]
    return [row for row in rows if row.split()[2].endswith(f":{port:04X}")]


def unchunked(data: bytes) -> str:
    """The body of a chunked answer."""
    _, _, rest = data.partition(b"\r\n\r\n")
    body = b""
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        length = int(size, 16)
        body += rest[:length]
        rest = rest[length + 2 :]
    return body.decode()


async def test_sse_client_that_stops_reading_holds_little(
    world: World, record_property: Callable[[str, object], None]
) -> None:
    async with world.somebody_else(), StoppedSse(world.relay) as client:
        stream = await world.stopped()
        held = stream.sent_bytes - client.beyond_relay()
        record_property("sse_held_bytes", held)
        assert held < HELD_BYTES
        in_kernel = client.beyond_relay()
        record_property("sse_kernel_bytes", in_kernel)
        assert in_kernel < KERNEL_BYTES
        # It reads again: everything comes, in order, nothing twice.
        text = unchunked(await client.read_to_end())
    assert text.endswith("data: [DONE]\n\n")
    pieces = [p["choices"][0]["delta"].get("content", "") for p in sse_payloads(text)]
    assert "".join(pieces) == PIECE * PIECES


@slowly
async def test_sse_client_that_never_reads_again_is_given_up(world: World) -> None:
    async with world.somebody_else(), StoppedSse(world.relay) as client:
        stream = await world.lab.request(CHAT)
        await world.lab.until(lambda: stream.reset_code == CANCEL, timeout_s=10)
        await world.relay.settled()
        # Nothing is kept for it, by the kernel neither, and what it finds when it comes back is no
        # end at all.
        await eventually(lambda: not connections(world.relay))
        assert not kept_for(client.socket.getsockname()[1])
        received = await client.read_to_end()
        assert b"[DONE]" not in received
        assert not received.endswith(b"0\r\n\r\n")


@slowly
async def test_client_that_does_not_read_its_whole_answer_is_given_up(world: World) -> None:
    async with StoppedSse(world.relay, stream=False) as client:
        stream = await world.lab.request(CHAT)
        await world.lab.until(lambda: not stream.is_open, timeout_s=20)
        await world.relay.settled()
        await eventually(lambda: not connections(world.relay))
        assert len(await client.read_to_end()) < PIECES * len(PIECE)


@asynccontextmanager
async def windowed_channel(world: World) -> AsyncIterator[grpc.aio.Channel]:
    """A channel of its own, whose window does not grow with the speed of loopback."""
    options = [
        ("grpc.http2.bdp_probe", 0),
        ("grpc.http2.lookahead_bytes", 65_536),
        ("grpc.use_local_subchannel_pool", 1),
    ]
    address = f"127.0.0.1:{world.relay.worker.grpc_port}"
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        yield channel


@asynccontextmanager
async def stopped_conversation(world: World) -> AsyncIterator[Conversation]:
    """A session that stops reading as soon as its first words have come."""
    async with windowed_channel(world) as channel, Conversation(channel) as talk:
        await talk.start("g1")
        await talk.until(lambda: talk.answer("g1").text)
        talk.is_reading.clear()
        yield talk


async def test_session_that_stops_reading_holds_little(
    world: World, record_property: Callable[[str, object], None]
) -> None:
    async with world.somebody_else(), stopped_conversation(world) as talk:
        stream = await world.stopped()
        # Of it up to 64 KiB lie in the client's own window.
        held = stream.sent_bytes - len(talk.answer("g1").text)
        record_property("converse_held_bytes", held)
        assert held < HELD_BYTES
        talk.is_reading.set()
        answer = await talk.ended("g1", timeout_s=20)
    assert answer.end is not None
    assert answer.end.outcome == Outcome.OUTCOME_COMPLETED
    assert answer.text == PIECE * PIECES


@slowly
async def test_session_that_never_reads_again_loses_its_generation(world: World) -> None:
    async with world.somebody_else(), stopped_conversation(world) as talk:
        stream = await world.lab.request(CHAT)
        await world.lab.until(lambda: stream.reset_code == CANCEL, timeout_s=10)
        # It reads again: it is told why, and the session goes on.
        talk.is_reading.set()
        answer = await talk.ended("g1")
        assert answer.end is not None
        assert answer.end.outcome == Outcome.OUTCOME_FAILED
        assert (reason_of(answer.end.error), answer.end.error.code) == ("SLOW_CONSUMER", 8)
        assert answer.text == PIECE * (len(answer.text) // len(PIECE))
        await talk.start("g2", model="side")
        assert (await talk.ended("g2")).text == "quick"


async def test_cancel_drops_output_that_waits(world: World) -> None:
    async with stopped_conversation(world) as talk:
        await world.stopped()  # the writer is held by a frame of g1
        await talk.start("g2")
        stream = await world.stopped(1)
        await talk.cancel("g2")
        await world.lab.until(lambda: stream.reset_code == CANCEL)
        talk.is_reading.set()
        answer = await talk.ended("g2")
        assert answer.end is not None
        assert answer.end.outcome == Outcome.OUTCOME_CANCELLED
        assert answer.text == "", "nobody wants to hear it any more"
        # All that was decoded is counted, also what was never sent.
        assert answer.end.usage.completion_tokens * 4 >= 65_536


@slowly
async def test_session_that_never_reads_its_first_words_loses_its_generation(
    world: World,
) -> None:
    async def one_huge_word(stream: ServerStream) -> None:
        await stream.send_headers()
        await stream.send(chunk({"content": "x" * 900_000}))
        await stream.hang()

    world.lab.routes[CHAT] = one_huge_word
    async with windowed_channel(world) as channel, Conversation(channel) as talk:
        talk.is_reading.clear()  # the read that waits takes `started`, and no more
        await talk.start("g1")
        stream = await world.lab.request(CHAT)
        await world.lab.until(lambda: stream.reset_code == CANCEL, timeout_s=10)
        talk.is_reading.set()
        end = (await talk.ended("g1")).end
        assert end is not None
        assert reason_of(end.error) == "SLOW_CONSUMER"


@pytest.mark.parametrize("leaves", [True, False])
async def test_session_that_asks_without_reading_is_not_heard_further(
    world: World, leaves: bool
) -> None:
    count = 4_000  # of one byte each, and their refusals are some hundreds

    async def ask(talk: Conversation) -> None:
        for _ in range(count):
            await talk.send_bytes(b"\xff")
        await talk.half_close()

    service = world.relay.worker._service
    assert service is not None
    sessions = service._sessions
    async with world.somebody_else():
        async with windowed_channel(world) as channel, Conversation(channel) as talk:
            talk.is_reading.clear()
            asking = asyncio.create_task(ask(talk))
            await eventually(lambda: any(one._outbox.is_full for one in sessions))
            await world.quiet()
            (waiting,) = [len(c._outbox._control) for c in sessions if c._outbox.is_full]
            assert waiting == MAX_ANSWERS
            if leaves:
                asking.cancel()
            else:
                talk.is_reading.set()
                await asking
                assert await talk.over() is None
                assert len(talk.notices) == count, "once it reads, all are told"
            await asyncio.wait([asking])
        await eventually(lambda: len(sessions) == 1)  # somebody else's


def has_come(talk: Conversation, chars: int) -> bool:
    return len(talk.answer("g1").text) > chars


@slowly
async def test_pause_shorter_than_the_limit_costs_nothing(world: World) -> None:
    async with stopped_conversation(world) as talk:
        for _ in range(4):  # together longer than the limit, each by itself shorter
            await asyncio.sleep(world.slow_ms / 1000 / 3)
            goal = len(talk.answer("g1").text) + 500_000
            talk.is_reading.set()
            await talk.until(partial(has_come, talk, goal))
            talk.is_reading.clear()
        talk.is_reading.set()
        answer = await talk.ended("g1", timeout_s=20)
        assert answer.end is not None
        assert answer.end.outcome == Outcome.OUTCOME_COMPLETED


@slowly
async def test_generate_that_is_not_read_is_given_up(world: World) -> None:
    async with world.somebody_else(), windowed_channel(world) as channel:
        rpc: Any = channel.unary_stream(GENERATE, response_deserializer=GenerateResponse.FromString)
        call = rpc(GenerateRequest(start=start("g")).SerializeToString())
        answer = Answer()
        while not answer.text:
            answer.take(await call.read())
        stream = await world.lab.request(CHAT)
        await world.lab.until(lambda: stream.reset_code == CANCEL, timeout_s=10)
        assert stream.sent_bytes < HELD_BYTES
        # It reads again: what waited, the end, and why the call failed.
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await read_rest(call, answer)
        status = status_of(caught.value)
        assert (reason_of(status), status.code) == ("SLOW_CONSUMER", 8)
        assert answer.end is not None
        assert answer.end.error == status


class Windowless:
    """A gRPC client that lets nothing come: HTTP/2 frames by hand, and no window for data."""

    METADATA = (
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", "relay"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
    )

    def __init__(self, world: World, path: str, *messages: ProtoMessage) -> None:
        """
        Args:
            messages: what it sends; then it half-closes.
        """
        self._port = world.relay.worker.grpc_port
        config = h2.config.H2Configuration(client_side=True, header_encoding="utf-8")
        self._h2 = h2.connection.H2Connection(config)
        no_window = {h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 0}
        self._h2.local_settings = h2.settings.Settings(client=True, initial_values=no_window)
        self._h2.initiate_connection()
        self._h2.send_headers(1, [(":path", path), *self.METADATA])
        for at, message in enumerate(messages, 1):
            data = message.SerializeToString()
            framed = b"\0" + len(data).to_bytes(4, "big") + data
            self._h2.send_data(1, framed, end_stream=at == len(messages))
        self.data = b""
        self.trailers: dict[str, str] = {}

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._writer.write(self._h2.data_to_send())
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()
        self._reading.cancel()
        await asyncio.wait([self._reading])

    async def _read(self) -> None:
        while data := await self._reader.read(65_536):
            for event in self._h2.receive_data(data):
                if isinstance(event, h2.events.DataReceived):
                    self.data += event.data
                elif isinstance(event, h2.events.TrailersReceived):
                    self.trailers = {str(name): str(value) for name, value in event.headers}
            self._writer.write(self._h2.data_to_send())

    def open_window(self) -> None:
        self._h2.increment_flow_control_window(1_000_000, stream_id=1)
        self._writer.write(self._h2.data_to_send())

    @property
    def frames(self) -> list[ConverseResponse]:
        found: list[ConverseResponse] = []
        rest = self.data
        while rest:
            size = int.from_bytes(rest[1:5], "big")
            found.append(ConverseResponse.FromString(rest[5 : 5 + size]))
            rest = rest[5 + size :]
        return found


RPCS: dict[str, tuple[str, list[ProtoMessage]]] = {
    "generate": (GENERATE, [GenerateRequest(start=start("g"))]),
    "converse": (CONVERSE, [ConverseRequest(setup=Setup()), ConverseRequest(start=start("g"))]),
}


@slowly
@pytest.mark.parametrize("rpc", RPCS)
async def test_trickle_that_nobody_takes_is_given_up(world: World, rpc: str) -> None:
    """Far less than a lane holds, so that the provider is read all the time."""

    async def trickle(stream: ServerStream) -> None:
        await stream.send_headers()
        while True:
            await stream.send(chunk({"content": "word"}))
            await asyncio.sleep(0.02)

    world.lab.routes[CHAT] = trickle
    path, messages = RPCS[rpc]
    async with world.somebody_else(), Windowless(world, path, *messages) as client:
        stream = await world.lab.request(CHAT)
        await world.lab.until(lambda: stream.reset_code == CANCEL, timeout_s=10)
        assert client.data == b""


@slowly
@pytest.mark.parametrize("rpc", RPCS)
async def test_last_frames_that_nobody_takes_are_dropped(world: World, rpc: str) -> None:
    async def quick(stream: ServerStream) -> None:
        await stream.send_headers()
        await stream.send(chunk({"content": "quick"}) + chunk(finish="stop") + DONE, end=True)

    world.lab.routes[CHAT] = quick
    path, messages = RPCS[rpc]
    given_up: list[Outbox] = []
    with pytest.MonkeyPatch.context() as patched:

        def give_up(outbox: Outbox, original: Callable[[Outbox], None] = Outbox.give_up) -> None:
            given_up.append(outbox)
            original(outbox)

        patched.setattr(Outbox, "give_up", give_up)
        async with Windowless(world, path, *messages) as client:
            await eventually(lambda: given_up)
            assert client.data == b""
            # It reads after all: what grpc held, and how the RPC ended; no end, and no OK.
            client.open_window()
            await eventually(lambda: client.trailers)
        assert len(client.frames) == 1
        assert client.trailers["grpc-status"] == str(grpc.StatusCode.RESOURCE_EXHAUSTED.value[0])


async def read_rest(call: Any, answer: Answer) -> None:
    while isinstance(frame := await call.read(), GenerateResponse):
        answer.take(frame)
