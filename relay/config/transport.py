"""`transport`: connections to providers."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from relay.config.model import Model


class TransportConfig(Model):
    engine: Literal["wreq", "pyqwest", "httpx"] = Field("wreq", description="upstream HTTP client")
    probe_interval_ms: int = Field(
        30_000, ge=1000, description="a cheap request of our own keeps idle connections warm"
    )
    max_connection_age_ms: int = Field(
        600_000, ge=10_000, description="then a new one takes over before the old one goes"
    )
    max_connections: int = Field(
        8, ge=1, le=256, description="HTTP/2, per provider address; beyond their streams is waited"
    )
    max_http1_connections: int = Field(
        64, ge=1, le=4096, description="HTTP/1.1, per provider address; each carries one request"
    )
    dial_timeout_ms: int = Field(
        3_000, ge=50, le=60_000, description="TCP and TLS of one new connection"
    )
