"""A provider for `Client(direct=...)` that does what a test tells it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager

from rtrelay.direct import Answer, Provider
from rtrelay.events import Event, TextDelta
from rtrelay.v1 import ChoiceEnd, End, FinishReason, Start, Usage

Script = Callable[[Start], AsyncGenerator[Event | End, None]]


class FakeProvider(Provider):
    """Answers by `script`; `starts` is what it was asked."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.starts: list[Start] = []
        self.open = 0
        """Answers that run now."""
        self.warmed = 0
        self.closed = 0

    @asynccontextmanager
    async def generate(self, start: Start) -> AsyncIterator[Answer]:
        self.starts.append(start)
        self.open += 1
        answer = self.script(start)
        try:
            yield answer
        finally:
            await answer.aclose()
            self.open -= 1

    async def warm(self) -> None:
        self.warmed += 1

    async def aclose(self) -> None:
        self.closed += 1


def end(**more: object) -> End:
    """A provider's last word."""
    stop = FinishReason.FINISH_REASON_STOP
    fields = {
        "choices": [ChoiceEnd(finish_reason=stop, raw_reason="stop")],
        "usage": Usage(prompt_tokens=2, completion_tokens=3, total_tokens=5),
        "model": "real-model",
        "response_id": "r1",
    }
    return End(**{**fields, **more})  # type: ignore[arg-type]


def says(*words: str, every_s: float = 0.0, hangs: bool = False) -> Script:
    """These words, each after a pause, and a clean end; or none."""

    async def script(start: Start) -> AsyncGenerator[Event | End, None]:
        offset = 0
        for word in words:
            if every_s:
                await asyncio.sleep(every_s)
            yield TextDelta(word, offset)
            offset += len(word)
        if hangs:
            await asyncio.Event().wait()
        yield end()

    return script
