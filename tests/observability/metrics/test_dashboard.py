"""deploy/grafana and deploy/prometheus: each metric, label and value in them is one that is
exported."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from relay.observability.metrics.families import FAMILIES
from tests.observability.metrics.promql import faults, labels_after

DEPLOY = Path(__file__).resolve().parents[3] / "deploy"
DASHBOARD: dict[str, Any] = orjson.loads((DEPLOY / "grafana" / "rtrelay.json").read_bytes())
ALERTS: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((DEPLOY / "prometheus" / "alerts.yaml").read_text())["groups"]
    for rule in group["rules"]
]


def panels() -> Iterator[dict[str, Any]]:
    for panel in DASHBOARD["panels"]:
        if panel["type"] != "row":
            yield panel


@pytest.mark.parametrize("panel", list(panels()), ids=lambda panel: str(panel["title"]))
def test_panels_ask_for_what_is_there(panel: dict[str, Any]) -> None:
    assert panel["targets"]
    for target in panel["targets"]:
        expression = target["expr"]
        assert faults(expression) == [], expression
        shown = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
        assert shown <= labels_after(expression), expression


def test_variables_are_of_metrics_that_are_there() -> None:
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            name, label = re.fullmatch(
                r"label_values\((\w+), (\w+)\)", variable["query"]["query"]
            ).groups()  # type: ignore[union-attr]
            own = FAMILIES[re.sub(r"_(count|bucket)$", "", name)].labels
            assert label in own


def test_panels_lie_side_by_side() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells
    numbers = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(numbers) == len(set(numbers))


def test_every_family_is_on_the_dashboard() -> None:
    text = "\n".join(target["expr"] for panel in panels() for target in panel["targets"])
    # Sent is attempts without those that were kept back; answers is a number beside its sum.
    elsewhere = {"rtrelay_attempts_sent_total", "rtrelay_worker_answers"}
    asked = set(re.findall(r"rtrelay_\w+", text))
    missing = [
        name
        for name in FAMILIES
        if name not in asked and not {f"{name}_bucket", f"{name}_sum"} & asked
    ]
    assert set(missing) == elsewhere


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: str(rule["alert"]))
def test_alerts_ask_for_what_is_there(rule: dict[str, Any]) -> None:
    assert faults(rule["expr"]) == []
    assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
    assert rule["labels"]["severity"] in ("page", "ticket")
    assert re.fullmatch(r"\d+[smh]", rule.get("for", "1m"))
    shown = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
    assert shown <= labels_after(rule["expr"])


def test_alerts_have_names_of_their_own() -> None:
    names = [rule["alert"] for rule in ALERTS]
    assert len(names) == len(set(names)) > 10


@pytest.mark.parametrize(
    ("expression", "fault"),
    [
        ("sum(rate(rtrelay_nothing_total[5m]))", "nobody exports rtrelay_nothing_total"),
        ("rtrelay_generations_total > 1", "rtrelay_generations_total is a counter"),
        ("rate(rtrelay_sessions[5m])", "rtrelay_sessions is no rate"),
        ('rtrelay_sessions{alias="x"}', "rtrelay_sessions has no label alias"),
        ('rtrelay_breaker_state{state="ajar"}', "rtrelay_breaker_state has no state ajar"),
        (
            'rate(rtrelay_attempts_total{outcome=~"lost|won"}[5m])',
            "rtrelay_attempts has no outcome won",
        ),
        ("sum by (model) (rtrelay_sessions)", "nobody has the label model of a group"),
        ("sum(rtrelay_sessions", "its brackets do not match"),
        (
            "histogram_quantile(0.9, sum by (alias) (rate(rtrelay_ttft_seconds_bucket[5m])))",
            "a quantile needs buckets by le",
        ),
        ("histogram_quantile(0.9, rtrelay_sessions)", "a quantile needs buckets by le"),
        ("1 > 0", "it asks for nothing"),
    ],
)
def test_the_reader_finds_faults(expression: str, fault: str) -> None:
    assert fault in faults(expression)
