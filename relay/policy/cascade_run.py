"""One request on its way through a cascade."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any, Final

from relay.answer import Answer
from relay.content import GenerateRequest
from relay.errors import (
    AdmissionError,
    BudgetExceeded,
    Draining,
    LimitReached,
    RelayError,
    StoreDown,
    UnsupportedFeature,
    UpstreamError,
)
from relay.policy.base import Leg, Legs, Whole
from relay.policy.cascade_answer import TierAnswer
from relay.policy.cascade_asides import Asides, is_about_logprobs
from relay.policy.cascade_budget import Stake, stake
from relay.policy.cascade_parts import CascadeParts
from relay.policy.cascade_rules import first_match
from relay.policy.cascade_watch import Verdict, Watch, is_usable
from relay.policy.classifier import Tier
from relay.policy.refusals import refusals_of

_OURS: Final = (BudgetExceeded, Draining, LimitReached, StoreDown)
"""Refusals that the large model would meet too."""
_TICK_S: Final = 1e-6
"""A timer that is heard so early is on time: sums of decimals are not exact."""
_NOT_TO_BE_GIVEN: Final = frozenset({"refusal", "empty", "length", "small_failed"})
"""Reasons against a small model's answer for which it is not given even where the large one fails;
it is stopped at once."""


class CascadeRun:
    """See the module. `answer` once, then `aclose`, whatever came of it."""

    def __init__(self, parts: CascadeParts, request: GenerateRequest, legs: Legs) -> None:
        self._parts = parts
        self._config = parts.config
        self._request = request
        self._legs = legs
        self._decision = legs.decision
        self._asides = Asides(parts, request, legs)
        self._tasks: list[asyncio.Task[Any]] = []
        self._small: Leg | None = None
        self._verdict: asyncio.Task[Verdict] | None = None
        self._large: Leg | None = None
        self._large_ready: asyncio.Task[None] | None = None
        self._large_error: RelayError | None = None
        self._stake: Stake | None = None
        self._is_unsure = asyncio.Event()
        logprobs = self._config.escalate.logprobs
        self._adds_logprobs = logprobs is not None and request.sampling.logprobs is not True
        self._refusals = refusals_of(self._config.escalate.phrases)

    # --- the way ----------------------------------------------------------------------------

    async def answer(self) -> Answer:
        """See `Cascade.compose`."""
        legs, request, config = self._legs, self._request, self._config
        if self._parts.budget is not None:
            price = legs.estimate(config.large, request)
            self._parts.budget.earn(request.policy.tenant, price)
        if first_match(self._parts.rules, request) is not None:
            return await self._escalate("rule")
        classifier = self._parts.classifier
        tier: asyncio.Task[Tier] | None = None
        if classifier is not None:
            tier = self._task(self._asides.classified())
            if not classifier.config.beside_small:
                await self._until_done(tier, self._large_due_s)
                if tier.done() and tier.result() == "large":
                    return await self._escalate("classifier")
        found = await self._beside(tier)
        return await self._escalate(found) if isinstance(found, str) else found

    async def _beside(self, tier: asyncio.Task[Tier] | None) -> Answer | str:
        """The small tier's answer, or the large one's where its time was over and it came first, or
        why the large tier has to answer."""
        self._verdict = verdict = self._task(self._watched())
        speculate_s = self._speculation_due_s()
        large_s = self._large_due_s
        unsure: asyncio.Task[bool] | None = None
        if self._config.speculate is not None and self._config.speculate.unsure_below is not None:
            unsure = self._task(self._is_unsure.wait())
        while True:
            if tier is not None and tier.done() and tier.result() == "large":
                return "classifier"
            if verdict.done():
                found = _judged(verdict)
                if not found.is_good:
                    return found.reason
                if tier is None or tier.done():
                    return self._give_small("small", "accepted")
            now_s = self._legs.clock() + _TICK_S
            is_late = large_s is not None and now_s >= large_s
            if is_late:
                speculate_s = unsure = None
                self._start_large()
                if self._is_large_ready():
                    if self._small is not None:
                        self._small.cancel("late")
                    return self._give_large("deadline")
            elif (speculate_s is not None and now_s >= speculate_s) or (
                unsure is not None and unsure.done()
            ):
                self._speculate()
                speculate_s = unsure = None
            waits = [one for one in (tier, verdict, unsure) if one is not None and not one.done()]
            if self._large_ready is not None and not self._large_ready.done() and is_late:
                waits.append(self._large_ready)
            due = [at for at in (speculate_s, None if is_late else large_s) if at is not None]
            await asyncio.wait(
                waits,
                timeout=max(_TICK_S, min(due) - now_s + _TICK_S) if due else None,
                return_when=asyncio.FIRST_COMPLETED,
            )

    async def _watched(self) -> Verdict:
        """On the small tier's answer."""
        self._small = small = self._start_small(with_logprobs=True)
        try:
            return await self._watch(is_asked=True).verdict(small)
        except RelayError as error:
            logprobs = self._config.escalate.logprobs
            if logprobs is None or not self._adds_logprobs or not is_about_logprobs(error):
                raise
            if logprobs.on_missing == "large":
                return Verdict(False, "logprobs_missing")
        self._small = small = self._start_small(with_logprobs=False)
        return await self._watch(is_asked=False).verdict(small)

    def _watch(self, *, is_asked: bool) -> Watch:
        return Watch(
            self._config,
            self._request,
            asks_logprobs=is_asked,
            check=self._asides.self_checked if self._parts.self_check is not None else None,
            on_unsure=self._is_unsure.set,
        )

    # --- escalation -------------------------------------------------------------------------

    async def _escalate(self, reason: str) -> Answer:
        """The large tier's answer, or what its failure leaves."""
        self._decision.outcome, self._decision.reason = "escalated", reason
        self._start_large()
        small = self._small
        spare: asyncio.Task[Whole] | None = None
        if small is not None:
            await self._stop(self._verdict)
            if self._config.on_large_failure == "fail" or reason in _NOT_TO_BE_GIVEN:
                small.cancel(reason)
            else:
                spare = self._task(small.whole())
        if self._large_ready is not None:
            try:
                await asyncio.shield(self._large_ready)
            except RelayError as error:
                self._large_error = error
            else:
                if small is not None:
                    small.cancel(reason)
                return self._give_large(reason)
        return await self._after_failure(spare)

    async def _after_failure(self, spare: asyncio.Task[Whole] | None) -> Answer:
        """
        Raises:
            RelayError: of the large tier: there is no answer of the small one.
        """
        error = self._large_error
        assert error is not None  # noqa: S101 - the large tier has failed
        if self._config.on_large_failure == "fail":
            raise error
        if self._small is None and _may_be_the_tiers(error):  # the large one was asked at once
            with contextlib.suppress(RelayError):
                self._small = self._start_small(with_logprobs=False)
                spare = self._task(self._small.whole())
        if spare is None:
            raise error
        try:
            whole = await spare
        except RelayError:
            raise error from None
        if not is_usable(whole, self._refusals):
            raise error
        return self._give_small("small_after_failure", self._decision.reason)

    def _start_large(self) -> None:
        """Unless it was."""
        if self._large is not None or self._large_error is not None:
            return
        try:
            self._large = self._legs.start("large", self._config.large, self._request)
        except RelayError as error:
            self._large_error = error
        else:
            self._large_ready = self._task(self._large.ready())

    def _is_large_ready(self) -> bool:
        ready = self._large_ready
        return ready is not None and ready.done() and ready.exception() is None

    # --- speculation ------------------------------------------------------------------------

    def _speculation_due_s(self) -> float | None:
        speculate = self._config.speculate
        if speculate is None or speculate.after_ms is None:
            return None
        return self._legs.clock() + speculate.after_ms / 1e3

    def _speculate(self) -> None:
        """Start the large tier, if that can be paid."""
        budget, config, request = self._parts.budget, self._config, self._request
        if budget is None or self._large is not None:
            return
        price = self._legs.estimate(config.large, request)
        self._stake = stake(budget, request.policy.tenant, price)
        if self._stake is not None:
            self._start_large()

    @property
    def _large_due_s(self) -> float | None:
        """When the large tier is started at the latest, on the clock of the legs."""
        received_s = self._legs.received_s
        budget_s = self._request.policy.budgets.first_token_s
        within_ms = self._config.small_within_ms
        limits = []
        if within_ms is not None:
            limits.append(received_s + within_ms / 1e3)
        if budget_s is not None:
            limits.append(received_s + budget_s * self._config.first_token_share)
        return min(limits) if limits else None

    # --- ends -------------------------------------------------------------------------------

    def _start_small(self, *, with_logprobs: bool) -> Leg:
        request = self._request
        if with_logprobs and self._adds_logprobs:
            request = replace(request, sampling=replace(request.sampling, logprobs=True))
        return self._legs.start("small", self._config.small, request)

    def _give_small(self, outcome: str, reason: str) -> Answer:
        small, large, staked = self._small, self._large, self._stake
        assert small is not None  # noqa: S101 - it has answered
        self._decision.outcome, self._decision.reason = outcome, reason
        on_over = None
        if large is not None:
            large.cancel("not_needed")
            if staked is not None:
                # What it has cost is known when it is over, which it is long before the answer is.
                self._stake = None
                on_over = lambda: staked.settle(large.cost)  # noqa: E731
        answer = small.answer()
        self._small = None
        if not self._adds_logprobs and on_over is None:
            return answer
        return TierAnswer(answer, hides_logprobs=self._adds_logprobs, on_over=on_over)

    def _give_large(self, reason: str) -> Answer:
        assert self._large is not None  # noqa: S101 - it is ready
        self._decision.outcome, self._decision.reason = "escalated", reason
        if self._stake is not None:
            self._stake.settle(0.0)  # it was needed
        answer = self._large.answer()
        self._large = None
        return answer

    async def aclose(self) -> None:
        """Stop what runs: own tasks, and the legs that were not given away. Bounded by nothing but
        the tasks' own clean-up, which waits for nobody."""
        for leg in (self._small, self._large):
            if leg is not None:
                leg.cancel("not_needed")
        if self._stake is not None:
            self._stake.settle(self._large.cost if self._large is not None else None)
        running = [task for task in self._tasks if not task.done()]
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)
        for task in self._tasks:
            if not task.cancelled():
                task.exception()  # seen

    def _task(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.append(task)
        return task

    async def _until_done(self, task: asyncio.Task[Any], until_s: float | None) -> None:
        """Wait for a task, until a point in time at most."""
        timeout_s = None if until_s is None else max(0.0, until_s - self._legs.clock())
        await asyncio.wait([task], timeout=timeout_s)

    @staticmethod
    async def _stop(task: asyncio.Task[Any] | None) -> None:
        """Cancel a task of ours and see it end."""
        if task is not None and not task.done():
            task.cancel()
            await asyncio.wait([task])


def _judged(verdict: asyncio.Task[Verdict]) -> Verdict:
    """Of a task that is done.

    Raises:
        RelayError: the small tier failed in a way that the large one would too.
    """
    try:
        return verdict.result()
    except RelayError as error:
        if not _may_be_the_tiers(error):
            raise
        return Verdict(False, "small_failed")


def _may_be_the_tiers(error: RelayError) -> bool:
    """Whether another model may do where this one failed: not where it is the request, or whoever
    asks, who may not."""
    if isinstance(error, _OURS):
        return False
    return isinstance(error, UpstreamError | AdmissionError | UnsupportedFeature)
