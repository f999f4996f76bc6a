"""What a worker has learnt of each target, kept over reloads, and the ticket of one attempt there.

Keyed by the target's name, since a reload makes new target objects for the same thing. The state
machines know nothing of each other (`relay/resilience/`); here they are asked and told together:

- an attempt takes a `Ticket` before it sends anything: the breaker's permit, a slot of the
  concurrency limit, a place in the operator's rate limit; or it is refused and costs nothing;
- the ticket is told of the first content and of the one outcome, and hands both on.

The figures that routing needs of a sketch are worked out by `refresh`, every few seconds and never
on a request's path.
"""

from __future__ import annotations

import itertools
import random
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final, NamedTuple, cast

from relay.credentials.base import Credential
from relay.errors import BreakerOpen, Reason, RelayError, Source, TargetLimited, UpstreamStatus
from relay.outcome import AttemptOutcome
from relay.resilience.breaker import Breaker, BreakerSettings, BreakerState, Permit
from relay.resilience.clusters import Clusters
from relay.resilience.headroom import Headroom
from relay.resilience.latency import LatencySketch, Prior
from relay.resilience.level import Level
from relay.resilience.limiter import Limiter, LimiterSettings, Slot
from relay.resilience.throttle import PushBack
from relay.routing.choose import Survival
from relay.routing.target import Target

MAX_TARGETS: Final = 4096
"""A client may name any model of a provider; the state used longest ago is forgotten."""

MAX_RELATIVES: Final = 256
"""So many targets, those used last, are looked through for what a new one may be like."""

_REQUEST_REASONS: Final = frozenset({Reason.UPSTREAM_REJECTED, Reason.UPSTREAM_CONTENT_BLOCKED})

REFRESH_S: Final = 3.0
"""How often figures are worked out anew (Finagle's interval for backup requests)."""

_SHOWN_SHARES: Final = (0.5, 0.9, 0.95, 0.99)

_RATIO_WEIGHT: Final = 0.05
_MAX_RATIO: Final = 8.0


class Kept(NamedTuple):
    """What one worker has kept of one target."""

    state: Mapping[str, Any]
    """As `TargetState.to_dict` writes it, or anything else."""
    away_s: float
    """How long ago it was saved; below 0, by a clock that went back, is now."""
    is_own: bool
    """Whether this worker keeps it, and is to keep it again."""


