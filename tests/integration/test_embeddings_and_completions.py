"""`/v1/embeddings` and the legacy `/v1/completions` by the official client, over every provider
wire that the emulator speaks: whole, streamed, failed over, refused."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from typing import Any

import openai
import orjson
import pytest
from structlog.testing import capture_logs

from tests.fakes.emulator_process import EmulatorProcess, emulator
from tests.fakes.relay_under_test import RelayUnderTest, provider, relay_under_test

__all__ = ["emulator"]
pytestmark = pytest.mark.sockets

WIRES = {
    "chat": ("openai_chat", "/v1"),
    "gemini": ("gemini", ""),
    "responses": ("openai_responses", "/v1"),
    "ollama": ("ollama", ""),
}


@pytest.fixture
async def relay(emulator: EmulatorProcess) -> AsyncIterator[RelayUnderTest]:
    base = emulator.base_url_plain
    rows: dict[str, Any] = {
        name: {
            **provider("http://unused"),
            "wire": wire,
            "base_url": f"{base}{path}",
            "warm_connections": 1,
        }
        for name, (wire, path) in WIRES.items()
    }
    claude = {**provider("http://unused"), "wire": "anthropic_messages", "base_url": base}
    document = {
        "providers": {**rows, "claude": claude},
        "models": {
            "vectors": {
                "candidates": [
                    {"provider": "chat", "model": "emu:fault=status:503"},
                    {"provider": "responses", "model": "emu-embed"},
                ]
            }
        },
    }
    async with relay_under_test(document) as running:
        yield running
        await running.settled()


# --- vectors -----------------------------------------------------------------------------------


@pytest.mark.parametrize("wire", WIRES)
async def test_vectors_over_every_wire(relay: RelayUnderTest, wire: str) -> None:
    async with relay.openai() as client:
        found = await client.embeddings.create(
            model=f"{wire}/emu-embed", input=["one", "two"], dimensions=8
        )
        again = await client.embeddings.create(
            model=f"{wire}/emu-embed", input="two", dimensions=8, encoding_format="float"
        )
    one, two = (row.embedding for row in found.data)
    assert [row.index for row in found.data] == [0, 1]
    assert math.hypot(*one) == pytest.approx(1.0, abs=1e-5)
    assert two == pytest.approx(again.data[0].embedding, abs=1e-6), "base64 or numbers"
    assert found.usage.prompt_tokens > 0
    assert found.model == ("emu-embed" if wire != "gemini" else "gemini/emu-embed")


async def test_vectors_fail_over_and_are_logged(relay: RelayUnderTest) -> None:
    with capture_logs() as lines:
        async with relay.openai() as client:
            raw = await client.embeddings.with_raw_response.create(model="vectors", input=[1, 2, 3])
        await relay.settled()
    assert len(raw.parse().data) == 1
    assert raw.headers["x-relay-provider"] == "responses"
    assert raw.headers["x-relay-attempts"] == "2"
    (line,) = [line for line in lines if line["event"] == "generation"]
    assert (line["frontend"], line["status"]) == ("embeddings", "OK")
    assert [row["outcome"] for row in line["attempts"]] == ["overload", "success"]
    assert (line["prompt_tokens"] > 0, line["completion_tokens"]) == (True, 0)


async def test_vectors_of_a_wire_without_them(relay: RelayUnderTest) -> None:
    async with relay.openai() as client:
        with pytest.raises(openai.BadRequestError) as raised:
            await client.embeddings.create(model="claude/x", input="one")
    assert "embeddings is not supported by claude" in raised.value.message


async def test_the_provider_s_own_error_is_told(relay: RelayUnderTest) -> None:
    async with relay.openai() as client:
        with pytest.raises(openai.RateLimitError) as raised:
            await client.embeddings.create(model="chat/emu:fault=status:429", input="one")
    body: Any = raised.value.body
    assert body["x_relay"]["upstream_status"] == "429"


async def test_bad_input_names_its_field_and_reaches_no_provider(
    relay: RelayUnderTest, emulator: EmulatorProcess
) -> None:
    for path, body, field in (
        ("/v1/embeddings", {"model": "chat/bad", "input": []}, "input"),
        ("/v1/completions", {"model": "chat/bad", "prompt": ["a", "b"]}, "prompt"),
    ):
        response = await relay.http.post(path, json=body)
        assert response.status_code == 400
        assert response.json()["error"]["param"] == field
    assert not emulator.streams(model="bad")


async def test_unknown_fields_go_to_the_provider(relay: RelayUnderTest) -> None:
    body = {"model": "chat/emu-embed", "input": "a", "input_type": "query"}
    response = await relay.http.post("/v1/embeddings", json=body)
    assert response.status_code == 200
    assert orjson.loads(response.content)["object"] == "list"


# --- legacy completions --------------------------------------------------------------------------


@pytest.mark.parametrize("wire", [*WIRES, "claude"])
async def test_completion_over_every_wire(relay: RelayUnderTest, wire: str) -> None:
    model = f"{wire}/emu:text=one two three"
    async with relay.openai() as client:
        whole = await client.completions.create(model=model, prompt="Count:", max_tokens=50)
        stream = await client.completions.create(
            model=model, prompt="Count:", stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
    assert whole.object == "text_completion"
    assert whole.choices[0].text == "one two three"
    assert whole.choices[0].finish_reason == "stop"
    assert whole.usage is not None
    said: list[Any] = [choice for chunk in chunks for choice in chunk.choices]
    assert "".join(choice.text for choice in said) == "one two three"
    assert [choice.finish_reason for choice in said if choice.finish_reason] == ["stop"]
    assert len({chunk.id for chunk in chunks}) == 1
    assert chunks[-1].usage is not None
    assert not chunks[-1].choices


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_echo_comes_first_and_once(relay: RelayUnderTest, is_streamed: bool) -> None:
    async with relay.openai() as client:
        model, prompt = "chat/emu:text=one two", "Count: "
        if is_streamed:
            stream = await client.completions.create(
                model=model, prompt=prompt, echo=True, stream=True
            )
            text = "".join([c.text async for chunk in stream for c in chunk.choices])
        else:
            whole = await client.completions.create(model=model, prompt=[prompt], echo=True)
            text = whole.choices[0].text
    assert text == "Count: one two"


async def test_a_cut_stream_is_no_clean_end(relay: RelayUnderTest) -> None:
    body = {"model": "chat/emu:fault=reset@2", "prompt": "Count:", "stream": True}
    response = await relay.http.post("/v1/completions", json=body)
    assert "[DONE]" not in response.text
    assert orjson.loads(response.text.strip().split("\n\n")[-1][6:])["error"]


async def test_as_many_tokens_as_openai_takes(relay: RelayUnderTest) -> None:
    # LangChain sends a thousand texts at once, as tokens.
    async with relay.openai() as client:
        found = await client.embeddings.create(model="chat/emu-embed", input=[[7] * 300] * 1000)
        assert len(found.data) == 1000
        with pytest.raises(openai.BadRequestError):
            await client.embeddings.create(model="chat/emu-embed", input=[[7] * 360] * 1000)
