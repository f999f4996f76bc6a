"""OpenAI's client on Azure: deployments with a version, and the `/openai/v1` that needs none."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import openai
import pytest

from tests.doors.conversation import CHAT_TOOLS, CHAT_TURNS, HELLO, MAX_TOKENS, TEXT, is_trip
from tests.doors.world import World

VERSION = "2024-10-21"
Make = Callable[..., openai.OpenAI]


def deployments(world: World, **given: str) -> openai.OpenAI:
    """A client of Azure's own paths."""
    credential = given or {"api_key": "a-key"}
    return openai.AzureOpenAI(
        azure_endpoint=world.url,
        api_version=VERSION,
        max_retries=0,
        api_key=credential.get("api_key"),
        azure_ad_token=credential.get("token"),
    )


def v1(world: World, **given: str) -> openai.OpenAI:
    """A client of the path that is OpenAI's own."""
    key = given.get("api_key") or given.get("token") or "a-key"
    return openai.OpenAI(base_url=f"{world.url}/azure/openai/v1/", api_key=key, max_retries=0)


@pytest.fixture(params=[deployments, v1])
def make(request: pytest.FixtureRequest, world: World) -> Iterator[Make]:
    opened: list[openai.OpenAI] = []

    def making(**given: str) -> openai.OpenAI:
        opened.append(request.param(world, **given))
        return opened[-1]

    yield making
    for client in opened:
        client.close()


def test_whole(make: Make, world: World) -> None:
    answer = make().chat.completions.create(model=world.scripted(text=TEXT), messages=CHAT_TURNS)
    assert answer.choices[0].message.content == TEXT
    assert answer.usage is not None
    assert answer.usage.completion_tokens > 0


def test_streamed(make: Make, world: World) -> None:
    chunks = list(
        make().chat.completions.create(
            model=world.scripted(text=TEXT),
            messages=CHAT_TURNS,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    assert chunks[0].choices == []
    texts = [choice.delta.content or "" for chunk in chunks for choice in chunk.choices]
    assert "".join(texts) == TEXT
    assert chunks[-1].usage is not None


@pytest.mark.parametrize("streamed", [False, True])
def test_tool_call(make: Make, world: World, streamed: bool) -> None:
    client, model = make(), world.scripted(tools="1")
    if streamed:
        with client.chat.completions.stream(
            model=model, messages=CHAT_TURNS, tools=CHAT_TOOLS
        ) as stream:
            answer = stream.get_final_completion()
        calls = answer.choices[0].message.tool_calls
    else:
        whole = client.chat.completions.create(model=model, messages=CHAT_TURNS, tools=CHAT_TOOLS)
        calls = whole.choices[0].message.tool_calls  # type: ignore[assignment]
    assert calls
    (call,) = calls
    assert is_trip(json.loads(call.function.arguments))


def test_responses(make: Make, world: World) -> None:
    client = make()
    answer = client.responses.create(model=world.scripted(text=TEXT), input=HELLO)
    assert answer.output_text == TEXT
    with client.responses.stream(model=world.scripted(text=TEXT), input=HELLO) as stream:
        assert stream.get_final_response().output_text == TEXT


def test_embeddings(make: Make, world: World) -> None:
    answer = make().embeddings.create(model=world.scripted(), input="a text")
    assert len(answer.data[0].embedding) == 256


@pytest.mark.parametrize(
    ("kind", "error", "code"),
    [
        ("rate", openai.RateLimitError, "429"),
        ("not_found", openai.NotFoundError, "DeploymentNotFound"),
        ("context", openai.BadRequestError, "context_length_exceeded"),
        ("server", openai.InternalServerError, "500"),
    ],
)
def test_error(
    make: Make, world: World, kind: str, error: type[openai.APIStatusError], code: str
) -> None:
    with pytest.raises(error) as raised:
        make().chat.completions.create(
            model=world.scripted(fault=f"error:{kind}"), messages=CHAT_TURNS
        )
    assert raised.value.code == code


def test_error_in_mid_stream(make: Make, world: World) -> None:
    model = world.scripted(text=TEXT, fault="error-mid@3:server")
    stream = make().chat.completions.create(model=model, messages=CHAT_TURNS, stream=True)
    texts: list[str] = []
    with pytest.raises(openai.APIError, match="had an error"):
        texts.extend(choice.delta.content or "" for chunk in stream for choice in chunk.choices)
    assert TEXT.startswith("".join(texts))
    assert "".join(texts)


def test_tokens(make: Make, world: World) -> None:
    def ask(token: str) -> None:
        make(token=token).chat.completions.create(
            model=world.scripted(), messages=CHAT_TURNS, max_tokens=MAX_TOKENS
        )

    good = world.token("entra")
    ask(good)
    for bad in (
        world.token("entra", expires_in_s=0),
        world.token("entra", audience="https://management.azure.com"),
        "e.y.J",
    ):
        with pytest.raises(openai.AuthenticationError, match="audience is incorrect"):
            ask(bad)
    world.order("revoke", value=good)
    with pytest.raises(openai.AuthenticationError):
        ask(good)


def test_bad_key(make: Make, world: World) -> None:
    with pytest.raises(openai.AuthenticationError, match="invalid subscription key"):
        make(api_key="bad-key").chat.completions.create(model=world.scripted(), messages=CHAT_TURNS)