class TargetState:
    """The state machines of one target."""

    __slots__ = (
        "_losers",
        "_quantiles_s",
        "_tokens_ratio",
        "asked",
        "breaker",
        "clusters",
        "credential",
        "failed",
        "has_news",
        "headroom",
        "latency",
        "level",
        "limiter",
        "outside_zones",
        "overloaded",
        "p50_s",
        "pair_p99_s",
        "place",
        "push_back",
        "same",
        "survival",
        "usual_s",
    )

    def __init__(
        self,
        *,
        breaker: BreakerSettings,
        limiter: LimiterSettings,
        draw: Callable[[], float],
        prior: Prior | None = None,
    ) -> None:
        self.headroom = Headroom()
        self.breaker = Breaker(breaker, draw)
        self.limiter = Limiter(limiter)
        self.latency = LatencySketch(prior)
        self.level = Level()
        self.clusters = Clusters()
        self.push_back = PushBack()
        self.credential: Credential | None = None
        """Of the target's present row; None while nobody has said it."""
        self.place = ""
        """Of the target: its name without a service tier."""
        self.same = ""
        """The class of models that the target's is of; empty for none."""
        self.outside_zones = 0
        """Attempts that were stopped before they left their request's data zones: bugs of ours."""
        self.asked = 0
        """Attempts that were sent there, since the worker knows it."""
        self.failed = 0
        """Of them, those that it failed: no request's fault, and no overload."""
        self.overloaded = 0
        """And those that it was too busy for."""
        self.has_news = False
        """Something was recorded since the last refresh."""
        self._losers = 0
        self._tokens_ratio = 1.0
        self._quantiles_s: dict[float, float] = {}
        self.p50_s = self.latency.quantile_s(0.5)
        """Of normalised TTFT, as of the last refresh."""
        self.usual_s: float | None = None
        """The same by its own samples alone, which it is held to; None while they are few."""
        self.survival: Survival | None = None
        """The tail of normalised TTFT, as of the last refresh; None while it is not learned."""
        self.pair_p99_s: dict[tuple[str, float, float], tuple[Survival, float]] = {}
        """What was worked out of this target with a second since the last refresh: by the second's
        name, the delay, and its scale over this one's; with what was known of it."""

    # --- what routing reads -----------------------------------------------------------------

    def wait_s(self, now_s: float) -> float:
        """How long it is certain to refuse, or nothing can be shown to it; 0 if it may be asked."""
        wait_s = self.sending_wait_s(now_s)
        if not self.breaker.admits(now_s):
            retry_at_s = self.breaker.retry_at_s
            wait_s = max(wait_s, 0.001 if retry_at_s is None else retry_at_s - now_s, 0.001)
        elif self.limiter.in_flight >= self.limiter.limit:
            wait_s = max(wait_s, 0.001)
        return wait_s

    def sending_wait_s(self, now_s: float) -> float:
        """The same, however well it is: by its rate limits and its credential alone."""
        wait_s = self.headroom.wait_s(now_s)
        return wait_s if self.credential is None else max(wait_s, self.credential.wait_s(now_s))

    def quantile_s(self, share: float) -> float:
        """Of normalised TTFT, as of the last refresh."""
        value_s = self._quantiles_s.get(share)
        if value_s is None:
            value_s = self._quantiles_s[share] = self.latency.quantile_s(share)
        return value_s

    def drift(self) -> float:
        """See `LatencySketch.drift`, as of the last refresh."""
        value = self._quantiles_s.get(-1.0)
        if value is None:
            value = self._quantiles_s[-1.0] = self.latency.drift()
        return value

    @property
    def is_learned(self) -> bool:
        """Whether there are samples enough for a trigger."""
        return self.latency.is_learned

    @property
    def is_clustered(self) -> bool:
        """Whether its slowness comes in runs, so that to ask it again would not help; so while
        nobody knows."""
        return self.clusters.is_clustered

    def is_loser_to_learn_from(self, one_in: int) -> bool:
        """Whether this loser is the one of so many that runs on to its first content."""
        self._losers += 1
        return self._losers % one_in == 0

    def prompt_tokens(self, estimated: int) -> int:
        """An estimate from bytes, corrected by what this target has reported."""
        return round(estimated * self._tokens_ratio)

    # --- what is told -----------------------------------------------------------------------

    def calibrate(self, estimated: int, reported: int) -> None:
        """The target counted `reported` prompt tokens where bytes had given `estimated`."""
        if estimated > 0 and reported > 0:
            ratio = min(max(reported / estimated, 1 / _MAX_RATIO), _MAX_RATIO)
            self._tokens_ratio += _RATIO_WEIGHT * (ratio - self._tokens_ratio)

    def refresh(self, now_s: float) -> None:
        """Work out the figures anew; off the request's path."""
        self.has_news = False
        latency = self.latency
        latency.expire(now_s)
        latency.refit()
        self._quantiles_s.clear()
        self.pair_p99_s.clear()
        self.p50_s = latency.quantile_s(0.5)
        self.usual_s = latency.raw_quantile_s(0.5) if latency.is_learned else None
        self.survival = None
        if latency.is_learned:
            moments: list[float] = []
            shares: list[float] = []
            alive, at_risk = 1.0, latency.samples
            for at_s, finished, censored in latency.counts():
                if finished and at_risk > 0:
                    alive *= 1.0 - finished / at_risk
                at_risk -= finished + censored
                moments.append(at_s)
                shares.append(alive)
            self.survival = Survival(tuple(moments), tuple(shares))

    # --- tickets ----------------------------------------------------------------------------

    def admit(
        self,
        now_s: float,
        *,
        name: str,
        prompt_tokens: int,
        cached_tokens: int = 0,
        forced: bool = False,
    ) -> Ticket:
        """The right to one attempt, taken before anything is sent.

        Args:
            name: of the target, for the message of a refusal.
            prompt_tokens: estimated, `cached_tokens` of them in the provider's cache.
            forced: for the last member of a class, which its breaker and its concurrency limit
                do not keep away (the operator's rate limit does).

        Raises:
            BreakerOpen, TargetLimited: refused; nothing was taken.
        """
        wait_s = self.headroom.own_wait_s(now_s)
        if wait_s > 0:
            raise TargetLimited(
                f"{name} is held to the rpm and tpm of its row", retry_after_s=wait_s
            )
        permit = self.breaker.permit(now_s, forced=forced)
        if permit is None:
            retry_at_s = self.breaker.retry_at_s
            raise BreakerOpen(
                f"{name} has failed too often and is left alone for a while",
                retry_after_s=None if retry_at_s is None else max(0.0, retry_at_s - now_s),
            )
        slot = self.limiter.acquire(now_s, forced=forced or permit.is_probe)
        if slot is None:
            permit.ignored(now_s)
            raise TargetLimited(f"{name} has as many requests as it can take", retry_after_s=1.0)
        self.headroom.take(now_s)
        return Ticket(self, permit, slot, now_s, prompt_tokens, cached_tokens)

    # --- keeping ----------------------------------------------------------------------------

    def to_dict(self, now_s: float) -> dict[str, Any]:
        """What survives a restart: what was learnt, not what is happening."""
        return {"latency": self.latency.to_dict(now_s), "tokens_ratio": self._tokens_ratio}

    def take_up(self, rows: Iterable[Kept], now_s: float) -> None:
        """Begin with what all workers have kept; of `tokens_ratio` the first row counts. A row that
        is not what `to_dict` writes, of another version, is passed over."""
        own = LatencySketch(self.latency.prior)
        others: list[LatencySketch] = []
        ratios: list[float] = []
        for row in rows:
            try:
                latency, ratio = self._read(row, now_s)
            except ValueError:
                continue
            ratios.append(ratio)
            if row.is_own:
                own = latency
            else:
                others.append(latency)
        if ratios:
            own.merge(*others)
            self.latency, self._tokens_ratio = own, ratios[0]
            self.refresh(now_s)

    def _read(self, row: Kept, now_s: float) -> tuple[LatencySketch, float]:
        """
        Raises:
            ValueError: it is not what `to_dict` writes.
        """
        latency = LatencySketch.from_dict(
            row.state.get("latency") or {}, now_s, away_s=row.away_s, prior=self.latency.prior
        )
        ratio = row.state.get("tokens_ratio", 1.0)
        if not isinstance(ratio, float | int) or not 1 / _MAX_RATIO <= ratio <= _MAX_RATIO:
            raise ValueError("tokens_ratio is no ratio")
        return latency, float(ratio)

    def describe(self, now_s: float) -> dict[str, Any]:
        """For people. Latencies are normalised and by the target's own samples alone, without the
        prior that plans draw them to while samples are few; null while there are none."""
        breaker = self.breaker.describe(now_s)
        quantiles_s = self.latency.raw_quantiles_s(_SHOWN_SHARES)
        return {
            "breaker": {
                "state": breaker["state"],
                "share": breaker["share"],
                "reason": breaker["reason"],
                "retry_in_s": round(cast("float", breaker["retry_in_s"]), 3),
                "trips": breaker["trips"],
                "suspected": breaker["suspected"],
            },
            **{
                f"p{share * 100:.0f}_ms": round(quantiles_s[index] * 1000, 1)
                if quantiles_s
                else None
                for index, share in enumerate(_SHOWN_SHARES)
            },
            "samples": self.latency.known,
            "learned": self.is_learned,
            "limit": self.limiter.limit,
            "in_flight": self.limiter.in_flight,
            "asked": self.asked,
            "failed": self.failed,
            "overloaded": self.overloaded,
            "wait_s": round(self.wait_s(now_s), 3),
            **({"outside_zones": self.outside_zones} if self.outside_zones else {}),
        }


