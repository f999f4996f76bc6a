"""Days and weeks of a time zone, for millions of moments."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

_SLOT_US: Final = 900_000_000
"""A quarter of an hour: no zone changes its clocks, or begins its day, in the midst of one."""


class Calendar:
    """Args:
    where: the zone.
    """

    def __init__(self, where: ZoneInfo) -> None:
        self._where = where
        self._days: dict[int, date] = {}

    def day(self, at_us: int) -> date:
        """The day that a moment is of."""
        slot = at_us // _SLOT_US
        found = self._days.get(slot)
        if found is None:
            seconds = slot * _SLOT_US // 1_000_000
            found = datetime.fromtimestamp(seconds, UTC).astimezone(self._where).date()
            self._days[slot] = found
        return found

    def week(self, at_us: int) -> date:
        """The Monday of its week (ISO 8601)."""
        day = self.day(at_us)
        return day - timedelta(days=day.weekday())

    def text(self, at_us: int) -> str:
        """A moment as people write it: `2026-11-27 08:30`."""
        seconds = at_us // 1_000_000
        return f"{datetime.fromtimestamp(seconds, UTC).astimezone(self._where):%Y-%m-%d %H:%M}"
