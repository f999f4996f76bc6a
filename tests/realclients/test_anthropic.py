"""The official Anthropic client on /v1/messages, where the relay serves it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anthropic
import pydantic
import pytest

from tests.realclients.behaviours import (
    ANSWERS,
    CITY,
    DAYS,
    ENDLESS,
    LIMITED,
    REPEATS_RESULTS,
    RESULT,
    RESULTS,
    RETRY_AFTER_S,
    STRUCTURED,
    TEXT,
    UNKNOWN,
)
from tests.realclients.world import World

HELLO: Any = [{"role": "user", "content": "Hello"}]
WEATHER: Any = {
    "name": "weather",
    "description": "The weather",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
        "required": ["city", "days"],
    },
}
both_wires = pytest.mark.parametrize("provider", ["lab", "claude"])
"""Behind the relay: a provider of OpenAI's wire, and one of Anthropic's own."""


class Trip(pydantic.BaseModel):
    """What the structured answers hold."""

    city: str
    days: int


@pytest.fixture
def client(messages: World) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=messages.url, api_key="any") as made:
        yield made


def text_of(message: Any) -> str:
    return "".join(block.text for block in message.content if block.type == "text")


@both_wires
def test_text(client: anthropic.Anthropic, messages: World, provider: str) -> None:
    model = messages.scripted({"text": TEXT}, provider=provider)
    answer = client.messages.create(model=model, max_tokens=200, system="Be kind.", messages=HELLO)
    assert text_of(answer) == TEXT
    assert answer.stop_reason == "end_turn"
    assert answer.usage.output_tokens > 0


@both_wires
def test_stream(client: anthropic.Anthropic, messages: World, provider: str) -> None:
    model = messages.scripted({"text": TEXT}, provider=provider)
    with client.messages.stream(model=model, max_tokens=200, messages=HELLO) as stream:
        pieces = list(stream.text_stream)
        final = stream.get_final_message()
    assert "".join(pieces) == text_of(final) == TEXT
    assert len(pieces) > 5
    assert final.stop_reason == "end_turn"
    assert final.usage.output_tokens > 0


async def test_async_stream(messages: World) -> None:
    async with anthropic.AsyncAnthropic(base_url=messages.url, api_key="any") as client:
        stream = await client.messages.create(
            model=ANSWERS, max_tokens=200, messages=HELLO, stream=True
        )
        kinds = [event.type async for event in stream]
    assert kinds[0] == "message_start"
    assert kinds[-1] == "message_stop"


@both_wires
@pytest.mark.parametrize("streamed", [False, True])
def test_tool_loop(
    client: anthropic.Anthropic, messages: World, provider: str, streamed: bool
) -> None:
    model = messages.scripted(REPEATS_RESULTS, {"tools": 2}, provider=provider)
    conversation = list(HELLO)
    request: dict[str, Any] = {
        "model": model,
        "max_tokens": 200,
        "messages": conversation,
        "tools": [WEATHER],
    }
    if streamed:
        with client.messages.stream(**request) as stream:
            asked = stream.get_final_message()
    else:
        asked = client.messages.create(**request)
    assert asked.stop_reason == "tool_use"
    calls = [block for block in asked.content if block.type == "tool_use"]
    assert [call.name for call in calls] == ["weather", "weather"]
    for call in calls:
        Trip.model_validate(call.input)
    results = [{"type": "tool_result", "tool_use_id": call.id, "content": RESULT} for call in calls]
    conversation += [
        {"role": "assistant", "content": asked.content},
        {"role": "user", "content": results},
    ]
    assert text_of(client.messages.create(**request)) == RESULTS


def test_tool_runner(client: anthropic.Anthropic, messages: World) -> None:
    asked: list[tuple[str, int]] = []

    @anthropic.beta_tool
    def weather(city: str, days: int) -> str:
        """The weather.

        Args:
            city: where
            days: how far ahead
        """
        asked.append((city, days))
        return RESULT

    model = messages.scripted(REPEATS_RESULTS, {"tools": 1})
    runner = client.beta.messages.tool_runner(
        model=model, max_tokens=200, messages=HELLO, tools=[weather]
    )
    final = runner.until_done()
    assert text_of(final) == RESULT
    assert len(asked) == 1


def test_parse(client: anthropic.Anthropic) -> None:
    answer = client.messages.parse(
        model=STRUCTURED, max_tokens=200, messages=HELLO, output_format=Trip
    )
    assert answer.parsed_output == Trip(city=CITY, days=DAYS)


def test_count_tokens(client: anthropic.Anthropic, messages: World) -> None:
    if not messages.serves("/v1/messages/count_tokens"):
        pytest.skip("this relay does not serve /v1/messages/count_tokens")
    counted = client.messages.count_tokens(model=ANSWERS, messages=HELLO)
    assert counted.input_tokens > 0


@pytest.mark.parametrize("stream", [False, True])
def test_rate_limit(client: anthropic.Anthropic, messages: World, stream: bool) -> None:
    before = messages.last_stream()
    with pytest.raises(anthropic.RateLimitError) as caught:
        client.messages.create(model=LIMITED, max_tokens=200, messages=HELLO, stream=stream)
    assert caught.value.status_code == 429
    assert int(caught.value.response.headers["retry-after"]) == RETRY_AFTER_S
    assert len(messages.streams(before)) == 1


def test_unknown_model(client: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.NotFoundError) as caught:
        client.messages.create(model=UNKNOWN, max_tokens=200, messages=HELLO)
    body: Any = caught.value.body
    assert body["error"]["type"] == "not_found_error"
    assert UNKNOWN in body["error"]["message"]


def test_stream_that_breaks_is_an_error(client: anthropic.Anthropic, messages: World) -> None:
    model = messages.scripted({"text": TEXT, "fault": "cut@3"})
    pieces: list[str] = []
    stream = client.messages.create(model=model, max_tokens=200, messages=HELLO, stream=True)
    with pytest.raises(anthropic.APIError):
        pieces.extend(
            event.delta.text
            for event in stream
            if event.type == "content_block_delta" and event.delta.type == "text_delta"
        )
    text = "".join(pieces)
    assert text
    assert TEXT.startswith(text)


def test_closed_stream_stops_the_provider(client: anthropic.Anthropic, messages: World) -> None:
    before = messages.last_stream()
    with client.messages.stream(model=ENDLESS, max_tokens=4000, messages=HELLO) as stream:
        next(iter(stream.text_stream))
    messages.abandoned(before)
