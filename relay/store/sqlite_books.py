"""The accounts in one SQLite transaction: what each operation reads and writes.

Everything here runs in the writer's thread between BEGIN IMMEDIATE and COMMIT, so that nobody else
writes meanwhile. Counters of budgets are read when an operation of the batch first needs them, kept
as numbers, and written once at its end: a hundred reservations of one budget cost one read and one
write of its row. Until another connection writes they need not be read again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Final

import orjson

from relay.store import sqlite_statements as sql
from relay.store.base import (
    BudgetSpent,
    Hold,
    OpenedAttempt,
    OpenedGeneration,
    SettledGeneration,
    StoreUnavailable,
)

PeriodKey = tuple[str, int]

MAX_PERIODS: Final = 10_000
"""Whose counters are remembered."""
_PERIOD_COLUMNS: Final = 5


class Counters:
    """Of one budget in one period, micro-dollars."""

    __slots__ = ("overrun", "reserved", "settled")

    def __init__(self, settled: int = 0, reserved: int = 0, overrun: int = 0) -> None:
        self.settled = settled
        self.reserved = reserved
        self.overrun = overrun


class Books:
    """Of one connection; `begin` and `finish` frame a batch."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        cursor = connection.cursor()
        self._execute = cursor.execute
        self._many = cursor.executemany
        self._cursor = cursor
        self._periods: dict[PeriodKey, Counters] = {}
        self._touched: set[PeriodKey] = set()
        self._version = -1
        self._is_current = False

    def begin(self) -> None:
        """A batch begins. What an earlier one left that was not committed is forgotten."""
        if self._touched or len(self._periods) > MAX_PERIODS:
            self._periods.clear()
            self._touched.clear()
        self._is_current = False

    def finish(self) -> None:
        """Write the counters that changed."""
        touched = self._touched
        if not touched:
            return
        periods = self._periods
        row: list[object] = []
        left = len(touched)
        for key in touched:
            one = periods[key]
            row += (*key, one.settled, one.reserved, one.overrun)
            left -= 1
            if left == 0 or len(row) == _PERIOD_COLUMNS * sql.PERIODS_AT_ONCE:
                self._execute(sql.WRITE_PERIODS[len(row) // _PERIOD_COLUMNS], row)
                row.clear()

    def committed(self) -> None:
        """The batch is committed: what is known of counters stays true."""
        self._touched.clear()

    # --- generations --------------------------------------------------------------------------

    def reserve(self, opened: OpenedGeneration, amounts: Sequence[int]) -> int:
        """As of LedgerStore; for a generation that is open already, what it has.

        Raises:
            BudgetSpent
            StoreUnavailable: a generation of this id is closed.
        """
        holds = opened.holds
        try:
            amount = self._affordable(holds, amounts)
        except BudgetSpent:
            # Perhaps by itself: what it has asked for before leaves too little.
            if self._execute(sql.RESERVED_BY, (opened.id,)).fetchone() is None:
                raise
            return self._again(opened.id)
        self._execute(sql.INSERT_GENERATION, sql.generation_row(opened, amount))
        if self._cursor.rowcount == 0:
            return self._again(opened.id)
        self._put_aside((hold[:2] for hold in holds), amount)
        if opened.first is not None:
            self.attempt(opened.id, opened.first)
        return amount

    def _affordable(self, holds: Iterable[Hold], amounts: Sequence[int]) -> int:
        tightest: Hold | None = None
        left = 0
        for hold in holds:
            counters = self._counters((hold.budget_id, hold.period_start_s))
            if hold.cap_micro is None:
                continue
            free = hold.cap_micro - counters.settled - counters.reserved
            if tightest is None or free < left:
                tightest, left = hold, free
        if tightest is None:
            return amounts[0]
        for amount in amounts:
            if amount <= left:
                return amount
        raise BudgetSpent(tightest, max(0, left))

    def _put_aside(self, keys: Iterable[PeriodKey], amount: int) -> None:
        for key in keys:
            self._counters(key).reserved += amount
            self._touched.add(key)

    def _again(self, generation_id: str) -> int:
        state, reserved, _ = self._execute(sql.RESERVED_BY, (generation_id,)).fetchone()
        if state != "open":
            raise StoreUnavailable(f"generation {generation_id} is over")
        return int(reserved)

    def open(self, opened: OpenedGeneration) -> None:
        """Note a generation that nothing is reserved for."""
        self._execute(sql.INSERT_GENERATION, sql.generation_row(opened, 0))
        if opened.first is not None:
            self.attempt(opened.id, opened.first)

    def extend(self, generation_id: str, holds: Sequence[Hold], more_micro: int) -> None:
        """Put more aside in every budget that the generation was opened with.

        Raises:
            BudgetSpent
            StoreUnavailable: it is not open.
        """
        row = self._execute(sql.RESERVED_BY, (generation_id,)).fetchone()
        if row is None or row[0] != "open":
            raise StoreUnavailable(f"generation {generation_id} is not open")
        self._affordable(holds, (more_micro,))
        self._execute(sql.EXTEND_GENERATION, (more_micro, generation_id))
        self._put_aside(_keys(row[2]), more_micro)

    def attempt(self, generation_id: str, opened: OpenedAttempt) -> None:
        """Note that an attempt of an open generation starts."""
        self._execute(sql.OPEN_ATTEMPT, sql.opened_row(generation_id, opened))

    def settle(self, settled: SettledGeneration, _: object = None) -> None:
        """Close a generation that is open, and its attempts; of another nothing is changed. What it
        was opened with, not what the caller holds, says which budgets it counts against."""
        row = self._execute(sql.SETTLE_GENERATION, sql.settled_row(settled)).fetchone()
        if row is None:
            return
        generation_id = settled.id
        attempts = [sql.closed_row(generation_id, one) for one in settled.attempts]
        if attempts:
            self._many(sql.CLOSE_ATTEMPT, attempts)
        else:
            self._execute(sql.DROP_FIRST, (generation_id,))
        self._book(row[0], row[1], settled.settled_micro)

    def _book(self, reserved: int, holds: str, settled: int) -> None:
        if holds == "[]":
            return
        overrun = settled - reserved if settled > reserved else 0
        for key in _keys(holds):
            counters = self._counters(key)
            counters.reserved -= reserved
            counters.settled += settled
            counters.overrun += overrun
            self._touched.add(key)

    def _counters(self, key: PeriodKey) -> Counters:
        if not self._is_current:
            self._is_current = True
            (version,) = self._execute(sql.DATA_VERSION).fetchone()
            if version != self._version:
                self._version = version
                self._periods.clear()
        counters = self._periods.get(key)
        if counters is None:
            row = self._execute(sql.READ_PERIOD, key).fetchone()
            counters = self._periods[key] = Counters(*row) if row else Counters()
        return counters

    # --- instances ----------------------------------------------------------------------------

    def take_place(self, instance_id: str, place: str, now_us: int, lease_until_us: int) -> None:
        """Begin the lease of an instance; of whoever was in its place before it is over."""
        self._execute(sql.FORGET_PREDECESSORS, (place, instance_id))
        self._execute(sql.TAKE_LEASE, (instance_id, place, now_us, lease_until_us))

    def renew(self, instance_id: str, place: str, started_us: int, lease_until_us: int) -> None:
        """Lengthen the lease; taken anew where others have found it to be over."""
        self._execute(sql.TAKE_LEASE, (instance_id, place, started_us, lease_until_us))

    def leave(self, instance_id: str) -> None:
        """Give up the lease."""
        self._execute(sql.LEAVE, (instance_id,))

    def touch(self, instance_id: str) -> None:
        """Write, and change nothing."""
        self._execute(sql.TOUCH, (instance_id,))

    def sweep(self, now_us: int, limit: int) -> int:
        """As of LedgerStore."""
        found = self._execute(sql.ABANDONED, (now_us, limit)).fetchall()
        closed = []
        for generation_id, reserved, holds, attempts, most in found:
            closed.append(("estimated" if attempts else "void", most, now_us, generation_id))
            self._book(reserved, holds, most)
        if closed:
            self._many(sql.ABANDON_GENERATION, closed)
            self._many(sql.ABANDON_ATTEMPTS, [(row[0],) for row in found if row[3]])
        if len(found) < limit:
            self._execute(sql.FORGET_INSTANCES, (now_us,))
        return len(found)


def _keys(holds: str) -> list[PeriodKey]:
    return [(budget_id, period_start_s) for budget_id, period_start_s in orjson.loads(holds)]
