"""The page of invariants has each of them, and names tests that are there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "invariants.md"
LETTERS = {"H": 8, "B": 7, "M": 11, "T": 9, "L": 6, "S": 1, "A": 3, "D": 4, "G": 3}


def rows() -> dict[str, str]:
    """By letter and number."""
    found = re.findall(r"^\| ([A-Z]\d+) (\|.*\|)$", PAGE.read_text(), re.M)
    assert len(found) == len(dict(found)), "a letter twice"
    return dict(found)


def test_every_invariant_has_a_row() -> None:
    wanted = [f"{letter}{at}" for letter, most in LETTERS.items() for at in range(1, most + 1)]
    assert list(rows()) == wanted


def test_every_row_has_its_tests() -> None:
    for name, row in rows().items():
        named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", row)
        assert named, name
        for path, test in named:
            text = (ROOT / path).read_text()
            inside = test or ("TARGETS" if "/families/" in path else "test_")
            assert re.search(rf"^\s*(?:(?:async )?(?:def|class) )?{inside}", text, re.M), (
                f"{name}: {path} has no {inside}"
            )
