"""One generation's way to a committed stream: admit, route, plan, race.

`Services` is what a worker offers its generations; `server.py` builds it, everything else only
reads it. A reload replaces `catalog`; a generation keeps the one it started with.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from relay.answer import Answer
from relay.attempt import Attempt
from relay.content import GenerateRequest
from relay.deadline import Clock
from relay.decision import Decision
from relay.errors import CacheMiss, ClientCancelled, Draining, LocalProtocolError, RelayError
from relay.generation_log import log_end
from relay.governance.feedback import FeedbackDesk
from relay.governance.gate import Gate, OpenGate
from relay.governance.grants import Grant, granted
from relay.governance.ledger import Asked, Ledger, LedgerEntry, Refused
from relay.outcome import (
    AttemptRecord,
    AttemptRole,
    HandedThrough,
    HedgeRecord,
    Listener,
    Recorder,
)
from relay.overload import Overload
from relay.planner import Planner
from relay.race import run_race
from relay.race_plan import RacePlan
from relay.reaper import Reaper
from relay.routing.catalog import Catalog
from relay.routing.plan import PlannedAttempt
from relay.routing.route import Route
from relay.target_state import TargetStates
from relay.timeline import AttemptMarks, Timeline
from relay.tokens import estimate_prompt_tokens
from relay.trace_context import TraceRule, trace_headers
from relay.transport.base import Origin, Transport, UsedConnection


class Live:
    """The generations between their enter and their end, and WebSockets that are handed through; a
    drain waits for `idle`."""

    def __init__(self) -> None:
        self._members: dict[object, Callable[[RelayError], object]] = {}
        self._waiters: list[asyncio.Future[None]] = []

    def add(self, member: object, cancel: Callable[[RelayError], object]) -> None:
        """`cancel` ends the member with a cause."""
        self._members[member] = cancel

    def discard(self, member: object) -> None:
        """The member has ended; unknown ones are ignored."""
        self._members.pop(member, None)
        if not self._members:
            for waiter in self._waiters:
                if not waiter.done():
                    waiter.set_result(None)
            self._waiters.clear()

    def __len__(self) -> int:
        return len(self._members)

    def cancel_all(self, cause: RelayError) -> None:
        """End everything that runs now."""
        for cancel in list(self._members.values()):
            cancel(cause)

    async def idle(self) -> None:
        """Return when nothing runs."""
        while self._members:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter


@dataclass(slots=True)
class Services:
    """The parts of one worker that a generation uses."""

    catalog: Catalog
    transport: Transport
    ledger: Ledger
    reaper: Reaper
    clock: Clock
    slow_consumer_s: float = 30.0
    lane_bytes: int = 65_536
    is_draining: bool = False
    live: Live = field(default_factory=Live)
    overload: Overload = field(default_factory=Overload)
    """Whether more may come in."""
    gate: Gate = field(default_factory=OpenGate)
    trace_rule: TraceRule | None = None
    """Which traces are kept; None where no spans are made."""
    record: Callable[[GenerateRequest, str], Recorder | None] | None = None
    """Of a request and the generation's id: what keeps the answer for those who want to see it.
    None where nobody does."""
    course: Course | None = None
    """None where the configuration has no policies, caches or guardrails. Of the same configuration
    as `catalog`."""
    feedback: FeedbackDesk = field(default_factory=FeedbackDesk)
    """Takes what users think of answers."""
    on_ended: list[Listener] = field(default_factory=lambda: [log_end])
    """Told of each end, once, in this order; they neither raise nor block."""
    on_turned_away: list[Callable[[RelayError, str], None]] = field(default_factory=list)
    """Told of each request that came to no generation and to no provider, with the surface that it
    was for; they neither raise nor block."""
    on_handed_through: list[Callable[[HandedThrough], None]] = field(default_factory=list)
    """Told of each end of what was handed through unread, likewise."""
    planner: Planner = field(init=False)
    """With all that was learnt of targets and aliases; it outlives reloads."""
    prewarms: int = 0
    """Prefixes sent ahead since the worker began."""

    def __post_init__(self) -> None:
        self.planner = Planner(TargetStates(), self.clock)

    def turned_away(self, error: RelayError, surface: str) -> None:
        """A request comes to nothing: no generation begins and no provider is asked. Who has gone
        by himself was not turned away."""
        if isinstance(error, ClientCancelled):
            return
        for listener in self.on_turned_away:
            listener(error, surface)

    def handed_through(self, end: HandedThrough) -> None:
        """What was handed through unread is over."""
        for listener in self.on_handed_through:
            listener(end)

    def dialled(self, origin: Origin, took_s: float) -> None:
        """A dial took so long: told of the provider, as attempts are judged.

        Of several rows with this origin the first is told. Told of each, one slow host would be two
        slow groups, which is what everybody's slowness looks like.
        Where `transport.dial_timeout_ms` is below `slow_connect_s`, no dial takes long enough to be
        called slow, and first tokens alone tell.
        """
        for endpoint in self.catalog.endpoints.values():
            if endpoint.origin == origin:
                self.planner.connected(endpoint.provider, took_s)
                return


@dataclass(slots=True)
class Progress:
    """How far `commit` came, also when it raised: what the end tells and settles."""

    records: list[AttemptRecord] = field(default_factory=list)
    """Every attempt started."""
    plan: RacePlan | None = None
    """Told of the end by whoever ends the generation."""
    last: AttemptMarks | None = None
    """Where the attempt that started last has come to."""
    is_wanted: bool = False
    """A speculation was committed, perhaps before there was a plan to tell."""
    entry: LedgerEntry | None = None
    """The account, from its admission on; whoever ends the generation settles it."""
    request: GenerateRequest | None = None
    """As it was admitted, which may be less than was asked for."""
    prompt_tokens: int | None = None
    """Of it, estimated; None if it was not admitted."""
    decision: Decision | None = None
    """What policies made of it; None where there are none."""
    crew: Crew | None = None
    """The legs that it has; None for none."""
    on_closed: list[Callable[[], object]] = field(default_factory=list)
    """Called once, when the end is fixed; they neither raise nor wait."""
    on_held: Callable[[Answer], Callable[[], None]] | None = None
    """Told of an answer that is read before anything of it may leave; what it returns is to be
    called whenever more of it has come, released or not."""
    of: Progress | None = None
    """Of the generation that this is a leg of: whose account pays."""
    leg: str = ""
    """What it is called there."""


class Crew(Protocol):
    """The legs of one generation."""

    @property
    def records(self) -> Sequence[AttemptRecord]:
        """Of all their attempts, in the order of their legs."""
        ...

    @property
    def hedges(self) -> Sequence[HedgeRecord]:
        """Of those that are over."""
        ...

    async def aclose(self) -> None:
        """Stop those that run and wait for their ends, for a bounded time. Idempotent."""
        ...


class Course(Protocol):
    """What a request becomes between its admission and its stream, by the operator's policies."""

    def choose(self, request: GenerateRequest, surface: str, prompt_tokens: int) -> GenerateRequest:
        """The request under the name that policies have for it. It is not decided again where that
        was done (`asked_as`).

        Raises:
            RelayError: they refuse it.
        """
        ...

    async def checked(self, request: GenerateRequest, surface: str) -> GenerateRequest:
        """What may be sent of a request that is no generation: a prompt that is counted.

        Raises:
            GuardrailBlocked: nothing.
        """
        ...

    def check_passthrough(self, provider: str, tenant: str, key_id: str, surface: str) -> None:
        """Whether something may be handed through to a provider unread.

        Raises:
            GuardrailBlocked: it may not.
        """
        ...

    async def commit(
        self,
        services: Services,
        generation_id: str,
        request: GenerateRequest,
        timeline: Timeline,
        progress: Progress,
        *,
        surface: str,
    ) -> Answer:
        """As the function of this name, with everything that policies, caches and guardrails do."""
        ...


