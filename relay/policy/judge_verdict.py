"""A judge's reply, read strictly: one word, or it is none."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a judge's replies say together."""

    best: tuple[int, ...]
    """The best answer; several where it prefers none of them to the others."""
    has_word: bool
    """Whether every reply could be read."""


def together(replies: Sequence[int | NoChoice | None], count: int) -> Verdict:
    """Replies on the same answers in different orders, each counted in the same one: the verdict
    does not depend on which order was asked first. None: no reply came."""
    named = {reply for reply in replies if isinstance(reply, int)}
    has_word = None not in replies and NoChoice.GARBAGE not in replies
    if not has_word or not named or NoChoice.TIE in replies:
        return Verdict(tuple(range(count)), has_word)
    return Verdict(tuple(sorted(named)), True)


def by_wins(pairs: Mapping[tuple[int, int], Verdict], count: int) -> Verdict:
    """Every answer compared with every other one: a win is two points, a draw is one for each."""
    points = [0] * count
    for pair, verdict in pairs.items():
        for index in verdict.best:
            points[pair[index]] += 2 // len(verdict.best)
    most = max(points)
    best = tuple(index for index, one in enumerate(points) if one == most)
    return Verdict(best, any(verdict.has_word for verdict in pairs.values()))
