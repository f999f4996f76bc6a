"""The published run as pictures: tails of latency, and CPU for a token."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from bench.peers.cases.load import TTFT_MS
from bench.peers.cells import arm_title
from bench.replay import svg

DRAWN: Final = ("/16x100/ttft", "/64x100/token")
"""How the names of the histograms end that are drawn."""
_MS_TICKS: Final = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
_LEAST_MS: Final = 0.05
_WIDTH: Final = 760
_LEFT, _RIGHT, _TOP, _ROW = 240, 80, 44, 22
_FLOORS: Final = ("direct", "nginx", "envoy")
_OURS, _OTHERS = "#1f77b4", "#999999"


def of(result: Mapping[str, Any]) -> dict[str, str]:
    """SVG documents by file name; only those whose figures the run has."""
    case = result["cases"].get("load")
    if case is None:
        return {}
    found: dict[str, str] = {}
    for axis, figure, title, wait_ms in (
        ("16x100", "ttft", "Time to first token, 16 streams of 100 tokens a second", TTFT_MS),
        ("64x100", "token", "Latency of a token, 64 streams of 100 tokens a second", 0),
    ):
        curves = _curves(result, axis, figure, wait_ms)
        if curves:
            found[f"{figure}_{axis}.svg"] = svg.tails(
                title,
                curves,
                label="ms beyond what the provider takes; share of tokens that are later",
                ticks=_MS_TICKS,
                marked=math.nan,
                least_share=1e-3,
            )
    cpu = {
        arm_title(result["arms"][name]).replace("*", ""): row["hop_us"]
        for name in result["arms"]
        if (row := case["rows"].get(f"{name}/64x100")) and row.get("hop_us") and row["keeps_up"]
    }
    if cpu:
        found["cpu_64x100.svg"] = bars(
            "CPU for a token, microseconds, 64 streams of 100 tokens a second", cpu
        )
    return found


def _curves(
    result: Mapping[str, Any], axis: str, figure: str, wait_ms: float
) -> dict[str, Sequence[tuple[float, float]]]:
    tails = result["cases"]["load"]["tails_ms"]
    curves: dict[str, Sequence[tuple[float, float]]] = {}
    # The floors first: the first colours are greys.
    ordered = sorted(result["arms"].items(), key=lambda pair: pair[0] not in _FLOORS)
    for name, arm in ordered:
        points = tails.get(f"{name}/{axis}/{figure}")
        if points:
            curves[arm_title(arm).replace("*", "")] = [
                (share, max(_LEAST_MS, at_ms - wait_ms)) for share, at_ms in points
            ]
    return curves


def bars(title: str, values: Mapping[str, float]) -> str:
    """A whole SVG document: one bar each, the smallest first."""
    ordered = sorted(values.items(), key=lambda pair: pair[1])
    longest = ordered[-1][1]
    height = _TOP + _ROW * len(ordered) + 12
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}"'
        ' font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{height}" fill="white"/>',
        f'<text x="16" y="24" font-size="14">{html.escape(title)}</text>',
    ]
    for number, (name, value) in enumerate(ordered):
        y = _TOP + _ROW * number
        width = max(1.0, value / longest * (_WIDTH - _LEFT - _RIGHT))
        colour = _OURS if name.startswith("rtrelay") else _OTHERS
        lines.append(
            f'<text x="{_LEFT - 8}" y="{y + 12}" text-anchor="end">{html.escape(name)}</text>'
            f'<rect x="{_LEFT}" y="{y}" width="{width:.1f}" height="{_ROW - 6}" fill="{colour}"/>'
            f'<text x="{_LEFT + width + 6:.1f}" y="{y + 12}">{value:.0f}</text>'
        )
    return "\n".join([*lines, "</svg>", ""])