def look(services: Services, request: GenerateRequest, request_id: str, surface: str) -> Grant:
    """What is allowed of a request that is not admitted, or not yet; a refusal is told to the audit
    log, as one of an admission is.

    Raises:
        RelayError: as `relay.governance.grants.granted`.
    """
    try:
        if services.course is not None:
            request = services.course.choose(request, surface, estimate_prompt_tokens(request))
        return granted(services.gate, services.catalog, request)
    except RelayError as error:
        services.ledger.refused(error, Refused.of(request, request_id, surface))
        raise


async def commit(
    services: Services,
    generation_id: str,
    request: GenerateRequest,
    timeline: Timeline,
    progress: Progress,
    *,
    surface: str,
) -> Answer:
    """Bring a request to its first content event.

    Args:
        progress: filled on the way.
        surface: the frontend it came by, for its account.

    Raises:
        RelayError: refused, unknown, or every attempt failed; nothing was released.

    Cancelled: whatever ran is aborted. The caller owns the answer returned.
    """
    if services.is_draining and progress.of is None:
        raise Draining("this relay is shutting down; connect again")
    if services.course is not None and progress.of is None:
        return await services.course.commit(
            services, generation_id, request, timeline, progress, surface=surface
        )
    route = await admit(services, generation_id, request, timeline, progress, surface=surface)
    if request.policy.cache == "only" and progress.of is None:
        raise CacheMiss("the relay keeps no answers")
    return await race(services, generation_id, route, timeline, progress)


