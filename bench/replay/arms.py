"""Runs one arm: the relay over every request of a world.

What `relay/dispatch.py` and `relay/upkeep.py` put together is put together here with attempts that
only wait. Nothing of the relay is replaced: the planner, the race and its plan, the reaper and the
states of targets are those that serve. An answer is read to its end at the provider's token rate,
so slots are held and what is learnt comes when it would come.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from bench.replay.clock import SimulatedLoop
from bench.replay.world import CACHE_TTL_S, Price, World
from relay.config import TIMEOUT_CLASSES_MS, parse
from relay.content import GenerateRequest, HedgeWish, Message, Policy, Role, TextPart, Usage
from relay.errors import AllAttemptsFailed, ConnectError, FirstTokenTimeout, RelayError
from relay.outcome import AttemptOutcome, AttemptRecord, AttemptRole, GenerationEnd
from relay.planner import Planner
from relay.prices import LOSER_OUTPUT_TOKENS, UNSET_OUTPUT_TOKENS
from relay.race import run_race
from relay.race_plan import RacePlan
from relay.reaper import Reaper
from relay.routing.catalog import Catalog
from relay.routing.plan import PlannedAttempt
from relay.routing.route import Route, Timeouts
from relay.routing.target import Target
from relay.target_state import REFRESH_S, TargetStates, Ticket
from relay.upkeep import PROBE_GRACE_S

REFUSAL_S: Final = 0.15
"""How long a provider that cannot be connected to takes to say so: a round trip."""
LIMIT_S: Final = TIMEOUT_CLASSES_MS["default"]["first_token_ms"] / 1e3
ALIAS: Final = "voice"
FAILED: Final = -1


@dataclass(frozen=True, slots=True)
class Arm:
    """One way of asking."""

    name: str
    mode: str = "ordered"
    sort: str = "configured"
    hedge: str = "active"
    extra: float = 0.05
    extra_cost: float = 0.20
    race: int = 0
    """So many at once, whatever that costs; 0 for none."""
    sticky: bool = True
    delay_ms: int | None = None
    """Of the hedge; None: learned."""
    escalates: bool = False
    """A second attempt may ask the first's own model at its dearer tier."""


@dataclass(slots=True)
class Outcome:
    """What came of an arm, by request."""

    arm: str
    ttft_s: array[float]
    """Until the commit; infinite where every attempt failed."""
    winner: array[int]
    """Number of the provider, `FAILED` for none."""
    first: array[int]
    """Number of the provider that was asked first."""
    hedges: array[int]
    """Further attempts beside one that ran."""
    failovers: array[int]
    cost: array[float]
    """Of the answer."""
    alone_cost: array[float]
    """What it would have cost at the target that was asked first."""
    extra_cost: array[float]
    """Of what did not answer: prompt and 20 tokens, which is what a loser has written when its
    reset arrives."""
    extra_upper: array[float]
    """The same as if no provider stopped when told to."""
    escalations: array[int]
    """Of the hedges, those to a dearer tier."""
    share: array[float]
    """Of traffic that its breaker left the first-listed provider when the request came."""
    refused: dict[str, int] = field(default_factory=dict)
    """Hedges whose time had come and that were not sent, by reason."""
    probes: int = 0
    elapsed_s: float = 0.0


def empty(arm: str, requests: int) -> Outcome:
    """Nothing has come of it yet."""

    def zeros(kind: str) -> array[Any]:
        return array(kind, [0]) * requests

    return Outcome(
        arm,
        ttft_s=zeros("d"),
        winner=zeros("b"),
        first=zeros("b"),
        hedges=zeros("b"),
        failovers=zeros("b"),
        cost=zeros("d"),
        alone_cost=zeros("d"),
        extra_cost=zeros("d"),
        extra_upper=zeros("d"),
        escalations=zeros("b"),
        share=zeros("f"),
    )