class Ticket:
    """One attempt's place at a target. Whoever takes it owes it exactly one `end`."""

    __slots__ = (
        "_cached_tokens",
        "_is_over",
        "_permit",
        "_prompt_tokens",
        "_slot",
        "_started_s",
        "_state",
        "_ttft_s",
    )

    def __init__(
        self,
        state: TargetState,
        permit: Permit,
        slot: Slot,
        now_s: float,
        prompt_tokens: int,
        cached_tokens: int,
    ) -> None:
        self._state = state
        state.asked += 1
        self._permit = permit
        self._slot = slot
        self._started_s = now_s
        self._prompt_tokens = prompt_tokens
        self._cached_tokens = cached_tokens
        self._ttft_s: float | None = None
        self._is_over = False

    @property
    def is_probe(self) -> bool:
        """Whether it is asked to learn if the target is well: its success brings an ejected one
        back, or clears one that other workers speak ill of."""
        return self._permit.is_probe or self._permit.is_trial

    def ready(self, now_s: float) -> None:
        """The first content is there: what is slow now is known now. Once."""
        if self._ttft_s is None:
            self._ttft_s = now_s - self._started_s
            self._tell(self._ttft_s, now_s, is_censored=False)

    def overdue(self, now_s: float) -> None:
        """Another attempt is due, since there is no first content: if that is late, it is known
        now, and not only when it comes or is given up."""
        if self._ttft_s is None and not self._is_over:
            age_s = (now_s - self._started_s) / self._scale()
            self._permit.overdue(age_s, self._usual_s(), now_s)

    def _tell(self, ttft_s: float, now_s: float, *, is_censored: bool) -> None:
        state = self._state
        value_s = ttft_s / self._scale()
        if state.usual_s is not None:
            p90_s = state.quantile_s(0.9)
            if not is_censored or value_s > p90_s:
                state.clusters.observe(value_s > p90_s)
        if not is_censored or value_s > state.p50_s:
            state.level.observe(value_s, state.p50_s, now_s)
        self._permit.observe(value_s, self._usual_s(), now_s, is_censored=is_censored)

    def _scale(self) -> float:
        return self._state.latency.scale(self._prompt_tokens, self._cached_tokens)

    def _usual_s(self) -> float | None:
        """What lateness is measured by.

        Late is over twice the usual. Where the p95 is more than that, over a twentieth of its first
        tokens are, and six such among ten would come by chance now and then: then late is beyond
        the p95.
        """
        state = self._state
        usual_s = state.usual_s
        return None if usual_s is None else max(usual_s, state.quantile_s(0.95) / 2)

    def withdraw(self, now_s: float) -> None:
        """The attempt never reached the target: nothing is learnt of it. Instead of `end`."""
        if not self._is_over:
            self._is_over = True
            self._state.asked -= 1
            self._permit.ignored(now_s)
            self._slot.ignored(now_s)

    def end(
        self,
        outcome: AttemptOutcome,
        now_s: float,
        *,
        error: RelayError | None = None,
        prompt_tokens: int | None = None,
        cached_tokens: int | None = None,
    ) -> None:
        """The attempt is over. Idempotent: the first call counts.

        Args:
            error: why, with FAILURE and OVERLOAD.
            prompt_tokens, cached_tokens: as the provider counted, where it did.
        """
        if self._is_over:
            return
        self._is_over = True
        state, permit, slot = self._state, self._permit, self._slot
        state.has_news = True
        prompt = self._prompt_tokens if prompt_tokens is None else prompt_tokens
        cached = self._cached_tokens if cached_tokens is None else cached_tokens
        scale = state.latency.scale(prompt, cached)
        if self._ttft_s is not None:
            state.latency.record(self._ttft_s, prompt, cached, now_s)
        elif outcome is AttemptOutcome.IGNORED:
            age_s = now_s - self._started_s
            self._tell(age_s, now_s, is_censored=True)
            state.latency.record_censored(age_s, prompt, cached, now_s)
        # Failures leave no latency: fast ones would make a broken target look quick.
        if outcome is AttemptOutcome.SUCCESS:
            permit.success(now_s)
            slot.success((self._ttft_s or 0.001) / scale, now_s)
        elif outcome is AttemptOutcome.OVERLOAD:
            state.overloaded += 1
            if looks_dead(error):
                permit.failure(now_s)
            else:
                permit.overload(now_s)
            retry_after_s = error.retry_after_s if error is not None else None
            if retry_after_s is None:
                slot.dropped(now_s)
            else:
                slot.ignored(now_s)  # a window of its own, not too many at once
                state.push_back.said(retry_after_s, now_s)
            state.headroom.refused(retry_after_s, now_s)
        elif outcome is AttemptOutcome.FAILURE and not _is_the_request(error):
            state.failed += 1
            permit.failure(now_s)
            slot.ignored(now_s)
        else:
            permit.ignored(now_s)
            slot.ignored(now_s)


