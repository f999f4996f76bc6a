"""Every fault of the table through a real pipeline: by the native service, and by Pipecat's own for
OpenAI with its address set to the relay."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import rtrelay
from pipecat.adapters.llm.schemas.function_schema import FunctionSchema
from pipecat.adapters.llm.schemas.tools_schema import ToolsSchema
from pipecat.frames.frames import FunctionCallResultFrame, InterruptionFrame, LLMTextFrame
from pipecat.services.llm_service import FunctionCallParams, LLMService
from pipecat.services.openai.llm import OpenAILLMService
from rtrelay.pipecat import RelayLLMService, RelayLLMSettings

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
from tests.frameworks.pipecat_pipe import Pipe, asks
from tests.frameworks.world import World

pytestmark = [pytest.mark.sockets, pytest.mark.usefixtures("idle_after")]

every_fault = pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
with_or_without = pytest.mark.parametrize("alone", [False, True], ids=["second", "alone"])

TOOLS = ToolsSchema([FunctionSchema("weather", "Weather", {"city": {"type": "string"}}, [])])


def native(world: World, model: str, **settings: Any) -> RelayLLMService:
    return RelayLLMService(world.address, settings=RelayLLMSettings(**{"model": model, **settings}))


class Compatible(OpenAILLMService):
    """Pipecat's own as it is, but for one thing: it never closes its HTTP client."""

    async def cleanup(self) -> None:
        await super().cleanup()  # type: ignore[no-untyped-call]
        await self._client.close()


def compatible(world: World, model: str) -> OpenAILLMService:
    return Compatible(
        api_key="any", base_url=world.base_url, settings=OpenAILLMService.Settings(model=model)
    )


class Tools:
    """Runs every call, and remembers it."""

    def __init__(self, llm: LLMService[Any]) -> None:
        self.ran: list[tuple[str, str, dict[str, Any]]] = []
        llm.register_function(None, self._run)

    async def _run(self, params: FunctionCallParams) -> None:
        self.ran.append((params.tool_call_id, params.function_name, dict(params.arguments)))
        await params.result_callback("clear")


@contextmanager
def within(limit_ms: float) -> Iterator[None]:
    """
    Raises:
        AssertionError: the block took longer, and what the machine may add.
    """
    began_s = time.monotonic()
    yield
    took_ms = (time.monotonic() - began_s) * 1000
    assert took_ms <= limit_ms + SLACK_MS, f"{took_ms:.0f} ms instead of {limit_ms} ms"


async def plays(llm: LLMService[Any], fault: Fault, outcome: Outcome, limit_ms: int) -> Pipe:
    """One turn, held to what the table says of text, tools, errors and time."""
    tools = Tools(llm)
    async with Pipe(llm) as pipe:
        with within(limit_ms):
            await pipe.send(asks("Hello", tools=TOOLS) if fault.tools else asks("Hello"))
            await pipe.answered()
        await pipe.until(lambda: len(pipe.all(FunctionCallResultFrame)) == fault.tools)
    (text,) = pipe.answers
    match outcome:
        case Outcome.FIRST:
            assert text == FIRST_TEXT
        case Outcome.SECOND:
            assert text == SECOND_TEXT
        case Outcome.CUT:
            assert text
            assert fault.heard.startswith(text)
        case Outcome.TOOLS | Outcome.ERROR:
            assert text == ""
    is_error = outcome in (Outcome.CUT, Outcome.ERROR)
    assert len(pipe.errors) == is_error, pipe.errors
    assert len({call_id for call_id, _, _ in tools.ran if call_id}) == fault.tools
    assert all(name == "weather" for _, name, _ in tools.ran), tools.ran
    return pipe


async def nothing_runs(world: World, model: str) -> None:
    """Neither of an alias' providers still writes, or was asked more than once."""
    names = (model, second_model(model))

    def is_over() -> bool:
        return all(each["outcome"] != "open" for name in names for each in world.streams(name))

    await world.eventually(is_over)
    assert [name for name in names if len(world.streams(name)) > 1] == []


