"""What a model name stands for: who may be asked, in which zones, with which limits and hedges."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from relay.config import (
    TIMEOUT_CLASSES_MS,
    ChooseConfig,
    EscalateConfig,
    HedgeConfig,
    TimeoutsConfig,
)
from relay.content import GenerateRequest
from relay.prices import Price
from relay.routing.target import Target

_NO_HEDGE = HedgeConfig()
_AS_LISTED = ChooseConfig()

MAX_WITHIN = 64
"""Sets of zones for which a route keeps what is left of it."""


def is_inside(target: Target, zones: frozenset[str] | None) -> bool:
    """Whether a target may be asked by who is held to these zones; None: anywhere."""
    return zones is None or target.zone in zones


_NONE_ESCALATED: Mapping[str, Target] = {}


def escalated(candidates: Iterable[Target], settings: EscalateConfig) -> Mapping[str, Target]:
    """See `Route.escalated`. A price that is not known is no bargain, and nor is a tier for which
    nobody publishes one: then a target is not in it."""
    tier = settings.tier
    if tier is None:
        return _NONE_ESCALATED
    found: dict[str, Target] = {}
    for target in candidates:
        endpoint = target.endpoint
        if tier not in endpoint.service_tiers or target.tier_of("") == tier:
            continue
        dearer = Target(endpoint, target.model, tier)
        price, usual = dearer.price, target.price
        if price is not None and usual is not None and _is_within(price, usual, settings):
            found[target.name] = dearer
    return found


def _is_within(price: Price, usual: Price, settings: EscalateConfig) -> bool:
    """In input and in output: which of them a request pays most for is not known here. What is
    cached costs what the budget of money says."""
    most = settings.max_price_ratio * (1 + 1e-9)
    return price.input <= most * usual.input and price.output <= most * usual.output


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Limits of one attempt, seconds."""

    connect_s: float
    first_token_s: float
    inter_token_s: float
    total_s: float


@dataclass(frozen=True, slots=True)
class Route:
    """What a model name stands for."""

    alias: str
    """The alias, or the name as it was asked for."""
    candidates: tuple[Target, ...]
    """Each once."""
    fallbacks: tuple[Target, ...]
    """Each once, none that is a candidate."""
    timeouts: TimeoutsConfig
    tags: tuple[str, ...] = ()
    hedge: HedgeConfig = _NO_HEDGE
    choose: ChooseConfig = _AS_LISTED
    is_alias: bool = True
    """The operator wrote it; else `provider/model`, or a model's own name, as a caller did."""
    zones: frozenset[str] | None = None
    """All that its targets are in; None for anywhere."""
    legs_at_once: int = 1
    """Of a cascade or panel: so many of its aliases may be asked beside each other."""
    escalated: Mapping[str, Target] = field(init=False, compare=False, repr=False)
    """By name of a candidate: the same at the dearer tier of `hedge.escalate`, where its price is
    known and not too high."""
    _narrowed: dict[frozenset[str], Route | None] = field(
        default_factory=dict, init=False, compare=False, repr=False
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "escalated", escalated(self.candidates, self.hedge.escalate))

    def within(self, zones: frozenset[str] | None) -> Route | None:
        """What is left of it in these zones (and its own): targets elsewhere, or in an unknown
        zone, are gone. Where only fallbacks are left, they are its candidates.

        Returns:
            The same object for the same zones, so that what is kept by route stays; None where
            nothing is left.
        """
        if zones is None or zones == self.zones:
            return self
        if zones in self._narrowed:
            return self._narrowed[zones]
        allowed = zones if self.zones is None else zones & self.zones
        candidates = tuple(target for target in self.candidates if target.zone in allowed)
        fallbacks = tuple(target for target in self.fallbacks if target.zone in allowed)
        route = None
        if candidates or fallbacks:
            route = dataclasses.replace(
                self,
                candidates=candidates or fallbacks,
                fallbacks=fallbacks if candidates else (),
                zones=allowed,
            )
        if len(self._narrowed) >= MAX_WITHIN:
            self._narrowed.clear()
        self._narrowed[zones] = route
        return route

    @property
    def narrower(self) -> tuple[Route, ...]:
        """What `within` has made of it so far, the latest last."""
        return tuple(route for route in self._narrowed.values() if route is not None)

    def timeouts_for(self, request: GenerateRequest) -> Timeouts:
        """Limits of each attempt at this route, by its class and what the request asks."""
        timeout_class = self.timeouts.timeout_class
        if timeout_class == "auto":
            timeout_class = "reasoning" if _asks_for_reasoning(request) else "default"
        return self.timeouts_of(timeout_class)

    def timeouts_of(self, timeout_class: str) -> Timeouts:
        """The same of a class: fields left out come from it."""
        given = self.timeouts
        return _timeouts(
            timeout_class,
            given.connect_ms,
            given.first_token_ms,
            given.inter_token_ms,
            given.total_ms,
        )


@lru_cache(maxsize=1024)
def _timeouts(
    timeout_class: str,
    connect_ms: int | None,
    first_token_ms: int | None,
    inter_token_ms: int | None,
    total_ms: int | None,
) -> Timeouts:
    row = TIMEOUT_CLASSES_MS[timeout_class]
    return Timeouts(
        connect_s=(connect_ms or row["connect_ms"]) / 1000,
        first_token_s=(first_token_ms or row["first_token_ms"]) / 1000,
        inter_token_s=(inter_token_ms or row["inter_token_ms"]) / 1000,
        total_s=(total_ms or row["total_ms"]) / 1000,
    )


def _asks_for_reasoning(request: GenerateRequest) -> bool:
    effort = request.reasoning.effort
    return effort not in ("", "none", "minimal") or bool(request.reasoning.budget_tokens)
