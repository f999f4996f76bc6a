"""Takes limits for generations, attempts and sessions, and turns refusals into errors.

Where the store is this process's own memory nothing is awaited; one that others share is asked in
one round trip.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from relay.errors import StoreDown
from relay.governance.charges import (
    ChargeBook,
    Charges,
    Grant,
    Payer,
    limit_reached,
    target_limited,
)
from relay.governance.key_view import KeyView
from relay.store.base import StoreUnavailable
from relay.store.limit_store import LimitSpent, LimitStore


def payer_of(view: KeyView | None, tenant: str) -> Payer:
    """Who is charged: a key with its team and organisation; without keys the tenant alone."""
    if view is None:
        return Payer("", tenant)
    return Payer(view.key_id, view.team_id, view.organisation_id, view.limits)


class LimitDesk:
    """One worker's way to its limits.

    Args:
        store: started and closed by its owner.
        book: a reload puts another in its place.
        now_us: wall clock, microseconds since 1970.
    """

    def __init__(self, store: LimitStore, book: ChargeBook, now_us: Callable[[], int]) -> None:
        self._store = store
        self.book = book
        self._now_us = now_us

    async def generation(
        self, payer: Payer, model: str, prompt_tokens: int, output_tokens: int
    ) -> Grant | None:
        """What a generation takes; None where nothing is limited.

        Raises:
            LimitReached: nothing was taken.
            StoreDown: the limits cannot be looked up, and are to hold all the same.

        Cancelled: nothing stays taken.
        """
        return await self._take(self.book.of_generation(payer, model, prompt_tokens, output_tokens))

    async def request(self, payer: Payer, model: str) -> Grant | None:
        """What a request takes that is no generation, for good; as `generation`."""
        return await self._take(self.book.of_request(payer, model))

    async def session(self, payer: Payer) -> Grant | None:
        """What a session takes until its end; as `generation`."""
        charges = self.book.of_session(payer)
        return await self._take(Charges(charges, len(charges), len(charges)))

    async def _take(self, charges: Charges) -> Grant | None:
        if not charges.all:
            return None
        store, now_us = self._store, self._now_us()
        try:
            if store.is_local:
                taken = store.take_nowait(charges.all, now_us)
            else:
                taken = await store.take(charges.all, now_us)
        except LimitSpent as spent:
            raise limit_reached(spent) from spent
        except StoreUnavailable as error:
            raise StoreDown("the limits cannot be looked up now") from error
        return Grant(store, charges, taken)

    def attempt(
        self, provider: str, prompt_tokens: int, output_tokens: int
    ) -> Grant | Awaitable[Grant] | None:
        """What an attempt takes of its provider's row; None where that has no limits.

        Raises (also what is waited for):
            TargetLimited: another target may be asked.
        """
        charges = self.book.of_attempt(provider, prompt_tokens, output_tokens)
        if charges is None or not charges.all:
            return None
        if not self._store.is_local:
            return self._take_of_row(charges)
        try:
            taken = self._store.take_nowait(charges.all, self._now_us())
        except LimitSpent as spent:
            raise target_limited(spent) from spent
        return Grant(self._store, charges, taken)

    async def _take_of_row(self, charges: Charges) -> Grant:
        try:
            taken = await self._store.take(charges.all, self._now_us())
        except LimitSpent as spent:
            raise target_limited(spent) from spent
        except StoreUnavailable as error:
            raise StoreDown("the limits cannot be looked up now") from error
        return Grant(self._store, charges, taken)
