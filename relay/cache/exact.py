"""The exact cache under one configuration: whose answers are kept, for how long, how replayed."""

from __future__ import annotations

from relay.cache.base import CacheScope
from relay.cache.key import is_deterministic, key_of
from relay.cache.shelf import Shelf
from relay.cache.stored import Given, Stored
from relay.config.cache import ExactCacheConfig
from relay.content import GenerateRequest


class ExactCache:
    """Rules over a shelf, which outlives them."""

    def __init__(self, config: ExactCacheConfig, shelf: Shelf) -> None:
        self._config = config
        self.shelf = shelf
        self._models = frozenset(config.models)
        self._not_models = frozenset(config.not_models)
        self._max_ttl_s = float(config.max_ttl_s or config.ttl_s)
        self.max_bytes = config.max_answer_bytes
        """Of one answer."""
        self.max_gap_s = config.max_gap_ms / 1000 if config.replay == "paced" else 0.0
        """Between two batches of a kept answer; 0: all at once."""

    @property
    def is_paced(self) -> bool:
        """Whether gaps are kept."""
        return self._config.replay == "paced"

    def key_of(self, request: GenerateRequest, scope: CacheScope) -> bytes | None:
        """None: not of these models, or a request whose answer must not be kept."""
        route = scope.route
        if route in self._not_models or (self._models and route not in self._models):
            return None
        config = self._config
        if config.only_deterministic and not is_deterministic(request):
            return None
        return key_of(
            request,
            scope,
            share=config.share,
            epoch=config.epoch,
            max_bytes=config.max_request_bytes,
        )

    def ttl_s(self, request: GenerateRequest) -> float:
        """How old an answer to it may be, and how long its own is kept."""
        wanted_s = request.policy.cache_ttl_s
        return float(self._config.ttl_s) if wanted_s is None else min(wanted_s, self._max_ttl_s)

    def wait_s(self, request: GenerateRequest) -> float:
        """How long it waits for an equal one: what is left must be enough to ask by itself."""
        limit_s = self._config.wait_ms / 1000
        first_token_s = request.policy.budgets.first_token_s
        return limit_s if first_token_s is None else min(limit_s, first_token_s / 2)

    def keep(self, key: bytes, ttl_s: float, stored: Stored) -> None:
        """Keep it, and give it to whoever waits for it; not where it is too large."""
        written = stored.encode()
        if len(written) <= self.max_bytes:
            self.shelf.put(key, written, ttl_s)
            self.shelf.flights.landed(key, Given(stored, "shared"))
