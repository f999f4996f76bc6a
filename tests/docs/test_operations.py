"""docs/operations.md: every reason is there with its status, every line of the log that it names is
one that the relay writes, each symptom is seen where it says, and alerts lead to its headings."""

from __future__ import annotations

import ast
import re
from functools import cache
from typing import Any, Final

import pytest
import yaml

from relay.config import BudgetsConfig, Config, LimitsConfig
from relay.errors import Reason
from relay.observability.metrics.families import FAMILIES
from tests.docs.pages import DOCS, ROOT, headings

PAGE: Final = (DOCS / "operations.md").read_text(encoding="utf-8")
PROTO: Final = (ROOT / "proto" / "rtrelay" / "v1" / "errors.proto").read_text(encoding="utf-8")
SYMPTOMS: Final = PAGE.partition("## What to do when")[2].partition("\n## ")[0]
ALERTS: Final[dict[str, dict[str, Any]]] = {
    rule["alert"]: rule
    for group in yaml.safe_load(
        (ROOT / "deploy" / "prometheus" / "alerts.yaml").read_text(encoding="utf-8")
    )["groups"]
    for rule in group["rules"]
}
SEEN_IN: Final = {
    "D": "relay/observability/live/findings.py",
    "T": "relay/commands/top_words.py",
}
"""Mark of a place -> the source of its words."""
_LEVELS: Final = {"debug", "info", "warning", "error", "exception", "critical"}


@cache
def events() -> frozenset[str]:
    """Every text that may be the first argument of a log call, or the `event` of a line."""
    found: set[str] = set()
    for path in (ROOT / "relay").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Dict):
                found |= {
                    str(value.value)
                    for key, value in zip(node.keys, node.values, strict=True)
                    if isinstance(key, ast.Constant)
                    and key.value == "event"
                    and isinstance(value, ast.Constant)
                }
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in _LEVELS
                and node.args
            ):
                found |= {
                    inner.value
                    for inner in ast.walk(node.args[0])
                    if isinstance(inner, ast.Constant) and isinstance(inner.value, str)
                }
    return frozenset(found)


def test_every_reason_is_there_once_with_its_status() -> None:
    rows = dict(re.findall(r"^\| `([A-Z_]+)` \| (\d+|-) \|", PAGE, re.MULTILINE))
    assert list(rows) == [reason.name for reason in Reason]
    for name, status in rows.items():
        told = re.search(rf"HTTP (\w+)[^\n]*\n  ERROR_REASON_{name} =", PROTO)
        assert told is not None, name
        assert status == told[1].replace("none", "-"), name


def test_reasons_that_are_named_exist() -> None:
    named = set(re.findall(r"`([A-Z]+(?:_[A-Z]+)+)`", PAGE))
    assert named <= {reason.name for reason in Reason}


def test_lines_of_the_log_that_are_named_exist() -> None:
    table = PAGE.partition("## Lines of the log")[2].partition("\n## ")[0]
    named = [
        name
        for row in re.findall(r"^\| (`[^|]+) \|", table, re.MULTILINE)
        for name in re.findall(r"`(\w+)`", row)
    ]
    assert len(named) > 25
    assert [name for name in named if name != "event" and name not in events()] == []
    snake = set(re.findall(r"`([a-z]+(?:_[a-z]+)+)`", SYMPTOMS))
    words = {
        *("p95_ms", "first_content", "timeline_us", "pool_wait", "wait_s", "inter_token_ms"),
    }
    assert snake - words - FAMILIES.keys() <= events()


def test_each_symptom_is_seen_where_it_says() -> None:
    rows = re.findall(r"^\| [^|]+ \| ([^|]+) \| [^|]+ \| [^|]+ \|$", SYMPTOMS, re.MULTILINE)
    cells = [cell for cell in rows if cell != "where it is seen"]
    assert len(cells) > 20
    for cell in cells:
        places = re.findall(r"\(([DTAM])\) ((?:`[^`]+`(?:, )?)+)", cell)
        rest = re.sub(r"\([DTAM]\) (?:`[^`]+`(?:, )?)+", "", cell)
        assert rest == ("" if places else "the log"), cell
        for place, told in places:
            for words in re.findall(r"`([^`]+)`", told):
                assert is_seen(place, words), f"{place}: {words}"


def is_seen(place: str, words: str) -> bool:
    """Whether it is there; of sentences, all in one text of the source."""
    if place == "A":
        return words in ALERTS
    if place == "M":
        return words in FAMILIES
    source = ast.parse((ROOT / SEEN_IN[place]).read_text(encoding="utf-8"))
    texts = [
        node.value
        for node in ast.walk(source)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    return any(words in text for text in texts)


@pytest.mark.parametrize("name", ALERTS)
def test_alerts_lead_to_where_they_are_told(name: str) -> None:
    path, _, heading = ALERTS[name]["annotations"]["runbook_url"].partition("#")
    assert path == "docs/operations.md"
    assert heading in headings(ROOT / path)
    parts = {
        title.lower().replace(" ", "-"): text
        for title, text in re.findall(r"^### (.+)\n((?:(?!###).*\n)*)", SYMPTOMS, re.MULTILINE)
    }
    assert f"`{name}`" in parts[heading]


def test_what_needs_a_restart_is_told() -> None:
    (told,) = re.findall(r"^3\. (`reload_partly` names .*?)\n\n", PAGE, re.DOTALL | re.MULTILINE)
    named = re.findall(r"`([\w.]+)`", told)
    config = Config()
    apart = {"server", "tls", "limits", "budgets"}  # of these some fields can be taken up
    whole = [
        name
        for name in Config.model_fields
        if name not in apart
        and config.needing_restart(config.model_copy(update={name: object()})) == [name]
    ]
    server = config.server.model_copy(update={"worker_hang_ms": 1})
    changed = config.model_copy(update={"server": server})
    assert config.needing_restart(changed) == ["server.worker_hang_ms"]
    server = config.server.model_copy(update={"drain_grace_ms": 1})
    assert config.needing_restart(config.model_copy(update={"server": server})) == []
    lease = BudgetsConfig(lease_s=BudgetsConfig().lease_s + 1)
    changed = config.model_copy(update={"budgets": lease})
    assert config.needing_restart(changed) == ["budgets.lease_s"]
    assert sorted(named) == sorted(
        [
            *("reload_partly", *whole, "server", "drain_grace_ms", "tls"),
            *("budgets.lease_s", "limits", *LimitsConfig.UNTIL_RESTART),
        ]
    )
