"""pydantic-ai with its OpenAI provider, whose agent runs the tool loop itself."""

from __future__ import annotations

import asyncio
from typing import Any

import pydantic
import pytest
from pydantic_ai import Agent, ModelHTTPError, NativeOutput
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider

from tests.realclients.behaviours import (
    ANSWERS,
    CITY,
    DAYS,
    ENDLESS,
    LIMITED,
    REPEATS_RESULTS,
    RESULT,
    RESULTS,
    STRUCTURED,
    TEXT,
    UNKNOWN,
)
from tests.realclients.world import World


class Trip(pydantic.BaseModel):
    """What the structured answers hold."""

    city: str
    days: int


def chat(world: World, model: str) -> OpenAIChatModel:
    return OpenAIChatModel(model, provider=OpenAIProvider(base_url=world.base_url, api_key="any"))


def with_weather(model: Any) -> tuple[Agent[None, str], list[str]]:
    """An agent with a tool, and the cities that the tool was asked for."""
    agent = Agent(model)
    asked: list[str] = []

    @agent.tool_plain
    def weather(city: str, days: int) -> str:
        """The weather of a city."""
        asked.append(city)
        return RESULT

    return agent, asked


async def test_text(world: World) -> None:
    result = await Agent(chat(world, ANSWERS), instructions="Be kind.").run("Hello")
    assert result.output == TEXT
    assert result.usage.output_tokens > 0


async def test_stream(world: World) -> None:
    async with Agent(chat(world, ANSWERS)).run_stream("Hello") as result:
        pieces = [piece async for piece in result.stream_text(delta=True, debounce_by=None)]
        usage = result.usage
    assert "".join(pieces) == TEXT
    assert len(pieces) > 5
    assert usage.output_tokens > 0


async def test_tool_loop(world: World) -> None:
    agent, asked = with_weather(chat(world, world.scripted(REPEATS_RESULTS, {"tools": 2})))
    result = await agent.run("Hello")
    assert result.output == RESULTS
    assert len(asked) == 2
    assert result.usage.requests == 2


async def test_streamed_tool_loop(world: World) -> None:
    agent, asked = with_weather(chat(world, world.scripted(REPEATS_RESULTS, {"tools": 2})))
    async with agent.run_stream("Hello") as result:
        assert await result.get_output() == RESULTS
    assert len(asked) == 2


async def test_structured_output(world: World) -> None:
    agent = Agent(chat(world, STRUCTURED), output_type=NativeOutput(Trip))
    assert (await agent.run("Hello")).output == Trip(city=CITY, days=DAYS)


async def test_structured_output_by_tool(world: World) -> None:
    # Its default: a tool that the model must call.
    agent = Agent(chat(world, world.scripted({"tools": 1})), output_type=Trip)
    assert isinstance((await agent.run("Hello")).output, Trip)


@pytest.mark.parametrize(("model", "status"), [(LIMITED, 429), (UNKNOWN, 404)])
async def test_errors(world: World, model: str, status: int) -> None:
    before = world.last_stream()
    with pytest.raises(ModelHTTPError) as caught:
        await Agent(chat(world, model)).run("Hello")
    assert caught.value.status_code == status
    assert len(world.streams(before)) == (1 if status == 429 else 0)


async def test_cancelled_run_stops_the_provider(world: World) -> None:
    before = world.last_stream()
    heard = asyncio.Event()

    async def listen() -> None:
        async with Agent(chat(world, ENDLESS)).run_stream("Hello") as result:
            async for _ in result.stream_text(debounce_by=None):
                heard.set()

    task = asyncio.create_task(listen())
    await heard.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.to_thread(world.abandoned, before)


async def test_responses_api(responses: World) -> None:
    name = responses.scripted(REPEATS_RESULTS, {"tools": 2})
    provider = OpenAIProvider(base_url=responses.base_url, api_key="any")
    agent, asked = with_weather(OpenAIResponsesModel(name, provider=provider))
    assert (await agent.run("Hello")).output == RESULTS
    assert len(asked) == 2
