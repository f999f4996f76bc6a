"""Blocks as Markdown (GitHub's tables). A plot is a row of little bars a series."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from relay.observability.report.blocks import Block, Grid, Heading, Items, Plot, Series, Words
from relay.observability.report.svg import number
from relay.observability.report.words import printable

_BARS: Final = "▁▂▃▄▅▆▇█"
MOST_BARS: Final = 60


def markdown(blocks: Iterable[Block]) -> str:
    """The whole file."""
    return "\n\n".join("\n".join(_lines(block)) for block in blocks) + "\n"


_MEANT: Final = re.compile(
    r"([\\`*\[\]<|]|^[>#]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])|(?<=\S)~|~(?!\d))"
)
"""An underscore within a word and a tilde before a number mean nothing in GitHub's Markdown, and a
`>` or `#` only where a text begins."""


def plain(text: str) -> str:
    """A text that means nothing but itself."""
    return _MEANT.sub(r"\\\1", printable(text))


def _lines(block: Block) -> Iterator[str]:
    match block:
        case Heading():
            yield f"{'#' * block.level} {plain(block.text)}"
        case Words():
            yield plain(block.text)
        case Items():
            yield from (f"- {plain(text)}" for text in block.texts)
        case Grid():
            yield _row(block.headers)
            yield f"| {' | '.join(_rules(block))} |"
            yield from (_row(row) for row in block.rows)
        case Plot():
            yield f"{plain(block.title)} ({plain(block.unit)}), {_span(block)}:"
            yield ""
            yield "```text"
            wide = max((len(series.name) for series in block.series), default=0)
            for series in block.series:
                yield f"{_safe(series.name).ljust(wide)}  {_bars(series)}"
            yield "```"


def _safe(text: str) -> str:
    return printable(text).replace("`", "'")


def _rules(block: Grid) -> list[str]:
    return ["---" if index < block.words else "---:" for index in range(len(block.headers))]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(map(plain, cells))} |"


def _span(plot: Plot) -> str:
    labels = plot.labels
    if not labels:
        return ""
    return plain(labels[0] if len(labels) == 1 else f"{labels[0]} to {labels[-1]}")


def _bars(series: Series) -> str:
    values = list(series.values)[-MOST_BARS:]
    known = [value for value in values if value is not None]
    if not known:
        return "nothing is known"
    low, high = min(0.0, *known), max(known)
    width = (high - low) or 1.0
    shown = "".join(
        " " if value is None else _BARS[min(7, int((value - low) / width * 7.999))]
        for value in values
    )
    least, most, now = (number(round(value, 4)) for value in (min(known), high, known[-1]))
    if least == most:
        return f"{shown}  {now}"
    return f"{shown}  {least} to {most}, last {now}"
