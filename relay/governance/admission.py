"""Whether a generation may begin: who asks, what for, and what there is room and money for.

In this order, so that what costs most is asked last: the key (in memory), its scopes, the limits
(in memory, or one round trip), the budgets (one commit that reserves in all of them or in none).
What was taken is given back by whoever refuses after it, also when it is cancelled in the middle.

What a generation can cost at most is told before anything is sent: the dearest of the targets it
may go to, at the bound of its prompt and the limit of its answer (`relay.governance.bounds`), for
each attempt that may run beside another. Where the money is only there for one, it goes on without
hedges rather than not at all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import orjson

from relay.content import GenerateRequest, HedgeWish
from relay.errors import (
    BudgetExceeded,
    PermissionDenied,
    RelayError,
    StoreDown,
)
from relay.governance import audit_actions as actions
from relay.governance.bounds import Bound, bound, output_bound
from relay.governance.budget_scopes import HoldMemo, TagBudgets, has_hard, holds
from relay.governance.charges import Grant, rate_state
from relay.governance.entry import Entry
from relay.governance.gate import Gate, OpenGate
from relay.governance.grants import (
    MAY_NOT_HEDGE,
    at_once,
    check_other_models,
    granted,
    lost_its_hedges,
)
from relay.governance.key_view import KeyView
from relay.governance.ledger import (
    Admitted,
    Asked,
    Counted,
    Leave,
    LedgerEntry,
    OnChanged,
    OnRefused,
    OnSettled,
    Refused,
    UnlimitedAnswer,
    Unpriced,
    Visit,
    VisitEntry,
    nothing,
)
from relay.governance.limit_desk import LimitDesk, payer_of
from relay.governance.money import dollars
from relay.governance.price_sheet import FAST, PriceSheet
from relay.governance.visits import Visits
from relay.prices import USUAL_TIERS
from relay.routing.route import Route
from relay.routing.target import Target
from relay.store.base import (
    BudgetSpent,
    Hold,
    LedgerStore,
    OpenedAttempt,
    OpenedGeneration,
    SettledGeneration,
    StoreUnavailable,
    Ticket,
)
from relay.tokens import BYTES_PER_TOKEN

_SPEED_WIRE: Final = "anthropic_messages"
"""Where fast answers are asked for by `speed`."""
_NO_HEDGE: Final = HedgeWish(mode="off")
_TOO_DEAR: Final = "with hedges it may cost more than the key allows for one request"
_ENOUGH_FOR_ONE: Final = "the budgets have enough for one attempt, and not for hedges"
EXPECTED_OUTPUT_TOKENS: Final = 300
"""What an answer is charged of limits until it is there, unless it may only be shorter."""

MOST_BOUND_MICRO: Final = 1 << 50
"""What an attempt is reckoned to cost at most, a billion dollars: a client may write any number of
tokens, and what thousands of such requests put aside must still fit a column."""

LONGEST_US: Final = 7_200_000_000
"""After so long a reservation is settled whatever has become of its generation; the longest that an
attempt may take is a quarter of an hour."""


@dataclass(frozen=True, slots=True)
class AdmissionSettings:
    """What is needed of the configuration."""

    sets_max_tokens: bool = True
    """An answer without a limit gets one where a budget needs it; else it is refused."""
    default_max_tokens: int = 4096


class Admission:
    """The `Ledger` of a relay with a store.

    Args:
        gate: who asks, and what he may ask for.
        tag_budgets: of an organisation's id and tags.
        limits: None where there are none.
        visits: for sessions and what is handed through; None lets them be.
        on_refused: is told of every refusal, also of a further attempt.
        on_changed: is told of what goes on otherwise than it was asked for.
        on_settled: is told what each generation was booked with.
        now_us: wall clock, microseconds since 1970.
    """

    def __init__(
        self,
        *,
        store: LedgerStore,
        instance_id: str,
        prices: PriceSheet,
        settings: AdmissionSettings,
        gate: Gate,
        now_us: Callable[[], int],
        tag_budgets: TagBudgets | None = None,
        limits: LimitDesk | None = None,
        visits: Visits | None = None,
        on_refused: OnRefused | None = None,
        on_changed: OnChanged | None = None,
        on_settled: OnSettled | None = None,
    ) -> None:
        self._store = store
        self._instance_id = instance_id
        self.prices = prices
        self.settings = settings
        self._gate = gate
        self._now_us = now_us
        self._tag_budgets = tag_budgets
        self._limits = limits
        self._visits = visits
        self.is_open = True
        """Whether the store has begun; until then nothing is admitted."""
        self._on_refused = on_refused
        self._on_changed = on_changed
        self._on_settled = on_settled
        self._hold_memo = HoldMemo()

    def for_operator(self) -> Admission:
        """The same books, for what is nobody's: no key, no limits, no budgets; as they are now."""
        ledger = Admission(
            store=self._store,
            instance_id=self._instance_id,
            prices=self.prices,
            settings=self.settings,
            gate=OpenGate(),
            now_us=self._now_us,
            on_settled=self._on_settled,
        )
        ledger.is_open = self.is_open
        return ledger

    def refused(self, error: RelayError, what: Refused) -> None:
        if self._on_refused is not None:
            self._on_refused(error, what)

    async def enter(self, tenant: str, key_id: str) -> Leave:
        try:
            return nothing if self._visits is None else await self._visits.enter(tenant, key_id)
        except RelayError as error:
            self.refused(error, Refused("", "session", tenant, key_id, ""))
            raise

    async def hand_through(self, visit: Visit) -> VisitEntry | None:
        try:
            if not self.is_open:
                raise _no_accounts()
            return None if self._visits is None else await self._visits.hand_through(visit)
        except RelayError as error:
            self.refused(error, Refused.of_visit(visit))
            raise

    async def count(self, asked: Asked) -> Counted:
        try:
            request, route, view = granted(self._gate, asked.catalog, asked.request)
            grant: Grant | None = None
            if self._limits is not None:
                payer = payer_of(view, request.policy.tenant)
                grant = await self._limits.request(payer, request.asked_as or request.model)
        except RelayError as error:
            self.refused(error, Refused.of(asked.request, asked.generation_id, asked.surface))
            raise
        return Counted(request, route, None if grant is None else rate_state(grant.taken))

    def leg(self, asked: Asked, parent: LedgerEntry | None) -> Admitted:
        request, route, _ = granted(self._gate, asked.catalog, asked.request)
        if not isinstance(parent, Entry):
            return Admitted(request, route, None)
        if parent.is_bounded:
            check_other_models(request)
            request = self._with_limit(request)
        tier_of = partial(_tier, request)
        most = self._most(asked, request, route if parent.is_bounded else None)
        bound_of = partial(_bound_micro, self.prices, most, tier_of)
        entry = parent.leg(bound_of, tier_of, _expected_output(request))
        return Admitted(request, route, entry)

    async def admit(self, asked: Asked) -> Admitted:
        try:
            return await self._admit(asked, self._now_us())
        except RelayError as error:
            self.refused(error, Refused.of(asked.request, asked.generation_id, asked.surface))
            raise

    async def _admit(self, asked: Asked, now_us: int) -> Admitted:
        if not self.is_open:
            raise _no_accounts()
        grant_of_key = granted(self._gate, asked.catalog, asked.request)
        request, route, view = grant_of_key
        unhedged_for = ""
        found: tuple[Hold, ...] = ()
        max_cost_micro: int | None = None
        if view is not None:
            max_cost_micro = view.scopes.max_cost_micro
            found = self._holds(view, request, now_us)
            if lost_its_hedges(grant_of_key, asked.request):
                unhedged_for = MAY_NOT_HEDGE
        amounts = [0]
        is_bounded = bool(found) or max_cost_micro is not None
        if max_cost_micro is not None or has_hard(found):
            check_other_models(request)  # once more for budgets of tags
            request = self._with_limit(request)
        most = self._most(asked, request, route if is_bounded else None)
        tier_of = partial(_tier, request)
        bound_of = partial(_bound_micro, self.prices, most, tier_of)
        if is_bounded:
            amounts = self._amounts(route, request, bound_of)
        if max_cost_micro is not None:
            _check_cost(amounts[-1], max_cost_micro)
            if amounts[0] > max_cost_micro:
                amounts = amounts[-1:]
                request, unhedged_for = _unhedged(request), _TOO_DEAR
        grant = await self._grant(asked, request, view)
        first = _first(route, bound_of) if self._store.notes_first else None
        opened = self._opened(asked, route, request, view, found, first, now_us)
        reserved_micro, ticket = 0, 0
        if found:
            reserved_micro = await self._reserve(opened, amounts, grant)
            if reserved_micro < amounts[0]:
                request, unhedged_for = _unhedged(request), _ENOUGH_FOR_ONE
        else:
            ticket = self._open(opened, grant)
        entry = Entry(
            opened.id,
            store=self._store,
            prices=self.prices,
            holds=found,
            reserved_micro=reserved_micro,
            most_micro=max_cost_micro,
            bound_of=bound_of,
            ticket=ticket,
            first=first,
            grant=grant,
            desk=self._limits,
            output_tokens=_expected_output(request),
            tier_of=tier_of,
            now_us=self._now_us,
            asked=asked,
            on_refused=self._on_refused,
            on_settled=self._on_settled,
        )
        if self._on_changed is not None:
            if unhedged_for:
                self._changed(actions.HEDGE_DENIED, asked, unhedged_for)
            if request.sampling is not asked.request.sampling:
                most_tokens = request.sampling.max_output_tokens
                self._changed(
                    actions.TOKENS_CAPPED, asked, f"max_tokens was not given and is {most_tokens}"
                )
        return Admitted(request, route, entry)

    def _changed(self, action: str, asked: Asked, why: str) -> None:
        if self._on_changed is not None:
            what = Refused.of(asked.request, asked.generation_id, asked.surface)
            self._on_changed(action, what, why)

    # --- what it may --------------------------------------------------------------------------

    def _holds(self, view: KeyView, request: GenerateRequest, now_us: int) -> tuple[Hold, ...]:
        budgets = view.budgets
        if self._tag_budgets is not None and request.policy.tags:
            of_tags = self._tag_budgets(view.organisation_id, request.policy.tags)
            if of_tags:
                return holds(budgets + of_tags, now_us)
        return self._hold_memo.holds(budgets, now_us) if budgets else ()

    async def _grant(
        self, asked: Asked, request: GenerateRequest, view: KeyView | None
    ) -> Grant | None:
        """
        Raises:
            LimitReached, StoreDown
        """
        if self._limits is None:
            return None
        return await self._limits.generation(
            payer_of(view, request.policy.tenant),
            request.asked_as or request.model,
            asked.prompt_tokens,
            _expected_output(request),
        )

    # --- what it may cost ---------------------------------------------------------------------

    def _with_limit(self, request: GenerateRequest) -> GenerateRequest:
        """
        Raises:
            UnlimitedAnswer: it has no limit, and must have one.
        """
        if request.sampling.max_output_tokens is not None or request.embedding is not None:
            return request
        if not self.settings.sets_max_tokens:
            raise UnlimitedAnswer(
                "a budget applies, so the request must limit its answer (max_tokens)",
                field="max_tokens",
            )
        most = self.settings.default_max_tokens
        return replace(request, sampling=replace(request.sampling, max_output_tokens=most))

    def _most(self, asked: Asked, request: GenerateRequest, route: Route | None) -> Bound:
        """Tokens that an attempt may use at most.

        Args:
            route: None where nothing is put aside: what a crash would be charged is estimated.
        """
        most_tokens = self.settings.default_max_tokens
        if route is None:
            prompt_bytes = asked.prompt_tokens * BYTES_PER_TOKEN
            return Bound(prompt_bytes, output_bound(request, most_tokens), frozenset())
        models = [target.model for target in (*route.candidates, *route.fallbacks)]
        return bound(request, most_tokens, models=models)

    def _amounts(
        self, route: Route, request: GenerateRequest, bound_of: Callable[[Target], int | None]
    ) -> list[int]:
        """Micro-dollars to put aside: for all attempts that may run at once, and for one alone.

        Raises:
            Unpriced: a target has no price, and what is spent would be counted wrongly without it:
                for a soft budget too.
        """
        one_micro = 0
        for target in (*route.candidates, *route.fallbacks):
            bound_micro = bound_of(target)
            if bound_micro is None:
                raise Unpriced(
                    f"{target.name} has no price, and a budget applies: its row needs `prices`",
                    field="model",
                )
            one_micro = max(one_micro, bound_micro)
        most = at_once(route, request) * route.legs_at_once
        if most < 2:
            return [one_micro]
        beside_micro = one_micro
        if request.service_tier in USUAL_TIERS:
            # What has no price at its dearer tier is refused when it would start.
            for target in route.escalated.values():
                beside_micro = max(beside_micro, bound_of(target) or 0)
        return [one_micro + (most - 1) * beside_micro, one_micro]

    # --- the account --------------------------------------------------------------------------

    def _open(self, opened: OpenedGeneration, grant: Grant | None) -> Ticket:
        """Without a budget nothing is waited for."""
        try:
            return self._store.open(opened)
        except StoreUnavailable as error:
            if grant is not None:
                grant.undo(self._now_us())
            raise _no_accounts() from error

    async def _reserve(
        self, opened: OpenedGeneration, amounts: list[int], grant: Grant | None
    ) -> int:
        """What was put aside, of `amounts`.

        Raises:
            BudgetExceeded, StoreDown
        """
        is_kept = False
        try:
            reserved_micro = await self._store.reserve(opened, amounts)
            is_kept = True
        except BudgetSpent as spent:
            raise _over_budget(spent, amounts[-1]) from spent
        except StoreUnavailable as error:
            self._void(opened)
            raise _no_accounts() from error
        except BaseException:
            self._void(opened)  # cancelled, as a rule; it may be written all the same
            raise
        finally:
            if not is_kept and grant is not None:
                grant.undo(self._now_us())
        return reserved_micro

    def _void(self, opened: OpenedGeneration) -> None:
        """Nothing was sent: whatever was put aside is given back."""
        try:
            self._store.settle(_voided(opened, self._now_us()), opened.holds)
        except StoreUnavailable:
            return  # if it was written, a sweep finds it without an attempt

    def _opened(
        self,
        asked: Asked,
        route: Route,
        request: GenerateRequest,
        view: KeyView | None,
        found: tuple[Hold, ...],
        first: OpenedAttempt | None,
        now_us: int,
    ) -> OpenedGeneration:
        policy = request.policy
        return OpenedGeneration(
            id=asked.generation_id,
            instance_id=self._instance_id,
            organisation_id="" if view is None else view.organisation_id,
            team_id=policy.tenant if view is None else view.team_id,
            key_id="" if view is None else view.key_id,
            alias=route.alias,
            surface=asked.surface,
            tags=orjson.dumps(policy.tags).decode() if policy.tags else "[]",
            labels=orjson.dumps(dict(policy.labels)).decode() if policy.labels else "{}",
            session_id=policy.session_id,
            turn_id=policy.turn_id,
            trace_id=policy.traceparent[3:35],
            admitted_at_us=now_us,
            lease_until_us=now_us + LONGEST_US,
            holds=found,
            first=first,
        )


