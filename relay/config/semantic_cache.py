"""`cache.semantic`: answers to requests that mean the same."""

from __future__ import annotations

from relay.config.model import Model


class SemanticCacheConfig(Model):
    """A request that means the same as one before."""
