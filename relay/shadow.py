"""Shadow traffic: copies of requests, sent elsewhere when the client has had its answer.

A copy begins after the end of the generation that it is of, in a task that nobody waits for, and
only where its budget and the load of the worker have room (`relay.policy.shadow_plan`); what is
more is dropped and counted. It is a generation of its own, with its own row in the accounts
(surface `shadow`, tenant `shadow`): neither keys, nor limits, nor budgets of the caller have to do
with it. Its row says whose copy it is and how the two compare (`Decision.shadow`).

What is copied is the request as it went to providers, after whatever guardrails took out of it,
and no further than the data zones it was held to; without what names the user, and without the
client's labels, trace and session. The answer is counted and compared, and kept by nobody; tool
calls in it go nowhere. Breakers, limiters and latencies that the copies meet are theirs alone: a
candidate that is down never turns clients away.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

import structlog

from relay.config.experiments import ShadowConfig
from relay.content import (
    Budgets,
    ChoiceFinished,
    Events,
    FinishReason,
    GenerateRequest,
    HedgeWish,
    Policy,
    TextDelta,
    ToolCallStart,
)
from relay.deadline import Clock
from relay.decision import Decision
from relay.dispatch import Course, Live, Services
from relay.errors import Draining
from relay.generation import Generation
from relay.governance.operators import operators
from relay.outcome import COPIES, Ended, Recorder
from relay.planner import Planner
from relay.policy.likeness import likeness
from relay.policy.shadow_plan import ShadowPlan
from relay.target_state import TargetStates

_log = structlog.get_logger("relay.shadow")

SURFACE: Final = COPIES
TENANT: Final = "shadow"
MAX_KEPT_CHARS: Final = 16_384
"""Of an answer that is to be compared."""
MAX_TOOLS: Final = 64
_SAYS_WHO: Final = ("user", "metadata", "store", "safety_identifier", "previous_response_id")
"""Fields of bodies that name somebody, or have something kept of what is said."""
_ELSEWHERE: Final = ("models", "fallbacks", "preset")
"""And those by which a host would ask another model."""
_NOT_COPIED: Final = frozenset({SURFACE, "prewarm"})


class Heard:
    """What an answer said, as much of it as is compared; a `Recorder`, perhaps beside another.

    Args:
        beside: who keeps it too; the `Recorder` that others ask for.
    """

    __slots__ = ("_left", "_texts", "beside", "chars", "finish", "tools")

    def __init__(self, beside: Recorder | None = None) -> None:
        self.beside = beside
        self._texts: list[str] = []
        self._left = MAX_KEPT_CHARS
        self.chars = 0
        self.finish: FinishReason | None = None
        self.tools: list[str] = []
        """Names of those that were called, in order."""

    def take(self, events: Events) -> None:
        """The next events, in order; those of the first choice count."""
        for event in events:
            if isinstance(event, TextDelta):
                if event.choice == 0:
                    self._add(event.text)
            elif isinstance(event, ChoiceFinished) and event.choice == 0:
                self.finish = event.reason
            elif (
                isinstance(event, ToolCallStart)
                and event.choice == 0
                and len(self.tools) < MAX_TOOLS
            ):
                self.tools.append(event.name)
        if self.beside is not None:
            self.beside.take(events)

    def _add(self, text: str) -> None:
        self.chars += len(text)
        if self._left > 0:
            self._texts.append(text[: self._left])
            self._left -= len(text)

    @property
    def text(self) -> str:
        """Its beginning."""
        return "".join(self._texts)


RecordFor = Callable[[GenerateRequest, str], Recorder | None]


class Shadows:
    """Of one worker and one configuration.

    Args:
        config: by name.
        services: of the worker; copies use its transport and its catalog.
        course: what makes cascades and panels of their names, and does nothing else; None where
            there are none.
        before: those that these take the place of.
        now_s: wall clock, seconds since 1970.
    """

    def __init__(
        self,
        config: Mapping[str, ShadowConfig],
        services: Services,
        course: Course | None = None,
        before: Shadows | None = None,
        now_s: Clock = time.time,
    ) -> None:
        self._services = services
        self._course = course
        self._now_s = now_s
        self._live = Live() if before is None else before.live
        self._planner = (
            Planner(TargetStates(), services.clock) if before is None else before.planner
        )
        kept = {} if before is None else before.plans
        self.plans: dict[str, ShadowPlan] = {
            name: _plan(name, row, kept.get(name)) for name, row in config.items()
        }
        """By name."""
        self._by_model: dict[str, list[ShadowPlan]] = {}
        for plan in self.plans.values():
            if plan.config.enabled:
                self._by_model.setdefault(plan.config.model, []).append(plan)

    @property
    def live(self) -> Live:
        """Copies that run; apart from clients' generations, which a drain waits for."""
        return self._live

    @property
    def planner(self) -> Planner:
        """With all that was learnt by copies."""
        return self._planner

    def __bool__(self) -> bool:
        """Whether anything is ever copied."""
        return bool(self._by_model)

    def recording(self, inner: RecordFor | None) -> RecordFor:
        """For `Services.record`: the same as before, and of what will be copied and compared what
        is needed for that."""

        def record(request: GenerateRequest, generation_id: str) -> Recorder | None:
            beside = None if inner is None else inner(request, generation_id)
            for plan in self._by_model.get(request.asked_as or request.model, ()):
                if plan.config.compare_text and plan.wants(generation_id):
                    return Heard(beside)
            return beside

        return record

    def ended(self, ended: Ended) -> None:
        """A generation has ended; a `Listener`. Begins a copy where one is due; never waits."""
        request = ended.request
        plans = self._by_model.get(request.asked_as or request.model)
        if plans is None or not _is_copied(ended):
            return
        services = self._services
        for plan in plans:
            if not plan.wants(ended.generation_id):
                continue
            if services.is_draining:
                plan.dropped["draining"] += 1
            elif plan.begin(self._now_s(), len(services.live)) is None:
                services.reaper.take(self._run(plan, _Original(ended)))

    async def _run(self, plan: ShadowPlan, original: _Original) -> None:
        """One copy, to its end. Cancelled: it is stopped, and booked as far as it came."""
        heard, decision = Heard(), Decision(shadow={"name": plan.name, **original.told})
        generation = Generation(
            self._apart(),
            _copied(original.request, plan.config),
            generation_id=f"{original.generation_id}-{plan.mark}",
            frontend=SURFACE,
            total_s=plan.config.timeout_ms / 1000,
            decision=decision,
        )
        try:
            async with generation:
                if await generation.commit():
                    async for events in generation:
                        generation.released()
                        heard.take(events)
                        if heard.finish is not None:
                            decision.shadow.update(_compared(original, heard))
        finally:
            end = generation.end
            costs = [] if end is None else [record.cost for record in end.attempts]
            known = [cost for cost in costs if cost is not None]
            is_failed = end is None or end.error is not None
            is_priced = len(known) == len(costs)
            plan.ended(sum(known) if is_priced else None, is_failed=is_failed)

    def _apart(self) -> Services:
        """What copies use: the worker's, but for whatever clients could notice."""
        services = copy.copy(self._services)
        services.ledger = operators(self._services.ledger)
        services.live = self._live
        services.planner = self._planner
        services.course = self._course
        services.record = None
        return services

    def stop(self) -> None:
        """The worker is shutting down: nobody waits for copies."""
        self._live.cancel_all(Draining("this relay is shutting down"))

    def describe(self) -> dict[str, Any]:
        """For `/admin/state`."""
        return {name: plan.describe() for name, plan in self.plans.items()}


