"""What every LedgerStore does: one suite, which each store's tests take over by inheritance.

class TestSqlite(LedgerContract):
    @pytest.fixture
    async def ledgers(self, tmp_path): ...  # gives a `Ledgers`
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from contextlib import AsyncExitStack, aclosing, suppress
from dataclasses import asdict
from typing import Any, Protocol

import orjson
import pytest
import sqlalchemy

from relay.store.base import BudgetSpent, Hold, LedgerStore, StoreUnavailable
from tests.fakes.accounts import (
    LEASE_S,
    LEASE_US,
    NOW_US,
    closed,
    hold,
    opened,
    settled,
    started,
    void,
)


class Ledgers(Protocol):
    """One database, with our tables and nothing in them, and the stores on it."""

    engine: sqlalchemy.Engine
    """For looking at it beside the stores."""

    def make(self) -> LedgerStore:
        """A store that is not started."""
        ...


async def begin(
    stack: AsyncExitStack, ledgers: Ledgers, name: str = "a", now_us: int = NOW_US
) -> LedgerStore:
    """A store whose instance is `name`, on a place of that name; closed with the stack."""
    store = ledgers.make()
    await store.start(name, f"host/{name}", now_us, LEASE_S)
    await stack.enter_async_context(aclosing(store))
    return store


def ask(ledgers: Ledgers, question: str, **values: object) -> list[tuple[Any, ...]]:
    """Rows, as tuples."""
    with ledgers.engine.connect() as connection:
        return [tuple(row) for row in connection.execute(sqlalchemy.text(question), values)]


def row(ledgers: Ledgers, table: str, **keys: object) -> dict[str, Any]:
    """The one row of a table with these keys."""
    where = " AND ".join(f"{name} = :{name}" for name in keys)
    with ledgers.engine.connect() as connection:
        question = sqlalchemy.text(f"SELECT * FROM {table} WHERE {where}")
        return dict(connection.execute(question, keys).one()._mapping)


def period(ledgers: Ledgers, one: Hold) -> tuple[int, int, int]:
    """Settled, reserved, overrun of a budget in a period; zeros where it has no row."""
    rows = ask(
        ledgers,
        "SELECT settled_micro, reserved_micro, overrun_micro FROM budget_periods"
        " WHERE budget_id = :budget AND period_start_s = :start",
        budget=one.budget_id,
        start=one.period_start_s,
    )
    return rows[0] if rows else (0, 0, 0)


def require_balance(ledgers: Ledgers) -> None:
    """Counters are the sums over generations, and no hard cap of a test is exceeded by it."""
    sums: dict[tuple[str, int], list[int]] = {}
    for holds, state, reserved, spent in ask(
        ledgers, "SELECT holds, state, reserved_micro, settled_micro FROM generations"
    ):
        for budget_id, start in orjson.loads(holds):
            one = sums.setdefault((budget_id, start), [0, 0, 0])
            if state == "open":
                one[1] += reserved
            else:
                one[0] += spent
                one[2] += max(0, spent - reserved)
    kept = {
        (budget_id, start): [settled_micro, reserved, overrun]
        for budget_id, start, settled_micro, reserved, overrun in ask(
            ledgers,
            "SELECT budget_id, period_start_s, settled_micro, reserved_micro, overrun_micro"
            " FROM budget_periods",
        )
    }
    zero = [0, 0, 0]
    assert {key: one for key, one in kept.items() if one != zero} == {
        key: one for key, one in sums.items() if one != zero
    }


async def reserve_all(
    stores: Sequence[LedgerStore], holds: Sequence[Hold], count: int, micro: int, prefix: str
) -> tuple[list[str], int]:
    """Ask for `count` at once, over the stores in turn: who got it, and how many did not."""

    async def one(number: int) -> str | None:
        name = f"{prefix}_{number}"
        store_number = number % len(stores)
        try:
            await stores[store_number].reserve(
                opened(name, holds, instance_id="abcd"[store_number]), (micro,)
            )
        except BudgetSpent:
            return None
        return name

    got = await asyncio.gather(*(one(number) for number in range(count)))
    names = [name for name in got if name is not None]
    return names, count - len(names)


class LedgerContract:
    """The suite."""

    # --- reserve ------------------------------------------------------------------------------

    async def test_a_reservation_is_written_with_all_it_is_told(self, ledgers: Ledgers) -> None:
        generation = opened("gen_1", [hold("bud_1"), hold("bud_2", start_s=86_400)])
        async with AsyncExitStack() as stack:
            store = await begin(stack, ledgers)
            assert await store.reserve(generation, (400,)) == 400
            found = row(ledgers, "generations", id="gen_1")
            wanted = asdict(generation) | {
                "state": "open",
                "reserved_micro": 400,
                "holds": '[["bud_1",0],["bud_2",86400]]',
            }
            del wanted["first"]
            assert {name: found[name] for name in wanted} == wanted
            assert found["settled_micro"] is None
            for one in generation.holds:
                assert period(ledgers, one) == (0, 400, 0)

    async def test_the_first_amount_that_is_left_is_taken(self, ledgers: Ledgers) -> None:
        one = hold(cap_micro=1000)
        async with AsyncExitStack() as stack:
            store = await begin(stack, ledgers)
            assert await store.reserve(opened("gen_1", [one]), (700, 500, 250)) == 700
            assert await store.reserve(opened("gen_2", [one]), (700, 500, 250)) == 250
            assert period(ledgers, one) == (0, 950, 0)

    async def test_a_refusal_names_the_tightest_budget_and_writes_nothing(
        self, ledgers: Ledgers
    ) -> None:
        wide, tight, soft = hold("bud_a", 1000), hold("bud_b", 120), hold("bud_c", None)
        async with AsyncExitStack() as stack:
            store = await begin(stack, ledgers)
            await store.reserve(opened("gen_1", [tight]), (100,))
            with pytest.raises(BudgetSpent) as refusal:
                await store.reserve(opened("gen_2", [wide, tight, soft]), (900, 21))
            assert refusal.value.hold == tight
            assert refusal.value.left_micro == 20
            assert period(ledgers, wide) == (0, 0, 0)
            assert period(ledgers, soft) == (0, 0, 0)
            assert period(ledgers, tight) == (0, 100, 0)
            assert ask(ledgers, "SELECT id FROM generations") == [("gen_1",)]
            assert await store.reserve(opened("gen_2", [wide, tight, soft]), (20,)) == 20

    async def test_a_soft_budget_only_counts(self, ledgers: Ledgers) -> None:
        one = hold(cap_micro=None)
        async with AsyncExitStack() as stack:
            store = await begin(stack, ledgers)
            for number in range(3):
                await store.reserve(opened(f"gen_{number}", [one]), (10**9,))
            assert period(ledgers, one) == (0, 3 * 10**9, 0)

    async def test_nothing_at_all_fits_into_a_budget_that_is_spent(self, ledgers: Ledgers) -> None:
        one = hold(cap_micro=100)
        async with AsyncExitStack() as stack:
            store = await begin(stack, ledgers)
            await store.reserve(opened("gen_1", [one]), (100,))
            await store.committed(store.settle(settled("gen_1", 150), [one]))
            with pytest.raises(BudgetSpent) as refusal:
                await store.reserve(opened("gen_2", [one]), (0,))
            assert refusal.value.left_micro == 0

    async def test_reserving_again_gives_what_is_reserved_already(self, ledgers: Ledgers) -> None:
        one = hold()
        async with AsyncExitStack() as stack:
            store = await begin(stack, ledgers)
            assert await store.reserve(opened("gen_1", [one]), (300,)) == 300
            assert await store.reserve(opened("gen_1", [one]), (400,)) == 300
            assert period(ledgers, one) == (0, 300, 0)

    async def test_reserving_again_what_has_used_it_up(self, ledgers: Ledgers) -> None:
        one = hold(cap_micro=300)
        async with AsyncExitStack() as stack:
            store = await begin(stack, ledgers)
            for _ in range(2):
                assert await store.reserve(opened("gen_1", [one]), (300,)) == 300
            assert period(ledgers, one) == (0, 300, 0)

    async def test_what_is_over_cannot_be_reserved_again(self, ledgers: Ledgers) -> None:
        one = hold()
        async with AsyncExitStack() as stack:
            store = await begin(stack, ledgers)
            await store.reserve(opened("gen_1", [one]), (300,))
            store.settle(void("gen_1"), [one])
            with pytest.raises(StoreUnavailable):
                await store.reserve(opened("gen_1", [one]), (300,))
            assert period(ledgers, one) == (0, 0, 0)

    async def test_periods_of_a_budget_are_apart(self, ledgers: Ledgers) -> None:
        old, new = hold(start_s=86_400, cap_micro=100), hold(start_s=172_800, cap_micro=100)
        async with AsyncExitStack() as stack:
            store = await begin(stack, ledgers)
            await store.reserve(opened("gen_1", [old]), (100,))
            await store.reserve(opened("gen_2", [new]), (90,))
            await store.committed(store.settle(settled("gen_1", 70), [old]))
            assert period(ledgers, old) == (70, 0, 0)
            assert period(ledgers, new) == (0, 90, 0)

    # --- open, attempt, settle, committed -----------------------------------------------------

    async def test_a_generation_without_budgets_from_its_beginning_to_its_end(
        self, ledgers: Ledgers
    ) -> None:
        winner, loser = closed(0), closed(1, None, state="unpriced", is_winner=False)
        end = settled("gen_1", attempts=(winner, loser))
        async with AsyncExitStack() as stack:
            store = await begin(stack, ledgers)
            tickets = [store.open(opened("gen_1")), store.attempt("gen_1", started(0))]
            tickets += [store.attempt("gen_1", started(1)), store.settle(end, ())]
            assert tickets == sorted(set(tickets))
            await store.committed(tickets[-1])
            wanted = asdict(end)
            del wanted["attempts"]
            found = row(ledgers, "generations", id="gen_1")
            assert {name: found[name] for name in wanted} == wanted
            assert found["reserved_micro"] == 0
            for one in (winner, loser):
                found = row(ledgers, "attempts", generation_id="gen_1", ordinal=one.ordinal)
                assert found == asdict(one) | {"generation_id": "gen_1"}
            assert ask(ledgers, "SELECT * FROM budget_periods") == []

    async def test_what_was_handed_over_before_is_committed_too(self, ledgers: Ledgers) -> None:
        async with AsyncExitStack() as stack:
            store = await begin(stack, ledgers)
            first = [store.open(opened(f"gen_{number}")) for number in range(600)]
            last = store.attempt("gen_599", started())
            await store.committed(last)
            assert ask(ledgers, "SELECT count(*) FROM generations") == [(600,)]
            assert ask(ledgers, "SELECT count(*) FROM attempts") == [(1,)]
            for ticket in (first[0], first[-1], last):
                async with asyncio.timeout(0.5):
                    await store.committed(ticket)

    async def test_an_attempt_is_there_while_it_runs(self, ledgers: Ledgers) -> None:
        async with AsyncExitStack() as stack:
            store = await begin(stack, ledgers)
            store.open(opened("gen_1"))
            store.attempt("gen_1", started(0))
            await store.committed(store.attempt("gen_1", started(0)))  # twice is once
            found = row(ledgers, "attempts", generation_id="gen_1", ordinal=0)
            wanted = asdict(started(0)) | {"generation_id": "gen_1", "state": "open"}
            assert {name: found[name] for name in wanted} == wanted

    async def test_an_attempt_noted_after_the_end_changes_nothing(self, ledgers: Ledgers) -> None:
        async with AsyncExitStack() as stack:
            store = await begin(stack, ledgers)
            store.open(opened("gen_1"))
            store.settle(settled("gen_1", attempts=(closed(0),)), ())
            for number in range(2):
                ticket = store.attempt("gen_1", started(number))
                with suppress(StoreUnavailable):  # a store may say so
                    await store.committed(ticket)
            assert ask(ledgers, "SELECT ordinal, state FROM attempts") == [(0, "actual")]

    async def test_settling_gives_back_and_books(self, ledgers: Ledgers) -> None:
        holds = [hold("bud_1"), hold("bud_2", None)]
        async with AsyncExitStack() as stack:
            store = await begin(stack, ledgers)
            await store.reserve(opened("gen_1", holds), (300,))
            await store.committed(store.settle(settled("gen_1", 120), holds))
            for one in holds:
                assert period(ledgers, one) == (120, 0, 0)
            require_balance(ledgers)

    async def test_what_no_reservation_covered_is_told_apart(self, ledgers: Ledgers) -> None:
        one = hold()
        async with AsyncExitStack() as stack:
            store = await begin(stack, ledgers)
            await store.reserve(opened("gen_1", [one]), (100,))
            await store.committed(store.settle(settled("gen_1", 130), [one]))
            assert period(ledgers, one) == (130, 0, 30)

    async def test_settling_again_changes_nothing(self, ledgers: Ledgers) -> None:
        one = hold()
        async with AsyncExitStack() as stack:
            store = await begin(stack, ledgers)
            await store.reserve(opened("gen_1", [one]), (100,))
            store.settle(settled("gen_1", 40), [one])
            store.settle(settled("gen_1", 90, attempts=(closed(0),)), [one])
            await store.committed(store.settle(void("gen_1"), [one]))
            assert period(ledgers, one) == (40, 0, 0)
            assert row(ledgers, "generations", id="gen_1")["settled_micro"] == 40
            assert ask(ledgers, "SELECT count(*) FROM attempts") == [(0,)]

    async def test_settling_what_never_was_changes_nothing(self, ledgers: Ledgers) -> None:
        one = hold()
        async with AsyncExitStack() as stack:
            store = await begin(stack, ledgers)
            await store.committed(store.settle(void("gen_1"), [one]))
            assert period(ledgers, one) == (0, 0, 0)
            assert ask(ledgers, "SELECT count(*) FROM generations") == [(0,)]

    # --- extend -------------------------------------------------------------------------------

    async def test_more_is_put_aside_in_every_budget_or_in_none(self, ledgers: Ledgers) -> None:
        holds = [hold("bud_1", 1000), hold("bud_2", 500)]
        async with AsyncExitStack() as stack:
            store = await begin(stack, ledgers)
            await store.reserve(opened("gen_1", holds), (300,))
            await store.extend("gen_1", holds, 150)
            with pytest.raises(BudgetSpent) as refusal:
                await store.extend("gen_1", holds, 51)
            assert refusal.value.hold == holds[1]
            assert refusal.value.left_micro == 50
            assert [period(ledgers, one) for one in holds] == [(0, 450, 0)] * 2
            assert row(ledgers, "generations", id="gen_1")["reserved_micro"] == 450
            await store.committed(store.settle(settled("gen_1", 440), holds))
            assert [period(ledgers, one) for one in holds] == [(440, 0, 0)] * 2

    async def test_what_is_not_open_gets_no_more(self, ledgers: Ledgers) -> None:
        one = hold()
        async with AsyncExitStack() as stack:
            store = await begin(stack, ledgers)
            await store.reserve(opened("gen_1", [one]), (100,))
            store.settle(settled("gen_1", 40), [one])
            for name in ("gen_1", "gen_2"):
                with pytest.raises(StoreUnavailable):
                    await store.extend(name, [one], 10)
            assert period(ledgers, one) == (40, 0, 0)

    # --- many at once -------------------------------------------------------------------------

    @pytest.mark.parametrize("count", [1, 4])
    async def test_200_at_the_edge_of_a_budget_worth_20(self, ledgers: Ledgers, count: int) -> None:
        holds = [hold("bud_key", 20 * 50), hold("bud_team", 10**6), hold("bud_all", None)]
        async with AsyncExitStack() as stack:
            stores = [await begin(stack, ledgers, name) for name in "abcd"[:count]]
            got, refused = await reserve_all(stores, holds, 200, 50, "one")
            assert (len(got), refused) == (20, 180)
            assert period(ledgers, holds[0]) == (0, 1000, 0)
            # Each cost half of what it might have: so much is there for others again, and no less.
            for name in got:
                store = stores[int(name.split("_")[1]) % count]
                store.settle(settled(name, 25), holds)
            for store in stores:
                await store.committed(store.open(opened(f"end_{id(store)}")))
            got, refused = await reserve_all(stores, holds, 200, 50, "two")
            assert (len(got), refused) == (10, 190)
            assert period(ledgers, holds[0]) == (500, 500, 0)
            require_balance(ledgers)

    async def test_budgets_in_any_order_from_several_stores(self, ledgers: Ledgers) -> None:
        budgets = [hold(f"bud_{number}", None) for number in range(6)]
        order = random.Random(7)

        async def work(store: LedgerStore, name: str) -> None:
            for number in range(12):
                holds = order.sample(budgets, 4)
                await store.reserve(opened(f"{name}_{number}", holds), (100,))
                await store.extend(f"{name}_{number}", holds, 10)
                store.settle(settled(f"{name}_{number}", 60), holds)

        async with AsyncExitStack() as stack:
            stores = [await begin(stack, ledgers, name) for name in "abc"]
            await asyncio.gather(
                *(
                    work(store, f"gen_{number}_{lane}")
                    for number, store in enumerate(stores)
                    for lane in range(4)
                )
            )
            for store in stores:
                await store.committed(store.open(opened(f"end_{id(store)}")))
            require_balance(ledgers)
            assert sum(period(ledgers, one)[0] for one in budgets) == 3 * 4 * 12 * 4 * 60

    async def test_cancelled_while_it_waits_nothing_stays_reserved(self, ledgers: Ledgers) -> None:
        one = hold(cap_micro=None)
        pick = random.Random(11)
        async with AsyncExitStack() as stack:
            store = await begin(stack, ledgers)
            tasks = [
                asyncio.create_task(store.reserve(opened(f"gen_{number}", [one]), (10,)))
                for number in range(100)
            ]
            for _ in range(pick.randrange(4)):
                await asyncio.sleep(0)
            cancelled = set(pick.sample(range(100), 50))
            for number in cancelled:
                tasks[number].cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            for number, result in enumerate(results):
                if isinstance(result, asyncio.CancelledError):
                    store.settle(void(f"gen_{number}"), [one])
                else:
                    assert result == 10
            await store.committed(store.open(opened("end")))
            assert period(ledgers, one)[1] == 10 * sum(result == 10 for result in results)
            require_balance(ledgers)

    async def test_whoever_waits_for_a_commit_may_be_cancelled(self, ledgers: Ledgers) -> None:
        async with AsyncExitStack() as stack:
            store = await begin(stack, ledgers)
            ticket = store.open(opened("gen_1"))
            impatient = asyncio.create_task(store.committed(ticket))
            patient = asyncio.create_task(store.committed(ticket))
            await asyncio.sleep(0)
            impatient.cancel()
            await patient
            assert ask(ledgers, "SELECT id FROM generations") == [("gen_1",)]
            with pytest.raises(asyncio.CancelledError):
                await impatient

    async def test_texts_of_callers_harm_nobody(self, ledgers: Ledgers) -> None:
        odd = ["a\0b", "\ud800", "'; DROP TABLE generations; --", "é" * 300, "{}\\", "%s :id $1"]
        async with AsyncExitStack() as stack:
            store = await begin(stack, ledgers)
            for number, text in enumerate(odd):
                words: dict[str, Any] = {
                    "alias": text,
                    "session_id": text,
                    "turn_id": text,
                    "labels": text,
                }
                store.open(opened(f"gen_{number}", **words))
                end = settled(f"gen_{number}", model=text, attempts=(closed(0, model=text),))
                ticket = store.settle(end, ())
            await store.committed(ticket)
            rows = ask(ledgers, "SELECT id FROM generations WHERE state = 'settled'")
            assert len(rows) == len(odd)

    # --- leases and sweeps --------------------------------------------------------------------

    async def test_what_a_dead_instance_left_is_settled_at_its_most(self, ledgers: Ledgers) -> None:
        one = hold()
        later_us = NOW_US + LEASE_US + 1
        async with AsyncExitStack() as stack:
            dead = await begin(stack, ledgers, "a")
            await dead.reserve(opened("gen_1", [one]), (200,))
            dead.attempt("gen_1", started(0, 70))
            dead.attempt("gen_1", started(1, 80))
            await dead.reserve(opened("gen_2", [one]), (200,))
            ticket = dead.attempt("gen_2", started(0, None))
            await dead.reserve(opened("gen_3", [one]), (200,))
            await dead.committed(ticket)
            living = await begin(stack, ledgers, "b", later_us)
            await living.reserve(opened("gen_4", [one], instance_id="b"), (100,))

            assert await living.sweep(later_us, 100) == 3
            assert await living.sweep(later_us, 100) == 0
            assert period(ledgers, one) == (150, 100, 0)
            rows = ask(
                ledgers,
                "SELECT id, state, settled_micro, ended_at_us FROM generations ORDER BY id",
            )
            assert rows == [
                ("gen_1", "estimated", 150, later_us),
                ("gen_2", "estimated", 0, later_us),
                ("gen_3", "void", 0, later_us),
                ("gen_4", "open", None, None),
            ]
            rows = ask(
                ledgers,
                "SELECT generation_id, state, cost_micro FROM attempts"
                " ORDER BY generation_id, ordinal",
            )
            assert rows == [
                ("gen_1", "estimated", 70),
                ("gen_1", "estimated", 80),
                ("gen_2", "unpriced", None),
            ]
            require_balance(ledgers)

            # It was not dead after all: too late.
            dead.settle(settled("gen_1", 5, attempts=(closed(0),)), [one])
            dead.attempt("gen_3", started(0, 999))
            with pytest.raises(StoreUnavailable):
                await dead.extend("gen_3", [one], 10)
            assert period(ledgers, one) == (150, 100, 0)
            assert ask(ledgers, "SELECT count(*) FROM attempts") == [(3,)]

    async def test_a_sweep_takes_no_more_than_its_limit(self, ledgers: Ledgers) -> None:
        one = hold(cap_micro=None)
        later_us = NOW_US + 2 * LEASE_US
        async with AsyncExitStack() as stack:
            dead = await begin(stack, ledgers, "a")
            for number in range(7):
                await dead.reserve(opened(f"gen_{number}", [one]), (10,))
            living = await begin(stack, ledgers, "b", later_us)
            counts = [await living.sweep(later_us, 3) for _ in range(4)]
            assert counts == [3, 3, 1, 0]
            assert period(ledgers, one) == (0, 0, 0)

    async def test_a_renewed_lease_holds(self, ledgers: Ledgers) -> None:
        later_us = NOW_US + 2 * LEASE_US
        async with AsyncExitStack() as stack:
            first = await begin(stack, ledgers, "a")
            await first.committed(first.open(opened("gen_1")))
            await first.renew(NOW_US + LEASE_US + LEASE_US // 2, LEASE_S)
            second = await begin(stack, ledgers, "b", later_us)
            assert await second.sweep(later_us, 10) == 0
            assert await second.sweep(later_us + LEASE_US, 10) == 1

    async def test_a_lease_that_was_over_is_taken_anew(self, ledgers: Ledgers) -> None:
        later_us = NOW_US + 2 * LEASE_US
        async with AsyncExitStack() as stack:
            first = await begin(stack, ledgers, "a")
            second = await begin(stack, ledgers, "b", later_us)
            assert await second.sweep(later_us, 10) == 0  # the row of the first may go
            await first.renew(later_us, LEASE_S)
            generation = opened("gen_1", admitted_at_us=later_us, lease_until_us=later_us * 2)
            await first.committed(first.open(generation))
            assert await second.sweep(later_us, 10) == 0

    async def test_a_generation_whose_own_lease_is_over_is_settled(self, ledgers: Ledgers) -> None:
        one = hold()
        async with AsyncExitStack() as stack:
            store = await begin(stack, ledgers)
            short = opened("gen_1", [one], lease_until_us=NOW_US + 1000)
            await store.reserve(short, (100,))
            await store.reserve(opened("gen_2", [one]), (100,))
            assert await store.sweep(NOW_US + 999, 10) == 0
            assert await store.sweep(NOW_US + 1001, 10) == 1
            assert period(ledgers, one) == (0, 100, 0)

    async def test_a_successor_in_its_place_knows_that_it_is_gone(self, ledgers: Ledgers) -> None:
        one = hold()
        async with AsyncExitStack() as stack:
            killed = await begin(stack, ledgers, "a")
            await killed.reserve(opened("gen_1", [one]), (100,))
            successor = ledgers.make()
            await successor.start("b", "host/a", NOW_US + 5, LEASE_S)
            await stack.enter_async_context(aclosing(successor))
            assert await successor.sweep(NOW_US + 6, 10) == 1
            assert period(ledgers, one) == (0, 0, 0)

    async def test_sweeps_of_several_and_late_ends_settle_once(self, ledgers: Ledgers) -> None:
        holds = [hold("bud_1", None), hold("bud_2", None)]
        later_us = NOW_US + 2 * LEASE_US
        async with AsyncExitStack() as stack:
            dead = await begin(stack, ledgers, "a")
            names = [f"gen_{number}" for number in range(60)]
            for name in names:
                reserving = dead.reserve(opened(name, holds), (50,))
                await reserving
                ticket = dead.attempt(name, started(0, 50))
            await dead.committed(ticket)
            others = [await begin(stack, ledgers, name, later_us) for name in "bc"]
            late = [dead.settle(settled(name, 20), holds) for name in names]
            swept = await asyncio.gather(*(one.sweep(later_us, 40) for one in others * 2))
            await dead.committed(late[-1])
            for one in others:
                await one.sweep(later_us, 100)
            require_balance(ledgers)
            states = dict(ask(ledgers, "SELECT state, count(*) FROM generations GROUP BY state"))
            assert sum(states.values()) == 60
            assert states.get("estimated", 0) >= sum(swept) >= 0
            assert set(states) <= {"estimated", "settled"}
            booked = 50 * states.get("estimated", 0) + 20 * states.get("settled", 0)
            assert period(ledgers, holds[0]) == (booked, 0, 0)

    # --- closing ------------------------------------------------------------------------------

    async def test_closing_writes_what_waits_and_leaves_the_rest_to_others(
        self, ledgers: Ledgers
    ) -> None:
        one = hold()
        async with AsyncExitStack() as stack:
            other = await begin(stack, ledgers, "b")
            store = ledgers.make()
            await store.start("a", "host/a", NOW_US, LEASE_S)
            await store.reserve(opened("gen_1", [one]), (100,))
            store.settle(settled("gen_1", 40), [one])
            for number in range(2, 50):
                store.open(opened(f"gen_{number}"))
            await store.aclose()
            await store.aclose()
            assert period(ledgers, one) == (40, 0, 0)
            assert await other.sweep(NOW_US + 1, 100) == 48
            with pytest.raises(StoreUnavailable):
                await store.reserve(opened("gen_99", [one]), (1,))
            with pytest.raises(StoreUnavailable):
                await store.committed(store.open(opened("gen_99")))

    async def test_a_restarted_relay_finds_its_accounts(self, ledgers: Ledgers) -> None:
        one = hold(cap_micro=100)
        async with AsyncExitStack() as stack:
            store = await begin(stack, ledgers, "a")
            await store.reserve(opened("gen_1", [one]), (60,))
            store.settle(settled("gen_1", 60), [one])
        async with AsyncExitStack() as stack:
            store = await begin(stack, ledgers, "b", NOW_US + 1)
            with pytest.raises(BudgetSpent) as refusal:
                await store.reserve(opened("gen_2", [one]), (41,))
            assert refusal.value.left_micro == 40
