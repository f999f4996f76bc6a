"""`policies.panels`: several models asked at once, one answer."""

from __future__ import annotations

from relay.config.model import Model


class PanelConfig(Model):
    """A name that clients ask for: several models."""
