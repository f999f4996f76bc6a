"""The HTTP head of a stream waits for the first content, but not for ever.

Before it is out, a failure has its own HTTP status; after it, an error is an event and there is no
`[DONE]`. Comments keep proxies from giving up meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import httpx2
import openai
import orjson
import pytest

from tests.fakes.h2_server import CANCEL, H2Server, Script, ServerStream, answer, stream_chunks
from tests.fakes.relay_under_test import (
    RelayUnderTest,
    answer_chunks,
    chat_body,
    provider,
    relay_under_test,
    sse_payloads,
)

pytestmark = pytest.mark.sockets

CHAT = "/v1/chat/completions"
COMMENT = ": relay: waiting for the provider\n\n"


@dataclass
class World:
    """A relay whose heads wait 100 ms, and a provider that answers when it is told to."""

    relay: RelayUnderTest
    lab: H2Server
    spare: H2Server
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    def gated(self, script: Script) -> Script:
        """The script, begun when the gate opens."""

        async def waiting(stream: ServerStream) -> None:
            await self.gate.wait()
            await script(stream)

        return waiting


@pytest.fixture
async def world(upstream: H2Server, spare: H2Server, ca_file: str) -> AsyncIterator[World]:
    lab = {"candidates": [{"provider": "lab", "model": "m"}]}
    document = {
        "server": {"http": {"commit_headers_after_ms": 100, "comment_interval_ms": 100}},
        "providers": {
            "lab": provider(upstream.url, ca_file=ca_file),
            "spare": provider(spare.url, ca_file=ca_file),
        },
        "models": {
            "fast": lab,
            "pair": {**lab, "fallbacks": [{"provider": "spare", "model": "m"}]},
        },
    }
    spare.routes[CHAT] = stream_chunks(answer_chunks("spare"))
    async with relay_under_test(document) as relay:
        yield World(relay, upstream, spare)
        await relay.settled()


async def read_after_comments(
    world: World,
    count: int,
    then: Callable[[httpx2.Response], Awaitable[None]],
    model: str = "fast",
) -> str:
    """Ask for a stream, open the gate when the head and `count` comments have come, read all."""
    text = ""
    async with world.relay.http.stream("POST", CHAT, json=chat_body(model)) as response:
        assert response.status_code == 200
        async for part in response.aiter_text():
            text += part
            if text.count(COMMENT) >= count and not world.gate.is_set():
                assert text == COMMENT * text.count(COMMENT)
                await then(response)
                world.gate.set()
    return text


async def nothing(response: httpx2.Response) -> None:
    """No more to check."""


async def test_slow_provider_is_waited_for_with_head_and_comments(world: World) -> None:
    world.lab.routes[CHAT] = world.gated(stream_chunks(answer_chunks("Hel", "lo")))

    async def look_at_head(response: httpx2.Response) -> None:
        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.headers["x-relay-request-id"].startswith("req_")
        assert "x-relay-provider" not in response.headers, "nobody has won yet"

    text = await read_after_comments(world, 3, look_at_head)
    assert text.endswith("data: [DONE]\n\n")
    deltas = [chunk["choices"][0]["delta"] for chunk in sse_payloads(text)]
    assert "".join(delta.get("content", "") for delta in deltas) == "Hello"
    assert COMMENT not in text[text.index("data: ") :], "no comments once content flows"


async def test_official_client_reads_through_comments(world: World) -> None:
    world.lab.routes[CHAT] = world.gated(stream_chunks(answer_chunks("Hel", "lo")))
    async with world.relay.openai() as client:
        stream = await client.chat.completions.create(
            model="fast", messages=[{"role": "user", "content": "Hello"}], stream=True
        )
        world.gate.set()  # the head is here, so comments have begun
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
    assert text == "Hello"


async def test_failure_after_the_head_is_an_event_and_no_done(world: World) -> None:
    body = orjson.dumps({"error": {"message": "Out of order", "type": "server_error"}})
    world.lab.routes[CHAT] = world.gated(answer(500, body))
    text = await read_after_comments(world, 1, nothing)
    assert "[DONE]" not in text
    (payload,) = sse_payloads(text)
    assert payload["error"]["message"] == "Out of order"
    assert payload["error"]["code"] == "upstream_failed"


async def test_official_client_raises_a_failure_after_the_head(world: World) -> None:
    world.lab.routes[CHAT] = world.gated(answer(500))
    async with world.relay.openai(max_retries=2) as client:
        stream = await client.chat.completions.create(
            model="fast", messages=[{"role": "user", "content": "Hello"}], stream=True
        )
        world.gate.set()
        with pytest.raises(openai.APIError):
            await anext(stream)
    assert len(world.lab.requests(CHAT)) == 1


async def test_failure_before_the_head_has_its_status_and_no_retry(world: World) -> None:
    world.lab.routes[CHAT] = answer(500)
    response = await world.relay.chat(chat_body())
    assert response.status_code == 503
    assert response.headers["x-should-retry"] == "false"
    async with world.relay.openai(max_retries=2) as client:
        with pytest.raises(openai.InternalServerError):
            await client.chat.completions.create(
                model="fast", messages=[{"role": "user", "content": "Hello"}], stream=True
            )
    assert len(world.lab.requests(CHAT)) == 2, "one for each request: the client did not repeat it"


async def test_fallback_after_the_head_goes_unseen(world: World) -> None:
    world.lab.routes[CHAT] = world.gated(answer(500))
    text = await read_after_comments(world, 1, nothing, model="pair")
    assert text.endswith("data: [DONE]\n\n")
    assert sse_payloads(text)[0]["choices"][0]["delta"]["content"] == "spare"


@pytest.mark.parametrize("comments", [0, 2])
async def test_client_that_leaves_while_waiting_cancels_the_provider(
    world: World, comments: int
) -> None:
    world.lab.routes[CHAT] = world.gated(answer(500))
    began = asyncio.Event()

    async def read() -> None:
        text = ""
        async with world.relay.http.stream("POST", CHAT, json=chat_body()) as response:
            async for part in response.aiter_text():
                text += part
                if text.count(COMMENT) >= comments:
                    began.set()

    reading = asyncio.create_task(read())
    stream = await world.lab.request(CHAT)
    if comments:
        await asyncio.wait_for(began.wait(), 5)
    reading.cancel()
    await asyncio.wait([reading])
    await world.lab.until(lambda: stream.reset_code == CANCEL)


async def test_whole_document_has_no_early_head(world: World) -> None:
    world.lab.routes[CHAT] = world.gated(answer(500))
    asking: asyncio.Task[Any] = asyncio.create_task(world.relay.chat(chat_body(stream=False)))
    await world.lab.request(CHAT)
    done, _ = await asyncio.wait([asking], timeout=0.3)  # three times the limit of streams
    assert not done
    world.gate.set()
    assert (await asking).status_code == 503
