"""What the LiveKit tests share: prompts, reading a stream with its times, metrics."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any

from livekit.agents import APIError, llm
from livekit.agents.metrics import LLMMetrics
from livekit.agents.types import APIConnectOptions

ONCE = APIConnectOptions(max_retry=0)
"""Of the OpenAI plugin: the relay has tried what it may, and LiveKit's retries would add to it."""


@llm.function_tool
async def get_weather(city: str, days: int) -> str:
    """The weather of a city.

    Args:
        city: which one.
        days: for how many days.
    """
    return f"Sunny in {city} for {days} days."


def ask(text: str = "Hello") -> llm.ChatContext:
    """A prompt of one question."""
    context = llm.ChatContext.empty()
    context.add_message(role="user", content=text)
    return context


@dataclass
class Heard:
    """What came of a stream."""

    text: str = ""
    calls: list[llm.FunctionToolCall] = field(default_factory=list)
    usage: llm.CompletionUsage | None = None
    error: APIError | None = None
    first_ms: float | None = None
    """From the request to the first text or tool call."""
    end_ms: float = 0.0


async def hear(stream: llm.LLMStream) -> Heard:
    """Read to its end or its error."""
    heard = Heard()
    start_s = time.monotonic()
    async with stream:
        try:
            async for chunk in stream:
                if chunk.has_response() and heard.first_ms is None:
                    heard.first_ms = (time.monotonic() - start_s) * 1e3
                if chunk.delta is not None:
                    heard.text += chunk.delta.content or ""
                    heard.calls += chunk.delta.tool_calls
                heard.usage = chunk.usage or heard.usage
        except APIError as error:
            heard.error = error
        heard.end_ms = (time.monotonic() - start_s) * 1e3
    return heard


class Metrics:
    """Collects what an LLM tells of its requests."""

    def __init__(self, model: llm.LLM[Any]) -> None:
        self.seen: list[LLMMetrics] = []
        self._came = asyncio.Event()
        model.on("metrics_collected", self._take)

    def _take(self, metrics: LLMMetrics) -> None:
        self.seen.append(metrics)
        self._came.set()

    async def next(self) -> LLMMetrics:
        """The first that is not taken yet."""
        async with asyncio.timeout(5):
            while not self.seen:
                self._came.clear()
                await self._came.wait()
        return self.seen.pop(0)
