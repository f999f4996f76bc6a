"""Plots as SVG, to stand in a page: colours are the page's (`--s1` to `--s6`), and a screen reader
gets what is drawn as text."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape
from typing import Final

from relay.observability.report.blocks import Plot, Series
from relay.observability.report.words import printable

WIDTH: Final = 760
HEIGHT: Final = 240
LEFT: Final = 62
RIGHT: Final = 12
TOP: Final = 12
BOTTOM: Final = 30
COLOURS: Final = 6
MOST_LABELS: Final = 8
TICKS: Final = 4
_DASHES: Final = ("", "6 3", "2 3", "8 3 2 3", "1 4", "10 4")
"""Lines can be told apart without their colours."""


def svg_of(plot: Plot) -> str:
    """One `<svg>` element."""
    values = [value for series in plot.series for value in series.values if value is not None]
    top, ticks = scale(min(0.0, min(values, default=0.0)), max(values, default=0.0))
    bottom = ticks[0]
    frame = _Frame(len(plot.labels), bottom, top)
    told = escape(printable(_told(plot)))
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{told}">',
        *_axes(plot, frame, ticks),
        *(_bars(plot, frame) if plot.kind == "bars" else _lines(plot, frame)),
        "</svg>",
    ]
    return "".join(parts)


def scale(low: float, high: float) -> tuple[float, list[float]]:
    """The top of an axis, and its marks from its bottom on: 1, 2, 2.5 or 5 times a power of ten
    apart."""
    if not (math.isfinite(low) and math.isfinite(high)) or high <= low:
        high = low + 1.0
    raw = (high - low) / TICKS
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * 0.999)
    first = math.floor(low / step)
    last = max(first + 1, math.ceil(high / step - 1e-9))
    return last * step, [index * step for index in range(first, last + 1)]


class _Frame:
    """Where things are."""

    def __init__(self, count: int, bottom: float, top: float) -> None:
        self.count = max(1, count)
        self._bottom, self._top = bottom, top

    def x(self, index: float) -> float:
        return LEFT + (index + 0.5) * (WIDTH - LEFT - RIGHT) / self.count

    @property
    def slot(self) -> float:
        return (WIDTH - LEFT - RIGHT) / self.count

    def y(self, value: float) -> float:
        share = (value - self._bottom) / (self._top - self._bottom)
        return TOP + (1 - share) * (HEIGHT - TOP - BOTTOM)


def _axes(plot: Plot, frame: _Frame, ticks: Sequence[float]) -> Iterator[str]:
    for tick in ticks:
        y = frame.y(tick)
        kind = "zero" if tick == 0 else "rule"
        yield f'<line class="{kind}" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{number(tick)}</text>'
    every = max(1, math.ceil(len(plot.labels) / MOST_LABELS))
    for index in range(0, len(plot.labels), every):
        x = frame.x(index)
        label = escape(printable(plot.labels[index]))
        yield f'<text x="{x:.1f}" y="{HEIGHT - 10}" text-anchor="middle">{label}</text>'


def number(value: float) -> str:
    """Of an axis: short, and without what binary fractions add."""
    if value and abs(value) < 0.0001:
        return f"{value:.0e}"
    if abs(value) >= 100_000:
        return f"{value / 1000:,.6g}k"
    return f"{value:,.6g}"


def _lines(plot: Plot, frame: _Frame) -> Iterator[str]:
    for place, series in enumerate(plot.series):
        colour = f"var(--s{place % COLOURS + 1})"
        dash = _DASHES[place % len(_DASHES)]
        dashes = f' stroke-dasharray="{dash}"' if dash else ""
        for points in _stretches(series):
            shown = " ".join(
                f"{frame.x(index):.1f},{frame.y(value):.1f}" for index, value in points
            )
            if len(points) == 1:
                index, value = points[0]
                x, y = frame.x(index), frame.y(value)
                yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" style="fill:{colour}"/>'
            else:
                yield f'<polyline points="{shown}" style="stroke:{colour}"{dashes}/>'


def _stretches(series: Series) -> Iterator[list[tuple[int, float]]]:
    """Without what is not known: a line does not go over it."""
    points: list[tuple[int, float]] = []
    for index, value in enumerate(series.values):
        if value is not None:
            points.append((index, value))
        elif points:
            yield points
            points = []
    if points:
        yield points


def _bars(plot: Plot, frame: _Frame) -> Iterator[str]:
    several = max(1, len(plot.series))
    width = min(36.0, frame.slot * 0.8 / several)
    for place, series in enumerate(plot.series):
        for index, value in enumerate(series.values):
            if value is None:
                continue
            x = frame.x(index) + (place - several / 2) * width
            y, zero = frame.y(max(value, 0.0)), frame.y(min(value, 0.0))
            yield (
                f'<rect x="{x:.1f}" y="{y:.1f}" width="{width * 0.92:.1f}"'
                f' height="{max(0.5, zero - y):.1f}" style="fill:var(--s{place % COLOURS + 1})"/>'
            )


def _told(plot: Plot) -> str:
    parts = [f"{plot.title}, {plot.unit}"]
    for series in plot.series:
        known = [
            f"{label} {number(round(value, 4))}"
            for label, value in zip(plot.labels, series.values, strict=True)
            if value is not None
        ]
        shown = known if len(known) <= 12 else [*known[:6], "...", *known[-5:]]
        parts.append(f"{series.name}: {', '.join(shown) or 'nothing is known'}")
    return ". ".join(parts)
