"""The labelled set: pairs of turns, whether one's answer is the other's, and how they differ.

It is made of `families.txt`, which is written by hand. A family is either in the tuning half or in
the held-out half, as a whole, by a hash of its first turn: what the guard does to single pairs was
read in the first half alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal, NamedTuple

Kind = Literal[
    "same", "negation", "number", "name", "opposite", "unit", "tense", "near", "language",
    "question", "order", "modifier",
]  # fmt: skip
Half = Literal["tuning", "held-out"]

FILE: Final = Path(__file__).with_name("families.txt")
_KINDS: Final[dict[str, Kind]] = {
    "=": "same", "-": "negation", "#": "number", "@": "name", "!": "opposite", "u": "unit",
    "t": "tense", "n": "near", "l": "language", "q": "question", "w": "order",
    "m": "modifier",
}  # fmt: skip


class Pair(NamedTuple):
    """Two turns; `kept` was answered, `asked` comes."""

    kept: str
    asked: str
    kind: str
    """A `Kind`, or what others call it."""
    half: Half
    is_same: bool


class Family(NamedTuple):
    """A turn, and others beside it."""

    first: str
    others: tuple[tuple[Kind, str], ...]
    half: Half


def families(text: str | None = None) -> list[Family]:
    """All of them, in the order of the file.

    Args:
        text: instead of the file's.

    Raises:
        ValueError: a line is none of the form, named.
    """
    found: list[Family] = []
    lines = (FILE.read_text("utf-8") if text is None else text).splitlines()
    blocks: list[list[tuple[int, str]]] = [[]]
    for number, line in enumerate(lines, 1):
        if not line.strip():
            blocks.append([])
        elif not line.startswith("%"):  # a comment
            blocks[-1].append((number, line))
    for block in blocks:
        if not block:
            continue
        others: list[tuple[Kind, str]] = []
        for number, line in block[1:]:
            mark, space, turn = line.partition(" ")
            if mark not in _KINDS or not space or not turn:
                raise ValueError(f"line {number}: {line!r} begins with none of {' '.join(_KINDS)}")
            others.append((_KINDS[mark], turn))
        found.append(Family(block[0][1], tuple(others), half_of(block[0][1])))
    return found


def half_of(first: str) -> Half:
    """Fixed for ever: by the first turn's hash."""
    return "tuning" if hashlib.sha256(first.encode()).digest()[0] % 2 else "held-out"


def pairs(text: str | None = None) -> Iterator[Pair]:
    """Each first turn with its others, and what means the same with what does not.

    Args:
        text: instead of the file's, for turns of one's own.

    Raises:
        ValueError: see `families`.
    """
    for family in families(text):
        same = [turn for kind, turn in family.others if kind == "same"]
        for kind, turn in family.others:
            yield Pair(family.first, turn, kind, family.half, kind == "same")
            if kind != "same" and same:
                # The same difference, seen from another wording.
                yield Pair(same[0], turn, kind, family.half, False)
        for index, turn in enumerate(same[1:]):
            yield Pair(same[index], turn, "same", family.half, True)


def others_pairs(text: str) -> Iterator[Pair]:
    """Pairs of others, a JSON object a line: `a`, `b`, `same_answer` and `category`, as the package
    `fow-cache` (CC BY 4.0) has them. All count as held out.

    Raises:
        ValueError: a line is none of the form.
    """
    for line in text.splitlines():
        row = json.loads(line)
        try:
            yield Pair(row["a"], row["b"], row["category"], "held-out", bool(row["same_answer"]))
        except KeyError as error:
            raise ValueError(f"{line[:80]!r} has no {error}") from error
