"""Doors for tests: in-memory providers behind a real catalog, on the virtual clock."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from relay.config import parse
from relay.measuring.prompts import Shape
from relay.measuring.rounds import Bound, Dials, Rounds
from relay.measuring.samples import Door, Sample
from relay.routing.catalog import Catalog
from relay.transport.base import Origin, PhaseMark
from tests.fakes.memory_transport import FakeEndpoint, MemoryStream, MemoryTransport
from tests.fakes.relay_under_test import DONE, chunk
from tests.fakes.scenario import answer
from tests.fakes.virtual_time import now_s

SHAPE = Shape()
PRICES = {"m": {"input": 1.0, "output": 2.0}}
PROMPT, COMPLETION = 1000, 5
COST = PROMPT * 1.0 + COMPLETION * 2.0
"""Of one request as the providers here count it, USD 1e-6."""


def counted(first_s: float) -> list[tuple[float, bytes]]:
    """An answer whose first word comes so late, with its account."""
    total = {"prompt_tokens": PROMPT, "completion_tokens": COMPLETION, "total_tokens": 1005}
    return [*answer("OK", first_s=first_s)[:-1], (0.0, chunk(usage=total)), (0.0, DONE)]


class DiallingTransport(MemoryTransport):
    """Tells of connections that took time, as the pool does."""

    on_dial: Callable[[Origin, float], None] = staticmethod(lambda _origin, _took_s: None)

    async def open(
        self, origin: Origin, *arguments: Any, mark: PhaseMark | None = None, **more: Any
    ) -> MemoryStream:
        began_s = now_s()

        def marked(phase: str) -> None:
            if phase == "pool_wait" and (took_s := now_s() - began_s) > 0:
                self.on_dial(origin, took_s)
            if mark is not None:
                mark(phase)

        return await super().open(origin, *arguments, mark=marked, **more)


class World:
    """Providers by name, each asked for the model `m`."""

    def __init__(
        self,
        providers: Mapping[str, FakeEndpoint | Sequence[FakeEndpoint]],
        rows: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        self.transport = DiallingTransport({f"{n}.test": end for n, end in providers.items()})
        document = {
            name: {
                "wire": "openai_chat",
                "base_url": f"https://{name}.test/v1",
                "auth": "none",
                "prices": PRICES,
                **(rows or {}).get(name, {}),
            }
            for name in providers
        }
        self.catalog = Catalog(parse({"providers": document}))
        self.doors: list[Door] = []
        for name in providers:
            target = self.catalog.resolve(f"{name}/m").candidates[0]
            self.doors.append(Door(target, target.price))
        self.dials = Dials(now_s)
        self.transport.on_dial = self.dials
        self.said: list[str] = []

    def rounds(
        self, samples: int, *, max_usd: float = 1.0, shape: Shape = SHAPE, **more: Any
    ) -> Rounds:
        return Rounds(
            self.doors,
            self.catalog,
            shape,
            Bound(samples, max_usd * 1e6),
            transport=self.transport,
            dials=self.dials,
            clock=now_s,
            rng=random.Random(7),
            say=self.said.append,
            **more,
        )

    @property
    def asked(self) -> list[str]:
        """Who was asked, in order."""
        return [attempt.host.removesuffix(".test") for attempt in self.transport.attempts]


def sample(
    ttft_s: float,
    *,
    prompt: int = 100,
    is_long: bool = False,
    is_cold: bool = False,
    at_s: float = 0,
) -> Sample:
    return Sample(ttft_s, prompt, 0, is_long=is_long, is_cold=is_cold, at_s=at_s)
