"""`policies.experiments` and `policies.shadows`: traffic divided, or sent twice, to compare."""

from __future__ import annotations

from relay.config.model import Model


class ExperimentConfig(Model):
    """Requests for one name, divided between arms."""


class ShadowConfig(Model):
    """Requests for one name, some of them sent elsewhere too, whose answers nobody sees."""
