"""A shared place in memory, on the loop's own clock, that is slow, fails or forgets when told."""

from __future__ import annotations

import asyncio

from relay.store.limit_backend import INSTANCES, Answer, BackendDown, Batch, Reply
from relay.store.limit_store import LEASE
from relay.store.token_bucket import MILLI, corrected, refilled


class Place:
    """What several backends share."""

    def __init__(self) -> None:
        self.rates: dict[str, tuple[int, int]] = {}
        self.held: dict[str, dict[str, int]] = {}
        self.delay_s = 0.001
        self.is_down = False
        self.fails_after_doing = False
        """A batch is done and its answer lost."""
        self.bug: Exception | None = None
        self.batches: list[Batch] = []

    def level(self, bucket: str, limit: int) -> int:
        """Thousandths left now."""
        now_us = round(asyncio.get_running_loop().time() * 1e6)
        return refilled(*self.rates.get(bucket, (limit * MILLI, now_us)), limit, now_us)[0]

    def total(self, bucket: str) -> int:
        """Units that all hold."""
        return sum(self.held.get(bucket, {}).values())

    def forget(self) -> None:
        """As an emptied server."""
        self.rates.clear()
        self.held.clear()


class ScriptedBackend:
    """One instance's way to a place."""

    name = "place"

    def __init__(self, place: Place, instance_id: str = "me") -> None:
        self._place = place
        self._me = instance_id
        self.is_closed = False

    async def exchange(self, batch: Batch) -> Answer:
        place = self._place
        place.batches.append(batch)
        if place.bug is not None:
            raise place.bug
        if place.is_down:
            raise BackendDown("refused")
        await asyncio.sleep(place.delay_s / 2)
        answer = self._do(batch)
        await asyncio.sleep(place.delay_s / 2)
        if place.fails_after_doing:
            raise BackendDown("lost")
        return answer

    async def aclose(self) -> None:
        self.is_closed = True

    def _do(self, batch: Batch) -> Answer:
        place = self._place
        now_us = round(asyncio.get_running_loop().time() * 1e6)
        for bucket, limit, by in batch.corrections:
            state = place.rates.get(bucket, (limit * MILLI, now_us))
            level, at_us = refilled(*state, limit, now_us)
            place.rates[bucket] = (corrected(level, limit, by), at_us)
        totals = []
        for bucket, units in batch.held:
            place.held.setdefault(bucket, {})[self._me] = units
            totals.append(place.total(bucket))
        replies = []
        is_known = place.held.get(INSTANCES, {}).get(self._me, 0) > 0
        for charges in batch.takes:
            after, moments = [], []
            for bucket, limit, amount, kind in charges:
                if kind == LEASE:
                    after.append(place.total(bucket) + amount)
                    moments.append(0)
                    continue
                state = place.rates.get(bucket, (limit * MILLI, now_us))
                level, at_us = refilled(*state, limit, now_us)
                after.append(level - amount * MILLI)
                moments.append(at_us)
            fits = all(
                value <= charge.limit if charge.kind == LEASE else value >= 0
                for charge, value in zip(charges, after, strict=True)
            )
            if fits:
                for charge, value, at_us in zip(charges, after, moments, strict=True):
                    if charge.kind == LEASE:
                        mine = place.held.setdefault(charge.bucket, {})
                        mine[self._me] = mine.get(self._me, 0) + charge.amount
                    else:
                        place.rates[charge.bucket] = (value, at_us)
            replies.append(Reply(fits, after))
        return Answer(replies, totals, is_known)
