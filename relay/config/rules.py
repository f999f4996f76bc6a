"""`policies.rules`: which name a request becomes, by what it is."""

from __future__ import annotations

from relay.config.model import Model


class RuleConfig(Model):
    """One rule; the first that matches decides."""
