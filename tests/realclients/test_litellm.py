"""LiteLLM as a client of an OpenAI-compatible host: `openai/MODEL` with `api_base`."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import litellm
import pydantic
import pytest

from tests.realclients.behaviours import (
    ANSWERS,
    CITY,
    DAYS,
    ENDLESS,
    LIMITED,
    OBJECT_JSON,
    REPEATS_RESULTS,
    RESULT,
    RESULTS,
    STRUCTURED,
    TEXT,
    UNKNOWN,
    VECTORS,
)
from tests.realclients.world import World

HELLO: Any = [{"role": "user", "content": "Hello"}]
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
            "required": ["city", "days"],
        },
    },
}

one_loop = pytest.mark.asyncio(loop_scope="module")
"""It keeps async clients, and a task for its log, for the process: as in an application, all
tests share a loop."""


class Trip(pydantic.BaseModel):
    """What the structured answers hold."""

    city: str
    days: int


def asking(world: World, model: str, **request: Any) -> dict[str, Any]:
    return {
        "model": f"openai/{model}",
        "api_base": world.base_url,
        "api_key": "any",
        "messages": HELLO,
        **request,
    }


def test_text(world: World) -> None:
    answer: Any = litellm.completion(**asking(world, ANSWERS))
    assert answer.choices[0].message.content == TEXT
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.completion_tokens > 0


def test_stream(world: World) -> None:
    options = {"include_usage": True}
    chunks: Any = list(
        litellm.completion(**asking(world, ANSWERS, stream=True, stream_options=options))
    )
    assert (
        "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == TEXT
    )
    assert len(chunks) > 5
    assert chunks[-1].usage.completion_tokens > 0


@pytest.mark.parametrize("streamed", [False, True])
@one_loop
async def test_tool_loop(world: World, streamed: bool) -> None:
    model = world.scripted(REPEATS_RESULTS, {"tools": 2})
    request = asking(world, model, tools=[WEATHER])
    answer: Any
    if streamed:
        stream: Any = await litellm.acompletion(**request, stream=True)
        answer = litellm.stream_chunk_builder([chunk async for chunk in stream])
    else:
        answer = await litellm.acompletion(**request)
    message = answer.choices[0].message
    assert [call.function.name for call in message.tool_calls] == ["weather", "weather"]
    for call in message.tool_calls:
        Trip.model_validate_json(call.function.arguments)
    results = [
        {"role": "tool", "tool_call_id": call.id, "content": RESULT} for call in message.tool_calls
    ]
    request["messages"] = [*HELLO, message, *results]
    answer = await litellm.acompletion(**request)
    assert answer.choices[0].message.content == RESULTS


def test_structured_output(world: World) -> None:
    answer: Any = litellm.completion(**asking(world, STRUCTURED, response_format=Trip))
    assert Trip.model_validate_json(answer.choices[0].message.content) == Trip(city=CITY, days=DAYS)
    assert json.loads(OBJECT_JSON) == json.loads(answer.choices[0].message.content)


def test_rate_limit(world: World) -> None:
    before = world.last_stream()
    with pytest.raises(litellm.exceptions.RateLimitError) as caught:
        litellm.completion(**asking(world, LIMITED))
    assert caught.value.status_code == 429
    assert len(world.streams(before)) == 1


def test_unknown_model(world: World) -> None:
    with pytest.raises(litellm.exceptions.NotFoundError, match=UNKNOWN):
        litellm.completion(**asking(world, UNKNOWN))


@one_loop
async def test_closed_stream_stops_the_provider(world: World) -> None:
    before = world.last_stream()
    stream: Any = await litellm.acompletion(**asking(world, ENDLESS, stream=True))
    async for chunk in stream:
        if chunk.choices[0].delta.content:
            break
    await stream.aclose()
    await asyncio.to_thread(world.abandoned, before)


def test_embeddings(world: World) -> None:
    answer: Any = litellm.embedding(
        model=f"openai/{VECTORS}", api_base=world.base_url, api_key="any", input=["one", "two"]
    )
    assert [len(row["embedding"]) for row in answer.data] == [256, 256]


def test_anthropic_messages(messages: World) -> None:
    answer: Any = litellm.completion(
        model=f"anthropic/{ANSWERS}", api_base=messages.url, api_key="any", messages=HELLO
    )
    assert answer.choices[0].message.content == TEXT


def test_responses_api(responses: World) -> None:
    answer: Any = litellm.responses(
        model=f"openai/{ANSWERS}", api_base=responses.base_url, api_key="any", input="Hello"
    )
    assert answer.output[0].content[0].text == TEXT
