"""Pictures of tails: the share of turns that are later, over time, both logarithmic."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from typing import Final

_WIDTH: Final = 760
_HEIGHT: Final = 460
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 190, 40, 50
_COLOURS: Final = (
    "#888888", "#bbbbbb", "#555555", "#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e",
    "#8c564b", "#e377c2", "#17becf", "#bcbd22",
)  # fmt: skip
_TICKS: Final = (0.1, 0.2, 0.5, 1, 1.5, 2, 3, 5, 10, 20, 50, 100)
_LABEL: Final = "time to first token, s; share of turns that are later"


def tails(
    title: str,
    curves: Mapping[str, Sequence[tuple[float, float]]],
    *,
    label: str = _LABEL,
    ticks: Sequence[float] = _TICKS,
    marked: float = 1.5,
    least_share: float = 1e-4,
) -> str:
    """A whole SVG document.

    Args:
        curves: by name, `(share later, time)`; drawn in the order given.
        marked: the tick that is drawn in red.
    """
    known = {
        name: [(share, s) for share, s in curve if share >= least_share and s < math.inf]
        for name, curve in curves.items()
    }
    times = [s for curve in known.values() for _, s in curve]
    low, high = math.log10(min(times) * 0.9), math.log10(max(times) * 1.1)
    decades = -math.log10(least_share)

    def x(at_s: float) -> float:
        return _LEFT + (math.log10(at_s) - low) / (high - low) * (_WIDTH - _LEFT - _RIGHT)

    def y(share: float) -> float:
        return _TOP - math.log10(share) / decades * (_HEIGHT - _TOP - _BOTTOM)

    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}"'
        ' font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
        f'<text x="{_LEFT}" y="22" font-size="14">{html.escape(title)}</text>',
    ]
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    for decade in range(int(decades) + 1):
        share = 10.0**-decade
        lines.append(
            f'<path d="M{_LEFT} {y(share):.1f}H{right}" stroke="#ddd"/>'
            f'<text x="{_LEFT - 6}" y="{y(share) + 4:.1f}" text-anchor="end">'
            f"{100 * share:g} %</text>"
        )
    for at_s in ticks:
        if low <= math.log10(at_s) <= high:
            colour = "#c00" if at_s == marked else "#ddd"
            lines.append(
                f'<path d="M{x(at_s):.1f} {_TOP}V{bottom}" stroke="{colour}"/>'
                f'<text x="{x(at_s):.1f}" y="{bottom + 16}" text-anchor="middle">{at_s:g}</text>'
            )
    lines.append(
        f'<text x="{(_LEFT + right) / 2}" y="{_HEIGHT - 12}" text-anchor="middle">'
        f"{html.escape(label)}</text>"
    )
    for number, (name, curve) in enumerate(known.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        points = "L".join(f"{x(s):.1f} {y(share):.1f}" for share, s in curve)
        legend = _TOP + 16 * number + 8
        lines.append(
            f'<path d="M{points}" fill="none" stroke="{colour}" stroke-width="1.8"/>'
            f'<path d="M{right + 10} {legend}h18" stroke="{colour}" stroke-width="3"/>'
            f'<text x="{right + 34}" y="{legend + 4}">{html.escape(name)}</text>'
        )
    return "\n".join([*lines, "</svg>", ""])