def alone(world: World, provider: int) -> Outcome:
    """A client of this provider, without a relay. What the relay's limit for a first token would
    have ended counts as failed, and with the time it took."""
    row = world.spec.providers[provider]
    outcome = empty(f"alone {row.label(world.spec.providers)}", world.requests)
    caches = _Caches()
    for index in range(world.requests):
        session = world.session[index] if world.session else ""
        cached = caches.of(session, provider, world.arrival_s[index])
        ttft_s = world.ttft_s(provider, index, cached)
        outcome.first[index] = outcome.winner[index] = provider
        if ttft_s < 0 or ttft_s == math.inf:
            outcome.ttft_s[index], outcome.winner[index] = math.inf, FAILED
            continue
        outcome.ttft_s[index] = ttft_s
        if ttft_s > LIMIT_S:
            outcome.winner[index] = FAILED
        cost = cost_of(row.price, world.prompt[index], cached, world.output[index])
        outcome.cost[index] = outcome.alone_cost[index] = cost
        outcome.share[index] = 1.0
        caches.put(session, provider, world.prompt[index], world.arrival_s[index] + ttft_s)
    return outcome


def oracle(world: World, outcomes: Sequence[Outcome]) -> Outcome:
    """The least of every provider alone: who is asked by one that knows. Also a race of all."""
    outcome = empty("all at once", world.requests)
    for index in range(world.requests):
        best = min(outcomes, key=lambda each: each.ttft_s[index])
        outcome.ttft_s[index] = best.ttft_s[index]
        outcome.winner[index] = outcome.first[index] = best.winner[index]
        outcome.cost[index] = outcome.alone_cost[index] = best.cost[index]
        outcome.hedges[index] = len(outcomes) - 1
        others = sum(each.cost[index] for each in outcomes) - best.cost[index]
        outcome.extra_upper[index] = others
        outcome.extra_cost[index] = sum(
            cost_of(row.price, world.prompt[index], 0, LOSER_OUTPUT_TOKENS)
            for number, row in enumerate(world.spec.providers)
            if number != best.winner[index]
        )
    return outcome


def cost_of(price: Price, prompt: int, cached: int, output: int) -> float:
    """Micro-dollars."""
    cached = min(cached, prompt)
    return (prompt - cached) * price.input + cached * price.cached_input + output * price.output


class _Caches:
    """What providers hold of sessions' prompts."""

    def __init__(self) -> None:
        self._held: dict[tuple[str, int], tuple[int, float]] = {}

    def of(self, session: str, provider: int, now_s: float) -> int:
        if not session:
            return 0
        tokens, until_s = self._held.get((session, provider), (0, 0.0))
        return tokens if now_s < until_s else 0

    def put(self, session: str, provider: int, tokens: int, now_s: float) -> None:
        if session:
            self._held[session, provider] = (tokens, now_s + CACHE_TTL_S)


