"""A provider whose bill is known beforehand, and who can be made to wait.

What a question costs stands in its text: `ask(7, prompt=400, output=10)` is answered with a usage
of just so many tokens. Texts have one length, so that their bounds are the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from typing import Any, Final, NamedTuple

import grpc
import httpx2
import orjson
from rtrelay.v1 import GenerateRequest, GenerateResponse

from tests.fakes.converse_client import GENERATE, Answer, start
from tests.fakes.h1_server import Exchange, H1Server
from tests.fakes.relay_process import RelayProcess
from tests.fakes.relay_under_test import DONE, chat_body, chunk, provider, sse_payloads

CHAT: Final = "/v1/chat/completions"
PRICES: Final = {"m": {"input": 1.0, "output": 10.0}}
"""Dollars a million tokens, so micro-dollars a token."""
_ASKED: Final = re.compile(r"^q(\d{6}) (\d{5}) (\d{5})$")


class Asked(NamedTuple):
    """What a text says."""

    number: int
    prompt: int
    output: int

    @property
    def cost_micro(self) -> int:
        return self.prompt + 10 * self.output


def ask(number: int, prompt: int, output: int) -> str:
    """A text that is answered with this usage."""
    return f"q{number:06} {prompt:05} {output:05}"


TEXT_BYTES: Final = len(ask(0, prompt=0, output=0))


def read(text: str) -> Asked:
    found = _ASKED.match(text)
    assert found is not None, text
    return Asked(*map(int, found.groups()))


class MeteredLab:
    """Answers on the chat route of `server`.

    Args:
        words: of each answer.
        before_gate: how many of them are said without waiting for the gate.
        gap_s: before each word.
    """

    def __init__(
        self, server: H1Server, *, words: int = 3, before_gate: int = 0, gap_s: float = 0.0
    ) -> None:
        self.server = server
        self.gate = asyncio.Event()
        """Closed, it holds answers back."""
        self.gate.set()
        self.asked: set[int] = set()
        """Numbers that have come here."""
        self.attempts = 0
        self._words = words
        self._before_gate = before_gate
        self._gap_s = gap_s
        server.routes[CHAT] = self._script

    def row(self, **more: Any) -> dict[str, Any]:
        """Of the configuration."""
        return provider(self.server.url, prices=PRICES, **more)

    def had_more_than(self, attempts: int) -> bool:
        return self.attempts > attempts

    async def _script(self, exchange: Exchange) -> None:
        asked = read(orjson.loads(exchange.body)["messages"][-1]["content"])
        self.asked.add(asked.number)
        self.attempts += 1
        self.server.wake()
        if not self._before_gate:
            await self.gate.wait()
        kind = ("content-type", "text/event-stream")
        await exchange.head(200, kind, ("transfer-encoding", "chunked"))
        for index in range(self._words):
            if self._gap_s:
                await asyncio.sleep(self._gap_s)
            await exchange.chunk(chunk({"content": f"{asked.number}/{index} "}))
            if index + 1 == self._before_gate:
                await self.gate.wait()
        usage = {
            "prompt_tokens": asked.prompt,
            "completion_tokens": asked.output,
            "total_tokens": asked.prompt + asked.output,
        }
        await exchange.chunk(chunk(finish="stop") + chunk(usage=usage) + DONE)
        await exchange.chunk(b"")


class Delivered(NamedTuple):
    """What came of one question."""

    asked: Asked
    generation_id: str
    """The relay's; empty where not even that has come."""
    has_text: bool
    is_ended: bool
    """The client has seen the end, with its usage."""


class Asker:
    """Asks over a stream of its own and reads to the end, or to where the relay dies.

    Args:
        http: client of the relay; stays the caller's.
        key: virtual key.
    """

    def __init__(
        self, relay: RelayProcess, http: httpx2.AsyncClient, key: str, model: str = "fast"
    ) -> None:
        self._relay = relay
        self._http = http
        self._bearer = f"Bearer {key}"
        self._model = model
        self.has_text = asyncio.Event()
        """Of the question that is being asked."""

    async def by_http(self, asked: Asked) -> Delivered:
        self.has_text.clear()
        text, id_ = "", ""
        body = chat_body(self._model, text=ask(*asked), stream_options={"include_usage": True})
        headers = {"authorization": self._bearer}
        with contextlib.suppress(httpx2.TransportError):
            async with self._http.stream("POST", CHAT, json=body, headers=headers) as answer:
                assert answer.status_code == 200, (answer.status_code, await answer.aread())
                id_ = answer.headers["x-relay-request-id"]
                async for piece in answer.aiter_text():
                    text += piece
                    self._heard(f"{asked.number}/" in text)
        is_ended = text.endswith("data: [DONE]\n\n")
        if is_ended:
            usages = [one["usage"] for one in sse_payloads(text) if one.get("usage")]
            told = [(one["prompt_tokens"], one["completion_tokens"]) for one in usages]
            assert told == [asked[1:]], (asked, text)
        return Delivered(asked, id_, f"{asked.number}/" in text, is_ended)

    async def by_grpc(self, asked: Asked) -> Delivered:
        self.has_text.clear()
        answer = Answer()
        target = f"{self._relay.host}:{self._relay.ports['grpc']}"
        own = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
        async with grpc.aio.insecure_channel(target, options=own) as channel:
            rpc: Any = channel.unary_stream(
                GENERATE,
                request_serializer=GenerateRequest.SerializeToString,
                response_deserializer=GenerateResponse.FromString,
            )
            begin = GenerateRequest(start=start("", self._model, ask(*asked)))
            try:
                async for frame in rpc(begin, metadata=(("authorization", self._bearer),)):
                    answer.take(frame)
                    self._heard(bool(answer.text))
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise
        ids = [one.started.request_id for one in answer.frames if one.HasField("started")]
        end = answer.end
        if end is not None:
            assert end.usage_final, end
            assert (end.usage.prompt_tokens, end.usage.completion_tokens) == asked[1:], end
        return Delivered(asked, ids[0] if ids else "", bool(answer.text), end is not None)

    async def is_refused(self, key: str) -> None:
        """Ask with a key that is none; the relay may be gone."""
        with contextlib.suppress(httpx2.TransportError):
            bearer = {"authorization": f"Bearer {key}"}
            answer = await self._http.get("/v1/models", headers=bearer)
            # 429: so many were tried from this address that no more are looked at for a while.
            assert answer.status_code in (401, 429), answer.text

    def _heard(self, has_text: bool) -> None:
        if has_text:
            self.has_text.set()
