"""What the accounts are, in the plainest words: a list of generations, added up when asked.

It knows nothing of counters, batches or leases of connections; every store must agree with it after
every operation. `check` asks the invariants M1 to M8 and M10 of the model's own list.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from relay.store.base import Hold

PeriodKey = tuple[str, int]


class Sums(NamedTuple):
    """Of one budget in one period."""

    settled: int = 0
    reserved: int = 0
    overrun: int = 0


@dataclass
class Generation:
    """One generation."""

    id: str
    instance_id: str
    lease_until_us: int
    holds: tuple[Hold, ...]
    reserved: int
    state: str = "open"
    settled: int = 0
    uppers: dict[int, int | None] = field(default_factory=dict)
    """The most that each of its attempts can cost."""

    @property
    def keys(self) -> list[PeriodKey]:
        return [(hold.budget_id, hold.period_start_s) for hold in self.holds]


class Refused(NamedTuple):
    """A hard budget has less left than the least that was asked for."""

    budget_id: str
    left: int


class Over(NamedTuple):
    """The generation is not open: nothing was done."""


class BudgetModel:
    """All generations there ever were."""

    def __init__(self) -> None:
        self.generations: dict[str, Generation] = {}
        self.gone: set[str] = set()
        """Instances that have left or were killed."""
        self.highest_cap: dict[PeriodKey, int] = {}
        """The largest limit that a reservation was made under."""
        self.was_soft: set[PeriodKey] = set()
        """What was reserved without a limit, for a time."""
        self.finals: dict[str, tuple[str, int]] = {}
        """How each generation ended first."""

    # --- what is done ---------------------------------------------------------------------------

    def reserve(
        self,
        generation_id: str,
        instance_id: str,
        lease_until_us: int,
        holds: tuple[Hold, ...],
        amounts: Sequence[int],
    ) -> int | Refused | Over:
        before = self.generations.get(generation_id)
        if before is not None:
            return before.reserved if before.state == "open" else Over()
        amount = self._affordable(holds, amounts)
        if isinstance(amount, Refused):
            return amount
        self.generations[generation_id] = Generation(
            generation_id, instance_id, lease_until_us, holds, amount
        )
        self._under(holds)
        return amount

    def extend(
        self, generation_id: str, holds: tuple[Hold, ...], more: int
    ) -> int | Refused | Over:
        found = self.generations.get(generation_id)
        if found is None or found.state != "open":
            return Over()
        amount = self._affordable(holds, (more,))
        if not isinstance(amount, Refused):
            found.reserved += more
            self._under(holds)
        return amount

    def attempt(self, generation_id: str, ordinal: int, upper: int | None) -> None:
        found = self.generations.get(generation_id)
        if found is not None and found.state == "open":
            found.uppers.setdefault(ordinal, upper)

    def settle(self, generation_id: str, state: str, settled: int) -> None:
        found = self.generations.get(generation_id)
        if found is not None and found.state == "open":
            self._close(found, state, settled)

    def leave(self, instance_id: str) -> None:
        self.gone.add(instance_id)

    def sweep(self, now_us: int) -> int:
        left = [
            one
            for one in self.generations.values()
            if one.state == "open"
            and (one.instance_id in self.gone or one.lease_until_us <= now_us)
        ]
        for one in left:
            cost = sum(upper or 0 for upper in one.uppers.values())
            self._close(one, "estimated" if one.uppers else "void", cost)
        return len(left)

    def _close(self, one: Generation, state: str, settled: int) -> None:
        one.state, one.settled = state, settled
        assert one.id not in self.finals, "M2: it has one end"
        self.finals[one.id] = (state, settled)

    def _affordable(self, holds: Iterable[Hold], amounts: Sequence[int]) -> int | Refused:
        hard = [
            (self.left(hold), order, hold.budget_id)
            for order, hold in enumerate(holds)
            if hold.cap_micro is not None
        ]
        if not hard:
            return amounts[0]
        left, _, budget_id = min(hard)
        for amount in amounts:
            if amount <= left:
                return amount
        return Refused(budget_id, max(0, left))

    def _under(self, holds: Iterable[Hold]) -> None:
        for hold in holds:
            if hold.cap_micro is not None:
                key = (hold.budget_id, hold.period_start_s)
                self.highest_cap[key] = max(self.highest_cap.get(key, 0), hold.cap_micro)
                sums = self.sums(key)
                # M1, at the moment that something is added.
                assert sums.settled + sums.reserved <= hold.cap_micro
            else:
                self.was_soft.add((hold.budget_id, hold.period_start_s))

    # --- what is asked --------------------------------------------------------------------------

    def sums(self, key: PeriodKey) -> Sums:
        settled = reserved = overrun = 0
        for one in self.generations.values():
            if key in one.keys:
                if one.state == "open":
                    reserved += one.reserved
                else:
                    settled += one.settled
                    overrun += max(0, one.settled - one.reserved)
        return Sums(settled, reserved, overrun)

    def left(self, hold: Hold) -> int:
        assert hold.cap_micro is not None
        sums = self.sums((hold.budget_id, hold.period_start_s))
        return hold.cap_micro - sums.settled - sums.reserved

    def all_sums(self) -> dict[PeriodKey, Sums]:
        """Of every period that something counts against; one pass over the list."""
        found: dict[PeriodKey, list[int]] = defaultdict(lambda: [0, 0, 0])
        for one in self.generations.values():
            for key in one.keys:
                sums = found[key]
                if one.state == "open":
                    sums[1] += one.reserved
                else:
                    sums[0] += one.settled
                    sums[2] += max(0, one.settled - one.reserved)
        return {key: Sums(*sums) for key, sums in found.items()}

    def check(self) -> None:
        """M1 at this instant, M2, M3."""
        for key, sums in self.all_sums().items():
            assert sums.reserved >= 0
            cap = self.highest_cap.get(key)
            if cap is not None and key not in self.was_soft:
                # What a provider took beyond its bound is no reservation's doing, and counted.
                assert sums.settled + sums.reserved <= cap + sums.overrun
        for one in self.generations.values():
            is_over = one.state != "open"
            assert is_over == (one.id in self.finals)
            if is_over:
                assert self.finals[one.id] == (one.state, one.settled)
                assert one.state in ("settled", "estimated", "void")
