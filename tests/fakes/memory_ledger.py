"""A LedgerStore in memory: what the real ones promise, without a database.

Workers of one `MemoryDatabase` share its rows, as processes share a file. What is handed over
without waiting is applied when the loop comes round, or when something waits for it; `fail_with`
takes the database away and brings it back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from relay.store.base import (
    BudgetSpent,
    ClosedAttempt,
    Hold,
    OpenedAttempt,
    OpenedGeneration,
    SettledGeneration,
    StoreUnavailable,
    Ticket,
)

PeriodKey = tuple[str, int]


@dataclass
class Counters:
    """A row of `budget_periods`."""

    settled_micro: int = 0
    reserved_micro: int = 0
    overrun_micro: int = 0


@dataclass
class GenerationRow:
    """A row of `generations` with its attempts."""

    opened: OpenedGeneration
    reserved_micro: int
    state: str = "open"
    settled: SettledGeneration | None = None
    settled_micro: int | None = None
    attempts: dict[int, OpenedAttempt | ClosedAttempt] = field(default_factory=dict)

    @property
    def keys(self) -> list[PeriodKey]:
        """Of the budget periods that it counts against."""
        return [(hold.budget_id, hold.period_start_s) for hold in self.opened.holds]


@dataclass
class MemoryDatabase:
    """The rows."""

    generations: dict[str, GenerationRow] = field(default_factory=dict)
    periods: dict[PeriodKey, Counters] = field(default_factory=dict)
    instances: dict[str, int] = field(default_factory=dict)
    """Lease by instance."""
    places: dict[str, str] = field(default_factory=dict)
    """Instance by place."""
    failure: str = ""

    def fail_with(self, why: str) -> None:
        """Nothing can be read or written until it is called with ""."""
        self.failure = why

    def counters(self, key: PeriodKey) -> Counters:
        return self.periods.setdefault(key, Counters())


class MemoryLedger:
    """One worker's LedgerStore.

    Args:
        database: shared with other workers; its own if None.
    """

    def __init__(self, database: MemoryDatabase | None = None) -> None:
        self.notes_first = False
        self.database = database or MemoryDatabase()
        self.instance_id = ""
        self._place = ""
        self._waiting: list[tuple[Ticket, Callable[[], None]]] = []
        self._ticket: Ticket = 0
        self._handle: asyncio.Handle | None = None
        self._is_closed = False

    @property
    def operations_lost(self) -> int:
        return 0

    async def start(self, instance_id: str, place: str, now_us: int, lease_s: float) -> None:
        await self._round_trip()
        rows = self.database
        before = rows.places.get(place)
        if before is not None and before != instance_id:
            rows.instances.pop(before, None)
        rows.places[place] = instance_id
        rows.instances[instance_id] = now_us + int(lease_s * 1e6)
        self.instance_id, self._place = instance_id, place

    async def reserve(self, opened: OpenedGeneration, amounts: Sequence[int]) -> int:
        await self._round_trip()
        return self._reserve(opened, amounts)

    def open(self, opened: OpenedGeneration) -> Ticket:
        self._require()

        def write() -> None:
            if opened.id not in self.database.generations:
                self.database.generations[opened.id] = GenerationRow(opened, 0)

        return self._later(write)

    async def extend(self, generation_id: str, holds: Sequence[Hold], more_micro: int) -> None:
        await self._round_trip()
        row = self.database.generations.get(generation_id)
        if row is None or row.state != "open":
            raise StoreUnavailable(f"generation {generation_id} is not open")
        self._affordable(holds, (more_micro,))
        row.reserved_micro += more_micro
        for key in row.keys:
            self.database.counters(key).reserved_micro += more_micro

    def attempt(self, generation_id: str, opened: OpenedAttempt) -> Ticket:
        self._require()

        def write() -> None:
            row = self.database.generations.get(generation_id)
            if row is not None and row.state == "open":
                row.attempts.setdefault(opened.ordinal, opened)

        return self._later(write)

    def settle(self, settled: SettledGeneration, holds: Sequence[Hold]) -> Ticket:
        def write() -> None:
            row = self.database.generations.get(settled.id)
            if row is None or row.state != "open":
                return
            row.settled = settled
            row.attempts.update({closed.ordinal: closed for closed in settled.attempts})
            self._close(row, settled.state, settled.settled_micro)

        return self._later(write)

    async def committed(self, ticket: Ticket) -> None:
        if any(waiting <= ticket for waiting, _ in self._waiting):
            await self._round_trip()

    async def renew(self, now_us: int, lease_s: float) -> None:
        await self._round_trip()
        self.database.instances[self.instance_id] = now_us + int(lease_s * 1e6)

    async def sweep(self, now_us: int, limit: int) -> int:
        await self._round_trip()
        leases = self.database.instances
        left = [
            row
            for row in self.database.generations.values()
            if row.state == "open"
            and (
                leases.get(row.opened.instance_id, now_us) <= now_us
                or row.opened.lease_until_us <= now_us
            )
        ][:limit]
        for row in left:
            cost = sum(
                (one.cost_micro if isinstance(one, ClosedAttempt) else None) or one.upper_micro or 0
                for one in row.attempts.values()
            )
            self._close(row, "estimated" if row.attempts else "void", cost)
        return len(left)

    async def aclose(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        self._write()
        self.database.instances.pop(self.instance_id, None)

    # --- inside -------------------------------------------------------------------------------

    def _require(self) -> None:
        if self.database.failure or self._is_closed:
            raise StoreUnavailable(self.database.failure or "the store is closed")

    async def _round_trip(self) -> None:
        """Before and after what is asked the loop goes on, as with a thread or a socket."""
        self._require()
        await asyncio.sleep(0)
        self._require()
        self._write()

    def _later(self, write: Callable[[], None]) -> Ticket:
        self._ticket += 1
        self._waiting.append((self._ticket, write))
        if self._handle is None and not self._is_closed:
            self._handle = asyncio.get_running_loop().call_soon(self._write)
        return self._ticket

    def _write(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        if self.database.failure:
            return
        waiting, self._waiting = self._waiting, []
        for _, write in waiting:
            write()

    def _affordable(self, holds: Sequence[Hold], amounts: Sequence[int]) -> int:
        tightest: tuple[int, Hold] | None = None
        for hold in holds:
            if hold.cap_micro is None:
                continue
            row = self.database.counters((hold.budget_id, hold.period_start_s))
            left = hold.cap_micro - row.settled_micro - row.reserved_micro
            if tightest is None or left < tightest[0]:
                tightest = (left, hold)
        for amount in amounts:
            if tightest is None or amount <= tightest[0]:
                return amount
        assert tightest is not None, "there is at least one amount"
        raise BudgetSpent(tightest[1], max(0, tightest[0]))

    def _reserve(self, opened: OpenedGeneration, amounts: Sequence[int]) -> int:
        before = self.database.generations.get(opened.id)
        if before is not None:
            if before.state != "open":
                raise StoreUnavailable(f"generation {opened.id} is over")
            return before.reserved_micro
        amount = self._affordable(opened.holds, amounts)
        row = self.database.generations[opened.id] = GenerationRow(opened, amount)
        for key in row.keys:
            self.database.counters(key).reserved_micro += amount
        return amount

    def _close(self, row: GenerationRow, state: str, settled_micro: int) -> None:
        row.state, row.settled_micro = state, settled_micro
        for key in row.keys:
            counters = self.database.counters(key)
            counters.reserved_micro -= row.reserved_micro
            counters.settled_micro += settled_micro
            counters.overrun_micro += max(0, settled_micro - row.reserved_micro)
