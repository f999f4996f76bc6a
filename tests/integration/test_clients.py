"""The clients people have, unchanged: the examples of our own package as they stand in its README,
and the official OpenAI client, async and sync, streamed and whole, with tools and with errors."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import openai
import orjson
import pydantic
import pytest
from openai.types.chat import ChatCompletionToolParam

from tests.fakes.h2_server import (
    CANCEL,
    H2Server,
    Script,
    ServerStream,
    answer,
    stream_chunks,
)
from tests.fakes.relay_under_test import (
    DONE,
    RelayUnderTest,
    answer_chunks,
    chunk,
    provider,
    relay_under_test,
)

pytestmark = pytest.mark.sockets

CHAT = "/v1/chat/completions"
EXAMPLES = Path(__file__).resolve().parents[2] / "clients" / "python" / "examples"
HELLO: Any = [{"role": "user", "content": "Hello"}]


@pytest.fixture
async def relay(upstream: H2Server, ca_file: str) -> AsyncIterator[RelayUnderTest]:
    upstream.routes[CHAT] = stream_chunks(answer_chunks("Hel", "lo", "!"))
    document = {
        "providers": {"lab": provider(upstream.url, ca_file=ca_file, models=["m"])},
        "models": {
            "fast": {
                "candidates": [{"provider": "lab", "model": "m"}],
                "timeouts": {"first_token_ms": 1000, "inter_token_ms": 1000},
            }
        },
    }
    async with relay_under_test(document) as running:
        yield running
        await running.settled()


# --- the examples ---------------------------------------------------------------------------------


async def run_example(relay: RelayUnderTest, name: str) -> str:
    """Run an example against the relay; what it prints."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(EXAMPLES / name),
        env={**os.environ, "RTRELAY_ADDRESS": f"127.0.0.1:{relay.worker.grpc_port}"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(), 20)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, err.decode()
    assert not err, err.decode()
    return out.decode()


async def test_example_streams_an_answer(relay: RelayUnderTest) -> None:
    printed = await run_example(relay, "stream.py")
    assert printed.startswith("Hello!\n\nlab m\n")
    assert "completion_tokens" in printed
    assert "first_content_us" in printed


async def test_example_barges_in(relay: RelayUnderTest, upstream: H2Server) -> None:
    async def story(stream: ServerStream) -> None:
        if "how it ends" in stream.body.decode():
            await stream_chunks(answer_chunks("They all", " lived."))(stream)
            return
        await stream.send_headers()
        while True:
            await stream.send(chunk({"content": "and the light turned "}))
            await asyncio.sleep(0.005)

    upstream.routes[CHAT] = story
    printed = await run_example(relay, "barge_in.py")
    assert "[g1: OUTCOME_CANCELLED" in printed
    assert "They all lived." in printed
    assert "[g2: OUTCOME_COMPLETED" in printed
    first, second = upstream.requests(CHAT)
    assert first.reset_code == CANCEL
    # Of the first answer the second prompt holds what was heard, and no more.
    heard = orjson.loads(second.body)["messages"][1]
    assert heard["role"] == "assistant"
    assert 80 <= len(heard["content"]) < 200


# --- the official client --------------------------------------------------------------------------


class Sync:
    """The sync client behind the async one's methods, each call in a thread: one test for both."""

    def __init__(self, client: openai.OpenAI) -> None:
        self.client = client

    async def create(self, **request: Any) -> Any:
        create: Any = self.client.chat.completions.create
        return await asyncio.to_thread(create, **request)

    async def chunks(self, **request: Any) -> list[Any]:
        def read() -> list[Any]:
            return list(self.client.chat.completions.create(**request, stream=True))

        return await asyncio.to_thread(read)

    async def models(self) -> list[str]:
        return await asyncio.to_thread(lambda: [row.id for row in self.client.models.list()])


class Async:
    """The async client."""

    def __init__(self, client: openai.AsyncOpenAI) -> None:
        self.client = client

    async def create(self, **request: Any) -> Any:
        return await self.client.chat.completions.create(**request)

    async def chunks(self, **request: Any) -> list[Any]:
        stream: Any = await self.client.chat.completions.create(**request, stream=True)
        return [part async for part in stream]

    async def models(self) -> list[str]:
        return [row.id async for row in self.client.models.list()]


Client = Sync | Async


@asynccontextmanager
async def connected(relay: RelayUnderTest, kind: str, **options: Any) -> AsyncIterator[Client]:
    if kind == "async":
        async with relay.openai(**options) as client:
            yield Async(client)
    else:
        http = openai.DefaultHttpxClient(trust_env=False)
        with openai.OpenAI(
            base_url=relay.base_url, api_key="any", http_client=http, **options
        ) as blocking:
            yield Sync(blocking)


both = pytest.mark.parametrize("kind", ["async", "sync"])


