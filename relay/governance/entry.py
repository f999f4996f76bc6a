"""The account of one generation: what it may still spend, and what it has spent.

Money is put aside before anything is sent, for the attempts that may run at once. Each attempt is
weighed against it when it starts: one that is over and has certainly cost nothing has given its
part back; where what is left does not cover the next one, more is put aside first, or it does not
start. At the end every attempt has its row, the ones that lost too.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple

import orjson
import structlog

from relay.content import FinishReason, Usage
from relay.decision import Decision
from relay.errors import BudgetExceeded, RelayError, StoreDown
from relay.governance.charges import Grant, rate_state
from relay.governance.ledger import (
    Asked,
    LedgerEntry,
    OnRefused,
    OnSettled,
    RateState,
    Refused,
)
from relay.governance.limit_desk import LimitDesk
from relay.governance.price_sheet import FAST, STANDARD, PriceSheet
from relay.governance.sheet_price import SheetPrice
from relay.governance.usage_kinds import cost_micro as usage_cost_micro
from relay.outcome import AttemptOutcome, AttemptRecord, GenerationEnd
from relay.routing.target import Target
from relay.store.base import (
    BudgetSpent,
    ClosedAttempt,
    Hold,
    LedgerStore,
    OpenedAttempt,
    SettledGeneration,
    StoreUnavailable,
    Ticket,
)
from relay.timeline import PHASES

_log = structlog.get_logger("relay.ledger")

BOOKED_WAIT_S: Final = 0.25
"""How long an end may wait for the store, which takes a fraction of a millisecond as a rule: a
store that hangs must not keep answers from ending."""

BoundOf = Callable[[Target], int | None]
"""The most an attempt at a target can cost, micro-dollars; None where it has no price."""


class _Attempt(NamedTuple):
    """One that was started."""

    record: AttemptRecord
    bound_micro: int | None
    price: SheetPrice | None
    """As it was at its start: it holds to the end, whatever the hour or a reload changes."""
    tier: str
    began_s: float
    """Since 1970, of that price."""


class Entry:
    """A `LedgerEntry`; made by `Admission`, settled by whoever ends the generation."""

    __slots__ = (
        "_asked",
        "_asking_micro",
        "_attempts",
        "_bound_of",
        "_desk",
        "_first",
        "_grant",
        "_grants",
        "_holds",
        "_id",
        "_is_settled",
        "_most_micro",
        "_now_us",
        "_on_refused",
        "_on_settled",
        "_output_tokens",
        "_prices",
        "_reserved_micro",
        "_store",
        "_ticket",
        "_tier_of",
        "rate_state",
    )

    def __init__(
        self,
        generation_id: str,
        *,
        store: LedgerStore,
        prices: PriceSheet,
        holds: Sequence[Hold],
        reserved_micro: int,
        most_micro: int | None,
        bound_of: BoundOf,
        ticket: Ticket,
        first: OpenedAttempt | None,
        grant: Grant | None,
        desk: LimitDesk | None,
        output_tokens: int,
        tier_of: Callable[[Target], str],
        now_us: Callable[[], int],
        asked: Asked,
        on_refused: OnRefused | None = None,
        on_settled: OnSettled | None = None,
    ) -> None:
        """
        Args:
            reserved_micro: what was put aside in each of `holds`.
            most_micro: what all attempts together may cost at most, by the key's scopes.
            ticket: of the generation's row.
            first: the attempt that was written with it.
            grant: what it took of limits, given back and corrected at the end.
            desk: for what its attempts take of their providers' limits.
            output_tokens: expected, for the same.
            tier_of: the service tier that the request asks of a target.
            asked: what was admitted.
            on_refused: is told of each attempt that may not start.
            on_settled: is told what was booked, once.
        """
        self._id = generation_id
        self._store = store
        self._prices = prices
        self._holds = holds
        self._reserved_micro = reserved_micro
        self._most_micro = most_micro
        self._asking_micro = 0
        """Of attempts that wait for more to be put aside for them."""
        self._bound_of = bound_of
        self._ticket = ticket
        self._first = first
        self._grant = grant
        self._desk = desk
        self._output_tokens = output_tokens
        self._tier_of = tier_of
        self._grants: list[tuple[AttemptRecord, Grant]] = []
        self._now_us = now_us
        self._asked = asked
        self._on_refused = on_refused
        self._on_settled = on_settled
        self._attempts: list[_Attempt] = []
        self._is_settled = False
        self.rate_state: RateState | None = None if grant is None else rate_state(grant.taken)

    @property
    def is_bounded(self) -> bool:
        """Whether money is put aside for it, or its key says what it may cost at most."""
        return bool(self._holds) or self._most_micro is not None

    def leg(
        self, bound_of: BoundOf, tier_of: Callable[[Target], str], output_tokens: int
    ) -> LedgerEntry:
        """For a further request of the same generation, which is paid for by this account; the
        arguments as of the constructor, of that request."""
        return _LegEntry(self, bound_of, tier_of, output_tokens)

    def started(self, record: AttemptRecord, target: Target) -> Awaitable[None] | None:
        return self.started_for(
            record, target, self._bound_of(target), self._tier_of(target), self._output_tokens
        )

    def started_for(
        self,
        record: AttemptRecord,
        target: Target,
        bound_micro: int | None,
        tier: str,
        output_tokens: int,
    ) -> Awaitable[None] | None:
        """As `started`, of an attempt whose request may be another than the generation's own."""
        try:
            missing_micro = self._missing_micro(bound_micro, target)
            waiting = self._take_limits(record, output_tokens)
        except RelayError as error:
            self._refused(error, target)
            raise
        if missing_micro > 0 or waiting is not None:
            # Counted at once: of two that ask together neither may take the other's part.
            self._asking_micro += bound_micro or 0
            self._reserved_micro += missing_micro
            return self._cover(record, target, bound_micro, tier, missing_micro, waiting)
        self._note(record, bound_micro, tier)
        return None

    def _missing_micro(self, bound_micro: int | None, target: Target) -> int:
        """What must be put aside beside what is, for one more attempt.

        Raises:
            BudgetExceeded
        """
        needed_micro = self._committed_micro() + self._asking_micro + (bound_micro or 0)
        if self._most_micro is not None and needed_micro > self._most_micro:
            raise BudgetExceeded("what the key allows for one request covers no further attempt")
        if not self._holds:
            return 0
        if bound_micro is None:  # it was there at admission, and is no more
            raise BudgetExceeded(f"{target.name} has no price, and a budget applies")
        return max(0, needed_micro - self._reserved_micro)

    def _take_limits(self, record: AttemptRecord, output_tokens: int) -> Awaitable[Grant] | None:
        """Of the provider, at once or when what is returned is awaited.

        Raises:
            TargetLimited
        """
        if self._desk is None:
            return None
        found = self._desk.attempt(record.provider, record.prompt_tokens, output_tokens)
        if isinstance(found, Grant):
            self._grants.append((record, found))
            return None
        return found

    def _refused(self, error: RelayError, target: Target) -> None:
        if self._on_refused is not None:
            generation_id, request, _, surface, _ = self._asked
            self._on_refused(error, Refused.of(request, generation_id, surface, target.name))

    def _committed_micro(self) -> int:
        """What attempts so far may have cost, or may yet."""
        return sum(
            attempt.bound_micro or 0
            for attempt in self._attempts
            if not (attempt.record.ended_us and attempt.record.is_free)
        )

    async def _cover(
        self,
        record: AttemptRecord,
        target: Target,
        bound_micro: int | None,
        tier: str,
        missing_micro: int,
        waiting: Awaitable[Grant] | None,
    ) -> None:
        """
        Raises:
            TargetLimited, BudgetExceeded, StoreDown: it may not start.
        """
        try:
            await self._covered(bound_micro, missing_micro, record, waiting)
        except RelayError as error:
            self._refused(error, target)
            raise
        self._note(record, bound_micro, tier)

    async def _covered(
        self,
        bound_micro: int | None,
        missing_micro: int,
        record: AttemptRecord,
        waiting: Awaitable[Grant] | None,
    ) -> None:
        """Raises as `_cover`."""
        is_covered = False
        try:
            if waiting is not None:
                self._grants.append((record, await waiting))
            if missing_micro > 0:
                await self._store.extend(self._id, self._holds, missing_micro)
            is_covered = True
        except BudgetSpent as spent:
            raise BudgetExceeded("the budget does not cover another attempt") from spent
        except StoreUnavailable as error:
            raise StoreDown("the accounts cannot be written now") from error
        finally:
            self._asking_micro -= bound_micro or 0
            if not is_covered:  # also when cancelled: nobody knows whether it is put aside
                self._reserved_micro -= missing_micro

    def _note(self, record: AttemptRecord, bound_micro: int | None, tier: str) -> None:
        ordinal = len(self._attempts)
        now_s = self._now_us() / 1e6
        price = self._prices.price_of(record.provider, record.model, tier, now_s)
        self._attempts.append(_Attempt(record, bound_micro, price, tier, now_s))
        first = self._first
        if ordinal == 0 and _is_of(first, record):
            return  # it is there; when it started is told at its end
        self._ticket = self._store.attempt(
            self._id,
            OpenedAttempt(
                ordinal,
                record.provider,
                record.model,
                record.role.value,
                record.started_us,
                bound_micro,
            ),
        )

    async def durable(self) -> None:
        try:
            await self._store.committed(self._ticket)
        except StoreUnavailable as error:
            raise StoreDown("the accounts cannot be written now") from error

    def settle(self, end: GenerationEnd) -> None:
        if self._is_settled:
            return
        self._is_settled = True
        closed = [
            self._closed(ordinal, attempt, end) for ordinal, attempt in enumerate(self._attempts)
        ]
        states = {attempt.state for attempt in closed}
        if not states - {"free"}:
            state = "void"
        elif states & {"estimated", "unpriced"}:
            state = "estimated"
        else:
            state = "settled"
        decision = end.decision
        settled = SettledGeneration(
            id=self._id,
            state=state,
            settled_micro=sum(attempt.cost_micro or 0 for attempt in closed),
            ended_at_us=self._now_us(),
            reason="" if end.error is None else end.error.reason.name,
            provider=end.provider,
            model=end.model,
            is_usage_final=end.is_usage_final,
            ttft_us=_ttft_us(end),
            wall_us=end.wall_us,
            phases=orjson.dumps(end.phases_us).decode(),
            attempts=tuple(closed),
            decision="" if decision is None else _told(decision, end),
            saved_micro=0 if decision is None else decision.saved_micro,
        )
        if self._on_settled is not None:
            self._on_settled(self._asked.request.policy.tenant, settled.settled_micro)
        try:
            self._ticket = self._store.settle(settled, self._holds)
        except StoreUnavailable as error:
            # Its row stays open and is settled by a sweep, at the most it can have cost.
            _log.error("not_settled", id=self._id, why=str(error))
        self._settle_limits(end)

    def _settle_limits(self, end: GenerationEnd) -> None:
        if self._grant is None and not self._grants:
            return
        now_us, usage = self._now_us(), end.usage
        if self._grant is not None:
            self._grant.settle(*counted_tokens(end), now_us)
        for record, grant in self._grants:
            used = usage if record.is_winner and usage is not None else record.usage
            used = used or _seen(record)
            grant.settle(used.prompt_tokens, used.completion_tokens, now_us)

    def _closed(self, ordinal: int, attempt: _Attempt, end: GenerationEnd) -> ClosedAttempt:
        record, price = attempt.record, attempt.price
        told = end.service_tier if record.is_winner else ""
        if told not in ("", attempt.tier) and (attempt.tier, told) != (FAST, STANDARD):
            # Which tier it was is the provider's to say: it was asked for any, or had no room.
            price = self._prices.price_of(record.provider, record.model, told, attempt.began_s)
            attempt = attempt._replace(price=price)
        usage, is_final = record.usage, record.is_usage_final
        if record.is_winner and end.usage is not None:
            usage, is_final = end.usage, end.is_usage_final
        state, cost_micro, upper_micro = _cost(attempt, usage, is_final=is_final)
        if usage is None:
            usage = _seen(record)
        return ClosedAttempt(
            ordinal=ordinal,
            state=state,
            provider=record.provider,
            model=record.model,
            role=record.role.value,
            outcome=record.outcome.value,
            reason="" if record.error is None else record.error.reason.name,
            http_status=record.http_status,
            is_winner=record.is_winner,
            started_us=record.started_us,
            ended_us=record.ended_us,
            prompt_tokens=usage.prompt_tokens,
            cached_tokens=usage.cached_tokens or 0,
            cache_write_tokens=usage.cache_write_tokens or 0,
            output_tokens=usage.completion_tokens,
            reasoning_tokens=usage.reasoning_tokens or 0,
            price_version="" if price is None else price.version,
            cost_micro=cost_micro,
            upper_micro=upper_micro,
            phases=orjson.dumps(record.phases_us).decode(),
            leg=record.leg,
        )

    async def booked(self) -> None:
        try:
            async with asyncio.timeout(BOOKED_WAIT_S):
                await self._store.committed(self._ticket)
        except TimeoutError:
            _log.warning("end_not_booked_yet", id=self._id)
        except StoreUnavailable as error:
            _log.warning("end_not_booked_yet", id=self._id, why=str(error))


