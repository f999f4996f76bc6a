"""What a request becomes between its arrival and its stream, by the operator's policies.

    choose    rules, then experiments: the name that it goes on under (pure, in memory)
    admit     key, limits, money: one account, whatever is asked on the way
    guard     what is asked; it may be refused, or have something taken out of it
    look up   an answer that is kept, or one that is being made for an equal request
    answer    a race over one alias, or a cascade or panel over several
    keep      what the provider said, when it has come to its clean end
    guard     what is answered, kept answers too: a guardrail that changes holds at once

A relay without policies, caches and guardrails has no course, and pays nothing for it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from relay.answer import Answer
from relay.cache.base import Caches, CacheScope
from relay.content import EmbeddingOptions, GenerateRequest
from relay.decision import Decision
from relay.dispatch import Progress, Services, admit, race
from relay.errors import (
    CacheMiss,
    GuardrailBlocked,
    LocalProtocolError,
    RelayError,
    UnsupportedFeature,
)
from relay.governance.ledger import Refused
from relay.guarded import guarded
from relay.guardrails.base import Guards, GuardScope
from relay.leg import RunningLegs
from relay.policy.base import Composition
from relay.routing.route import Route
from relay.timeline import Timeline
from relay.tokens import estimate_prompt_tokens

Choose = Callable[[GenerateRequest, str, int, Decision | None], GenerateRequest]
"""Of a request, the surface it came by and its prompt's tokens: the request under another name, if
rules or experiments have one for it; fills the decision. Without one nothing is counted, and no
experiment asked: it is only looked at."""


class PolicyCourse:
    """A `relay.dispatch.Course`, of one configuration."""

    def __init__(
        self,
        *,
        choose: Choose | None = None,
        compositions: Mapping[str, Composition] | None = None,
        caches: Caches | None = None,
        guards: Guards | None = None,
        version: str = "",
    ) -> None:
        """
        Args:
            choose: None where there are neither rules nor experiments.
            compositions: cascades and panels, by name.
            version: of everything in the configuration that could make another answer.
        """
        self._choose = choose
        self._compositions = compositions or {}
        self._caches = caches
        self._guards = guards
        self._version = version

    def choose(self, request: GenerateRequest, surface: str, prompt_tokens: int) -> GenerateRequest:
        if self._choose is None or request.asked_as:
            return request
        return self._choose(request, surface, prompt_tokens, None)

    async def checked(self, request: GenerateRequest, surface: str) -> GenerateRequest:
        if self._guards is None:
            return request
        return await self._guards.check(request, _scope(request, surface), Decision(), None)

    def check_passthrough(self, provider: str, tenant: str, key_id: str, surface: str) -> None:
        if self._guards is not None:
            self._guards.check_passthrough(GuardScope(tenant, key_id, provider, (), surface))

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
        progress.decision = decision = progress.decision or Decision()
        scope, tokens = _scope(request, surface), None
        try:
            if self._choose is not None and not request.asked_as:
                tokens = estimate_prompt_tokens(request)
                request = self._choose(request, surface, tokens, decision)
        except RelayError as error:
            services.ledger.refused(error, Refused.of(request, generation_id, surface))
            raise
        route = await admit(
            services,
            generation_id,
            request,
            timeline,
            progress,
            surface=surface,
            prompt_tokens=tokens,
        )
        request = progress.request or request
        legs = RunningLegs(
            services, progress, generation_id, decision, timeline.received_s, surface
        )
        if self._guards is None:
            return await self._answer(services, generation_id, route, timeline, progress, legs)
        scope = scope._replace(tags=request.policy.tags)
        try:
            began_s = time.perf_counter()
            progress.request = _unsaid(request)  # until it is known what of it may be kept
            progress.request = await self._guards.check(request, scope, decision, legs)
            decision.guard_us += round((time.perf_counter() - began_s) * 1e6)
            answer = await self._answer(services, generation_id, route, timeline, progress, legs)
            guard = self._guards.over(progress.request, scope, decision, legs)
            if guard is None:
                return answer
            progress.on_closed.append(guard.close)
            return await guarded(answer, guard, decision, progress.on_held)
        except GuardrailBlocked as error:
            services.ledger.refused(error, Refused.of(request, generation_id, surface))
            raise

    async def _answer(
        self,
        services: Services,
        generation_id: str,
        route: Route,
        timeline: Timeline,
        progress: Progress,
        legs: RunningLegs,
    ) -> Answer:
        """Of the caches, else of a provider: then it is kept, if it may be."""
        request = progress.request
        if request is None:
            raise LocalProtocolError("a request is admitted before it is answered")
        turn = None
        if self._caches is not None and not request.is_prefix:
            turn = await self._caches.turn(request, self._scope_of(request), legs.decision, legs)
        if turn is not None:
            progress.on_closed.append(turn.close)
            if turn.answer is not None:
                timeline.adopt(turn.answer.marks)
                return turn.answer
        elif request.policy.cache == "only":
            raise CacheMiss("the relay keeps no answers to such requests")
        composition = self._compositions.get(request.model)
        answer: Answer
        if composition is None:
            answer = await race(services, generation_id, route, timeline, progress)
        else:
            if request.embedding is not None:
                raise UnsupportedFeature("embeddings", f"the policy {request.model!r}")
            answer = await composition.compose(request, legs)
            legs.keep_given()
            timeline.adopt(answer.marks)
        return answer if turn is None else turn.recording(answer)

    def _scope_of(self, request: GenerateRequest) -> CacheScope:
        policy = request.policy
        zones = "" if policy.zones is None else ",".join(sorted(policy.zones))
        return CacheScope(policy.tenant, policy.key_id, request.model, zones, self._version)


def _unsaid(request: GenerateRequest) -> GenerateRequest:
    """Without anything that was said: for who writes down requests that guardrails refused."""
    return replace(
        request,
        messages=(),
        tools=(),
        tool_choice=None,
        response_format=None,
        embedding=None if request.embedding is None else EmbeddingOptions(()),
        sampling=replace(request.sampling, stop=()) if request.sampling.stop else request.sampling,
        user="",
        prompt_cache_key="",
        extra={},
        native={},
    )


def _scope(request: GenerateRequest, surface: str) -> GuardScope:
    policy, asked = request.policy, request.asked_as or request.model
    return GuardScope(policy.tenant, policy.key_id, asked, policy.tags, surface)
