"""A worker's exact cache on a virtual clock, with a scripted provider and scripted clients."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from relay.answer import TextSource
from relay.cache.base import CacheScope
from relay.cache.caches import ResponseCaches
from relay.cache.exact import ExactCache
from relay.cache.memory import MemoryStore
from relay.cache.near import Near
from relay.cache.shelf import SharedStore, Shelf
from relay.config.cache import ExactCacheConfig
from relay.content import (
    Budgets,
    ChoiceFinished,
    Events,
    FinishReason,
    GenerateRequest,
    Message,
    Policy,
    ResponseInfo,
    Role,
    StreamEvent,
    TextDelta,
    TextPart,
    Usage,
)
from relay.decision import Decision
from relay.errors import RelayError, UpstreamError
from relay.policy.base import Legs
from relay.routing.route import Timeouts
from relay.timeline import AttemptMarks
from tests.fakes.virtual_time import now_s

SCOPE = CacheScope("team", "key", "fast", "", "v1")
NO_LEGS = cast(Legs, None)
WALL_S = 1_800_000_000.0
"""What the wall clock shows when the loop's shows 0."""
COST_MICRO = 70
INFO = ResponseInfo("chatcmpl-first", "upstream", 1_700_000_000)
STOP = ChoiceFinished(FinishReason.STOP, "stop")
USAGE = Usage(7, 5, 12)
WHOLE: Sequence[Events] = (
    (INFO, TextDelta("Hel")),
    (TextDelta("lo"),),
    (TextDelta(" you"), STOP),
    (USAGE,),
)


def wall_s() -> float:
    """The wall clock."""
    return WALL_S + now_s()


def price_of(provider: str, model: str, usage: Usage) -> int | None:
    """Ten micro-dollars a token of the prompt."""
    return usage.prompt_tokens * 10


def asked(text: str = "Hello", **fields: Any) -> GenerateRequest:
    """A small request; `cache`, `cache_ttl_s` and `budgets` go where they belong."""
    policy = {name: fields.pop(name) for name in ("cache", "cache_ttl_s") if name in fields}
    given: dict[str, Any] = {
        "model": "fast",
        "messages": (Message(Role.USER, (TextPart(text),)),),
        "policy": Policy(budgets=fields.pop("budgets", Budgets()), **policy),
    }
    return GenerateRequest(**{**given, **fields})


class FakeAnswer:
    """A provider's answer: the first batch is the prelude, the others come `gap_s` apart; after the
    last of them it ends, or `error` does that."""

    provider = "acme"
    model = "large"
    name = "acme/large"
    timeouts = Timeouts(1.0, 1.0, 30.0, 60.0)
    output_bytes = None

    def __init__(
        self,
        batches: Sequence[Events] = WHOLE,
        *,
        gap_s: float = 0.0,
        error: RelayError | None = None,
        text_source: TextSource | None = None,
    ) -> None:
        self.marks = AttemptMarks(0.0)
        self.prelude: Events = batches[0]
        self._rest = list(batches[1:])
        self._gap_s = gap_s
        self._error = error
        self._text_source = text_source
        self.is_over = False
        self.ended: list[str] = []

    async def read(self) -> Events:
        await asyncio.sleep(self._gap_s)
        if self._rest:
            return self._rest.pop(0)
        self.is_over = True
        if self._error is not None:
            raise self._error
        return ()

    def text_source(self) -> TextSource | None:
        return self._text_source

    def spent(self, usage: Usage) -> None:
        self.ended.append("spent")

    def abort(self) -> None:
        self.is_over = True
        self.ended.append("abort")

    def fail(self, error: UpstreamError) -> None:
        self.is_over = True
        self.ended.append("fail")


@dataclass
class Asked:
    """What became of one request."""

    decision: Decision = field(default_factory=Decision)
    events: list[StreamEvent] = field(default_factory=list)
    was_asked: bool = False
    """The provider was."""
    error: BaseException | None = None
    took_s: float = 0.0

    @property
    def text(self) -> str:
        return "".join(event.text for event in self.events if isinstance(event, TextDelta))


class World:
    """See the module."""

    def __init__(
        self,
        *,
        shared: SharedStore | None = None,
        near: Near | None = None,
        shelf: Shelf | None = None,
        has_exact: bool = True,
        **config: Any,
    ) -> None:
        self.config = ExactCacheConfig(**config)
        self.shelf = shelf or Shelf(
            MemoryStore(self.config.max_entries, self.config.max_bytes),
            shared,
            memory_ttl_s=self.config.memory_ttl_s,
            clock=now_s,
            wall_clock=wall_s,
        )
        self.caches = ResponseCaches(
            ExactCache(self.config, self.shelf) if has_exact else None,
            near,
            price_of=price_of,
            clock=now_s,
            wall_clock=wall_s,
        )
        self.upstream_calls = 0
        self.upstream_now = 0

    async def ask(
        self,
        request: GenerateRequest | None = None,
        answer: FakeAnswer | None = None,
        *,
        scope: CacheScope = SCOPE,
        result: Asked | None = None,
    ) -> Asked:
        """What a generation does; an error of the provider is in the result."""
        request = request or asked()
        result = result or Asked()
        began_s = now_s()
        turn = None
        try:
            turn = await self.caches.turn(request, scope, result.decision, NO_LEGS)
            kept = None if turn is None else turn.answer
            if kept is not None:
                await self._read(kept, result)
                return result
            result.was_asked = True
            self.upstream_calls += 1
            self.upstream_now += 1
            try:
                inner = answer or FakeAnswer()
                await asyncio.sleep(0)
                recorded = inner if turn is None else turn.recording(inner)
                try:
                    await self._read(recorded, result)
                except BaseException:
                    recorded.abort()
                    raise
            finally:
                self.upstream_now -= 1
        except RelayError as error:
            result.error = error
        finally:
            if turn is not None:
                turn.close()
            result.took_s = now_s() - began_s
        return result

    async def _read(self, answer: Any, result: Asked) -> None:
        result.events += answer.prelude
        while events := await answer.read():
            result.events += events


class FakeShared:
    """A shared store that takes its time, or has nothing."""

    def __init__(self, *, delay_s: float = 0.0) -> None:
        self.held: dict[bytes, tuple[bytes, float]] = {}
        self.delay_s = delay_s
        self.gets = 0

    async def get(self, key: bytes, max_bytes: int) -> bytes | None:
        self.gets += 1
        await asyncio.sleep(self.delay_s)
        written, until_s = self.held.get(key, (b"", 0.0))
        return written if written and now_s() < until_s and len(written) <= max_bytes else None

    def put(self, key: bytes, written: bytes, ttl_s: float) -> None:
        self.held[key] = (written, now_s() + ttl_s)

    def describe(self) -> dict[str, object]:
        return {}

    async def aclose(self) -> None:
        pass
