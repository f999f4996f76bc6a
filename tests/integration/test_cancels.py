"""Cancels are the normal case: each reaches the provider at once and leaves nothing behind.

A barge-in, a client that hangs up, an RPC that is cancelled: the provider sees RST_STREAM(CANCEL)
on a connection that lives on. The figure to hold is 20 ms from the client's cancel to the reset at
the provider, at p99 on a quiet machine; it is printed and kept as a property of the test, while
the assertion is loose enough for a busy one.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass, field

import orjson
import pytest
from rtrelay.v1 import Cancel, CancelReason, GenerateRequest, Outcome

from tests.fakes.converse_client import Answer, Conversation, start
from tests.fakes.h2_server import CANCEL, H2Server, ServerStream, stream_chunks
from tests.fakes.relay_under_test import (
    RelayUnderTest,
    answer_chunks,
    chat_body,
    chunk,
    provider,
    relay_under_test,
)

pytestmark = pytest.mark.sockets

CHAT = "/v1/chat/completions"
CANCELS = 1_000
SESSIONS = 8
AT_ONCE_EACH = 8
PHASES = (
    "before_headers",
    "after_headers",
    "after_role",
    "mid_stream",
    "mid_flow",
    "mid_tool_call",
)
"""Where a generation is when it is cancelled; half of them before the first content."""
PACE_S = 0.004
"""Between two cancels: relay, clients and provider share one loop here, and a loop that is never
idle measures its own queue."""
P99_BOUND_S = 0.5
"""Generous: it must hold while other tests use the same cores. The figure is 0.02."""


@dataclass
class Provider:
    """A fake provider that stops where the prompt says (`PHASE/ID`) and tells when it is there."""

    server: H2Server
    arrived: dict[str, asyncio.Event] = field(default_factory=dict)
    streams: dict[str, ServerStream] = field(default_factory=dict)

    async def script(self, stream: ServerStream) -> None:
        name = orjson.loads(stream.body)["messages"][0]["content"]
        phase = name.partition("/")[0]
        self.streams[name] = stream
        if phase != "before_headers":
            await stream.send_headers()
        if phase == "after_role":
            await stream.send(chunk({"role": "assistant", "content": ""}))
        elif phase == "mid_tool_call":
            function = {"name": "look", "arguments": '{"a": '}
            call = {"index": 0, "id": "c1", "type": "function", "function": function}
            await stream.send(chunk({"tool_calls": [call]}))
        elif phase.startswith("mid_"):
            await stream.send(chunk({"content": "One"}))
        self.event(name).set()
        while phase == "mid_flow":
            await stream.send(chunk({"content": " more"}))
            await asyncio.sleep(0.05)
        await stream.hang()

    def event(self, name: str) -> asyncio.Event:
        return self.arrived.setdefault(name, asyncio.Event())

    async def all_reset(self) -> list[ServerStream]:
        """Wait until every stream was reset by the relay; they are returned."""
        streams = list(self.streams.values())
        await self.server.until(
            lambda: all(stream.reset_code is not None for stream in streams), timeout_s=10
        )
        assert {stream.reset_code for stream in streams} == {CANCEL}
        return streams


@pytest.fixture
async def lab(upstream: H2Server) -> Provider:
    made = Provider(upstream)
    upstream.routes[CHAT] = made.script
    return made


@pytest.fixture
async def relay(upstream: H2Server, ca_file: str) -> AsyncIterator[RelayUnderTest]:
    document = {
        # A connection is replaced after some hundred requests; four are enough for all here, so
        # that none may close.
        "providers": {"lab": provider(upstream.url, ca_file=ca_file, warm_connections=4)},
        "models": {"fast": {"candidates": [{"provider": "lab", "model": "m"}]}},
    }
    async with relay_under_test(document) as running:
        yield running


def percentile(values: Iterable[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(share * len(ordered)))]


async def nothing_is_left(relay: RelayUnderTest, lab: Provider, tasks_before: int) -> None:
    """No stream, generation or task is left, no connection was closed, and the relay serves."""
    await relay.settled()
    assert not lab.server.seen("closed")
    # Scripts and connections of the fake are gone, and so is every task of the relay.
    async with asyncio.timeout(5):
        while len(asyncio.all_tasks()) > tasks_before:
            await asyncio.sleep(0.05)
    lab.server.routes[CHAT] = stream_chunks(answer_chunks("still", " here"))
    assert (await relay.generate(start())).text == "still here"
    await relay.settled()


def report(
    record_property: Callable[[str, object], None], title: str, delays_s: list[float]
) -> None:
    p50, p99 = (percentile(delays_s, share) * 1e3 for share in (0.5, 0.99))
    print(f"{title}: {len(delays_s)} resets, p50 {p50:.1f} ms, p99 {p99:.1f} ms")
    record_property(f"{title}_p99_ms", round(p99, 2))
    assert p99 < P99_BOUND_S * 1e3


async def test_a_thousand_cancels_reach_the_provider_and_leave_nothing(
    relay: RelayUnderTest, lab: Provider, record_property: Callable[[str, object], None]
) -> None:
    cancelled_s: dict[str, float] = {}
    ids = iter(range(CANCELS))
    turn = asyncio.Semaphore(0)

    async def pace() -> None:
        await lab.server.until(lambda: len(lab.server.requests(CHAT)) == SESSIONS * AT_ONCE_EACH)
        for _ in range(CANCELS):
            turn.release()
            await asyncio.sleep(PACE_S)  # after each: a busy machine slows the pace

    async def cancel_some(talk: Conversation) -> None:
        for number in ids:
            name = f"{PHASES[number % len(PHASES)]}/{number}"
            await talk.start(name, text=name)
            await asyncio.wait_for(lab.event(name).wait(), 10)
            if name.startswith("mid_") and not name.startswith("mid_tool_call"):
                await talk.says("One", name)
            await turn.acquire()
            cancelled_s[name] = time.monotonic()
            await talk.cancel(name)
            answer = await talk.ended(name)
            assert answer.end is not None
            assert answer.end.outcome == Outcome.OUTCOME_CANCELLED
            assert answer.end.cancel_reason == CancelReason.CANCEL_REASON_BARGE_IN
            assert not answer.end.usage_final

    async def session() -> None:
        async with relay.talk() as talk:
            async with asyncio.TaskGroup() as group:
                for _ in range(AT_ONCE_EACH):
                    group.create_task(cancel_some(talk))
            await talk.half_close()
            assert await talk.over() is None

    tasks_before = len(asyncio.all_tasks())
    async with asyncio.TaskGroup() as group:
        group.create_task(pace())
        for _ in range(SESSIONS):
            group.create_task(session())
    assert len(cancelled_s) == CANCELS
    await lab.all_reset()
    delays_s = [(lab.streams[name].reset_at_s or 0) - at_s for name, at_s in cancelled_s.items()]
    report(record_property, "converse_cancel_to_reset", delays_s)
    await nothing_is_left(relay, lab, tasks_before)


async def test_clients_that_hang_up_cancel(
    relay: RelayUnderTest, lab: Provider, record_property: Callable[[str, object], None]
) -> None:
    left_s: dict[str, float] = {}

    at_once = asyncio.Semaphore(AT_ONCE_EACH)

    async def hang_up(number: int) -> None:
        name = f"{PHASES[number % len(PHASES)]}/{number}"

        async def read() -> None:
            is_stream = number % 3 != 0  # a client that waits for one document leaves, too
            body = chat_body("fast", name, stream=is_stream)
            async with (
                relay.http.stream("POST", CHAT, json=body) as response,
                aclosing(response.aiter_raw()) as parts,
            ):
                async for _ in parts:
                    pass

        async with at_once:
            reading = asyncio.create_task(read())
            await asyncio.wait_for(lab.event(name).wait(), 10)
            left_s[name] = time.monotonic()
            reading.cancel()
            await asyncio.wait([reading])
        assert reading.cancelled()

    tasks_before = len(asyncio.all_tasks())
    async with asyncio.TaskGroup() as group:
        for number in range(64):
            group.create_task(hang_up(number))
    await lab.all_reset()
    delays_s = [(lab.streams[name].reset_at_s or 0) - at_s for name, at_s in left_s.items()]
    report(record_property, "sse_hang_up_to_reset", delays_s)
    await nothing_is_left(relay, lab, tasks_before)


async def test_cancelled_generate_calls_cancel(
    relay: RelayUnderTest, lab: Provider, record_property: Callable[[str, object], None]
) -> None:
    left_s: dict[str, float] = {}

    async def cancel(number: int) -> None:
        name = f"{PHASES[number % len(PHASES)]}/{number}"
        call = relay.stub.Generate(GenerateRequest(start=start("g", text=name)))

        async def read() -> None:
            async for _ in call:
                pass

        reading = asyncio.create_task(read())
        await asyncio.wait_for(lab.event(name).wait(), 10)
        left_s[name] = time.monotonic()
        call.cancel()
        await asyncio.wait([reading])
        assert reading.cancelled()

    tasks_before = len(asyncio.all_tasks())
    async with asyncio.TaskGroup() as group:
        for number in range(64):
            group.create_task(cancel(number))
    await lab.all_reset()
    delays_s = [(lab.streams[name].reset_at_s or 0) - at_s for name, at_s in left_s.items()]
    report(record_property, "generate_cancel_to_reset", delays_s)
    await nothing_is_left(relay, lab, tasks_before)


async def test_session_that_goes_away_cancels_all_it_had(
    relay: RelayUnderTest, lab: Provider
) -> None:
    tasks_before = len(asyncio.all_tasks())
    async with relay.talk() as talk:
        for number, phase in enumerate(PHASES):
            await talk.start(f"{phase}/{number}", text=f"{phase}/{number}")
            await asyncio.wait_for(lab.event(f"{phase}/{number}").wait(), 10)
    await lab.all_reset()
    await nothing_is_left(relay, lab, tasks_before)


async def test_cancel_of_all_and_of_ids_that_are_not_there(
    relay: RelayUnderTest, lab: Provider
) -> None:
    async with relay.talk() as talk:
        await talk.cancel("never-started")
        for number in range(3):
            await talk.start(f"mid_stream/{number}", text=f"mid_stream/{number}")
            await talk.says("One", f"mid_stream/{number}")
        everything = Cancel(all=True, reason=CancelReason.CANCEL_REASON_CLIENT_TIMEOUT)
        await talk.send(cancel=everything)
        for number in range(3):
            end = (await talk.ended(f"mid_stream/{number}")).end
            assert end is not None
            assert end.cancel_reason == CancelReason.CANCEL_REASON_CLIENT_TIMEOUT
        await talk.cancel("mid_stream/0")
        await talk.send(cancel=everything)
        assert not talk.notices, "a cancel that has nothing to do is no error"
        await talk.half_close()
        assert await talk.over() is None
    await lab.all_reset()


async def test_cancel_that_meets_the_end_gives_one_end(
    relay: RelayUnderTest, lab: Provider
) -> None:
    """Whichever is first wins: a whole answer, or a cancelled one; never both, never neither."""
    words = ["One", " two", " three"]
    lab.server.routes[CHAT] = stream_chunks(answer_chunks(*words))
    chance = random.Random(7)
    outcomes: dict[int, int] = {}

    def check(answer: Answer) -> None:
        end = answer.end
        assert end is not None
        outcomes[end.outcome] = outcomes.get(end.outcome, 0) + 1
        if end.outcome == Outcome.OUTCOME_COMPLETED:
            assert answer.text == "".join(words)
            assert answer.finish_reasons == {0: "STOP"}
        else:
            assert end.outcome == Outcome.OUTCOME_CANCELLED
            assert "".join(words).startswith(answer.text)

    async with relay.talk() as talk:
        for number in range(300):
            await talk.start(f"g{number}")
            for _ in range(chance.randrange(60)):
                await asyncio.sleep(0)
            await talk.cancel(f"g{number}")
            check(await talk.ended(f"g{number}"))
        # The last word of each has come: an answer that was still under way would show here.
        await talk.half_close()
        assert await talk.over() is None
    assert set(outcomes) == {Outcome.OUTCOME_COMPLETED, Outcome.OUTCOME_CANCELLED}, outcomes
    await relay.settled()
    assert not lab.server.seen("closed")
