"""A ledger in memory: what was admitted, made durable and settled, and as slow as wanted."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from relay.errors import RelayError
from relay.governance.ledger import (
    Admitted,
    Asked,
    Counted,
    Leave,
    LedgerEntry,
    Refused,
    Visit,
    nothing,
)
from relay.outcome import AttemptRecord, GenerationEnd
from relay.routing.target import Target
from tests.fakes.virtual_time import since_start_s


@dataclass
class FakeLedger:
    """Accounts in a list. `admit_s` and `durable_s` are how long they take."""

    admit_s: float = 0.0
    durable_s: float = 0.0
    booked_s: float = 0.0
    refuses: RelayError | None = None
    loses: RelayError | None = None
    books_nothing: bool = False
    entries: list[FakeEntry] = field(default_factory=list)
    legs: list[str] = field(default_factory=list)
    """Models that legs asked."""

    def leg(self, asked: Asked, parent: LedgerEntry | None) -> Admitted:
        self.legs.append(asked.request.model)
        route = asked.catalog.resolve(asked.request.model)
        if not isinstance(parent, FakeEntry):
            return Admitted(asked.request, route, None)
        return Admitted(asked.request, route, FakeLeg(parent))

    async def admit(self, asked: Asked) -> Admitted:
        await asyncio.sleep(self.admit_s)
        if self.refuses is not None:
            raise self.refuses
        route = asked.catalog.resolve(asked.request.model)
        if self.books_nothing:
            return Admitted(asked.request, route, None)
        self.entries.append(FakeEntry(self))
        return Admitted(asked.request, route, self.entries[-1])

    async def count(self, asked: Asked) -> Counted:
        return Counted(asked.request, asked.catalog.resolve(asked.request.model), None)

    async def enter(self, tenant: str, key_id: str) -> Leave:
        return nothing

    def refused(self, error: RelayError, what: Refused) -> None:
        pass

    async def hand_through(self, visit: Visit) -> None:
        return None

    @property
    def settled(self) -> list[GenerationEnd]:
        return [end for entry in self.entries for end in entry.ends]


@dataclass
class FakeEntry:
    """One account."""

    ledger: FakeLedger
    durable_at_s: float | None = None
    rate_state: None = None
    attempts: list[AttemptRecord] = field(default_factory=list)
    booked_at_s: float | None = None
    ends: list[GenerationEnd] = field(default_factory=list)

    def started(self, record: AttemptRecord, target: Target) -> None:
        self.attempts.append(record)

    async def durable(self) -> None:
        await asyncio.sleep(self.ledger.durable_s)
        if self.ledger.loses is not None:
            raise self.ledger.loses
        self.durable_at_s = since_start_s()

    def settle(self, end: GenerationEnd) -> None:
        self.ends.append(end)

    async def booked(self) -> None:
        await asyncio.sleep(self.ledger.booked_s)
        self.booked_at_s = since_start_s()


@dataclass
class FakeLeg:
    """The same account, for a leg."""

    entry: FakeEntry
    rate_state: None = None

    def started(self, record: AttemptRecord, target: Target) -> None:
        self.entry.started(record, target)

    async def durable(self) -> None:
        await self.entry.durable()

    def settle(self, end: GenerationEnd) -> None:
        pass

    async def booked(self) -> None:
        pass
