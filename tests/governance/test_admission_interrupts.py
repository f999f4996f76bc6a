"""M11 over the whole way of a generation: admission, its attempts, its end.

Whatever interrupts it, wherever: nothing stays reserved once the generation has ended, and nothing
is booked but what was spent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from relay.config import parse
from relay.content import GenerateRequest, Message, Role, Sampling, TextPart, Usage
from relay.errors import BudgetExceeded, Draining, StoreDown
from relay.governance.admission import Admission, AdmissionSettings
from relay.governance.budget_scopes import BudgetRow
from relay.governance.gate import Identity
from relay.governance.key_view import KeyView
from relay.governance.ledger import Asked, LedgerEntry
from relay.governance.limits import KeyLimits
from relay.governance.price_sheet import PriceSheet
from relay.governance.scopes import EVERYTHING
from relay.outcome import AttemptOutcome, AttemptRecord, AttemptRole, GenerationEnd, refused
from relay.routing.catalog import Catalog
from relay.routing.target import Target
from relay.store.base import LedgerStore
from tests.fakes.interrupts import INTERRUPTIONS, interrupted, ways
from tests.fakes.memory_ledger import MemoryLedger
from tests.governance.budget_model import Sums
from tests.governance.ledger_worlds import MemoryWorld

NOW_US = 1_800_000_000_000_000
MOST_POINTS = 12

CONFIG = parse(
    {
        "providers": {
            "p": {
                "wire": "openai_chat",
                "base_url": "https://p.test/v1",
                "prices": {"m": {"input": 1.0, "output": 2.0}, "dear": {"input": 5, "output": 9}},
            }
        },
        "models": {
            "fast": {
                "candidates": [{"provider": "p", "model": "m"}],
                "fallbacks": [{"provider": "p", "model": "dear"}],
            }
        },
    },
    {},
)
CATALOG = Catalog(CONFIG)
REQUEST = GenerateRequest(
    "fast", (Message(Role.USER, (TextPart("hello"),)),), sampling=Sampling(max_output_tokens=100)
)
USAGE = Usage(1_000, 100, 1_100)


def _budget(budget_id: str, scope: str, limit_micro: int) -> BudgetRow:
    return BudgetRow(budget_id, scope, "x", "org", "total", "UTC", limit_micro, True, (), False)


class OneKey:
    """A gate that knows one key, with budgets on it and above it."""

    needs_keys = True
    is_ready = True

    def __init__(self, limit_micro: int = 1_000_000) -> None:
        self._view = KeyView(
            "key",
            "team",
            "org",
            EVERYTHING,
            (),
            KeyLimits(),
            (_budget("a", "key", limit_micro), _budget("b", "team", 2 * limit_micro)),
        )

    def identify(self, bearer: str, names: Sequence[str] = (), peer: str = "") -> Identity:
        del bearer, names, peer
        return Identity("team", "key")

    def view(self, key_id: str) -> KeyView | None:
        del key_id
        return self._view


class Way:
    """One generation on its way, as `dispatch` and `generation` go it."""

    def __init__(self, store: LedgerStore, *, limit_micro: int = 1_000_000) -> None:
        self.admission = Admission(
            store=store,
            instance_id="one",
            prices=PriceSheet({"p": CONFIG.providers["p"].prices}),
            settings=AdmissionSettings(),
            gate=OneKey(limit_micro),
            now_us=lambda: NOW_US,
        )
        self.records: list[AttemptRecord] = []

    async def go(self) -> None:
        entry: LedgerEntry | None = None
        try:
            admitted = await self.admission.admit(Asked("gen", REQUEST, CATALOG, "chat", 100))
            entry = admitted.entry
            assert entry is not None
            for target in (*admitted.route.candidates, *admitted.route.fallbacks):
                await self._attempt(entry, target)
            await entry.durable()
        except BaseException:
            if entry is not None:
                end = replace(refused(Draining("gone")), attempts=tuple(self.records))
                entry.settle(end)
            raise
        self.records[-1].is_winner = True
        entry.settle(self._end())
        await entry.booked()

    async def _attempt(self, entry: LedgerEntry, target: Target) -> None:
        record = AttemptRecord(target.endpoint.provider, target.model, 0, role=AttemptRole.PRIMARY)
        record.is_free = False
        waiting = entry.started(record, target)
        self.records.append(record)
        if waiting is not None:
            await waiting

    def _end(self) -> GenerationEnd:
        self.records[-1].outcome = AttemptOutcome.SUCCESS
        return replace(
            refused(Draining("gone")),
            error=None,
            usage=USAGE,
            attempts=tuple(self.records),
            provider="p",
            model="dear",
        )


async def begun(world: MemoryWorld) -> MemoryLedger:
    store = MemoryLedger(world.database)
    await store.start("one", "place", NOW_US, 30)
    return store


def reserved(world: MemoryWorld) -> list[int]:
    return [sums.reserved for sums in world.rows().periods.values()]


@pytest.mark.parametrize(("at", "kind"), ways(MOST_POINTS))
async def test_nothing_stays_reserved(at: int, kind: type[BaseException]) -> None:
    world = MemoryWorld()
    store = await begun(world)
    outcome = await interrupted(Way(store).go(), at, kind)
    await store.aclose()
    assert not any(reserved(world)), outcome
    for sums in world.rows().periods.values():
        assert sums.overrun == 0
    if outcome.was_interrupted:
        assert type(outcome.error) is kind
    elif outcome.error is None:
        cost_micro = 1_000 * 5 + 100 * 9
        assert world.rows().periods[("a", 0)] == Sums(cost_micro, 0, 0)


async def test_the_points_are_all_there_are() -> None:
    """And an attempt beyond what was put aside asks for more among them."""
    store = await begun(MemoryWorld())
    outcome = await interrupted(Way(store).go(), 1_000, KeyboardInterrupt)
    assert outcome.error is None
    assert 3 <= outcome.points <= MOST_POINTS
    await store.aclose()


@pytest.mark.parametrize("kind", INTERRUPTIONS)
async def test_a_lost_answer_of_the_store_is_voided(kind: type[BaseException]) -> None:
    """The reservation is written, and whoever asked for it is gone before he hears so."""

    class Slow(MemoryLedger):
        async def reserve(self, opened, amounts):  # type: ignore[no-untyped-def]
            got = await super().reserve(opened, amounts)
            await asyncio.sleep(0)
            return got

    world = MemoryWorld()
    store = Slow(world.database)
    await store.start("one", "place", NOW_US, 30)
    outcome = await interrupted(Way(store).go(), 2, kind)
    assert outcome.was_interrupted
    assert any(reserved(world))
    await store.aclose()
    assert not any(reserved(world))
    assert world.rows().generations["gen"][0] == "void"


@pytest.mark.parametrize("kind", INTERRUPTIONS)
async def test_an_attempt_that_is_interrupted_while_it_asks_takes_nobodys_part(
    kind: type[BaseException],
) -> None:
    """A hedge is cancelled while more is put aside for it; the next one must not rely on that."""
    world = MemoryWorld()
    store = await begun(world)
    way = Way(store)
    admitted = await way.admission.admit(Asked("gen", REQUEST, CATALOG, "chat", 100))
    entry = admitted.entry
    assert entry is not None
    (first,), (second,) = admitted.route.candidates, admitted.route.fallbacks
    await way._attempt(entry, first)
    outcome = await interrupted(way._attempt(entry, second), 1, kind)
    assert outcome.was_interrupted
    way.records.pop()
    await way._attempt(entry, second)
    await entry.durable()
    row = world.database.generations["gen"]
    assert sum(one.upper_micro or 0 for one in row.attempts.values()) <= row.reserved_micro
    entry.settle(way._end())
    await store.aclose()
    assert not any(reserved(world))


async def test_attempts_that_ask_together_are_each_covered() -> None:
    world = MemoryWorld()
    store = await begun(world)
    way = Way(store)
    admitted = await way.admission.admit(Asked("gen", REQUEST, CATALOG, "chat", 100))
    entry = admitted.entry
    assert entry is not None
    (first,), (dear,) = admitted.route.candidates, admitted.route.fallbacks
    await way._attempt(entry, first)
    await asyncio.gather(*(way._attempt(entry, dear) for _ in range(3)))
    await entry.durable()
    row = world.database.generations["gen"]
    assert sum(one.upper_micro or 0 for one in row.attempts.values()) == row.reserved_micro
    entry.settle(way._end())
    await store.aclose()
    assert not any(reserved(world))


async def test_a_store_that_is_gone_reserves_nothing() -> None:
    world = MemoryWorld()
    store = await begun(world)
    world.database.fail_with("disk full")
    with pytest.raises(StoreDown):
        await Way(store).go()
    world.database.fail_with("")
    await store.aclose()
    assert not any(reserved(world))


async def test_what_cannot_be_paid_is_refused_and_leaves_nothing() -> None:
    world = MemoryWorld()
    store = await begun(world)
    with pytest.raises(BudgetExceeded):
        await Way(store, limit_micro=10).go()
    await store.aclose()
    assert not any(reserved(world))
    assert world.rows().generations == {}