class _Attempt:
    """A `relay.race.Contender`: what `relay/attempt.py` tells of an attempt, without a provider."""

    __slots__ = (
        "_is_forced",
        "_is_over",
        "_is_second",
        "_limit_s",
        "_name",
        "_place",
        "_replay",
        "_state",
        "_ticket",
        "believed",
        "cached",
        "index",
        "number",
        "record",
    )

    def __init__(
        self, replay: Replay, index: int, plan: RacePlan, step: PlannedAttempt, role: AttemptRole
    ) -> None:
        target, now_s = step.target, replay.loop.time()
        self._replay = replay
        self._name = target.name
        self._state = replay.states.of(target, now_s)
        self._limit_s = plan.timeouts.first_token_s
        self._is_forced = plan.is_forced(step)
        self._is_second = not step.is_planned and not target.service_tier
        self._ticket: Ticket | None = None
        self._is_over = False
        self.index = index
        self.number = replay.numbers[target.name]
        self.believed = plan.cached_tokens(target)
        """Tokens of the prompt that the relay takes for cached."""
        self._place = replay.places[self.number]
        self.cached = replay.caches.of(replay.session(index), self._place, now_s)
        """And that are."""
        self.record = AttemptRecord(
            provider=target.endpoint.provider,
            model=target.model,
            started_us=round((now_s - replay.received_s(index)) * 1e6),
            role=role,
        )

    async def run_until_ready(self) -> None:
        replay, world = self._replay, self._replay.world
        now_s = replay.loop.time()
        try:
            self._ticket = self._state.admit(
                now_s,
                name=self._name,
                prompt_tokens=self._state.prompt_tokens(world.prompt[self.index]),
                cached_tokens=self.believed,
                forced=self._is_forced,
            )
        except RelayError as error:
            self._close(AttemptOutcome.FAILURE, error)
            raise
        ttft_s = world.ttft_s(self.number, self.index, self.cached, 1 if self._is_second else 0)
        failure: RelayError | None = None
        if ttft_s < 0:
            ttft_s, failure = REFUSAL_S, ConnectError(f"{self._name} cannot be connected to")
        elif ttft_s > self._limit_s:
            ttft_s, failure = self._limit_s, FirstTokenTimeout(f"{self._name} sent no content")
        try:
            await asyncio.sleep(ttft_s)
        except asyncio.CancelledError:
            self._close(AttemptOutcome.IGNORED)
            raise
        if failure is not None:
            self._close(AttemptOutcome.FAILURE, failure)
            raise failure
        self.record.phases_us["first_content"] = round(ttft_s * 1e6)
        now_s = replay.loop.time()
        self._ticket.ready(now_s)
        replay.caches.put(replay.session(self.index), self._place, world.prompt[self.index], now_s)

    def lose(self) -> bool:
        """No loser runs on here: what the relay would learn of it is left out."""
        self.record.is_loser = True
        self.abort()
        return False

    def overdue(self) -> None:
        if self._ticket is not None:
            self._ticket.overdue(self._replay.loop.time())

    def abort(self) -> None:
        self._close(AttemptOutcome.IGNORED)

    def finish(self) -> None:
        """The answer has been read to its end."""
        self._close(AttemptOutcome.SUCCESS)

    def _close(self, outcome: AttemptOutcome, error: RelayError | None = None) -> None:
        if self._is_over:
            return
        self._is_over = True
        replay, record, world = self._replay, self.record, self._replay.world
        now_s = replay.loop.time()
        record.outcome, record.error = outcome, error
        record.ended_us = round((now_s - replay.received_s(self.index)) * 1e6)
        if self._ticket is None:
            return
        prompt = world.prompt[self.index]
        row = replay.world.spec.providers[self.number]
        price, is_full = row.price, row.billing == "full"
        if outcome is AttemptOutcome.SUCCESS:
            record.cost = cost_of(price, prompt, self.cached, world.output[self.index])
            self._ticket.end(outcome, now_s, prompt_tokens=prompt, cached_tokens=self.cached)
            return
        self._ticket.end(outcome, now_s, error=error)
        if isinstance(error, ConnectError):
            record.cost = record.cost_upper = 0.0
            return
        expected = UNSET_OUTPUT_TOKENS if is_full else 0
        record.cost = cost_of(price, prompt, self.believed, expected)
        record.cost_upper = cost_of(price, prompt, self.believed, UNSET_OUTPUT_TOKENS)
        written = world.output[self.index] if is_full else LOSER_OUTPUT_TOKENS
        replay.outcome.extra_cost[self.index] += cost_of(price, prompt, self.cached, written)
        replay.outcome.extra_upper[self.index] += cost_of(
            price, prompt, self.cached, world.output[self.index]
        )


