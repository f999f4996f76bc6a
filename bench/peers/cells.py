"""Tables of Markdown: a row an arm, columns that find their cells, figures as they are written."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Row = Mapping[str, float | None]
Column = tuple[str, Callable[[str], str]]
"""Its title, and what it says of an arm."""

LATE = "†"
NONE = ""


def table(
    result: Mapping[str, Any],
    arms: Sequence[str],
    columns: Sequence[Column],
) -> str:
    """A row an arm."""
    lines = [
        "| | " + " | ".join(title for title, _ in columns) + " |",
        "|---|" + "---|" * len(columns),
    ]
    for arm in arms:
        cells = " | ".join(show(arm) for _, show in columns)
        lines.append(f"| {arm_title(result['arms'][arm])} | {cells} |")
    return "\n".join(lines)


def arm_title(arm: Mapping[str, str]) -> str:
    """Such as `rtrelay, SSE`, `TensorZero`; what is upstream where that is not HTTP/2."""
    title = arm["title"]
    if title == "rtrelay":
        title = f"**{title}**, {arm['down']}"
        if "1.1" in arm["upstream"]:
            title += ", HTTP/1.1 upstream"
    return title


def of(rows: Mapping[str, Row], axis: str, show: Callable[[Row], str]) -> Callable[[str], str]:
    """The cells of a column: each arm's row of an axis."""
    return lambda arm: cell(rows.get(f"{arm}/{axis}"), show)


def cell(row: Row | None, show: Callable[[Row], str]) -> str:
    """Blank without a row; marked if the arm did not keep up."""
    if row is None:
        return NONE
    text = show(row)
    return f"{text} {LATE}" if text and row.get("keeps_up") == 0 else text


def pair(name: str) -> Callable[[Row], str]:
    """p50 and p99 of a figure in milliseconds."""

    def show(row: Row) -> str:
        both = [number(row.get(f"{name}_{share}_ms")) for share in ("p50", "p99")]
        return f"{both[0]} / {both[1]}" if all(both) else NONE

    return show


def one(name: str, unit: str = "") -> Callable[[Row], str]:
    """One figure."""

    def show(row: Row) -> str:
        text = number(row.get(name))
        return f"{text}{unit}" if text else NONE

    return show


def number(value: float | None) -> str:
    """Two or three digits; milliseconds below a hundredth are none."""
    if value is None or math.isnan(value):
        return NONE
    if abs(value) < 0.005:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    if abs(value) >= 10:
        return f"{value:.0f}"
    return f"{value:.1f}" if abs(value) >= 1 else f"{value:.2f}"


def has(rows: Mapping[str, Row], axis: str) -> bool:
    """Whether any arm has a row of an axis."""
    return any(key.endswith(f"/{axis}") for key in rows)


def axis_title(name: str) -> str:
    """Such as `16 x 100/s`."""
    streams, _, per_second = name.partition("x")
    return f"{streams} x {per_second}/s"
