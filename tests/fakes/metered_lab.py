"""A provider whose bill is known beforehand, and who can be made to wait.

What a question costs stands in its text: `ask(7, prompt=400, output=10)` is answered with a usage
of just so many tokens. Texts have one length, so that their bounds are the same.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any, Final, NamedTuple

import orjson

from tests.fakes.h1_server import Exchange, H1Server
from tests.fakes.relay_under_test import DONE, chunk, provider

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


def ask(number: int, *, prompt: int, output: int) -> str:
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
        gap_s: before each word.
    """

    def __init__(self, server: H1Server, *, words: int = 3, gap_s: float = 0.0) -> None:
        self.server = server
        self.gate = asyncio.Event()
        """Answers wait for it before their first word."""
        self.gate.set()
        self.asked: set[int] = set()
        """Numbers that have come here."""
        self.attempts = 0
        self._words = words
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
        await self.gate.wait()
        kind = ("content-type", "text/event-stream")
        await exchange.head(200, kind, ("transfer-encoding", "chunked"))
        for index in range(self._words):
            if self._gap_s:
                await asyncio.sleep(self._gap_s)
            await exchange.chunk(chunk({"content": f"{asked.number}/{index} "}))
        usage = {
            "prompt_tokens": asked.prompt,
            "completion_tokens": asked.output,
            "total_tokens": asked.prompt + asked.output,
        }
        await exchange.chunk(chunk(finish="stop") + chunk(usage=usage) + DONE)
        await exchange.chunk(b"")
