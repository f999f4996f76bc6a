"""`POST /v1/responses` with OpenAI's own client, unchanged, over a whole worker and over several
wires: streamed and whole, tools and structured output, errors, cut streams, cancels, and responses
that are kept."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import openai
import orjson
import pydantic
import pytest
from openai.types.responses import Response

from tests.codecs import anthropic_text, responses_text
from tests.fakes.h2_server import (
    CANCEL,
    H2Server,
    Script,
    ServerStream,
    answer,
    in_turn,
    stream_chunks,
)
from tests.fakes.relay_under_test import (
    DONE,
    Document,
    RelayUnderTest,
    answer_chunks,
    chunk,
    provider,
    relay_under_test,
)

pytestmark = pytest.mark.sockets

CHAT, RESPONSES, MESSAGES = "/v1/chat/completions", "/v1/responses", "/v1/messages"


@asynccontextmanager
async def serving(upstream: H2Server, ca_file: str, **http: Any) -> AsyncIterator[RelayUnderTest]:
    """A relay with a model of each wire: `fast` (chat), `native` and `claude`."""
    rows: Document = {
        "lab": provider(upstream.url, ca_file=ca_file, models=["m"]),
        "own": provider(
            upstream.url,
            ca_file=ca_file,
            wire="openai_responses",
            quirks={"reasoning_models": "."},
        ),
        "ant": provider(
            upstream.url, ca_file=ca_file, wire="anthropic_messages", base_url=upstream.url
        ),
    }
    timeouts = {"first_token_ms": 1000, "inter_token_ms": 1000}
    models = {
        alias: {"candidates": [{"provider": row, "model": "m"}], "timeouts": timeouts}
        for alias, row in (("fast", "lab"), ("native", "own"), ("claude", "ant"))
    }
    document = {"providers": rows, "models": models, "server": {"http": http}}
    async with relay_under_test(document) as running:
        yield running
        await running.settled()


@pytest.fixture
async def relay(upstream: H2Server, ca_file: str) -> AsyncIterator[RelayUnderTest]:
    upstream.routes[CHAT] = stream_chunks(answer_chunks("Hel", "lo", "!"))
    async with serving(upstream, ca_file) as running:
        yield running


@pytest.fixture
async def keeping(upstream: H2Server, ca_file: str) -> AsyncIterator[RelayUnderTest]:
    """A relay that keeps responses."""
    upstream.routes[CHAT] = stream_chunks(answer_chunks("Hel", "lo", "!"))
    async with serving(upstream, ca_file, responses_store={"max_responses": 10}) as running:
        yield running


def sent(upstream: H2Server, path: str = CHAT, at: int = -1) -> Any:
    return orjson.loads(upstream.requests(path)[at].body)


# --- answers --------------------------------------------------------------------------------------


async def test_whole(relay: RelayUnderTest, upstream: H2Server) -> None:
    async with relay.openai() as client:
        told = await client.responses.create(
            model="fast", input="Hi", instructions="Be brief.", metadata={"call": "7"}
        )
    assert told.output_text == "Hello!"
    assert (told.status, told.object, told.model) == ("completed", "response", "upstream-model")
    assert told.metadata == {"call": "7"}
    assert told.instructions == "Be brief."
    assert told.usage is not None
    assert told.usage.total_tokens > 0
    assert sent(upstream)["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
    ]


async def test_document_is_what_the_clients_types_demand(relay: RelayUnderTest) -> None:
    found = await relay.http.post("/v1/responses", json={"model": "fast", "input": "Hi"})
    assert found.headers["content-type"] == "application/json"
    assert found.headers["x-relay-provider"] == "lab"
    Response.model_validate(found.json())


async def test_sync_client_streams(relay: RelayUnderTest) -> None:
    def read() -> list[Any]:
        http = openai.DefaultHttpxClient(trust_env=False)
        with openai.OpenAI(base_url=relay.base_url, api_key="any", http_client=http) as client:
            return list(client.responses.create(model="fast", input="Hi", stream=True))

    events = await asyncio.to_thread(read)
    assert [event.sequence_number for event in events] == list(range(len(events)))
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert deltas == ["Hel", "lo", "!"]
    assert events[-1].type == "response.completed"
    assert events[-1].response.output_text == "Hello!"


async def test_stream_helper(relay: RelayUnderTest) -> None:
    async with (
        relay.openai() as client,
        client.responses.stream(model="fast", input="Hi") as stream,
    ):
        kinds = [event.type async for event in stream]
        final = await stream.get_final_response()
    assert kinds[:2] == ["response.created", "response.in_progress"]
    assert kinds[-1] == "response.completed"
    assert final.output_text == "Hello!"


class Place(pydantic.BaseModel):
    city: str


async def test_structured_output(relay: RelayUnderTest, upstream: H2Server) -> None:
    upstream.routes[CHAT] = stream_chunks(answer_chunks('{"city":', ' "Ulm"}'))
    async with relay.openai() as client:
        parsed = await client.responses.parse(model="fast", input="Where?", text_format=Place)
        async with client.responses.stream(
            model="fast", input="Where?", text_format=Place
        ) as stream:
            streamed = await stream.get_final_response()
    assert parsed.output_parsed == streamed.output_parsed == Place(city="Ulm")
    shape = sent(upstream)["response_format"]
    assert shape["type"] == "json_schema"
    assert shape["json_schema"]["strict"] is True


WEATHER: Any = {
    "type": "function",
    "name": "weather",
    "description": "Weather of a city",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    "strict": False,
}


def calls_weather(*cities: str) -> Script:
    """An answer that calls the tool for each city, the arguments in pieces."""
    parts = []
    for index, city in enumerate(cities):
        arguments = orjson.dumps({"city": city}).decode()
        head = {"index": index, "id": f"call_{index}", "type": "function"}
        function = {"name": "weather", "arguments": ""}
        parts.append(chunk({"tool_calls": [{**head, "function": function}]}))
        for at in range(0, len(arguments), 5):
            piece = {"index": index, "function": {"arguments": arguments[at : at + 5]}}
            parts.append(chunk({"tool_calls": [piece]}))
    return stream_chunks([*parts, chunk(finish="tool_calls"), DONE])


async def run_tools(
    client: openai.AsyncOpenAI, model: str, *, is_streamed: bool, **more: Any
) -> tuple[Response, list[Any]]:
    """Ask, answer every call with `rain`, and ask on; the last response and all that was sent."""
    items: list[Any] = [{"role": "user", "content": "Weather?"}]
    create: Any = client.responses.create
    while True:
        told: Any
        if is_streamed:
            async for event in await create(
                model=model, input=items, tools=[WEATHER], stream=True, **more
            ):
                told = event
            told = told.response
        else:
            told = await create(model=model, input=items, tools=[WEATHER], **more)
        items += told.output
        calls = [item for item in told.output if item.type == "function_call"]
        if not calls:
            return told, items
        items += [
            {"type": "function_call_output", "call_id": call.call_id, "output": "rain"}
            for call in calls
        ]


@pytest.mark.parametrize("is_streamed", [True, False])
async def test_tool_loop(relay: RelayUnderTest, upstream: H2Server, is_streamed: bool) -> None:
    upstream.routes[CHAT] = in_turn(
        calls_weather("Ulm", "Rom"), stream_chunks(answer_chunks("Rain."))
    )
    async with relay.openai() as client:
        told, _ = await run_tools(client, "fast", is_streamed=is_streamed)
    assert told.output_text == "Rain."
    roles = [message["role"] for message in sent(upstream)["messages"]]
    assert roles == ["user", "assistant", "tool", "tool"]
    made = sent(upstream)["messages"][1]["tool_calls"]
    assert [one["function"]["arguments"] for one in made] == ['{"city":"Ulm"}', '{"city":"Rom"}']
    function = {key: WEATHER[key] for key in ("name", "description", "parameters", "strict")}
    assert sent(upstream)["tools"] == [{"type": "function", "function": function}]


@pytest.mark.parametrize("is_streamed", [True, False])
async def test_encrypted_reasoning_goes_out_and_back_over_this_apis_own_wire(
    relay: RelayUnderTest, upstream: H2Server, is_streamed: bool
) -> None:
    text = responses_text
    reasoning = {
        "type": "reasoning",
        "id": "rs_upstream",
        "summary": [{"type": "summary_text", "text": "Hm."}],
        "encrypted_content": "gAAASECRET",
    }
    called = {
        "type": "function_call",
        "id": "fc_upstream",
        "call_id": "call_1",
        "name": "weather",
        "arguments": '{"city":"Ulm"}',
        "status": "completed",
    }
    completed = {**text.RESPONSE, "status": "completed", "usage": text.USAGE}
    first = [
        text.created(),
        text.done(0, **reasoning),
        text.added(1, **{**called, "arguments": ""}),
        text.done(1, **called),
        text.event("response.completed", response=completed),
    ]
    second = [
        text.created(),
        text.text("Rain."),
        text.event("response.completed", response=completed),
    ]
    upstream.routes[RESPONSES] = in_turn(stream_chunks(first), stream_chunks(second))
    async with relay.openai() as client:
        told, _ = await run_tools(
            client,
            "native",
            is_streamed=is_streamed,
            reasoning={"effort": "low", "summary": "auto"},
        )
    assert told.output_text == "Rain."
    assert told.usage is not None
    assert told.usage.output_tokens_details.reasoning_tokens == 6
    asked = sent(upstream, RESPONSES)
    assert asked["store"] is False
    assert asked["reasoning"] == {"effort": "low", "summary": "auto"}
    assert asked["input"][1] == reasoning
    assert [item.get("type") for item in asked["input"]] == [
        None,
        "reasoning",
        "function_call",
        "function_call_output",
    ]


async def test_signed_thoughts_go_out_and_back_over_anthropics_wire(
    relay: RelayUnderTest, upstream: H2Server
) -> None:
    text = anthropic_text
    thinking = [
        text.start(),
        text.block(0, {"type": "thinking", "thinking": "", "signature": ""}),
        text.delta(0, "thinking_delta", thinking="Hm."),
        text.delta(0, "signature_delta", signature="SIGNED"),
        text.stop(0),
        text.call(1, "toolu_1", "weather", '{"city":', '"Ulm"}'),
        text.ending("tool_use"),
        text.STOP,
    ]
    spoken = [text.start(), text.text(0, "Rain."), text.ending(), text.STOP]
    upstream.routes[MESSAGES] = in_turn(stream_chunks(thinking), stream_chunks(spoken))
    async with relay.openai() as client:
        told, items = await run_tools(
            client,
            "claude",
            is_streamed=True,
            reasoning={"effort": "low", "summary": "auto"},
            max_output_tokens=5000,
        )
    assert told.output_text == "Rain."
    assert [item.type for item in items[1:3]] == ["reasoning", "function_call"]
    assert items[1].summary[0].text == "Hm."
    turn = sent(upstream, MESSAGES)["messages"][1]
    assert turn["content"][0] == {"type": "thinking", "thinking": "Hm.", "signature": "SIGNED"}
    assert turn["content"][1]["type"] == "tool_use"


async def test_policy_of_the_body_and_the_relays_account(relay: RelayUnderTest) -> None:
    async with relay.openai() as client:
        told = await client.responses.create(
            model="unknown",
            input="Hi",
            extra_body={"relay": {"timeline": True, "route": "fast"}, "new_field": 1},
        )
    assert told.usage is not None
    facts = (told.usage.model_extra or {})["x_relay"]
    assert facts["provider"] == "lab"
    assert facts["wall_us"] == sum(facts["timeline_us"].values())


# --- order and ends -------------------------------------------------------------------------------


async def test_first_text_leaves_before_the_second_comes(
    relay: RelayUnderTest, upstream: H2Server
) -> None:
    heard = asyncio.Event()

    async def story(stream: ServerStream) -> None:
        await stream.send_headers()
        await stream.send(chunk({"content": "One"}))
        await heard.wait()
        for part in (chunk({"content": "Two"}), chunk(finish="stop"), DONE):
            await stream.send(part)
        await stream.end()

    upstream.routes[CHAT] = story
    deltas = []
    async with relay.openai() as client:
        async for event in await client.responses.create(model="fast", input="Hi", stream=True):
            if event.type == "response.output_text.delta":
                deltas.append(event.delta)
                heard.set()
    assert deltas == ["One", "Two"]


async def test_cut_stream_is_raised_and_never_completed(
    relay: RelayUnderTest, upstream: H2Server
) -> None:
    upstream.routes[CHAT] = stream_chunks([chunk({"content": "One"})])
    kinds: list[str] = []

    async def listen(client: openai.AsyncOpenAI) -> None:
        stream: Any = await client.responses.create(model="fast", input="Hi", stream=True)
        async for event in stream:
            kinds.append(event.type)  # noqa: PERF401 - what came before the error counts

    async with relay.openai() as client:
        with pytest.raises(openai.APIError, match="finish reason"):
            await listen(client)
    assert kinds[-1] == "response.output_text.delta"
    body = {"model": "fast", "input": "Hi", "stream": True}
    told = (await relay.http.post("/v1/responses", json=body)).text
    names = [line[7:] for line in told.split("\n") if line.startswith("event: ")]
    assert names[-2:] == ["error", "response.failed"]
    assert "response.completed" not in told
    assert "[DONE]" not in told


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, openai.BadRequestError),
        (429, openai.RateLimitError),
        (500, openai.InternalServerError),
    ],
)
async def test_failure_before_the_first_token_has_its_status(
    relay: RelayUnderTest, upstream: H2Server, status: int, error: type[openai.APIStatusError]
) -> None:
    upstream.routes[CHAT] = answer(status, b'{"error":{"message":"failed so","type":"x"}}')
    create: Any
    async with relay.openai() as client:
        create = client.responses.create
        for stream in (False, True):
            with pytest.raises(error, match="failed so"):
                await create(model="fast", input="Hi", stream=stream)


async def test_stream_that_is_closed_early_cancels(
    relay: RelayUnderTest, upstream: H2Server
) -> None:
    upstream.routes[CHAT] = stream_chunks([chunk({"content": "One"})], end=False)
    async with relay.openai() as client:
        stream: Any = await client.responses.create(model="fast", input="Hi", stream=True)
        assert (await anext(stream)).type == "response.created"
        await stream.close()
        seen = upstream.requests(CHAT)[0]
        await upstream.until(lambda: seen.reset_code == CANCEL)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"background": True}, "background"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input[0]"),
        ({"stream": "yes"}, "stream"),
    ],
)
async def test_what_is_refused_is_named_and_reaches_no_provider(
    relay: RelayUnderTest, upstream: H2Server, fields: Document, field: str
) -> None:
    body = {"model": "fast", "input": "Hi", **fields}
    told = await relay.http.post("/v1/responses", json=body)
    assert told.status_code == 400
    assert told.json()["error"]["param"] == field
    assert field in told.json()["error"]["message"]
    assert not upstream.requests(CHAT)


async def test_hosted_tool_is_refused_where_no_candidate_can_have_it(
    relay: RelayUnderTest, upstream: H2Server
) -> None:
    body = {"model": "fast", "input": "Hi", "tools": [{"type": "web_search"}]}
    told = await relay.http.post("/v1/responses", json=body)
    assert told.status_code == 400
    assert "a tool of type web_search" in told.json()["error"]["message"]
    assert not upstream.requests(CHAT)


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_other_methods(relay: RelayUnderTest, method: str) -> None:
    told = await relay.http.request(method, "/v1/responses")
    assert told.status_code == 405
    assert told.headers["allow"] == "POST"
    assert told.json()["error"]["type"] == "invalid_request_error"


async def test_nothing_is_kept_unless_it_is_configured(relay: RelayUnderTest) -> None:
    async with relay.openai() as client:
        told = await client.responses.create(model="fast", input="Hi", store=True)
        assert (told.model_extra or {})["store"] is False
        with pytest.raises(openai.NotFoundError):
            await client.responses.retrieve(told.id)


# --- kept responses -------------------------------------------------------------------------------


async def test_conversation_goes_on_from_what_is_kept(
    keeping: RelayUnderTest, upstream: H2Server
) -> None:
    async with keeping.openai() as client:
        first = await client.responses.create(model="fast", input="One", instructions="Be brief.")
        stream = await client.responses.create(
            model="fast", input="Two", previous_response_id=first.id, stream=True
        )
        events = [event async for event in stream]
        second: Any = events[-1]
        second = second.response
        third = await client.responses.create(
            model="fast", input="Three", previous_response_id=second.id
        )
    assert third.previous_response_id == second.id
    assert [message["content"] for message in sent(upstream)["messages"]] == [
        "One",
        "Hello!",
        "Two",
        "Hello!",
        "Three",
    ]


async def test_tool_loop_with_results_alone(keeping: RelayUnderTest, upstream: H2Server) -> None:
    upstream.routes[CHAT] = in_turn(calls_weather("Ulm"), stream_chunks(answer_chunks("Rain.")))
    async with keeping.openai() as client:
        asked = await client.responses.create(model="fast", input="Weather?", tools=[WEATHER])
        output: Any = {"type": "function_call_output", "call_id": "call_0", "output": "rain"}
        told = await client.responses.create(
            model="fast", input=[output], tools=[WEATHER], previous_response_id=asked.id
        )
    assert told.output_text == "Rain."
    roles = [message["role"] for message in sent(upstream)["messages"]]
    assert roles == ["user", "assistant", "tool"]


async def test_kept_response_is_read_and_deleted_by_its_tenant_alone(
    keeping: RelayUnderTest,
) -> None:
    async with keeping.openai() as client, keeping.openai(api_key="another") as stranger:
        told = await client.responses.create(model="fast", input="Hi")
        assert (await client.responses.retrieve(told.id)).to_dict() == told.to_dict()
        with pytest.raises(openai.NotFoundError):
            await stranger.responses.retrieve(told.id)
        with pytest.raises(openai.BadRequestError) as raised:
            await stranger.responses.create(model="fast", input="Hi", previous_response_id=told.id)
        assert raised.value.code == "previous_response_not_found"
        assert raised.value.param == "previous_response_id"
        with pytest.raises(openai.NotFoundError):
            await stranger.responses.delete(told.id)
        await client.responses.delete(told.id)
        with pytest.raises(openai.NotFoundError, match="not found"):
            await client.responses.retrieve(told.id)


async def test_what_may_not_be_kept_is_not(keeping: RelayUnderTest) -> None:
    async with keeping.openai() as client:
        told = await client.responses.create(model="fast", input="Hi", store=False)
        with pytest.raises(openai.NotFoundError):
            await client.responses.retrieve(told.id)
