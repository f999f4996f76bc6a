"""The stored ratios that CI compares with; changed by a commit that gives old and new.

Ratios only: they say what the relay costs in units of something measured beside it in the same
run, so they carry from one machine to another better than any time does.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.short import history

FILE = Path(__file__).parent / "baseline.json"


def store(entries: Sequence[Mapping[str, Any]], path: Path = FILE) -> Path:
    """Take the medians of some runs of the short form (entries of the history, at least one)."""
    last = dict(entries[-1])
    document = {
        **{name: value for name, value in last.items() if name != "ratios"},
        "runs": len(entries),
        "ratios": {
            name: float(f"{row['median']:.4g}") for name, row in history.extremes(entries).items()
        },
    }
    path.write_text(json.dumps(document, indent=2) + "\n")
    return path


def load(path: Path = FILE) -> dict[str, Any]:
    """The stored document."""
    value: dict[str, Any] = json.loads(path.read_text())
    return value


def ratios(path: Path = FILE) -> dict[str, float]:
    """The stored ratios by name."""
    found: dict[str, float] = load(path)["ratios"]
    return found
