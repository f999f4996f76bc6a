"""A line whose answers come when the test says, on the clock of the loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from relay.calls.line import Answer, CancelReason, Ended, Piece, Request, Spoken, ToolCalled


@dataclass
class FakeAnswer:
    """Sentences half a second apart, the first half a second after the start."""

    request: Request
    started_s: float
    supersedes: FakeAnswer | None
    committed_s: float = 0.0
    cancelled_s: float = 0.0
    reason: str = ""
    over: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None
    outcome: Literal["completed", "cancelled", "failed"] = "completed"

    def commit(self) -> None:
        self.committed_s = asyncio.get_running_loop().time()

    def cancel(self, reason: CancelReason) -> None:
        if self.cancelled_s or self.over.is_set():
            return
        self.cancelled_s, self.reason = asyncio.get_running_loop().time(), reason
        self.outcome = "cancelled"
        if self.task is not None:
            self.task.cancel()

    async def ended(self) -> Ended:
        await self.over.wait()
        return Ended(self.outcome)


class FakeLine:
    """Says `sentences` to everybody; calls the tool that is offered."""

    def __init__(self, *sentences: str, first_s: float = 0.5) -> None:
        self.sentences = sentences
        self.first_s = first_s
        self.answers: list[FakeAnswer] = []

    def start(
        self, request: Request, on_piece: Callable[[Piece], None], supersedes: Answer | None = None
    ) -> FakeAnswer:
        assert supersedes is None or isinstance(supersedes, FakeAnswer)
        if supersedes is not None:
            supersedes.cancel("superseded")
        answer = FakeAnswer(request, asyncio.get_running_loop().time(), supersedes)
        answer.task = asyncio.create_task(self._speak(answer, on_piece))
        self.answers.append(answer)
        return answer

    async def _speak(self, answer: FakeAnswer, on_piece: Callable[[Piece], None]) -> None:
        try:
            await asyncio.sleep(self.first_s)
            if answer.request.tools:
                on_piece(ToolCalled("c1", "look", "{}"))
                return
            for sentence in self.sentences:
                on_piece(Spoken(sentence))
                await asyncio.sleep(0.5)
        finally:
            answer.over.set()
