"""The official OpenAI client on /v1/responses, where the relay serves it."""

from __future__ import annotations

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
    REPEATS_RESULTS,
    RESULT,
    RESULTS,
    RETRY_AFTER_S,
    STRUCTURED,
    TEXT,
    UNKNOWN,
)
from tests.realclients.world import World


class Trip(pydantic.BaseModel):
    """What the structured answers hold."""

    city: str
    days: int


WEATHER: Any = {
    "type": "function",
    "name": "weather",
    "description": "The weather",
    "strict": True,
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
        "required": ["city", "days"],
        "additionalProperties": False,
    },
}


@pytest.fixture
def client(responses: World) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=responses.base_url, api_key="any") as made:
        yield made


def test_text(client: openai.OpenAI) -> None:
    answer = client.responses.create(model=ANSWERS, input="Hello", instructions="Be brief.")
    assert answer.output_text == TEXT
    assert answer.status == "completed"
    assert answer.error is None
    assert answer.usage is not None
    assert answer.usage.output_tokens > 0


def test_stream(client: openai.OpenAI) -> None:
    events = list(client.responses.create(model=ANSWERS, input="Hello", stream=True))
    assert events[0].type == "response.created"
    assert events[-1].type == "response.completed"
    assert [event.sequence_number for event in events] == list(range(len(events)))
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(deltas) == events[-1].response.output_text == TEXT
    assert len(deltas) > 5
    assert events[-1].response.usage is not None


async def test_async_stream_helper(responses: World) -> None:
    async with (
        openai.AsyncOpenAI(base_url=responses.base_url, api_key="any") as client,
        client.responses.stream(model=ANSWERS, input="Hello") as stream,
    ):
        text = "".join([e.delta async for e in stream if e.type == "response.output_text.delta"])
        final = await stream.get_final_response()
    assert text == final.output_text == TEXT


@pytest.mark.parametrize("streamed", [False, True])
def test_tool_loop(client: openai.OpenAI, responses: World, streamed: bool) -> None:
    model = responses.scripted(REPEATS_RESULTS, {"tools": 2})
    conversation: list[Any] = [{"role": "user", "content": "Hello"}]
    request: dict[str, Any] = {"model": model, "input": conversation, "tools": [WEATHER]}
    if streamed:
        with client.responses.stream(**request) as stream:
            asked = stream.get_final_response()
    else:
        asked = client.responses.create(**request)
    calls = [item for item in asked.output if item.type == "function_call"]
    assert [call.name for call in calls] == ["weather", "weather"]
    for call in calls:
        Trip.model_validate_json(call.arguments)
    conversation += asked.output
    conversation += [
        {"type": "function_call_output", "call_id": call.call_id, "output": RESULT}
        for call in calls
    ]
    assert client.responses.create(**request).output_text == RESULTS


def test_parse(client: openai.OpenAI) -> None:
    answer = client.responses.parse(model=STRUCTURED, input="Hello", text_format=Trip)
    assert answer.output_parsed == Trip(city=CITY, days=DAYS)


@pytest.mark.parametrize("stream", [False, True])
def test_rate_limit(client: openai.OpenAI, responses: World, stream: bool) -> None:
    before = responses.last_stream()
    with pytest.raises(openai.RateLimitError) as caught:
        client.responses.create(model=LIMITED, input="Hello", stream=stream)
    assert caught.value.status_code == 429
    assert int(caught.value.response.headers["retry-after"]) == RETRY_AFTER_S
    assert len(responses.streams(before)) == 1


def test_unknown_model(client: openai.OpenAI) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        client.responses.create(model=UNKNOWN, input="Hello")
    # OpenAI answers 400 here and 404 on chat completions, with one code.
    assert caught.value.status_code in (400, 404)
    assert caught.value.code == "model_not_found"


def test_what_is_not_kept_is_refused_by_name(client: openai.OpenAI) -> None:
    # By default the relay keeps no responses.
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(model=ANSWERS, input="And now?", previous_response_id="resp_1")
    assert caught.value.param == "previous_response_id"


def test_stream_that_breaks_is_no_completed_response(
    client: openai.OpenAI, responses: World
) -> None:
    model = responses.scripted({"text": TEXT, "fault": "cut@3"})
    kinds: list[str] = []
    with pytest.raises(openai.APIError):  # noqa: PT012 - the events before it are looked at
        for event in client.responses.create(model=model, input="Hello", stream=True):
            kinds.append(event.type)
            if event.type == "response.failed":
                raise openai.APIError("failed", request=None, body=None)  # type: ignore[arg-type]
    assert "response.output_text.delta" in kinds
    assert "response.completed" not in kinds


def test_closed_stream_stops_the_provider(client: openai.OpenAI, responses: World) -> None:
    before = responses.last_stream()
    with client.responses.create(model=ENDLESS, input="Hello", stream=True) as stream:
        for event in stream:
            if event.type == "response.output_text.delta":
                break
    responses.abandoned(before)