class _LegEntry:
    """The same account, for another request of the generation."""

    __slots__ = ("_bound_of", "_entry", "_output_tokens", "_tier_of")

    def __init__(
        self,
        entry: Entry,
        bound_of: BoundOf,
        tier_of: Callable[[Target], str],
        output_tokens: int,
    ) -> None:
        self._entry = entry
        self._bound_of = bound_of
        self._tier_of = tier_of
        self._output_tokens = output_tokens

    @property
    def rate_state(self) -> RateState | None:
        return self._entry.rate_state

    def started(self, record: AttemptRecord, target: Target) -> Awaitable[None] | None:
        return self._entry.started_for(
            record, target, self._bound_of(target), self._tier_of(target), self._output_tokens
        )

    async def durable(self) -> None:
        await self._entry.durable()

    def settle(self, end: GenerationEnd) -> None:
        """The generation's own end books it."""

    async def booked(self) -> None:
        """Nothing of its own."""


def counted_tokens(end: GenerationEnd) -> tuple[int, int]:
    """Of prompts and of output, for the limits of whoever asked: the answer's, and those of all
    legs beside it. A kept answer has cost no provider anything."""
    prompt_tokens, output_tokens = 0, 0
    usage, decision = end.usage, end.decision
    is_kept = decision is not None and decision.is_kept
    if usage is not None and end.attempts and not is_kept:
        prompt_tokens, output_tokens = usage.prompt_tokens, usage.completion_tokens
    for record in end.attempts:
        if record.usage is not None and not record.is_winner:
            prompt_tokens += record.usage.prompt_tokens
            output_tokens += record.usage.completion_tokens
    return prompt_tokens, output_tokens


