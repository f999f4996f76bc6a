"""A whole worker in the test's own loop, on free ports, in front of scripted providers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anthropic
import grpc
import httpx2
import openai
import orjson
from rtrelay.v1 import RelayServiceStub, Start

from relay.config import parse
from relay.planner import Planner
from relay.server import Worker
from relay.target_state import TargetStates
from tests.fakes.converse_client import Conversation, Generated, generate

Document = dict[str, Any]


class RelayUnderTest:
    """A started worker and clients for it; made by `relay_under_test`."""

    def __init__(self, worker: Worker, channel: grpc.aio.Channel, http: httpx2.AsyncClient) -> None:
        self.worker = worker
        self.channel = channel
        self.stub = RelayServiceStub(channel)
        self.http = http

    @property
    def base_url(self) -> str:
        """For OpenAI clients."""
        return f"http://127.0.0.1:{self.worker.http_port}/v1"

    async def chat(self, body: Document, **headers: str) -> httpx2.Response:
        """One request to the shim, its whole answer read."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.http.post("/v1/chat/completions", json=body, headers=named)

    def openai(self, **options: Any) -> openai.AsyncOpenAI:
        """The official client, to be used in `async with`; it retries nothing unless told to."""
        http = openai.DefaultAsyncHttpxClient(trust_env=False)
        return openai.AsyncOpenAI(
            base_url=self.base_url,
            **{"api_key": "any", "max_retries": 0, "http_client": http, **options},
        )

    def anthropic(self, **options: Any) -> anthropic.AsyncAnthropic:
        """Anthropic's official client, likewise."""
        http = anthropic.DefaultAsyncHttpxClient(trust_env=False)
        return anthropic.AsyncAnthropic(
            base_url=f"http://127.0.0.1:{self.worker.http_port}",
            **{"api_key": "any", "max_retries": 0, "http_client": http, **options},
        )

    def admin(self) -> httpx2.AsyncClient:
        """A client of the admin listener, to be used in `async with`."""
        url = f"http://127.0.0.1:{self.worker.admin_port}"
        return httpx2.AsyncClient(base_url=url, trust_env=False, timeout=20)

    def talk(self, **setup: Any) -> Conversation:
        """A session, to be used in `async with`."""
        return Conversation(self.channel, **setup)

    async def generate(
        self, request: Start | bytes, *, timeout_s: float | None = None
    ) -> Generated:
        """One Generate call, run to its end."""
        return await generate(self.channel, request, timeout_s=timeout_s)

    def forget(self) -> None:
        """Drop what the worker has learnt of its targets (an empty rate limit, say), so that a
        test does not depend on those before it."""
        services = self.worker.services
        services.planner = Planner(TargetStates(), services.clock)

    async def settled(self) -> None:
        """Wait until nothing runs: no generation, no upstream stream, no background task.

        Raises:
            TimeoutError: something is left.
        """
        services = self.worker.services

        def is_quiet() -> bool:
            rows = services.transport.describe()
            busy = sum(row.open_streams + row.waiting for row in rows)
            return not busy and not len(services.live) and not len(services.reaper)

        await eventually(is_quiet)


async def eventually(condition: Callable[[], object], timeout_s: float = 5.0) -> None:
    """Wait for something that tells nobody when it happens.

    Raises:
        TimeoutError: it did not.
    """
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.002)


@asynccontextmanager
async def relay_under_test(document: Document) -> AsyncIterator[RelayUnderTest]:
    """Start a worker with a configuration document; its listeners' ports are filled in.

    Leaving the block closes everything; what runs then is cut off.
    """
    server: Document = {
        "grpc": {"address": "127.0.0.1:0"},
        "http": {"address": "127.0.0.1:0"},
        "admin": {"address": "127.0.0.1:0"},
    }
    for key, value in document.get("server", {}).items():
        server[key] = {**server.get(key, {}), **value} if isinstance(value, dict) else value
    worker = Worker(parse({**document, "server": server}))
    try:
        await worker.start()
        channel = grpc.aio.insecure_channel(f"127.0.0.1:{worker.grpc_port}")
        http = httpx2.AsyncClient(
            base_url=f"http://127.0.0.1:{worker.http_port}", trust_env=False, timeout=20
        )
        async with channel, http:
            yield RelayUnderTest(worker, channel, http)
    finally:
        await worker.aclose()


def provider(url: str, **more: Any) -> Document:
    """A provider row for a scripted server: one warm connection, no key."""
    return {
        "wire": "openai_chat",
        "base_url": f"{url}/v1",
        "auth": "none",
        "warm_connections": 1,
        "probe_path": "/v1/models",
        **more,
    }


def chat_body(model: str = "fast", text: str = "Hello", **more: Any) -> Document:
    """A small streaming request."""
    return {
        "model": model,
        "stream": True,
        "messages": [{"role": "user", "content": text}],
        **more,
    }


def chunk(delta: Document | None = None, *, finish: str | None = None, **more: Any) -> bytes:
    """One provider event with one choice."""
    value = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "upstream-model",
        "choices": [{"index": 0, "delta": delta or {}, "finish_reason": finish}],
        **more,
    }
    return b"data: " + orjson.dumps(value) + b"\n\n"


DONE = b"data: [DONE]\n\n"


def answer_chunks(*words: str) -> list[bytes]:
    """A whole, clean answer."""
    head = [chunk({"role": "assistant", "content": ""})]
    return [*head, *(chunk({"content": word}) for word in words), chunk(finish="stop"), DONE]


def sse_payloads(text: str) -> Sequence[Document]:
    """The JSON payloads of a stream of ours, `[DONE]` left out."""
    return [
        orjson.loads(line[6:])
        for line in text.split("\n")
        if line.startswith("data: ") and line != "data: [DONE]"
    ]
