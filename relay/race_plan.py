"""One request's plan in a race: who is asked, and whether a further attempt can be paid for.

The plan is made once, before anything is sent (`planner.py`); what depends on the moment (is there
credit, is everybody slow) is asked through it, as the race's gate, when that moment has come. When
the generation has ended the plan is told, and settles: budgets, the throttle, the session's place.

In `shadow` mode the race keeps its timer and asks its gate as in `active`, which decides, pays and
records as in `active`, and says no: what would have been is known from the very rules and the very
moment, and no second attempt is sent. Of more than one further attempt only the first is weighed.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from relay.content import GenerateRequest
from relay.deadline import Clock
from relay.errors import Reason, Source
from relay.hedge_counters import HedgeCounters
from relay.hedge_money import HedgeMoney, first_of, has_failed
from relay.outcome import (
    AttemptOutcome,
    AttemptRecord,
    GenerationEnd,
    HedgeRecord,
)
from relay.prices import NO_COST, UNSET_OUTPUT_TOKENS, Cost, OutputTokens
from relay.race import TimedStart
from relay.resilience.common_mode import CommonMode
from relay.resilience.hedge_budget import Charge, HedgeBudgets
from relay.resilience.hedge_policy import HedgeReason
from relay.resilience.throttle import Retry, RetryBudget, RetryThrottle
from relay.routing.choose import Pair, Survival
from relay.routing.plan import PlannedAttempt
from relay.routing.route import Timeouts
from relay.routing.sticky import StickySessions, Warm, session_of
from relay.routing.target import Target
from relay.target_state import TargetState, TargetStates

MIN_FAILOVERS: Final = 10
"""That may be in flight at once however little is asked. Envoy's 3 are for retries at the same
service; here each goes to another one, and to refuse it is to fail the turn: at the beginning of an
outage all requests of one round trip fail together."""
MIN_HEADROOM: Final = 0.2
"""No hedge to a target with less than this left of its concurrency limit, or of a window of its
requests or tokens: the rest is for those who must ask there."""


_OUTPUT_WEIGHT: Final = 0.02
"""Of one answer in what answers are expected to be long."""
_MOST_TIMES: Final = 10.0
"""What is expected, at most, counts of one answer: providers have miscounted by a billion."""


class Shared(NamedTuple):
    """What the plans of one worker have in common."""

    states: TargetStates
    clock: Clock
    common_mode: CommonMode
    sticky: StickySessions


class AliasState:
    """What is kept for one alias, over reloads."""

    __slots__ = (
        "budgets",
        "counters",
        "last_first",
        "output_tokens",
        "pairs",
        "retries",
        "throttle",
    )

    def __init__(self) -> None:
        self.budgets = HedgeBudgets(0.0, 0.0)
        self.counters = HedgeCounters()
        self.throttle = RetryThrottle()
        self.retries = RetryBudget(min_retries=MIN_FAILOVERS)
        self.last_first: str = ""
        self.output_tokens = float(UNSET_OUTPUT_TOKENS)
        """What answers lately had: a primary is reckoned to cost, and to earn, by it. A request's
        own limit says little, most answers end far below it."""
        self.pairs: dict[tuple[str, ...], Pair] = {}
        """Of `tail`, by the names of the candidates they were worked out for: keys of other zones
        choose among fewer."""

    def output(self, request: GenerateRequest) -> OutputTokens:
        """How long an answer to this request may become."""
        expected = round(self.output_tokens)
        most = request.sampling.max_output_tokens
        if most is None:
            return OutputTokens(expected, max(expected, UNSET_OUTPUT_TOKENS))
        return OutputTokens(min(expected, most), most)

    def answered(self, output_tokens: int) -> None:
        """An answer came to its end, this long; one of any length moves the mean by a part."""
        expected = self.output_tokens
        tokens = min(output_tokens, _MOST_TIMES * expected + UNSET_OUTPUT_TOKENS)
        self.output_tokens = expected + _OUTPUT_WEIGHT * (tokens - expected)


class _Shadow(NamedTuple):
    """A hedge that would have been started, as of that moment."""

    after_s: float
    """The plan was made."""
    target: Target
    survival: Survival | None
    """Of the target's normalised TTFT; None while it is not learned."""
    scale: float
    """How this prompt stretches it."""


