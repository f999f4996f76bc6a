"""LlamaIndex with `OpenAILike`, over the second major version of the official client."""

from __future__ import annotations

import asyncio
from typing import Any

import openai
import pydantic
import pytest
from llama_index.core.base.llms.types import ChatMessage, MessageRole
from llama_index.core.prompts import PromptTemplate
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai_like import OpenAILike

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

HELLO = [ChatMessage(role="user", content="Hello")]


class Trip(pydantic.BaseModel):
    """What the structured answers hold."""

    city: str
    days: int


def weather(city: str, days: int) -> str:
    """The weather of a city."""
    return RESULT


def chat(world: World, model: str, **options: Any) -> OpenAILike:
    return OpenAILike(
        model=model,
        api_base=world.base_url,
        api_key="any",
        is_chat_model=True,
        is_function_calling_model=True,
        **options,
    )


def test_text(world: World) -> None:
    answer = chat(world, ANSWERS).chat(HELLO)
    assert answer.message.content == TEXT
    raw: Any = answer.raw
    assert raw.usage.completion_tokens > 0


def test_stream(world: World) -> None:
    parts = list(chat(world, ANSWERS).stream_chat(HELLO))
    assert "".join(part.delta or "" for part in parts) == TEXT
    assert parts[-1].message.content == TEXT
    assert len(parts) > 5


def test_completion(world: World) -> None:
    assert chat(world, ANSWERS).complete("Hello").text == TEXT


@pytest.mark.parametrize("streamed", [False, True])
def test_tool_loop(world: World, streamed: bool) -> None:
    model = chat(world, world.scripted(REPEATS_RESULTS, {"tools": 2}))
    tool = FunctionTool.from_defaults(weather)
    request: dict[str, Any] = {"chat_history": HELLO, "allow_parallel_tool_calls": True}
    if streamed:
        *_, asked = model.stream_chat_with_tools([tool], **request)
    else:
        asked = model.chat_with_tools([tool], **request)
    calls = model.get_tool_calls_from_response(asked)
    assert [call.tool_name for call in calls] == ["weather", "weather"]
    results = [
        ChatMessage(
            role=MessageRole.TOOL,
            content=str(tool(**call.tool_kwargs)),
            additional_kwargs={"tool_call_id": call.tool_id},
        )
        for call in calls
    ]
    history = [*HELLO, asked.message, *results]
    assert model.chat_with_tools([tool], chat_history=history).message.content == RESULTS


def test_structured_output(world: World) -> None:
    model = chat(world, STRUCTURED, should_use_structured_outputs=True)
    trip = model.structured_predict(Trip, PromptTemplate("Plan a trip"))
    assert trip == Trip(city=CITY, days=DAYS)


def test_rate_limit(world: World) -> None:
    before = world.last_stream()
    with pytest.raises(openai.RateLimitError) as caught:
        chat(world, LIMITED).chat(HELLO)
    assert caught.value.status_code == 429
    # Around the official client it has tries of its own, three in all.
    assert len(world.streams(before)) == 3


def test_unknown_model(world: World) -> None:
    with pytest.raises(openai.NotFoundError, match=UNKNOWN):
        chat(world, UNKNOWN).chat(HELLO)


async def test_cancelled_stream_stops_the_provider(world: World) -> None:
    before = world.last_stream()
    heard = asyncio.Event()

    async def listen() -> None:
        async for part in await chat(world, ENDLESS).astream_chat(HELLO):
            if part.delta:
                heard.set()

    task = asyncio.create_task(listen())
    await heard.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.to_thread(world.abandoned, before)
