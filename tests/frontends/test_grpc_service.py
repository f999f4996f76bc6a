"""The servicer without a network: sizes, a client that does not read, a writer that dies."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any, NoReturn, Self

import grpc
import orjson
import pytest
from google.rpc import status_pb2
from rtrelay.v1 import (
    Close,
    ConverseRequest,
    ConverseResponse,
    GenerateRequest,
    Message,
    Part,
    Ping,
    Prompt,
    PromptCache,
    Role,
    Setup,
)
from structlog.testing import capture_logs

from relay.codecs.openai_chat import OpenAIChatCodec
from relay.config import GrpcListener
from relay.errors import CancelReason, Draining
from relay.frontends import proto_in
from relay.frontends.caller import NOBODY
from relay.frontends.grpc_service import (
    HARD_LIMIT_FACTOR,
    LONG_REQUEST_BYTES,
    RelayService,
    hard_limit_bytes,
)
from relay.frontends.proto_out import FrameEncoder
from relay.generation import Generation
from relay.outbox import MAX_ANSWERS
from tests.fakes.converse_client import details_of, field_of, reason_of, start
from tests.fakes.memory_transport import FakeEndpoint
from tests.fakes.scenario import Scenario, answer
from tests.fakes.virtual_time import on_virtual_time, since_start_s

SPEAKS = FakeEndpoint(headers_s=0.25, chunks=answer("One", " two", first_s=0.25, gap_s=0.5))
MAX_BYTES = 2048


class Rpc:
    """The context of one RPC: frames in from a list, then silence; frames out as told."""

    def __init__(self, *frames: bytes | ConverseRequest, ends: bool = True) -> None:
        """
        Args:
            ends: the client half-closes after its frames.
        """
        self.incoming: asyncio.Queue[object] = asyncio.Queue()
        for frame in frames:
            self.incoming.put_nowait(_bytes_of(frame))
        if ends:
            self.incoming.put_nowait(grpc.aio.EOF)
        self.frames: list[ConverseResponse] = []
        self.write_s = 0.0
        self.fault: Exception | None = None
        self.fails_at = 1_000_000
        self.reads = 0
        self.status: status_pb2.Status | None = None

    async def read(self) -> object:
        self.reads += 1
        return await self.incoming.get()

    async def write(self, frame: bytes) -> None:
        if self.write_s:
            await asyncio.sleep(self.write_s)
        if self.fault is not None and len(self.frames) >= self.fails_at:
            raise self.fault
        self.frames.append(ConverseResponse.FromString(frame))

    async def abort(
        self, code: grpc.StatusCode, details: str, trailing_metadata: Any = ()
    ) -> NoReturn:
        assert self.status is None, "aborted twice"
        self.status = status_pb2.Status.FromString(
            dict(trailing_metadata)["grpc-status-details-bin"]
        )
        assert (self.status.code, self.status.message) == (code.value[0], details)
        raise grpc.aio.AbortError

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return ()

    def time_remaining(self) -> None:
        return None

    @property
    def kinds(self) -> list[str | None]:
        return [frame.WhichOneof("frame") for frame in self.frames]


def _bytes_of(frame: bytes | ConverseRequest) -> bytes:
    return frame if isinstance(frame, bytes) else frame.SerializeToString()


SETUP = ConverseRequest(setup=Setup(model="fast"))
START = ConverseRequest(start=start("g1"))


class Relay:
    """A service in front of one provider."""

    def __init__(self, *, session_idle_ms: int = 0, **row: Any) -> None:
        """
        Args:
            row: further keys of the provider's row.
        """
        self.scenario = Scenario({"a": SPEAKS}, rows_more={"a": row})
        self.service = RelayService(
            self.scenario.services,
            GrpcListener(max_request_bytes=MAX_BYTES, session_idle_ms=session_idle_ms),
        )

    async def converse(self, rpc: Rpc) -> None:
        """One session to its end; an abort is in `rpc.status`."""
        try:
            await self.service.converse(rpc, rpc, NOBODY)  # type: ignore[arg-type]
        except grpc.aio.AbortError:
            pass
        await self.settled()

    async def generate(self, rpc: Rpc, request: bytes) -> None:
        try:
            await self.service.generate(request, rpc, NOBODY)  # type: ignore[arg-type]
        except grpc.aio.AbortError:
            pass
        await self.settled()

    async def settled(self) -> None:
        await self.scenario.settled()
        self.scenario.check()
        assert not self.service._sessions


# --- size -------------------------------------------------------------------------------------


def assert_names_the_limit(status: status_pb2.Status, size_bytes: int, field: str) -> None:
    assert (reason_of(status), status.code) == ("REQUEST_TOO_LARGE", 8)
    assert field_of(status) == field
    assert dict(details_of(status)["ErrorInfo"].metadata) == {
        "field": field,
        "limit_bytes": str(MAX_BYTES),
        "size_bytes": str(size_bytes),
    }
    assert str(MAX_BYTES) in status.message


@on_virtual_time
async def test_frame_over_the_limit_is_rejected_and_the_session_goes_on() -> None:
    big = _bytes_of(ConverseRequest(start=start("big", text="x" * MAX_BYTES)))
    rpc = Rpc(SETUP, START, big, ConverseRequest(ping=Ping(nonce=7)))
    relay = Relay()
    await relay.converse(rpc)
    assert rpc.status is None
    assert rpc.kinds == ["ready", "started", "notice", "pong", "delta", "delta", "end"]
    assert_names_the_limit(rpc.frames[2].notice.error, len(big), "rtrelay.v1.ConverseRequest")
    assert rpc.frames[-1].end.error.code == 0


@on_virtual_time
async def test_setup_over_the_limit_ends_the_session() -> None:
    big = _bytes_of(ConverseRequest(setup=Setup(client_name="x" * MAX_BYTES)))
    rpc = Rpc(big)
    await Relay().converse(rpc)
    assert rpc.status is not None
    assert_names_the_limit(rpc.status, len(big), "rtrelay.v1.ConverseRequest")


@on_virtual_time
async def test_request_of_generate_over_the_limit_is_refused() -> None:
    big = GenerateRequest(start=start("big", text="x" * MAX_BYTES)).SerializeToString()
    rpc = Rpc()
    await Relay().generate(rpc, big)
    assert rpc.frames == []
    assert rpc.status is not None
    assert_names_the_limit(rpc.status, len(big), "rtrelay.v1.GenerateRequest")


@on_virtual_time
async def test_a_call_without_its_message_is_ended() -> None:
    for rpc, words in (
        (Rpc(), "no request"),
        (Rpc(ends=False), "took longer than 60 s"),
    ):
        with pytest.raises(grpc.aio.AbortError):
            await Relay().service._read_and_generate(None, rpc, NOBODY)  # type: ignore[arg-type]
        assert rpc.status is not None
        assert rpc.status.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
        assert words in rpc.status.message
        rpc.incoming.put_nowait(grpc.aio.EOF)  # what ends a read that was left to itself
        await asyncio.sleep(0)


def test_hard_limit_is_a_multiple_that_grpc_can_hold() -> None:
    assert hard_limit_bytes(GrpcListener(max_request_bytes=1024)) == 1024 * HARD_LIMIT_FACTOR
    assert hard_limit_bytes(GrpcListener(max_request_bytes=2**30)) == 2**31 - 1


# --- a prefix that is sent ahead ----------------------------------------------------------------

PREFIX = Prompt(messages=[Message(role=Role.ROLE_SYSTEM, parts=[Part(text="Be brief.")])])


@on_virtual_time
async def test_prefix_is_sent_with_the_setup_and_nothing_of_it_comes_back() -> None:
    relay = Relay(caches_prompts=True)
    rpc = Rpc(ConverseRequest(setup=Setup(model="fast", prewarm_prompt=PREFIX)), ends=False)
    task = asyncio.get_running_loop().create_task(relay.converse(rpc))
    await asyncio.sleep(3.0)
    assert rpc.kinds == ["ready"]
    assert "prewarm_prompt" in rpc.frames[0].ready.capabilities
    (prefix,) = relay.scenario.transport.attempts
    assert b"Be brief." in prefix.request.body
    assert prefix.ended_s is not None
    rpc.incoming.put_nowait(_bytes_of(START))
    rpc.incoming.put_nowait(grpc.aio.EOF)
    await task
    assert rpc.kinds == ["ready", "started", "delta", "delta", "end"]
    assert len(relay.scenario.transport.attempts) == 2


@pytest.mark.parametrize("last", [grpc.aio.EOF, ConverseRequest(close=Close())])
def test_prefix_is_given_up_with_its_session(last: Any) -> None:
    @on_virtual_time
    async def check() -> None:
        relay = Relay(caches_prompts=True)
        rpc = Rpc(ConverseRequest(setup=Setup(model="fast", prewarm_prompt=PREFIX)), ends=False)
        task = asyncio.get_running_loop().create_task(relay.converse(rpc))
        await asyncio.sleep(0.375)
        rpc.incoming.put_nowait(last if last is grpc.aio.EOF else _bytes_of(last))
        await task
        assert relay.scenario.aborted == [("a", 0.375)]

    check()


@on_virtual_time
async def test_prefix_that_is_wrong_ends_the_session() -> None:
    rpc = Rpc(ConverseRequest(setup=Setup(prewarm_prompt=PREFIX)))
    relay = Relay(caches_prompts=True)
    await relay.converse(rpc)
    assert rpc.status is not None
    assert (reason_of(rpc.status), field_of(rpc.status)) == ("INVALID_REQUEST", "setup.model")
    assert relay.scenario.transport.attempts == []


@on_virtual_time
async def test_session_gives_its_starts_a_cache_key() -> None:
    relay = Relay(quirks={"has_cache_key": True})
    cached = PromptCache.PROMPT_CACHE_AUTO
    rpc = Rpc(
        ConverseRequest(setup=Setup(model="fast", prompt_cache=cached)),
        ConverseRequest(start=start("g1")),
        ConverseRequest(start=start("g2")),
    )
    await relay.converse(rpc)
    keys = [
        orjson.loads(attempt.request.body)["prompt_cache_key"]
        for attempt in relay.scenario.transport.attempts
    ]
    assert len(keys) == 2
    assert keys[0] == keys[1]
    assert rpc.frames[0].ready.session_id not in keys[0]


# --- a client that asks and does not read -----------------------------------------------------

PING = ConverseRequest(ping=Ping(nonce=1))
BAD_START = ConverseRequest(start=start("", text="no id"))


@pytest.mark.parametrize("frame", [PING, b"\xff not protobuf", BAD_START])
def test_client_that_asks_without_reading_is_not_heard_further(
    frame: bytes | ConverseRequest,
) -> None:
    @on_virtual_time
    async def check() -> None:
        relay = Relay()
        count = MAX_ANSWERS * 5
        rpc = Rpc(SETUP, *[frame] * count)
        rpc.write_s = 1.0
        serving = asyncio.ensure_future(relay.converse(rpc))
        await asyncio.sleep(0.5)
        assert rpc.reads <= MAX_ANSWERS + 2, "one is being written, the others wait"
        await serving
        assert len(rpc.frames) == count + 1, "nothing is lost"
        assert rpc.status is None

    check()


@on_virtual_time
async def test_refused_starts_are_bounded_too() -> None:
    relay = Relay()
    starts = [ConverseRequest(start=start(f"g{i}", model="nope")) for i in range(MAX_ANSWERS * 3)]
    rpc = Rpc(SETUP, *starts)
    rpc.write_s = 1.0
    serving = asyncio.ensure_future(relay.converse(rpc))
    await asyncio.sleep(0.5)
    assert rpc.reads <= MAX_ANSWERS + 2
    await serving
    assert set(rpc.kinds[1:]) == {"end"}
    assert len(rpc.frames) == len(starts) + 1


async def stopped(relay: Relay, rpc: Rpc) -> asyncio.Task[None]:
    """A session whose reader waits for room, with a write that never ends by itself."""
    rpc.write_s = 3600.0
    serving = asyncio.ensure_future(relay.converse(rpc))
    await asyncio.sleep(0.5)
    assert rpc.reads <= MAX_ANSWERS + 3
    return serving


@on_virtual_time
async def test_client_that_goes_away_unread_is_noticed() -> None:
    relay = Relay()
    rpc = Rpc(SETUP, START, *[PING] * 500, ends=False)
    serving = await stopped(relay, rpc)
    serving.cancel()  # as grpc does
    with pytest.raises(asyncio.CancelledError):
        await serving
    await relay.settled()
    assert since_start_s() < 3600
    assert relay.scenario.aborted == [("a", 0.5)]


@on_virtual_time
async def test_write_that_fails_lets_the_reader_go_on() -> None:
    """It then finds that the client is gone, or is cancelled by grpc."""
    relay = Relay()
    rpc = Rpc(SETUP, *[PING] * 500)
    rpc.fault, rpc.fails_at = grpc.aio.UsageError("RPC already finished."), 0
    serving = await stopped(relay, rpc)
    with pytest.raises(grpc.aio.UsageError):
        await serving
    await relay.settled()
    assert rpc.status is None, "there is nobody to tell"


@on_virtual_time
async def test_drain_and_cancel_do_not_wait_for_room() -> None:
    relay = Relay()
    rpc = Rpc(SETUP, START, *[PING] * 500, ConverseRequest(close=Close()))
    rpc.write_s = 0.01
    serving = asyncio.ensure_future(relay.converse(rpc))
    await asyncio.sleep(0.005)
    relay.service.notify_drain(30.0)
    (conversation,) = relay.service._sessions
    conversation._session.cancel_all(CancelReason.BARGE_IN)
    await serving
    assert rpc.kinds.count("pong") == 500
    assert rpc.kinds.count("notice") == 1
    assert rpc.kinds.count("end") == 1


# --- sessions that the relay ends -------------------------------------------------------------

GOING = Draining("going; connect again")


@on_virtual_time
async def test_session_that_is_ended_hears_all_and_then_why() -> None:
    relay = Relay()
    rpc = Rpc(SETUP, START, ends=False)
    rpc.write_s = 0.125
    serving = asyncio.ensure_future(relay.converse(rpc))
    await asyncio.sleep(0.75)
    relay.service.notify_drain(0.0)
    await relay.service.end_sessions(GOING, 3.0)
    assert since_start_s() == 1.0, "two frames, and no longer"
    assert rpc.kinds == ["ready", "started", "delta", "notice", "end"]
    assert rpc.status is not None
    assert (reason_of(rpc.status), rpc.status.code) == ("DRAINING", 14)
    await serving


@on_virtual_time
async def test_session_that_ends_by_itself_is_left_to_it() -> None:
    relay = Relay()
    rpc = Rpc(SETUP, START)
    serving = asyncio.ensure_future(relay.converse(rpc))
    await asyncio.sleep(0.5)
    await relay.service.end_sessions(GOING, 3.0)
    await serving
    assert rpc.status is None, "half-closed: it ends with OK after its generation"
    assert rpc.frames[-1].end.error.code == 0


@on_virtual_time
async def test_session_that_reads_nothing_is_not_waited_for() -> None:
    relay = Relay()
    rpc = Rpc(SETUP, START, *[PING] * 500, ends=False)
    serving = await stopped(relay, rpc)
    began_s = since_start_s()
    await relay.service.end_sessions(GOING, 1.0)
    assert since_start_s() == began_s + 1.0
    assert relay.scenario.aborted == [("a", began_s)], "its provider is let go at once"
    await serving
    assert rpc.status is not None
    assert reason_of(rpc.status) == "DRAINING"


# --- a writer that dies of a bug --------------------------------------------------------------


@pytest.mark.parametrize("ends", [True, False])
def test_bug_in_the_writer_ends_the_session(ends: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> NoReturn:
        raise KeyError("a bug of ours")

    monkeypatch.setattr(FrameEncoder, "output", broken)

    @on_virtual_time
    async def check() -> None:
        relay = Relay()
        rpc = Rpc(SETUP, START, ends=ends)
        with capture_logs() as logs:
            await relay.converse(rpc)
        assert rpc.status is not None
        assert (reason_of(rpc.status), rpc.status.code) == ("INTERNAL", 13)
        assert since_start_s() == 0.5, "at once"
        assert relay.scenario.aborted == [("a", 0.5)]
        assert [log["event"] for log in logs if log["log_level"] == "error"] == ["writer_bug"]

    check()


@on_virtual_time
async def test_bug_in_the_writer_ends_a_session_whose_reader_waits_for_room() -> None:
    relay = Relay()
    rpc = Rpc(SETUP, START, *[PING] * 500, ends=False)
    rpc.fault, rpc.fails_at = TypeError("a bug of ours"), 3
    rpc.write_s = 0.125
    await relay.converse(rpc)
    assert rpc.status is not None
    assert reason_of(rpc.status) == "INTERNAL"
    assert relay.scenario.aborted == [("a", 0.5)]


@on_virtual_time
async def test_bug_in_the_writer_of_generate_ends_the_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_: object) -> NoReturn:
        raise KeyError("a bug of ours")

    monkeypatch.setattr(FrameEncoder, "output", broken)
    relay = Relay()
    rpc = Rpc()
    with capture_logs() as logs:
        await relay.generate(rpc, GenerateRequest(start=start("g1")).SerializeToString())
    assert rpc.status is not None
    assert (reason_of(rpc.status), rpc.status.code) == ("INTERNAL", 13)
    assert relay.scenario.aborted == [("a", 0.5)]
    assert [log["event"] for log in logs if log["log_level"] == "error"] == ["writer_bug"]


@on_virtual_time
async def test_bug_in_the_last_frame_of_generate_is_no_clean_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_: object) -> NoReturn:
        raise KeyError("a bug of ours")

    monkeypatch.setattr(FrameEncoder, "end", broken)
    rpc = Rpc()
    await Relay().generate(rpc, GenerateRequest(start=start("g1")).SerializeToString())
    assert "end" not in rpc.kinds
    assert rpc.status is not None
    assert reason_of(rpc.status) == "INTERNAL"


# --- refused before it began ------------------------------------------------------------------


@on_virtual_time
async def test_unknown_model_has_its_end_without_started() -> None:
    relay = Relay()
    with capture_logs() as logs:
        rpc = Rpc(SETUP, ConverseRequest(start=start("g1", model="nope")))
        await relay.converse(rpc)
        assert rpc.kinds == ["ready", "end"]
        rpc = Rpc()
        await relay.generate(
            rpc, GenerateRequest(start=start("g1", model="nope")).SerializeToString()
        )
        assert rpc.kinds == ["end"]
    assert rpc.status is not None
    assert (reason_of(rpc.status), rpc.status.code) == ("UNKNOWN_MODEL", 5)
    refusals = [log for log in logs if log["event"] == "start_refused"]
    assert [log["reason"] for log in refusals] == ["UNKNOWN_MODEL"] * 2


@pytest.mark.parametrize("rpc", ["generate", "converse"])
def test_others_have_a_turn_between_reading_and_encoding_a_long_request(
    rpc: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    @on_virtual_time
    async def check() -> None:
        relay = Relay()
        relay.service = RelayService(relay.scenario.services, GrpcListener())
        order: list[str] = []
        read = proto_in.to_generate_request

        def noted(*arguments: Any) -> Any:
            order.append("read")
            asyncio.get_running_loop().call_soon(order.append, "others")
            return read(*arguments)

        encode = OpenAIChatCodec.encode_request

        def noted_too(*arguments: Any) -> Any:
            order.append("encoded")
            return encode(*arguments)

        monkeypatch.setattr("relay.frontends.grpc_service.to_generate_request", noted)
        monkeypatch.setattr(OpenAIChatCodec, "encode_request", noted_too)
        long = start("g1", text="x" * LONG_REQUEST_BYTES)
        if rpc == "generate":
            await relay.generate(Rpc(), GenerateRequest(start=long).SerializeToString())
        else:
            await relay.converse(Rpc(SETUP, ConverseRequest(start=long)))
        assert order == ["read", "others", "encoded"]

    check()


@on_virtual_time
async def test_started_is_written_after_the_request_has_left() -> None:
    relay = Relay()
    rpc = Rpc(SETUP, ends=False)
    seen: list[int] = []
    write = rpc.write

    async def watched(frame: bytes) -> None:
        seen.append(len(relay.scenario.transport.attempts))
        await write(frame)

    rpc.write = watched  # type: ignore[method-assign]
    serving = asyncio.ensure_future(relay.converse(rpc))
    await asyncio.sleep(0.125)
    rpc.incoming.put_nowait(_bytes_of(START))
    await asyncio.sleep(0.125)
    assert rpc.kinds == ["ready", "started"]
    assert seen[1] == 1
    rpc.incoming.put_nowait(grpc.aio.EOF)
    await serving


# --- idle sessions --------------------------------------------------------------------------


@on_virtual_time
async def test_a_session_without_anything_to_do_ends() -> None:
    relay = Relay(session_idle_ms=60_000)
    rpc = Rpc(SETUP, ends=False)
    asyncio.get_running_loop().call_later(45.0, rpc.incoming.put_nowait, _bytes_of(PING))
    await relay.converse(rpc)
    assert rpc.status is not None
    assert reason_of(rpc.status) == "SESSION_IDLE"
    assert rpc.kinds == ["ready", "pong"]
    assert since_start_s() == pytest.approx(105.0, abs=15.0)
    assert since_start_s() >= 105.0


@on_virtual_time
async def test_a_session_is_not_idle_while_a_generation_runs() -> None:
    relay = Relay(session_idle_ms=200)
    rpc = Rpc(SETUP, START, ends=False)
    await relay.converse(rpc)
    assert rpc.kinds[-1] == "end", "its answer takes a second"
    assert rpc.status is not None
    assert since_start_s() >= 1.0 + 0.2


# --- between two turns ----------------------------------------------------------------------


class Counted(bytes):
    """A frame whose end is noticed."""

    alive = 0

    def __new__(cls, data: bytes) -> Self:
        cls.alive += 1
        return super().__new__(cls, data)

    def __del__(self) -> None:
        type(self).alive -= 1


@on_virtual_time
async def test_an_idle_session_keeps_nothing_of_its_last_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[weakref.ref[Generation]] = []

    def make(*arguments: Any, **named: Any) -> Generation:
        generation = Generation(*arguments, **named)
        made.append(weakref.ref(generation))
        return generation

    monkeypatch.setattr("relay.session.Generation", make)
    relay = Relay()
    rpc = Rpc(SETUP, ends=False)
    rpc.incoming.put_nowait(Counted(START.SerializeToString()))
    talking = asyncio.create_task(relay.converse(rpc))
    while "end" not in rpc.kinds:
        await asyncio.sleep(0.5)
    await relay.scenario.settled()
    gc.collect()
    assert len(made) == 1
    assert made[0]() is None
    assert Counted.alive == 0
    rpc.incoming.put_nowait(grpc.aio.EOF)
    await talking
