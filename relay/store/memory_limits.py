"""Limits of one process, in its memory: exact, and a few microseconds an admission."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from relay.store.limit_store import LEASE, Charge, Taken, refusal
from relay.store.token_bucket import FULL_AFTER_US, MILLI, corrected, refilled, was_stepped_back

_SWEEP_FROM: Final = 4096
"""Buckets; as many again later, so that what is swept costs each admission the same."""


class MemoryLimits:
    """A `LimitStore` of this process alone; takes and corrects at once."""

    is_local: Final = True

    def __init__(self) -> None:
        self._rates: dict[str, tuple[int, int]] = {}
        """Level and moment by bucket; one that is not there is full."""
        self._sweep_at = _SWEEP_FROM
        self.held: dict[str, int] = {}
        """Leases by bucket, those of 0 left out."""

    async def start(self) -> None:
        """Nothing to connect to."""

    def take_nowait(self, charges: Sequence[Charge], now_us: int) -> Taken:
        """See `LimitStore`."""
        rates, held = self._rates, self.held
        left: list[int] = []
        rates_after: list[tuple[str, tuple[int, int]]] = []
        held_after: list[tuple[str, int]] = []
        fits = True
        for bucket, limit, amount, kind in charges:
            if kind == LEASE:
                level = held.get(bucket, 0) + amount
                fits = fits and level <= limit
                held_after.append((bucket, level))
            else:
                state = rates.get(bucket)
                if state is None:
                    level, at_us = limit * MILLI, now_us
                else:
                    level, at_us = refilled(state[0], state[1], limit, now_us)
                level -= amount * MILLI
                if level < 0:
                    fits = False
                rates_after.append((bucket, (level, at_us)))
            left.append(level)
        if not fits:
            for bucket, (_, at_us) in rates_after:
                if (state := rates.get(bucket)) and was_stepped_back(state[1], now_us):
                    rates[bucket] = (state[0], at_us)
            raise refusal(charges, left)
        rates.update(rates_after)
        held.update(held_after)
        if len(rates) > self._sweep_at:
            self._sweep(now_us)
        return Taken(charges, left)

    async def take(self, charges: Sequence[Charge], now_us: int) -> Taken:
        """See `LimitStore`."""
        return self.take_nowait(charges, now_us)

    def correct(self, bucket: str, limit: int, by: int, now_us: int) -> None:
        """See `LimitStore`."""
        level, at_us = self._rates.get(bucket, (limit * MILLI, now_us))
        level, at_us = refilled(level, at_us, limit, now_us)
        self._rates[bucket] = (corrected(level, limit, by), at_us)

    def give_back(self, bucket: str, amount: int) -> None:
        """See `LimitStore`."""
        left = self.held.get(bucket, 0) - amount
        if left > 0:
            self.held[bucket] = left
        else:
            self.held.pop(bucket, None)

    async def aclose(self) -> None:
        """Forget everything."""
        self._rates.clear()
        self.held.clear()

    def _sweep(self, now_us: int) -> None:
        """Drop buckets that must be full: callers come and go."""
        old = [name for name, (_, at_us) in self._rates.items() if now_us - at_us > FULL_AFTER_US]
        for name in old:
            del self._rates[name]
        self._sweep_at = max(_SWEEP_FROM, 2 * len(self._rates))
