"""`relay.policy.base.Legs` over a simulated world: a leg says at its times what its model says."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, cast

import orjson

from bench.cascade.world import (
    MODELS,
    PROMPT_TOKENS,
    SIDE_TOKENS,
    Model,
    Question,
    Said,
    answer_of,
    reply_of,
)
from relay.answer import Answer
from relay.content import (
    ChoiceFinished,
    Events,
    FinishReason,
    GenerateRequest,
    OpaqueDelta,
    StreamEvent,
    TextDelta,
)
from relay.deadline import Clock
from relay.decision import Decision
from relay.errors import ClientCancelled
from relay.policy.base import Whole
from relay.policy.questions import last_user_text


class SimulatedLeg:
    """One answer; it goes on by the clock, whoever reads it."""

    def __init__(self, label: str, model: Model, said: Said, prompt_tokens: int) -> None:
        self.label = label
        self.model = model.name
        self.entry: dict[str, Any] = {"label": label, "model": model.name}
        self.said = said
        self.is_given = False
        self._model = model
        self._prompt_tokens = prompt_tokens
        self._loop = asyncio.get_running_loop()
        self.began_s = self._loop.time()
        self._read = 0
        self._gone = asyncio.Event()
        self._stopped_s: float | None = None

    def _due_s(self, token: int) -> float:
        return self.began_s + self.said.ttft_s + token * self._model.gap_s

    async def _until(self, at_s: float) -> None:
        if not self._gone.is_set():
            try:
                async with asyncio.timeout_at(at_s):
                    await self._gone.wait()
            except TimeoutError:
                return
        raise ClientCancelled("nobody needs this leg")

    @property
    def tokens_out(self) -> int:
        """That were written before it was stopped, or at all."""
        tokens = len(self.said.tokens)
        if self._stopped_s is None:
            return tokens
        written = (self._stopped_s - self.began_s - self.said.ttft_s) / self._model.gap_s
        return max(0, min(tokens, int(written) + 1))

    @property
    def cost(self) -> float:
        """The prompt is paid from the start on."""
        return self._model.cost(self._prompt_tokens, self.tokens_out)

    async def ready(self) -> None:
        await self._until(self._due_s(0))

    async def read(self) -> Events:
        said, at = self.said, self._read
        if at > len(said.tokens):
            return ()
        await self._until(self._due_s(min(at, len(said.tokens) - 1)))
        self._read += 1
        if at == len(said.tokens):
            return [ChoiceFinished(FinishReason.STOP, "stop")]
        return _events(said.tokens[at], said.logprobs[at])

    async def whole(self) -> Whole:
        await self._until(self._due_s(len(self.said.tokens) - 1))
        self._read = len(self.said.tokens) + 1
        return Whole(
            texts={0: self.said.text},
            tool_calls=(),
            refusals={},
            finish={0: FinishReason.STOP},
            usage=None,
            logprobs_json=(),
            cost=self.cost,
            took_s=self._loop.time() - self.began_s,
        )

    def answer(self) -> Answer:
        self.is_given = True
        return cast("Answer", self)  # nobody reads it here

    def vectors_json(self) -> bytes:
        return b""

    def cancel(self, outcome: str = "cancelled") -> None:
        if self._stopped_s is None and not self.is_given:
            self._stopped_s = self._loop.time()
            self._gone.set()


class SimulatedLegs:
    """Of one request."""

    def __init__(self, question: Question, seed: int) -> None:
        loop = asyncio.get_running_loop()
        self.clock: Clock = loop.time
        self.received_s = loop.time()
        self.decision = Decision()
        self.started: list[SimulatedLeg] = []
        self._question = question
        self._seed = seed

    def estimate(self, model: str, request: GenerateRequest) -> float | None:
        return MODELS[model].cost(PROMPT_TOKENS, 50)

    def start(
        self, label: str, model: str, request: GenerateRequest, *, is_hedged: bool = True
    ) -> SimulatedLeg:
        tier, question = MODELS[model], self._question
        if label in ("small", "large"):
            said, prompt_tokens = answer_of(tier, question, self._seed), PROMPT_TOKENS
        else:
            said = reply_of(tier, question, label, last_user_text(request), self._seed)
            prompt_tokens = SIDE_TOKENS if label == "classifier" else PROMPT_TOKENS + SIDE_TOKENS
        leg = SimulatedLeg(label, tier, said, prompt_tokens)
        self.started.append(leg)
        return leg


def _events(token: str, logprob: float) -> Sequence[StreamEvent]:
    value = orjson.dumps({"content": [{"token": token, "logprob": logprob}]})
    return [TextDelta(token), OpaqueDelta("logprobs", value)]
