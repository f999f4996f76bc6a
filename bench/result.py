"""What a case gives back, and how it is shown and compared.

A case gives rows: a key (its axes, joined by `/`) and named figures, whose unit ends the name.
`compare` looks only at rows and figures that both files have.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bench.stats import Histogram


@dataclass(slots=True)
class CaseResult:
    """One case of one run."""

    axes: dict[str, Any]
    """What was varied and held fixed."""
    rows: dict[str, dict[str, float]] = field(default_factory=dict)
    histograms: dict[str, Histogram] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    ratios: dict[str, float] = field(default_factory=dict)
    """Figures over something measured in the same run."""
    targets: list[tuple[str, str, float]] = field(default_factory=list)
    """Row, figure, limit."""

    def to_dict(self) -> dict[str, Any]:
        """As JSON data."""
        return {
            "axes": self.axes,
            "rows": {
                key: {name: _rounded(value) for name, value in row.items()}
                for key, row in self.rows.items()
            },
            "ratios": {name: round(value, 4) for name, value in self.ratios.items()},
            "notes": self.notes,
            "targets": [
                {
                    "row": row,
                    "figure": figure,
                    "limit": limit,
                    "value": _rounded(self.rows[row][figure]),
                    "is_met": self.rows[row][figure] <= limit,
                }
                for row, figure, limit in self.targets
                if row in self.rows
            ],
            "histograms": {name: value.to_dict() for name, value in self.histograms.items()},
        }


def _rounded(value: float) -> float | None:
    """Four digits are more than any of this is worth; JSON has no NaN."""
    if math.isnan(value):
        return None
    return float(f"{value:.4g}")


def table(rows: Mapping[str, Mapping[str, float | None]]) -> str:
    """Rows under the names of their figures; a blank where a row has none."""
    names: list[str] = []
    for row in rows.values():
        names += [name for name in row if name not in names]
    lines = [["", *names]]
    lines += [[key, *(_shown(row.get(name)) for name in names)] for key, row in rows.items()]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def _shown(value: float | None) -> str:
    if value is None or math.isnan(value):
        return ""
    return f"{value:.4g}" if abs(value) < 1000 else f"{value:.0f}"


def compare(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """Old, new and change of every figure that both files have."""
    blocks: list[str] = []
    for case, after in new["cases"].items():
        before = old["cases"].get(case)
        if before is None:
            continue
        lines: dict[str, dict[str, float | None]] = {}
        for key, row in after["rows"].items():
            for name, value in row.items():
                was = before["rows"].get(key, {}).get(name)
                if was is None or value is None:
                    continue
                change = 100 * (value - was) / abs(was) if was else math.nan
                lines[f"{key} {name}"] = {"old": was, "new": value, "change_%": change}
        if lines:
            blocks.append(f"{case}\n{table(lines)}")
    return "\n\n".join(blocks) or "the two files have no figure in common"
