"""The stored ratios that CI compares with; changed by a commit that gives old and new.

Ratios only: they say what the relay costs in units of something measured beside it in the same
run, so they carry from one machine to another better than any time does.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FILE = Path(__file__).parent / "baseline.json"


def store(result: Mapping[str, Any]) -> Path:
    """Take the ratios of a result; those of cases that it lacks stay."""
    stored = load() if FILE.exists() else {"ratios": {}}
    ratios: dict[str, float] = dict(stored["ratios"])
    for case in result["cases"].values():
        ratios.update(case["ratios"])
    document = {
        "commit": result["commit"],
        "measured_at": result["started_at"],
        "machine": result["machine"],
        "versions": result["versions"],
        "ratios": dict(sorted(ratios.items())),
    }
    FILE.write_text(json.dumps(document, indent=2) + "\n")
    return FILE


def load() -> dict[str, Any]:
    """The stored document."""
    value: dict[str, Any] = json.loads(FILE.read_text())
    return value
