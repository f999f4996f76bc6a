"""The ways to a token: one class a path, each as cheap for the client as it can be.

A path sends one request and appends `(receipt, bytes)` for whatever arrives; nothing is parsed
while the clock runs. Stamps are read afterwards, by `digest`.

    direct     wreq over TLS and HTTP/2, two warm connections, straight to the emulator
    sse        wreq over HTTP/1.1 to the relay's shim; `_tls` behind the name of a way to the relay
               is the same over TLS
    nginx      the same client, to nginx as a hop
    generate   one server-streaming RPC a request, over a few channels
    converse   long-lived sessions over the same channels, a start frame a request
"""

from __future__ import annotations

import asyncio
import itertools
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path as FilePath
from typing import Any, NamedTuple, Protocol

import grpc
import orjson
import wreq
from rtrelay.v1 import content_pb2, relay_pb2

now_ns = time.monotonic_ns

Seen = list[tuple[int, bytes | memoryview]]
"""What arrived, and when on CLOCK_MONOTONIC."""

STAMP = re.compile(rb"t=(\d{16}) ")
_STAMP_BYTES = 19
_PROMPT = "Can you book the table by the window for seven tomorrow evening, please?"
_SERVICE = "/rtrelay.v1.RelayService/"
_DELTA, _END = 0x1A, 0x42  # first byte of a response frame: field 3, field 8


class LoadError(Exception):
    """An answer was not what it should be."""


class Path(Protocol):
    """One way; `open` before use."""

    async def open(self, streams: int) -> None:
        """Connect what `streams` parallel requests need."""
        ...

    async def stream(self, model: str, seen: Seen) -> None:
        """One request, read to its clean end."""
        ...

    async def close(self) -> None: ...


# --- HTTP -----------------------------------------------------------------------------------


class HttpPath:
    """OpenAI's SSE over wreq."""

    def __init__(
        self,
        base_url: str,
        *,
        ca_file: str | None = None,
        connections: int = 1,
        model_prefix: str = "",
        is_http2: bool = False,
        bearer: str = "",
    ) -> None:
        self._headers = {"content-type": "application/json"}
        if bearer:
            self._headers["authorization"] = f"Bearer {bearer}"
        self._url = f"{base_url}/v1/chat/completions"
        self._prefix = model_prefix
        self._is_http2 = is_http2
        options: dict[str, Any] = {}
        if ca_file is not None:
            options["tls_verify"] = wreq.CertStore.from_pem_stack(FilePath(ca_file).read_bytes())
        runtime = wreq.Runtime(workers=1, work_steal=False)
        self._clients = itertools.cycle(
            [
                wreq.Client(runtime=runtime, no_proxy=True, gzip=False, **options)
                for _ in range(connections)
            ]
        )

    async def open(self, streams: int) -> None:
        """Nothing to do: the warm-up connects."""

    async def stream(self, model: str, seen: Seen) -> None:
        """See `Path.stream`."""
        append = seen.append
        async for chunk in self.chunks(model):
            append((now_ns(), chunk))

    async def chunks(self, model: str) -> AsyncIterator[bytes | memoryview]:
        """The body as it arrives.

        Raises:
            LoadError: the answer is no stream over the expected HTTP version.
        """
        response = await next(self._clients).request(
            wreq.Method.POST,
            self._url,
            headers=self._headers,
            body=chat_body(_asked(self._prefix, model)),
        )
        if response.status.as_int() != 200:
            raise LoadError(f"status {response.status.as_int()}: {(await response.text())[:300]}")
        if (response.version == wreq.Version.HTTP_2) != self._is_http2:
            raise LoadError(f"unexpected {response.version}")
        async with response.stream() as streamer:
            async for chunk in streamer:
                if isinstance(chunk, memoryview) and chunk.nbytes:
                    yield chunk

    async def close(self) -> None:
        """The clients close with their last reference."""


def _asked(prefix: str, model: str) -> str:
    """A model of the emulator is asked at one row of the relay; other names are its aliases."""
    return prefix + model if model.startswith("emu:") else model


def chat_body(model: str) -> bytes:
    """A small streaming chat request."""
    return orjson.dumps(
        {"model": model, "stream": True, "messages": [{"role": "user", "content": _PROMPT}]}
    )


# --- gRPC -----------------------------------------------------------------------------------


