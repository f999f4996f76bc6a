"""The invariant of limits, L1, by random operations of several instances over each store.

In any window of time what was granted, less what was given back, is at most limit x window + limit,
where the window is how far the clock went forward in it; an admission takes all or nothing; what
is held at once is never over its limit.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.store.limit_store import LEASE, RATE, Charge, LimitSpent, LimitStore
from relay.store.token_bucket import MINUTE_US
from tests.fakes.properties import IS_FULL, examples
from tests.store.limit_worlds import WORLDS, World, make_world

LIMITS = {"a": 1, "b": 7, "c": 60, "d": 1000}
LEASES = {"l": 1, "m": 3}
INSTANCES = ("one", "two", "three")


@dataclass
class Bucket:
    """What was granted of one bucket, against the clock's way forward."""

    limit: int
    grants: list[tuple[int, int]] = field(default_factory=list)
    """How far the clock had gone forward, and how much (below 0: given back)."""

    def check(self) -> None:
        """Over every window that ends now: the most that any begin leaves is what counts."""
        forward_us = self.grants[-1][0] if self.grants else 0
        total = 0
        for at_us, amount in reversed(self.grants):
            total += amount
            window_us = forward_us - at_us
            assert total <= self.limit * window_us / MINUTE_US + self.limit


class Model:
    """What has been done, told by what the store said alone."""

    def __init__(self) -> None:
        self.forward_us = 0
        self.rates = {name: Bucket(limit) for name, limit in LIMITS.items()}
        self.held = {(who, name): 0 for who in INSTANCES for name in LEASES}

    def granted(self, who: str, charges: list[Charge]) -> None:
        for charge in charges:
            if charge.kind == LEASE:
                self.held[who, charge.bucket] += charge.amount
            else:
                self.rates[charge.bucket].grants.append((self.forward_us, charge.amount))

    def check(self) -> None:
        for bucket in self.rates.values():
            bucket.check()
        for name, limit in LEASES.items():
            assert sum(self.held[who, name] for who in INSTANCES) <= limit


charges_of = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(sorted(LIMITS)), st.integers(1, 40)),
        st.tuples(st.sampled_from(sorted(LEASES)), st.just(1)),
    ),
    min_size=1,
    max_size=4,
    unique_by=lambda one: one[0],
)
steps = st.one_of(
    st.tuples(st.just("take"), st.sampled_from(INSTANCES), charges_of),
    st.tuples(st.just("take"), st.sampled_from(INSTANCES), charges_of),
    st.tuples(st.just("take"), st.sampled_from(INSTANCES), charges_of),
    st.tuples(st.just("at once"), st.just(""), st.lists(charges_of, min_size=2, max_size=5)),
    st.tuples(st.just("forward"), st.just(""), st.integers(1, 70_000_000)),
    st.tuples(st.just("back"), st.just(""), st.integers(1, 9_000_000)),
    st.tuples(st.just("back"), st.just(""), st.integers(11_000_000, 4_000_000_000)),
    st.tuples(
        st.just("correct"),
        st.sampled_from(INSTANCES),
        st.tuples(st.sampled_from(sorted(LIMITS)), st.integers(-20, 40)),
    ),
    st.tuples(st.just("give back"), st.sampled_from(INSTANCES), st.sampled_from(sorted(LEASES))),
)


def to_charges(asked: list[tuple[str, int]]) -> list[Charge]:
    return [
        Charge(name, LEASES[name], amount, LEASE)
        if name in LEASES
        else Charge(name, LIMITS[name], amount, RATE)
        for name, amount in asked
    ]


