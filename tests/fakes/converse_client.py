"""gRPC clients for tests: a session whose frames are sorted as they come, and one generation.

    async with Conversation(relay.channel, model="fast") as talk:
        await talk.start("g1")
        await talk.until(lambda: talk.answer("g1").text == "Hel")     # woken by frames
        await talk.cancel("g1")
        answer = await talk.ended("g1")

While frames come in, the contract's rules for every client are checked: offsets without a gap,
nothing before `started`, nothing after `end`. Every wait is bounded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import grpc
from google.rpc import error_details_pb2, status_pb2
from rtrelay.v1 import (
    Cancel,
    CancelReason,
    ConverseRequest,
    ConverseResponse,
    End,
    ErrorReason,
    FinishReason,
    GenerateRequest,
    GenerateResponse,
    Message,
    Notice,
    Part,
    Prompt,
    Ready,
    Role,
    Setup,
    Start,
    ToolCallDone,
)

WAIT_S = 10.0
"""Bound of every wait here, far above what anything takes."""

Frame = ConverseResponse | GenerateResponse

CONVERSE = "/rtrelay.v1.RelayService/Converse"
GENERATE = "/rtrelay.v1.RelayService/Generate"


def _bytes_of(message: Any) -> bytes:
    """A message as bytes; bytes as they are, so that tests can send what is no message."""
    return message if isinstance(message, bytes) else message.SerializeToString()


def prompt(text: str = "Hello") -> Prompt:
    """One message of the person."""
    return Prompt(messages=[Message(role=Role.ROLE_USER, parts=[Part(text=text)])])


def start(
    generation_id: str = "g1", model: str = "fast", text: str = "Hello", **more: Any
) -> Start:
    """A small start; `more` are further fields of it."""
    if not {"openai_chat_body", "prompt"} & more.keys():
        more["prompt"] = prompt(text)
    return Start(generation_id=generation_id, model=model, **more)


@dataclass
class Answer:
    """What came of one generation so far."""

    frames: list[Frame] = field(default_factory=list)
    texts: dict[int, str] = field(default_factory=dict)
    reasonings: dict[int, str] = field(default_factory=dict)
    refusals: dict[int, str] = field(default_factory=dict)
    segments: dict[int, list[str]] = field(default_factory=dict)
    tool_calls: dict[int, list[ToolCallDone]] = field(default_factory=dict)
    argument_pieces: dict[tuple[int, int], str] = field(default_factory=dict)
    is_started: bool = False
    end: End | None = None

    @property
    def text(self) -> str:
        """Text of the first choice."""
        return self.texts.get(0, "")

    @property
    def finish_reasons(self) -> dict[int, str]:
        """`STOP`, `TOOL_CALLS`, ... by choice; of those that finished."""
        assert self.end is not None, "the generation has not ended"
        return {
            choice.choice: FinishReason.Name(choice.finish_reason).removeprefix("FINISH_REASON_")
            for choice in self.end.choices
            if choice.finish_reason
        }

    @property
    def attempts(self) -> list[tuple[str, str]]:
        """Provider and reason (empty for a success) of each attempt."""
        assert self.end is not None, "the generation has not ended"
        return [
            (attempt.provider, reason_name(attempt.reason) if attempt.reason else "")
            for attempt in self.end.attempts
        ]

    def take(self, frame: Frame) -> None:
        """Add a frame of this generation; asserts the contract's order."""
        assert self.end is None, f"a frame after the end: {frame}"
        self.frames.append(frame)
        kind = frame.WhichOneof("frame")
        if kind == "started":
            assert not self.is_started, "started twice"
            self.is_started = True
        elif kind == "delta":
            self._take_delta(frame)
        elif kind == "tool_call":
            assert self.is_started, "a tool call before started"
            calls = self.tool_calls.setdefault(frame.tool_call.choice, [])
            assert frame.tool_call.index == len(calls), "tool calls with a gap"
            calls.append(frame.tool_call)
        elif kind == "segment":
            assert self.is_started, "a segment before started"
            found = self.segments.setdefault(frame.segment.choice, [])
            assert frame.segment.index == len(found), "segments with a gap"
            assert frame.segment.char_offset == sum(map(len, found)), "an offset with a gap"
            found.append(frame.segment.text)
        elif kind == "end":
            self.end = frame.end
            for choice in frame.end.choices:
                spoken = "".join(self.segments.get(choice.choice, ()))
                text = self.texts.get(choice.choice, "") or spoken
                assert choice.text_chars == len(text)
                assert spoken in ("", text), "segments are the text"

    def _take_delta(self, frame: Frame) -> None:
        delta = frame.delta
        assert self.is_started, "a delta before started"
        held = self.texts.get(delta.choice, "")
        assert delta.char_offset == len(held), "an offset with a gap"
        self.texts[delta.choice] = held + delta.text
        for by_choice, piece in (
            (self.reasonings, delta.reasoning),
            (self.refusals, delta.refusal),
        ):
            by_choice[delta.choice] = by_choice.get(delta.choice, "") + piece
        for part in delta.tool_arguments:
            key = (delta.choice, part.index)
            assert (key in self.argument_pieces) == (not part.call_id), (
                "an id not in its first piece"
            )
            self.argument_pieces[key] = self.argument_pieces.get(key, "") + part.fragment


