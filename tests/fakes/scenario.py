"""A relay without its edges: catalog, in-memory providers and services on the virtual clock.

    scenario = Scenario({"a": FakeEndpoint(headers_s=0.5, chunks=answer("Hello"))})
    async with scenario.generation() as generation: ...
    scenario.check()

Each row of endpoints is a provider with that name; the alias `fast` has all of them as candidates,
those of `fallbacks` last. Times asked for are counted from the loop's beginning.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from relay.attempt import Attempt
from relay.config import parse
from relay.content import (
    Budgets,
    Events,
    GenerateRequest,
    Message,
    Policy,
    ReasoningOptions,
    Role,
    Sampling,
    StreamEvent,
    TextDelta,
    TextPart,
)
from relay.dispatch import Services
from relay.generation import Generation
from relay.governance.ledger import Ledger, NullLedger
from relay.outcome import AttemptRole, GenerationEnd
from relay.race_plan import RacePlan
from relay.reaper import Reaper
from relay.routing.catalog import Catalog
from relay.routing.plan import PlannedAttempt
from tests.fakes.memory_transport import FakeEndpoint, MemoryTransport
from tests.fakes.relay_under_test import DONE, chunk
from tests.fakes.virtual_time import START_S, now_s

Rows = Mapping[str, FakeEndpoint | Sequence[FakeEndpoint]]
Chunks = list[tuple[float, bytes]]

COMMENT = b": keep-alive\n\n"
ROLE = chunk({"role": "assistant", "content": ""})
ERROR = b'data: {"error": {"message": "boom", "type": "server_error"}}\n\n'


def answer(*words: str, first_s: float = 0.0, gap_s: float = 0.0) -> Chunks:
    """A whole, clean answer: the first word after `first_s`, the others `gap_s` apart."""
    waits = [first_s, *[gap_s] * (len(words) - 1)]
    spoken = [(wait, chunk({"content": word})) for wait, word in zip(waits, words, strict=True)]
    return [(0.0, ROLE), *spoken, (0.0, chunk(finish="stop")), (0.0, DONE)]


def request(**fields: Any) -> GenerateRequest:
    """A small request for the alias; `budgets` go where they belong."""
    budgets = fields.pop("budgets", Budgets())
    given: dict[str, Any] = {
        "model": "fast",
        "messages": (Message(Role.USER, (TextPart("Hello"),)),),
        "policy": Policy(budgets=budgets),
    }
    return GenerateRequest(**{**given, **fields})


WITH_TOP_K = Sampling(top_k=1)
WITH_REASONING = ReasoningOptions(effort="high")


def text_of(events: Sequence[StreamEvent]) -> str:
    """The text of all choices together."""
    return "".join(event.text for event in events if isinstance(event, TextDelta))


class Scenario:
    """See the module."""

    def __init__(
        self,
        rows: Rows,
        *,
        fallbacks: Sequence[str] = (),
        timeouts: Mapping[str, int] | None = None,
        refuses: Mapping[str, Sequence[str]] | None = None,
        rows_more: Mapping[str, Mapping[str, Any]] | None = None,
        alias_more: Mapping[str, Any] | None = None,
        ledger: Ledger | None = None,
        slow_consumer_s: float = 30.0,
    ) -> None:
        """
        Args:
            timeouts: of the alias, in milliseconds.
            refuses: by provider, what its wire cannot say.
            rows_more: by provider, further keys of its row (`rpm`).
            alias_more: further keys of the alias (`hedge`, `choose`).
        """
        refused = refuses or {}
        document = {
            "providers": {
                name: {
                    "wire": "openai_chat",
                    "base_url": f"https://{name}.test/v1",
                    "auth": "none",
                    "quirks": {"refuses": list(refused.get(name, ()))},
                    **(rows_more or {}).get(name, {}),
                }
                for name in rows
            },
            "models": {
                "fast": {
                    "candidates": [
                        {"provider": name, "model": "m"} for name in rows if name not in fallbacks
                    ],
                    "fallbacks": [{"provider": name, "model": "m"} for name in fallbacks],
                    "timeouts": {
                        "connect_ms": 1000,
                        "first_token_ms": 4000,
                        "inter_token_ms": 5000,
                        "total_ms": 60_000,
                        **(timeouts or {}),
                    },
                    **(alias_more or {}),
                }
            },
        }
        self.transport = MemoryTransport({f"{name}.test": row for name, row in rows.items()})
        self.reaper = Reaper()
        self.services = Services(
            catalog=Catalog(parse(document)),
            transport=self.transport,
            ledger=ledger or NullLedger(),
            reaper=self.reaper,
            clock=now_s,
            slow_consumer_s=slow_consumer_s,
        )

    def plan(self, wanted: GenerateRequest | None = None) -> RacePlan:
        """Where the request may go."""
        wanted = wanted or request()
        route = self.services.catalog.resolve(wanted.model)
        return self.services.planner.plan(route, wanted, prompt_tokens=10, elapsed_s=0.0)

    def attempt(self, wanted: GenerateRequest | None = None, step: int = 0) -> Attempt:
        """The attempt at one step of the plan."""
        return self.start(self.plan(wanted).attempts[step], wanted)

    def start(
        self,
        step: PlannedAttempt,
        wanted: GenerateRequest | None = None,
        role: AttemptRole = AttemptRole.PRIMARY,
    ) -> Attempt:
        """Make one planned attempt, as dispatch does."""
        wanted = wanted or request()
        return Attempt(
            step.target,
            wanted,
            self.plan(wanted).timeouts,
            transport=self.transport,
            reaper=self.reaper,
            clock=now_s,
            received_s=now_s(),
            state=self.services.planner.states.of(step.target, now_s()),
            role=role,
            estimated_prompt_tokens=10,
        )

    def generation(self, wanted: GenerateRequest | None = None, **more: Any) -> Generation:
        """A generation of this scenario, not entered yet."""
        named = {"generation_id": "gen_1", "frontend": "test", **more}
        return Generation(self.services, wanted or request(), **named)

    async def generate(
        self, wanted: GenerateRequest | None = None, **more: Any
    ) -> tuple[list[Events], GenerationEnd]:
        """A generation from start to end, read as fast as it comes."""
        generation = self.generation(wanted, **more)
        batches: list[Events] = []
        async with generation:
            if await generation.commit():
                async for events in generation:
                    batches.append(events)
                    generation.released()
        assert generation.end is not None
        return batches, generation.end

    @property
    def started(self) -> list[tuple[str, float]]:
        """Which providers were asked, and when."""
        return [(a.host[: -len(".test")], _since(a.started_s)) for a in self.transport.attempts]

    @property
    def aborted(self) -> list[tuple[str, float]]:
        """Whose streams were left before their end, and when."""
        return [
            (a.host[: -len(".test")], _since(a.aborted_s))
            for a in self.transport.attempts
            if a.aborted_s is not None
        ]

    async def settled(self) -> None:
        """Wait for what runs in the background (last frames of finished streams)."""
        await self.reaper.aclose(grace_s=5.0)

    def check(self) -> None:
        """Nothing is held any more: no stream, no slot, no generation, no background work."""
        assert not self.transport.unfinished, "streams were leaked"
        assert [row.open_streams for row in self.transport.describe() if row.open_streams] == []
        assert len(self.services.live) == 0
        assert len(self.reaper) == 0


def _since(at_s: float) -> float:
    return round(at_s - START_S, 9)