@every_fault
@with_or_without
async def test_native(world: World, fault: Fault, alone: bool) -> None:
    outcome = fault.alone if alone else fault.outcome
    model = alias(fault, "pipecat-native", alone=alone)
    llm = native(world, model)
    pipe = await plays(llm, fault, outcome, fault.alone_ms if alone else fault.with_second_ms)
    if outcome is not Outcome.ERROR:
        (usage,) = pipe.usages
        assert usage.prompt_tokens > 0
        assert usage.completion_tokens > 0
        assert len(pipe.ttfbs_s) == 1
    else:
        assert isinstance(pipe.errors[0].exception, rtrelay.RelayError)
        assert pipe.errors[0].exception.reason in pipe.errors[0].error
    await nothing_runs(world, model)


@every_fault
async def test_native_by_segment(world: World, fault: Fault) -> None:
    outcome = fault.by_segment or fault.outcome
    llm = native(world, alias(fault, "pipecat-segment"), commit_on="first_segment")
    await plays(llm, fault, outcome, fault.with_second_ms)


@every_fault
@with_or_without
async def test_compatible(world: World, fault: Fault, alone: bool) -> None:
    model = alias(fault, "pipecat-openai", alone=alone)
    outcome = fault.alone if alone else fault.outcome
    limit_ms = fault.alone_ms if alone else fault.with_second_ms
    await plays(compatible(world, model), fault, outcome, limit_ms)
    await nothing_runs(world, model)


# --- barge-in -----------------------------------------------------------------------------------

TEXT = "ttft=20,itl=20,text=One two three four five six seven eight nine ten."


@pytest.mark.parametrize("way", ["native", "compatible"])
async def test_a_barge_in_abandons_the_provider(world: World, way: str) -> None:
    model = f"barge-in.pipecat.{way}"
    world.script(model, TEXT)
    llm: LLMService[Any] = (native if way == "native" else compatible)(world, f"lab/{model}")
    async with Pipe(llm) as pipe:
        await pipe.send(asks())
        await pipe.until(lambda: pipe.all(LLMTextFrame))
        with within(20):
            await pipe.send(InterruptionFrame())
            await pipe.answered()
        stream = await world.stream_ended(model, "abandoned")
        assert stream["tokens"] < 10
        if way == "native":
            await pipe.until(lambda: pipe.usages)
            assert pipe.usages[0].prompt_tokens > 0
            assert pipe.usages[0].completion_tokens > 0
        heard = pipe.text
        await pipe.send(asks())
        await pipe.answered(2)
    assert pipe.answers == [heard, "One two three four five six seven eight nine ten."]
    assert not pipe.errors


@pytest.mark.parametrize("name", ["hang", "silent", "keepalives", "stall"])
async def test_a_barge_in_while_the_provider_is_silent(world: World, name: str) -> None:
    model = f"silent.pipecat.{name}"
    fault = next(each for each in FAULTS if each.name == name)
    world.script(model, fault.behaviour)
    llm = native(world, f"lab/{model}")
    async with Pipe(llm) as pipe:
        await pipe.send(asks())
        await world.eventually(lambda: world.streams(model))
        with within(20):
            await pipe.send(InterruptionFrame())
            await pipe.answered()
        await world.stream_ended(model, "abandoned")
        await pipe.until(lambda: pipe.usages)
    assert not pipe.errors


# --- tools in two legs --------------------------------------------------------------------------


async def test_a_tool_and_the_leg_after_it(world: World) -> None:
    model = "two-legs.pipecat"
    world.script(model, "ttft=20,itl=2,tools=1", count=1)
    world.script(model, {"ttft": "20", "itl": "2", "text": "It is clear."})
    llm = native(world, f"lab/{model}")
    tools = Tools(llm)
    async with Pipe(llm) as pipe:
        first = asks("How is the weather?", tools=TOOLS)
        await pipe.send(first)
        await pipe.until(lambda: pipe.all(FunctionCallResultFrame))
        ((call_id, name, arguments),) = tools.ran
        called = {"name": name, "arguments": str(arguments)}
        messages: Any = [
            {
                "role": "assistant",
                "tool_calls": [{"id": call_id, "type": "function", "function": called}],
            },
            {"role": "tool", "tool_call_id": call_id, "content": "clear"},
        ]
        first.context.add_messages(messages)
        await pipe.send(type(first)(first.context))
        await pipe.answered(2)
    assert pipe.answers == ["", "It is clear."]
    assert len(pipe.usages) == 2
    first_leg, second_leg = await world.all_logged(2, event="generation", asked=f"lab/{model}")
    assert first_leg["turn"]
    assert first_leg["turn"] == second_leg["turn"]
