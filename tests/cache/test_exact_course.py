"""The exact cache on a generation's own way: poured text, held speculations, waits and budgets."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from relay.cache.caches import ResponseCaches
from relay.cache.exact import ExactCache
from relay.cache.memory import MemoryStore
from relay.cache.shelf import Shelf
from relay.config.cache import ExactCacheConfig
from relay.content import Budgets, Policy, StreamEvent, TextDelta
from relay.course import PolicyCourse
from relay.errors import CacheMiss, ClientCancelled
from relay.outcome import GenerationEnd
from tests.cache.world import price_of, wall_s
from tests.fakes.memory_transport import FakeEndpoint
from tests.fakes.relay_under_test import DONE, chunk
from tests.fakes.scenario import ROLE, Chunks, Scenario, request, text_of
from tests.fakes.virtual_time import now_s, on_virtual_time, since_start_s

WORDS = [f" w{number}" for number in range(12)]
USAGE = {"prompt_tokens": 5, "completion_tokens": 12, "total_tokens": 17}


def whole(*, gap_s: float = 0.01) -> Chunks:
    """An answer that says what it used."""
    spoken = [(gap_s, chunk({"content": word})) for word in WORDS]
    end = [(0.0, chunk(finish="stop")), (0.0, chunk(usage=USAGE, choices=[])), (0.0, DONE)]
    return [(0.0, ROLE), *spoken, *end]


def cached(endpoints: FakeEndpoint | Sequence[FakeEndpoint], **config: Any) -> Scenario:
    """A relay with a cache."""
    scenario = Scenario({"a": endpoints})
    shelf = Shelf(MemoryStore(100, 1 << 20), clock=now_s, wall_clock=wall_s)
    exact = ExactCache(ExactCacheConfig(**config), shelf)
    caches = ResponseCaches(exact, price_of=price_of, clock=now_s, wall_clock=wall_s)
    scenario.services.course = PolicyCourse(caches=caches)
    return scenario


async def pour(scenario: Scenario) -> tuple[list[StreamEvent], int, GenerationEnd]:
    """What a frontend does. Returns: everything in order, and how much came to the sink."""
    found: list[StreamEvent] = []
    by_sink = 0

    def sink(delta: TextDelta) -> None:
        nonlocal by_sink
        by_sink += 1
        found.append(delta)

    generation = scenario.generation()
    async with generation:
        if await generation.commit():
            generation.pour_text_into(sink)
            async for events in generation:
                found += events
                generation.released()
    assert generation.end is not None
    return found, by_sink, generation.end


@on_virtual_time
async def test_text_is_poured_while_it_is_taken_down() -> None:
    scenario = cached(FakeEndpoint(chunks=whole()))
    first, by_sink, end = await pour(scenario)
    assert by_sink >= len(WORDS) - 3, "as without a cache"
    again, _, hit = await pour(scenario)
    assert text_of(again) == text_of(first) == "".join(WORDS)
    assert (end.decision and end.decision.cache, hit.decision and hit.decision.cache) == (
        "miss",
        "hit",
    )
    assert hit.usage == end.usage
    assert hit.is_usage_final
    assert (len(end.attempts), len(hit.attempts)) == (1, 0)
    assert hit.finish_reasons == end.finish_reasons
    assert len(scenario.started) == 1
    await scenario.settled()
    scenario.check()


@on_virtual_time
async def test_a_held_speculation_is_held_on_a_hit_too() -> None:
    scenario = cached(FakeEndpoint(chunks=whole()))
    await scenario.generate()
    generation = scenario.generation(
        request(policy=Policy(speculative=True, hold_until_commit=True))
    )
    loop = asyncio.get_running_loop()
    loop.call_at(now_s() + 1.0, lambda: generation.wanted())
    sent: list[StreamEvent] = []
    began_s = now_s()
    async with generation:
        assert await generation.commit()
        assert generation.speculation is not None
        async for events in generation:
            sent += generation.speculation.let_go(events)
    end = generation.end
    assert end is not None
    assert end.decision is not None
    assert end.decision.cache == "hit"
    assert now_s() - began_s == 1.0, "its end waits for the commit"
    assert sent == [], "and whatever it says is given by the commit"


@on_virtual_time
async def test_a_twin_with_a_budget_asks_by_itself_in_time() -> None:
    slow = FakeEndpoint(headers_s=3.0, chunks=whole())
    fast = FakeEndpoint(headers_s=0.2, chunks=whole())
    scenario = cached([slow, fast])
    leader = asyncio.ensure_future(scenario.generate())
    await asyncio.sleep(0)
    hasty = request(budgets=Budgets(first_token_s=1.0))
    _, end = await scenario.generate(hasty)
    assert end.error is None
    assert scenario.started == [("a", 0.0), ("a", 0.5)]
    await leader
    await scenario.settled()


@on_virtual_time
async def test_a_hundred_generations_are_one_attempt() -> None:
    scenario = cached(FakeEndpoint(headers_s=0.3, chunks=whole()))
    found = await asyncio.gather(*(scenario.generate() for _ in range(100)))
    assert len(scenario.started) == 1
    told = [end.decision.cache for _, end in found if end.decision is not None]
    assert sorted(told) == ["miss", *["shared"] * 99]
    assert {text_of([e for b in batches for e in b]) for batches, _ in found} == {"".join(WORDS)}
    await scenario.settled()
    scenario.check()


@on_virtual_time
async def test_a_leader_that_is_cancelled_in_the_middle_costs_one_attempt_more() -> None:
    scenario = cached(FakeEndpoint(headers_s=0.3, chunks=whole()))
    leader = scenario.generation()

    async def lead() -> None:
        async with leader:
            await leader.commit()
            async for _ in leader:
                leader.released()

    leading = asyncio.ensure_future(lead())
    await asyncio.sleep(0)
    others = [asyncio.ensure_future(scenario.generate()) for _ in range(99)]
    await asyncio.sleep(0.35)
    leader.cancel(ClientCancelled("gone"))
    found = [await task for task in others]
    await leading
    assert len(scenario.started) == 2
    assert all(end.error is None for _, end in found)
    assert since_start_s() < 1.0
    await scenario.settled()
    scenario.check()


@on_virtual_time
async def test_only_is_an_error_with_no_attempt() -> None:
    scenario = cached(FakeEndpoint(chunks=whole()))
    _, end = await scenario.generate(request(policy=Policy(cache="only")))
    assert isinstance(end.error, CacheMiss)
    assert scenario.started == []
    scenario.services.course = None
    _, end = await scenario.generate(request(policy=Policy(cache="only")))
    assert isinstance(end.error, CacheMiss)
    assert scenario.started == []
