"""The file of a run: written after every part, so that an interrupted run keeps what it has.

    "cases": {"load": {..., "parts": [what is done], "is_whole": false, "elapsed_s": ...}}

It is taken up again by reading it back.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.result import CaseResult
from bench.stats import Histogram


def write(result: Mapping[str, Any], path: Path) -> None:
    """Put it there as a whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.name}.new")
    fresh.write_text(json.dumps(result, indent=1) + "\n")
    os.replace(fresh, path)


def read_case(value: Mapping[str, Any]) -> CaseResult:
    """A case as `CaseResult.to_dict` gave it; targets are of a finished one and are left out."""
    return CaseResult(
        axes=dict(value["axes"]),
        rows={
            key: {name: math.nan if figure is None else figure for name, figure in row.items()}
            for key, row in value["rows"].items()
        },
        histograms={name: Histogram.from_dict(each) for name, each in value["histograms"].items()},
        notes=list(value["notes"]),
        ratios=dict(value["ratios"]),
    )


def unfinished(result: Mapping[str, Any]) -> list[str]:
    """Cases that were wanted and are not whole; of a file from before there were parts, none."""
    wanted = result.get("wanted", ())
    return [name for name in wanted if not result["cases"].get(name, {}).get("is_whole")]
