"""Anthropic's official client, unmodified, at a whole worker: in front of a provider of its own
wire and of one that speaks OpenAI's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import anthropic
import orjson
import pydantic
import pytest

from relay.governance.gate import OpenGate
from relay.governance.tenant import Tenants
from tests.codecs import anthropic_text as wire
from tests.fakes.h2_server import (
    CANCEL,
    H2Server,
    Script,
    ServerStream,
    answer,
    cut,
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
MESSAGES = "/v1/messages"
HELLO: Any = [{"role": "user", "content": "Hello"}]
ASK: dict[str, Any] = {"max_tokens": 100, "messages": HELLO}
WEATHER: Any = {
    "name": "weather",
    "description": "Weather of a city",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
}
THINK: Any = {"type": "enabled", "budget_tokens": 1024}


def claude_says(*blocks: bytes, reason: str = "end_turn") -> Script:
    """A stream of the Messages API."""
    counts = {"input_tokens": 10, "output_tokens": 7, "cache_read_input_tokens": 5}
    return stream_chunks([wire.start(), *blocks, wire.ending(reason, counts), wire.STOP])


def thought(index: int, text: str, signature: str) -> bytes:
    return (
        wire.block(index, {"type": "thinking", "thinking": "", "signature": ""})
        + wire.delta(index, "thinking_delta", thinking=text)
        + wire.delta(index, "signature_delta", signature=signature)
        + wire.stop(index)
    )


def chat_calls(*cities: str) -> Script:
    """The tool called for each city, in OpenAI's format."""
    parts = []
    for index, city in enumerate(cities):
        function = {"name": "weather", "arguments": orjson.dumps({"city": city}).decode()}
        call = {"index": index, "id": f"call_{index}", "type": "function", "function": function}
        parts.append(chunk({"tool_calls": [call]}))
    return stream_chunks([*parts, chunk(finish="tool_calls"), DONE])


@pytest.fixture
async def relay(upstream: H2Server, ca_file: str) -> AsyncIterator[RelayUnderTest]:
    upstream.routes[CHAT] = stream_chunks(answer_chunks("Hel", "lo", "!"))
    upstream.routes[MESSAGES] = claude_says(wire.text(0, "Hel", "lo", "!"))
    own = {**provider(upstream.url, ca_file=ca_file, models=["c"]), "wire": "anthropic_messages"}
    document = {
        "providers": {
            "lab": provider(upstream.url, ca_file=ca_file, models=["m"]),
            "claude": {**own, "base_url": upstream.url},
        },
        "models": {
            name: {
                "candidates": [{"provider": row, "model": model}],
                "timeouts": {"first_token_ms": 1000, "inter_token_ms": 1000},
            }
            for name, row, model in [("fast", "lab", "m"), ("claude", "claude", "c")]
        },
    }
    async with relay_under_test(document) as running:
        yield running
        await running.settled()


either = pytest.mark.parametrize("model", ["fast", "claude"])


def last_body(upstream: H2Server, path: str = MESSAGES) -> Any:
    return orjson.loads(upstream.requests(path)[-1].body)


# --- text ---------------------------------------------------------------------------------------


@either
async def test_create(relay: RelayUnderTest, model: str) -> None:
    async with relay.anthropic() as client:
        message = await client.messages.create(model=model, **ASK)
    assert [(block.type, block.text) for block in message.content] == [("text", "Hello!")]
    assert (message.role, message.stop_reason) == ("assistant", "end_turn")
    assert message.usage.output_tokens > 0


@either
async def test_stream(relay: RelayUnderTest, model: str) -> None:
    async with relay.anthropic() as client, client.messages.stream(model=model, **ASK) as stream:
        pieces = [piece async for piece in stream.text_stream]
        message = await stream.get_final_message()
        request_id = stream.response.headers["request-id"]
    assert pieces == ["Hel", "lo", "!"]
    assert message.stop_reason == "end_turn"
    assert message.usage.input_tokens > 0
    assert request_id == stream.response.headers["x-relay-request-id"]


@either
async def test_the_sync_client(relay: RelayUnderTest, model: str) -> None:
    url = f"http://127.0.0.1:{relay.worker.http_port}"

    def talk() -> tuple[str, str]:
        http = anthropic.DefaultHttpxClient(trust_env=False)
        with anthropic.Anthropic(base_url=url, api_key="any", http_client=http) as client:
            message = client.messages.create(model=model, **ASK)
            with client.messages.stream(model=model, **ASK) as stream:
                streamed = stream.get_final_text()
            assert message.content[0].type == "text"
            return message.content[0].text, streamed

    assert await asyncio.to_thread(talk) == ("Hello!", "Hello!")


