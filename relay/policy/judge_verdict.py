"""A judge's reply, read strictly: one word, or it is none."""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import Enum
from typing import Final

_AROUND: Final = " \t\r\n*_`\"'().[]:"
_MARK: Final = re.compile(r"(10|[1-9])(?:\s*/\s*10)?")


class NoChoice(Enum):
    """Replies that name no answer."""

    TIE = "tie"
    GARBAGE = "garbage"
    """Anything but a letter that was offered, or TIE."""


def preferred(reply: str, count: int) -> int | NoChoice:
    """Which of `count` answers, in the order shown; emphasis and brackets around the word are
    taken off, anything more is garbage."""
    word = reply.strip(_AROUND).upper()
    if word == "TIE":
        return NoChoice.TIE
    if len(word) == 1 and 0 <= ord(word) - ord("A") < count:
        return ord(word) - ord("A")
    return NoChoice.GARBAGE


def mark_of(reply: str) -> int | None:
    """A mark from 1 to 10, also as 7/10; None for anything else."""
    found = _MARK.fullmatch(reply.strip(_AROUND))
    return int(found[1]) if found is not None else None


def both_orders(first: int | NoChoice | None, second: int | NoChoice | None) -> int | NoChoice:
    """What two verdicts on the same answers say together, the second one's already counted in the
    first one's order: the same whichever of them was asked first. None: no verdict came."""
    if first is None or second is None or NoChoice.GARBAGE in (first, second):
        return NoChoice.GARBAGE
    return first if first == second else NoChoice.TIE


def most_wins(wins: Sequence[float]) -> list[int]:
    """Those with the most, each pair's point halved where it was a draw."""
    most = max(wins)
    return [index for index, won in enumerate(wins) if won == most]
