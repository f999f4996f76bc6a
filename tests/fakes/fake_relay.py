"""A relay of a few lines for clients' tests: it does what a test tells it, and breaks on request.

async with FakeRelay() as relay:
    relay.on_start = answers("Hel", "lo")
    ... a client talks to relay.address ...
    stream = await relay.stream()               # the first stream it got
    await stream.until(lambda: stream.cancels)  # woken by frames
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from types import TracebackType
from typing import Any, Self

import grpc
import grpc.aio
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from rtrelay.v1 import (
    Cancel,
    ConverseRequest,
    ConverseResponse,
    Delta,
    End,
    Limits,
    Notice,
    NoticeKind,
    Outcome,
    Pong,
    Ready,
    RelayServiceServicer,
    Setup,
    Start,
    Started,
    add_RelayServiceServicer_to_server,
)

from tests.fakes.tls import CertAuthority

WAIT_S = 10.0

OnStart = Callable[["FakeStream", Start], Coroutine[Any, Any, None]]


class FakeStream:
    """One Converse call as the relay sees it."""

    def __init__(self, context: Any) -> None:
        self.context = context
        self.peer: str = context.peer()  # now: gRPC crashes when it is asked after the call
        self.setup: Setup | None = None
        self.frames: list[ConverseRequest] = []
        self.is_half_closed = False
        self._outgoing: asyncio.Queue[ConverseResponse | Callable[[], Awaitable[None]]] = (
            asyncio.Queue()
        )
        self._changed = asyncio.Event()

    @property
    def starts(self) -> list[Start]:
        return [frame.start for frame in self.frames if frame.HasField("start")]

    @property
    def cancels(self) -> list[Cancel]:
        return [frame.cancel for frame in self.frames if frame.HasField("cancel")]

    @property
    def pings(self) -> list[int]:
        return [frame.ping.nonce for frame in self.frames if frame.HasField("ping")]

    @property
    def commits(self) -> list[str]:
        return [frame.commit.generation_id for frame in self.frames if frame.HasField("commit")]

    def send(self, **frame: Any) -> None:
        """Send a frame: `delta=Delta(...)` and the like."""
        self._outgoing.put_nowait(ConverseResponse(**frame))

    def say(self, generation_id: str, text: str, char_offset: int = 0) -> None:
        delta = Delta(generation_id=generation_id, text=text, char_offset=char_offset)
        self.send(delta=delta)

    def end(self, generation_id: str, **more: Any) -> None:
        """Send an end; completed if nothing else is given."""
        fields: dict[str, Any] = {"outcome": Outcome.OUTCOME_COMPLETED, **more}
        self.send(end=End(generation_id=generation_id, **fields))

    def drain(self) -> None:
        self.send(notice=Notice(kind=NoticeKind.NOTICE_KIND_DRAIN, time_left_ms=1000))

    def abort(
        self,
        code: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE,
        reason: str = "",
        text: str = "",
        *,
        details: bytes = b"",
    ) -> None:
        """End the RPC with a status, after what was sent before.

        Args:
            details: the trailer's bytes, instead of those that `reason` makes.
        """
        if reason:
            details = status_of(code, reason, text).SerializeToString()

        async def ends() -> None:
            trailers = (("grpc-status-details-bin", details),) if details else ()
            await self.context.abort(code, text, trailers)

        self._outgoing.put_nowait(ends)

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until it is true; asked again after each frame of the client."""
        async with asyncio.timeout(WAIT_S):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def start(self, index: int = 0) -> Start:
        """The (index+1)-th start."""
        await self.until(lambda: len(self.starts) > index)
        return self.starts[index]

    async def read(self, requests: AsyncIterator[ConverseRequest], relay: FakeRelay) -> None:
        async with asyncio.TaskGroup() as scripts:
            async for frame in requests:
                self.frames.append(frame)
                if frame.HasField("setup"):
                    self.setup = frame.setup
                    if relay.is_ready:
                        limits = Limits(
                            max_frame_bytes=relay.max_frame_bytes,
                            max_concurrent_generations=relay.max_live,
                        )
                        self.send(ready=Ready(session_id="s", limits=limits))
                elif frame.HasField("start"):
                    scripts.create_task(relay.on_start(self, frame.start))
                elif frame.HasField("ping") and relay.answers_pings:
                    self.send(pong=Pong(nonce=frame.ping.nonce))
                elif frame.HasField("cancel") and relay.answers_cancels:
                    self.end(
                        frame.cancel.generation_id,
                        outcome=Outcome.OUTCOME_CANCELLED,
                        cancel_reason=frame.cancel.reason,
                        usage={"completion_tokens": 3},
                    )
                elif frame.HasField("close"):
                    self.is_half_closed = True
                    self._outgoing.put_nowait(_returns)
                self._changed.set()
        self.is_half_closed = True
        self._changed.set()
        self._outgoing.put_nowait(_returns)

    async def write(self) -> None:
        while True:
            item = await self._outgoing.get()
            if item is _returns:
                return
            if isinstance(item, ConverseResponse):
                await self.context.write(item)
            else:
                await item()


