"""docs/operations.md: every reason is there with its status, and every line of the log that it
names is one that the relay writes."""

from __future__ import annotations

import ast
import re
from functools import cache
from typing import Final

from relay.errors import Reason
from tests.docs.pages import DOCS, ROOT

PAGE: Final = (DOCS / "operations.md").read_text(encoding="utf-8")
PROTO: Final = (ROOT / "proto" / "rtrelay" / "v1" / "errors.proto").read_text(encoding="utf-8")
_LEVELS: Final = {"debug", "info", "warning", "error", "exception", "critical"}


@cache
def events() -> frozenset[str]:
    """Every text that may be the first argument of a log call."""
    found: set[str] = set()
    for path in (ROOT / "relay").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
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
    told = PAGE.partition("## What to do when")[2].partition("\n## ")[0]
    snake = set(re.findall(r"`([a-z]+(?:_[a-z]+)+)`", told))
    words = {
        *("p95_ms", "first_content", "timeline_us", "pool_wait", "wait_s", "inter_token_ms"),
    }
    assert snake - words <= events()
