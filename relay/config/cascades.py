"""`policies.cascades`: a small model first, a large one where that is not enough."""

from __future__ import annotations

from relay.config.model import Model


class CascadeConfig(Model):
    """A name that clients ask for: two tiers."""
