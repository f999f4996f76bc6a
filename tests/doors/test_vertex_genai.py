"""Google's client on Vertex: by token with a project, and by key without one (express mode)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from google import genai
from google.genai import errors, types
from google.oauth2.credentials import Credentials

from tests.doors.conversation import (
    DESCRIPTION,
    HELLO,
    MAX_TOKENS,
    SCHEMA,
    SYSTEM,
    TEXT,
    TOOL,
    is_trip,
)
from tests.doors.world import World

Make = Callable[[], genai.Client]


def options(world: World) -> types.HttpOptions:
    once = types.HttpRetryOptions(attempts=1)
    return types.HttpOptions(base_url=world.url, retry_options=once)


def by_token(world: World, token: str | None = None) -> genai.Client:
    """A client of a project."""
    credentials = Credentials(token or world.token("google"))
    return genai.Client(
        vertexai=True,
        project="p",
        location="europe-west4",
        credentials=credentials,
        http_options=options(world),
    )


def by_key(world: World, key: str = "a-key") -> genai.Client:
    """A client of express mode."""
    return genai.Client(vertexai=True, api_key=key, http_options=options(world))


@pytest.fixture(params=[by_token, by_key])
def client(request: pytest.FixtureRequest, world: World) -> genai.Client:
    made: genai.Client = request.param(world)
    return made


def config(**given: Any) -> types.GenerateContentConfig:
    return types.GenerateContentConfig(
        system_instruction=SYSTEM, max_output_tokens=MAX_TOKENS, **given
    )


def tools() -> list[types.Tool]:
    declared = types.FunctionDeclaration(
        name=TOOL, description=DESCRIPTION, parameters_json_schema=SCHEMA
    )
    return [types.Tool(function_declarations=[declared])]


def test_whole(client: genai.Client, world: World) -> None:
    answer = client.models.generate_content(
        model=world.scripted(text=TEXT), contents=HELLO, config=config()
    )
    assert answer.text == TEXT
    assert answer.usage_metadata is not None
    assert answer.usage_metadata.traffic_type == types.TrafficType.ON_DEMAND


def test_streamed(client: genai.Client, world: World) -> None:
    chunks = list(
        client.models.generate_content_stream(
            model=world.scripted(text=TEXT), contents=HELLO, config=config()
        )
    )
    assert "".join(chunk.text or "" for chunk in chunks) == TEXT
    assert len(chunks) > 3
    last = chunks[-1].candidates
    assert last
    assert last[0].finish_reason == types.FinishReason.STOP


@pytest.mark.parametrize("streamed", [False, True])
def test_tool_call(client: genai.Client, world: World, streamed: bool) -> None:
    given: dict[str, Any] = {
        "model": world.scripted(tools="1"),
        "contents": HELLO,
        "config": config(tools=tools()),
    }
    answers = (
        list(client.models.generate_content_stream(**given))
        if streamed
        else [client.models.generate_content(**given)]
    )
    (call,) = [call for answer in answers for call in answer.function_calls or []]
    assert call.name == TOOL
    assert is_trip(call.args)


@pytest.mark.parametrize(
    ("kind", "code", "status"),
    [
        ("rate", 429, "RESOURCE_EXHAUSTED"),
        ("not_found", 404, "NOT_FOUND"),
        ("unavailable", 503, "UNAVAILABLE"),
    ],
)
def test_error(client: genai.Client, world: World, kind: str, code: int, status: str) -> None:
    with pytest.raises(errors.APIError) as raised:
        client.models.generate_content(model=world.scripted(fault=f"error:{kind}"), contents=HELLO)
    assert (raised.value.code, raised.value.status) == (code, status)


def test_error_in_mid_stream(client: genai.Client, world: World) -> None:
    model = world.scripted(text=TEXT, fault="error-mid@3:unavailable")
    texts: list[str] = []
    stream = client.models.generate_content_stream(model=model, contents=HELLO)
    with pytest.raises(errors.APIError) as raised:
        texts.extend(chunk.text or "" for chunk in stream)
    assert raised.value.code == 503
    assert "".join(texts)
    assert TEXT.startswith("".join(texts))


@pytest.mark.parametrize("case", ["over", "revoked", "unknown"])
def test_tokens_that_do_not_count(world: World, case: str) -> None:
    token = "ya29.made-up"
    if case != "unknown":
        token = world.token("google", expires_in_s=0 if case == "over" else 60)
    if case == "revoked":
        world.order("revoke", value=token)
    client = by_token(world, token)
    with pytest.raises(errors.ClientError) as raised:
        client.models.generate_content(model=world.scripted(), contents=HELLO)
    assert (raised.value.code, raised.value.status) == (401, "UNAUTHENTICATED")


def test_a_bad_key(world: World) -> None:
    client = by_key(world, "bad-key")
    with pytest.raises(errors.ClientError, match="API key not valid"):
        client.models.generate_content(model=world.scripted(), contents=HELLO)
