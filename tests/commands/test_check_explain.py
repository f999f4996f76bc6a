"""`relay check --explain`: what rules make of a request, and why."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from relay.cli import app
from tests.policy.rule_world import ALIASES, PROVIDER

RULES: list[dict[str, Any]] = [
    {
        "name": "night",
        "when": {
            "tools": True,
            "time": {"zone": "Europe/Berlin", "hours": "22:00-06:00", "days": "mon-fri"},
        },
        "refuse": "no tools at night",
    },
    {
        "name": "german",
        "when": {"model": "auto", "language": "de", "prompt_tokens": {"max": 50}},
        "unless": {"tenant": "lab"},
        "use": "accurate",
    },
    {
        "name": "quick",
        "when": {"model": "auto"},
        "pick": {"from": ["accurate", "fast", "other"], "by": "price", "max_p95_ms": 800},
        "set": {"max_output_tokens": 200, "hedge": "off", "tags": ["voice"], "total_ms": 9000},
    },
]
ASKED = {"model": "auto", "messages": [{"role": "user", "content": "Where is my parcel?"}]}
NIGHT = "2026-11-27T22:30:00+01:00"


def ran(directory: Path, request: Any, *rules: dict[str, Any], **more: Any) -> tuple[int, str]:
    """Status, and what is printed with single spaces and without the frames of tables.

    Args:
        more: further policies.
    """
    config, file = directory / "relay.yaml", directory / "request.json"
    policies = {"rules": [*(rules or RULES)], **more}
    document = {"providers": {"p": PROVIDER}, "models": ALIASES, "policies": policies}
    config.write_text(yaml.safe_dump(document))
    file.write_text(request if isinstance(request, str) else json.dumps(request))
    command = ["check", "-c", str(config), "--explain", str(file)]
    found = CliRunner().invoke(app, command, env={"COLUMNS": "200"})
    return found.exit_code, re.sub(r"[ │]+", " ", found.output)


def explained(directory: Path, request: Any, *rules: dict[str, Any]) -> str:
    status, text = ran(directory, request, *rules)
    assert status == 0, text
    return text


def test_every_rule_is_told_with_what_it_wants_and_what_there_is(tmp_path: Path) -> None:
    text = explained(
        tmp_path, {"body": ASKED, "at": NIGHT, "latency_ms": {"accurate": {"p95": 900}}}
    )
    for line in (
        "night does not match no tools: true (is none)",
        "yes time: mon-fri 22:00-06:00 Europe/Berlin (is fri 22:30)",
        "german does not match yes model: auto (is auto)",
        "yes prompt_tokens: at most 50 (is 9)",
        "no language: de (is en)",
        "unless no tenant: lab (is none)",
        "quick decides yes model: auto (is auto)",
        "accurate: 5 / 10 USD per million tokens, p95 900 ms, it is too slow at present",
        "fast: 1 / 2 USD per million tokens, p95 not known, may be taken",
        "other: p95 not known, may be taken",
        "auto becomes fast, by quick",
        "max_output_tokens: not said -> 200",
        "total_s: not said -> 9.0",
        "hedge: auto -> off",
        "tags: not said -> voice",
        "alias fast: p/a; hedge disabled",
    ):
        assert line in text


def test_after_the_rule_that_decides_none_is_looked_at(tmp_path: Path) -> None:
    german = {**ASKED, "messages": [{"role": "user", "content": "Wo ist mein Paket?"}]}
    text = explained(tmp_path, german)
    assert "german decides" in text
    assert re.search(r"quick not reached\s*\n", text)
    assert "auto becomes accurate, by german" in text
    lab = explained(tmp_path, {"body": german, "tenant": "lab"})
    assert "unless yes tenant: lab (is lab)" in lab
    assert "auto becomes fast, by quick" in lab


def test_a_refusal(tmp_path: Path) -> None:
    tool = {"type": "function", "function": {"name": "book"}}
    text = explained(tmp_path, {"body": {**ASKED, "tools": [tool]}, "at": NIGHT})
    assert "refused by night (403): no tools at night" in text
    by_day = {"body": {**ASKED, "tools": [tool]}, "at": "2026-11-27T12:00:00+01:00"}
    assert "refused" not in explained(tmp_path, by_day)


def test_headers_and_the_bodys_own_words_are_heard_as_by_the_relay(tmp_path: Path) -> None:
    rule = {"when": {"tags": "x", "labels": {"room": "7"}, "surface": ["converse"]}, "use": "other"}
    asked = {
        "body": ASKED,
        "headers": {"X-Relay-Tags": "a, x", "X-Relay-Model": "fast", "authorization": "Bearer s"},
        "labels": {"room": "7"},
        "surface": "converse",
    }
    text = explained(tmp_path, asked, rule)
    assert "fast becomes other, by rule-1" in text
    assert "Bearer" not in text
    in_body = {**ASKED, "relay": {"tags": ["x"], "model": "fast"}, "metadata": {"room": "7"}}
    told = explained(tmp_path, {"body": in_body, "surface": "converse"}, rule)
    assert "fast becomes other, by rule-1" in told


def test_what_no_rule_is_for(tmp_path: Path) -> None:
    rule = {"when": {"tools": True}, "use": "other"}
    assert "fast stays what it is, by no rule" in explained(
        tmp_path, {**ASKED, "model": "fast"}, rule
    )
    text = explained(tmp_path, {**ASKED, "model": "tag:cheap"}, rule)
    assert "tag:cheap becomes fast, by its tag" in text
    text = explained(tmp_path, {**ASKED, "model": "fats"}, rule)
    assert "unknown model 'fats'; nearest: fast" in text
    text = explained(tmp_path, {**ASKED, "model": "tag:cheep"}, rule)
    assert "unknown model 'tag:cheep'; nearest: tag:cheap (404)" in text


def test_what_the_name_stands_for(tmp_path: Path) -> None:
    more = {
        "cascades": {"smart": {"small": "fast", "large": "accurate"}},
        "panels": {"three": {"models": list(ALIASES), "decide": {"majority": {}}}},
        "experiments": {
            "trial": {
                "model": "smart",
                "arms": [{"name": "a", "use": "smart"}, {"name": "b", "use": "three"}],
            }
        },
    }
    for name, lines in (
        (
            "smart",
            (
                "divided by the experiment trial between a: smart, b: three",
                "smart is a cascade: see policies.cascades.smart",
            ),
        ),
        ("three", ("three is a panel: see policies.panels.three",)),
        ("p/a", ("model p/a: p/a; hedge disabled",)),
    ):
        status, text = ran(tmp_path, ASKED, {"when": {"model": "auto"}, "use": name}, **more)
        assert status == 0, text
        for line in lines:
            assert line in text


@pytest.mark.parametrize(
    ("model", "scopes", "line"),
    [
        ("auto", {"models": ["auto"]}, "the key may ask for auto"),
        ("auto", {"models": ["fast"]}, "the key may NOT ask for auto (403)"),
        ("tag:cheap", {"models": ["other"]}, "tag:cheap becomes other, by its tag"),
        ("tag:cheap", {"models": ["other"]}, "the key may ask for other"),
        ("tag:cheap", {"model_tags": ["best"]}, "the key may NOT ask for tag:cheap (403)"),
    ],
)
def test_what_a_key_may(tmp_path: Path, model: str, scopes: dict[str, Any], line: str) -> None:
    asked = {"body": {**ASKED, "model": model}, "scopes": scopes}
    assert line in explained(tmp_path, asked, RULES[2])


@pytest.mark.parametrize(
    ("request_", "fault"),
    [
        ("{", "the body is not valid JSON"),
        ({"model": "fast"}, "messages must be a non-empty array"),
        ({"body": ASKED, "header": {}}, "header is not known beside a body; known are body,"),
        ({"body": ASKED, "headers": {"x-relay-tag": "a"}}, "did you mean x-relay-tags?"),
        ({"body": ASKED, "headers": {"x": 1}}, "headers.x must be a string"),
        ({"body": ASKED, "surface": "telnet"}, "surface: known are converse, generate"),
        ({"body": ASKED, "at": "noon"}, "at: a moment such as"),
        ({"body": ASKED, "scopes": {"modles": []}}, "modles is no scope"),
        ({"body": ASKED, "latency_ms": {"fast": {"p99": 1}}}, "latency_ms.fast: p50 and p95"),
        ({"body": []}, "body must be an object"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_used(tmp_path: Path, request_: Any, fault: str) -> None:
    status, text = ran(tmp_path, request_)
    assert status == 1
    assert fault in text


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "relay.yaml").write_text("{}")
    command = ["check", "-c", str(tmp_path / "relay.yaml"), "--explain", str(tmp_path / "none")]
    found = CliRunner().invoke(app, command, env={"COLUMNS": "200"})
    assert found.exit_code == 1
    assert "No such file" in found.output


def test_check_lists_rules(tmp_path: Path) -> None:
    config = tmp_path / "relay.yaml"
    document = {"providers": {"p": PROVIDER}, "models": ALIASES, "policies": {"rules": RULES}}
    config.write_text(yaml.safe_dump(document))
    found = CliRunner().invoke(app, ["check", "-c", str(config)], env={"COLUMNS": "200"})
    text = re.sub(r"[ │]+", " ", found.stdout)
    assert found.exit_code == 0
    for line in (
        "night tools: true refused: no tools at night",
        "german model: auto accurate",
        "unless tenant: lab",
        "quick model: auto by price of accurate, fast, other",
        "max_p95_ms: 800",
        "explore: 2 %",
        "set max_output_tokens: 200",
        "set tags: voice",
    ):
        assert line in text