async def test_counts_of_the_provider_are_passed_on(relay: RelayUnderTest) -> None:
    async with relay.anthropic() as client:
        message = await client.messages.create(model="claude", **ASK)
    usage = message.usage
    assert (usage.input_tokens, usage.cache_read_input_tokens, usage.output_tokens) == (10, 5, 7)


async def test_the_relay_s_policy_works_as_in_chat(relay: RelayUnderTest) -> None:
    async with relay.anthropic() as client:
        raw = await client.messages.with_raw_response.create(
            model="no-such-model",
            extra_body={"relay": {"route": "fast", "timeline": True}},
            **ASK,
        )
    assert raw.headers["x-relay-provider"] == "lab"
    facts: Any = (await raw.parse()).usage.model_extra
    assert facts["x_relay"]["wall_us"] == sum(facts["x_relay"]["timeline_us"].values())


@pytest.mark.parametrize("header", ["x-api-key", "authorization"])
async def test_the_key_names_the_tenant(
    relay: RelayUnderTest, upstream: H2Server, header: str
) -> None:
    tenants = Tenants("salt")
    relay.worker.services.gate = OpenGate(tenants)
    seen: list[str] = []
    admit = relay.worker.services.ledger.admit

    async def note(asked: Any) -> Any:
        seen.append(asked.request.policy.tenant)
        return await admit(asked)

    relay.worker.services.ledger.admit = note  # type: ignore[method-assign]
    key = {"api_key": "k-1"} if header == "x-api-key" else {"api_key": None, "auth_token": "k-1"}
    async with relay.anthropic(**key) as client:
        await client.messages.create(model="claude", **ASK)
    assert seen == [tenants.name("Bearer k-1")]
    assert upstream.requests(MESSAGES)[-1].header("x-api-key") is None, "never forwarded"
    assert upstream.requests(MESSAGES)[-1].header("authorization") is None


# --- what the provider gets ---------------------------------------------------------------------


async def test_claude_gets_what_the_client_said(relay: RelayUnderTest, upstream: H2Server) -> None:
    mark = {"type": "ephemeral"}
    turn: Any = [
        {"type": "text", "text": "I look.", "citations": []},
        {"type": "thinking", "thinking": "Hm", "signature": "s"},
        {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Ulm"}},
    ]
    result: Any = {
        "type": "tool_result",
        "tool_use_id": "toolu_1",
        "content": "rain",
        "is_error": True,
    }
    search: Any = {"type": "web_search_20250305", "name": "web_search", "max_uses": 1}
    lazy: Any = {**WEATHER, "defer_loading": True}
    async with relay.anthropic() as client:
        await client.messages.create(
            model="claude",
            max_tokens=2000,
            system=[{"type": "text", "text": "Be kind.", "cache_control": {"type": "ephemeral"}}],
            messages=[
                *HELLO,
                {"role": "assistant", "content": turn},
                {"role": "user", "content": [result]},
            ],
            tools=[lazy, search],
            tool_choice={"type": "auto", "disable_parallel_tool_use": True},
            thinking=THINK,
            metadata={"user_id": "u1"},
            stop_sequences=["END"],
            service_tier="standard_only",
            extra_headers={"anthropic-beta": "one-2026-01-01,two-2026-01-01"},
            extra_body={"brand_new": {"a": 1}},
        )
    assert (
        upstream.requests(MESSAGES)[-1].header("anthropic-beta") == "one-2026-01-01,two-2026-01-01"
    )
    assert last_body(upstream) == {
        "model": "c",
        "max_tokens": 2000,
        "stream": True,
        "system": [{"type": "text", "text": "Be kind.", "cache_control": mark}],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "Hello"}]},
            {"role": "assistant", "content": turn},
            {"role": "user", "content": [result]},
        ],
        "tools": [lazy, search],
        "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
        "thinking": THINK,
        "metadata": {"user_id": "u1"},
        "stop_sequences": ["END"],
        "service_tier": "standard_only",
        "brand_new": {"a": 1},
    }


