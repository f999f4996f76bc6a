"""Settings of the property tests: how many examples, and no clock (machines are busy)."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

IS_FULL = os.environ.get("RELAY_FULL") == "1"


def examples(count: int, *, full: int | None = None) -> settings:
    """Decorator: so many examples, or `full` in `make nightly`, however long each takes."""
    return settings(
        max_examples=full if full is not None and IS_FULL else count,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    )
