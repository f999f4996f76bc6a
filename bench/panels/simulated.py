"""The relay's panel, unmodified, over legs that are draws, on a simulated clock."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, NamedTuple

from bench.panels.world import JUDGED, Draw, World, cost_of
from bench.replay.world import Provider
from relay.answer import Answer
from relay.config.panels import PanelConfig
from relay.content import Events, FinishReason, GenerateRequest, Message, Role, TextPart
from relay.decision import Decision
from relay.errors import ClientCancelled
from relay.policy.base import Leg, Whole
from relay.policy.panel import Panel
from relay.whatif import clock

REQUEST = GenerateRequest(model="panel", messages=(Message(Role.USER, (TextPart("How many?"),)),))


class SimulatedLeg:
    """A `Leg` of which `Panel` uses `whole`, `answer` and `cancel`."""

    def __init__(self, label: str, model: str, draw: Draw, entry: dict[str, Any]) -> None:
        self.label = label
        self.model = model
        self.entry = entry
        self.draw = draw
        self.is_given = False
        self.tokens = draw.tokens
        self._loop = loop = asyncio.get_running_loop()
        self._began_s = loop.time()
        self._whole: asyncio.Future[Whole] = loop.create_future()
        self._whole.add_done_callback(lambda done: done.exception())
        self._timer = loop.call_later(draw.whole_s, self._end)

    def _end(self) -> None:
        whole = Whole(
            {0: f"It is {self.draw.says}"},
            (),
            {},
            {0: FinishReason.STOP},
            None,
            (),
            None,
            self.draw.whole_s,
        )
        self._whole.set_result(whole)

    @property
    def cost(self) -> float | None:
        return None

    @property
    def is_stopped(self) -> bool:
        """Before its end."""
        return self.tokens < self.draw.tokens

    async def ready(self) -> None:
        raise NotImplementedError("a panel reads whole answers")

    async def read(self) -> Events:
        raise NotImplementedError("a panel reads whole answers")

    async def whole(self) -> Whole:
        return await asyncio.shield(self._whole)

    def answer(self) -> Answer:
        self.is_given = True
        return None  # type: ignore[return-value]

    def vectors_json(self) -> bytes:
        return b""

    def cancel(self, outcome: str = "cancelled") -> None:
        if not self._whole.done():
            self._timer.cancel()
            self.tokens = self.draw.seen_tokens(self._loop.time() - self._began_s)
            self._whole.set_exception(ClientCancelled(outcome))


class SimulatedLegs:
    """`Legs` over the draws of one request."""

    def __init__(self, draws: Sequence[Draw]) -> None:
        self.clock = asyncio.get_running_loop().time
        self.received_s = self.clock()
        self.decision = Decision()
        self.started: list[SimulatedLeg] = []
        self._draws = draws

    def estimate(self, model: str, request: GenerateRequest) -> float | None:
        return None

    def start(
        self, label: str, model: str, request: GenerateRequest, *, is_hedged: bool = True
    ) -> Leg:
        leg = SimulatedLeg(label, model, self._draws[len(self.started)], {})
        self.started.append(leg)
        return leg


class Played(NamedTuple):
    """One request, decided."""

    ttft_s: float
    total_s: float
    cost: float
    """Micro-dollars, if every provider stops billing when it is told to."""
    tokens: int
    stopped: int
    is_right: bool


def alone(world: World, member: int) -> list[Played]:
    """One model for all."""
    provider = world.providers[member]
    return [
        Played(
            draws[member].ttft_s,
            draws[member].whole_s,
            cost_of(provider, draws[member].tokens),
            draws[member].tokens,
            0,
            draws[member].says == JUDGED,
        )
        for draws in world.requests
    ]


def panel(world: World, **settings: Any) -> list[Played]:
    """All of them, by a majority of equal numbers."""
    document = {
        "models": [provider.model for provider in world.providers],
        "decide": {"majority": {"equality": {"number": {}}}},
        **settings,
    }
    one = Panel("panel", PanelConfig.model_validate(document))

    async def play() -> list[Played]:
        return [await _played(one, draws, world.providers) for draws in world.requests]

    return clock.run(play())


async def _played(one: Panel, draws: Sequence[Draw], providers: Sequence[Provider]) -> Played:
    legs = SimulatedLegs(draws)
    await one.compose(REQUEST, legs)
    took_s = legs.clock() - legs.received_s
    (given,) = (leg for leg in legs.started if leg.is_given)
    return Played(
        took_s,
        took_s,
        sum(cost_of(p, leg.tokens) for p, leg in zip(providers, legs.started, strict=True)),
        sum(leg.tokens for leg in legs.started),
        sum(leg.is_stopped for leg in legs.started),
        given.draw.says == JUDGED,
    )