async def test_another_wire_gets_what_it_can_read(
    relay: RelayUnderTest, upstream: H2Server
) -> None:
    turn: Any = [
        {"type": "thinking", "thinking": "Hm", "signature": "s"},
        {"type": "text", "text": "I look."},
        {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Ulm"}},
    ]
    result: Any = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "rain"}
    lazy: Any = {**WEATHER, "defer_loading": True}
    turns: Any = [
        *HELLO,
        {"role": "assistant", "content": turn},
        {"role": "user", "content": [{**result, "is_error": True}]},
    ]
    async with relay.anthropic() as client:
        await client.messages.create(
            model="fast",
            max_tokens=2000,
            system="Be kind.",
            messages=turns,
            tools=[lazy],
            thinking={"type": "disabled"},
            extra_headers={"anthropic-beta": "one"},
            extra_body={"container": "c", "brand_new": 1},
        )
    sent = last_body(upstream, CHAT)
    assert upstream.requests(CHAT)[-1].header("anthropic-beta") is None
    assert [message["role"] for message in sent["messages"]] == [
        "system",
        "user",
        "assistant",
        "tool",
    ]
    assert sent["messages"][2]["tool_calls"][0]["function"]["arguments"] == '{"city":"Ulm"}'
    assert sent["messages"][3] == {"role": "tool", "tool_call_id": "toolu_1", "content": "rain"}
    assert sent["tools"][0]["function"]["parameters"] == WEATHER["input_schema"]
    assert not {"container", "brand_new", "thinking", "system"} & sent.keys()


async def test_what_another_wire_cannot_say_is_refused_by_name(
    relay: RelayUnderTest, upstream: H2Server
) -> None:
    search: Any = {"type": "web_search_20250305", "name": "web_search"}
    async with relay.anthropic() as client:
        with pytest.raises(anthropic.BadRequestError, match="web_search_20250305"):
            await client.messages.create(model="fast", tools=[search], **ASK)
    assert not upstream.requests(CHAT)


# --- tools --------------------------------------------------------------------------------------


@either
async def test_a_tool_loop(relay: RelayUnderTest, upstream: H2Server, model: str) -> None:
    upstream.routes[CHAT] = chat_calls("Ulm", "Rom")
    upstream.routes[MESSAGES] = claude_says(
        thought(0, "Hm", "sig"),
        wire.call(1, "call_0", "weather", '{"ci', 'ty":"Ulm"}'),
        wire.call(2, "call_1", "weather", '{"city":"Rom"}'),
        reason="tool_use",
    )
    ask: dict[str, Any] = {
        "model": model,
        "max_tokens": 2000,
        "tools": [WEATHER],
        "thinking": THINK,
    }
    async with relay.anthropic() as client:
        message = await client.messages.create(messages=HELLO, **ask)
        async with client.messages.stream(messages=HELLO, **ask) as stream:
            streamed = await stream.get_final_message()
        calls = [block for block in message.content if block.type == "tool_use"]
        assert [(one.id, one.name, one.input) for one in calls] == [
            ("call_0", "weather", {"city": "Ulm"}),
            ("call_1", "weather", {"city": "Rom"}),
        ]
        assert message.stop_reason == "tool_use"
        assert [b.to_dict() for b in streamed.content] == [b.to_dict() for b in message.content]
        upstream.routes[CHAT] = stream_chunks(answer_chunks("Rain."))
        upstream.routes[MESSAGES] = claude_says(wire.text(0, "Rain."))
        results: Any = [
            {"type": "tool_result", "tool_use_id": call.id, "content": "rain"} for call in calls
        ]
        last = await client.messages.create(
            messages=[
                *HELLO,
                {"role": "assistant", "content": message.content},
                {"role": "user", "content": results},
            ],
            **ask,
        )
    assert last.content[0].type == "text"
    assert last.content[0].text == "Rain."
    if model == "claude":
        sent = last_body(upstream)["messages"]
        assert sent[1]["content"][0] == {
            "type": "thinking",
            "thinking": "Hm",
            "signature": "sig",
        }
        assert [block["tool_use_id"] for block in sent[2]["content"]] == ["call_0", "call_1"]
    else:
        sent = last_body(upstream, CHAT)["messages"]
        assert [one["role"] for one in sent] == ["user", "assistant", "tool", "tool"]


@either
async def test_the_client_s_own_tool_runner(
    relay: RelayUnderTest, upstream: H2Server, model: str
) -> None:
    asked: list[str] = []

    @anthropic.beta_async_tool
    async def weather(city: str) -> str:
        """Weather of a city.

        Args:
            city: its name
        """
        asked.append(city)
        upstream.routes[CHAT] = stream_chunks(answer_chunks("Rain."))
        upstream.routes[MESSAGES] = claude_says(wire.text(0, "Rain."))
        return "rain"

    upstream.routes[CHAT] = chat_calls("Ulm")
    upstream.routes[MESSAGES] = claude_says(
        wire.call(0, "call_0", "weather", '{"city":"Ulm"}'), reason="tool_use"
    )
    async with relay.anthropic() as client:
        runner = client.beta.messages.tool_runner(model=model, tools=[weather], **ASK)
        last = await runner.until_done()
    assert asked == ["Ulm"]
    assert last.content[0].type == "text"
    assert last.content[0].text == "Rain."


