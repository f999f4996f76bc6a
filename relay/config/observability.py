"""`observability`: what the relay tells of its work; but for metrics each part is off where it is
not named."""

from __future__ import annotations

from pydantic import Field

from relay.config.metrics import MetricsConfig
from relay.config.model import Model
from relay.config.observability_logs import LogsConfig
from relay.config.observability_payloads import PayloadsConfig
from relay.config.observability_tracing import TracingConfig
from relay.config.redaction import Patterns


class ObservabilityConfig(Model):
    metrics: MetricsConfig = MetricsConfig()
    tracing: TracingConfig | None = Field(
        None, description="spans of every generation, sent to an OpenTelemetry collector"
    )
    logs: LogsConfig = LogsConfig()
    payloads: PayloadsConfig | None = Field(
        None, description="prompts and answers, written to files"
    )
    redact: Patterns = Field(
        (),
        description="regular expressions; what they find in prompts and answers is masked, in"
        " payloads and in the content of spans",
    )
