"""`observability`: what the relay tells of itself."""

from __future__ import annotations

from relay.config.metrics import MetricsConfig
from relay.config.model import Model


class ObservabilityConfig(Model):
    metrics: MetricsConfig = MetricsConfig()
