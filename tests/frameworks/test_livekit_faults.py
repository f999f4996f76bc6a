"""The table of faults, through LiveKit's own streams: by the plugin, and by LiveKit's plugin for
OpenAI at the relay's HTTP surface."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest
from livekit.agents import APIConnectionError, APIStatusError, APITimeoutError, llm
from livekit.plugins import openai
from rtrelay import livekit as relay_livekit

from tests.frameworks.faults import (
    FAULTS,
    FIRST_TEXT,
    SECOND_TEXT,
    SLACK_MS,
    Fault,
    Outcome,
    alias,
    second_model,
)
from tests.frameworks.livekit_kit import ONCE, Heard, ask, get_weather, hear
from tests.frameworks.world import World

pytestmark = pytest.mark.usefixtures("idle_after")

every_fault = pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
both_ways = pytest.mark.parametrize("alone", [False, True], ids=["second", "alone"])


@pytest.fixture
async def native(world: World) -> AsyncIterator[relay_livekit.LLM]:
    """A warm LLM of the plugin."""
    async with relay_livekit.LLM(world.address, model="-") as model:
        await model._prewarm_impl()
        yield model


@pytest.fixture
async def over_http(world: World) -> AsyncIterator[openai.LLM]:
    """A warm LLM of LiveKit's plugin for OpenAI."""
    async with aclosing(openai.LLM(model="-", base_url=world.base_url, api_key="none")) as model:
        await model._prewarm_impl()
        yield model


@every_fault
@both_ways
async def test_native(world: World, native: relay_livekit.LLM, fault: Fault, alone: bool) -> None:
    name = alias(fault, "livekit-native", alone=alone)
    stream = native.chat(chat_ctx=ask(), tools=_tools(fault), extra_kwargs={"route": name})
    heard = await hear(stream)
    _check(fault, heard, alone=alone, outcome=fault.alone if alone else fault.outcome)
    _check_upstream(world, fault, name, alone=alone)
    if heard.error is not None:
        assert not heard.error.retryable
        _check_status(fault, heard)


@pytest.mark.parametrize(
    "fault", [each for each in FAULTS if each.by_segment], ids=lambda fault: fault.name
)
async def test_native_bound_to_the_first_segment(
    world: World, native: relay_livekit.LLM, fault: Fault
) -> None:
    relay: relay_livekit.RelayOptions = {
        "route": (name := alias(fault, "livekit-segment")),
        "commit_on": "first_segment",
    }
    heard = await hear(native.chat(chat_ctx=ask(), extra_kwargs=dict(relay)))
    assert fault.by_segment is not None
    _check(fault, heard, alone=False, outcome=fault.by_segment)
    _check_upstream(world, fault, name, alone=False)


@every_fault
@both_ways
async def test_openai(world: World, over_http: openai.LLM, fault: Fault, alone: bool) -> None:
    name = alias(fault, "livekit-openai", alone=alone)
    stream = over_http.chat(
        chat_ctx=ask(),
        tools=_tools(fault),
        conn_options=ONCE,
        extra_kwargs={"extra_body": {"relay": {"route": name}}},
    )
    heard = await hear(stream)
    _check(fault, heard, alone=alone, outcome=fault.alone if alone else fault.outcome)
    _check_upstream(world, fault, name, alone=alone)
    if heard.error is not None and not heard.text:
        assert isinstance(heard.error, APIStatusError)
        assert heard.error.status_code == fault.http_status


def _tools(fault: Fault) -> list[llm.Tool]:
    return [get_weather] if fault.tools else []


def _check(fault: Fault, heard: Heard, *, alone: bool, outcome: Outcome) -> None:
    """What the client sees, when, and that nothing is said twice or mixed."""
    budget_ms = (fault.alone_ms if alone else fault.with_second_ms) + SLACK_MS
    assert heard.end_ms <= budget_ms, f"{heard.end_ms:.0f} ms of {budget_ms} ms"
    match outcome:
        case Outcome.FIRST:
            assert (heard.text, heard.error) == (FIRST_TEXT, None)
        case Outcome.SECOND:
            assert (heard.text, heard.error) == (SECOND_TEXT, None)
            assert heard.usage is not None
            assert heard.usage.completion_tokens > 0
        case Outcome.TOOLS:
            assert (heard.text, heard.error) == ("", None)
            assert len({call.call_id for call in heard.calls}) == len(heard.calls) == fault.tools
            for call in heard.calls:
                assert call.call_id
                assert call.name == "get_weather"
                assert set(json.loads(call.arguments)) == {"city", "days"}
        case Outcome.CUT:
            assert heard.error is not None
            assert heard.text
            assert fault.heard.startswith(heard.text)
        case Outcome.ERROR:
            assert heard.error is not None
            assert heard.text == ""
    if outcome is not Outcome.TOOLS:
        assert heard.calls == []


def _check_upstream(world: World, fault: Fault, name: str, *, alone: bool) -> None:
    """The fault was really met, once."""
    if fault.provider == "lab":
        (first,) = world.streams(name)
        assert f"fault={first['fault']}" in fault.behaviour or not first["fault"]
        assert ("fault=" in fault.behaviour) == bool(first["fault"])
    used_second = len(world.streams(second_model(name)))
    assert used_second <= (0 if alone else 1)


def _check_status(fault: Fault, heard: Heard) -> None:
    if fault.http_status in (0, 504):
        assert isinstance(heard.error, APITimeoutError | APIStatusError | APIConnectionError)
        assert fault.http_status == 0 or isinstance(heard.error, APITimeoutError)
    else:
        assert isinstance(heard.error, APIStatusError)
        assert heard.error.status_code == fault.http_status
        assert heard.error.request_id
