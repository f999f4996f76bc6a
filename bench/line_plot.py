"""Points and the straight line through each row of them, on linear axes from zero, as SVG."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from typing import Final

from bench.fit import straight

_WIDTH: Final = 640
_HEIGHT: Final = 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 200, 40, 50
_COLOURS: Final = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd")


def plot(
    title: str, x_label: str, y_label: str, rows: Mapping[str, Sequence[tuple[float, float]]]
) -> str:
    """A whole SVG document.

    Args:
        rows: by name, `(x, y)`; none is negative.
    """
    xs: list[float] = [x for row in rows.values() for x, _ in row]
    ys: list[float] = [y for row in rows.values() for _, y in row]
    x_step, y_step = step(max(xs)), step(max(ys))
    x_end, y_end = (math.ceil(max(each) / by) * by for each, by in ((xs, x_step), (ys, y_step)))
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM

    def x_at(x: float) -> float:
        return _LEFT + x / x_end * (right - _LEFT)

    def y_at(y: float) -> float:
        return bottom - y / y_end * (bottom - _TOP)

    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}"'
        ' font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
        f'<text x="{_LEFT}" y="22" font-size="14">{html.escape(title)}</text>',
        f'<text x="{(_LEFT + right) / 2}" y="{_HEIGHT - 12}" text-anchor="middle">'
        f"{html.escape(x_label)}; {html.escape(y_label)} upwards</text>",
    ]
    for number in range(round(x_end / x_step) + 1):
        at = x_at(number * x_step)
        lines.append(
            f'<path d="M{at:.1f} {_TOP}V{bottom}" stroke="#eee"/>'
            f'<text x="{at:.1f}" y="{bottom + 16}" text-anchor="middle">{number * x_step:g}</text>'
        )
    for number in range(round(y_end / y_step) + 1):
        at = y_at(number * y_step)
        lines.append(
            f'<path d="M{_LEFT} {at:.1f}H{right}" stroke="#eee"/>'
            f'<text x="{_LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{number * y_step:g}</text>'
        )
    for number, (name, row) in enumerate(rows.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        line = straight(row)
        end = max(x for x, _ in row)
        legend = _TOP + 36 * number + 8
        lines.append(
            f'<path d="M{x_at(0):.1f} {y_at(max(0.0, line.at(0))):.1f}'
            f'L{x_at(end):.1f} {y_at(line.at(end)):.1f}" stroke="{colour}" fill="none"/>'
        )
        lines += [
            f'<circle cx="{x_at(x):.1f}" cy="{y_at(y):.1f}" r="3.5" fill="{colour}"/>'
            for x, y in row
        ]
        lines.append(
            f'<circle cx="{right + 20}" cy="{legend}" r="3.5" fill="{colour}"/>'
            f'<text x="{right + 30}" y="{legend + 4}">{html.escape(name)}</text>'
            f'<text x="{right + 30}" y="{legend + 19}">'
            f"{line.slope:.3g} a stream, R² {line.r_squared:.4f}</text>"
        )
    return "\n".join([*lines, "</svg>", ""])


def step(largest: float) -> float:
    """Between two marks of an axis: 1, 2 or 5 times a power of ten, so that there are 4 to 10."""
    if largest <= 0:
        return 1.0
    power: float = 10.0 ** math.floor(math.log10(largest))
    return next(power * part for part in (0.1, 0.2, 0.5, 1.0) if largest / (power * part) <= 10)
