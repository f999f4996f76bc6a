"""Crowds of clients against a small cache, and a model that knows what each may be told."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from relay.cache.memory import ENTRY_BYTES
from relay.content import (
    Budgets,
    CacheWish,
    ChoiceFinished,
    Events,
    FinishReason,
    RefusalDelta,
    TextDelta,
)
from relay.errors import CacheMiss, StreamReset
from tests.cache.world import (
    INFO,
    SCOPE,
    STOP,
    USAGE,
    Asked,
    FakeAnswer,
    FakeShared,
    World,
    asked,
)
from tests.fakes.properties import examples
from tests.fakes.virtual_time import run, since_start_s

TTL_S = 8.0
WAIT_S = 3.0
MAX_BYTES = 64 * 1024


@dataclass
class Client:
    """One request, and what a provider would say to it."""

    comes_s: float
    tenant: str
    text: str
    wish: CacheWish
    max_age_s: float | None
    first_token_s: float | None
    says: str
    """`whole`, `breaks`, `refuses`, `is cut`, `is large`."""
    gap_s: float
    cancelled_s: float | None


ticks = st.integers(0, 10).map(lambda tick: tick / 2)
clients = st.builds(
    Client,
    comes_s=st.integers(0, 40).map(lambda tick: tick / 2),
    tenant=st.sampled_from(["a", "a", "a", "b"]),
    text=st.sampled_from(["x", "x", "x", "y"]),
    wish=st.sampled_from(["", "", "", "", "", "off", "refresh", "only"]),
    max_age_s=st.sampled_from([None, 2.0]),
    first_token_s=st.sampled_from([None, None, 1.0]),
    says=st.sampled_from(
        ["whole", "whole", "whole", "whole", "whole", "breaks", "refuses", "is cut", "is large"]
    ),
    gap_s=st.sampled_from([0.0, 0.25, 1.0]),
    cancelled_s=st.one_of(st.none(), st.none(), st.none(), ticks),
)


@dataclass
class Book:
    """What the model knows."""

    said: dict[str, tuple[str, float]] = field(default_factory=dict)
    """By the text of a whole answer: whose it was (tenant and question), and when it ended."""
    leading: dict[str, int] = field(default_factory=dict)


def answer_of(client: Client, number: int) -> tuple[str, list[Events]]:
    """Its text, which is nobody else's, and its batches."""
    text = f"{client.tenant}/{client.text}/{number}"
    end = {"is cut": ChoiceFinished(FinishReason.LENGTH, "length")}.get(client.says, STOP)
    if client.says == "refuses":
        return text, [(INFO, RefusalDelta("no")), (TextDelta(text),), (end, USAGE)]
    more = "!" * 70_000 if client.says == "is large" else ""
    return text, [(INFO, TextDelta(text)), (TextDelta("" + more or "."),), (end, USAGE)]


async def crowd_comes(crowd: Sequence[Client], *, has_shared: bool) -> None:
    shared = FakeShared(delay_s=0.05) if has_shared else None
    worlds = [
        World(
            shared=shared,
            ttl_s=int(TTL_S),
            memory_ttl_s=2,
            wait_ms=int(WAIT_S * 1000),
            max_entries=2,
            max_bytes=MAX_BYTES,
            max_answer_bytes=MAX_BYTES // 2,
        )
        for _ in range(2 if has_shared else 1)
    ]
    book = Book()

    async def ask(number: int, client: Client) -> None:
        await asyncio.sleep(client.comes_s)
        world = worlds[number % len(worlds)]
        text, found = answer_of(client, number)
        error = StreamReset("gone") if client.says == "breaks" else None
        result = Asked()
        request = asked(
            client.text,
            cache=client.wish,
            cache_ttl_s=client.max_age_s,
            budgets=Budgets(first_token_s=client.first_token_s),
        )
        scope = SCOPE._replace(tenant=client.tenant)
        began_s = since_start_s()
        await world.ask(
            request, FakeAnswer(found, gap_s=client.gap_s, error=error), scope=scope, result=result
        )
        ended_s = since_start_s()
        own_s = client.gap_s * len(found) if result.was_asked else 0.0
        wait_s = WAIT_S if client.first_token_s is None else client.first_token_s / 2
        assert ended_s - began_s <= wait_s + own_s + 0.1
        whose = f"{client.tenant}/{client.text}"
        if result.was_asked:
            if error is None and client.says == "whole":
                book.said[text + "."] = (whose, ended_s)
            return
        if client.wish == "only" and isinstance(result.error, CacheMiss):
            return
        assert client.wish in ("", "only")
        assert result.decision.cache in ("hit", "shared")
        assert result.events[-2:] == [STOP, USAGE], "complete"
        owner, made_s = book.said[result.text]
        assert owner == whose, "somebody else's answer"
        age_s = result.decision.cache_age_s
        assert age_s is not None
        assert age_s <= (client.max_age_s or TTL_S)
        assert abs(ended_s - made_s - age_s) < 1e-3

    async def watch() -> None:
        for world in worlds:
            memory = world.shelf.memory
            assert memory.held_bytes <= MAX_BYTES
            assert len(memory) <= 2
            assert memory.held_bytes >= len(memory) * ENTRY_BYTES

    tasks = [asyncio.ensure_future(ask(*numbered)) for numbered in enumerate(crowd)]
    for client, task in zip(crowd, tasks, strict=True):
        if client.cancelled_s is not None:
            asyncio.get_running_loop().call_later(client.comes_s + client.cancelled_s, task.cancel)
    while any(not task.done() for task in tasks):
        await watch()
        await asyncio.sleep(0.25)
    for task in tasks:
        if not task.cancelled():
            task.result()
    await watch()
    assert all(len(world.shelf.flights) == 0 for world in worlds)


@examples(80, full=600)
@given(st.lists(clients, min_size=2, max_size=12), st.booleans())
def test_nobody_is_told_what_is_not_his_or_waits_for_ever(
    crowd: list[Client], has_shared: bool
) -> None:
    run(crowd_comes(crowd, has_shared=has_shared))


@examples(60, full=800)
@given(
    st.integers(2, 12),
    st.lists(st.tuples(st.integers(0, 11), st.integers(0, 30)), max_size=4),
)
def test_a_crowd_at_once_makes_one_call_and_one_more_for_each_that_gave_up(
    count: int, cancels: list[tuple[int, int]]
) -> None:
    """Cancelled at any moment of the loop, in any place of the queue."""

    async def story() -> None:
        world = World(wait_ms=100_000)
        tasks = [
            asyncio.ensure_future(world.ask(answer=FakeAnswer(gap_s=0.5))) for _ in range(count)
        ]
        for who, tick in cancels:
            asyncio.get_running_loop().call_later(tick / 10, tasks[who % count].cancel)
        most = 0
        while any(not task.done() for task in tasks):
            most = max(most, world.upstream_now)
            await asyncio.sleep(0.05)
        gave_up = sum(task.cancelled() for task in tasks)
        assert most <= 1
        assert world.upstream_calls <= 1 + gave_up
        assert all(task.result().text == "Hello you" for task in tasks if not task.cancelled())
        assert len(world.shelf.flights) == 0

    run(story())
