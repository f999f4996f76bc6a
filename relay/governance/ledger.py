"""The gate between a generation and its accounts.

Admission is decided before the first upstream byte: who asks, whether that may be asked for, and
whether it can be paid. The record of the attempts must be durable before the first token is
released; it is written while the provider is thinking, so that durability costs no latency and a
crash loses no delivered token's record. What is known at the end is booked before the client is
told of it, so that an end that was delivered is never lost either.

The path knows these protocols only; `relay.governance.admission` fills them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple, Protocol, Self

from relay.content import GenerateRequest
from relay.errors import InvalidRequest, PermissionDenied, RelayError
from relay.governance import audit_actions as actions
from relay.governance.budget_scopes import BudgetRow, TagBudgets
from relay.governance.gate import Gate, OpenGate
from relay.governance.grants import MAY_NOT_HEDGE, Grant, granted, lost_its_hedges
from relay.governance.key_view import KeyView
from relay.governance.unkept import check_unkept
from relay.outcome import AttemptRecord, GenerationEnd
from relay.routing.catalog import Catalog
from relay.routing.route import Route
from relay.routing.target import Target


class Asked(NamedTuple):
    """A generation that wants to begin."""

    generation_id: str
    """The relay's own."""
    request: GenerateRequest
    catalog: Catalog
    """Of the configuration that it starts with."""
    surface: str
    """The frontend it came by."""
    prompt_tokens: int
    """Estimated from bytes."""


class Refused(NamedTuple):
    """What was refused to whom, for the audit log."""

    request_id: str
    """The relay's own."""
    surface: str
    tenant: str
    key_id: str
    subject: str
    """The model, by the name that it was asked for by, or the provider."""
    attempt: str = ""
    """The target, where it is a further attempt of a generation and not the generation itself."""

    @classmethod
    def of(cls, request: GenerateRequest, request_id: str, surface: str, attempt: str = "") -> Self:
        """Of a generation, or what would have been one."""
        policy, subject = request.policy, request.asked_as or request.model
        return cls(request_id, surface, policy.tenant, policy.key_id, subject, attempt)

    @classmethod
    def of_visit(cls, visit: Visit) -> Self:
        """Of what is handed through."""
        return cls(visit.request_id, visit.surface, visit.tenant, visit.key_id, visit.provider)


OnRefused = Callable[[RelayError, Refused], object]
"""Told of a refusal; never waits, never raises."""
OnChanged = Callable[[str, Refused, str], object]
"""Told of a generation that goes on otherwise than it was asked for: the action of the audit log,
what was not granted, and why; never waits, never raises."""

OnSettled = Callable[[str, int], object]
"""Told what a generation was booked with: the team (or tenant), and micro-dollars; never waits,
never raises."""


class Unpriced(InvalidRequest):
    """A budget applies, and nobody knows what the model costs."""


class UnlimitedAnswer(InvalidRequest):
    """A budget applies, and the request does not say how long its answer may become."""


class UnpricedVisit(PermissionDenied):
    """A budget applies, and what is handed through has no price."""


class RateState(NamedTuple):
    """Where the caller stands with his limits, for the headers of an answer."""

    limit_requests: int | None
    remaining_requests: int
    reset_requests_s: float
    limit_tokens: int | None
    remaining_tokens: int
    reset_tokens_s: float


class LedgerEntry(Protocol):
    """The account of one generation, from admission to settlement."""

    @property
    def rate_state(self) -> RateState | None:
        """As it was at admission; None where no limit applies."""
        ...

    def started(self, record: AttemptRecord, target: Target) -> Awaitable[None] | None:
        """An attempt is about to ask a provider; called before anything is sent.

        Returns:
            None if it is paid for and may go on; else what to wait for.

        Raises (also what is waited for):
            AdmissionError: it may not, and nothing was sent: another target may be asked.
        """
        ...

    async def durable(self) -> None:
        """Return when what must not be lost is on stable storage.

        Awaited after the provider's first content and before its release; normally done by then.

        Raises:
            AdmissionError: it cannot be made durable; nothing may be released.
        """
        ...

    def settle(self, end: GenerationEnd) -> None:
        """Book the end, exactly once, also after cancel and failure; never waits or raises."""
        ...

    async def booked(self) -> None:
        """Return when the settled end is as durable as the store makes it, or after a bounded time;
        never raises: the answer is out, and what could not be written is kept to be."""
        ...


class Admitted(NamedTuple):
    """What may begin."""

    request: GenerateRequest
    """As it goes on: with tags of its key, a limit for its answer, without hedges, as its key and
    budgets want it."""
    route: Route
    """Whom it may be sent to."""
    entry: LedgerEntry | None
    """None where nothing is booked."""


class Counted(NamedTuple):
    """Whose prompt may be counted."""

    request: GenerateRequest
    """As it is allowed."""
    route: Route
    rate_state: RateState | None
    """As it was then; None where no limit applies."""


Leave = Callable[[], None]
"""A session is over; never waits or raises."""


