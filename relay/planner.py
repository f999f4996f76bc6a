"""Makes the plan of one request: ranks the targets, and decides when a second attempt would start.

Routing ranks from plain values, the policies in `relay/resilience/` say when and how much; here
they are brought together with the state of the worker's targets and of each alias.
"""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple

from relay.content import GenerateRequest, Policy
from relay.deadline import Clock
from relay.errors import DeadlineExceeded, Reason
from relay.outcome import HedgeRecord
from relay.prices import LOSER_OUTPUT_TOKENS, USUAL_TIERS, OutputTokens
from relay.race import TimedStart
from relay.race_plan import AliasState, RacePlan, Shared, has_room
from relay.resilience.common_mode import CommonMode, CommonModeSettings
from relay.resilience.hedge_budget import HedgeBudget
from relay.resilience.hedge_policy import (
    AIM,
    HedgeReason,
    HedgeTiming,
    aim,
    late_after_s,
    time_hedge,
    view,
)
from relay.routing.choose import (
    Mode,
    Sort,
    Survival,
    TargetStats,
    best_pair,
    hedged_quantile_s,
    pick_second,
    rank,
)
from relay.routing.keep_warm import is_worth_keeping
from relay.routing.plan import PlannedAttempt
from relay.routing.route import Route
from relay.routing.same_models import are_same
from relay.routing.sticky import StickySessions, Warm, session_of
from relay.routing.target import Target
from relay.target_state import TargetState, TargetStates

HOPELESS_SHARE: Final = 0.01
"""A first-token budget that only so many first tokens have ever met is refused at once."""
SPECULATIVE_S: Final = 0.05
"""Until a hedge whose time came before the commit is asked for again."""
AGAIN_S: Final = 0.25
"""At least, until a hedge that could not be paid is asked for again."""
SHOWN_TENANTS: Final = 20
"""Of an alias, in its description: those who asked last."""
MAX_DIRECT: Final = 4096
MAX_PAIRS: Final = 256
MAX_ALIAS_PAIRS: Final = 16
"""Sets of candidates of one alias for which `tail` works out a pair."""
WARM_SHARE: Final = 0.95
"""Percentile of the first at which a hedge is reckoned to start when a second place for a session's
prefix is chosen."""


_MODES: Final = {mode.value: mode for mode in Mode}
_SORTS: Final = {sort.value: sort for sort in Sort}


class _Rated(NamedTuple):
    """A candidate with what is known of it for one request."""

    target: Target
    state: TargetState
    scale: float
    stats: TargetStats
    loser_cost: float
    """See `HedgeMoney.hedge`."""


