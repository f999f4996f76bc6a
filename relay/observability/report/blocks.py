"""What a page is made of, whatever it is written as."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Heading:
    text: str
    level: int = 2


@dataclass(frozen=True, slots=True)
class Words:
    """A paragraph of plain text."""

    text: str


@dataclass(frozen=True, slots=True)
class Items:
    """A list of plain texts."""

    texts: Sequence[str]


@dataclass(frozen=True, slots=True)
class Grid:
    """A table of plain cells."""

    headers: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: int = 1
    """Columns at the left that are names; the others are numbers."""


@dataclass(frozen=True, slots=True)
class Series:
    """Values over the labels of a plot; None where nothing is known."""

    name: str
    values: Sequence[float | None]


@dataclass(frozen=True, slots=True)
class Plot:
    """Lines or bars over labels. It says nothing that no table says."""

    title: str
    unit: str
    labels: Sequence[str]
    series: Sequence[Series]
    kind: Literal["lines", "bars"] = "lines"


Block = Heading | Words | Items | Grid | Plot
