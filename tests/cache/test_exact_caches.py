"""One generation's turn with the exact cache: what it finds, waits for, keeps."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest

from relay.cache.base import CacheScope
from relay.cache.memory import MemoryStore
from relay.cache.near import NearHit
from relay.cache.shelf import Shelf
from relay.cache.stored import Batch, Stored
from relay.content import (
    Budgets,
    ChoiceFinished,
    FinishReason,
    GenerateRequest,
    RefusalDelta,
    Sampling,
    TextDelta,
)
from relay.errors import CacheMiss, ClientCancelled, StreamReset
from relay.policy.base import Legs
from tests.cache.world import (
    COST_MICRO,
    INFO,
    SCOPE,
    STOP,
    USAGE,
    WHOLE,
    Asked,
    FakeAnswer,
    FakeShared,
    World,
    asked,
    wall_s,
)
from tests.fakes.virtual_time import now_s, on_virtual_time, run, since_start_s


def verdicts(*found: Asked) -> list[str]:
    return [one.decision.cache for one in found]


@on_virtual_time
async def test_the_same_request_is_answered_again_without_a_provider() -> None:
    world = World()
    first = await world.ask()
    await asyncio.sleep(20)
    again = await world.ask()
    assert (first.was_asked, again.was_asked) == (True, False)
    assert verdicts(first, again) == ["miss", "hit"]
    assert again.text == first.text == "Hello you"
    assert again.events[-2:] == [STOP, USAGE]
    assert (again.decision.saved_micro, again.decision.cache_age_s) == (COST_MICRO, 20)
    assert (first.decision.saved_micro, first.decision.cache_age_s) == (0, None)
    assert again.decision.similarity is None


@on_virtual_time
async def test_it_is_forgotten_in_time() -> None:
    world = World(ttl_s=60)
    await world.ask()
    await asyncio.sleep(59.99)
    assert verdicts(await world.ask()) == ["hit"]
    await asyncio.sleep(0.01)
    assert verdicts(await world.ask()) == ["miss"]


@pytest.mark.parametrize(
    ("request_", "scope"),
    [
        (asked("Hello!"), SCOPE),
        (asked(), SCOPE._replace(tenant="other team")),
        (asked(), SCOPE._replace(route="large")),
        (asked(), SCOPE._replace(zones="eu")),
        (asked(), SCOPE._replace(version="v2")),
    ],
)
def test_nothing_crosses_tenants_models_zones_or_versions(
    request_: GenerateRequest, scope: CacheScope
) -> None:
    @on_virtual_time
    async def story() -> None:
        world = World()
        await world.ask()
        assert (await world.ask(request_, scope=scope)).was_asked

    story()


@on_virtual_time
async def test_errors_and_parts_of_answers_are_never_kept() -> None:
    world = World()
    broken = await world.ask(answer=FakeAnswer(WHOLE, error=StreamReset("gone")))
    assert isinstance(broken.error, StreamReset)
    filtered = [(TextDelta("Hel"), ChoiceFinished(FinishReason.CONTENT_FILTER, "x"), USAGE)]
    await world.ask(answer=FakeAnswer(filtered))
    task = asyncio.ensure_future(world.ask(answer=FakeAnswer(gap_s=1)))
    await asyncio.sleep(2.5)
    task.cancel()
    await asyncio.wait([task])
    assert len(world.shelf.memory) == 0
    assert verdicts(await world.ask()) == ["miss"]
    assert verdicts(await world.ask()) == ["hit"]


@on_virtual_time
async def test_a_generation_that_fails_before_its_first_content_holds_nothing() -> None:
    world = World()
    turn = await world.caches.turn(asked(), SCOPE, Asked().decision, None)  # type: ignore[arg-type]
    assert turn is not None
    turn.close()
    turn.close()
    assert len(world.shelf.flights) == 0


# --- what a request may want ----------------------------------------------------------------


@on_virtual_time
async def test_off_finds_and_leaves_nothing() -> None:
    world = World()
    assert verdicts(await world.ask(asked(cache="off"))) == ["bypass"]
    assert verdicts(await world.ask()) == ["miss"]
    off = await world.ask(asked(cache="off"))
    assert (off.decision.cache, off.was_asked) == ("bypass", True)


@on_virtual_time
async def test_refresh_asks_and_keeps_the_new_answer() -> None:
    world = World()
    await world.ask()
    new = [(INFO, TextDelta("New"), STOP, USAGE)]
    refreshed = await world.ask(asked(cache="refresh"), FakeAnswer(new))
    assert (refreshed.decision.cache, refreshed.was_asked) == ("refresh", True)
    again = await world.ask()
    assert (again.decision.cache, again.text) == ("hit", "New")


@on_virtual_time
async def test_refresh_that_fails_leaves_the_old_answer() -> None:
    world = World()
    await world.ask()
    await world.ask(asked(cache="refresh"), FakeAnswer(error=StreamReset("gone")))
    assert verdicts(await world.ask()) == ["hit"]


@on_virtual_time
async def test_refresh_waits_for_nobody_and_others_wait_for_it() -> None:
    world = World()
    leader = asyncio.ensure_future(world.ask(answer=FakeAnswer(gap_s=1)))
    await asyncio.sleep(0.5)
    refreshed = await world.ask(asked(cache="refresh"))
    assert (refreshed.was_asked, refreshed.took_s) == (True, 0)
    await leader
    refreshing = asyncio.ensure_future(
        world.ask(asked("b", cache="refresh"), FakeAnswer(gap_s=0.1))
    )
    await asyncio.sleep(0)
    follower = await world.ask(asked("b"))
    await refreshing
    assert follower.decision.cache == "shared"


@on_virtual_time
async def test_only_is_answered_or_refused() -> None:
    world = World()
    refused = await world.ask(asked(cache="only"))
    assert isinstance(refused.error, CacheMiss)
    assert not refused.was_asked
    assert verdicts(refused) == ["miss"]
    await world.ask()
    assert verdicts(await world.ask(asked(cache="only"))) == ["hit"]
    assert len(world.shelf.flights) == 0


@on_virtual_time
async def test_only_waits_for_what_is_coming_and_asks_nobody_itself() -> None:
    world = World()
    leader = asyncio.ensure_future(world.ask(answer=FakeAnswer(gap_s=0.1)))
    await asyncio.sleep(0)
    assert verdicts(await world.ask(asked(cache="only"))) == ["shared"]
    await leader
    leader = asyncio.ensure_future(world.ask(asked("b"), FakeAnswer(gap_s=1)))
    await asyncio.sleep(0)
    only = asyncio.ensure_future(world.ask(asked("b", cache="only")))
    await asyncio.sleep(0)
    follower = asyncio.ensure_future(world.ask(asked("b")))
    await asyncio.sleep(0.5)
    leader.cancel()
    assert isinstance((await only).error, CacheMiss)
    assert (await follower).was_asked, "the turn went on to who may ask"
    await asyncio.wait([leader])


@on_virtual_time
async def test_a_request_says_how_old_an_answer_may_be() -> None:
    world = World(ttl_s=60, max_ttl_s=100)
    await world.ask()
    await asyncio.sleep(30)
    assert verdicts(await world.ask(asked(cache_ttl_s=29))) == ["miss"], "and the new one is kept"
    await asyncio.sleep(28.5)
    assert verdicts(await world.ask(asked(cache_ttl_s=29))) == ["hit"]
    await asyncio.sleep(0.5)
    assert verdicts(await world.ask()) == ["miss"], "kept no longer than its request wanted"


@on_virtual_time
async def test_and_how_long_its_own_is_kept_within_what_is_allowed() -> None:
    world = World(ttl_s=60, max_ttl_s=100)
    await world.ask(asked(cache_ttl_s=1000))
    await asyncio.sleep(99)
    assert verdicts(await world.ask(asked(cache_ttl_s=1000))) == ["hit"]
    assert verdicts(await world.ask()) == ["miss"], "too old for who says nothing"
    await world.ask(asked("b", cache_ttl_s=1000))
    await asyncio.sleep(101)
    assert verdicts(await world.ask(asked("b", cache_ttl_s=1000))) == ["miss"]


# --- what the operator wants ----------------------------------------------------------------


@on_virtual_time
async def test_names_are_chosen_by_the_operator() -> None:
    rows: list[tuple[dict[str, Any], bool]] = [
        ({"models": ("fast",)}, True),
        ({"models": ("large",)}, False),
        ({"not_models": ("fast",)}, False),
        ({"not_models": ("large",)}, True),
    ]
    for config, is_kept in rows:
        world = World(**config)
        await world.ask()
        assert verdicts(await world.ask()) == ["hit" if is_kept else "bypass"]


@on_virtual_time
async def test_only_deterministic_requests_where_that_is_wanted() -> None:
    world = World(only_deterministic=True)
    for request, expected in (
        (asked(), "bypass"),
        (asked(sampling=Sampling(temperature=0)), "hit"),
        (asked(sampling=Sampling(seed=3)), "hit"),
    ):
        await world.ask(request)
        assert verdicts(await world.ask(request)) == [expected]


@on_virtual_time
async def test_only_is_refused_where_nothing_is_kept() -> None:
    world = World(not_models=("fast",))
    assert isinstance((await world.ask(asked(cache="only"))).error, CacheMiss)


@on_virtual_time
async def test_an_answer_that_is_too_large_as_it_is_written_is_not_kept() -> None:
    world = World(max_answer_bytes=1024)
    wide = [(TextDelta("日" * 400), STOP, USAGE)]  # 400 characters, 1,200 bytes
    await world.ask(answer=FakeAnswer(wide))
    assert len(world.shelf.memory) == 0
    assert len(world.shelf.flights) == 0


@on_virtual_time
async def test_paced_it_comes_with_its_pauses() -> None:
    world = World(replay="paced", max_gap_ms=300)
    first = await world.ask(answer=FakeAnswer(gap_s=0.25))
    again = await world.ask()
    assert (first.took_s, again.took_s) == (1.0, 0.75), "the first content comes at once"
    assert again.text == first.text


# --- equal requests at once -----------------------------------------------------------------


@on_virtual_time
async def test_a_hundred_at_once_are_one_call() -> None:
    world = World()
    found = await asyncio.gather(*(world.ask(answer=FakeAnswer(gap_s=0.1)) for _ in range(100)))
    assert world.upstream_calls == 1
    assert sorted(verdicts(*found)) == ["miss"] + ["shared"] * 99
    assert {one.text for one in found} == {"Hello you"}
    assert {one.decision.saved_micro for one in found[1:]} == {COST_MICRO}
    ids = [one.events[0] for one in found]
    assert len({getattr(info, "response_id", None) for info in ids}) == 100


@on_virtual_time
async def test_a_hundred_at_once_are_two_calls_where_the_first_is_cancelled_in_the_middle() -> None:
    world = World()
    tasks = [asyncio.ensure_future(world.ask(answer=FakeAnswer(gap_s=0.1))) for _ in range(100)]
    await asyncio.sleep(0.25)
    assert world.upstream_calls == 1
    tasks[0].cancel()
    await asyncio.wait(tasks)
    assert world.upstream_calls == 2
    assert tasks[0].cancelled()
    assert sorted(verdicts(*(task.result() for task in tasks[1:]))) == ["miss"] + ["shared"] * 98


@on_virtual_time
async def test_one_that_cannot_be_kept_is_not_waited_for_to_its_end() -> None:
    """A refusal: the next one asks as soon as that is known."""
    world = World()
    refusal = [(INFO,), (RefusalDelta("no"),), (RefusalDelta(" way"), STOP, USAGE)]
    first = asyncio.ensure_future(world.ask(answer=FakeAnswer(refusal, gap_s=1.0)))
    await asyncio.sleep(0)
    second = await world.ask()
    assert (second.was_asked, second.took_s) == (True, 1.0)
    await first


@on_virtual_time
async def test_nobody_waits_longer_than_the_operator_or_his_own_budget_allows() -> None:
    world = World(wait_ms=3000)
    leader = asyncio.ensure_future(world.ask(answer=FakeAnswer(gap_s=10)))
    await asyncio.sleep(0)
    patient = asyncio.ensure_future(world.ask())
    hasty = asyncio.ensure_future(world.ask(asked(budgets=Budgets(first_token_s=1.0))))
    assert ((await hasty).took_s, (await hasty).was_asked) == (0.5, True)
    assert verdicts(await patient) == ["shared"], "who asked alone had it first"
    leader.cancel()
    await asyncio.wait([leader])


@on_virtual_time
async def test_without_waiting_each_asks() -> None:
    world = World(wait_ms=0)
    await asyncio.gather(*(world.ask(answer=FakeAnswer(gap_s=1)) for _ in range(3)))
    assert world.upstream_calls == 3


@pytest.mark.parametrize("step", range(1, 40))
def test_cancelled_at_any_await_it_holds_nobody_up(step: int) -> None:
    """A leader with Redis to look into, two followers; one of them is cancelled."""
    for victim in range(3):
        tasks: list[asyncio.Task[Asked]] = []
        world_of: list[World] = []

        async def story(tasks: list[asyncio.Task[Asked]], world_of: list[World]) -> None:
            world = World(shared=FakeShared())
            world_of.append(world)
            tasks += [asyncio.ensure_future(world.ask()) for _ in range(3)]
            await asyncio.wait(tasks)
            assert since_start_s() < 1
            assert len(world.shelf.flights) == 0

        run(
            story(tasks, world_of),
            at_step={step: lambda tasks=tasks, victim=victim: tasks and tasks[victim].cancel()},  # type: ignore[misc]
        )
        ended = [task.result() for task in tasks if not task.cancelled()]
        assert len(ended) >= 2
        assert {one.text for one in ended} == {"Hello you"}
        assert world_of[0].upstream_calls <= 2


# --- a shared store -------------------------------------------------------------------------


@on_virtual_time
async def test_what_one_worker_keeps_another_finds() -> None:
    shared = FakeShared()
    here, there = World(shared=shared), World(shared=shared)
    await here.ask()
    found = await there.ask()
    assert (found.decision.cache, found.was_asked, found.text) == ("hit", False, "Hello you")
    gets = shared.gets
    assert verdicts(await there.ask()) == ["hit"]
    assert shared.gets == gets, "out of memory now"


@on_virtual_time
async def test_what_is_refreshed_elsewhere_is_seen_after_a_while() -> None:
    shared = FakeShared()
    here, there = World(shared=shared, memory_ttl_s=10), World(shared=shared, memory_ttl_s=10)
    await here.ask()
    await there.ask()
    new = [(INFO, TextDelta("New"), STOP, USAGE)]
    await here.ask(asked(cache="refresh"), FakeAnswer(new))
    assert (await there.ask()).text == "Hello you"
    await asyncio.sleep(10)
    assert (await there.ask()).text == "New"


@on_virtual_time
async def test_without_a_copy_in_memory_every_hit_is_out_of_the_shared_store() -> None:
    shared = FakeShared()
    world = World(shared=shared, memory_ttl_s=0)
    await world.ask()
    assert verdicts(await world.ask(), await world.ask()) == ["hit", "hit"]
    assert (shared.gets, len(world.shelf.memory)) == (3, 0)


@on_virtual_time
async def test_a_hundred_look_into_the_shared_store_once() -> None:
    shared = FakeShared(delay_s=0.01)
    await World(shared=shared).ask()
    there = World(shared=shared)
    gets = shared.gets
    found = await asyncio.gather(*(there.ask() for _ in range(100)))
    assert shared.gets == gets + 1
    assert set(verdicts(*found)) == {"hit"}
    assert there.upstream_calls == 0


@on_virtual_time
async def test_memory_does_not_keep_what_the_shared_store_would_have_forgotten() -> None:
    shared = FakeShared()
    here = World(shared=shared, ttl_s=60, memory_ttl_s=50)
    await here.ask()
    await asyncio.sleep(55)
    there = World(shared=shared, ttl_s=60, memory_ttl_s=50)
    assert verdicts(await there.ask()) == ["hit"]
    await asyncio.sleep(5)
    assert verdicts(await there.ask()) == ["miss"]


@on_virtual_time
async def test_what_cannot_be_read_is_a_miss_and_is_written_over() -> None:
    shared = FakeShared()
    world = World(shared=shared)
    await world.ask()
    for key, (_, until_s) in shared.held.items():
        shared.held[key] = (b"\x02something newer", until_s)
    other = World(shared=shared)
    assert verdicts(await other.ask(), await other.ask()) == ["miss", "hit"]
    assert other.shelf.unreadable == 1


@on_virtual_time
async def test_a_shelf_outlives_its_configuration() -> None:
    first = World()
    await first.ask()
    second = World(shelf=first.shelf, ttl_s=100)
    assert verdicts(await second.ask()) == ["hit"]
    assert verdicts(await World(shelf=first.shelf, epoch=1).ask()) == ["miss"]


@on_virtual_time
async def test_it_tells_people_how_it_stands() -> None:
    world = World(shared=FakeShared())
    await world.ask()
    told = world.shelf.describe()
    assert told["entries"] == 1
    assert told["asked_now"] == 0
    assert told["redis"] == {}
    await world.shelf.aclose()
    await Shelf(MemoryStore(1, 1000), clock=now_s, wall_clock=wall_s).aclose()


# --- a cache by meaning behind it -----------------------------------------------------------


class FakeLook:
    def __init__(self, near: FakeNear, hit: NearHit | None) -> None:
        self._near = near
        self.hit = hit

    def keep(self, stored: Stored) -> None:
        self._near.kept.append(stored)


class FakeNear:
    """Knows one answer, to anything or to nothing."""

    def __init__(self, hit: NearHit | None = None, *, applies: bool = True) -> None:
        self.hit = hit
        self.applies = applies
        self.looks: list[tuple[bool, float]] = []
        self.kept: list[Stored] = []
        self.delay_s = 0.0

    async def look(
        self,
        request: GenerateRequest,
        scope: CacheScope,
        legs: Legs,
        *,
        is_refresh: bool,
        max_age_s: float,
    ) -> FakeLook | None:
        self.looks.append((is_refresh, max_age_s))
        await asyncio.sleep(self.delay_s)
        if not self.applies:
            return None
        return FakeLook(self, None if is_refresh else self.hit)

    async def aclose(self) -> None:
        pass


NEAR = NearHit(Stored("acme", "large", 0.0, 9, [Batch(0, [TextDelta("near"), STOP, USAGE])]), 0.97)


@on_virtual_time
async def test_by_meaning_is_asked_second() -> None:
    near = FakeNear(NEAR)
    world = World(near=near)
    found = await world.ask()
    assert (found.text, found.decision.cache, found.decision.similarity) == (
        "near",
        "semantic",
        0.97,
    )
    assert found.decision.saved_micro == 9
    assert near.looks == [(False, math.inf)]
    assert len(world.shelf.memory) == 0, "another request's answer is not kept as this one's"


@on_virtual_time
async def test_by_meaning_is_told_what_a_provider_said() -> None:
    near = FakeNear()
    world = World(near=near)
    assert verdicts(await world.ask(), await world.ask()) == ["miss", "hit"]
    assert near.looks == [(False, math.inf)]
    await world.ask(asked(cache="refresh", cache_ttl_s=5))
    assert near.looks[-1] == (True, 5.0)
    assert len(near.kept) == 2


@on_virtual_time
async def test_a_hundred_look_by_meaning_once() -> None:
    near = FakeNear(NEAR)
    near.delay_s = 0.01
    world = World(near=near)
    found = await asyncio.gather(*(world.ask() for _ in range(100)))
    assert len(near.looks) == 1
    assert set(verdicts(*found)) == {"semantic"}
    assert {one.decision.similarity for one in found} == {0.97}


@on_virtual_time
async def test_by_meaning_stands_alone_too() -> None:
    near = FakeNear()
    world = World(near=near, has_exact=False)
    assert verdicts(await world.ask()) == ["miss"]
    assert verdicts(await world.ask(asked(cache="refresh"))) == ["refresh"]
    assert len(near.kept) == 2
    near.hit = NEAR
    assert verdicts(await world.ask()) == ["semantic"]
    world = World(near=FakeNear(applies=False), has_exact=False)
    assert verdicts(await world.ask()) == ["bypass"]
    assert isinstance((await world.ask(asked(cache="only"))).error, CacheMiss)


@on_virtual_time
async def test_cancelled_while_it_looks_by_meaning_the_next_one_leads() -> None:
    near = FakeNear()
    near.delay_s = 1.0
    world = World(near=near)
    tasks = [asyncio.ensure_future(world.ask()) for _ in range(2)]
    refresh = asyncio.ensure_future(world.ask(asked("b", cache="refresh")))
    await asyncio.sleep(0.5)
    tasks[0].cancel()
    refresh.cancel()
    assert (await tasks[1]).was_asked
    await asyncio.wait([*tasks, refresh])
    assert len(world.shelf.flights) == 0


def test_an_error_of_a_generation_is_no_error_of_the_cache() -> None:
    @on_virtual_time
    async def story() -> None:
        world = World()
        gone: Any = ClientCancelled("gone")
        result = await world.ask(answer=FakeAnswer(error=gone))
        assert result.error is gone
        assert len(world.shelf.flights) == 0

    story()
