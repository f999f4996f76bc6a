"""The words between the accounts and the databases that keep them.

A *generation* is opened, with a reservation where budgets apply, and settled once. Everything that
is written gets a *ticket*; `committed` waits until it, and all before it, are as durable as the
store is told to make them. Nothing here waits for more than one commit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol


class StoreUnavailable(Exception):
    """The store cannot be read or written now; the message says why, and names no secret."""


class Hold(NamedTuple):
    """One budget in one period that a reservation counts against."""

    budget_id: str
    period_start_s: int
    cap_micro: int | None
    """What may be settled and reserved in all; None where it is only counted (soft)."""


class BudgetSpent(Exception):
    """A hard budget has less left than the least that was asked for; nothing was reserved."""

    def __init__(self, hold: Hold, left_micro: int) -> None:
        super().__init__(f"budget {hold.budget_id} has {left_micro} micro-dollars left")
        self.hold = hold
        self.left_micro = left_micro


@dataclass(frozen=True, slots=True)
class OpenedAttempt:
    """An attempt when it starts: enough to charge for it if nobody lives to see its end."""

    ordinal: int
    provider: str
    model: str
    role: str
    started_us: int
    upper_micro: int | None
    """The most it can cost; None where there is no price."""


@dataclass(frozen=True, slots=True)
class ClosedAttempt:
    """An attempt when it is over; columns of `attempts`."""

    ordinal: int
    state: str
    provider: str
    model: str
    role: str
    outcome: str
    reason: str
    http_status: int
    is_winner: bool
    started_us: int
    ended_us: int
    prompt_tokens: int
    cached_tokens: int
    cache_write_tokens: int
    output_tokens: int
    reasoning_tokens: int
    price_version: str
    cost_micro: int | None
    upper_micro: int | None
    phases: str
    leg: str = ""
    """Of a cascade or panel: which part of it asked."""


@dataclass(frozen=True, slots=True)
class OpenedGeneration:
    """A generation when it is admitted; columns of `generations`."""

    id: str
    instance_id: str
    organisation_id: str
    team_id: str
    key_id: str
    alias: str
    surface: str
    tags: str
    labels: str
    session_id: str
    turn_id: str
    trace_id: str
    admitted_at_us: int
    lease_until_us: int
    holds: tuple[Hold, ...]
    first: OpenedAttempt | None = None
    """The attempt that will start next, most likely: where the store takes it along
    (`LedgerStore.notes_first`) it is written with the generation, in one commit instead of two.
    `started_us` is below 0: it has not begun."""


@dataclass(frozen=True, slots=True)
class SettledGeneration:
    """A generation when it is over; columns of `generations`, with all its attempts."""

    id: str
    state: str
    """`settled`: every cost is by a provider's count; `estimated`: one is not; `void`: nothing was
    spent."""
    settled_micro: int
    ended_at_us: int
    reason: str
    provider: str
    model: str
    is_usage_final: bool
    ttft_us: int | None
    wall_us: int
    phases: str
    attempts: tuple[ClosedAttempt, ...]
    decision: str = ""
    """What policies made of it, a JSON object; empty where they had nothing to say."""
    saved_micro: int = 0
    """Micro-dollars that a kept answer had cost, which this one did not."""


Ticket = int
"""Of something that was handed over to be written; later ones are larger."""


class LedgerStore(Protocol):
    """The accounts on one database. Every method but `aclose` may be called from the loop's thread
    only; none blocks it.

    What is handed over without waiting is written in the order it came. A generation's state goes
    `open` to `settled`, `estimated` or `void`, once: settling it again, or settling what a sweep
    has settled, changes nothing.
    """

    @property
    def notes_first(self) -> bool:
        """Whether `OpenedGeneration.first` is written."""
        ...

    @property
    def operations_lost(self) -> int:
        """Those that were given up, so far."""
        ...

    async def start(self, instance_id: str, place: str, now_us: int, lease_s: float) -> None:
        """Connect, check the schema, and take the lease of this instance.

        Raises:
            StoreUnavailable: it cannot be reached, or its schema is not ours.
        """
        ...

    async def reserve(self, opened: OpenedGeneration, amounts: Sequence[int]) -> int:
        """Open a generation and put money aside in every hold, all or nothing, committed.

        Args:
            amounts: micro-dollars, from what is wanted down to the least that will do; the first
                that every hard budget has left is taken.

        Returns:
            What was reserved.

        Raises:
            BudgetSpent: not even the least is left; nothing was written.
            StoreUnavailable: it is not known whether anything was written; `settle` voids it.

        Cancelled: as `StoreUnavailable`.
        """
        ...

    def open(self, opened: OpenedGeneration) -> Ticket:
        """Open a generation that no budget counts.

        Raises:
            StoreUnavailable: it could not be written soon; nothing was handed over.
        """
        ...

    async def extend(self, generation_id: str, holds: Sequence[Hold], more_micro: int) -> None:
        """Put more aside for an open generation, all or nothing, committed.

        Raises:
            BudgetSpent, StoreUnavailable: as of `reserve`.
        """
        ...

    def attempt(self, generation_id: str, opened: OpenedAttempt) -> Ticket:
        """Note that an attempt starts; raises StoreUnavailable where too much waits already."""
        ...

    def settle(self, settled: SettledGeneration, holds: Sequence[Hold]) -> Ticket:
        """Close a generation: what was reserved is given back, what was spent is booked.

        Args:
            holds: those that it was opened with.

        Raises:
            StoreUnavailable: far too much waits already; a sweep will settle it.
        """
        ...

    async def committed(self, ticket: Ticket) -> None:
        """Return when it and all before it are durable; at once if they are.

        Raises:
            StoreUnavailable: it was not written. One that could be written later (a full disk)
                stays in line: see the store's own words on it.
        """
        ...

    async def renew(self, now_us: int, lease_s: float) -> None:
        """Lengthen the lease of this instance; raises StoreUnavailable."""
        ...

    async def sweep(self, now_us: int, limit: int) -> int:
        """Settle open generations whose instance or own lease is over, at the most that their
        attempts can have cost, as `estimated`; of those without any attempt nothing was spent.

        Returns:
            How many, at most `limit`; call again until it is 0.

        Raises:
            StoreUnavailable
        """
        ...

    async def aclose(self) -> None:
        """Write what is waiting, give up the lease, disconnect. Idempotent, bounded in time."""
        ...