def _cost(
    attempt: _Attempt, usage: Usage | None, *, is_final: bool
) -> tuple[str, int | None, int | None]:
    """State, likely cost and the most it can be."""
    record, bound_micro, price, _, _ = attempt
    if record.is_free and not record.is_winner:
        return "free", 0, 0
    if price is None:
        return "unpriced", None, None
    if usage is not None:
        cost_micro = usage_cost_micro(price, usage)
        is_whole = record.outcome is AttemptOutcome.SUCCESS and not usage.is_estimated
        if is_whole and is_final:
            return "actual", cost_micro, cost_micro
        return "estimated", cost_micro, max(cost_micro, bound_micro or 0)
    likely_micro = math.ceil(record.cost or 0.0)
    upper_micro = max(likely_micro, bound_micro or math.ceil(record.cost_upper or 0.0))
    return "estimated", likely_micro, upper_micro


def _is_of(opened: OpenedAttempt | None, record: AttemptRecord) -> bool:
    return (
        opened is not None and opened.model == record.model and opened.provider == record.provider
    )


def _seen(record: AttemptRecord) -> Usage:
    """Of an attempt of which no provider gave an account."""
    prompt = 0 if record.is_free else record.prompt_tokens
    seen = 0 if record.is_free else record.tokens_seen
    return Usage(
        prompt_tokens=prompt,
        completion_tokens=seen,
        total_tokens=prompt + seen,
        cached_tokens=0 if record.is_free else record.cached_tokens,
        is_estimated=True,
    )


_UNTIL_CONTENT: Final = PHASES[: PHASES.index("first_content") + 1]


def _ttft_us(end: GenerationEnd) -> int | None:
    """Until the first content was there; None where none came."""
    if not end.has_output:
        return None
    return sum(end.phases_us.get(phase, 0) for phase in _UNTIL_CONTENT)


def _told(decision: Decision, end: GenerationEnd) -> str:
    """As JSON; of an experiment with how the answer finished, which nothing else keeps."""
    told = decision.as_dict()
    if decision.experiment and 0 in end.finish_reasons:
        told["finish"] = FinishReason(end.finish_reasons[0]).name
    return orjson.dumps(told).decode()
