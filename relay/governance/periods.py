"""The periods of budgets: days and months of a time zone, or all time.

A period is named by the second it begins at. Midnight is that of the zone, so a day of 23 or 25
hours is one day; where a zone leaves midnight out (its clocks are put forward then), the day begins
at the first moment it has, and where it has two, at the first. A row belongs to the period it was
admitted in, whatever the clock does afterwards: the beginning is taken once and kept with it.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Final, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

Period = Literal["day", "month", "total"]
PERIODS: Final[tuple[Period, ...]] = ("day", "month", "total")

NEVER_S: Final = 1 << 62
"""The end of `total`."""

_SECOND_US: Final = 1_000_000


def zone(name: str) -> ZoneInfo:
    """The time zone of an IANA name, `Europe/Berlin`.

    Raises:
        ValueError: there is none of this name on this machine.
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        # OSError: the name of a folder, or one too long for a file.
        raise ValueError(f"{name[:64]!r} is no time zone (Europe/Berlin, UTC, ...)") from None


def start_s(period: str, time_zone: str, now_us: int) -> int:
    """Seconds since 1970 at which the period that holds a moment began; 0 of `total`.

    Raises:
        ValueError: no such period or time zone.
    """
    return _bounds(period, time_zone, now_us // _SECOND_US)[0]


def end_s(period: str, time_zone: str, now_us: int) -> int:
    """Seconds since 1970 at which the next period begins; `NEVER_S` of `total`.

    Raises:
        ValueError: no such period or time zone.
    """
    return _bounds(period, time_zone, now_us // _SECOND_US)[1]


def bounds_s(period: str, time_zone: str, now_us: int) -> tuple[int, int]:
    """Both: the first second of the period, and the first after it.

    Raises:
        ValueError: no such period or time zone.
    """
    return _bounds(period, time_zone, now_us // _SECOND_US)


_MOST_ZONES: Final = 2048
_last: dict[tuple[str, str], tuple[int, int]] = {}
"""The bounds found last, which nearly every moment that is asked for falls into."""


def _bounds(period: str, time_zone: str, now_s: int) -> tuple[int, int]:
    if period == "total":
        return 0, NEVER_S
    key = (period, time_zone)
    last = _last.get(key)
    if last is not None and last[0] <= now_s < last[1]:
        return last
    today = datetime.fromtimestamp(now_s, UTC).astimezone(zone(time_zone)).date()
    found = _bounds_of(period, time_zone, today)
    if now_s >= found[1]:
        # Clocks were put back over midnight just after it: the calendar shows yesterday again.
        found = _bounds_of(period, time_zone, today + timedelta(days=1))
    if len(_last) >= _MOST_ZONES:
        _last.clear()
    _last[key] = found
    return found


@lru_cache(maxsize=256)
def _bounds_of(period: str, time_zone: str, today: date) -> tuple[int, int]:
    match period:
        case "day":
            first, after = today, today + timedelta(days=1)
        case "month":
            first = today.replace(day=1)
            after = (first + timedelta(days=32)).replace(day=1)
        case _:
            raise ValueError(f"{period[:16]!r} is no period ({', '.join(PERIODS)})")
    where = zone(time_zone)
    return _begins_s(first, where), _begins_s(after, where)


def _begins_s(day: date, where: ZoneInfo) -> int:
    """The first second of a day of a zone; of a day that the zone never had, of the next."""
    midnight = datetime.combine(day, time(), tzinfo=where)
    first = int(midnight.timestamp())
    last = int(midnight.replace(fold=1).timestamp())
    if last >= first:
        return first
    # Midnight is left out: the two are its moments by the offset after the gap and before it
    # (PEP 495), and somewhere from the one to the other the clocks were put forward.
    low, high = last, first
    while low < high:
        middle = (low + high) // 2
        if datetime.fromtimestamp(middle, where).date() >= day:
            high = middle
        else:
            low = middle + 1
    return low