@both
async def test_stream(relay: RelayUnderTest, kind: str) -> None:
    async with connected(relay, kind) as client:
        parts = await client.chunks(
            model="fast", messages=HELLO, stream_options={"include_usage": True}
        )
    assert "".join(part.choices[0].delta.content or "" for part in parts[:-1]) == "Hello!"
    assert parts[-2].choices[0].finish_reason == "stop"
    assert parts[-1].choices == []
    assert parts[-1].usage.total_tokens > 0


@both
async def test_whole_answer(relay: RelayUnderTest, kind: str) -> None:
    async with connected(relay, kind) as client:
        completion = await client.create(model="fast", messages=HELLO)
    assert completion.object == "chat.completion"
    assert completion.choices[0].message.content == "Hello!"
    assert completion.choices[0].message.role == "assistant"
    assert completion.choices[0].finish_reason == "stop"
    assert completion.usage.total_tokens > 0


@both
async def test_models(relay: RelayUnderTest, kind: str) -> None:
    async with connected(relay, kind) as client:
        assert await client.models() == ["fast", "lab/m"]


@pytest.mark.parametrize("kind", ["deployments", "v1"])
async def test_azure_s_client(relay: RelayUnderTest, kind: str) -> None:
    root = relay.base_url.removesuffix("/v1")
    http = openai.DefaultAsyncHttpxClient(trust_env=False)
    client: openai.AsyncOpenAI
    if kind == "v1":
        client = openai.AsyncOpenAI(
            base_url=f"{root}/openai/v1/", api_key="any", http_client=http, max_retries=0
        )
    else:
        client = openai.AsyncAzureOpenAI(
            azure_endpoint=root,
            api_version="2025-01-01",
            api_key="any",
            http_client=http,
            max_retries=0,
        )
    async with client:
        whole = await client.chat.completions.create(model="fast", messages=HELLO)
        assert whole.choices[0].message.content == "Hello!"
        with pytest.raises(openai.NotFoundError) as raised:
            await client.chat.completions.create(model="nobody", messages=HELLO)
    assert raised.value.code == "model_not_found"


@pytest.mark.parametrize(
    "path", ["deployments//chat/completions", "deployments/completions", "deployments/fast"]
)
async def test_what_is_no_deployment(relay: RelayUnderTest, path: str) -> None:
    response = await relay.http.post(f"/openai/{path}", json={})
    assert response.status_code == 404


WEATHER: ChatCompletionToolParam = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
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


@both
async def test_tool_calls_and_their_results(
    relay: RelayUnderTest, upstream: H2Server, kind: str
) -> None:
    upstream.routes[CHAT] = calls_weather("Ulm", "Rom")
    async with connected(relay, kind) as client:
        asked = await client.create(model="fast", messages=HELLO, tools=[WEATHER])
        message = asked.choices[0].message
        assert asked.choices[0].finish_reason == "tool_calls"
        assert message.content is None
        assert [(c.id, c.function.name, c.function.arguments) for c in message.tool_calls] == [
            ("call_0", "weather", '{"city":"Ulm"}'),
            ("call_1", "weather", '{"city":"Rom"}'),
        ]
        streamed = await client.chunks(model="fast", messages=HELLO, tools=[WEATHER])
        pieces = [call for part in streamed for call in part.choices[0].delta.tool_calls or ()]
        assert [piece.id for piece in pieces if piece.id] == ["call_0", "call_1"]
        assert "".join(p.function.arguments for p in pieces if p.index == 1) == '{"city":"Rom"}'
        # The results go back, and the provider gets the conversation as it was.
        upstream.routes[CHAT] = stream_chunks(answer_chunks("Rain."))
        results = [
            {"role": "tool", "tool_call_id": call.id, "content": "rain"}
            for call in message.tool_calls
        ]
        history = [*HELLO, message.model_dump(exclude_none=True), *results]
        answered = await client.create(model="fast", messages=history, tools=[WEATHER])
        assert answered.choices[0].message.content == "Rain."
    sent = orjson.loads(upstream.requests(CHAT)[-1].body)
    assert [m["role"] for m in sent["messages"]] == ["user", "assistant", "tool", "tool"]
    assert [c["id"] for c in sent["messages"][1]["tool_calls"]] == ["call_0", "call_1"]
    assert sent["tools"] == [WEATHER]


async def test_stream_helper_with_tools(relay: RelayUnderTest, upstream: H2Server) -> None:
    upstream.routes[CHAT] = calls_weather("Ulm")
    async with (
        relay.openai() as client,
        client.chat.completions.stream(model="fast", messages=HELLO, tools=[WEATHER]) as stream,
    ):
        kinds = [event.type async for event in stream]
        final = await stream.get_final_completion()
    assert "tool_calls.function.arguments.done" in kinds
    assert final.choices[0].message.tool_calls
    assert final.choices[0].message.tool_calls[0].function.arguments == '{"city":"Ulm"}'


class Place(pydantic.BaseModel):
    city: str