async def _returns() -> None:
    """In the queue: the RPC ends with OK."""


class FakeRelay(RelayServiceServicer):
    """A server on a free port, or on `address`."""

    def __init__(self, address: str = "127.0.0.1:0", *, tls: CertAuthority | None = None) -> None:
        self.address = address
        self._tls = tls
        self.on_start: OnStart = hangs
        self.is_ready = True
        """Whether a setup is answered."""
        self.answers_pings = True
        self.answers_cancels = True
        self.max_frame_bytes = 0
        self.max_live = 0
        self.refusal: tuple[grpc.StatusCode, str] | None = None
        """Ends each stream at once: code and reason."""
        self.streams: list[FakeStream] = []
        self._changed = asyncio.Event()
        self._server: Any = None

    async def __aenter__(self) -> Self:
        self._server = grpc.aio.server()
        add_RelayServiceServicer_to_server(self, self._server)
        if self._tls is None:
            port = self._server.add_insecure_port(self.address)
        else:
            pair = self._tls.key_and_chain()
            port = self._server.add_secure_port(self.address, grpc.ssl_server_credentials([pair]))
        if not self.address.startswith("unix:"):
            self.address = f"127.0.0.1:{port}"
        await self._server.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    async def Feedback(self, request: Any, context: Any) -> Any:
        """Nobody gives it any here."""
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "no feedback")

    async def stop(self) -> None:
        """Cut everything off."""
        await self._server.stop(None)

    async def stream(self, index: int = 0) -> FakeStream:
        """The (index+1)-th stream that came."""
        async with asyncio.timeout(WAIT_S):
            while len(self.streams) <= index:
                self._changed.clear()
                await self._changed.wait()
        return self.streams[index]

    async def Converse(self, requests: Any, context: Any) -> None:  # type: ignore[override]
        stream = FakeStream(context)
        self.streams.append(stream)
        self._changed.set()
        if self.refusal is not None:
            stream.abort(*self.refusal)
        reader = asyncio.create_task(stream.read(requests, self))
        try:
            await stream.write()
        finally:
            reader.cancel()
            await asyncio.wait([reader])

    def Generate(self, request: Any, context: Any) -> Any:
        """Not used by sessions."""
        raise NotImplementedError


async def ignores(stream: FakeStream, start: Start) -> None:
    """Say nothing at all."""


async def hangs(stream: FakeStream, start: Start) -> None:
    """Accept it and say nothing."""
    stream.send(started=Started(generation_id=start.generation_id))


def answers(*words: str) -> OnStart:
    """Answer with these words and end."""

    async def script(stream: FakeStream, start: Start) -> None:
        await hangs(stream, start)
        offset = 0
        for word in words:
            stream.say(start.generation_id, word, offset)
            offset += len(word)
        stream.end(start.generation_id)

    return script


def begins(*words: str) -> OnStart:
    """Answer with these words and say nothing more."""

    async def script(stream: FakeStream, start: Start) -> None:
        await hangs(stream, start)
        offset = 0
        for word in words:
            stream.say(start.generation_id, word, offset)
            offset += len(word)

    return script


def status_of(code: grpc.StatusCode, reason: str, text: str = "") -> status_pb2.Status:
    """A status with an ErrorInfo, and a RetryInfo of 1.5 s."""
    info, retry = any_pb2.Any(), any_pb2.Any()
    info.Pack(error_details_pb2.ErrorInfo(reason=reason, domain="rtrelay", metadata={"a": "b"}))
    wait = error_details_pb2.RetryInfo()
    wait.retry_delay.FromMilliseconds(1500)
    retry.Pack(wait)
    return status_pb2.Status(code=code.value[0], message=text, details=[info, retry])
