"""A provider of OpenAI's wire that answers everything it is asked, and keeps what that was."""

from __future__ import annotations

import random
from typing import Any

import orjson

from relay.emulator.answer import Answer, Wanted, make_answer
from relay.emulator.vectors import Vectors
from relay.emulator.wires.base import Headers, Wire
from relay.emulator.wires.openai_chat import OpenAIChat
from tests.fakes.h1_server import Exchange, H1Server

CHAT = "/v1/chat/completions"
EMBEDDINGS = "/v1/embeddings"


class KeepingProvider(H1Server):
    """Never fails: whatever a client is refused, the relay has refused."""

    def __init__(self) -> None:
        super().__init__()
        self.routes = {CHAT: self._chat, EMBEDDINGS: self._vectors}

    def bodies(self, path: str) -> list[dict[str, Any]]:
        """What was asked there, oldest first."""
        return [orjson.loads(exchange.body) for exchange in self.requests(path)]

    async def _chat(self, exchange: Exchange) -> None:
        wire = OpenAIChat()
        answer = self._answer(wire, exchange)
        events = b"".join(event[1] for event in wire.events(answer))
        await _send(exchange, wire.stream_head(answer), events)

    async def _vectors(self, exchange: Exchange) -> None:
        wire = Vectors(OpenAIChat())
        answer = self._answer(wire, exchange)
        await _send(exchange, wire.json_head(answer), wire.body(answer))

    def _answer(self, wire: Wire, exchange: Exchange) -> Answer:
        body = orjson.loads(exchange.body)
        body.pop("dimensions", None)  # the emulator has fewer than may be asked for
        asked = wire.ask(exchange.path, body, len(exchange.body))
        return make_answer(asked, Wanted(text="Yes, of course."), random.Random(1), 1)


async def _send(exchange: Exchange, headers: Headers, body: bytes) -> None:
    await exchange.head(200, *headers, ("content-length", str(len(body))))
    await exchange.write(body)