class Visit(NamedTuple):
    """A request, or a WebSocket, that is handed through to a provider unread."""

    request_id: str
    """The relay's own."""
    tenant: str
    key_id: str
    provider: str
    """The row."""
    surface: str
    """`passthrough` or `websocket`."""
    path: str


class VisitEntry(Protocol):
    """The account of one of them."""

    def settle(self, http_status: int, failure: RelayError | None, wall_us: int) -> None:
        """It is over; once, never waits or raises.

        Args:
            http_status: of the provider's answer; 0 where none came.
        """
        ...


class Ledger(Protocol):
    """Opens one entry a generation, a session, a visit."""

    async def enter(self, tenant: str, key_id: str) -> Leave:
        """A session begins: a Converse stream, a WebSocket.

        Raises:
            LimitReached, StoreDown, Unauthenticated

        Cancelled: nothing stays taken. Whoever is let in owes the call of what is returned.
        """
        ...

    async def hand_through(self, visit: Visit) -> VisitEntry | None:
        """A request is about to be handed through; None where nothing is booked.

        Raises:
            RelayError: it may not be; nothing was sent.
        """
        ...

    def refused(self, error: RelayError, what: Refused) -> None:
        """Tell the audit log of what was refused before it came here; never waits, never raises.
        What this ledger itself refuses it tells by itself."""
        ...

    async def count(self, asked: Asked) -> Counted:
        """A prompt is about to be counted: no generation, and a request of its key like another.

        Raises:
            RelayError: it may not be, or there is no such model; nothing was sent.

        Cancelled: nothing stays taken.
        """
        ...

    def leg(self, asked: Asked, parent: LedgerEntry | None) -> Admitted:
        """A generation that was admitted asks a further model, or a further question.

        Args:
            asked: the leg; its `asked_as` is what permissions go by.
            parent: the generation's account, which pays attempt by attempt; None where nothing is
                booked.

        Returns:
            An entry whose `settle` does nothing: the generation's own books everything.

        Raises:
            RelayError: it may not be asked for.
        """
        ...

    async def admit(self, asked: Asked) -> Admitted:
        """Decide, and reserve what the generation may cost.

        Raises:
            RelayError: it may not start, or there is no such model; nothing was sent upstream, and
                nothing stays reserved.

        Cancelled: nothing stays reserved.
        """
        ...


class NullLedger:
    """Books nothing: a relay without limits, budgets or a store. What keys allow holds; those that
    have limits or budgets, which nobody would hold, are refused.

    Args:
        gate: whose keys they are; None where there are none.
        on_refused: is told of every refusal.
        on_changed: is told of what goes on without the hedges that it asked for.
        tag_budgets: of an organisation's id and tags; None where there are no keys.
    """

    def __init__(
        self,
        gate: Gate | None = None,
        on_refused: OnRefused | None = None,
        on_changed: OnChanged | None = None,
        tag_budgets: TagBudgets | None = None,
    ) -> None:
        self._gate = gate or OpenGate()
        self._on_refused = on_refused
        self._on_changed = on_changed
        self._tag_budgets = tag_budgets

    def refused(self, error: RelayError, what: Refused) -> None:
        if self._on_refused is not None:
            self._on_refused(error, what)

    def _granted(self, asked: Asked) -> Grant:
        try:
            grant = granted(self._gate, asked.catalog, asked.request)
            self._check(grant.view, grant.request.policy.tags)
        except RelayError as error:
            self.refused(error, Refused.of(asked.request, asked.generation_id, asked.surface))
            raise
        return grant

    async def count(self, asked: Asked) -> Counted:
        grant = self._granted(asked)
        return Counted(grant.request, grant.route, None)

    def leg(self, asked: Asked, parent: LedgerEntry | None) -> Admitted:
        grant = granted(self._gate, asked.catalog, asked.request)
        return Admitted(grant.request, grant.route, None)

    async def admit(self, asked: Asked) -> Admitted:
        grant = self._granted(asked)
        if self._on_changed is not None and lost_its_hedges(grant, asked.request):
            what = Refused.of(asked.request, asked.generation_id, asked.surface)
            self._on_changed(actions.HEDGE_DENIED, what, MAY_NOT_HEDGE)
        return Admitted(grant.request, grant.route, None)

    async def enter(self, tenant: str, key_id: str) -> Leave:
        try:
            self._check(self._gate.view(key_id))
        except RelayError as error:
            self.refused(error, Refused("", "session", tenant, key_id, ""))
            raise
        return nothing

    async def hand_through(self, visit: Visit) -> None:
        try:
            view = self._gate.view(visit.key_id)
            self._check(view, () if view is None else view.tags)
        except RelayError as error:
            self.refused(error, Refused.of_visit(visit))
            raise

    def _check(self, view: KeyView | None, tags: Sequence[str] = ()) -> None:
        """
        Raises:
            Unkept
        """
        if view is None:
            return
        of_tags: tuple[BudgetRow, ...] = ()
        if tags and self._tag_budgets is not None:
            of_tags = self._tag_budgets(view.organisation_id, tags)
        check_unkept(view, of_tags)


def nothing() -> None:
    """Of a session that took nothing."""
