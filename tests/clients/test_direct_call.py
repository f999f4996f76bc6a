"""One generation that a provider is asked for directly, on a virtual clock: what is withheld, time
limits, the one end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import grpc
import pytest
import rtrelay
from rtrelay._direct_call import DirectCall
from rtrelay._flow import Flow
from rtrelay.events import Event
from rtrelay.v1 import (
    AttemptOutcome,
    Budgets,
    CacheMode,
    CancelReason,
    ChoiceEnd,
    CommitOn,
    End,
    Outcome,
    OutputOptions,
    Start,
    TextMode,
)
from rtrelay.v1 import ToolCall as ToolCallMessage

from tests.fakes.direct_provider import FakeProvider, Script, end, says
from tests.fakes.virtual_time import now_s, on_virtual_time, since_start_s

TextDelta = rtrelay.TextDelta
TOOL = rtrelay.ToolCall(ToolCallMessage(call_id="c", name="f", arguments="{}"), 0, is_partial=False)
BARGE_IN = CancelReason.CANCEL_REASON_BARGE_IN


class Called:
    """A call that runs, its flow, and what was said when it was over."""

    def __init__(self, script: Script, start: Start | None = None, **callbacks: Any) -> None:
        self.provider = FakeProvider(script)
        self.flow = Flow(start or Start(model="fast", turn_id="t"), **callbacks)
        self.cuts: list[bool] = []
        asked_at_s = now_s()
        self.call = DirectCall(
            self.flow,
            self.flow.start,
            self.provider,
            asked_at_s,
            lambda _, was_cut: self.cuts.append(was_cut),
        )
        self.task = self.call.begin()

    async def events(self) -> list[Event]:
        found = []
        while (event := await self.flow.next_event()) is not None:
            found.append(event)
        return found

    async def ended(self) -> End:
        await asyncio.wait([self.task])
        assert self.flow.end is not None
        assert self.provider.open == 0
        return self.flow.end


@on_virtual_time
async def test_an_answer_and_its_end() -> None:
    called = Called(says("One ", "two", every_s=0.5))
    assert await called.events() == [TextDelta("One ", 0), TextDelta("two", 4)]
    told = await called.ended()
    assert called.cuts == [False]
    assert (told.outcome, told.provider, told.model) == (
        Outcome.OUTCOME_COMPLETED,
        "direct",
        "real-model",
    )
    assert (told.turn_id, told.response_id, told.usage.total_tokens) == ("t", "r1", 5)
    assert told.usage_final
    assert [(choice.raw_reason, choice.text_chars) for choice in told.choices] == [("stop", 7)]
    (attempt,) = told.attempts
    assert attempt.outcome == AttemptOutcome.ATTEMPT_OUTCOME_COMPLETED
    assert attempt.is_winner
    line = told.timeline
    assert (line.first_content_us, line.stream_us, line.wall_us) == (500_000, 500_000, 1_000_000)
    assert line.race_wait_us + line.first_content_us + line.stream_us == line.wall_us


@on_virtual_time
async def test_who_wants_a_kept_answer_alone_is_not_answered_by_a_provider() -> None:
    called = Called(says("One"), Start(model="fast", cache=CacheMode.CACHE_MODE_ONLY))
    with pytest.raises(rtrelay.RelayError, match="CACHE_MISS"):
        await called.events()
    assert (await called.ended()).outcome == Outcome.OUTCOME_FAILED
    assert called.provider.starts == []


@on_virtual_time
async def test_an_answer_without_a_last_word() -> None:
    async def script(start: Start) -> AsyncGenerator[Event | End, None]:
        yield TextDelta("a", 0)
        yield TextDelta("b", 0, choice=1)

    called = Called(script)
    told = await called.ended()
    assert told.outcome == Outcome.OUTCOME_COMPLETED
    assert not told.usage_final
    assert list(told.choices) == [
        ChoiceEnd(choice=0, text_chars=1),
        ChoiceEnd(choice=1, text_chars=1),
    ]


@on_virtual_time
async def test_a_cancel_ends_it_at_once_and_closes_the_answer() -> None:
    called = Called(says("One", hangs=True))
    assert await called.flow.next_event() == TextDelta("One", 0)
    called.flow.drop_unread()
    called.call.cancel(BARGE_IN)
    told = called.flow.end
    assert told is not None
    assert (told.outcome, told.cancel_reason) == (Outcome.OUTCOME_CANCELLED, BARGE_IN)
    called.call.cancel(BARGE_IN)
    await called.ended()
    assert called.cuts == [True]
    assert since_start_s() == 0


@on_virtual_time
async def test_a_cancel_before_its_turn() -> None:
    called = Called(says("One"))
    called.call.cancel(BARGE_IN)
    assert (await called.ended()).cancel_reason == BARGE_IN
    assert called.provider.starts == []
    assert called.cuts == [True]


@on_virtual_time
async def test_a_task_that_the_loop_cancels_tells_an_end() -> None:
    called = Called(says("One", hangs=True))
    await called.flow.next_event()
    called.task.cancel()
    assert (await called.ended()).outcome == Outcome.OUTCOME_CANCELLED


# --- what is withheld -------------------------------------------------------------------------


async def speaks_and_calls(start: Start) -> AsyncGenerator[Event | End, None]:
    yield TextDelta("One", 0)
    yield TOOL
    yield TextDelta("two", 3)
    yield end()


@on_virtual_time
async def test_a_speculation_withholds_calls_and_what_comes_after() -> None:
    called = Called(speaks_and_calls, Start(speculative=True))
    assert await called.flow.next_event() == TextDelta("One", 0)
    rest = asyncio.create_task(called.events())
    await asyncio.sleep(30)
    assert not rest.done()
    assert not called.flow.over.is_set(), "its end waits too"
    called.call.commit()
    assert await rest == [TOOL, TextDelta("two", 3)]
    assert (await called.ended()).outcome == Outcome.OUTCOME_COMPLETED


@on_virtual_time
async def test_a_speculation_that_withholds_nothing_ends_by_itself() -> None:
    called = Called(says("One"), Start(speculative=True))
    assert await called.events() == [TextDelta("One", 0)]


@on_virtual_time
async def test_a_held_one_says_nothing_until_its_commit() -> None:
    called = Called(says("One", "two"), Start(speculative=True, hold_until_commit=True))
    reader = asyncio.create_task(called.events())
    await asyncio.sleep(59)
    assert not called.flow.has_output
    assert not called.flow.over.is_set()
    called.call.commit()
    assert await reader == [TextDelta("One", 0), TextDelta("two", 3)]


@on_virtual_time
async def test_a_commit_in_the_middle_lets_go_and_goes_on() -> None:
    start = Start(speculative=True, hold_until_commit=True)
    called = Called(says("One", "two", every_s=1.0), start)
    await asyncio.sleep(1.5)
    called.call.commit()
    assert await called.flow.next_event() == TextDelta("One", 0)
    assert since_start_s() == 1.5
    assert await called.flow.next_event() == TextDelta("two", 3)
    assert since_start_s() == 2.0


@on_virtual_time
async def test_what_nobody_commits_to_ends_after_a_minute() -> None:
    called = Called(says("One"), Start(speculative=True, hold_until_commit=True))
    with pytest.raises(rtrelay.RelayError, match="DEADLINE_EXCEEDED"):
        await called.events()
    assert since_start_s() == 60.0
    assert not called.flow.has_output


@on_virtual_time
async def test_a_failure_of_a_held_one_is_told_without_waiting() -> None:
    async def script(start: Start) -> AsyncGenerator[Event | End, None]:
        yield TextDelta("One", 0)
        raise rtrelay.RelayError("UPSTREAM_RESET", grpc.StatusCode.UNAVAILABLE, "gone")

    called = Called(script, Start(speculative=True, hold_until_commit=True))
    with pytest.raises(rtrelay.RelayError, match="UPSTREAM_RESET"):
        await called.events()
    assert since_start_s() == 0


# --- time limits ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("budgets", "script", "reason", "at_s"),
    [
        ({"first_token_ms": 800}, says("One", every_s=1.0), "FIRST_TOKEN_TIMEOUT", 0.8),
        ({"inter_token_ms": 300}, says("One", hangs=True), "STREAM_STALLED", 0.3),
        ({"total_ms": 1500}, says("One", "two", every_s=1.0), "DEADLINE_EXCEEDED", 1.5),
        (
            {"total_ms": 500, "first_token_ms": 800},
            says("One", every_s=1.0),
            "DEADLINE_EXCEEDED",
            0.5,
        ),
        (
            {"first_token_ms": 1200, "inter_token_ms": 900, "total_ms": 9000},
            says("One", "two", every_s=1.0),
            "STREAM_STALLED",
            1.9,
        ),
    ],
)
def test_time_limits(budgets: dict[str, int], script: Script, reason: str, at_s: float) -> None:
    @on_virtual_time
    async def runs() -> None:
        called = Called(script, Start(budgets=Budgets(**budgets)))
        with pytest.raises(rtrelay.RelayError) as caught:
            await called.events()
        assert (caught.value.reason, since_start_s()) == (reason, at_s)
        assert caught.value.code == grpc.StatusCode.DEADLINE_EXCEEDED
        told = await called.ended()
        assert told.outcome == Outcome.OUTCOME_FAILED
        assert caught.value.end is told

    runs()


@on_virtual_time
async def test_reasoning_that_is_not_wanted_is_no_first_token() -> None:
    async def script(start: Start) -> AsyncGenerator[Event | End, None]:
        yield rtrelay.ReasoningDelta("hm")
        await asyncio.sleep(1)
        yield TextDelta("One", 0)

    budgets = Budgets(first_token_ms=500)
    with pytest.raises(rtrelay.RelayError, match="FIRST_TOKEN_TIMEOUT"):
        await Called(script, Start(budgets=budgets)).events()
    wanted = Start(budgets=budgets, output=OutputOptions(reasoning=True))
    assert len(await Called(script, wanted).events()) == 2


@on_virtual_time
async def test_limits_that_are_kept() -> None:
    budgets = Budgets(first_token_ms=600, inter_token_ms=600, total_ms=2000)
    called = Called(says("One", "two", every_s=0.5), Start(budgets=budgets))
    assert len(await called.events()) == 2


@on_virtual_time
async def test_a_first_segment_has_a_limit_too() -> None:
    budgets = Budgets(first_segment_ms=800)
    called = Called(says("One", " two", " three. ", every_s=0.5), Start(budgets=budgets))
    with pytest.raises(rtrelay.RelayError, match="FIRST_SEGMENT_TIMEOUT"):
        await called.events()
    assert since_start_s() == 0.8
    kept = Called(says("One. ", "Two", every_s=0.5), Start(budgets=budgets))
    assert len(await kept.events()) == 2


async def looks_it_up(start: Start) -> AsyncGenerator[Event | End, None]:
    yield TextDelta("Let me look.", 0)
    await asyncio.sleep(0.1)
    yield rtrelay.ToolArgumentsDelta(index=0, fragment="{", call_id="c", name="f")
    await asyncio.sleep(1.0)
    yield TOOL


@on_virtual_time
async def test_what_is_said_before_a_tool_call_is_heard_before_it() -> None:
    output = OutputOptions(
        text_mode=TextMode.TEXT_MODE_SEGMENTS, commit_on=CommitOn.COMMIT_ON_FIRST_SEGMENT
    )
    budgets = Budgets(first_segment_ms=500)
    called = Called(looks_it_up, Start(model="fast", output=output, budgets=budgets))
    said = await called.flow.next_event()
    assert isinstance(said, rtrelay.Segment)
    assert (said.text, said.is_last, since_start_s()) == ("Let me look.", False, 0.1)
    assert [type(event).__name__ for event in await called.events()] == ["ToolCall", "Segment"]


@on_virtual_time
async def test_a_tool_call_is_as_good_as_a_sentence() -> None:
    async def script(start: Start) -> AsyncGenerator[Event | End, None]:
        yield TOOL
        await asyncio.sleep(1.0)

    called = Called(script, Start(model="fast", budgets=Budgets(first_segment_ms=500)))
    assert await called.events() == [TOOL]


@on_virtual_time
async def test_output_waits_for_the_first_segment_where_that_is_wanted() -> None:
    output = OutputOptions(commit_on=CommitOn.COMMIT_ON_FIRST_SEGMENT)
    called = Called(says("One", " two", ". Th", "ree", every_s=0.5), Start(output=output))
    assert await called.flow.next_event() == TextDelta("One", 0)
    assert since_start_s() == 1.5
    assert len(await called.events()) == 3
    short = Called(says("One", every_s=0.5), Start(output=output))
    assert await short.events() == [TextDelta("One", 0)]

    async def breaks(start: Start) -> AsyncGenerator[Event | End, None]:
        yield TextDelta("One", 0)
        raise ValueError("gone")

    broken = Called(breaks, Start(output=output))
    with pytest.raises(rtrelay.RelayError):
        await broken.flow.next_event()
    assert not broken.flow.has_output


# --- kinds of output ----------------------------------------------------------------------------


async def everything(start: Start) -> AsyncGenerator[Event | End, None]:
    yield rtrelay.ReasoningDelta("hm")
    yield TextDelta("One. ", 0)
    yield rtrelay.ToolArgumentsDelta(0, "{}", "c", "f")
    yield TextDelta("Two", 5)
    yield TOOL
    yield rtrelay.Extra("logprobs", b"1")


@pytest.mark.parametrize(
    ("output", "kinds"),
    [
        ({}, "TextDelta TextDelta ToolCall"),
        ({"reasoning": True}, "ReasoningDelta TextDelta TextDelta ToolCall"),
        ({"tool_arguments": True}, "TextDelta ToolArgumentsDelta TextDelta ToolCall"),
        ({"extras": True}, "TextDelta TextDelta ToolCall Extra"),
        ({"text_mode": TextMode.TEXT_MODE_SEGMENTS}, "Segment Segment ToolCall Segment"),
        (
            {"text_mode": TextMode.TEXT_MODE_DELTAS_AND_SEGMENTS},
            "TextDelta Segment TextDelta Segment ToolCall Segment",
        ),
    ],
    ids=str,
)
def test_only_what_is_wanted_comes(output: dict[str, Any], kinds: str) -> None:
    @on_virtual_time
    async def runs() -> None:
        called = Called(everything, Start(output=OutputOptions(**output)))
        events = await called.events()
        assert " ".join(type(event).__name__ for event in events) == kinds
        segments = [event for event in events if isinstance(event, rtrelay.Segment)]
        if segments:
            assert segments == [
                rtrelay.Segment("One. ", 0, 0, is_last=False),
                rtrelay.Segment("Two", 5, 1, is_last=False),
                rtrelay.Segment("", 8, 2, is_last=True),
            ]

    runs()


# --- what goes wrong ----------------------------------------------------------------------------


@on_virtual_time
async def test_errors_are_raised_as_they_are() -> None:
    given = rtrelay.RelayError(
        "UPSTREAM_RATE_LIMITED",
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "slow down",
        retry_after_s=1.5,
        details={"provider": "direct"},
    )

    async def script(start: Start) -> AsyncGenerator[Event | End, None]:
        yield TextDelta("One", 0)
        raise given

    called = Called(script)
    assert await called.flow.next_event() == TextDelta("One", 0)
    with pytest.raises(rtrelay.RelayError) as caught:
        await called.flow.next_event()
    error = caught.value
    assert (error.reason, error.code, error.message) == (given.reason, given.code, given.message)
    assert (error.retry_after_s, error.details) == (1.5, {"provider": "direct"})
    told = await called.ended()
    assert told.choices[0].text_chars == 3


@pytest.mark.parametrize("raised", [ValueError("mine"), TimeoutError("mine"), KeyError("mine")])
def test_other_errors_become_ours(raised: Exception) -> None:
    @on_virtual_time
    async def runs() -> None:
        async def script(start: Start) -> AsyncGenerator[Event | End, None]:
            if start.budgets.total_ms:
                raise raised
            yield end()

        with pytest.raises(rtrelay.RelayError, match=f"{type(raised).__name__}: .*mine") as caught:
            await Called(script, Start(budgets=Budgets(total_ms=1000))).events()
        assert caught.value.reason == "UPSTREAM_FAILED"
        assert caught.value.__cause__ is raised

    runs()


@on_virtual_time
async def test_a_callback_that_raises_stops_it() -> None:
    told: list[str] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: told.append(context["message"]))

    def raises(event: Event) -> None:
        raise ValueError(event)

    called = Called(says("One", "two", hangs=True), on_event=raises)
    assert (await called.ended()).outcome == Outcome.OUTCOME_CANCELLED
    assert told == ["rtrelay: the on_event of a generation raised"]


@on_virtual_time
async def test_who_does_not_read_is_no_reason_to_hold_everything() -> None:
    async def script(start: Start) -> AsyncGenerator[Event | End, None]:
        for index in range(3000):
            yield rtrelay.ToolCall(TOOL.call, index, is_partial=False)

    called = Called(script)
    with pytest.raises(rtrelay.RelayError, match="SLOW_CONSUMER"):
        await called.events()
    await called.ended()
