"""The same operations on a LedgerStore and on the model, and the two compared.

Two workers share the database. What one hands over without waiting is committed before the other
does anything, since nothing else says which of two workers was first; within a worker it stays in
line, as it would.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final, TypeVar

from relay.store.base import (
    BudgetSpent,
    ClosedAttempt,
    Hold,
    LedgerStore,
    OpenedAttempt,
    OpenedGeneration,
    SettledGeneration,
    StoreUnavailable,
    Ticket,
)
from tests.governance.budget_model import BudgetModel, Over, Refused
from tests.governance.ledger_worlds import LedgerWorld

T = TypeVar("T")

WORKERS: Final = 2
LEASE_S: Final = 30.0
LONG_US: Final = 3_600_000_000
PROVIDER: Final = "openai"


def opened(
    generation_id: str,
    instance_id: str = "one",
    holds: tuple[Hold, ...] = (),
    *,
    now_us: int = 0,
    lease_us: int = LONG_US,
) -> OpenedGeneration:
    """A row with what does not matter filled in."""
    return OpenedGeneration(
        id=generation_id,
        instance_id=instance_id,
        organisation_id="org_1",
        team_id="team_1",
        key_id="key_1",
        alias="fast",
        surface="chat",
        tags="[]",
        labels="{}",
        session_id="",
        turn_id="",
        trace_id="",
        admitted_at_us=now_us,
        lease_until_us=now_us + lease_us,
        holds=holds,
    )


def settled(
    generation_id: str,
    micro: int,
    state: str = "settled",
    *,
    now_us: int = 0,
    attempts: tuple[ClosedAttempt, ...] = (),
) -> SettledGeneration:
    """The end of it, likewise."""
    return SettledGeneration(
        id=generation_id,
        state=state,
        settled_micro=micro,
        ended_at_us=now_us,
        reason="",
        provider=PROVIDER,
        model="m",
        is_usage_final=state == "settled",
        ttft_us=1_000,
        wall_us=2_000,
        phases="{}",
        attempts=attempts,
    )


def started(ordinal: int, upper: int | None) -> OpenedAttempt:
    """An attempt that begins."""
    return OpenedAttempt(ordinal, PROVIDER, "m", "primary", 0, upper)


class LedgerPair:
    """A store and its model.

    Args:
        now_us: when it begins.
    """

    def __init__(self, world: LedgerWorld, now_us: int) -> None:
        self.world = world
        self.model = BudgetModel()
        self.now_us = now_us
        self._numbers = itertools.count()
        self._runner = asyncio.Runner()
        self._loop = self._runner.get_loop()
        self._names = [f"worker-{place}" for place in range(WORKERS)]
        self._ledgers: list[LedgerStore] = []
        self._tickets = [0] * WORKERS
        self._last = 0
        self._holds: dict[str, tuple[Hold, ...]] = {}
        self._owner: dict[str, int] = {}
        for place in range(WORKERS):
            self._ledgers.append(world.ledger())
            self._start(place)

    def close(self) -> None:
        """Stop the workers and their loop."""
        for ledger in self._ledgers:
            self._run(ledger.aclose())
        self._runner.close()

    @property
    def open_ids(self) -> list[str]:
        """Generations that are open."""
        return [one.id for one in self.model.generations.values() if one.state == "open"]

    @property
    def ids(self) -> list[str]:
        """All that ever were."""
        return list(self.model.generations)

    def new_id(self) -> str:
        return f"gen-{next(self._numbers)}"

    # --- operations -----------------------------------------------------------------------------

    def reserve(
        self,
        place: int,
        generation_id: str,
        holds: tuple[Hold, ...],
        amounts: Sequence[int],
        lease_us: int = LONG_US,
    ) -> int | None:
        """What both reserved; None if both refused."""
        holds = self._holds.setdefault(generation_id, holds)
        place = self._at(place, generation_id)
        name = self._names[place]
        row = opened(generation_id, name, holds, now_us=self.now_us, lease_us=lease_us)
        try:
            got: int | Refused | Over = self._run(self._ledgers[place].reserve(row, amounts))
        except BudgetSpent as error:
            got = Refused(error.hold.budget_id, error.left_micro)
        except StoreUnavailable:
            got = Over()
        expected = self.model.reserve(generation_id, name, row.lease_until_us, holds, amounts)
        assert got == expected
        return got if isinstance(got, int) else None

    def open(self, place: int, generation_id: str) -> None:
        self._holds.setdefault(generation_id, ())
        place = self._at(place, generation_id)
        name = self._names[place]
        row = opened(generation_id, name, now_us=self.now_us)
        self._hand(place, lambda: self._ledgers[place].open(row))
        self.model.reserve(generation_id, name, row.lease_until_us, (), (0,))

    def extend(self, generation_id: str, more: int) -> int | None:
        place = self._at(0, generation_id)
        holds = self._now(generation_id)
        try:
            self._run(self._ledgers[place].extend(generation_id, holds, more))
            got: int | Refused | Over = more
        except BudgetSpent as error:
            got = Refused(error.hold.budget_id, error.left_micro)
        except StoreUnavailable:
            got = Over()
        assert got == self.model.extend(generation_id, holds, more)
        return got if isinstance(got, int) else None

    def attempt(self, generation_id: str, ordinal: int, upper: int | None) -> None:
        place = self._at(0, generation_id)
        row = started(ordinal, upper)
        self._hand(place, lambda: self._ledgers[place].attempt(generation_id, row))
        self.model.attempt(generation_id, ordinal, upper)

    def settle(self, generation_id: str, state: str, micro: int) -> None:
        place = self._at(0, generation_id)
        row = settled(generation_id, micro, state, now_us=self.now_us)
        holds = self._holds.get(generation_id, ())
        self._hand(place, lambda: self._ledgers[place].settle(row, holds))
        self.model.settle(generation_id, state, micro)

    def sweep(self, place: int) -> None:
        self.flush()
        total = 0
        while swept := self._run(self._ledgers[place].sweep(self.now_us, 100)):
            total += swept
        assert total == self.model.sweep(self.now_us)

    def replace(self, place: int) -> None:
        """A worker leaves, and another takes its place."""
        self._run(self._ledgers[place].aclose())
        self.model.leave(self._names[place])
        self._ledgers[place] = self.world.ledger()
        self._names[place] = f"worker-{place}-{next(self._numbers)}"
        self._tickets[place] = 0
        self._start(place)

    def burst(self, holds: tuple[Hold, ...], amount: int, count: int) -> int:
        """Reservations of one amount, all at once on both workers: how many there were.

        Which of them are refused is not told by anything, but how many is.
        """
        self.flush()
        rows = [
            opened(self.new_id(), self._names[n % WORKERS], holds, now_us=self.now_us)
            for n in range(count)
        ]

        async def all_at_once() -> list[int | BaseException]:
            return await asyncio.gather(
                *(self._ledgers[n % WORKERS].reserve(row, (amount,)) for n, row in enumerate(rows)),
                return_exceptions=True,
            )

        results = self._run(all_at_once())
        got = 0
        for n, (row, result) in enumerate(zip(rows, results, strict=True)):
            if isinstance(result, int):
                got += 1
                self._holds[row.id], self._owner[row.id] = holds, n % WORKERS
                expected = self.model.reserve(
                    row.id, row.instance_id, row.lease_until_us, holds, (amount,)
                )
                assert expected == amount == result
            else:
                assert isinstance(result, BudgetSpent), result
        if got < count:
            refused = self.model.reserve("refused", "", 0, holds, (amount,))
            assert isinstance(refused, Refused), "a reservation was refused that there was room for"
        return got

    def advance(self, by_us: int) -> None:
        """The clock goes on, or back; workers live through it."""
        self.now_us += by_us
        for ledger in self._ledgers:
            self._run(ledger.renew(self.now_us, LEASE_S))

    # --- comparing ------------------------------------------------------------------------------

    def flush(self) -> None:
        """Everything that was handed over is committed."""
        for place, ticket in enumerate(self._tickets):
            if ticket:
                self._run(self._ledgers[place].committed(ticket))
                self._tickets[place] = 0

    def compare(self) -> None:
        """The database says what the list says, to the micro-dollar (M4, M10)."""
        self.flush()
        self.model.check()
        rows = self.world.rows()
        expected = {key: sums for key, sums in self.model.all_sums().items() if any(sums)}
        assert rows.periods == expected
        assert rows.generations == {
            one.id: (one.state, one.reserved, None if one.state == "open" else one.settled)
            for one in self.model.generations.values()
        }

    # --- inside ---------------------------------------------------------------------------------

    def _at(self, place: int, generation_id: str) -> int:
        """Where a generation lives; what the other worker has in line is written before."""
        place = self._owner.setdefault(generation_id, place)
        if place != self._last:
            self.flush()
            self._last = place
        return place

    def _hand(self, place: int, hand_over: Callable[[], Ticket]) -> None:
        async def in_loop() -> Ticket:
            return hand_over()

        self._tickets[place] = self._run(in_loop())

    def _now(self, generation_id: str) -> tuple[Hold, ...]:
        return self._holds.get(generation_id, ())

    def _start(self, place: int) -> None:
        name = self._names[place]
        self._run(self._ledgers[place].start(name, f"place-{place}", self.now_us, LEASE_S))

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self._loop.run_until_complete(coroutine)