class Replay:
    """One arm over one world; `run` once."""

    def __init__(self, world: World, arm: Arm, seed: int = 1) -> None:
        self.world = world
        self.arm = arm
        self.loop = SimulatedLoop()
        self.outcome = empty(arm.name, world.requests)
        self.caches = _Caches()
        rng = random.Random(f"{seed}/relay")
        self.states = TargetStates(draw=rng.random)
        self.planner = Planner(self.states, self.loop.time, draw=rng.random)
        self.reaper = Reaper()
        self.route: Route = Catalog(parse(_document(world, arm))).routes[ALIAS]
        rows = world.spec.providers
        self.numbers = {row.name: n for n, row in enumerate(rows)}
        self.places = [next(n for n, one in enumerate(rows) if one.place == r.place) for r in rows]
        self._start_s = self.loop.time()
        self._requests: dict[str, GenerateRequest] = {}
        self._left = world.requests
        self._latest = 0
        self._all_over: asyncio.Future[None] = self.loop.create_future()

    def run(self) -> Outcome:
        """Every request, to its end."""
        began_s = time.perf_counter()
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.call_at(self.received_s(0), self._arrives, 0)
            upkeep = self.loop.create_task(self._upkeep())
            self.loop.run_until_complete(self._all_over)
            upkeep.cancel()
            self.loop.run_until_complete(self._settled(upkeep))
        finally:
            asyncio.set_event_loop(None)
            self.loop.close()
        self.outcome.elapsed_s = time.perf_counter() - began_s
        return self.outcome

    async def _settled(self, upkeep: asyncio.Task[None]) -> None:
        await asyncio.wait([upkeep])
        await self.reaper.aclose()

    def received_s(self, index: int) -> float:
        """When the request arrives."""
        return self._start_s + self.world.arrival_s[index]

    def session(self, index: int) -> str:
        """Whose turn it is, empty for nobody's."""
        return self.world.session[index] if self.world.session else ""

    # --- one request ------------------------------------------------------------------------

    def _arrives(self, index: int) -> None:
        self._latest = index
        if index + 1 < self.world.requests:
            self.loop.call_at(self.received_s(index + 1), self._arrives, index + 1)
        self.loop.create_task(self._serve(index))

    async def _serve(self, index: int) -> None:
        loop, outcome, world = self.loop, self.outcome, self.world
        now_s = loop.time()
        plan = self.planner.plan(
            self.route, self._request(index), prompt_tokens=world.prompt[index], elapsed_s=0.0
        )
        outcome.first[index] = self.numbers[plan.attempts[0].target.name]
        listed_first = self.states.of(self.route.candidates[0], now_s)
        outcome.share[index] = listed_first.breaker.share(now_s)
        attempts: list[_Attempt] = []

        def start(step: PlannedAttempt, role: AttemptRole) -> _Attempt:
            attempt = _Attempt(self, index, plan, step, role)
            attempts.append(attempt)
            return attempt

        try:
            winner = await run_race(
                plan.attempts, start, hedges=plan.hedges, gate=plan, reaper=self.reaper
            )
        except AllAttemptsFailed as error:
            outcome.ttft_s[index], outcome.winner[index] = math.inf, FAILED
            self._ended(index, plan, attempts, None, error)
            return
        plan.committed()
        outcome.ttft_s[index] = loop.time() - now_s
        outcome.winner[index] = winner.number
        rate = world.spec.providers[winner.number].tokens_per_s
        loop.call_later(
            world.output[index] / rate, self._ended, index, plan, attempts, winner, None
        )

    def _ended(
        self,
        index: int,
        plan: RacePlan,
        attempts: Sequence[_Attempt],
        winner: _Attempt | None,
        error: RelayError | None,
    ) -> None:
        """The answer has been read, or there is none."""
        outcome, world = self.outcome, self.world
        usage = None
        if winner is not None:
            winner.finish()
            outcome.cost[index] = winner.record.cost or 0.0
            # A failover is no hedge: it would have been made without any.
            has_failed = attempts[0].record.outcome is AttemptOutcome.FAILURE
            asked = winner if has_failed else attempts[0]
            outcome.alone_cost[index] = cost_of(
                world.spec.providers[asked.number].price,
                world.prompt[index],
                asked.cached,
                world.output[index],
            )
            usage = Usage(
                prompt_tokens=world.prompt[index],
                completion_tokens=world.output[index],
                total_tokens=world.prompt[index] + world.output[index],
                cached_tokens=winner.cached,
            )
        outcome.escalations[index] = sum(
            bool(world.spec.providers[each.number].tier)
            for each in attempts
            if each.record.role is AttemptRole.HEDGE
        )
        roles = [attempt.record.role for attempt in attempts]
        outcome.hedges[index] = roles.count(AttemptRole.HEDGE)
        outcome.failovers[index] = roles.count(AttemptRole.FAILOVER)
        if refused := plan.hedge.refused:
            outcome.refused[refused] = outcome.refused.get(refused, 0) + 1
        plan.ended(
            GenerationEnd(
                error=error,
                finish_reasons={},
                raw_finish_reasons={},
                usage=usage,
                is_usage_final=True,
                attempts=tuple(attempt.record for attempt in attempts),
                phases_us={},
                stall_count=0,
                longest_gap_us=0,
                provider=winner.record.provider if winner else "",
                model=winner.record.model if winner else "",
                response_id="",
                has_output=winner is not None,
                hedge=plan.hedge,
            )
        )
        self._left -= 1
        if self._left == 0:
            self._all_over.set_result(None)

    def _request(self, index: int) -> GenerateRequest:
        session = self.session(index)
        request = self._requests.get(session)
        if request is None:
            if len(self._requests) > 1000:
                self._requests.clear()
            wish = HedgeWish(mode="race") if self.arm.race else HedgeWish()
            request = self._requests[session] = GenerateRequest(
                model=ALIAS,
                messages=(Message(Role.USER, (TextPart("Hello"),)),),
                policy=Policy(session_id=session, hedge=wish),
            )
        return request

    # --- what `relay/upkeep.py` does --------------------------------------------------------

    async def _upkeep(self) -> None:
        while True:
            await asyncio.sleep(REFRESH_S)
            now_s = self.loop.time()
            for _, state in list(self.states.items()):
                if state.has_news:
                    state.refresh(now_s)
            self.planner.refresh_pair(self.route, now_s)
            for target in (*self.route.candidates, *self.route.escalated.values()):
                breaker = self.states.of(target, now_s).breaker
                due_s = breaker.retry_at_s
                if (
                    due_s is not None
                    and now_s >= due_s + PROBE_GRACE_S
                    and breaker.wants_probe(now_s)
                ):
                    self.reaper.take(self._probe(target, self.route))

    async def _probe(self, target: Target, route: Route) -> None:
        """Ask it one token."""
        state = self.states.of(target, self.loop.time())
        number = self.numbers[target.name]
        limits: Timeouts = route.timeouts_for(self._request(self._latest))
        self.outcome.probes += 1
        try:
            ticket = state.admit(self.loop.time(), name=target.name, prompt_tokens=10)
        except RelayError:
            return
        ttft_s = self.world.ttft_s(number, self._latest, 0, attempt=1)
        if 0 <= ttft_s <= limits.first_token_s:
            await asyncio.sleep(ttft_s)
            ticket.ready(self.loop.time())
            ticket.end(AttemptOutcome.SUCCESS, self.loop.time(), prompt_tokens=10)
        else:
            await asyncio.sleep(REFUSAL_S if ttft_s < 0 else limits.first_token_s)
            error = ConnectError(f"{target.name} did not answer")
            ticket.end(AttemptOutcome.FAILURE, self.loop.time(), error=error)


