"""The page on promises names tests that are there, and every key of the accounts is in a page."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from relay.config import json_schema

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "promises.md"
SECTIONS = ("store", "auth", "audit", "limits", "budgets", "tls")


def test_every_promise_has_its_tests() -> None:
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    rows = [row for row in rows if not row.startswith(("| promise", "| what |"))]
    assert len(rows) > 25
    for row in rows:
        named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", row)
        assert named, row
        for path, name in named:
            text = (ROOT / path).read_text()
            assert re.search(rf"^\s*(?:async )?(?:def|class) {name or 'test_'}", text, re.M), path


@pytest.mark.parametrize("section", SECTIONS)
def test_every_key_is_in_a_page(section: str) -> None:
    # The reference has them all, since it is made of them; they are explained elsewhere.
    written = [page for page in ROOT.glob("docs/*.md") if page.name != "configuration.md"]
    text = "".join(page.read_text() for page in (ROOT / "README.md", *written))
    for name in _keys(json_schema(), section):
        assert re.search(rf"[`{{ ,.]{name}(?:: |[`,=\n])", text), f"{section}: {name}"


def _keys(schema: dict[str, Any], section: str) -> set[str]:
    found: set[str] = set()
    waiting: list[Any] = [schema["properties"][section]]
    while waiting:
        node = waiting.pop()
        if isinstance(node, list):
            waiting += node
        elif isinstance(node, dict):
            if (to := node.get("$ref")) is not None:
                waiting.append(schema["$defs"][to.rpartition("/")[2]])
            found |= node.get("properties", {}).keys()
            waiting += [*node.get("properties", {}).values(), node.get("anyOf")]
            waiting.append(node.get("additionalProperties"))
    return found