async def run(world: World, script: list[tuple[str, str, Any]]) -> None:
    stores = {name: await world.store(name) for name in INSTANCES}
    model = Model()
    for act, who, what in script:
        if act == "take":
            charges = to_charges(what)
            await take(stores[who], world, model, who, charges)
        elif act == "at once":
            await asyncio.gather(
                *(
                    take(stores[name], world, model, name, to_charges(asked))
                    for name, asked in zip(INSTANCES * 2, what, strict=False)
                )
            )
        elif act == "forward":
            assert isinstance(what, int)
            model.forward_us += what
            world.set_time(world.now_us + what)
            for store in stores.values():
                await renewed(store, world)
        elif act == "back":
            assert isinstance(what, int)
            world.set_time(world.now_us - what)
        elif act == "correct":
            name, by = what
            bucket = model.rates[name]
            # No more is given back than was taken, as a settlement does.
            by = max(by, -sum(amount for _, amount in bucket.grants))
            if by < 0:
                bucket.grants.append((model.forward_us, by))
            stores[who].correct(name, LIMITS[name], by, world.now_us)
            await told(stores[who], world)
        elif model.held[who, what] > 0:
            model.held[who, what] -= 1
            stores[who].give_back(what, 1)
            await told(stores[who], world)
        model.check()


async def take(
    store: LimitStore, world: World, model: Model, who: str, charges: list[Charge]
) -> None:
    refused: LimitSpent | None = None
    try:
        taken = await store.take(charges, world.now_us)
    except LimitSpent as error:
        refused = error
    if refused is not None:
        assert refused.charge in charges
        never = any(charge.amount > charge.limit for charge in charges)
        assert (refused.retry_after_s is None) is never
        assert refused.retry_after_s is None or refused.retry_after_s > 0
        return
    model.granted(who, charges)
    for charge, level in zip(charges, taken.levels, strict=True):
        assert level >= 0
        if charge.kind == LEASE:
            # Others may be granted in between, and noted before.
            assert charge.amount <= level <= charge.limit


async def told(store: LimitStore, world: World) -> None:
    await store.take([Charge("told", 10**9, 1, RATE)], world.now_us)


async def renewed(store: LimitStore, world: World) -> None:
    if world.is_shared:
        store._tell_everything()  # type: ignore[attr-defined]
    await told(store, world)


@pytest.mark.parametrize("name", WORLDS)
@given(script=st.lists(steps, max_size=25))
@examples(40, full=1500)
async def test_grants_in_any_window(
    name: str, tmp_path: Path, request: pytest.FixtureRequest, script: list[tuple[str, str, Any]]
) -> None:
    world = make_world(name, tmp_path, request)
    try:
        if name == "sqlite":
            (tmp_path / "relay.db-limits").unlink(missing_ok=True)
        await run(world, script)
    finally:
        await world.aclose()


ALIKE = 300 if IS_FULL else 25


@given(script=st.lists(steps, max_size=25))
@examples(ALIKE)
async def test_all_stores_say_the_same(
    tmp_path: Path, request: pytest.FixtureRequest, script: list[tuple[str, str, Any]]
) -> None:
    """One instance over each, the same operations: the same answers to the last thousandth."""
    heard: dict[str, list[object]] = {}
    for name in WORLDS:
        (tmp_path / "relay.db-limits").unlink(missing_ok=True)
        world = make_world(name, tmp_path, request)
        try:
            heard[name] = await answers(world, script)
        finally:
            await world.aclose()
    assert heard["memory"] == heard["sqlite"] == heard["redis"]


async def answers(world: World, script: list[tuple[str, str, Any]]) -> list[object]:
    store = await world.store("one")
    said: list[object] = []
    for act, _, what in script:
        if act == "take":
            try:
                taken = await store.take(to_charges(what), world.now_us)
            except LimitSpent as error:
                levels = list(error.standing.levels)
                said.append((error.charge, error.retry_after_s, levels))
            else:
                said.append(list(taken.levels))
        elif act in ("forward", "back"):
            assert isinstance(what, int)
            world.set_time(world.now_us + (what if act == "forward" else -what))
            await renewed(store, world)
        elif act == "correct":
            name, by = what
            store.correct(name, LIMITS[name], by, world.now_us)
            await told(store, world)
        elif act == "give back":
            store.give_back(what, 1)
    return said
