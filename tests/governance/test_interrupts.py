"""M11: whatever interrupts a reservation, wherever, nothing stays reserved past its lease."""

from __future__ import annotations

import asyncio

import pytest

from relay.store.base import Hold, LedgerStore, StoreUnavailable
from tests.fakes.interrupts import INTERRUPTIONS, interrupted, ways
from tests.governance.budget_model import Sums
from tests.governance.ledger_pair import LONG_US, opened, settled, started
from tests.governance.ledger_worlds import MemoryWorld

HOLDS = (Hold("bud_key", 0, 1_000), Hold("bud_team", 0, 2_000))


class Waits:
    """Awaits a future twice and a bare loop turn once; says what it met."""

    def __init__(self) -> None:
        self.cancelled_future: asyncio.Future[None] | None = None
        self.steps = 0

    async def run(self) -> str:
        loop = asyncio.get_running_loop()
        for _ in range(2):
            future: asyncio.Future[None] = loop.create_future()
            loop.call_soon(self._finish, future)
            self.cancelled_future = future
            await future
            self.steps += 1
        await asyncio.sleep(0)
        return "done"

    @staticmethod
    def _finish(future: asyncio.Future[None]) -> None:
        if not future.done():
            future.set_result(None)


@pytest.mark.parametrize("kind", INTERRUPTIONS)
@pytest.mark.parametrize("at", [0, 1, 2, 3])
async def test_harness_reaches_every_point(at: int, kind: type[BaseException]) -> None:
    waits = Waits()
    outcome = await interrupted(waits.run(), at, kind)
    assert outcome.was_interrupted
    assert type(outcome.error) is kind
    assert outcome.points == at
    assert waits.steps == max(0, min(at - 1, 2))
    if kind is asyncio.CancelledError and at in (1, 2):
        assert waits.cancelled_future is not None
        assert waits.cancelled_future.cancelled()


async def test_harness_leaves_alone_what_ends_before() -> None:
    outcome = await interrupted(Waits().run(), 9, KeyboardInterrupt)
    assert (outcome.result, outcome.points, outcome.was_interrupted) == ("done", 3, False)


# --- stores ---------------------------------------------------------------------------------


async def _generation(store: LedgerStore, *, voids: bool) -> None:
    """What a worker does with one, all of it interruptible."""
    try:
        await store.reserve(opened("gen", "one", HOLDS), (600, 100))
        ticket = store.attempt("gen", started(0, 300))
        await store.extend("gen", HOLDS, 50)
        await store.committed(ticket)
    except BaseException:
        if voids:
            store.settle(settled("gen", 0, "void"), HOLDS)
        raise
    await store.committed(store.settle(settled("gen", 200), HOLDS))


@pytest.mark.parametrize("voids", [True, False])
@pytest.mark.parametrize(("at", "kind"), ways(12))
async def test_nothing_stays_reserved(at: int, kind: type[BaseException], voids: bool) -> None:
    world = MemoryWorld()
    store = world.ledger()
    await store.start("one", "place", 0, 30)
    outcome = await interrupted(_generation(store, voids=voids), at, kind)
    if outcome.was_interrupted:
        assert type(outcome.error) is kind
    if not voids:
        # Whoever should have settled it is gone; others sweep once its lease is over.
        while await store.sweep(LONG_US, 10):
            pass
    await store.aclose()
    for sums in world.rows().periods.values():
        assert sums.reserved == 0
        assert sums.settled in (0, 200, 300)
        assert sums.overrun == 0


async def test_the_points_are_all_there_are() -> None:
    """So that `ways(12)` above cannot come to fall short."""
    store = MemoryWorld().ledger()
    await store.start("one", "place", 0, 30)
    outcome = await interrupted(_generation(store, voids=True), 1_000, KeyboardInterrupt)
    assert 3 <= outcome.points <= 12
    await store.aclose()


async def test_a_store_that_goes_away_in_between_keeps_nothing_reserved() -> None:
    world = MemoryWorld()
    store = world.ledger()
    await store.start("one", "place", 0, 30)
    await store.reserve(opened("gen", "one", HOLDS), (600,))
    world.database.fail_with("disk full")
    with pytest.raises(StoreUnavailable, match="disk full"):
        await store.extend("gen", HOLDS, 10)
    store.settle(settled("gen", 100), HOLDS)
    world.database.fail_with("")
    await store.aclose()
    assert world.rows().periods[("bud_key", 0)] == Sums(100, 0, 0)
