"""Days and months of time zones, also where clocks are changed."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.governance import periods
from tests.fakes.properties import examples

HOUR_S = 3600
DAY_S = 24 * HOUR_S

ZONES = (
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "America/St_Johns",  # clocks were changed at 00:01
    "America/Sao_Paulo",  # and here at midnight
    "America/Havana",
    "Africa/Cairo",
    "Asia/Beirut",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",  # by half an hour
    "Pacific/Apia",  # left a day out
    "Pacific/Kiritimati",
    "Antarctica/Troll",
    "America/Toronto",  # once from 23:30 to 00:30
)


def at_us(text: str, zone: str = "UTC", fold: int = 0) -> int:
    moment = datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold)
    return int(moment.timestamp()) * 1_000_000


def length_h(zone: str, text: str) -> float:
    start, end = periods.bounds_s("day", zone, at_us(text, zone))
    return (end - start) / HOUR_S


def test_a_day_is_of_its_zone() -> None:
    now = at_us("2026-03-10T23:30:00")
    assert periods.start_s("day", "UTC", now) * 1_000_000 == at_us("2026-03-10T00:00:00")
    assert periods.start_s("day", "Europe/Berlin", now) * 1_000_000 == at_us(
        "2026-03-11T00:00:00", "Europe/Berlin"
    )


@pytest.mark.parametrize(
    ("zone", "noon", "hours"),
    [
        ("Europe/Berlin", "2026-03-29T12:00:00", 23),
        ("Europe/Berlin", "2026-03-30T12:00:00", 24),
        ("Europe/Berlin", "2026-10-25T12:00:00", 25),
        ("America/New_York", "2026-03-08T12:00:00", 23),
        ("America/New_York", "2026-11-01T12:00:00", 25),
        ("America/Sao_Paulo", "2018-11-04T12:00:00", 23),  # no midnight
        ("America/Sao_Paulo", "2018-02-17T12:00:00", 25),  # its last hour twice
        ("America/Havana", "2025-11-02T12:00:00", 25),  # its first hour twice
        ("Australia/Lord_Howe", "2026-10-04T12:00:00", 23.5),
        ("Pacific/Apia", "2011-12-29T12:00:00", 24),  # the next was left out
    ],
)
def test_days_where_clocks_are_changed(zone: str, noon: str, hours: float) -> None:
    assert length_h(zone, noon) == hours


def test_a_day_without_midnight_begins_when_clocks_are_put_forward() -> None:
    start = periods.start_s("day", "America/Sao_Paulo", at_us("2018-11-04T15:00:00"))
    assert datetime.fromtimestamp(start, ZoneInfo("America/Sao_Paulo")).isoformat() == (
        "2018-11-04T01:00:00-02:00"
    )
    start = periods.start_s("day", "America/Toronto", at_us("1919-03-31T15:00:00"))
    assert datetime.fromtimestamp(start, ZoneInfo("America/Toronto")).isoformat() == (
        "1919-03-31T00:30:00-04:00"
    )


def test_both_hours_of_one_name_are_of_one_day() -> None:
    first = at_us("2026-10-25T02:30:00", "Europe/Berlin", fold=0)
    second = at_us("2026-10-25T02:30:00", "Europe/Berlin", fold=1)
    assert second - first == HOUR_S * 1_000_000
    assert periods.bounds_s("day", "Europe/Berlin", first) == periods.bounds_s(
        "day", "Europe/Berlin", second
    )


def test_a_calendar_that_shows_yesterday_again_begins_no_day_twice() -> None:
    # In Newfoundland at 00:01 on 1 November 2009 it was 23:01 again.
    zone = "America/St_Johns"
    before = at_us("2009-11-01T00:00:30", zone, fold=0)
    again = at_us("2009-10-31T23:30:00", zone, fold=1)
    assert again > before
    assert periods.start_s("day", zone, before) == periods.start_s("day", zone, again)
    assert periods.start_s("month", zone, before) == periods.start_s("month", zone, again)


@pytest.mark.parametrize(
    ("moment", "first", "after"),
    [
        ("2026-02-28T23:59:59", "2026-02-01T00:00:00", "2026-03-01T00:00:00"),
        ("2028-02-29T00:00:00", "2028-02-01T00:00:00", "2028-03-01T00:00:00"),
        ("2026-12-31T23:59:59", "2026-12-01T00:00:00", "2027-01-01T00:00:00"),
        ("2027-01-01T00:00:00", "2027-01-01T00:00:00", "2027-02-01T00:00:00"),
        ("2026-01-31T12:00:00", "2026-01-01T00:00:00", "2026-02-01T00:00:00"),
    ],
)
@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "Pacific/Kiritimati"])
def test_months(zone: str, moment: str, first: str, after: str) -> None:
    now = at_us(moment, zone)
    assert periods.start_s("month", zone, now) * 1_000_000 == at_us(first, zone)
    assert periods.end_s("month", zone, now) * 1_000_000 == at_us(after, zone)


def test_the_last_microsecond_is_of_the_period() -> None:
    midnight = at_us("2026-06-01T00:00:00")
    assert periods.end_s("day", "UTC", midnight - 1) * 1_000_000 == midnight
    assert periods.start_s("day", "UTC", midnight) * 1_000_000 == midnight
    assert periods.start_s("month", "UTC", midnight - 1) * 1_000_000 == at_us("2026-05-01")


def test_total_is_all_time() -> None:
    assert periods.bounds_s("total", "UTC", 1) == (0, periods.NEVER_S)
    assert periods.start_s("total", "Europe/Berlin", at_us("2026-06-01")) == 0


def test_a_clock_that_is_put_back_finds_the_period_it_was_in() -> None:
    evening, morning = at_us("2026-06-01T23:59:00"), at_us("2026-06-02T00:01:00")
    was = periods.start_s("day", "UTC", evening)
    assert periods.start_s("day", "UTC", morning) == was + DAY_S
    assert periods.start_s("day", "UTC", evening) == was


@pytest.mark.parametrize("name", ["", "Mars/Olympus", "Europe", "../etc/passwd", "x" * 300, "a\0b"])
def test_no_time_zone(name: str) -> None:
    with pytest.raises(ValueError, match="no time zone"):
        periods.zone(name)


def test_no_period() -> None:
    with pytest.raises(ValueError, match="week"):
        periods.start_s("week", "UTC", 0)


@examples(150, full=5_000)
@given(
    zone=st.sampled_from(ZONES),
    period=st.sampled_from(("day", "month")),
    moment=st.datetimes(datetime(1970, 1, 3), datetime(2037, 12, 1), timezones=st.just(UTC)),
    steps_s=st.lists(st.integers(-90_000, 90_000), max_size=8),
)
def test_periods_follow_each_other_without_gap_or_overlap(
    zone: str, period: str, moment: datetime, steps_s: list[int]
) -> None:
    """Whatever the clock does: a moment is in the period it is told, and two periods are the same
    or apart."""
    now_s = int(moment.timestamp())
    found = set()
    for step_s in (0, *steps_s):
        now_s += step_s
        start, end = periods.bounds_s(period, zone, now_s * 1_000_000)
        assert start <= now_s < end
        assert periods.start_s(period, zone, start * 1_000_000) == start
        assert periods.end_s(period, zone, (end - 1) * 1_000_000) == end
        assert periods.start_s(period, zone, end * 1_000_000) == end
        found.add((start, end))
    ordered = sorted(found)
    assert all(one[1] <= other[0] for one, other in pairwise(ordered))


@pytest.fixture
def unknown(monkeypatch: pytest.MonkeyPatch) -> dict[tuple[str, str], tuple[int, int]]:
    """Nothing has been asked before."""
    last: dict[tuple[str, str], tuple[int, int]] = {}
    monkeypatch.setattr(periods, "_last", last)
    periods._bounds_of.cache_clear()
    return last


@pytest.mark.usefixtures("unknown")
def test_just_after_clocks_were_put_back_over_midnight_it_is_the_new_day() -> None:
    """The calendar shows the day before again, which is over: nobody asked before, so that the
    day is not known from then."""
    zone = "America/St_Johns"
    midnight = at_us("2009-11-01T00:00:00", zone)
    again = at_us("2009-10-31T23:30:00", zone, fold=1)
    assert periods.start_s("day", zone, again) * 1_000_000 == midnight
    assert periods.end_s("day", zone, again) * 1_000_000 == at_us("2009-11-02T00:00:00", zone)
    assert periods.start_s("month", zone, again) * 1_000_000 == midnight


def test_a_period_is_worked_out_once_from_its_first_second_to_its_last(
    unknown: dict[tuple[str, str], tuple[int, int]],
) -> None:
    day = at_us("2026-06-01")
    known = periods.bounds_s("day", "UTC", day)
    assert periods.bounds_s("day", "UTC", day) is known
    assert periods.bounds_s("day", "UTC", day + DAY_S * 1_000_000 - 1) is known
    assert periods.bounds_s("day", "UTC", day + DAY_S * 1_000_000) != known
    assert list(unknown) == [("day", "UTC")]


def test_how_many_zones_are_remembered_is_bounded(
    unknown: dict[tuple[str, str], tuple[int, int]],
) -> None:
    for number in range(periods._MOST_ZONES - 1):
        unknown["day", f"Made/Up_{number}"] = (0, 0)
    periods.bounds_s("day", "UTC", 0)
    assert len(unknown) == periods._MOST_ZONES
    periods.bounds_s("month", "UTC", 0)
    assert list(unknown) == [("month", "UTC")]


@pytest.mark.usefixtures("unknown")
def test_a_month_of_31_days_ends_with_it_also_before_a_short_one() -> None:
    for month in range(1, 13):
        now = at_us(f"2026-{month:02d}-28T00:00:00")
        after = at_us(f"2026-{month + 1:02d}-01" if month < 12 else "2027-01-01")
        assert periods.end_s("month", "UTC", now) * 1_000_000 == after
