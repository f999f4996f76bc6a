"""The policies, caches and guardrails of one worker, put together for each configuration.

    policies = Policies(services, store=config.store)
    policies.take(config, desk).use()         # again at each reload
    ...
    await policies.aclose()

What has been kept or learnt (cached answers, credit of speculative starts, arms that were stopped,
copies of requests that run) is kept here from one configuration to the next.
"""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import structlog

from relay.cache.base import Caches
from relay.cache.caches import ResponseCaches
from relay.cache.exact import ExactCache
from relay.cache.open_shelf import open_shelf, resized
from relay.cache.semantic_shelf import SemanticShelf
from relay.cache.shelf import Shelf
from relay.compositions import catalog_of, compositions_of
from relay.config import Config
from relay.content import GenerateRequest, Usage
from relay.course import Choose, PolicyCourse
from relay.credentials.base import Desk
from relay.decision import Decision
from relay.dispatch import Services
from relay.errors import shown
from relay.guardrails.build import chain_of
from relay.guardrails.chain import GuardChain
from relay.moderations import moderations_of
from relay.outcome import Ended
from relay.policy.cascade_budget import SpeculationBudgets
from relay.policy.chooser import Chooser
from relay.policy.experiments import Experiments
from relay.policy.guard_rail import Stop
from relay.policy.rules import RefusedByRule
from relay.routing.catalog import Catalog
from relay.routing.target import Target
from relay.shadow import Shadows
from relay.surroundings import WorkerSurroundings

_log = structlog.get_logger("relay.policies")

_MAKES_ANSWERS: Final = frozenset({"models", "providers", "policies", "guardrails"})
"""Sections of the file that an answer depends on."""


class Taken(NamedTuple):
    """A configuration, ready to be used."""

    policies: Policies
    catalog: Catalog
    course: PolicyCourse | None
    experiments: Experiments
    shadows: Shadows
    guards: GuardChain | None

    def use(self) -> Catalog:
        """The worker's catalog and course are these from now on; what runs keeps its own."""
        self.policies.use(self)
        return self.catalog