class Channels:
    """A few connections that both gRPC paths share."""

    def __init__(self, port: int, count: int = 4, *, ca_file: str | None = None) -> None:
        """
        Args:
            ca_file: whom to trust, over TLS; plain text without.
        """
        address = f"127.0.0.1:{port}"
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
        if ca_file is None:
            self.all = [grpc.aio.insecure_channel(address, options=options) for _ in range(count)]
            return
        trust = grpc.ssl_channel_credentials(FilePath(ca_file).read_bytes())
        self.all = [grpc.aio.secure_channel(address, trust, options=options) for _ in range(count)]

    async def close(self) -> None:
        for channel in self.all:
            await channel.close()


def _start(generation_id: str, model: str, prompt: str = _PROMPT) -> relay_pb2.Start:
    message = content_pb2.Message(role=content_pb2.ROLE_USER, parts=[content_pb2.Part(text=prompt)])
    return relay_pb2.Start(
        generation_id=generation_id,
        model=model,
        prompt=content_pb2.Prompt(messages=[message]),
    )


class GeneratePath:
    """One RPC a request."""

    def __init__(self, channels: Channels, model_prefix: str) -> None:
        self._prefix = model_prefix
        methods: list[Any] = [
            channel.unary_stream(f"{_SERVICE}Generate") for channel in channels.all
        ]
        self._methods = itertools.cycle(methods)

    async def open(self, streams: int) -> None:
        """Nothing to do: the warm-up connects."""

    async def stream(self, model: str, seen: Seen) -> None:
        """See `Path.stream`."""
        await self.read(self.call(_start("g", _asked(self._prefix, model))), seen)

    async def read(self, call: Any, seen: Seen) -> None:
        """All frames of an RPC.

        Raises:
            LoadError: it did not end well.
        """
        append = seen.append
        read = call.read
        while True:
            frame = await read()
            if frame is grpc.aio.EOF:
                break
            append((now_ns(), frame))
        if await call.code() is not grpc.StatusCode.OK:
            raise LoadError(f"{await call.code()}: {await call.details()}")

    def call(self, start: relay_pb2.Start) -> Any:
        """The RPC."""
        return next(self._methods)(relay_pb2.GenerateRequest(start=start).SerializeToString())

    async def close(self) -> None:
        """The channels are closed by their owner."""


class ConversePath:
    """Sessions that stay open; starts go round among them."""

    def __init__(self, channels: Channels, model_prefix: str, *, spare: float = 0.5) -> None:
        """
        Args:
            spare: sessions beyond one a stream, as a share of the streams: with half as many
                again one seldom has two generations; with 0 each talks without a pause.
        """
        self._channels = channels
        self._prefix = model_prefix
        self._spare = spare
        self.sessions: list[ConverseSession] = []
        self._next = 0
        self._number = 0

    async def open(self, streams: int) -> None:
        """Open what is missing."""
        wanted = streams + (max(2, int(streams * self._spare)) if self._spare else 0)
        while len(self.sessions) < wanted:
            channel = self._channels.all[len(self.sessions) % len(self._channels.all)]
            self.sessions.append(await ConverseSession.open(channel))

    async def stream(self, model: str, seen: Seen) -> None:
        """See `Path.stream`."""
        session, generation_id = await self.start(model, seen)
        await session.ended(generation_id)

    async def start(self, model: str, seen: Seen) -> tuple[ConverseSession, bytes]:
        """Send the start frame; what comes back goes to `seen`."""
        session, generation_id = self.take()
        await session.start(generation_id, _asked(self._prefix, model), seen)
        return session, generation_id

    def take(self) -> tuple[ConverseSession, bytes]:
        """The session whose turn it is, and a new id on it."""
        session = self.sessions[self._next % len(self.sessions)]
        self._next += 1
        self._number += 1
        return session, b"g%d" % self._number

    async def close(self) -> None:
        """End all sessions."""
        for session in self.sessions:
            await session.close()
        self.sessions.clear()