def _document(world: World, arm: Arm) -> dict[str, Any]:
    """The configuration of an arm."""
    providers: dict[str, Any] = {}
    for row in world.spec.providers:
        provider = providers.setdefault(
            row.row,
            {
                "wire": "openai_chat",
                "base_url": f"https://{row.row}.test/v1",
                "auth": "none",
                "cancel_billing": row.billing,
                "prices": {},
                "service_tiers": [],
                "same_as": {},
            },
        )
        if row.tier:  # after its candidate
            provider["service_tiers"].append(row.tier)
            provider["prices"][row.model]["tiers"] = {row.tier: row.price._asdict()}
            continue
        provider["prices"][row.model] = row.price._asdict()
        if row.same:
            provider["same_as"][row.model] = row.same
    return {
        "providers": providers,
        "models": {
            ALIAS: {
                "candidates": [
                    {"provider": row.row, "model": row.model}
                    for row in world.spec.providers
                    if not row.tier
                ],
                "hedge": {
                    "mode": arm.hedge,
                    "delay": "auto" if arm.delay_ms is None else arm.delay_ms,
                    "max_attempts": max(2, arm.race),
                    "max_extra_requests": 1.0 if arm.race else arm.extra,
                    "max_extra_cost": 10.0 if arm.race else arm.extra_cost,
                    "escalate": {"tier": "priority" if arm.escalates else None},
                },
                "choose": {"mode": arm.mode, "sort": arm.sort, "sticky": arm.sticky},
            }
        },
    }
