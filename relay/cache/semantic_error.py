"""Why the semantic cache cannot start."""

from __future__ import annotations

from relay.config.model import ConfigError


class SemanticCacheError(ConfigError):
    """Something that the configuration wants is not there; the message says what, and what to do.
    Raised at start and at a reload, never while a request waits."""