class Place(pydantic.BaseModel):
    city: str


@either
async def test_structured_output(relay: RelayUnderTest, upstream: H2Server, model: str) -> None:
    upstream.routes[CHAT] = stream_chunks(answer_chunks('{"city":', ' "Ulm"}'))
    upstream.routes[MESSAGES] = claude_says(wire.text(0, '{"city":', ' "Ulm"}'))
    async with relay.anthropic() as client:
        parsed = await client.messages.parse(model=model, output_format=Place, **ASK)
    assert parsed.parsed_output == Place(city="Ulm")
    if model == "claude":
        shape = last_body(upstream)["output_config"]["format"]
        assert shape["schema"]["required"] == ["city"]
    else:
        schema = last_body(upstream, CHAT)["response_format"]["json_schema"]
        assert schema["strict"] is True


# --- errors -------------------------------------------------------------------------------------


def failing(status: int, kind: str) -> Script:
    error = {"type": "error", "error": {"type": kind, "message": f"failed with {status}"}}
    return answer(status, orjson.dumps(error))


@pytest.mark.parametrize(
    ("script", "error", "status", "kind"),
    [
        (
            failing(400, "invalid_request_error"),
            anthropic.BadRequestError,
            400,
            "invalid_request_error",
        ),
        (failing(401, "authentication_error"), anthropic.InternalServerError, 503, "api_error"),
        (
            failing(403, "permission_error"),
            anthropic.PermissionDeniedError,
            403,
            "permission_error",
        ),
        (failing(404, "not_found_error"), anthropic.NotFoundError, 404, "not_found_error"),
        (failing(429, "rate_limit_error"), anthropic.RateLimitError, 429, "rate_limit_error"),
        (failing(529, "overloaded_error"), anthropic.InternalServerError, 503, "overloaded_error"),
        (failing(500, "api_error"), anthropic.InternalServerError, 503, "api_error"),
        (failing(504, "timeout_error"), anthropic.InternalServerError, 504, "timeout_error"),
    ],
)
async def test_errors_have_the_classes_that_clients_catch(
    relay: RelayUnderTest,
    upstream: H2Server,
    script: Script,
    error: type[anthropic.APIStatusError],
    status: int,
    kind: str,
) -> None:
    upstream.routes[MESSAGES] = script
    async with relay.anthropic(max_retries=2) as client:
        with pytest.raises(error) as caught:
            await client.messages.create(model="claude", **ASK)
    assert caught.value.status_code == status
    body: Any = caught.value.body
    assert body["error"]["type"] == kind
    assert body["request_id"] == caught.value.request_id
    assert body["error"]["x_relay"]["provider_type"]
    assert "failed with" in body["error"]["message"]
    assert len(upstream.requests(MESSAGES)) == 1, "another try would be of no use"


@pytest.mark.parametrize(
    ("fields", "field"), [({"max_tokens": None}, "max_tokens"), ({"messages": []}, "messages")]
)
async def test_bad_requests_name_the_field(
    relay: RelayUnderTest, upstream: H2Server, fields: dict[str, Any], field: str
) -> None:
    body = {"model": "claude", **ASK, **fields}
    answered = await relay.http.post(MESSAGES, json=body)
    assert answered.status_code == 400
    value = answered.json()
    assert (value["type"], value["error"]["type"]) == ("error", "invalid_request_error")
    assert value["error"]["message"].startswith(field)
    assert value["error"]["x_relay"]["field"] == field
    assert answered.headers["request-id"] == value["request_id"]
    assert not upstream.requests(MESSAGES)


async def test_other_errors_have_the_same_shape(relay: RelayUnderTest) -> None:
    unknown = await relay.http.post(MESSAGES, json={**ASK, "model": "nobody"})
    assert (unknown.status_code, unknown.json()["error"]["type"]) == (404, "not_found_error")
    wrong = await relay.http.get(MESSAGES)
    assert (wrong.status_code, wrong.json()["type"]) == (405, "error")
    broken = await relay.http.post(MESSAGES, content=b"{")
    assert (broken.status_code, broken.json()["error"]["type"]) == (400, "invalid_request_error")


