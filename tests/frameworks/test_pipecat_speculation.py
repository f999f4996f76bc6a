"""Answers to turns that may not have ended: confirmed, withdrawn, superseded, with tools."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from pipecat.frames.frames import (
    EagerEndOfTurnCancelFrame,
    FunctionCallResultFrame,
    InterruptionFrame,
    LLMFullResponseEndFrame,
    UserStartedSpeakingFrame,
    UserStoppedSpeakingFrame,
)
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.services.llm_service import FunctionCallParams
from rtrelay.pipecat import RelayLLMService, RelayLLMSettings
from rtrelay.v1 import CancelReason, Start, ToolCall, ToolCallDone

from tests.fakes.fake_relay import FakeRelay, FakeStream, answers, begins, hangs
from tests.frameworks.pipecat_pipe import Pipe, asks

pytestmark = pytest.mark.sockets

SUPERSEDED = CancelReason.CANCEL_REASON_SUPERSEDED
DISCARDED = CancelReason.CANCEL_REASON_SPECULATION_DISCARDED


@pytest.fixture
async def relay() -> AsyncIterator[FakeRelay]:
    async with FakeRelay() as running:
        yield running


@pytest.fixture
def llm(relay: FakeRelay) -> RelayLLMService:
    return RelayLLMService(relay.address, settings=RelayLLMSettings(model="fast"))


async def test_confirmed_while_it_is_spoken(llm: RelayLLMService, relay: FakeRelay) -> None:
    relay.on_start = begins("One")
    async with Pipe(llm) as pipe:
        await pipe.send(UserStartedSpeakingFrame(), asks(speculation=True))
        stream = await relay.stream()
        start = await stream.start()
        assert start.speculative
        assert not start.hold_until_commit
        await pipe.send(UserStoppedSpeakingFrame())
        await stream.until(lambda: stream.commits)
        stream.say(start.generation_id, " two", 3)
        stream.end(start.generation_id)
        await pipe.answered()
    assert pipe.answers == ["One two"]
    assert stream.commits == [start.generation_id]
    assert not stream.cancels


async def test_confirmed_when_it_is_over(llm: RelayLLMService, relay: FakeRelay) -> None:
    relay.on_start = answers("One")
    ended = asyncio.Event()

    @llm.event_handler("on_answer_end")  # type: ignore[untyped-decorator]
    async def _(_llm: object, _end: object) -> None:
        ended.set()

    async with Pipe(llm) as pipe:
        await pipe.send(UserStartedSpeakingFrame(), asks(speculation=True))
        await asyncio.wait_for(ended.wait(), 5)
        assert not pipe.answers  # held
        await pipe.send(UserStoppedSpeakingFrame())
        await pipe.answered()
    assert pipe.answers == ["One"]
    assert not (await relay.stream()).commits


async def test_the_turn_ended_before_the_context_came(
    llm: RelayLLMService, relay: FakeRelay
) -> None:
    relay.on_start = answers("One")
    async with Pipe(llm) as pipe:
        await pipe.send(UserStartedSpeakingFrame(), UserStoppedSpeakingFrame())
        await pipe.until(lambda: pipe.all(UserStoppedSpeakingFrame))
        await pipe.send(asks(speculation=True))
        await pipe.answered()
    assert not (await relay.stream()).starts[0].speculative


async def test_withdrawn(llm: RelayLLMService, relay: FakeRelay) -> None:
    relay.on_start = begins("One")
    async with Pipe(llm) as pipe:
        await pipe.send(UserStartedSpeakingFrame(), asks(speculation=True))
        stream = await relay.stream()
        start = await stream.start()
        await pipe.send(EagerEndOfTurnCancelFrame())
        await stream.until(lambda: stream.cancels)
        relay.on_start = answers("Two")
        await pipe.send(UserStoppedSpeakingFrame(), asks("Hello again"))
        await pipe.answered()
        await pipe.until(lambda: pipe.usages)
    assert pipe.answers == ["Two"]
    assert (stream.cancels[0].generation_id, stream.cancels[0].reason) == (
        start.generation_id,
        DISCARDED,
    )
    second = stream.starts[1]
    assert not second.speculative
    assert second.turn_id == start.turn_id
    assert pipe.usages[0].completion_tokens == 3


async def test_a_withdrawal_spares_an_answer_that_is_no_speculation(
    llm: RelayLLMService, relay: FakeRelay
) -> None:
    relay.on_start = begins("One")
    async with Pipe(llm) as pipe:
        await pipe.send(asks())
        await pipe.until(lambda: pipe.text)
        await pipe.send(EagerEndOfTurnCancelFrame())
        await pipe.until(lambda: pipe.all(EagerEndOfTurnCancelFrame))
        stream = await relay.stream()
        assert not stream.cancels
        stream.end(stream.starts[0].generation_id)
        await pipe.answered()
    assert pipe.answers == ["One"]


async def test_interrupted(llm: RelayLLMService, relay: FakeRelay) -> None:
    async with Pipe(llm) as pipe:
        await pipe.send(UserStartedSpeakingFrame(), asks(speculation=True))
        stream = await relay.stream()
        await stream.start()
        await pipe.send(InterruptionFrame())
        await stream.until(lambda: stream.cancels)
    assert stream.cancels[0].reason == CancelReason.CANCEL_REASON_BARGE_IN
    assert not pipe.text


async def test_superseded_by_a_better_guess(llm: RelayLLMService, relay: FakeRelay) -> None:
    """The first answer may be waiting for its confirmation at the relay: the second must not wait
    for the first, and a confirmation is for the second alone."""
    relay.on_start = begins("One")
    async with Pipe(llm) as pipe:
        await pipe.send(UserStartedSpeakingFrame(), asks("Book", speculation=True))
        stream = await relay.stream()
        first = await stream.start()
        relay.on_start = answers("Two")
        await pipe.send(asks("Book a table", speculation=True))
        second = await stream.start(1)
        await pipe.send(UserStoppedSpeakingFrame())
        await pipe.answered()
    assert pipe.answers == ["Two"]
    assert [(each.generation_id, each.reason) for each in stream.cancels] == [
        (first.generation_id, SUPERSEDED)
    ]
    assert second.speculative
    assert first.turn_id == second.turn_id
    assert first.generation_id not in stream.commits


async def test_superseded_and_confirmed_at_once(llm: RelayLLMService, relay: FakeRelay) -> None:
    relay.on_start = begins("One")
    async with Pipe(llm) as pipe:
        await pipe.send(UserStartedSpeakingFrame(), asks("Book", speculation=True))
        stream = await relay.stream()
        await stream.start()
        relay.on_start = answers("Two")
        # The confirmation overtakes the context: system frames do.
        await pipe.send(asks("Book a table", speculation=True), UserStoppedSpeakingFrame())
        await pipe.answered()
    assert pipe.answers == ["Two"]


async def test_the_pipeline_ends_while_an_answer_waits_for_its_confirmation(
    llm: RelayLLMService, relay: FakeRelay
) -> None:
    async with Pipe(llm) as pipe:
        await pipe.send(UserStartedSpeakingFrame(), asks(speculation=True))
        await (await relay.stream()).start()
    assert not pipe.text
    assert not pipe.all(LLMFullResponseEndFrame)


async def test_a_tool_of_a_confirmed_guess_runs(llm: RelayLLMService, relay: FakeRelay) -> None:
    """The relay keeps the call back until then, so that it is neither run nor asked for twice."""

    async def script(stream: FakeStream, start: Start) -> None:
        await hangs(stream, start)
        name = start.generation_id
        await stream.until(lambda: name in stream.commits)
        call = ToolCall(call_id="c1", name="book", arguments="{}")
        stream.send(tool_call=ToolCallDone(generation_id=name, call=call))
        stream.end(name)

    relay.on_start = script
    ran: list[str] = []

    async def book(params: FunctionCallParams) -> None:
        ran.append(params.tool_call_id)
        await params.result_callback("booked")

    llm.register_function("book", book)
    async with Pipe(llm) as pipe:
        await pipe.send(UserStartedSpeakingFrame(), asks(speculation=True))
        await (await relay.stream()).start()
        assert not ran
        await pipe.send(UserStoppedSpeakingFrame())
        await pipe.until(lambda: pipe.all(FunctionCallResultFrame))
    assert ran == ["c1"]
    assert not pipe.all(EagerEndOfTurnCancelFrame)


async def test_turns_without_speech_go_by_the_questions(
    llm: RelayLLMService, relay: FakeRelay
) -> None:
    relay.on_start = answers("x")
    async with Pipe(llm) as pipe:
        await pipe.send(asks("One"), asks("Two"))
        await pipe.answered(2)
    first, second = (start.turn_id for start in (await relay.stream()).starts)
    assert first
    assert first != second


async def test_superseded_before_it_began(
    llm: RelayLLMService, relay: FakeRelay, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A context whose files are still being fetched holds up neither the next nor the end of the
    turn."""
    relay.on_start = answers("Two")
    adapter = llm.get_llm_adapter()
    prepare, fetched, asked = adapter.prepare_file_content, asyncio.Event(), asyncio.Event()

    async def slow(context: LLMContext) -> None:
        if context is first.context:
            asked.set()
            await fetched.wait()
        await prepare(context)

    monkeypatch.setattr(adapter, "prepare_file_content", slow)
    first = asks("Book", speculation=True)
    second, third = (asks(text, speculation=True) for text in ("Book a", "Book a table"))
    async with Pipe(llm) as pipe:
        await pipe.send(UserStartedSpeakingFrame(), first)
        await asyncio.wait_for(asked.wait(), 5)
        await pipe.send(second, third, UserStoppedSpeakingFrame())
        await pipe.until(lambda: pipe.all(UserStoppedSpeakingFrame))
        fetched.set()
        await pipe.answered()
    assert pipe.text == "Two"
    (start,) = (await relay.stream()).starts
    assert b"Book a table" in start.openai_chat_body