def looks_dead(error: RelayError | None) -> bool:
    """Whether it is a 503 that names no time: what a balancer answers for a host that is gone.

    Who answers 429 or 529, reports an overload inside a 200, or says when to come back, lives.
    """
    return (
        isinstance(error, UpstreamStatus)
        and error.http_status == 503
        and error.reason is Reason.UPSTREAM_OVERLOADED
        and error.retry_after_s is None
    )


def _is_the_request(error: RelayError | None) -> bool:
    """Whether the failure says something of the request and nothing of the target."""
    return error is not None and (
        error.source is not Source.UPSTREAM or error.reason in _REQUEST_REASONS
    )


_SAME_PLACE: Final = 4


def _nearness(state: TargetState, target: Target) -> int:
    """How much a target is taken to be like one that is known; 0: not at all. A class is somebody's
    word that two are one model, the same name at two providers is only likely to be."""
    if state.place == target.place:
        return _SAME_PLACE
    if target.same and state.same == target.same:
        return 3
    provider, _, model = state.place.partition("/")
    if model == target.model:
        return 2
    return int(provider == target.endpoint.provider)


class TargetStates:
    """The states of one worker, made when first asked for.

    Workers learn each for itself while they run; what all of them have kept is put together when
    one starts (`keep`).
    """

    def __init__(
        self,
        max_targets: int = MAX_TARGETS,
        *,
        breaker: BreakerSettings | None = None,
        limiter: LimiterSettings | None = None,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._max_targets = max_targets
        self._breaker = breaker or BreakerSettings()
        self._limiter = limiter or LimiterSettings()
        self._draw = draw
        self._states: OrderedDict[str, TargetState] = OrderedDict()
        self._kept: dict[str, Sequence[Kept]] = {}
        self._kept_at_s = 0.0
        self.on_edge: Callable[[str, Breaker, BreakerState], None] | None = None
        """Is called after each edge of a target's breaker, with the state before it; must not call
        back, and must not raise."""

    def of(self, target: Target, now_s: float) -> TargetState:
        """The state of a target, under the limits of its present row."""
        name = target.name
        state = self._states.get(name)
        if state is None:
            state = self._new(target, now_s)
            self._states[name] = state
            if len(self._states) > self._max_targets:
                self._states.popitem(last=False)
        else:
            self._states.move_to_end(name)
        state.headroom.limit(target.endpoint.rpm, target.endpoint.tpm)
        state.credential = target.endpoint.credential
        state.same = target.same
        return state

    def _new(self, target: Target, now_s: float) -> TargetState:
        state = TargetState(
            breaker=self._breaker,
            limiter=self._limiter,
            draw=self._draw,
            prior=self._prior(target),
        )
        state.place = target.place
        state.breaker.on_edge = partial(self._edge, target.name, state.breaker)
        kept = self._kept.pop(target.name, None)
        if kept is not None:
            since_s = now_s - self._kept_at_s
            state.take_up(
                (row._replace(away_s=max(0.0, row.away_s) + since_s) for row in kept), now_s
            )
        return state

    def _edge(self, name: str, breaker: Breaker, before: BreakerState) -> None:
        if self.on_edge is not None:
            self.on_edge(name, breaker, before)

    def known(self, name: str) -> TargetState | None:
        """The state of a target by its name; None if nobody has asked it so far."""
        return self._states.get(name)

    def _prior(self, target: Target) -> Prior | None:
        """What a new target is taken for, until it has samples of its own: for its place at another
        service tier, else for the same model at another provider (by class, or by the same name),
        else for another model of its provider; None where none of them is learned."""
        nearest: TargetState | None = None
        best = 0
        for state in itertools.islice(reversed(self._states.values()), MAX_RELATIVES):
            near = _nearness(state, target)
            if near > best and state.is_learned:
                nearest, best = state, near
                if near == _SAME_PLACE:
                    break
        return None if nearest is None else nearest.latency.as_prior()

    def keep(self, kept: Mapping[str, Sequence[Kept]], now_s: float) -> None:
        """Remember what an earlier run learnt, a row of each worker; each target takes it up when
        it is first asked."""
        self._kept = dict(kept)
        self._kept_at_s = now_s

    def to_dict(self, now_s: float) -> dict[str, dict[str, Any]]:
        """What this worker has learnt, by target. What was kept by others, or not yet taken up, is
        left out: it stays where it is, with its own age."""
        return {name: state.to_dict(now_s) for name, state in self._states.items()}

    def items(self) -> Iterable[tuple[str, TargetState]]:
        """Every target asked so far, by name."""
        return self._states.items()

    def __len__(self) -> int:
        return len(self._states)
