"""`observability.metrics`: what is refused and how it is named."""

from __future__ import annotations

from typing import Any

import pytest

from relay.config import Config, ConfigError, parse

WHERE = "observability.metrics"


def fault_of(**metrics: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        parse({"observability": {"metrics": metrics}})
    return str(caught.value)


def test_defaults() -> None:
    metrics = Config().observability.metrics
    assert (metrics.enabled, metrics.path, metrics.dead_air_ms) == (True, "/metrics", 1500)
    assert metrics.buckets.added_ms[0] == 0.1
    assert (metrics.max_targets, metrics.max_teams) == (2000, 200)


def test_values_are_taken() -> None:
    given = {"path": "/own/metrics", "buckets": {"ttft_ms": [100, 200.5]}, "max_teams": 5}
    metrics = parse({"observability": {"metrics": given}}).observability.metrics
    assert (metrics.path, metrics.buckets.ttft_ms) == ("/own/metrics", (100, 200.5))
    assert metrics.buckets.added_ms == Config().observability.metrics.buckets.added_ms


@pytest.mark.parametrize(
    ("metrics", "fault"),
    [
        ({"enable": False}, f"{WHERE}.enable: unknown key; did you mean 'enabled'?"),
        ({"path": "metrics"}, f"{WHERE}.path: a path such as /metrics is expected"),
        ({"path": "/"}, f"{WHERE}.path: a path such as"),
        ({"path": "/a b"}, f"{WHERE}.path: a path such as"),
        ({"path": "/admin/metrics"}, f"{WHERE}.path: /admin is something else's"),
        ({"path": "/healthz"}, f"{WHERE}.path: /healthz is something else's"),
        ({"buckets": {"ttft_ms": []}}, f"{WHERE}.buckets.ttft_ms: 1 to 40 bounds"),
        ({"buckets": {"ttft_ms": [2, 1]}}, f"{WHERE}.buckets.ttft_ms: bounds must ascend"),
        ({"buckets": {"ttft_ms": [1, 1]}}, f"{WHERE}.buckets.ttft_ms: bounds must ascend"),
        ({"buckets": {"wall_ms": [0, 1]}}, f"{WHERE}.buckets.wall_ms: bounds are milliseconds"),
        ({"buckets": {"wall_ms": [1, float("inf")]}}, f"{WHERE}.buckets.wall_ms: bounds are"),
        ({"buckets": {"lag_ms": [1]}}, f"{WHERE}.buckets.lag_ms: unknown key"),
        ({"dead_air_ms": 0}, f"{WHERE}.dead_air_ms: "),
        ({"max_targets": 0}, f"{WHERE}.max_targets: "),
        ({"max_teams": 100_000}, f"{WHERE}.max_teams: "),
    ],
)
def test_faults(metrics: dict[str, Any], fault: str) -> None:
    assert fault in fault_of(**metrics)


def test_a_change_needs_a_restart() -> None:
    other = parse({"observability": {"metrics": {"enabled": False, "buckets": {"ttft_ms": [1]}}}})
    assert Config().needing_restart(other) == [
        f"{WHERE}.enabled",
        f"{WHERE}.buckets.ttft_ms",
    ]
