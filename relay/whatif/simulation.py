"""The real planner, race and state machines, over recorded requests in their order.

Requests arrive when they were received. What each attempt meets comes from `Draws`; everything else
(who is asked, when a second attempt starts, what is refused, what is learnt on the way) is decided
by the code that serves, on a simulated clock. It begins with nothing learnt, as a new worker does.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Sequence
from typing import NamedTuple

from relay.attempt import LEARN_FROM_1_IN
from relay.content import Budgets, GenerateRequest, HedgeWish, Policy, Sampling, Usage
from relay.errors import (
    AttemptTimeout,
    ConnectError,
    DeadlineExceeded,
    FirstTokenTimeout,
    Reason,
    RelayError,
    UnknownModel,
    UpstreamStatus,
)
from relay.outcome import (
    AttemptOutcome,
    AttemptRecord,
    AttemptRole,
    GenerationEnd,
    HedgeRecord,
)
from relay.planner import Planner
from relay.prices import LOSER_OUTPUT_TOKENS, NO_COST
from relay.race import run_race
from relay.race_plan import RacePlan
from relay.reaper import Reaper
from relay.routing.catalog import Catalog
from relay.routing.plan import PlannedAttempt
from relay.routing.route import Route
from relay.routing.target import Target
from relay.target_state import REFRESH_S, TargetState, TargetStates, Ticket
from relay.whatif import clock
from relay.whatif.draws import Draws, Met, TooFewSamples
from relay.whatif.recorded import Recorded

_COSTS_NOTHING = (UpstreamStatus, ConnectError)
_UNSENT = frozenset(
    {
        Reason.UPSTREAM_UNREACHABLE.name,
        Reason.UPSTREAM_TLS.name,
        Reason.CONNECT_TIMEOUT.name,
        Reason.UPSTREAM_REFUSED_STREAM.name,
    }
)


class Replayed(NamedTuple):
    """What became of one request under the policy."""

    recorded: Recorded
    winner: str
    """Target that answered; empty for none."""
    ttft_s: float | None
    """From receipt to the first content; None without an answer."""
    speakable_s: float | None
    """When there was enough to speak."""
    attempts: tuple[AttemptRecord, ...]
    hedge: HedgeRecord
    is_left: bool
    """The client went before there was an answer."""

    @property
    def hedges(self) -> int:
        """Second attempts that were sent."""
        return sum(record.role is AttemptRole.HEDGE for record in self.attempts)

    @property
    def failovers(self) -> int:
        """Attempts in place of failed ones."""
        return sum(record.role is AttemptRole.FAILOVER for record in self.attempts)


class SimulatedAttempt:
    """One attempt that meets what was drawn for it; a `relay.race.Contender`."""

    def __init__(
        self,
        target: Target,
        met: Met,
        plan: RacePlan,
        state: TargetState,
        recorded: Recorded,
        *,
        role: AttemptRole,
        is_forced: bool,
        received_s: float,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.target = target
        self._met = met
        self._plan = plan
        self._state = state
        self._recorded = recorded
        self._is_forced = is_forced
        self._received_s = received_s
        self._loop = loop
        self._started_s = loop.time()
        self._ticket: Ticket | None = None
        self._is_over = False
        self._runs_on = False
        believed = plan.cached_tokens(target)
        self._cached_tokens = believed if met.cached_tokens is None else met.cached_tokens
        self.record = AttemptRecord(
            provider=target.endpoint.provider,
            model=target.model,
            started_us=round((self._started_s - received_s) * 1e6),
            role=role,
            cached_tokens=self._cached_tokens,
        )

    async def run_until_ready(self) -> None:
        """See `relay.race.Contender`."""
        state, met, timeouts = self._state, self._met, self._plan.timeouts
        limit_s = min(timeouts.first_token_s, timeouts.total_s)
        try:
            self._ticket = state.admit(
                self._started_s,
                name=self.target.name,
                prompt_tokens=state.prompt_tokens(self._recorded.prompt_estimate),
                cached_tokens=self._plan.cached_tokens(self.target),
                forced=self._is_forced,
            )
            await asyncio.sleep(min(met.after_s, limit_s))
            if met.after_s > limit_s:
                raise _too_late(self.target, timeouts.total_s <= timeouts.first_token_s)
            if met.is_failure:
                raise _failure(met)
        except asyncio.CancelledError:
            self.abort()
            raise
        except RelayError as error:
            is_overload = met.is_failure and met.outcome == AttemptOutcome.OVERLOAD.value
            self._close(AttemptOutcome.OVERLOAD if is_overload else AttemptOutcome.FAILURE, error)
            raise
        self.record.phases_us["first_content"] = round(met.after_s * 1e6)
        self._ticket.ready(self._loop.time())
        if self._runs_on:
            is_probe = self._ticket.is_probe
            self._close(AttemptOutcome.SUCCESS if is_probe else AttemptOutcome.IGNORED, None)

    def lose(self) -> bool:
        """See `relay.race.Contender`; who runs on is as in `relay.attempt`."""
        record, ticket = self.record, self._ticket
        has_lost, record.is_loser = record.is_loser, True
        if self._is_over or has_lost:
            return False
        if (
            ticket is not None
            and "first_content" not in record.phases_us
            and (
                ticket.is_probe
                or self.target.endpoint.cancel_billing == "full"
                or self._state.is_loser_to_learn_from(LEARN_FROM_1_IN)
            )
        ):
            self._runs_on = True
            self._estimate_cost(AttemptOutcome.IGNORED, None)
            record.ended_us = round((self._loop.time() - self._received_s) * 1e6)
            return True
        self.abort()
        return False

    def overdue(self) -> None:
        """See `relay.race.Contender`."""
        if self._ticket is not None:
            self._ticket.overdue(self._loop.time())

    def abort(self) -> None:
        """See `relay.race.Contender`."""
        if not self._is_over:
            self._close(AttemptOutcome.IGNORED, None)

    def finish(self) -> None:
        """The answer is over; whoever got the winner calls this once."""
        recorded, state, price = self._recorded, self._state, self.target.price
        if price is not None:
            cost = price.of(recorded.prompt_tokens, self._cached_tokens, recorded.completion_tokens)
            self.record.cost = self.record.cost_upper = cost
        state.headroom.spend(recorded.prompt_tokens + recorded.completion_tokens, self._loop.time())
        state.calibrate(recorded.prompt_estimate, recorded.prompt_tokens)
        self._close(AttemptOutcome(self._met.outcome), None)

    def _close(self, outcome: AttemptOutcome, error: RelayError | None) -> None:
        self._is_over = True
        now_s, record, recorded = self._loop.time(), self.record, self._recorded
        record.outcome, record.error = outcome, error
        record.ended_us = round((now_s - self._received_s) * 1e6)
        if record.cost is None or record.is_loser:
            self._estimate_cost(outcome, error)
        if self._ticket is not None:
            is_success = outcome is AttemptOutcome.SUCCESS
            self._ticket.end(
                outcome,
                now_s,
                error=error,
                prompt_tokens=recorded.prompt_tokens if is_success else None,
                cached_tokens=self._cached_tokens if is_success else None,
            )

    def _estimate_cost(self, outcome: AttemptOutcome, error: RelayError | None) -> None:
        """As of a real attempt of which the provider gave no account; see `relay.attempt`."""
        record, price = self.record, self.target.price
        if price is None:
            return
        if self._ticket is None or (
            outcome is not AttemptOutcome.IGNORED and isinstance(error, _COSTS_NOTHING)
        ):
            cost = NO_COST
        else:
            cost = price.of_left(
                self._state.prompt_tokens(self._recorded.prompt_estimate),
                self._cached_tokens,
                self._plan.money.output,
                seen_tokens=LOSER_OUTPUT_TOKENS if "first_content" in record.phases_us else 0,
                stops_billing=self.target.endpoint.stops_billing,
            )
        record.cost, record.cost_upper = cost


def _too_late(target: Target, is_total: bool) -> RelayError:
    kind = AttemptTimeout if is_total else FirstTokenTimeout
    return kind(f"{target.name} sent no content in time")


def _failure(met: Met) -> RelayError:
    """The failure again; of a reused connection that broke, the free retry is in its time. Whether
    the provider said when to come back is not in the log."""
    if met.reason in _UNSENT:
        return ConnectError("as recorded")
    reason = Reason[met.reason] if met.reason in Reason.__members__ else Reason.UPSTREAM_FAILED
    if reason is Reason.FIRST_TOKEN_TIMEOUT:
        return FirstTokenTimeout("as recorded")
    return UpstreamStatus("as recorded", reason=reason, http_status=met.http_status or 500)


def simulate(
    catalog: Catalog, requests: Sequence[Recorded], draws: Draws, *, seed: int = 0
) -> list[Replayed]:
    """Replay requests, in the order given, under a policy.

    Requests for names that the policy does not know are left out.

    Raises:
        TooFewSamples: the policy asks a target that the log does not know well enough.
    """

    async def replay() -> list[Replayed]:
        return await _Simulation(catalog, requests, draws, seed).run()

    return clock.run(replay())


class _Simulation:
    """One replay; bound to the simulated loop that runs it."""

    def __init__(
        self, catalog: Catalog, requests: Sequence[Recorded], draws: Draws, seed: int
    ) -> None:
        self._catalog = catalog
        self._requests = requests
        self._draws = draws
        self._seed = seed
        self._loop = loop = asyncio.get_running_loop()
        rng = random.Random(seed)  # noqa: S311 - not a secret
        self._planner = Planner(TargetStates(draw=rng.random), loop.time, draw=rng.random)
        self._reaper = Reaper()
        # When a worker works its figures out is chance, so it is another one in each replay.
        self._refresh_s = loop.time() + rng.random() * REFRESH_S
        self._found: list[Replayed | None] = [None] * len(requests)
        self._fault: TooFewSamples | None = None

    async def run(self) -> list[Replayed]:
        """See `simulate`."""
        loop = self._loop
        running: set[asyncio.Task[None]] = set()
        begin_s = self._requests[0].received_s if self._requests else 0.0
        for index, recorded in enumerate(self._requests):
            try:
                route = self._catalog.resolve(recorded.asked)
            except UnknownModel:
                continue
            wait_s = recorded.received_s - begin_s - (loop.time() - clock.START_S)
            if wait_s > 0:
                await asyncio.sleep(wait_s)
            if loop.time() >= self._refresh_s:
                turns = math.floor((loop.time() - self._refresh_s) / REFRESH_S) + 1
                self._refresh_s += turns * REFRESH_S
                self._refresh(loop.time())
            if self._fault is not None:
                break
            task = loop.create_task(self._handle(index, recorded, route))
            running.add(task)
            task.add_done_callback(running.discard)
        while running:
            await asyncio.wait(running)
        await self._reaper.aclose(grace_s=600.0)  # losers that run on; the time is not ours
        if self._fault is not None:
            raise self._fault
        return [one for one in self._found if one is not None]

    def _refresh(self, now_s: float) -> None:
        """What upkeep does beside the requests."""
        for _, state in list(self._planner.states.items()):
            if state.has_news:
                state.refresh(now_s)
        for route in self._catalog.routes.values():
            self._planner.refresh_pair(route, now_s)

    async def _handle(self, index: int, recorded: Recorded, route: Route) -> None:
        try:
            self._found[index] = await self._play(index, recorded, route)
        except TooFewSamples as fault:
            self._fault = fault

    async def _play(self, index: int, recorded: Recorded, route: Route) -> Replayed:
        loop = self._loop
        received_s = loop.time()
        request = _request(recorded)
        await asyncio.sleep(recorded.before_race_s)
        try:
            plan = self._planner.plan(
                route,
                request,
                prompt_tokens=recorded.prompt_estimate,
                elapsed_s=loop.time() - received_s,
            )
        except DeadlineExceeded:
            hedge = HedgeRecord("too_late")
            return Replayed(recorded, "", None, None, (), hedge, is_left=recorded.is_left)
        if recorded.committed_s is not None:
            loop.call_at(received_s + recorded.committed_s, plan.wanted)
        attempts: list[SimulatedAttempt] = []

        def start(step: PlannedAttempt, role: AttemptRole) -> SimulatedAttempt:
            target = step.target
            cached = plan.cached_tokens(target)
            nth = sum(one.target is target for one in attempts)
            met = self._draws.meet(target.name, index, recorded, cached, self._seed, nth)
            attempts.append(
                SimulatedAttempt(
                    target,
                    met,
                    plan,
                    self._planner.states.of(target, loop.time()),
                    recorded,
                    role=role,
                    is_forced=plan.is_forced(step),
                    received_s=received_s,
                    loop=loop,
                )
            )
            return attempts[-1]

        patience_s = [limit for limit in (recorded.first_token_s,) if limit is not None]
        if recorded.is_left:
            patience_s.append(recorded.wall_s)
        winner: SimulatedAttempt | None = None
        error: RelayError | None = None
        try:
            async with asyncio.timeout_at(received_s + min(patience_s) if patience_s else None):
                winner = await run_race(
                    plan.attempts, start, hedges=plan.hedges, gate=plan, reaper=self._reaper
                )
        except TimeoutError:
            error = DeadlineExceeded("as recorded")
        except RelayError as failed:
            error = failed
        ttft_s = speakable_s = None
        if winner is not None:
            first_us = winner.record.started_us + sum(winner.record.phases_us.values())
            ttft_s = first_us / 1e6
            gap_s = self._draws.gap_s(winner.target.name, recorded)
            speakable_s = recorded.speakable_s(ttft_s, gap_s)
            await asyncio.sleep(recorded.stream_s)
            winner.finish()
        plan.ended(_end(recorded, attempts, winner, plan, error))
        return Replayed(
            recorded,
            winner.target.name if winner is not None else "",
            ttft_s,
            speakable_s,
            tuple(attempt.record for attempt in attempts),
            plan.hedge,
            is_left=winner is None and recorded.is_left,
        )


def _request(recorded: Recorded) -> GenerateRequest:
    return GenerateRequest(
        model=recorded.asked,
        messages=(),
        sampling=Sampling(max_output_tokens=recorded.max_output_tokens),
        policy=Policy(
            budgets=Budgets(first_token_s=recorded.first_token_s),
            hedge=HedgeWish(recorded.hedge, recorded.delay_s, recorded.max_attempts),
            speculative=recorded.is_speculative,
            session_id=recorded.session,
            tenant=recorded.tenant,
            commit_on=recorded.commit_on,
        ),
    )


def _end(
    recorded: Recorded,
    attempts: Sequence[SimulatedAttempt],
    winner: SimulatedAttempt | None,
    plan: RacePlan,
    error: RelayError | None,
) -> GenerationEnd:
    usage = None
    if winner is not None:
        usage = Usage(
            prompt_tokens=recorded.prompt_tokens,
            completion_tokens=recorded.completion_tokens,
            total_tokens=recorded.prompt_tokens + recorded.completion_tokens,
        )
    return GenerationEnd(
        error=error,
        finish_reasons={},
        raw_finish_reasons={},
        usage=usage,
        is_usage_final=usage is not None,
        attempts=tuple(attempt.record for attempt in attempts),
        phases_us={},
        stall_count=0,
        longest_gap_us=0,
        provider=winner.record.provider if winner is not None else "",
        model=winner.record.model if winner is not None else "",
        response_id="",
        has_output=winner is not None,
        hedge=plan.hedge,
    )
