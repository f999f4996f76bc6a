"""What a key takes that is no generation: sessions, and requests that are handed through unread.

Of what is handed through nobody counts tokens, so it has no price: where a budget applies it is
refused. It is charged to the limits of requests and of what runs at once, and has a row like a
generation, whose one attempt says `unpriced`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import orjson
import structlog

from relay.errors import RelayError, StoreDown
from relay.governance.budget_scopes import BudgetRow, TagBudgets, holds
from relay.governance.charges import Grant
from relay.governance.gate import Gate
from relay.governance.key_view import KeyView
from relay.governance.ledger import Leave, UnpricedVisit, Visit, nothing
from relay.governance.limit_desk import LimitDesk, payer_of
from relay.store.base import (
    ClosedAttempt,
    LedgerStore,
    OpenedAttempt,
    OpenedGeneration,
    SettledGeneration,
    StoreUnavailable,
)

_log = structlog.get_logger("relay.ledger")

LONGEST_US: Final = 24 * 3600 * 1_000_000
"""After so long a row that is still open is settled; the longest that is handed through is two
hours, unless the operator says otherwise."""


class Visits:
    """Of one worker.

    Args:
        tag_budgets: of an organisation's id and tags; None where there are none.
    """

    def __init__(
        self,
        *,
        store: LedgerStore,
        instance_id: str,
        gate: Gate,
        desk: LimitDesk,
        now_us: Callable[[], int],
        tag_budgets: TagBudgets | None = None,
    ) -> None:
        """
        Args:
        """
        self._store = store
        self._instance_id = instance_id
        self._gate = gate
        self._desk = desk
        self._now_us = now_us
        self._tag_budgets = tag_budgets

    async def enter(self, tenant: str, key_id: str) -> Leave:
        """See `Ledger.enter`."""
        grant = await self._desk.session(payer_of(self._gate.view(key_id), tenant))
        if grant is None:
            return nothing
        return lambda: grant.undo(self._now_us())

    async def hand_through(self, visit: Visit) -> HandedThrough:
        """See `Ledger.hand_through`."""
        view = self._gate.view(visit.key_id)
        now_us = self._now_us()
        budgets: tuple[BudgetRow, ...] = () if view is None else view.budgets
        if view is not None and view.tags and self._tag_budgets is not None:
            budgets += self._tag_budgets(view.organisation_id, view.tags)
        if budgets and holds(budgets, now_us):
            raise UnpricedVisit(
                "what is handed through to a provider has no price, and a budget applies to this"
                " key: it may not use it"
            )
        grants: list[Grant] = []
        try:
            grant = await self._desk.generation(payer_of(view, visit.tenant), "", 0, 0)
            if grant is not None:
                grants.append(grant)
            found = self._desk.attempt(visit.provider, 0, 0)
            if found is not None:
                grants.append(found if isinstance(found, Grant) else await found)
            self._open(visit, view, now_us)
        except BaseException:
            for taken in grants:
                taken.undo(self._now_us())
            raise
        return HandedThrough(visit, self._store, grants, self._now_us)

    def _open(self, visit: Visit, view: KeyView | None, now_us: int) -> None:
        opened = OpenedGeneration(
            id=visit.request_id,
            instance_id=self._instance_id,
            organisation_id="" if view is None else view.organisation_id,
            team_id=visit.tenant,
            key_id=visit.key_id,
            alias=visit.provider,
            surface=visit.surface,
            tags=orjson.dumps(view.tags).decode() if view is not None and view.tags else "[]",
            labels="{}",
            session_id="",
            turn_id="",
            trace_id="",
            admitted_at_us=now_us,
            lease_until_us=now_us + LONGEST_US,
            holds=(),
        )
        try:
            self._store.open(opened)
            self._store.attempt(
                visit.request_id,
                OpenedAttempt(0, visit.provider, visit.path[:255], "primary", 0, None),
            )
        except StoreUnavailable as error:
            raise StoreDown("the accounts cannot be written now", retry_after_s=1.0) from error


class HandedThrough:
    """The account of one request that is handed through."""

    def __init__(
        self,
        visit: Visit,
        store: LedgerStore,
        grants: list[Grant],
        now_us: Callable[[], int],
    ) -> None:
        self._visit = visit
        self._store = store
        self._grants = grants
        self._now_us = now_us
        self._is_settled = False

    def settle(self, http_status: int, failure: RelayError | None, wall_us: int) -> None:
        """It is over. Once; never waits or raises."""
        if self._is_settled:
            return
        self._is_settled = True
        visit, now_us = self._visit, self._now_us()
        for grant in self._grants:
            grant.settle(None, None, now_us)
        reason = "" if failure is None else failure.reason.name
        is_good = failure is None and http_status < 400
        attempt = ClosedAttempt(
            ordinal=0,
            state="unpriced" if http_status else "free",
            provider=visit.provider,
            model=visit.path[:255],
            role="primary",
            outcome="success" if is_good else "failure",
            reason=reason,
            http_status=http_status,
            is_winner=is_good,
            started_us=0,
            ended_us=wall_us,
            prompt_tokens=0,
            cached_tokens=0,
            cache_write_tokens=0,
            output_tokens=0,
            reasoning_tokens=0,
            price_version="",
            cost_micro=None if http_status else 0,
            upper_micro=None,
            phases="{}",
        )
        settled = SettledGeneration(
            id=visit.request_id,
            state="estimated" if http_status else "void",
            settled_micro=0,
            ended_at_us=now_us,
            reason=reason,
            provider=visit.provider,
            model=visit.path[:255],
            is_usage_final=False,
            ttft_us=None,
            wall_us=wall_us,
            phases="{}",
            attempts=(attempt,),
        )
        try:
            self._store.settle(settled, ())
        except StoreUnavailable as error:
            _log.error("not_settled", id=visit.request_id, why=str(error))
