"""`cache`: answers that are given again."""

from __future__ import annotations

from relay.config.model import Model
from relay.config.semantic_cache import SemanticCacheConfig


class ExactCacheConfig(Model):
    """The same request again."""


class CacheConfig(Model):
    """Both caches; each is off where it is not there."""

    exact: ExactCacheConfig | None = None
    semantic: SemanticCacheConfig | None = None
