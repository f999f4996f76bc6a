"""The words between admission and the stores that keep limits.

A *charge* is so much of one bucket. Rates are counted a minute (`relay.store.token_bucket`); leases
are what may be there at once, and are owned by the instance (worker process) that took them: those
of one that dies are free again when its lease is over. What is charged together is granted
together or not at all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, Literal, NamedTuple, Protocol

from relay.store.token_bucket import MILLI, wait_us

ChargeKind = Literal["rate", "lease"]
RATE: Final = "rate"
LEASE: Final = "lease"

LEASE_RETRY_S: Final = 1.0
"""The hint for a lease: nobody knows when one of those that run ends."""


class Charge(NamedTuple):
    """So much of one bucket."""

    bucket: str
    """Names what is counted and whose, as `key:key_x:rpm`."""
    limit: int
    """A minute, or at once; from 1 to `token_bucket.MAX_LIMIT`."""
    amount: int
    """0 or more. A rate's that is over its limit is never granted."""
    kind: ChargeKind


class Taken(NamedTuple):
    """Where the buckets of charges stand."""

    charges: Sequence[Charge]
    levels: Sequence[int]
    """Of a rate the thousandths that are left, of a lease what everybody holds; by charge."""


class LimitSpent(Exception):
    """A bucket has less than was asked for; nothing was taken of any."""

    def __init__(self, charge: Charge, retry_after_s: float | None, standing: Taken) -> None:
        """
        Args:
            charge: the one that has to wait longest.
            retry_after_s: how long, if nobody else takes any; None: more than its limit was asked
                for, and no waiting helps.
            standing: of all charges.
        """
        super().__init__(f"{charge.bucket} has less than {charge.amount} left")
        self.charge = charge
        self.retry_after_s = retry_after_s
        self.standing = standing


def refusal(charges: Sequence[Charge], after: Sequence[int]) -> LimitSpent:
    """Why charges are refused that would leave their buckets at `after`: at least one below
    nothing, or over its limit of leases."""
    worst: list[tuple[float, Charge]] = []
    before: list[int] = []
    for charge, level in zip(charges, after, strict=True):
        _, limit, amount, kind = charge
        if kind == LEASE:
            before.append(level - amount)
            wait_s = LEASE_RETRY_S if level > limit else 0.0
        else:
            before.append(level + amount * MILLI)
            wait_s = wait_us(level, limit, 0) / 1e6
        if wait_s > 0:
            worst.append((math.inf if amount > limit else wait_s, charge))
    wait_s, charge = max(worst, key=lambda one: one[0])
    return LimitSpent(charge, None if wait_s == math.inf else wait_s, Taken(charges, before))


class LimitStore(Protocol):
    """Levels and leases. Every method is called from the loop's thread; none blocks it."""

    @property
    def is_local(self) -> bool:
        """Whether `take_nowait` may be called."""
        ...

    async def start(self) -> None:
        """Connect. A store that cannot be reached is no error: see `take`."""
        ...

    def take_nowait(self, charges: Sequence[Charge], now_us: int) -> Taken:
        """`take` of a store that is local.

        Raises:
            LimitSpent
        """
        ...

    async def take(self, charges: Sequence[Charge], now_us: int) -> Taken:
        """Take all of the charges or none, each bucket once.

        Args:
            now_us: since 1970. A store that several processes share reads a clock that they share,
                and this one only where it cannot be reached.

        Raises:
            LimitSpent: a limit is used up; nothing was taken.
            StoreUnavailable: it cannot be reached, and is told to refuse then.

        Cancelled: nothing stays taken (what had been is given back at once or soon).
        """
        ...

    def correct(self, bucket: str, limit: int, by: int, now_us: int) -> None:
        """`by` more of a rate were used than was charged (fewer, below 0); may make a debt."""
        ...

    def give_back(self, bucket: str, amount: int) -> None:
        """A lease of so much is over."""
        ...

    async def aclose(self) -> None:
        """Give up all leases and disconnect. Idempotent, bounded in time."""
        ...
