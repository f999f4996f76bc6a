"""Idempotency keys through a whole relay: what a repeat gets, and that its provider hears of one
request alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import orjson
import pytest

from tests.fakes.emulator_process import EmulatorProcess, emulator
from tests.fakes.relay_under_test import RelayUnderTest, provider, relay_under_test

__all__ = ["emulator"]
pytestmark = pytest.mark.sockets


@pytest.fixture
async def relay(emulator: EmulatorProcess) -> AsyncIterator[RelayUnderTest]:
    row = {**provider("http://unused"), "base_url": f"{emulator.base_url_plain}/v1"}
    async with relay_under_test({"providers": {"emu": row}}) as relay:
        yield relay


def body(model: str, **more: object) -> dict[str, object]:
    messages = [{"role": "user", "content": "Hi"}]
    return {"model": f"emu/{model}", "messages": messages, **more}


@pytest.mark.parametrize("stream", [False, True])
async def test_a_repeat_costs_nothing(
    relay: RelayUnderTest, emulator: EmulatorProcess, stream: bool
) -> None:
    model = f"emu:ttft=1,itl=0,tokens=5,seed={31 + stream}"
    asked = body(model, stream=stream)
    first, second = [await relay.chat(asked, idempotency_key="order-7") for _ in range(2)]
    assert (first.status_code, second.status_code) == (200, 200)
    assert first.content == second.content
    assert "idempotent-replayed" not in first.headers
    assert second.headers["idempotent-replayed"] == "true"
    assert first.headers["content-type"] == second.headers["content-type"]
    assert first.headers["x-relay-request-id"] != second.headers["x-relay-request-id"]
    assert len(emulator.streams(model=model)) == 1

    other = await relay.chat({**asked, "seed": 1}, idempotency_key="order-7")
    assert other.status_code == 400
    assert other.json()["error"]["param"] == "idempotency-key"
    tenant = await relay.chat(asked, idempotency_key="order-7", authorization="Bearer somebody")
    assert "idempotent-replayed" not in tenant.headers
    assert len(emulator.streams(model=model)) == 2


async def test_a_twin_is_told_to_wait(relay: RelayUnderTest, emulator: EmulatorProcess) -> None:
    model = "emu:ttft=300,itl=0,tokens=5,seed=33"
    asked = body(model, relay={"idempotency_key": "k"})
    answers = await asyncio.gather(*(relay.chat(asked) for _ in range(3)))
    assert sorted(answer.status_code for answer in answers) == [200, 409, 409]
    waiting = next(answer for answer in answers if answer.status_code == 409)
    assert waiting.headers["retry-after"] == "1"
    assert "x-should-retry" not in waiting.headers
    assert (await relay.chat(asked)).headers["idempotent-replayed"] == "true"
    assert len(emulator.streams(model=model)) == 1


async def test_the_official_client_gets_the_answer_of_its_twin(
    relay: RelayUnderTest, emulator: EmulatorProcess
) -> None:
    model = "emu:ttft=300,itl=0,tokens=5,seed=34"
    async with relay.openai(max_retries=3) as client:
        answers = await asyncio.gather(
            *(
                client.embeddings.create(
                    model=f"emu/{model}", input="Hi", extra_headers={"idempotency-key": "k"}
                )
                for _ in range(2)
            )
        )
    assert answers[0].data == answers[1].data
    assert len(emulator.streams(model=model)) == 1


async def test_a_failure_may_be_asked_again(
    relay: RelayUnderTest, emulator: EmulatorProcess
) -> None:
    model = "emu:fault=status:503,seed=35"
    asked = body(model)
    for _ in range(2):
        assert (await relay.chat(asked, idempotency_key="k")).status_code == 503
    assert len(emulator.streams(model=model)) == 2


async def test_a_client_that_left_may_ask_again(
    relay: RelayUnderTest, emulator: EmulatorProcess
) -> None:
    model = "emu:ttft=1,itl=20,tokens=200,seed=36"
    asked = body(model, stream=True)
    async with relay.http.stream(
        "POST", "/v1/chat/completions", json=asked, headers={"idempotency-key": "k"}
    ) as first:
        async for _ in first.aiter_bytes():
            break
    await relay.settled()
    async with relay.http.stream(
        "POST", "/v1/chat/completions", json=asked, headers={"idempotency-key": "k"}
    ) as second:
        assert (second.status_code, second.headers.get("idempotent-replayed")) == (200, None)
    await relay.settled()


async def test_every_surface_hears_of_it(relay: RelayUnderTest, emulator: EmulatorProcess) -> None:
    model = "emu:ttft=1,itl=0,tokens=5,seed=37"
    name = f"emu/{model}"
    turns = [{"role": "user", "content": "Hi"}]
    asked: dict[str, dict[str, object]] = {
        "/v1/responses": {"model": name, "input": "Hi"},
        "/v1/messages": {"model": name, "max_tokens": 9, "messages": turns},
        "/v1/completions": {"model": name, "prompt": "Hi"},
        "/v1/embeddings": {"model": name, "input": "Hi"},
    }
    for path, given in asked.items():
        headers = {"x-relay-idempotency-key": path}
        first, second = [
            await relay.http.post(path, content=orjson.dumps(given), headers=headers)
            for _ in range(2)
        ]
        assert (first.status_code, second.content) == (200, first.content), path
        assert second.headers["idempotent-replayed"] == "true"
    assert len(emulator.streams(model=model)) == len(asked)
