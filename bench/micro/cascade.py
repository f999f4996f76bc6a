"""CPU of a cascade's own work for one request, on legs that have answered already.

    python -m bench.micro.cascade

`plain`: refusals and emptiness, an answer of 20 tokens in as many batches, released after 16.
`logprobs`: the same with log probabilities of each token, 8 of them looked at. `held`: JSON and a
schema, held to its end. `escalated`: a refusal, and a large answer. Best of many rounds,
microseconds a request; what a leg costs (a race of its own) is not in it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

import orjson

from relay.answer import Answer
from relay.config.cascades import CascadeConfig
from relay.content import (
    ChoiceFinished,
    Events,
    FinishReason,
    GenerateRequest,
    Message,
    OpaqueDelta,
    ResponseFormat,
    Role,
    StreamEvent,
    TextDelta,
    TextPart,
)
from relay.deadline import Clock
from relay.decision import Decision
from relay.policy.base import Leg, Whole
from relay.policy.cascade import Cascade
from relay.policy.cascade_budget import SpeculationBudgets

ROUNDS: Final = 20
REQUESTS: Final = 200

_REQUEST: Final = GenerateRequest("c", (Message(Role.USER, (TextPart("Where is it?"),)),))
_SCHEMA: Final = {"type": "object", "properties": {"at": {"type": "string"}}, "required": ["at"]}
_JSON: Final = ResponseFormat("json_schema", "at", schema_json=orjson.dumps(_SCHEMA))


def _text(text: str, tokens: int) -> list[list[StreamEvent]]:
    return [[TextDelta(text)] for _ in range(tokens)]


def _sure(text: str, tokens: int) -> list[list[StreamEvent]]:
    value = orjson.dumps({"content": [{"token": text, "logprob": -0.1}]})
    return [[TextDelta(text), OpaqueDelta("logprobs", value)] for _ in range(tokens)]


class _Leg:
    def __init__(self, label: str, batches: Sequence[Events]) -> None:
        self.label = self.model = label
        self.entry: dict[str, Any] = {}
        self.cost = 1.0
        self._batches = batches
        self._at = 0

    async def ready(self) -> None:
        return

    async def read(self) -> Events:
        if self._at == len(self._batches):
            return ()
        self._at += 1
        return self._batches[self._at - 1]

    async def whole(self) -> Whole:
        text = "".join(e.text for batch in self._batches for e in batch if isinstance(e, TextDelta))
        return Whole({0: text}, (), {}, {0: FinishReason.STOP}, None, (), 1.0, 0.0)

    def answer(self) -> Answer:
        return cast("Answer", self)

    def vectors_json(self) -> bytes:
        return b""

    def cancel(self, outcome: str = "cancelled") -> None:
        pass


class _Legs:
    def __init__(self, small: Sequence[Events]) -> None:
        self.clock: Clock = time.monotonic
        self.received_s = 0.0
        self.decision = Decision()
        self._small = small

    def estimate(self, model: str, request: GenerateRequest) -> float | None:
        return 1.0

    def start(
        self, label: str, model: str, request: GenerateRequest, *, is_hedged: bool = True
    ) -> Leg:
        return _Leg(label, self._small if label == "small" else _text("word ", 1))


_END: Final[list[list[StreamEvent]]] = [[ChoiceFinished(FinishReason.STOP, "stop")]]
CASES: Final[Mapping[str, tuple[dict[str, Any], GenerateRequest, Sequence[Events]]]] = {
    "plain": ({}, _REQUEST, [*_text("word ", 20), *_END]),
    "logprobs": (
        {"escalate": {"logprobs": {"tokens": 8, "mean_below": -0.5}}},
        _REQUEST,
        [*_sure("word ", 20), *_END],
    ),
    "held": (
        {},
        GenerateRequest("c", _REQUEST.messages, response_format=_JSON),
        [*_text('{"at": "', 1), *_text("word ", 17), *_text('"}', 1), *_END],
    ),
    "escalated": ({}, _REQUEST, [*_text("I can't help with that.", 1), *_END]),
}


async def _rounds(cascade: Cascade, request: GenerateRequest, small: Sequence[Events]) -> float:
    best_s = float("inf")
    for _ in range(ROUNDS):
        began_s = time.perf_counter()
        for _ in range(REQUESTS):
            await cascade.compose(request, _Legs(small))
        best_s = min(best_s, time.perf_counter() - began_s)
    return best_s / REQUESTS


def main() -> None:
    """Print each case."""
    for name, (more, request, small) in CASES.items():
        config = CascadeConfig.model_validate({"small": "s", "large": "l", **more})
        cascade = Cascade("c", config, SpeculationBudgets())
        print(f"{name:<10} {1e6 * asyncio.run(_rounds(cascade, request, small)):7.1f} us")


if __name__ == "__main__":
    main()