class Conversation:
    """One Converse call. Leaving the block cancels it if it has not ended."""

    def __init__(
        self, channel: grpc.aio.Channel, metadata: dict[str, str] | None = None, **setup: Any
    ) -> None:
        """
        Args:
            metadata: of the call.
            setup: fields of the setup frame; no setup is sent for `setup=None`.
        """
        self._rpc: Any = channel.stream_stream(
            CONVERSE,
            request_serializer=_bytes_of,
            response_deserializer=ConverseResponse.FromString,
        )
        self._metadata = tuple((metadata or {}).items())
        self._setup = None if setup.get("setup", ...) is None else Setup(**setup)
        self._call: Any = None
        self._reader: asyncio.Task[None] | None = None
        self._waiters: list[tuple[Callable[[], object], asyncio.Future[None]]] = []
        self._sending = asyncio.Lock()
        self.answers: dict[str, Answer] = {}
        self.ready: Ready | None = None
        self.notices: list[Notice] = []
        self.pongs: list[int] = []
        self.error: grpc.aio.AioRpcError | None = None
        """How the call failed; None while it goes on or after OK."""
        self.is_over = False
        self.is_reading = asyncio.Event()
        """Clear it to stop reading frames (those already asked for may still come)."""
        self.is_reading.set()

    async def __aenter__(self) -> Self:
        self._call = self._rpc(metadata=self._metadata)
        self._reader = asyncio.create_task(self._read(), name="conversation reader")
        if self._setup is not None:
            await self.send(setup=self._setup)
            await self.until(lambda: self.ready is not None)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._call.cancel()
        assert self._reader is not None
        self._reader.cancel()
        await asyncio.wait([self._reader])

    async def _read(self) -> None:
        try:
            while True:
                await self.is_reading.wait()
                frame = await self._call.read()
                if not isinstance(frame, ConverseResponse):  # grpc.aio.EOF
                    return
                self._take(frame)
        except grpc.aio.AioRpcError as error:
            self.error = error
        except asyncio.CancelledError:
            if self._call.cancelled():
                return
            raise
        finally:
            if self.error is None and self._call.done() and not self._call.cancelled():
                await self._note_status()
            self.is_over = True
            self._wake()

    async def _note_status(self) -> None:
        code = await self._call.code()
        if code != grpc.StatusCode.OK:
            self.error = grpc.aio.AioRpcError(
                code,
                await self._call.initial_metadata(),
                await self._call.trailing_metadata(),
                details=await self._call.details(),
            )

    def _take(self, frame: ConverseResponse) -> None:
        kind = frame.WhichOneof("frame")
        if kind == "ready":
            assert self.ready is None, "ready twice"
            self.ready = frame.ready
        elif kind == "pong":
            self.pongs.append(frame.pong.nonce)
        elif kind == "notice":
            self.notices.append(frame.notice)
        else:
            assert kind is not None, "an empty frame"
            self.answer(getattr(frame, kind).generation_id).take(frame)
        self._wake()

    def _wake(self) -> None:
        for condition, waiter in list(self._waiters):
            if not waiter.done() and (self.is_over or condition()):
                waiter.set_result(None)

    async def until(self, condition: Callable[[], object], *, timeout_s: float = WAIT_S) -> None:
        """Wait until `condition()` is true; it is asked again after every frame.

        Raises:
            AssertionError: the call ended before.
            TimeoutError: it did not come true in time.
        """
        if not condition() and not self.is_over:
            waiter = asyncio.get_running_loop().create_future()
            entry = (condition, waiter)
            self._waiters.append(entry)
            try:
                async with asyncio.timeout(timeout_s):
                    await waiter
            finally:
                self._waiters.remove(entry)
        assert condition(), f"the call ended: {self.error!r}"

    # --- sending ----------------------------------------------------------------------------

    async def send(self, **frame: Any) -> None:
        """One frame: `ping=Ping(...)` and the like."""
        async with self._sending:  # a gRPC stream takes one write at a time
            await self._call.write(ConverseRequest(**frame))

    async def send_bytes(self, data: bytes) -> None:
        """One message of any bytes."""
        async with self._sending:
            await self._call.write(data)

    async def start(self, generation_id: str = "g1", **more: Any) -> None:
        """Start a generation; see `start` of this module."""
        await self.send(start=start(generation_id, **more))

    async def cancel(
        self,
        generation_id: str,
        reason: CancelReason.ValueType = CancelReason.CANCEL_REASON_BARGE_IN,
    ) -> None:
        """Cancel one generation."""
        await self.send(cancel=Cancel(generation_id=generation_id, reason=reason))

    async def half_close(self) -> None:
        """No more frames from us."""
        await self._call.done_writing()

    # --- what came --------------------------------------------------------------------------

    def answer(self, generation_id: str) -> Answer:
        """What came of a generation so far."""
        return self.answers.setdefault(generation_id, Answer())

    async def ended(self, generation_id: str = "g1", *, timeout_s: float = WAIT_S) -> Answer:
        """Wait for the end of a generation."""
        answer = self.answer(generation_id)
        await self.until(lambda: answer.end is not None, timeout_s=timeout_s)
        return answer

    async def says(self, text: str, generation_id: str = "g1") -> None:
        """Wait until so much text of a generation has come."""
        answer = self.answer(generation_id)
        await self.until(lambda: answer.text.startswith(text) or answer.end is not None)
        assert answer.text.startswith(text), f"ended with {answer.text!r}: {answer.end}"

    async def noticed(self, index: int = 0) -> Notice:
        """Wait for the (index+1)-th notice."""
        await self.until(lambda: len(self.notices) > index)
        return self.notices[index]

    async def over(self) -> grpc.aio.AioRpcError | None:
        """Wait for the end of the call: None for OK."""
        await self.until(lambda: self.is_over)
        return self.error


