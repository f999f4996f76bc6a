"""The official OpenAI client, sync and async, on /v1/chat/completions and its siblings."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from typing import Any

import openai
import pydantic
import pytest

from tests.realclients.behaviours import (
    ANSWERS,
    CITY,
    DAYS,
    ENDLESS,
    LIMITED,
    MUTE,
    REPEATS_RESULTS,
    RESULT,
    RESULTS,
    RETRY_AFTER_S,
    STRUCTURED,
    TEXT,
    UNKNOWN,
    VECTORS,
    WIRES,
)
from tests.realclients.world import World

HELLO: Any = [{"role": "user", "content": "Hello"}]


class Trip(pydantic.BaseModel):
    """What the structured answers hold."""

    city: str
    days: int


WEATHER: Any = openai.pydantic_function_tool(Trip, name="weather", description="The weather")


@pytest.fixture
def client(world: World) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=world.base_url, api_key="any") as made:
        yield made


def asynchronous(world: World) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=world.base_url, api_key="any")


# --- text -----------------------------------------------------------------------------------------


def test_text(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model=ANSWERS, messages=HELLO)
    assert answer.choices[0].message.content == TEXT
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.completion_tokens > 0
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_stream(client: openai.OpenAI) -> None:
    chunks = list(client.chat.completions.create(model=ANSWERS, messages=HELLO, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == TEXT
    assert len(chunks) > 5
    assert [c.choices[0].finish_reason for c in chunks if c.choices[0].finish_reason] == ["stop"]
    assert all(chunk.usage is None for chunk in chunks)


def test_stream_with_usage(client: openai.OpenAI) -> None:
    *_, last = client.chat.completions.create(
        model=ANSWERS, messages=HELLO, stream=True, stream_options={"include_usage": True}
    )
    assert last.choices == []
    assert last.usage is not None
    assert last.usage.completion_tokens > 0


def test_stream_helper(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(model=ANSWERS, messages=HELLO) as stream:
        text = "".join(event.delta for event in stream if event.type == "content.delta")
        final = stream.get_final_completion()
    assert text == final.choices[0].message.content == TEXT


async def test_async_text_and_stream(world: World) -> None:
    async with asynchronous(world) as client:
        whole, stream = await asyncio.gather(
            client.chat.completions.create(model=ANSWERS, messages=HELLO),
            client.chat.completions.create(model=ANSWERS, messages=HELLO, stream=True),
        )
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
    assert whole.choices[0].message.content == text == TEXT


@pytest.mark.parametrize("provider", WIRES)
def test_text_of_every_provider_wire(client: openai.OpenAI, world: World, provider: str) -> None:
    model = world.scripted({"text": TEXT}, provider=provider)
    answer = client.chat.completions.create(model=model, messages=HELLO)
    assert answer.choices[0].message.content == TEXT
    stream = client.chat.completions.create(model=model, messages=HELLO, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == TEXT


# --- tools ----------------------------------------------------------------------------------------


def with_results(message: Any) -> list[Any]:
    """The conversation so far: what the model asked for, and what the tools said."""
    results = [
        {"role": "tool", "tool_call_id": call.id, "content": RESULT} for call in message.tool_calls
    ]
    return [*HELLO, message, *results]


@pytest.mark.parametrize("provider", WIRES)
def test_tool_loop(client: openai.OpenAI, world: World, provider: str) -> None:
    model = world.scripted(REPEATS_RESULTS, {"tools": 2}, provider=provider)
    asked = client.chat.completions.create(model=model, messages=HELLO, tools=[WEATHER])
    assert asked.choices[0].finish_reason == "tool_calls"
    calls = asked.choices[0].message.tool_calls
    assert calls is not None
    assert len({call.id for call in calls}) == 2
    for call in calls:
        assert call.type == "function"
        assert call.function.name == "weather"
        Trip.model_validate_json(call.function.arguments)
    messages = with_results(asked.choices[0].message)
    answer = client.chat.completions.create(model=model, messages=messages, tools=[WEATHER])
    assert answer.choices[0].message.content == RESULTS
    assert answer.choices[0].finish_reason == "stop"


def test_streamed_tool_loop(client: openai.OpenAI, world: World) -> None:
    model = world.scripted(REPEATS_RESULTS, {"tools": 2})
    with client.chat.completions.stream(model=model, messages=HELLO, tools=[WEATHER]) as stream:
        done = [e for e in stream if e.type == "tool_calls.function.arguments.done"]
        message = stream.get_final_completion().choices[0].message
    assert [event.name for event in done] == ["weather", "weather"]
    # A strict tool's arguments come parsed.
    assert all(isinstance(event.parsed_arguments, Trip) for event in done)
    messages = with_results(message)
    with client.chat.completions.stream(model=model, messages=messages, tools=[WEATHER]) as stream:
        assert stream.get_final_completion().choices[0].message.content == RESULTS


def test_forced_tool(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=ANSWERS,
        messages=HELLO,
        tools=[WEATHER],
        tool_choice={"type": "function", "function": {"name": "weather"}},
    )
    assert answer.choices[0].message.tool_calls


# --- structured output ----------------------------------------------------------------------------


def test_parse(client: openai.OpenAI) -> None:
    answer = client.chat.completions.parse(model=STRUCTURED, messages=HELLO, response_format=Trip)
    assert answer.choices[0].message.parsed == Trip(city=CITY, days=DAYS)


async def test_async_parse_and_stream(world: World) -> None:
    async with asynchronous(world) as client:
        parsed = await client.chat.completions.parse(
            model=STRUCTURED, messages=HELLO, response_format=Trip
        )
        async with client.chat.completions.stream(
            model=STRUCTURED, messages=HELLO, response_format=Trip
        ) as stream:
            final = await stream.get_final_completion()
    for answer in (parsed, final):
        assert answer.choices[0].message.parsed == Trip(city=CITY, days=DAYS)


def test_json_mode(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=STRUCTURED, messages=HELLO, response_format={"type": "json_object"}
    )
    assert json.loads(answer.choices[0].message.content or "")["city"] == CITY


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
def test_rate_limit(client: openai.OpenAI, world: World, stream: bool) -> None:
    before = world.last_stream()
    began_s = time.monotonic()
    with pytest.raises(openai.RateLimitError) as caught:
        client.chat.completions.create(model=LIMITED, messages=HELLO, stream=stream)
    assert caught.value.status_code == 429
    assert caught.value.code == "rate_limit_exceeded"
    assert int(caught.value.response.headers["retry-after"]) == RETRY_AFTER_S
    # The relay asked already; the client's own two retries would bring nothing.
    assert len(world.streams(before)) == 1
    assert time.monotonic() - began_s < RETRY_AFTER_S


@pytest.mark.parametrize("stream", [False, True])
def test_unknown_model(client: openai.OpenAI, world: World, stream: bool) -> None:
    before = world.last_stream()
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model=UNKNOWN, messages=HELLO, stream=stream)
    assert caught.value.code == "model_not_found"
    assert UNKNOWN in str(caught.value)
    assert not world.streams(before)


def test_bad_request_names_the_field(client: openai.OpenAI) -> None:
    broken: Any = "hot"
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=ANSWERS, messages=HELLO, temperature=broken)
    assert caught.value.param == "temperature"


def test_stream_that_breaks_is_an_error(client: openai.OpenAI, world: World) -> None:
    model = world.scripted({"text": TEXT, "fault": "cut@3"})
    chunks: list[Any] = []
    with pytest.raises(openai.APIError):
        chunks.extend(client.chat.completions.create(model=model, messages=HELLO, stream=True))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text
    assert TEXT.startswith(text)


# --- leaving --------------------------------------------------------------------------------------


def test_closed_stream_stops_the_provider(client: openai.OpenAI, world: World) -> None:
    before = world.last_stream()
    with client.chat.completions.create(model=ENDLESS, messages=HELLO, stream=True) as stream:
        for number, _ in enumerate(stream):
            if number == 3:
                break
    world.abandoned(before)


async def test_cancelled_task_stops_the_provider(world: World) -> None:
    before = world.last_stream()
    async with asynchronous(world) as client:
        heard = asyncio.Event()

        async def listen() -> None:
            stream = await client.chat.completions.create(
                model=ENDLESS, messages=HELLO, stream=True
            )
            async for _ in stream:
                heard.set()

        task = asyncio.create_task(listen())
        await heard.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await asyncio.to_thread(world.abandoned, before)


def test_timeout_stops_the_provider(client: openai.OpenAI, world: World) -> None:
    before = world.last_stream()
    impatient = client.with_options(timeout=0.3, max_retries=0)
    with pytest.raises(openai.APITimeoutError):
        impatient.chat.completions.create(model=MUTE, messages=HELLO)
    world.abandoned(before)


# --- the other paths ------------------------------------------------------------------------------


def test_embeddings(client: openai.OpenAI) -> None:
    answer = client.embeddings.create(model=VECTORS, input=["one", "two", "one"])
    first, second, third = (row.embedding for row in answer.data)
    assert len(first) == 256
    assert first == third != second
    assert answer.usage.total_tokens > 0
    floats = client.embeddings.create(model=VECTORS, input="one", encoding_format="float")
    assert floats.data[0].embedding == pytest.approx(first, abs=1e-6)


async def test_async_embeddings(world: World) -> None:
    async with asynchronous(world) as client:
        answer = await client.embeddings.create(model=VECTORS, input="one", dimensions=8)
    assert len(answer.data[0].embedding) == 8


def test_legacy_completions(client: openai.OpenAI) -> None:
    whole = client.completions.create(model=ANSWERS, prompt="Say something")
    assert whole.choices[0].text == TEXT
    assert whole.usage is not None
    assert whole.usage.completion_tokens > 0
    parts = client.completions.create(model=ANSWERS, prompt="Say something", stream=True)
    assert "".join(part.choices[0].text for part in parts) == TEXT


def test_models(client: openai.OpenAI) -> None:
    assert {ANSWERS, LIMITED} <= {row.id for row in client.models.list()}
    assert client.models.retrieve(ANSWERS).id == ANSWERS
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve(UNKNOWN)


def test_azure_client(world: World) -> None:
    with openai.AzureOpenAI(
        azure_endpoint=world.url, api_version="2025-01-01", api_key="any"
    ) as client:
        answer = client.chat.completions.create(model=ANSWERS, messages=HELLO)
    assert answer.choices[0].message.content == TEXT