@either
async def test_a_cut_stream_is_raised_and_never_stops_cleanly(
    relay: RelayUnderTest, upstream: H2Server, model: str
) -> None:
    upstream.routes[CHAT] = cut(after=[chunk({"content": "One"})])
    begun = wire.block(0, {"type": "text", "text": ""})
    piece = wire.delta(0, "text_delta", text="One")
    upstream.routes[MESSAGES] = cut(after=[wire.start(), begun, piece])
    answered = await relay.http.post(MESSAGES, json={**ASK, "model": model, "stream": True})
    assert answered.text.rstrip().split("\n\n")[-1].startswith("event: error\ndata: ")
    assert "message_stop" not in answered.text
    assert "message_delta" not in answered.text
    async with relay.anthropic() as client, client.messages.stream(model=model, **ASK) as stream:
        pieces = aiter(stream.text_stream)
        assert await anext(pieces) == "One"
        with pytest.raises(anthropic.APIStatusError):
            await anext(pieces)


# --- time ---------------------------------------------------------------------------------------


@either
async def test_a_stream_that_is_closed_early_cancels(
    relay: RelayUnderTest, upstream: H2Server, model: str
) -> None:
    upstream.routes[CHAT] = stream_chunks([chunk({"content": "One"})], end=False)
    begun = wire.block(0, {"type": "text", "text": ""}) + wire.delta(0, "text_delta", text="One")
    upstream.routes[MESSAGES] = stream_chunks([wire.start(), begun], end=False)
    path = CHAT if model == "fast" else MESSAGES
    async with relay.anthropic() as client:
        async with client.messages.stream(model=model, **ASK) as stream:
            assert await anext(aiter(stream.text_stream)) == "One"
        seen = upstream.requests(path)[0]
        await upstream.until(lambda: seen.reset_code == CANCEL)


@either
async def test_a_client_out_of_time_cancels(
    relay: RelayUnderTest, upstream: H2Server, model: str
) -> None:
    path = CHAT if model == "fast" else MESSAGES
    upstream.routes[path] = ServerStream.hang
    async with relay.anthropic(timeout=0.3) as client:
        with pytest.raises(anthropic.APITimeoutError):
            await client.messages.create(model=model, **ASK)
    seen = upstream.requests(path)[0]
    await upstream.until(lambda: seen.reset_code == CANCEL)


@dataclass
class Stepping:
    """A provider that sends its second chunk when it is told to."""

    second: asyncio.Event

    def script(self, first: bytes, then: list[bytes]) -> Script:
        async def run(stream: ServerStream) -> None:
            await stream.send_headers(200, [("content-type", "text/event-stream")])
            await stream.send(first)
            await self.second.wait()
            await stream.send(b"".join(then), end=True)

        return run


@either
async def test_the_first_piece_leaves_before_the_second_arrives(
    relay: RelayUnderTest, upstream: H2Server, model: str
) -> None:
    steps = Stepping(asyncio.Event())
    first, *rest = answer_chunks("One", "Two")[1:]
    upstream.routes[CHAT] = steps.script(first, rest)
    begun = wire.block(0, {"type": "text", "text": ""}) + wire.delta(0, "text_delta", text="One")
    ends = [wire.delta(0, "text_delta", text="Two"), wire.stop(0), wire.ending(), wire.STOP]
    upstream.routes[MESSAGES] = steps.script(wire.start() + begun, ends)
    async with relay.anthropic() as client, client.messages.stream(model=model, **ASK) as stream:
        pieces = aiter(stream.text_stream)
        assert await asyncio.wait_for(anext(pieces), 5) == "One"
        steps.second.set()
        assert [piece async for piece in pieces] == ["Two"]


async def test_comments_while_the_provider_thinks(upstream: H2Server, ca_file: str) -> None:
    gate = asyncio.Event()
    claude = claude_says(wire.text(0, "Hello!"))

    async def gated(stream: ServerStream) -> None:
        await gate.wait()
        await claude(stream)

    upstream.routes[MESSAGES] = gated
    own = {**provider(upstream.url, ca_file=ca_file), "wire": "anthropic_messages"}
    document = {
        "server": {"http": {"commit_headers_after_ms": 100, "comment_interval_ms": 100}},
        "providers": {"claude": {**own, "base_url": upstream.url}},
        "models": {"claude": {"candidates": [{"provider": "claude", "model": "c"}]}},
    }
    async with relay_under_test(document) as relay, relay.anthropic() as client:
        ask = {"model": "claude", "stream": True, **ASK}
        async with relay.http.stream("POST", MESSAGES, json=ask) as response:
            lines = response.aiter_lines()
            assert (await anext(lines)).startswith(": ")
            assert response.headers["request-id"]
            gate.set()
            rest = [line async for line in lines]
        assert next(line for line in rest if line and line[0] != ":") == "event: message_start"
        gate.clear()
        async with client.messages.stream(model="claude", **ASK) as stream:
            gate.set()  # the head is here, so comments have begun
            assert await stream.get_final_text() == "Hello!"
        await relay.settled()
