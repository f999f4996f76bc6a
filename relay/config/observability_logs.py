"""`observability.logs`: which generations have their line, and how much may wait to be written."""

from __future__ import annotations

from pydantic import Field

from relay.config.model import Model


class LogsConfig(Model):
    share: float = Field(
        1.0,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="of the generations that went well; those that failed, were hedged, stalled or"
        " were slow are always logged",
    )
    slow_ms: int = Field(
        2_000, ge=1, description="until the first content; longer is slow, and always logged"
    )
    max_waiting_bytes: int = Field(
        4 * 1024 * 1024,
        ge=64 * 1024,
        le=1024 * 1024 * 1024,
        description="of lines, while whoever reads standard error does not; what is over is dropped"
        " and counted",
    )
