"""SECURITY.md: every line of its tables names tests, and every one of them is there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
PAGE: Final = (ROOT / "SECURITY.md").read_text("utf-8")
_LINE: Final = re.compile(r"^\s*(?:async )?(?:def|class) (\w+)|^(\w+) = ", re.MULTILINE)


def rows(heading: str) -> list[list[str]]:
    section = PAGE.partition(f"## {heading}")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[1:]]


API: Final = rows("OWASP API Security Top 10")
LLM: Final = rows("OWASP Top 10 for LLM applications")
HOLES: Final = rows("Known holes of others")


def test_the_lists_are_whole() -> None:
    assert [row[0].split()[0] for row in API] == [f"API{n}" for n in range(1, 11)]
    assert [row[0].split()[0] for row in LLM] == [f"LLM{n:02}" for n in range(1, 11)]
    assert len(HOLES) >= 35
    for row in (*API, *LLM, *HOLES):
        assert len(row) == 4, row
        assert all(row), row


@pytest.mark.parametrize("row", [*API, *LLM, *HOLES], ids=lambda row: row[0].split()[0])
def test_each_line_names_tests_that_are_there(row: list[str]) -> None:
    named = re.findall(r"`(tests/[\w/]+(?:\.py)?)(?:::(\w+))?`", row[-1])
    assert named, row
    assert len(named) == row[-1].count("`") // 2, "what is no test stands elsewhere"
    for path, name in named:
        there = ROOT / path
        assert there.exists(), path
        if there.is_dir():
            assert list(there.glob("test_*.py")), path
            continue
        names = {match[1] or match[2] for match in _LINE.finditer(there.read_text("utf-8"))}
        if name:
            assert name in names, f"{path}::{name}"
        else:
            assert any(one.startswith(("test_", "Test")) for one in names), path


IDS: Final = re.compile(r"\b(?:CVE-\d{4}-\d+|GHSA-[\w-]+|PYSEC-\d+-\d+|GO-\d+-\d+)\b")


def test_no_hole_stands_twice() -> None:
    ids = [found for row in HOLES for found in IDS.findall(row[0])]
    assert len(ids) == len(set(ids))
    assert len(ids) > 70


def test_it_can_be_found_and_says_how_to_report() -> None:
    assert "## Reporting" in PAGE
    assert "(docs/security.md)" in PAGE
    assert "../SECURITY.md" in (ROOT / "docs" / "security.md").read_text("utf-8")
    for link in re.findall(r"\]\(([\w./-]+)\)", PAGE):
        assert (ROOT / link).exists(), link
