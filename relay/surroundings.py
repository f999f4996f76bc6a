"""What rules are told of one request and of the worker that it came to."""

from __future__ import annotations

import time
from typing import Final

from relay.deadline import Clock
from relay.errors import UnknownModel
from relay.governance.gate import Gate
from relay.governance.grants import allows, scopes_of
from relay.routing.catalog import Catalog
from relay.routing.route import Route
from relay.routing.target import Target
from relay.target_state import TargetStates

MIN_SAMPLES: Final = 20
"""First tokens of a target, from which on its latency counts as known."""


class WorkerSurroundings:
    """A `relay.policy.surroundings.Surroundings`; made for each request that rules look at."""

    __slots__ = ("_catalog", "_clock", "_gate", "_key_id", "_states", "prompt_tokens", "surface")

    def __init__(
        self,
        catalog: Catalog,
        states: TargetStates,
        clock: Clock,
        gate: Gate,
        *,
        key_id: str,
        surface: str,
        prompt_tokens: int,
    ) -> None:
        self._catalog = catalog
        self._states = states
        self._clock = clock
        self._gate = gate
        self._key_id = key_id
        self.surface = surface
        self.prompt_tokens = prompt_tokens

    @property
    def now_s(self) -> float:
        return time.time()

    def allowed(self, name: str) -> bool:
        """
        Raises:
            Unauthenticated, StoreDown: as `Gate.view`.
        """
        return allows(scopes_of(self._gate, self._key_id), self._catalog, name)

    def latency_ms(self, name: str, quantile: float) -> float | None:
        """Of the target that is asked first: by the operator's order, else of the quickest."""
        route = _route(self._catalog, name)
        if route is None:
            return None
        is_first_known = route.choose.mode == "ordered" and route.choose.sort == "configured"
        targets = route.candidates[:1] if is_first_known else route.candidates
        found = [
            value_ms
            for target in targets
            if (value_ms := self._latency_ms(target, quantile)) is not None
        ]
        return min(found, default=None)

    def _latency_ms(self, target: Target, quantile: float) -> float | None:
        state = self._states.known(target.name)
        if state is None:  # perhaps something was kept of it before the worker began
            state = self._states.of(target, self._clock())
        if state.latency.known < MIN_SAMPLES:
            return None
        return 1000 * state.quantile_s(quantile) * state.latency.scale(self.prompt_tokens)

    def price(self, name: str) -> tuple[float, float] | None:
        return price_of(self._catalog, name)


def price_of(catalog: Catalog, name: str) -> tuple[float, float] | None:
    """Of input and output, US dollars per million tokens: of an alias the dearest of its
    candidates, so that a bound is kept whoever answers; None where one has no known price, and of
    what is no alias and no model."""
    route = _route(catalog, name)
    if route is None:
        return None
    prices = [target.price for target in route.candidates]
    known = [price for price in prices if price is not None]
    if len(known) < len(prices):
        return None
    return max(price.input for price in known), max(price.output for price in known)


def _route(catalog: Catalog, name: str) -> Route | None:
    """None for cascades and panels, of which nobody knows beforehand what they will ask."""
    if name in catalog.composed:
        return None
    try:
        return catalog.resolve(name)
    except UnknownModel:
        return None
