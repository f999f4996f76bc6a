"""LangChain's `ChatOpenAI`, which parses every answer with the official client below it."""

from __future__ import annotations

import asyncio
from typing import Any

import openai
import pydantic
import pytest
from langchain_core.messages import AIMessageChunk, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings

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
    VECTORS,
)
from tests.realclients.world import World

one_loop = pytest.mark.asyncio(loop_scope="module")
"""It keeps async clients for the process: as in an application, all tests share a loop."""


class Trip(pydantic.BaseModel):
    """What the structured answers hold."""

    city: str
    days: int


@tool
def weather(city: str, days: int) -> str:
    """The weather of a city."""
    return RESULT


def chat(world: World, model: str, **options: Any) -> ChatOpenAI:
    key = pydantic.SecretStr("any")
    return ChatOpenAI(model=model, base_url=world.base_url, api_key=key, **options)


def test_text(world: World) -> None:
    answer = chat(world, ANSWERS).invoke("Hello")
    assert answer.text == TEXT
    assert answer.usage_metadata is not None
    assert answer.usage_metadata["output_tokens"] > 0
    assert answer.response_metadata["finish_reason"] == "stop"


def test_stream(world: World) -> None:
    chunks = list(chat(world, ANSWERS, stream_usage=True).stream("Hello"))
    whole: Any = chunks[0]
    for chunk in chunks[1:]:
        whole = whole + chunk
    assert whole.text == TEXT
    assert len(chunks) > 5
    assert whole.usage_metadata["output_tokens"] > 0


@one_loop
async def test_async_batch(world: World) -> None:
    answers = await chat(world, ANSWERS).abatch(["Hello", "Hi", "Hey"])
    assert [answer.text for answer in answers] == [TEXT] * 3


@pytest.mark.parametrize("streamed", [False, True])
def test_tool_loop(world: World, streamed: bool) -> None:
    model = chat(world, world.scripted(REPEATS_RESULTS, {"tools": 2})).bind_tools([weather])
    conversation: list[Any] = [HumanMessage("Hello")]
    asked: Any
    if streamed:
        asked = AIMessageChunk(content="")
        for chunk in model.stream(conversation):
            asked = asked + chunk
    else:
        asked = model.invoke(conversation)
    assert [call["name"] for call in asked.tool_calls] == ["weather", "weather"]
    assert not asked.invalid_tool_calls
    conversation.append(asked)
    conversation += [weather.invoke(call) for call in asked.tool_calls]
    assert isinstance(conversation[-1], ToolMessage)
    assert model.invoke(conversation).text == RESULTS


@pytest.mark.parametrize("method", ["json_schema", "json_mode"])
def test_structured_output(world: World, method: Any) -> None:
    model = chat(world, STRUCTURED).with_structured_output(Trip, method=method)
    assert model.invoke("Answer in json") == Trip(city=CITY, days=DAYS)


def test_structured_output_by_tool(world: World) -> None:
    model = chat(world, ANSWERS).with_structured_output(Trip, method="function_calling")
    assert isinstance(model.invoke("Hello"), Trip)


@pytest.mark.parametrize("streamed", [False, True])
def test_rate_limit(world: World, streamed: bool) -> None:
    before = world.last_stream()
    model = chat(world, LIMITED)
    with pytest.raises(openai.RateLimitError) as caught:
        list(model.stream("Hello")) if streamed else model.invoke("Hello")
    assert caught.value.status_code == 429
    assert len(world.streams(before)) == 1


def test_unknown_model(world: World) -> None:
    with pytest.raises(openai.NotFoundError, match=UNKNOWN):
        chat(world, UNKNOWN).invoke("Hello")


@one_loop
async def test_cancelled_stream_stops_the_provider(world: World) -> None:
    before = world.last_stream()
    stream: Any = chat(world, ENDLESS).astream("Hello")
    async for chunk in stream:
        if chunk.text:
            break
    await stream.aclose()
    await asyncio.to_thread(world.abandoned, before)


def test_embeddings(world: World) -> None:
    key = pydantic.SecretStr("any")
    # Its default sends numbers of tokens instead of text, by a tokenizer that it downloads.
    model = OpenAIEmbeddings(
        model=VECTORS, base_url=world.base_url, api_key=key, check_embedding_ctx_length=False
    )
    first, second = model.embed_documents(["one", "two"])
    assert len(first) == len(second) == 256
    assert model.embed_query("one") == pytest.approx(first)


@pytest.mark.parametrize("streamed", [False, True])
def test_responses_api(responses: World, streamed: bool) -> None:
    model = chat(responses, ANSWERS, use_responses_api=True)
    if streamed:
        assert "".join(chunk.text for chunk in model.stream("Hello")) == TEXT
    else:
        assert model.invoke("Hello").text == TEXT


def test_responses_api_tool_loop(responses: World) -> None:
    name = responses.scripted(REPEATS_RESULTS, {"tools": 2})
    model = chat(responses, name, use_responses_api=True).bind_tools([weather])
    conversation: list[Any] = [HumanMessage("Hello")]
    asked = model.invoke(conversation)
    conversation.append(asked)
    conversation += [weather.invoke(call) for call in asked.tool_calls]
    assert len(conversation) == 4
    assert model.invoke(conversation).text == RESULTS