@dataclass
class Generated:
    """One Generate call: its frames, and how the RPC ended."""

    answer: Answer
    error: grpc.aio.AioRpcError | None

    @property
    def text(self) -> str:
        return self.answer.text


async def generate(
    channel: grpc.aio.Channel,
    request: Start | bytes,
    *,
    timeout_s: float | None = None,
    answer: Answer | None = None,
    metadata: dict[str, str] | None = None,
) -> Generated:
    """Run one Generate call to its end; bytes are sent as they are.

    Args:
        answer: filled as frames come, for who wants to see them before the end.
        metadata: of the call.
    """
    answer = answer or Answer()
    error = None
    rpc: Any = channel.unary_stream(
        GENERATE,
        request_serializer=_bytes_of,
        response_deserializer=GenerateResponse.FromString,
    )
    message = request if isinstance(request, bytes) else GenerateRequest(start=request)
    sent = tuple((metadata or {}).items())
    try:
        async with asyncio.timeout(WAIT_S):
            async for frame in rpc(message, timeout=timeout_s, metadata=sent):
                answer.take(frame)
    except grpc.aio.AioRpcError as failure:
        error = failure
    return Generated(answer, error)


# --- errors -----------------------------------------------------------------------------------


def reason_name(reason: ErrorReason.ValueType) -> str:
    """`UPSTREAM_RESET` and the like."""
    return ErrorReason.Name(reason).removeprefix("ERROR_REASON_")


def details_of(status: status_pb2.Status) -> dict[str, Any]:
    """The details of a status by the name of their type (`ErrorInfo`, `RetryInfo`, ...)."""
    found: dict[str, Any] = {}
    for packed in status.details:
        name = packed.TypeName().removeprefix("google.rpc.")
        message = getattr(error_details_pb2, name)()
        packed.Unpack(message)
        found[name] = message
    return found


def reason_of(status: status_pb2.Status) -> str:
    """The ErrorInfo's reason; asserts its domain."""
    info = details_of(status)["ErrorInfo"]
    assert info.domain == "rtrelay"
    reason: str = info.reason
    return reason


def field_of(status: status_pb2.Status) -> str:
    """The path of the field at fault; asserts that ErrorInfo and BadRequest agree."""
    details = details_of(status)
    field: str = details["ErrorInfo"].metadata.get("field", "")
    violations = [v.field for v in details["BadRequest"].field_violations] if field else []
    assert violations == ([field] if field else [])
    return field


def status_of(error: grpc.aio.AioRpcError | None) -> status_pb2.Status:
    """The `google.rpc.Status` that an RPC ended with; asserts that code and text agree with it, as
    far as either was cut."""
    assert error is not None, "the call ended with OK"
    trailers = dict(error.trailing_metadata() or ())
    data = trailers.get("grpc-status-details-bin")
    assert isinstance(data, bytes), f"no details: {error!r}"
    status = status_pb2.Status.FromString(data)
    assert status.code == error.code().value[0]
    details = error.details() or ""
    assert status.message == details or (
        details.endswith("...") and status.message.startswith(details[:-3])
    )
    return status
