"""Spans of the week, by the clock on a wall somewhere."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from relay.config.rule_values import DAYS, days_of, hours_of, zone_of_name
from relay.config.rules import TimeConfig

_DAY = 24 * 60


def span(config: TimeConfig) -> Callable[[float], bool]:
    """Whether a moment, seconds since 1970, is within it. Days and hours are those that the wall
    shows, also where it is put forward or back."""
    where = zone_of_name(config.zone)
    days = frozenset(range(7) if config.days is None else days_of(config.days))
    since, until = (0, _DAY) if config.hours is None else hours_of(config.hours)
    is_over_midnight = until <= since

    def is_within(now_s: float) -> bool:
        now = datetime.fromtimestamp(now_s, where)
        minute, day = now.hour * 60 + now.minute, now.weekday()
        if not is_over_midnight:
            return since <= minute < until and day in days
        if minute >= since:
            return day in days
        return minute < until and (day - 1) % 7 in days

    return is_within


def wall(config: TimeConfig, now_s: float) -> str:
    """What the wall shows, for people: `fri 14:05`."""
    now = datetime.fromtimestamp(now_s, zone_of_name(config.zone))
    return f"{DAYS[now.weekday()]} {now:%H:%M}"