def _first(route: Route, bound_of: Callable[[Target], int | None]) -> OpenedAttempt:
    """Whom it will be asked of first, where it goes by the order of the alias; another is written
    over it."""
    target = route.candidates[0]
    provider = target.endpoint.provider
    return OpenedAttempt(0, provider, target.model, "primary", -1, bound_of(target))


def _unhedged(request: GenerateRequest) -> GenerateRequest:
    if request.policy.hedge.mode == "off":
        return request
    return replace(request, policy=replace(request.policy, hedge=_NO_HEDGE))


def _expected_output(request: GenerateRequest) -> int:
    if request.embedding is not None:
        return 0
    most = request.sampling.max_output_tokens
    return EXPECTED_OUTPUT_TOKENS if most is None else min(most, EXPECTED_OUTPUT_TOKENS)


def _tier(request: GenerateRequest, target: Target) -> str:
    """The service tier that is asked of a target, as prices know it."""
    wire = target.endpoint.wire
    if wire == _SPEED_WIRE and request.extra_on(wire).get("speed") == "fast":
        return FAST
    return target.tier_of(request.service_tier)


def _bound_micro(
    prices: PriceSheet, most: Bound, tier_of: Callable[[Target], str], target: Target
) -> int | None:
    price = prices.price_of(target.endpoint.provider, target.model, tier_of(target))
    if price is None:
        return None
    bound_micro = price.bound_micro(most.prompt_tokens, most.output_tokens, most.special)
    return min(bound_micro, MOST_BOUND_MICRO)


def _check_cost(most_micro: int, allowed_micro: int) -> None:
    if most_micro > allowed_micro:
        raise PermissionDenied(
            f"the request may cost ${dollars(most_micro)}, and its key allows"
            f" ${dollars(allowed_micro)} for one: ask for a shorter answer (max_tokens), or another"
            " model",
            metadata={"field": "max_tokens"},
        )


def _over_budget(spent: BudgetSpent, least_micro: int) -> BudgetExceeded:
    budget_id = spent.hold.budget_id
    return BudgetExceeded(
        f"the budget {budget_id} has ${dollars(max(0, spent.left_micro))} left, and the request may"
        f" cost ${dollars(least_micro)}",
        metadata={"budget": budget_id},
    )


def _no_accounts() -> StoreDown:
    return StoreDown("the accounts cannot be written now", retry_after_s=1.0)


def _voided(opened: OpenedGeneration, now_us: int) -> SettledGeneration:
    return SettledGeneration(
        id=opened.id,
        state="void",
        settled_micro=0,
        ended_at_us=now_us,
        reason="",
        provider="",
        model="",
        is_usage_final=True,
        ttft_us=None,
        wall_us=0,
        phases="{}",
        attempts=(),
    )
