"""What the plugin sends for what LiveKit asks, by a transport that only writes it down."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from livekit.agents import llm
from livekit.agents.types import APIConnectOptions
from rtrelay import livekit as relay_livekit
from rtrelay.events import Event, Extra, RefusalDelta, Retract, TextDelta, ToolCall
from rtrelay.v1 import (
    CacheMode,
    CancelReason,
    CommitOn,
    End,
    HedgeMode,
    Outcome,
    OutputOptions,
    PromptCache,
)
from rtrelay.v1 import ToolCall as ToolCallMessage

from tests.frameworks.livekit_kit import ask, get_weather, hear


class Recorder:
    """Answers with the same events each time, and keeps what it was asked."""

    def __init__(self, *events: Event) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.arguments: list[dict[str, Any]] = []
        self._events = events

    def start(
        self,
        body: Mapping[str, Any],
        arguments: Mapping[str, Any],
        on_event: Callable[[Event], object],
    ) -> _Answered:
        self.bodies.append(dict(body))
        self.arguments.append(dict(arguments))
        for event in self._events:
            on_event(event)
        return _Answered()

    async def open(self) -> None:
        """It is."""

    async def aclose(self) -> None:
        """Nothing is open."""


class _Answered:
    error: Exception | None = None

    def cancel(self, reason: CancelReason.ValueType = ...) -> None:
        """It is over."""

    def commit(self) -> None:
        """It is over."""

    async def ended(self) -> End:
        return End(outcome=Outcome.OUTCOME_COMPLETED, request_id="r1")


async def test_a_conversation_with_tools() -> None:
    recorder = Recorder()
    model = relay_livekit.LLM(
        model="fast", temperature=0.2, extra_body={"seed": 7}, _transport=recorder
    )
    context = llm.ChatContext.empty()
    context.add_message(role="system", content="Be brief.")
    context.add_message(role="user", content="The weather?")
    context.items += [
        llm.FunctionCall(
            id="m/fnc_0",
            call_id="c1",
            name="get_weather",
            arguments='{"city": "Paris", "days": 1}',
            extra={"google": {"thought_signature": "dGhv"}},
        ),
        llm.FunctionCallOutput(call_id="c1", name="get_weather", output="Sunny", is_error=False),
    ]
    await hear(
        model.chat(
            chat_ctx=context,
            tools=[get_weather],
            tool_choice={"type": "function", "function": {"name": "get_weather"}},
            parallel_tool_calls=False,
            extra_kwargs={"seed": 8, "extra_headers": {"x": "y"}, "metadata": {"a": "b"}},
        )
    )
    (body,) = recorder.bodies
    (tool,) = body.pop("tools")
    assert tool["function"]["name"] == "get_weather"
    assert tool["function"]["strict"] is True
    assert set(tool["function"]["parameters"]["properties"]) == {"city", "days"}
    call = {
        "id": "c1",
        "type": "function",
        "function": {"name": "get_weather", "arguments": '{"city": "Paris", "days": 1}'},
        "extra_content": {"google": {"thought_signature": "dGhv"}},
    }
    assert body == {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "The weather?"},
            {"role": "assistant", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c1", "content": "Sunny"},
        ],
        "temperature": 0.2,
        "seed": 8,
        "metadata": {"a": "b"},
        "parallel_tool_calls": False,
        "tool_choice": {"type": "function", "function": {"name": "get_weather"}},
    }
    (arguments,) = recorder.arguments
    assert arguments == {"model": "", "output": OutputOptions(extras=True), "traceparent": ""}


async def test_tool_arguments_stay_away_without_tools() -> None:
    recorder = Recorder()
    model = relay_livekit.LLM(model="fast", _transport=recorder)
    await hear(model.chat(chat_ctx=ask(), tool_choice="required", parallel_tool_calls=True))
    assert set(recorder.bodies[0]) == {"messages"}


async def test_options_of_the_llm_of_the_request_and_of_http() -> None:
    recorder = Recorder()
    model = relay_livekit.LLM(
        model="fast",
        relay={
            "tags": ["eu"],
            "hedge": "off",
            "total_ms": 9_000,
            "prompt_cache": "auto",
            "cache": "only",
        },
        _transport=recorder,
    )
    over_http = {"relay": {"model": "other", "hedge": 250, "timeline": True}, "top_p": 0.5}
    await hear(
        model.chat(
            chat_ctx=ask(),
            conn_options=APIConnectOptions(timeout=2.5),
            extra_kwargs={
                "extra_body": over_http,
                "commit_on": "first_segment",
                "first_token_ms": 3_000,
                "speculative": True,
                "hold_until_commit": True,
                "labels": {"call": "7"},
            },
        )
    )
    await hear(model.chat(chat_ctx=ask()))
    first, second = recorder.arguments
    assert recorder.bodies[0]["top_p"] == 0.5
    assert (first["model"], first["tags"], first["labels"]) == ("other", ["eu"], {"call": "7"})
    assert first["hedge"].delay_ms == 250
    assert first["output"].commit_on == CommitOn.COMMIT_ON_FIRST_SEGMENT
    assert first["budgets"].first_token_ms == 2_500  # LiveKit's is the smaller one
    assert first["budgets"].total_ms == 9_000
    assert (first["speculative"], first["hold_until_commit"]) == (True, True)
    assert first["prompt_cache"] == PromptCache.PROMPT_CACHE_AUTO
    assert first["cache"] == CacheMode.CACHE_MODE_ONLY
    assert (second["model"], second["hedge"].mode) == ("", HedgeMode.HEDGE_MODE_OFF)
    assert not second["budgets"].HasField("first_token_ms")
    assert "speculative" not in second


async def test_what_comes_is_passed_on() -> None:
    whole = ToolCallMessage(call_id="c1", name="get_weather", arguments="{}")
    model = relay_livekit.LLM(
        model="fast",
        _transport=Recorder(
            TextDelta("One <think>two", 0),
            TextDelta("</think> three", 14),
            TextDelta("nobody asked", 0, choice=1),
            RefusalDelta(" four"),
            Extra("reasoning_details", b'[{"signature": "c2ln"}]'),
            ToolCall(whole, 0, is_partial=False),
        ),
    )
    heard = await hear(model.chat(chat_ctx=ask()))
    assert heard.text == "One  three four"
    (call,) = heard.calls
    assert (call.call_id, call.name, call.arguments) == ("c1", "get_weather", "{}")
    assert call.extra is not None
    assert heard.usage is None


async def test_text_that_is_withdrawn_is_told() -> None:
    withdrawn = Retract(3, "a guardrail withdraws text that was sent")
    model = relay_livekit.LLM(
        model="fast",
        _transport=Recorder(TextDelta("One two", 0), withdrawn, Retract(0, "", choice=1)),
    )
    told: list[Retract] = []
    model.on("text_retracted", told.append)
    heard = await hear(model.chat(chat_ctx=ask()))
    assert (heard.text, heard.error) == ("One two", None)
    assert told == [withdrawn]


async def test_a_call_that_was_cut_off_is_an_error() -> None:
    cut = ToolCallMessage(call_id="c1", name="get_weather", arguments='{"ci')
    model = relay_livekit.LLM(model="fast", _transport=Recorder(ToolCall(cut, 0, is_partial=True)))
    heard = await hear(model.chat(chat_ctx=ask(), tools=[get_weather]))
    assert heard.calls == []
    assert heard.error is not None
    assert "get_weather" in heard.error.message


async def test_wrong_options_are_refused_by_name() -> None:
    model = relay_livekit.LLM(model="fast", _transport=Recorder())
    given: dict[str, Any]
    for given, named in (
        ({"extra_body": {"relay": {"turnid": "t"}}}, r"extra_body\.relay\.turnid.*turn_id"),
        ({"hedge": "maybe"}, r"extra_kwargs\.hedge"),
        ({"first_token_ms": 0}, r"extra_kwargs\.first_token_ms"),
        ({"tags": "eu"}, r"extra_kwargs\.tags"),
        ({"labels": ["a"]}, r"extra_kwargs\.labels"),
        ({"route": 1}, r"extra_kwargs\.route"),
        ({"commit_on": "end"}, r"extra_kwargs\.commit_on must be first_content or first_segment"),
    ):
        with pytest.raises(ValueError, match=named):
            model.chat(chat_ctx=ask(), extra_kwargs=given)
    with pytest.raises(ValueError, match=r"relay\.speculative"):
        relay_livekit.LLM(model="m", relay={"speculative": 1})  # type: ignore[arg-type]
