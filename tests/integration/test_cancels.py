"""Cancels are the normal case: each reaches the provider at once and leaves nothing behind.

A barge-in, a client that hangs up, an RPC that is cancelled: the provider sees RST_STREAM(CANCEL)
on a connection that lives on. The figure to hold is 20 ms from the client's cancel to the reset at
the provider, at p99 on a quiet machine (`bench/cases/cancel.py`). Here, beside other tests, the
median has to hold it and p99 may be five times that; who is too slow is measured once more.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from contextlib import aclosing
from dataclasses import dataclass, field

import orjson
import pytest
from rtrelay.v1 import Cancel, CancelReason, GenerateRequest, Outcome

from relay.transport import TransportSettings
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
JUDGED_FROM = TransportSettings().judged_from
SESSIONS = 8
AT_ONCE_EACH = 8
AT_ONCE = SESSIONS * AT_ONCE_EACH
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
P50_BOUND_S = 0.02
P99_BOUND_S = 0.1
"""The figure for p99 is 0.02 as well; this one holds while other tests use the same cores."""
LOOKS = 2
"""A machine may be busy once; a relay that has become slow is slow again."""


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

    async def all_reset(self) -> None:
        """Wait until every stream was reset by the relay."""
        streams = list(self.streams.values())
        await self.server.until(
            lambda: all(stream.reset_code is not None for stream in streams), timeout_s=10
        )
        assert {stream.reset_code for stream in streams} == {CANCEL}

    async def delays_s(self, cancelled_s: dict[str, float]) -> list[float]:
        """From each cancel to its reset, once all have come."""
        await self.all_reset()
        return [(self.streams[name].reset_at_s or 0) - at_s for name, at_s in cancelled_s.items()]


@pytest.fixture
async def lab(upstream: H2Server) -> Provider:
    made = Provider(upstream)
    upstream.routes[CHAT] = made.script
    return made


@pytest.fixture
async def relay(upstream: H2Server, ca_file: str) -> AsyncIterator[RelayUnderTest]:
    document = {
        # So many that few are replaced: that is from some streams on, when most were reset.
        "providers": {"lab": provider(upstream.url, ca_file=ca_file, warm_connections=32)},
        "models": {"fast": {"candidates": [{"provider": "lab", "model": "m"}]}},
    }
    async with relay_under_test(document) as running:
        yield running


def percentile(values: Iterable[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(share * len(ordered)))]


async def nothing_is_left(relay: RelayUnderTest, lab: Provider, tasks_before: int) -> None:
    """No stream, generation or task is left, no connection was closed for a cancel, and the relay
    serves."""
    await relay.settled()
    closed = [lab.server.connections[seen.connection] for seen in lab.server.seen("closed")]
    # Those that carried so many, nearly all reset, are replaced; of the others none goes.
    assert all(len(connection.requests) >= JUDGED_FROM for connection in closed)
    # Scripts and connections of the fake are gone, and so is every task of the relay.
    async with asyncio.timeout(5):
        while len(asyncio.all_tasks()) > tasks_before:
            await asyncio.sleep(0.05)
    lab.server.routes[CHAT] = stream_chunks(answer_chunks("still", " here"))
    assert (await relay.generate(start())).text == "still here"
    await relay.settled()


async def in_time(
    record_property: Callable[[str, object], None],
    title: str,
    measure: Callable[[int], Awaitable[list[float]]],
) -> None:
    """Hold delays to their bounds; they are printed and kept as properties of the test.

    Args:
        measure: cancels some and gives the delays, seconds; it gets the number of the look.
    """
    looks: list[str] = []
    for look in range(LOOKS):
        delays_s = await measure(look)
        p50_s, p99_s = (percentile(delays_s, share) for share in (0.5, 0.99))
        record_property(f"{title}_p50_ms", round(p50_s * 1e3, 2))
        record_property(f"{title}_p99_ms", round(p99_s * 1e3, 2))
        looks.append(f"{len(delays_s)} resets, p50 {p50_s * 1e3:.1f}, p99 {p99_s * 1e3:.1f} ms")
        print(f"{title}: {looks[-1]}")
        if p50_s <= P50_BOUND_S and p99_s <= P99_BOUND_S:
            return
    raise AssertionError(f"{title}: {'; again: '.join(looks)}")


async def pace(turn: asyncio.Semaphore, count: int) -> None:
    """Let so many through, one after the other."""
    for _ in range(count):
        turn.release()
        await asyncio.sleep(PACE_S)  # after each: a busy machine slows the pace


async def test_what_is_too_slow_fails_at_the_second_look() -> None:
    quick, slow_tail, slow = [0.001] * 100, [0.001] * 95 + [0.4] * 5, [0.03] * 100

    async def looks_at(*looks: list[float]) -> None:
        async def measure(look: int) -> list[float]:
            return looks[look]

        await in_time(lambda name, value: None, "cancels", measure)

    await looks_at(quick)
    await looks_at(slow_tail, quick)
    for bad in (slow_tail, slow):
        with pytest.raises(AssertionError, match="again"):
            await looks_at(bad, bad, quick)


async def test_a_thousand_cancels_reach_the_provider_and_leave_nothing(
    relay: RelayUnderTest, lab: Provider, record_property: Callable[[str, object], None]
) -> None:
    async def cancel_some(
        talk: Conversation, ids: Iterable[int], turn: asyncio.Semaphore, told: dict[str, float]
    ) -> None:
        for number in ids:
            name = f"{PHASES[number % len(PHASES)]}/{number}"
            await talk.start(name, text=name)
            await asyncio.wait_for(lab.event(name).wait(), 10)
            if name.startswith("mid_") and not name.startswith("mid_tool_call"):
                await talk.says("One", name)
            await turn.acquire()
            told[name] = time.monotonic()
            await talk.cancel(name)
            answer = await talk.ended(name)
            assert answer.end is not None
            assert answer.end.outcome == Outcome.OUTCOME_CANCELLED
            assert answer.end.cancel_reason == CancelReason.CANCEL_REASON_BARGE_IN
            assert not answer.end.usage_final

    async def measure(look: int) -> list[float]:
        told: dict[str, float] = {}
        ids = iter(range(look * CANCELS, (look + 1) * CANCELS))
        turn = asyncio.Semaphore(0)

        async def session() -> None:
            async with relay.talk() as talk:
                async with asyncio.TaskGroup() as group:
                    for _ in range(AT_ONCE_EACH):
                        group.create_task(cancel_some(talk, ids, turn, told))
                await talk.half_close()
                assert await talk.over() is None

        async with asyncio.TaskGroup() as group:
            for _ in range(SESSIONS):
                group.create_task(session())
            running = look * CANCELS + AT_ONCE
            await lab.server.until(lambda: len(lab.server.requests(CHAT)) == running)
            await pace(turn, CANCELS)
        assert len(told) == CANCELS
        return await lab.delays_s(told)

    tasks_before = len(asyncio.all_tasks())
    await in_time(record_property, "converse_cancel_to_reset", measure)
    await nothing_is_left(relay, lab, tasks_before)


def some_at_once(
    lab: Provider,
    one: Callable[[int, asyncio.Semaphore, dict[str, float]], Coroutine[None, None, None]],
) -> Callable[[int], Awaitable[list[float]]]:
    """A measure for `in_time`: 64 that run, each cancelled when it is its turn."""

    async def measure(look: int) -> list[float]:
        told: dict[str, float] = {}
        turn = asyncio.Semaphore(0)
        async with asyncio.TaskGroup() as group:
            for number in range(look * AT_ONCE, (look + 1) * AT_ONCE):
                group.create_task(one(number, turn, told))
            running = (look + 1) * AT_ONCE
            await lab.server.until(lambda: len(lab.server.requests(CHAT)) == running)
            await pace(turn, AT_ONCE)
        assert len(told) == AT_ONCE
        return await lab.delays_s(told)

    return measure


async def test_clients_that_hang_up_cancel(
    relay: RelayUnderTest, lab: Provider, record_property: Callable[[str, object], None]
) -> None:
    async def hang_up(number: int, turn: asyncio.Semaphore, told: dict[str, float]) -> None:
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

        reading = asyncio.create_task(read())
        await asyncio.wait_for(lab.event(name).wait(), 10)
        await turn.acquire()
        told[name] = time.monotonic()
        reading.cancel()
        await asyncio.wait([reading])
        assert reading.cancelled()

    tasks_before = len(asyncio.all_tasks())
    await in_time(record_property, "sse_hang_up_to_reset", some_at_once(lab, hang_up))
    await nothing_is_left(relay, lab, tasks_before)


async def test_cancelled_generate_calls_cancel(
    relay: RelayUnderTest, lab: Provider, record_property: Callable[[str, object], None]
) -> None:
    async def cancel(number: int, turn: asyncio.Semaphore, told: dict[str, float]) -> None:
        name = f"{PHASES[number % len(PHASES)]}/{number}"
        call = relay.stub.Generate(GenerateRequest(start=start("g", text=name)))

        async def read() -> None:
            async for _ in call:
                pass

        reading = asyncio.create_task(read())
        await asyncio.wait_for(lab.event(name).wait(), 10)
        await turn.acquire()
        told[name] = time.monotonic()
        call.cancel()
        await asyncio.wait([reading])
        assert reading.cancelled()

    tasks_before = len(asyncio.all_tasks())
    await in_time(record_property, "generate_cancel_to_reset", some_at_once(lab, cancel))
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
        # Over 32 connections, of which one with fewer resets is taken: none comes to its limit.
        for number in range(90):
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