class ConverseSession:
    """One bidirectional stream and the task that reads it."""

    def __init__(self, call: Any) -> None:
        self._call = call
        self._seen: dict[bytes, Seen] = {}
        self._ends: dict[bytes, asyncio.Future[None]] = {}
        self.after_end = 0
        """Frames of generations that had ended."""
        self._write_lock = asyncio.Lock()  # grpc.aio takes one write at a time
        self._reader = asyncio.create_task(self._read())

    @classmethod
    async def open(cls, channel: grpc.aio.Channel) -> ConverseSession:
        """Open it; returns when the relay is ready."""
        call: Any = channel.stream_stream(f"{_SERVICE}Converse")()
        setup = relay_pb2.Setup(client_name="bench")
        await call.write(relay_pb2.ConverseRequest(setup=setup).SerializeToString())
        frame = relay_pb2.ConverseResponse.FromString(await call.read())
        if not frame.HasField("ready"):
            raise LoadError(f"the session did not open: {frame}")
        return cls(call)

    async def start(
        self, generation_id: bytes, model: str, seen: Seen, prompt: str = _PROMPT
    ) -> None:
        """Begin a generation."""
        await self.begin(_start(generation_id.decode(), model, prompt), seen)

    async def begin(self, start: relay_pb2.Start, seen: Seen) -> None:
        """Begin the generation that `start` names."""
        generation_id = start.generation_id.encode()
        self._seen[generation_id] = seen
        self._ends[generation_id] = asyncio.get_running_loop().create_future()
        await self._write(relay_pb2.ConverseRequest(start=start))

    async def cancel(self, generation_id: bytes) -> None:
        """Stop a generation."""
        cancel = relay_pb2.Cancel(
            generation_id=generation_id.decode(), reason=relay_pb2.CANCEL_REASON_BARGE_IN
        )
        await self._write(relay_pb2.ConverseRequest(cancel=cancel))

    async def _write(self, frame: relay_pb2.ConverseRequest) -> None:
        async with self._write_lock:
            await self._call.write(frame.SerializeToString())

    async def ended(self, generation_id: bytes) -> None:
        """Return when its end has come."""
        await self._ends[generation_id]
        del self._ends[generation_id]

    async def _read(self) -> None:
        read = self._call.read
        seen_by_id = self._seen
        while True:
            frame = await read()
            if frame is grpc.aio.EOF:
                return
            received_ns = now_ns()
            kind = frame[0]
            at = 2 if frame[1] < 0x80 else 3  # the length of the frame takes one or two bytes
            if kind == _DELTA:
                # field 1 of a delta and of an end is the generation's id, below 128 bytes
                seen = seen_by_id.get(frame[at + 2 : at + 2 + frame[at + 1]])
                if seen is None:
                    self.after_end += 1
                else:
                    seen.append((received_ns, frame))
            elif kind == _END:
                generation_id = frame[at + 2 : at + 2 + frame[at + 1]]
                seen = seen_by_id.pop(generation_id, None)
                if seen is None:
                    self.after_end += 1
                else:
                    seen.append((received_ns, frame))
                    self._ends[generation_id].set_result(None)

    async def close(self) -> None:
        """Half-close, and read to the end."""
        await self._call.done_writing()
        await self._reader


# --- reading what was seen ------------------------------------------------------------------


class Token(NamedTuple):
    """One token of an answer."""

    received_ns: int
    stamped_ns: int


def digest(seen: Seen, tokens: int, *, is_grpc: bool) -> list[Token]:
    """The tokens of one answer, each with its receipt and its stamp.

    Raises:
        LoadError: tokens are missing or out of order, or the answer has no clean end.
    """
    found: list[Token] = []
    kept = b""
    for received_ns, data in seen:
        piece = kept + bytes(data)
        used = 0
        for match in STAMP.finditer(piece):
            found.append(Token(received_ns, int(match[1])))
            used = match.end()
        # A read may end inside a stamp, or inside the stream's end marker.
        kept = piece[max(used, len(piece) - _STAMP_BYTES + 1) :]
    if len(found) != tokens:
        raise LoadError(f"{len(found)} of {tokens} tokens came")
    if any(left.stamped_ns >= right.stamped_ns for left, right in itertools.pairwise(found)):
        raise LoadError("tokens came out of order")
    if is_grpc:
        _check_frames(seen)
    elif not kept.endswith(b"data: [DONE]\n\n"):
        raise LoadError("the stream ended without [DONE]")
    return found


def _check_frames(seen: Seen) -> None:
    """Offsets without a gap, and a completed end."""
    offset = 0
    for _, data in seen:
        frame = relay_pb2.ConverseResponse.FromString(bytes(data))
        if frame.HasField("delta"):
            if frame.delta.char_offset != offset:
                raise LoadError(f"offset {frame.delta.char_offset} instead of {offset}")
            offset += len(frame.delta.text)
    if not frame.HasField("end") or frame.end.outcome != relay_pb2.OUTCOME_COMPLETED:
        raise LoadError(f"the generation did not complete: {frame.end.error.message}")