class _Original:
    """What is needed of the generation that is copied: nothing of its answer but its beginning."""

    __slots__ = ("generation_id", "heard", "request", "told")

    def __init__(self, ended: Ended) -> None:
        end = ended.end
        self.generation_id = ended.generation_id
        self.request = ended.request
        self.heard = ended.recorded if isinstance(ended.recorded, Heard) else None
        costs = [record.cost for record in end.attempts]
        finish = end.finish_reasons.get(0)
        self.told: dict[str, Any] = {
            "of": ended.generation_id,
            "of_first_content_us": ended.first_content_us,
            "of_wall_us": end.wall_us,
            "of_finish": None if finish is None else FinishReason(finish).name,
            "of_cost_micro": None
            if None in costs
            else round(sum(cost for cost in costs if cost is not None)),
        }


def _compared(original: _Original, heard: Heard) -> dict[str, Any]:
    finish = heard.finish
    found: dict[str, Any] = {
        "finish": None if finish is None else FinishReason(finish).name,
        "chars": heard.chars,
    }
    first = original.heard
    if first is None:
        return found
    found["of_chars"] = first.chars
    if heard.tools or first.tools:
        found["same_tools"] = heard.tools == first.tools
    if heard.chars or first.chars:  # of two calls of tools without a word nothing is alike
        found["is_equal"] = heard.chars == first.chars and heard.text == first.text
        found["likeness"] = round(likeness(first.text, heard.text), 3)
    return found


def _is_copied(ended: Ended) -> bool:
    """A client's own generation that a provider answered."""
    end = ended.end
    decision = end.decision
    return (
        end.error is None
        and ended.frontend not in _NOT_COPIED
        and not ended.request.is_prefix
        and ended.request.embedding is None
        and (decision is None or not decision.is_kept)
    )


def _copied(request: GenerateRequest, config: ShadowConfig) -> GenerateRequest:
    """The same prompt for another model, and nothing that says whose it is."""
    policy = request.policy
    left_out = (*_SAYS_WHO, *_ELSEWHERE)
    return replace(
        request,
        model=config.use,
        asked_as=request.asked_as or request.model,  # no rule and no experiment looks at it again
        user="",
        prompt_cache_key="",
        extra=_without(request.extra, left_out),
        native={wire: _without(fields, left_out) for wire, fields in request.native.items()},
        policy=Policy(
            budgets=Budgets(total_s=config.timeout_ms / 1000),
            hedge=HedgeWish(mode="off"),
            tenant=TENANT,
            zones=policy.zones,
            prompt_cache=policy.prompt_cache,
        ),
    )


def _without(fields: Mapping[str, Any], names: tuple[str, ...]) -> Mapping[str, Any]:
    if not any(name in fields for name in names):
        return fields
    return {name: value for name, value in fields.items() if name not in names}


def _plan(name: str, row: ShadowConfig, before: ShadowPlan | None) -> ShadowPlan:
    if before is None:
        return ShadowPlan(name, row)
    before.takes(row)
    return before