async def test_structured_output(relay: RelayUnderTest, upstream: H2Server) -> None:
    upstream.routes[CHAT] = stream_chunks(answer_chunks('{"city":', ' "Ulm"}'))
    async with relay.openai() as client:
        parsed = await client.chat.completions.parse(
            model="fast", messages=HELLO, response_format=Place
        )
    assert parsed.choices[0].message.parsed == Place(city="Ulm")
    sent = orjson.loads(upstream.requests(CHAT)[0].body)["response_format"]
    assert sent["type"] == "json_schema"
    assert sent["json_schema"]["strict"] is True
    assert sent["json_schema"]["schema"]["required"] == ["city"]


async def test_what_the_relay_adds_is_readable(relay: RelayUnderTest) -> None:
    async with relay.openai() as client:
        raw = await client.chat.completions.with_raw_response.create(
            model="fast",
            messages=HELLO,
            extra_body={"x_relay": {"timeline": True}},
            extra_headers={"x-relay-turn-id": "t1"},
        )
    assert raw.headers["x-relay-provider"] == "lab"
    assert raw.headers["x-relay-model"] == "m"
    usage = raw.parse().usage
    assert usage is not None
    facts = (usage.model_extra or {})["x_relay"]
    assert facts["provider"] == "lab"
    assert facts["wall_us"] == sum(facts["timeline_us"].values())


def failing(status: int, code: str = "") -> Script:
    error = {"message": f"failed with {status}", "type": "some_error", "code": code or None}
    return answer(status, orjson.dumps({"error": error}))


@both
@pytest.mark.parametrize(
    ("script", "error", "status"),
    [
        pytest.param(failing(400), openai.BadRequestError, 400, id="bad_request"),
        pytest.param(failing(401), openai.InternalServerError, 503, id="our_key_refused"),
        pytest.param(failing(403), openai.PermissionDeniedError, 403, id="forbidden"),
        pytest.param(failing(404), openai.NotFoundError, 404, id="no_model"),
        pytest.param(failing(429), openai.RateLimitError, 429, id="rate_limit"),
        pytest.param(failing(429, "insufficient_quota"), openai.RateLimitError, 429, id="quota"),
        pytest.param(failing(500), openai.InternalServerError, 503, id="fault"),
        pytest.param(failing(504), openai.InternalServerError, 504, id="timeout"),
    ],
)
async def test_errors_have_the_classes_that_clients_catch(
    relay: RelayUnderTest,
    upstream: H2Server,
    kind: str,
    script: Script,
    error: type[openai.APIStatusError],
    status: int,
) -> None:
    upstream.routes[CHAT] = script
    # The client's own retries are on: the relay says that another try is of no use.
    async with connected(relay, kind, max_retries=2) as client:
        with pytest.raises(error) as caught:
            await client.create(model="fast", messages=HELLO)
        assert caught.value.status_code == status
        assert "failed with" in caught.value.message
        with pytest.raises(error):
            await client.chunks(model="fast", messages=HELLO)
    assert len(upstream.requests(CHAT)) == 2


@both
async def test_error_inside_a_stream_is_raised(
    relay: RelayUnderTest, upstream: H2Server, kind: str
) -> None:
    upstream.routes[CHAT] = stream_chunks([chunk({"content": "One"})])
    async with connected(relay, kind) as client:
        with pytest.raises(openai.APIError, match="finish reason"):
            await client.chunks(model="fast", messages=HELLO)


@both
async def test_client_that_runs_out_of_time_cancels(
    relay: RelayUnderTest, upstream: H2Server, kind: str
) -> None:
    upstream.routes[CHAT] = ServerStream.hang
    async with connected(relay, kind, timeout=0.3, max_retries=0) as client:
        with pytest.raises(openai.APITimeoutError):
            await client.create(model="fast", messages=HELLO)
        stream = upstream.requests(CHAT)[0]
        await upstream.until(lambda: stream.reset_code == CANCEL)


async def test_stream_that_is_closed_early_cancels(
    relay: RelayUnderTest, upstream: H2Server
) -> None:
    upstream.routes[CHAT] = stream_chunks([chunk({"content": "One"})], end=False)
    async with relay.openai() as client:
        stream: Any = await client.chat.completions.create(
            model="fast", messages=HELLO, stream=True
        )
        assert (await anext(stream)).choices[0].delta.content == "One"
        await stream.close()
        seen = upstream.requests(CHAT)[0]
        await upstream.until(lambda: seen.reset_code == CANCEL)


async def test_many_at_once(relay: RelayUnderTest) -> None:
    async with connected(relay, "async") as client:
        every = await asyncio.gather(
            *(client.create(model="fast", messages=HELLO) for _ in range(64))
        )
    assert {one.choices[0].message.content for one in every} == {"Hello!"}
    assert len({one.id for one in every}) == 1, "the provider's own id is passed on"
