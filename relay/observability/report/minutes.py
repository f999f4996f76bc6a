"""Good and bad ones by minute, over years if need be: twelve kilobytes a day that has any."""

from __future__ import annotations

from array import array
from typing import Final

_DAY_MIN: Final = 1440
MINUTE_US: Final = 60_000_000


class MinuteCounts:
    """By minutes since 1970."""

    __slots__ = ("_days",)

    def __init__(self) -> None:
        self._days: dict[int, array[int]] = {}

    def add(self, at_us: int, is_good: bool, times: int = 1) -> None:
        """Count one, or several that are alike."""
        day, minute = divmod(at_us // MINUTE_US, _DAY_MIN)
        page = self._days.get(day)
        if page is None:
            page = self._days[day] = array("I", bytes(2 * _DAY_MIN * array("I").itemsize))
        page[2 * minute + (not is_good)] += times

    def at(self, minute: int) -> tuple[int, int]:
        """Good and bad ones of a minute."""
        day, place = divmod(minute, _DAY_MIN)
        page = self._days.get(day)
        return (0, 0) if page is None else (page[2 * place], page[2 * place + 1])

    def between(self, first: int, end: int) -> tuple[int, int]:
        """Of minutes from one to another, which is left out."""
        good = bad = 0
        for minute in range(first, end):
            more_good, more_bad = self.at(minute)
            good += more_good
            bad += more_bad
        return good, bad


class Sums:
    """A window that slides over them, minute by minute.

    Args:
        length_min: how many minutes it has, the one it stands at among them.
    """

    __slots__ = ("_at", "_counts", "_length", "bad", "good")

    def __init__(self, counts: MinuteCounts, length_min: int) -> None:
        self._counts = counts
        self._length = length_min
        self._at: int | None = None
        self.good = 0
        self.bad = 0

    def to(self, minute: int) -> None:
        """Stand at a minute: the next one, or at first any."""
        if self._at is None:
            self.good, self.bad = self._counts.between(minute - self._length + 1, minute + 1)
        else:
            for step in range(self._at + 1, minute + 1):
                good, bad = self._counts.at(step)
                old_good, old_bad = self._counts.at(step - self._length)
                self.good += good - old_good
                self.bad += bad - old_bad
        self._at = minute
