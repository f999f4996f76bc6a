"""`guardrails`: what may not be asked, and what may not be answered."""

from __future__ import annotations

from relay.config.model import Model


class GuardrailsConfig(Model):
    """All guardrails, and where each applies."""
