"""`observability.metrics`: what Prometheus is shown, and how finely."""

from __future__ import annotations

import itertools
import math
import re
from typing import Annotated, Final

from pydantic import AfterValidator, Field, field_validator

from relay.config.model import Model

MAX_BUCKETS: Final = 40
_TAKEN: Final = ("/admin", "/healthz", "/readyz", "/dashboard", "/playground")


def _ascending(value: tuple[float, ...]) -> tuple[float, ...]:
    if not 1 <= len(value) <= MAX_BUCKETS:
        raise ValueError(f"1 to {MAX_BUCKETS} bounds are expected")
    if not all(math.isfinite(bound) and bound > 0 for bound in value):
        raise ValueError("bounds are milliseconds above 0; the last bucket, +Inf, is always there")
    if any(one >= next_ for one, next_ in itertools.pairwise(value)):
        raise ValueError("bounds must ascend")
    return value


Bounds = Annotated[tuple[float, ...], AfterValidator(_ascending)]


class BucketsConfig(Model):
    """Upper bounds of the histograms' buckets. Each is a series for every row of its family."""

    added_ms: Bounds = Field(
        (0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 25, 50, 100, 250, 1000),
        description="of what the relay adds: fractions of a millisecond, as a rule",
    )
    ttft_ms: Bounds = Field(
        (50, 100, 150, 200, 300, 400, 500, 650, 800, 1000, 1250, 1500, 2000, 3000, 5000, 1e4, 3e4),
        description="of first tokens: closest where a voice notices",
    )
    phase_ms: Bounds = Field(
        (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 1e4, 3e4),
        description="of the timeline's phases, which are anything from microseconds on",
    )
    mean_gap_ms: Bounds = Field(
        (1, 2.5, 5, 10, 15, 20, 30, 40, 60, 80, 100, 150, 250, 500, 1000),
        description="of the mean time between an answer's tokens",
    )
    longest_gap_ms: Bounds = Field(
        (10, 25, 50, 100, 200, 350, 500, 750, 1000, 1500, 2500, 5000, 10_000, 30_000),
        description="of the longest silence inside an answer",
    )
    wall_ms: Bounds = Field(
        (100, 250, 500, 1000, 2000, 3000, 5000, 7500, 1e4, 2e4, 3e4, 6e4, 12e4, 3e5, 6e5),
        description="of whole generations",
    )


class MetricsConfig(Model):
    enabled: bool = Field(True, description="false: nothing is counted and nothing is served")
    path: str = Field("/metrics", description="on the admin listener; guarded as /admin/state is")
    buckets: BucketsConfig = BucketsConfig()
    dead_air_ms: float = Field(
        1500,
        gt=0,
        le=60_000,
        description="an answer that cannot be spoken by then has left a silence that is heard",
    )
    max_targets: int = Field(
        2000,
        ge=1,
        le=10_000,
        description="models with rows of their own; those beyond share the row `_other`",
    )
    max_teams: int = Field(
        200, ge=1, le=10_000, description="teams with rows of their own; the rest are `_other`"
    )

    @field_validator("path")
    @classmethod
    def _free(cls, value: str) -> str:
        if not re.fullmatch(r"(/[A-Za-z0-9._-]+)+", value):
            raise ValueError("a path such as /metrics is expected")
        for taken in _TAKEN:
            if value == taken or value.startswith(f"{taken}/"):
                raise ValueError(f"{taken} is something else's")
        return value