class Policies:
    """Of one worker. Whoever makes it closes it.

    Args:
        services: of the worker; hears of ends from then on.
        on_stopped: told of each arm of an experiment that a guard rail has stopped.
    """

    def __init__(
        self,
        services: Services,
        on_stopped: Callable[[str, Stop], object] = lambda _, __: None,
    ) -> None:
        self._services = services
        self._on_stopped = on_stopped
        self._budgets = SpeculationBudgets()
        self._experiments: Experiments | None = None
        self._shadows: Shadows | None = None
        self._shelf: Shelf | None = None
        self._meanings: SemanticShelf | None = None
        self._guards: GuardChain | None = None
        self._retired: list[GuardChain] = []
        """Answers that began under them may still be guarded by them."""
        self._record = services.record
        services.on_ended.append(self._ended)

    def take(self, config: Config, desk: Desk | None = None) -> Taken:
        """Make what a configuration says; nothing of it holds before `Taken.use`.

        Raises:
            ConfigError: it cannot be used.
        """
        services = self._services
        compositions = compositions_of(config, self._budgets)
        catalog = catalog_of(config, desk, compositions)
        policies = config.policies
        experiments = Experiments(policies.experiments, self._experiments, self._on_stopped)
        plain = PolicyCourse(compositions=compositions) if compositions else None
        shadows = Shadows(policies.shadows, services, plain, self._shadows)
        caches = self._caches(config, catalog)
        guards = self._chain(config)
        chooser = Chooser.of(config)
        choose: Choose | None = None
        if not chooser.is_idle or experiments:
            choose = _choose(services, catalog, chooser, experiments)
        course: PolicyCourse | None = None
        if compositions or choose is not None or caches is not None or guards is not None:
            course = PolicyCourse(
                choose=choose,
                compositions=compositions,
                caches=caches,
                guards=guards,
                version=version_of(config),
            )
        return Taken(self, catalog, course, experiments, shadows, guards)

    def use(self, taken: Taken) -> None:
        """See `Taken.use`."""
        services, shadows = self._services, taken.shadows
        self._experiments, self._shadows = taken.experiments, shadows
        if self._guards is not None and not self._guards.asks_as(taken.guards):
            self._retired.append(self._guards)
        self._guards = taken.guards
        services.feedback.felt = taken.experiments.felt
        services.record = shadows.recording(self._record) if shadows else self._record
        services.catalog, services.course = taken.catalog, taken.course

    def _caches(self, config: Config, catalog: Catalog) -> Caches | None:
        section = config.cache
        if section is None or (section.exact is None and section.semantic is None):
            return None
        exact = near = None
        if section.exact is not None:
            if self._shelf is None:
                self._shelf = open_shelf(section.exact, config.store)
            else:
                resized(self._shelf, section.exact)
            exact = ExactCache(section.exact, self._shelf)
        if section.semantic is not None:
            self._meanings = self._meanings or SemanticShelf(config.store)
            near = self._meanings.take(section.semantic)
        return ResponseCaches(
            exact,
            near,
            price_of=_price_of(catalog),
            clock=self._services.clock,
            wall_clock=time.time,
        )

    def _chain(self, config: Config) -> GuardChain | None:
        """
        Raises:
            ConfigError: a guardrail cannot be made.
        """
        if config.guardrails is None:
            return None
        services = self._services
        ask_of = moderations_of(services, lambda name: services.catalog.endpoints.get(name))
        return chain_of(config.guardrails, ask_of, self._guards, clock=services.clock)

    def _ended(self, ended: Ended) -> None:
        if self._experiments is not None:
            self._experiments.heard(ended)
        if self._shadows is not None:
            self._shadows.ended(ended)

    @property
    def experiments(self) -> Experiments | None:
        """Those that hold now; None before any do."""
        return self._experiments

    def describe(self) -> dict[str, Any]:
        """For `/admin/state`."""
        found: dict[str, Any] = {}
        if self._shadows:
            found["shadows"] = self._shadows.describe()
        if self._experiments:
            found["experiments"] = self._experiments.describe()
        if self._shelf is not None:
            found["cache"] = self._shelf.describe()
        if self._meanings is not None:
            found["semantic_cache"] = self._meanings.describe()
        return found

    def lacks(self, config: Config) -> bool:
        """Whether `take` would stop the loop for some tenths of a second, without `load` before."""
        wanted = None if config.cache is None else config.cache.semantic
        return wanted is not None and (self._meanings is None or self._meanings.lacks(wanted))

    async def load(self, config: Config) -> None:
        """Read in a thread what `take` needs. What is wrong with it is for `take` to tell."""
        wanted = None if config.cache is None else config.cache.semantic
        if wanted is not None:
            self._meanings = self._meanings or SemanticShelf(config.store)
            await self._meanings.load(wanted)

    async def check(self) -> None:
        """At start: whether what was taken can be had from the servers that it needs.

        Raises:
            ConfigError: it cannot.
        """
        if self._meanings is not None:
            await self._meanings.check()

    def stop(self) -> None:
        """The worker drains: copies of requests are given up."""
        if self._shadows is not None:
            self._shadows.stop()

    async def aclose(self) -> None:
        """Let go of stores, models and whoever is asked. Idempotent; bounded in time."""
        guards, self._guards = self._guards, None
        for chain in (*self._retired, guards):
            if chain is not None:
                await chain.aclose()
        self._retired = []
        meanings, self._meanings = self._meanings, None
        shelf, self._shelf = self._shelf, None
        for one in (meanings, shelf):
            if one is not None:
                await one.aclose()


def _choose(
    services: Services, catalog: Catalog, chooser: Chooser, experiments: Experiments
) -> Choose:
    def choose(
        request: GenerateRequest, surface: str, prompt_tokens: int, decision: Decision | None
    ) -> GenerateRequest:
        asked = request.model
        if not chooser.is_idle:
            surroundings = WorkerSurroundings(
                catalog,
                services.planner.states,
                services.clock,
                services.gate,
                key_id=request.policy.key_id,
                surface=surface,
                prompt_tokens=prompt_tokens,
            )
            try:
                choice = chooser.choose(request, surroundings)
            except RefusedByRule as refusal:
                if decision is not None:
                    decision.rule = refusal.rule
                raise
            request = choice.request
            if decision is not None:
                decision.rule = choice.rule
        if decision is None:
            seen = experiments.peek(request.model, request, time.time()) if experiments else None
            return request if seen is None else seen.of(request)
        if experiments:
            assigned = experiments.assign(request.model, request, time.time(), random.random)
            if assigned is not None:
                assigned.tell(decision)
                request = assigned.of(request)
        if request.model != asked:
            decision.asked = shown(asked)  # the client's own words, of any length
        return request

    return choose


def _price_of(catalog: Catalog) -> Callable[[str, str, Usage], int | None]:
    def price_of(provider: str, model: str, usage: Usage) -> int | None:
        endpoint = catalog.endpoints.get(provider)
        price = None if endpoint is None else Target(endpoint, model).price
        if price is None:
            return None
        cached = usage.cached_tokens or 0
        return round(price.of(usage.prompt_tokens, cached, usage.completion_tokens))

    return price_of


def version_of(config: Config) -> str:
    """A digest of whatever in a configuration could make another answer of a request. Secrets are
    not in it."""
    text = config.model_dump_json(include=set(_MAKES_ANSWERS))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
