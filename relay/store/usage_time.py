"""Days, months and hours of a time zone as expressions that both databases understand.

Neither SQLite nor every PostgreSQL knows the zones that Python knows, and they must agree with the
periods of budgets (`relay.governance.periods`). So the offsets of a zone within the range that is
asked for become a CASE: two arms a year for most zones.
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from itertools import pairwise
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from sqlalchemy import BigInteger, ColumnElement, case, literal

HOUR_S: Final = 3600
DAY_S: Final = 86_400
_US: Final = 1_000_000
_EPOCH: Final = date(1970, 1, 1).toordinal()
_MOST_S: Final = 250_000_000_000
"""Far beyond what a date can be; a moment later than that is of its last year."""


class Segment(NamedTuple):
    """From `start_s` on a zone is `offset_s` ahead of UTC."""

    start_s: int
    offset_s: int


def segments(where: ZoneInfo, first_s: int, last_s: int) -> list[Segment]:
    """The offsets of a zone from one moment to another, both included; in order."""
    at_s = first_s
    offset_s = _offset_s(where, at_s)
    found = [Segment(at_s, offset_s)]
    while at_s < last_s:
        next_s = min(at_s + DAY_S, last_s)
        if (after_s := _offset_s(where, next_s)) != offset_s:
            low_s, high_s = at_s, next_s
            while high_s - low_s > 1:
                middle_s = (low_s + high_s) // 2
                if _offset_s(where, middle_s) == offset_s:
                    low_s = middle_s
                else:
                    high_s = middle_s
            offset_s = after_s
            found.append(Segment(high_s, offset_s))
        at_s = next_s
    return found


def day_segments(found: list[Segment]) -> list[Segment]:
    """The same for days. Where clocks are put back over midnight the calendar would show the day
    before once more: it goes on with the day that has begun, as budgets do."""
    days = found[:1]
    for before, after in pairwise(found):
        midnight_s = (after.start_s + before.offset_s - 1) // DAY_S * DAY_S
        is_back = after.start_s + after.offset_s < midnight_s <= after.start_s + before.offset_s - 1
        start_s = midnight_s - after.offset_s if is_back else after.start_s
        days.append(Segment(start_s, after.offset_s))
    return days


def _offset_s(where: ZoneInfo, at_s: int) -> int:
    offset = datetime.fromtimestamp(at_s, UTC).astimezone(where).utcoffset()
    return 0 if offset is None else int(offset.total_seconds())


def _offset(at_us: ColumnElement[int], found: list[Segment]) -> ColumnElement[int]:
    last = [(at_us >= _big(one.start_s * _US), _big(one.offset_s * _US)) for one in found[:0:-1]]
    first = _big(found[0].offset_s * _US)
    return case(*last, else_=first) if last else first


def _big(number: int) -> ColumnElement[int]:
    return literal(number, BigInteger)


class TimeColumns:
    """Of one zone and range.

    Args:
        where: the zone.
        first_us, last_us: between which, both included, every moment is.
    """

    def __init__(self, where: ZoneInfo, first_us: int, last_us: int) -> None:
        self._where = where
        first_s, last_s = first_us // _US, min(last_us // _US + 1, _MOST_S)
        self._segments = segments(where, min(first_s, last_s), last_s)
        self._days = day_segments(self._segments)
        self._last_s = last_s

    def column(self, unit: str, at_us: ColumnElement[int]) -> ColumnElement[int]:
        """A number for each `hour` (the second of UTC it begins at), `day` (since 1970) or `month`
        (since the year 0)."""
        if unit == "hour":
            offset = _offset(at_us, self._segments)
            hour = _big(HOUR_S * _US)
            return ((at_us + offset) // hour * hour - offset) // _big(_US)
        day = (at_us + _offset(at_us, self._days)) // _big(DAY_S * _US)
        if unit == "day":
            return day
        months = self._months()
        later = [(day >= _big(start), _big(number)) for start, number in months[:0:-1]]
        first = _big(months[0][1])
        return case(*later, else_=first) if later else first

    def _months(self) -> list[tuple[int, int]]:
        """The day that each month of the range begins with, and its number."""
        first = (self._days[0].start_s + self._days[0].offset_s) // DAY_S
        last = (self._last_s + max(one.offset_s for one in self._days)) // DAY_S
        day = date.fromordinal(first + _EPOCH).replace(day=1)
        found = []
        while (ordinal := day.toordinal() - _EPOCH) <= last:
            found.append((ordinal, day.year * 12 + day.month - 1))
            day = day.replace(year=day.year + day.month // 12, month=day.month % 12 + 1)
        return found

    def label(self, unit: str, number: int) -> str:
        """As people write it: `2026-11`, `2026-11-27`, `2026-11-27T08:00+01:00`."""
        if unit == "month":
            return f"{number // 12:04d}-{number % 12 + 1:02d}"
        if unit == "day":
            return date.fromordinal(number + _EPOCH).isoformat()
        begin = datetime.fromtimestamp(number, UTC).astimezone(self._where)
        return begin.isoformat(timespec="minutes")