class Planner:
    """Makes the plans of one worker; outlives reloads."""

    def __init__(
        self,
        states: TargetStates,
        clock: Clock,
        *,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self.states = states
        self.clock = clock
        self.sticky = StickySessions()
        self._shared = Shared(states, clock, CommonMode(CommonModeSettings()), self.sticky)
        self._draw = draw
        self._aliases: dict[str, AliasState] = {}
        self._direct: OrderedDict[str, AliasState] = OrderedDict()

    def alias(self, name: str) -> AliasState:
        """The state of an alias, made when first asked for."""
        state = self._aliases.get(name)
        if state is None:
            state = self._aliases[name] = AliasState()
        return state

    def _state_of(self, route: Route) -> AliasState:
        """Of aliases without bound, the operator wrote them. Of other names, which come from
        callers, so many and no more: the one used longest ago is forgotten."""
        if route.is_alias:
            return self.alias(route.alias)
        direct = self._direct
        state = direct.get(route.alias)
        if state is None:
            state = direct[route.alias] = AliasState()
            if len(direct) > MAX_DIRECT:
                direct.popitem(last=False)
        else:
            direct.move_to_end(route.alias)
        return state

    def describe(self, names: Iterable[str]) -> dict[str, Any]:
        """What hedging did for these aliases, and what it could pay for now: for people."""
        now_s = self.clock()
        shown: dict[str, Any] = {}
        for name in names:
            alias = self._aliases.get(name)
            if alias is None:
                continue
            budget = alias.budgets.operator
            shown[name] = {
                **alias.counters.to_dict(),
                **_credit(budget),
                "throttled": not alias.throttle.admits,
                "tenants": {
                    tenant or "(no bearer)": {
                        "requests": paid.requests,
                        "hedges": paid.hedges,
                        **_credit(paid),
                    }
                    for tenant, paid in alias.budgets.latest(SHOWN_TENANTS).items()
                },
            }
        return {"aliases": shown, "common_mode": self._shared.common_mode.describe(now_s)}

    def connected(self, provider: str, took_s: float) -> None:
        """A connection to a provider was made, or given up; see `CommonMode.connected`."""
        self._shared.common_mode.connected(provider, took_s, self.clock())

    def refresh_pair(self, route: Route, now_s: float) -> None:
        """Work out who should be first and second in `tail` mode; every `REFRESH_S`. For all
        candidates, and for those that are left in the zones of keys."""
        if route.choose.mode != "tail":
            return
        alias = self._state_of(route)
        for each in (route, *route.narrower[-MAX_ALIAS_PAIRS:]):
            self._refresh_pair(alias, each, now_s)
        while len(alias.pairs) > MAX_ALIAS_PAIRS:  # of before a reload
            del alias.pairs[next(iter(alias.pairs))]

    def _refresh_pair(self, alias: AliasState, route: Route, now_s: float) -> None:
        known = {
            index: survival
            for index, target in enumerate(route.candidates)
            if (survival := self.states.of(target, now_s).survival) is not None
        }
        names = tuple(target.name for target in route.candidates)
        kept = alias.pairs.pop(names, None)
        if not known:
            return
        indices = list(known)
        pair = best_pair(
            list(known.values()),
            trigger_share=1.0 - AIM * route.hedge.max_extra_requests,
            kept=indices.index(kept.first) if kept is not None and kept.first in known else None,
        )
        second = None if pair.second is None else indices[pair.second]
        alias.pairs[names] = pair._replace(first=indices[pair.first], second=second)

    def first(self, route: Route) -> Target:
        """Who a request that comes next would most likely be asked of, by the order of the alias;
        decides and counts nothing."""
        now_s = self.clock()
        targets = (*route.candidates, *route.fallbacks)
        return min(targets, key=lambda target: self.states.of(target, now_s).wait_s(now_s))

    def plan(
        self, route: Route, request: GenerateRequest, *, prompt_tokens: int, elapsed_s: float
    ) -> RacePlan:
        """The plan of one request.

        Args:
            prompt_tokens: estimated from bytes.
            elapsed_s: since the request was received.

        Raises:
            DeadlineExceeded: its time limit for the first token cannot be met by anybody.
        """
        now_s = self.clock()
        policy, choose = request.policy, route.choose
        alias = self._state_of(route)
        alias.budgets.limit(
            route.hedge.max_extra_requests,
            route.hedge.max_extra_cost,
            route.hedge.tenant_max_extra_requests,
            route.hedge.tenant_max_extra_cost,
        )
        session = session_of(policy) if choose.sticky else None
        warm = self.sticky.of(session, now_s) if session else None
        output = alias.output(request)
        rated = [
            self._rate(target, prompt_tokens, output, warm, now_s) for target in route.candidates
        ]
        is_ordered = choose.mode == "ordered"
        names = () if is_ordered else [row.target.name for row in rated]
        ranking = rank(
            [row.stats for row in rated],
            mode=_MODES[choose.mode],
            sort=_SORTS[choose.sort],
            last_first=names.index(alias.last_first) if alias.last_first in names else None,
            tail_first=None if is_ordered else _tail_first(alias, names),
            draw=self._draw,
        )
        ordered = [rated[index] for index in ranking.order]
        probe = self._probe(ordered, route, policy, alias, now_s)
        if probe is not None:
            ordered.remove(probe)
            ordered.insert(0, probe)
        else:
            alias.last_first = ordered[0].target.name
        fallbacks = route.fallbacks and sorted(
            route.fallbacks, key=lambda target: self.states.of(target, now_s).wait_s(now_s)
        )
        plan = RacePlan(
            self._shared,
            alias,
            request,
            self._steps(ordered, fallbacks, now_s),
            route.timeouts_for(request),
            prompt_tokens=prompt_tokens,
            output=output,
            is_last_resort=ranking.is_last_resort
            and all(self.states.of(target, now_s).wait_s(now_s) > 0 for target in fallbacks),
            is_tentative=probe is not None or ranking.is_explored,
            warm=warm,
        )
        try:
            left_s = self._first_token_left_s(request, ordered, elapsed_s)
            at_once: HedgeReason | None = None
            if probe is not None:
                at_once = HedgeReason.PROBE
            elif ordered[0].state.breaker.wants_trial(now_s):
                at_once = HedgeReason.SUSPECT
            self._hedge(plan, route, ordered, alias, left_s, at_once, warm)
        except BaseException:
            plan.withdrawn()
            raise
        return plan

    def estimate(self, route: Route, request: GenerateRequest, prompt_tokens: int) -> float | None:
        """Micro-dollars that an answer of the usual length costs at the first candidate, estimated;
        None where it has no price. Decides nothing."""
        target, now_s = route.candidates[0], self.clock()
        if target.price is None:
            return None
        prompt = self.states.of(target, now_s).prompt_tokens(prompt_tokens)
        return target.price.of(prompt, 0, self._state_of(route).output(request).expected)

    def _rate(
        self,
        target: Target,
        prompt_tokens: int,
        output: OutputTokens,
        warm: Warm | None,
        now_s: float,
    ) -> _Rated:
        state = self.states.of(target, now_s)
        is_warm = warm is not None and warm.target == target.place
        cached = 0 if warm is None else warm.tokens_at(target)
        prompt = state.prompt_tokens(prompt_tokens)
        scale = state.latency.scale(prompt, cached)
        price, p50_s = target.price, state.p50_s
        cost, loser_cost = None, 0.0
        if price is not None:
            cost = loser_cost = price.of(prompt, cached, output.expected)
            if target.endpoint.stops_billing:
                seen = min(LOSER_OUTPUT_TOKENS, output.expected)
                loser_cost = price.of(prompt, cached, seen)
        stats = TargetStats(
            state.wait_s(now_s),
            state.breaker.share(now_s),
            p50_s * scale,
            state.level.level_s(p50_s, now_s) * scale,
            state.limiter.utilisation,
            cost,
            is_warm,
            state.is_learned,
        )
        return _Rated(target, state, scale, stats, loser_cost)

    def _steps(
        self, ordered: Sequence[_Rated], fallbacks: Sequence[Target], now_s: float
    ) -> tuple[PlannedAttempt, ...]:
        """Who is asked one after another: candidates, then fallbacks; but a candidate that said
        when to come back is until then behind the fallbacks that may be asked. (One with an open
        breaker is never asked, so that it costs no time to stay in front; one that refused without
        a word of time may have room again for the next.)

        Args:
            fallbacks: those that may be asked first.
        """
        steps = [PlannedAttempt(row.target, False) for row in ordered]
        rest = [PlannedAttempt(target, True) for target in fallbacks]
        able = [step for step in rest if self.states.of(step.target, now_s).wait_s(now_s) <= 0]
        if able:
            held = [
                step
                for step, row in zip(steps, ordered, strict=True)
                if not row.state.push_back.admits(now_s)
            ]
            steps = [step for step in steps if step not in held]
            rest = [*able, *held, *rest[len(able) :]]
        return (*steps, *rest)

    def _probe(
        self,
        ordered: Sequence[_Rated],
        route: Route,
        policy: Policy,
        alias: AliasState,
        now_s: float,
    ) -> _Rated | None:
        """An ejected target that this request tries again, another standing by at once. None where
        nobody could stand by: upkeep asks it one token then."""
        wish = policy.hedge
        if (
            route.hedge.mode != "active"
            or len(ordered) < 2
            or policy.speculative
            or wish.mode == "off"
            or min(route.hedge.max_attempts, wish.max_attempts or 2) < 2
        ):
            return None
        for row in ordered:
            if row.stats.share >= 1.0:
                continue
            if row.state.breaker.wants_probe(now_s) and row.state.sending_wait_s(now_s) <= 0:
                others = [o for o in ordered if o is not row and o.stats.wait_s <= 0]
                cost = max((o.loser_cost for o in others), default=0.0)
                is_paid = not alias.budgets.refuses(policy.tenant, cost)
                return row if others and is_paid else None
        return None

    @staticmethod
    def _first_token_left_s(
        request: GenerateRequest, ordered: Sequence[_Rated], elapsed_s: float
    ) -> float | None:
        """
        Raises:
            DeadlineExceeded: nobody has ever been that fast.
        """
        budget_s = request.policy.budgets.first_token_s
        if budget_s is None:
            return None
        left_s = budget_s - elapsed_s
        if all(row.state.is_learned for row in ordered):
            best_s = min(row.state.quantile_s(HOPELESS_SHARE) * row.scale for row in ordered)
            if left_s < best_s:
                raise DeadlineExceeded(
                    f"no target answers within the {budget_s:g} s to the first token"
                    f" (the fastest takes {best_s:.3g} s at best)",
                    reason=Reason.FIRST_TOKEN_TIMEOUT,
                )
        return left_s

    def _hedge(
        self,
        plan: RacePlan,
        route: Route,
        ordered: Sequence[_Rated],
        alias: AliasState,
        left_s: float | None,
        at_once: HedgeReason | None,
        warm: Warm | None,
    ) -> None:
        """Decide whether and when a second attempt starts, and write it into the plan.

        Args:
            at_once: why another target is to stand by from the beginning; None if none needs to.
        """
        settings, policy = route.hedge, plan.request.policy
        if settings.mode == "disabled":
            return
        budgets = alias.budgets
        primary = ordered[0]
        budgets.earn(policy.tenant, primary.stats.price)
        wish = policy.hedge
        most = min(settings.max_attempts, wish.max_attempts or settings.max_attempts)
        if wish.mode == "off" or most < 2:
            return
        if plan.attempts[0].is_fallback:  # the candidates refuse, and fallbacks are not hedged
            plan.hedge = HedgeRecord(HedgeReason.ALONE.value)
            return
        now_s = self.clock()
        others = [
            row
            for row in ordered[1:]
            if row.stats.wait_s <= 0 and row.stats.share > 0 and has_room(row.state, now_s)
        ]
        # Not those that other workers speak ill of, if there are better ones.
        others = [row for row in others if not row.state.breaker.is_suspected(now_s)] or others
        if at_once is None and route.escalated:
            dearer = self._escalation(plan, route, primary.target, warm, now_s)
            if dearer is not None:
                others.append(dearer)
        again = (
            at_once is not HedgeReason.PROBE
            and not plan.is_last_resort
            and primary.stats.wait_s <= 0
            and has_room(primary.state, now_s)
        )
        if not others and not again:
            plan.hedge = HedgeRecord(HedgeReason.ALONE.value)
            return
        is_suspect = at_once is HedgeReason.SUSPECT
        if again and (
            not others
            or (primary.stats.is_warm and not primary.state.is_clustered and not is_suspect)
        ):
            # The same model, and its prompt cache: over another connection it is often as good.
            others.append(primary)
        share = min(
            payer.max_extra_requests * aim(payer.fullness)
            for payer in (budgets.operator, budgets.of(policy.tenant))
        )
        first_view = view(primary.state, primary.scale, share)
        if first_view.is_learned:
            plan.late_after_s = late_after_s(first_view)
        second = self._second(primary, others, first_view.trigger_s)
        if second is primary:
            at_once = None
        fixed_ms = settings.delay if isinstance(settings.delay, int) else None
        fixed_s = wish.delay_s or (None if fixed_ms is None else fixed_ms / 1000)
        if at_once is not None or wish.mode == "race":
            # A probe may well fail: the healthy one stands by at once.
            timing = HedgeTiming(0.0, at_once or HedgeReason.RACE)
        else:
            timing = time_hedge(
                first_view,
                # Only a limit of the client asks for it.
                first_view if left_s is None else view(second.state, second.scale, share),
                fixed_s=fixed_s,
                default_s=settings.default_delay_ms / 1000,
                first_token_left_s=left_s,
            )
        plan.hedge = HedgeRecord(
            timing.reason.value,
            delay_us=None if timing.delay_s is None else round(timing.delay_s * 1e6),
            second=second.target.name,
            is_shadow=settings.mode == "shadow",
            cost=second.loser_cost,
        )
        if timing.delay_s is None:
            return
        step = next((step for step in plan.attempts if step.target is second.target), None)
        if second is primary or step is None:  # the first again, or its dearer tier
            step = PlannedAttempt(second.target, False, is_planned=False)
        # What cannot be paid at its moment is asked again: credit comes with every request, and the
        # first may yet be long. A race that cannot be paid is then timed as any other request.
        again_s = timing.delay_s or plan.late_after_s or settings.default_delay_ms / 1000
        again_s = SPECULATIVE_S if policy.speculative else max(AGAIN_S, again_s)
        starts = [TimedStart(timing.delay_s, step, again_s)]
        if not plan.hedge.is_shadow:
            plan.max_hedges = most - 1
            starts += [TimedStart(timing.delay_s, None, again_s)] * (most - 2)
        plan.hedges = tuple(starts)

    def _escalation(
        self, plan: RacePlan, route: Route, first: Target, warm: Warm | None, now_s: float
    ) -> _Rated | None:
        """The first's own model at its dearer tier, if it may be asked beside it; None where the
        request itself says which tier it wants."""
        target = route.escalated.get(first.name)
        if target is None or plan.request.service_tier not in USUAL_TIERS:
            return None
        row = self._rate(target, plan.prompt_tokens, plan.money.output, warm, now_s)
        is_able = row.stats.wait_s <= 0 and row.stats.share > 0 and has_room(row.state, now_s)
        return row if is_able else None

    def second_to_warm(self, route: Route, first: Target, prompt_tokens: int) -> Target | None:
        """Where else a session's prefix is worth to be kept warm (`hedge.keep_second_warm`); None
        for nowhere. Who would be hedged to, if that keeps prompts and is not the first's own cache;
        decides nothing of any request.

        Args:
            first: where the session begins.
            prompt_tokens: of the prefix, estimated.
        """
        hedge, now_s = route.hedge, self.clock()
        if hedge.keep_second_warm != "auto" or hedge.mode != "active":
            return None
        others = [
            target
            for target in route.candidates
            if target.place != first.place
            and target.endpoint.caches_prompts
            and target.price is not None
            and self.states.of(target, now_s).wait_s(now_s) <= 0
        ]
        if not others:
            return None
        alias, output = self._state_of(route), OutputTokens(0, 0)
        rows = [self._rate(each, prompt_tokens, output, None, now_s) for each in (first, *others)]
        second = rows[1:]
        primary = rows[0]
        target = self._second(primary, second, primary.state.quantile_s(WARM_SHARE)).target
        prompt = self.states.of(target, now_s).prompt_tokens(prompt_tokens)
        is_worth = target.price is not None and is_worth_keeping(
            target.price,
            prompt,
            hedges=alias.budgets.operator.extra_share,
            turns=self.sticky.turns,
            lasts_s=self.sticky.lasts_s,
        )
        return target if is_worth else None

    @staticmethod
    def _second(primary: _Rated, others: Sequence[_Rated], delay_s: float) -> _Rated:
        if len(others) == 1:
            return others[0]
        survival = primary.state.survival
        rated: list[tuple[float, float]] = []
        for row in others:
            known = row.state.survival
            if known is None:
                # A hedge is the cheapest way to get to know it: the least known one.
                unknown = [other for other in others if other.state.survival is None]
                return min(unknown, key=lambda other: other.state.latency.known)
            if survival is not None:
                p99_s = _pair_p99_s(primary, row, survival, known, delay_s)
                rated.append((p99_s, row.loser_cost))
        same = [are_same(row.target, primary.target) for row in others]
        return others[pick_second(rated, is_same_model=same) or 0]


def _credit(budget: HedgeBudget) -> dict[str, Any]:
    money = budget.money
    return {
        "credit_requests": round(budget.credit, 2),
        "credit_usd": None if money is None else round(money / 1e6, 6),
        "extra_share": round(budget.extra_share, 4),
    }


def _pair_p99_s(
    primary: _Rated, second: _Rated, survival: Survival, known: Survival, delay_s: float
) -> float:
    """Of the pair, over what the prompt makes of the primary's times.

    It takes some 30 us: kept until the figures are refreshed.
    """
    ratio = round(second.scale / primary.scale, 1)
    kept = primary.state.pair_p99_s
    # To the millisecond: prompts differ, their normalised delays do not.
    delay_s = round(delay_s / primary.scale, 3)
    key = (second.target.name, delay_s, ratio)
    found = kept.get(key)
    if found is not None and found[0] is known:
        return found[1]
    if len(kept) >= MAX_PAIRS:
        kept.clear()
    other = known
    if ratio != 1.0:  # a cold prompt beside a warm one
        other = Survival(tuple(at_s * ratio for at_s in known.at_s), known.share)
    p99_s = hedged_quantile_s(survival, other, delay_s)
    kept[key] = (known, p99_s)
    return p99_s


def _tail_first(alias: AliasState, names: Sequence[str]) -> int | None:
    pair = alias.pairs.get(tuple(names))
    return None if pair is None else pair.first