class RacePlan:
    """What a race may do for one request; told of its end exactly once.

    It is the race's gate: budgets are asked when an attempt would start.
    """

    __slots__ = (
        "_alias",
        "_charges",
        "_clock",
        "_common",
        "_failovers",
        "_is_judged",
        "_is_over",
        "_made_s",
        "_prompt_tokens",
        "_replaced",
        "_retries",
        "_shadow",
        "_shared",
        "attempts",
        "hedge",
        "hedges",
        "is_last_resort",
        "is_speculative",
        "is_tentative",
        "late_after_s",
        "max_hedges",
        "money",
        "request",
        "timeouts",
    )

    def __init__(
        self,
        shared: Shared,
        alias: AliasState,
        request: GenerateRequest,
        attempts: tuple[PlannedAttempt, ...],
        timeouts: Timeouts,
        *,
        prompt_tokens: int,
        output: OutputTokens,
        is_last_resort: bool,
        is_tentative: bool,
        warm: Warm | None,
    ) -> None:
        self._shared = shared
        self._alias = alias
        self.request = request
        self._clock = shared.clock
        self._common = shared.common_mode
        self._prompt_tokens = prompt_tokens
        self._charges: list[Charge] = []
        self._retries: list[Retry] = []
        self._failovers = 0
        self._replaced = 0
        """Hedges that failed and were followed by another."""
        self._is_over = False
        self._is_judged = False
        self._made_s = shared.clock()
        self._shadow: _Shadow | None = None
        self.attempts = attempts
        """In the order in which they are asked; never empty."""
        self.timeouts = timeouts
        self.hedges: tuple[TimedStart, ...] = ()
        self.max_hedges = 1
        """Beside the first, at once; `hedges` may ask more often."""
        self.hedge = HedgeRecord(HedgeReason.DISABLED.value)
        """What was decided, and what came of it."""
        self.is_last_resort = is_last_resort
        self.is_speculative = request.policy.speculative
        """The client may yet discard the answer: no hedge starts."""
        self.is_tentative = is_tentative
        """The first is asked to learn of it, and not for being the best: no session moves there."""
        self.late_after_s: float | None = None
        """When the first is later than its own learned delay, for common mode; None if unknown."""
        self.money = HedgeMoney(shared.states, prompt_tokens, warm, output)
        alias.retries.begin()

    @property
    def prompt_tokens(self) -> int:
        """Estimated from bytes, the same for every target."""
        return self._prompt_tokens

    def cached_tokens(self, target: Target) -> int:
        """How much of the prompt the target is believed to have in its cache."""
        return self.money.cached_tokens(target)

    def is_forced(self, step: PlannedAttempt) -> bool:
        """Whether the breaker does not keep this attempt away: nobody better is left."""
        return self.is_last_resort and step is self.attempts[0]

    # --- the gate ---------------------------------------------------------------------------

    def may_hedge(self, step: PlannedAttempt) -> bool:
        """A hedge would start now; see `relay.race.Gate`."""
        if len(self._charges) - self._replaced >= self.max_hedges:
            return False
        return self._pay(step)

    def may_replace_hedge(self, step: PlannedAttempt) -> bool:
        """A hedge has failed, and another would take its place; see `relay.race.Gate`. The provider
        was asked all the same, so it is one more of the budget's."""
        if not self._pay(step):
            return False
        self._replaced += 1
        return True

    def _pay(self, step: PlannedAttempt) -> bool:
        if self.is_speculative:  # speculation and hedging would multiply what a turn costs
            self.hedge.refused = HedgeReason.SPECULATIVE.value
            return False
        now_s = self._clock()
        alias, hedge = self._alias, self.hedge
        state = self._shared.states.of(step.target, now_s)
        # A race, a probe or a client's own delay is due before that says anything of the first.
        if self.late_after_s is not None and now_s - self._made_s >= self.late_after_s:
            self._judge(now_s, is_beyond=True)
        if self._common.is_suspended(now_s) and hedge.reason != HedgeReason.PROBE.value:
            hedge.refused = HedgeReason.COMMON_MODE.value
        elif not alias.throttle.admits:
            hedge.refused = HedgeReason.THROTTLED.value
        elif not has_room(state, now_s):
            hedge.refused = "no_headroom"
        else:
            cost = self.money.hedge(step.target, now_s)
            by_deadline = hedge.reason == HedgeReason.DEADLINE.value
            tenant = self.request.policy.tenant
            charge = alias.budgets.take(tenant, cost, by_deadline=by_deadline)
            if charge is None:
                hedge.refused = "budget_" + alias.budgets.refuses(
                    tenant, cost, by_deadline=by_deadline
                )
                return False
            self._charges.append(charge)
            hedge.refused = ""
            if not hedge.is_shadow:
                hedge.fired += 1
                return True
            hedge.would_fire = True
            hedge.second = step.target.name
            scale = state.latency.scale(
                state.prompt_tokens(self._prompt_tokens), self.cached_tokens(step.target)
            )
            self._shadow = _Shadow(now_s - self._made_s, step.target, state.survival, scale)
        return False

    def _judge(self, now_s: float, *, is_beyond: bool) -> None:
        """Tell whether the first was later than its hedge's delay. Once."""
        if not self._is_judged:
            self._is_judged = True
            provider = self.attempts[0].target.endpoint.provider
            self._common.judged(provider, now_s, is_beyond=is_beyond)

    def may_fail_over(self, step: PlannedAttempt) -> bool:
        """An attempt would start in place of a failed one; see `relay.race.Gate`.

        The first replacement is always made: it goes to a target that has not failed, whose own
        limits protect it, and when a provider dies with a hundred requests in flight each of them
        must be answered by another. What comes after it is held by the retry budget, or every
        request would ask everybody when all are failing.
        """
        self._failovers += 1
        if self._failovers == 1:
            return True
        retry = self._alias.retries.take()
        if retry is None:
            return False
        self._retries.append(retry)
        return True

    # --- the end ----------------------------------------------------------------------------

    def wanted(self) -> None:
        """The client will not discard the answer: hedges may start from now on. Idempotent."""
        self.is_speculative = False

    def committed(self) -> None:
        """An attempt is ready: retries are over, though the answer is yet to be read."""
        for retry in self._retries:
            retry.end()

    def withdrawn(self) -> None:
        """The request is refused before anything was sent: nothing is learnt of it."""
        if not self._is_over:
            self._is_over = True
            self._alias.retries.end()

    def ended(self, end: GenerationEnd) -> None:
        """The generation is over: settle. Once."""
        if self._is_over:
            return
        self._is_over = True
        now_s = self._clock()
        alias, request = self._alias, self.request
        alias.retries.end()
        for retry in self._retries:
            retry.end()
        first_place = self.attempts[0].target.place
        for record in end.attempts:
            if record.outcome is AttemptOutcome.SUCCESS or record.is_winner:
                alias.throttle.success()
            elif has_failed(record) and _tells_of_the_target(record):
                alias.throttle.failure()
        hedge = self.hedge
        if end.error is None and end.usage is not None:
            alias.answered(end.usage.completion_tokens)
        added = self._note_shadow(end, now_s) if hedge.is_shadow else self._note_added(end, now_s)
        tenant = request.policy.tenant
        for charge in self._charges:
            cost = charge.cost if added is None else added / len(self._charges)
            alias.budgets.settle(tenant, charge, cost)
        winner = next((record for record in end.attempts if record.is_winner), None)
        if winner is not None:
            place = f"{winner.provider}/{winner.model}"
            first = first_of(end.attempts)
            sticky, session = self._shared.sticky, session_of(request.policy)
            prompt_tokens = end.usage.prompt_tokens if end.usage else self._prompt_tokens
            if request.is_prefix:  # no turn
                sticky.warmed(session, place, now_s, prompt_tokens=prompt_tokens)
            elif not (self.is_tentative and winner is first):
                sticky.won(
                    session,
                    place,
                    now_s,
                    prompt_tokens=prompt_tokens,
                    was_first=place == first_place,
                )
            # Its own free retry, after a stale connection, is still the hedge's.
            hedge.won = hedge.fired > 0 and winner is not first and not has_failed(first)
            self._judge_first(first, end.attempts[0].started_us, now_s)
        alias.counters.ended(end, hedge)

    def _judge_first(self, first: AttemptRecord, began_us: int, now_s: float) -> None:
        """For common mode, by the first's own learned delay: what it took, or its age when it lost.
        Younger than that it says nothing."""
        late_s = self.late_after_s
        if late_s is None:
            return
        if first.is_winner:
            took_us = first.started_us + sum(first.phases_us.values()) - began_us
            self._judge(now_s, is_beyond=took_us >= late_s * 1e6)
        elif first.is_loser and first.ended_us - began_us >= late_s * 1e6:
            self._judge(now_s, is_beyond=True)

    def _note_added(self, end: GenerationEnd, now_s: float) -> float | None:
        """What the hedges that were sent have added."""
        hedge = self.hedge
        if not self._charges:
            return None
        added = self.money.added(end.attempts, end.usage, self.attempts[0].target, now_s)
        if added is None:
            return None
        hedge.added_cost, hedge.added_cost_upper = added
        return added.likely

    def _note_shadow(self, end: GenerationEnd, now_s: float) -> float | None:
        """What would have come of the hedge that was not sent, if its time came."""
        hedge, shadow = self.hedge, self._shadow
        if shadow is None:
            hedge.would_fire = False
            return None
        records, first = end.attempts, first_of(end.attempts)
        winner = next((record for record in records if record.is_winner), None)
        if has_failed(first) and "first_content" not in first.phases_us:
            # It failed, and the hedge would have been there to replace it.
            hedge.would_win = 1.0
            added: Cost | None = NO_COST
        else:
            if winner is not None:
                ready_us = winner.started_us + sum(winner.phases_us.values())
                left_s = (ready_us - records[0].started_us) / 1e6 - shadow.after_s
            else:  # the client has left, and the second had time until now
                left_s = now_s - self._made_s - shadow.after_s
            if shadow.survival is not None:
                # In a tie the one that started first wins.
                hedge.would_win = 1.0 - shadow.survival.after(max(0.0, left_s) / shadow.scale)
            added = self.money.would_add(
                self.attempts[0].target, shadow.target, end.usage, hedge.would_win or 0.0, now_s
            )
        if added is None:
            return None
        hedge.would_cost, hedge.would_cost_upper = added
        return added.likely


def _tells_of_the_target(record: AttemptRecord) -> bool:
    """Whether an attempt's failure counts against hedging: not when the request was refused, by
    the target or by us."""
    error = record.error
    return error is None or (
        error.source is Source.UPSTREAM
        and error.reason not in (Reason.UPSTREAM_REJECTED, Reason.UPSTREAM_CONTENT_BLOCKED)
    )


def has_room(state: TargetState, now_s: float) -> bool:
    """Whether a target may be asked for more than it must."""
    return (
        state.breaker.admits(now_s)
        and state.limiter.utilisation <= 1.0 - MIN_HEADROOM
        and state.headroom.wait_s(now_s) <= 0
        and state.headroom.left_share(now_s) >= MIN_HEADROOM
        and state.push_back.admits(now_s)
    )