async def admit(
    services: Services,
    generation_id: str,
    request: GenerateRequest,
    timeline: Timeline,
    progress: Progress,
    *,
    surface: str,
    prompt_tokens: int | None = None,
) -> Route:
    """Who asks may ask for it, and can pay; a leg is paid for by the generation it belongs to.

    Args:
        prompt_tokens: if they were estimated already.

    Returns:
        Where it may go; request and account are in `progress`.

    Raises:
        RelayError: it may not begin.
    """
    if prompt_tokens is None:
        prompt_tokens = estimate_prompt_tokens(request)
    asked = Asked(generation_id, request, services.catalog, surface, prompt_tokens)
    parent = progress.of
    if parent is None:
        request, route, entry = await services.ledger.admit(asked)
    else:
        request, route, entry = services.ledger.leg(asked, parent.entry)
    progress.request, progress.entry = request, entry
    progress.prompt_tokens = prompt_tokens
    timeline.close("admission")
    return route


async def race(
    services: Services,
    generation_id: str,
    route: Route,
    timeline: Timeline,
    progress: Progress,
) -> Attempt:
    """Race the targets of a route for the request that was admitted.

    Raises:
        RelayError: every attempt failed; nothing was released.

    Cancelled: whatever ran is aborted. The caller owns the attempt returned.
    """
    request, entry = progress.request, progress.entry
    if request is None or progress.prompt_tokens is None:
        raise LocalProtocolError("a request is admitted before it is raced")
    now_s = services.clock()
    progress.plan = plan = services.planner.plan(
        route,
        request,
        prompt_tokens=progress.prompt_tokens,
        elapsed_s=now_s - timeline.received_s,
    )
    if progress.is_wanted:
        plan.wanted()
    timeline.close("route")
    states = services.planner.states

    # A second try at the first target goes over another connection than the first.
    is_apart = any(hedge.step is not None and not hedge.step.is_planned for hedge in plan.hedges)
    used = UsedConnection() if is_apart else None

    policy = request.policy

    def start(step: PlannedAttempt, role: AttemptRole) -> Attempt:
        tells_trace = step.target.endpoint.tells_trace
        attempt = Attempt(
            step.target,
            request,
            plan.timeouts,
            transport=services.transport,
            reaper=services.reaper,
            clock=services.clock,
            received_s=timeline.received_s,
            state=states.of(step.target, now_s),
            role=role,
            estimated_prompt_tokens=plan.prompt_tokens,
            cached_tokens=plan.cached_tokens(step.target),
            output=plan.money.output,
            is_forced=plan.is_forced(step),
            used=used if step.is_planned and step is plan.attempts[0] else None,
            apart_from=None if step.is_planned else used,
            entry=entry,
            more_headers=trace_headers(
                services.trace_rule,
                generation_id,
                policy.traceparent,
                policy.tracestate,
                len(progress.records),
            )
            if tells_trace
            else (),
        )
        attempt.record.leg = progress.leg
        progress.records.append(attempt.record)
        progress.last = attempt.marks
        return attempt

    attempt = await run_race(
        plan.attempts, start, hedges=plan.hedges, gate=plan, reaper=services.reaper
    )
    plan.committed()
    timeline.adopt(attempt.marks)
    try:
        if entry is not None:
            await entry.durable()
    except BaseException:
        attempt.record.is_winner = False
        attempt.abort()
        raise
    return attempt
