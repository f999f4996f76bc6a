"""`count_tokens` and the list of models, by Anthropic's own client at a whole worker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import anthropic
import orjson
import pytest

from relay import prompt_count
from tests.fakes.h2_server import CANCEL, H2Server, Script, ServerStream, answer
from tests.fakes.relay_under_test import RelayUnderTest, provider, relay_under_test

pytestmark = pytest.mark.sockets

COUNT = "/v1/messages/count_tokens"
PROMPT: dict[str, Any] = {
    "messages": [{"role": "user", "content": "Hello there, how are you?"}],
    "system": "Be kind.",
}
KEY = "the-relay-s-own-key"
ESTIMATE = 17
"""Of the prompt, from its bytes."""


@pytest.fixture
async def relay(
    upstream: H2Server, ca_file: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[RelayUnderTest]:
    monkeypatch.setenv("COUNT_KEY", KEY)
    own = {
        **provider(upstream.url, ca_file=ca_file),
        "wire": "anthropic_messages",
        "base_url": upstream.url,
        "auth": "x-api-key",
        "api_key": "${COUNT_KEY}",
    }
    document = {
        "providers": {
            "lab": provider(upstream.url, ca_file=ca_file),
            "claude": own,
            "bedrock": {**own, "door": "bedrock_messages", "auth": "bearer"},
        },
        "models": {
            "fast": {"candidates": [{"provider": "lab", "model": "m"}]},
            "claude": {"candidates": [{"provider": "claude", "model": "c"}]},
        },
    }
    async with relay_under_test(document) as running:
        yield running
        await running.settled()


def says(count: object) -> Script:
    return answer(200, orjson.dumps({"input_tokens": count}))


def fails(status: int, kind: str, message: str = "failed") -> Script:
    error = {"type": "error", "error": {"type": kind, "message": message}}
    return answer(status, orjson.dumps(error))


async def ask(relay: RelayUnderTest, **fields: Any) -> tuple[int, str]:
    """The count, and whose it is."""
    async with relay.anthropic() as client:
        raw = await client.messages.with_raw_response.count_tokens(**{**PROMPT, **fields})
        return (await raw.parse()).input_tokens, raw.headers["x-relay-tokens"]


async def test_the_provider_counts(relay: RelayUnderTest, upstream: H2Server) -> None:
    upstream.routes[COUNT] = says(14)
    tool: Any = {"name": "f", "input_schema": {"type": "object"}}
    fields: dict[str, Any] = {"thinking": {"type": "adaptive"}, "tools": [tool]}
    beta = {"anthropic-beta": "one-2026-01-01"}
    found = await ask(relay, model="claude", extra_headers=beta, extra_body={"odd": 1}, **fields)
    assert found == (14, "provider")
    (asked,) = upstream.requests(COUNT)
    assert asked.header("anthropic-beta") == "one-2026-01-01"
    assert asked.header("x-api-key") == KEY
    assert orjson.loads(asked.body) == {
        "model": "c",
        "system": "Be kind.",
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "Hello there, how are you?"}]}
        ],
        **fields,
    }, "what does not count is refused there"


async def test_other_wires_are_estimated(relay: RelayUnderTest, upstream: H2Server) -> None:
    assert await ask(relay, model="fast") == (ESTIMATE, "estimated")
    assert not upstream.requests(COUNT)


async def test_a_door_without_counts_is_estimated(
    relay: RelayUnderTest, upstream: H2Server
) -> None:
    model = "bedrock/anthropic.claude-haiku-4-5-20251001-v1:0"
    assert await ask(relay, model=model) == (ESTIMATE, "estimated")
    assert not upstream.requests(COUNT)


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(fails(529, "overloaded_error"), id="overloaded"),
        pytest.param(fails(401, "authentication_error"), id="our_key_refused"),
        pytest.param(answer(404, b"<html>"), id="no_such_path"),
        pytest.param(answer(200, b"no json"), id="unreadable"),
        pytest.param(says("many"), id="no_count"),
        pytest.param(answer(200, b" " * 100_000), id="too_much"),
    ],
)
async def test_a_provider_that_cannot_say_is_estimated(
    relay: RelayUnderTest, upstream: H2Server, script: Script
) -> None:
    upstream.routes[COUNT] = script
    assert await ask(relay, model="claude") == (ESTIMATE, "estimated")


async def test_a_provider_that_is_late_is_estimated(
    relay: RelayUnderTest, upstream: H2Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prompt_count, "MOST_S", 0.05)
    upstream.routes[COUNT] = ServerStream.hang
    assert await ask(relay, model="claude") == (ESTIMATE, "estimated")
    seen = upstream.requests(COUNT)[0]
    await upstream.until(lambda: seen.reset_code == CANCEL)


async def test_a_refused_prompt_is_told(relay: RelayUnderTest, upstream: H2Server) -> None:
    upstream.routes[COUNT] = fails(400, "invalid_request_error", f"messages: bad, says {KEY}")
    async with relay.anthropic() as client:
        with pytest.raises(anthropic.BadRequestError, match="messages: bad") as caught:
            await client.messages.count_tokens(model="claude", **PROMPT)
    assert KEY not in str(caught.value)


async def test_a_client_that_leaves_cancels(relay: RelayUnderTest, upstream: H2Server) -> None:
    upstream.routes[COUNT] = ServerStream.hang
    async with relay.anthropic(timeout=0.3) as client:
        with pytest.raises(anthropic.APITimeoutError):
            await client.messages.count_tokens(model="claude", **PROMPT)
    seen = upstream.requests(COUNT)[0]
    await upstream.until(lambda: seen.reset_code == CANCEL)


@pytest.mark.parametrize(
    ("fields", "status"), [({"messages": []}, 400), ({"model": "nobody"}, 404)]
)
async def test_bad_requests(relay: RelayUnderTest, fields: dict[str, Any], status: int) -> None:
    answered = await relay.http.post(COUNT, json={"model": "fast", **PROMPT, **fields})
    assert answered.status_code == status
    assert answered.json()["type"] == "error"


async def test_the_relay_s_policy_chooses_the_model(
    relay: RelayUnderTest, upstream: H2Server
) -> None:
    upstream.routes[COUNT] = says(14)
    found = await ask(relay, model="x", extra_headers={"x-relay-route": "claude"})
    assert found == (14, "provider")


async def test_models_as_anthropic_lists_them(relay: RelayUnderTest) -> None:
    async with relay.anthropic() as client:
        page = await client.models.list()
        one = await client.models.retrieve("fast")
        assert [row.id async for row in page] == ["fast", "claude"]
        with pytest.raises(anthropic.NotFoundError) as caught:
            await client.models.retrieve("nobody")
    assert (one.id, one.type, one.display_name) == ("fast", "model", "fast")
    assert one.created_at.year >= 2020
    body: Any = caught.value.body
    assert body["error"]["type"] == "not_found_error"
    async with relay.openai() as other:
        assert [row.object async for row in other.models.list()] == ["model", "model"]


async def test_a_draining_relay_counts_nothing(relay: RelayUnderTest) -> None:
    services = relay.worker.services
    services.is_draining = True
    answered = await asyncio.wait_for(
        relay.http.post(COUNT, json={"model": "fast", **PROMPT}), timeout=5
    )
    services.is_draining = False
    assert answered.status_code == 503
    assert answered.json()["error"]["type"] == "overloaded_error"


@pytest.mark.parametrize("good", [1, 2])
async def test_a_refused_key_costs_one_more_question(
    upstream: H2Server, ca_file: str, monkeypatch: pytest.MonkeyPatch, good: int
) -> None:
    for number in range(3):
        monkeypatch.setenv(f"KEY_{number}", f"key-number-{number}")
    used: list[str | None] = []

    async def script(stream: ServerStream) -> None:
        used.append(stream.header("x-api-key"))
        is_good = used[-1] == f"key-number-{good}"
        await (says(14) if is_good else fails(401, "authentication_error"))(stream)

    upstream.routes[COUNT] = script
    row = {
        **provider(upstream.url, ca_file=ca_file),
        "wire": "anthropic_messages",
        "base_url": upstream.url,
        "auth": "x-api-key",
        "api_keys": ["${KEY_0}", "${KEY_1}", "${KEY_2}"],
    }
    async with relay_under_test({"providers": {"claude": row}}) as running:
        found = await ask(running, model="claude/c")
        await running.settled()
    assert found == ((14, "provider") if good == 1 else (ESTIMATE, "estimated"))
    assert used == ["key-number-0", "key-number-1"]
