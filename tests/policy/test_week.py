"""Spans of the week by the clock on a wall: borders, midnight, summer time."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.config.rules import TimeConfig
from relay.policy.week import span, wall
from tests.fakes.properties import examples


def at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def within(moment: str, **fields: Any) -> bool:
    return span(TimeConfig(**fields))(at(moment))


@pytest.mark.parametrize(
    ("moment", "holds"),
    [
        ("2026-11-27T07:59:59+01:00", False),
        ("2026-11-27T08:00:00+01:00", True),
        ("2026-11-27T17:59:59+01:00", True),
        ("2026-11-27T18:00:00+01:00", False),
        ("2026-11-28T12:00:00+01:00", False),  # a Saturday
        ("2026-11-27T07:30:00+00:00", True),
        ("2026-07-03T06:30:00+00:00", True),  # the same hour in summer
        ("2026-07-03T16:30:00+00:00", False),
    ],
)
def test_office_hours(moment: str, holds: bool) -> None:
    office = {"zone": "Europe/Berlin", "days": "mon-fri", "hours": "08:00-18:00"}
    assert within(moment, **office) is holds


@pytest.mark.parametrize(
    ("moment", "holds"),
    [
        ("2026-11-27T21:59:59+00:00", False),
        ("2026-11-27T22:00:00+00:00", True),  # Friday night begins
        ("2026-11-28T05:59:59+00:00", True),  # and is Friday's till Saturday morning
        ("2026-11-28T06:00:00+00:00", False),
        ("2026-11-28T22:00:00+00:00", False),
        ("2026-11-27T03:00:00+00:00", False),  # Thursday's
    ],
)
def test_a_night_belongs_to_the_day_on_which_it_begins(moment: str, holds: bool) -> None:
    assert within(moment, days="fri", hours="22:00-06:00") is holds


def test_days_alone_and_hours_alone() -> None:
    assert within("2026-11-29T23:59:59+00:00", days=["sat", "sun"])
    assert not within("2026-11-30T00:00:00+00:00", days=["sat", "sun"])
    assert within("2026-11-29T23:59:59+00:00", hours="00:00-24:00")
    assert within("2026-11-30T12:00:00+00:00", days="fri-mon")
    assert not within("2026-12-01T12:00:00+00:00", days="fri-mon")


def test_what_the_wall_shows() -> None:
    zone = TimeConfig(zone="Asia/Kolkata", days="mon")
    assert wall(zone, at("2026-11-27T20:00:00+00:00")) == "sat 01:30"


@examples(40, full=1_000)
@given(st.integers(0, 24 * 60 - 1), st.integers(1, 24 * 60 - 1), st.integers(0, 2_000_000_000))
def test_a_span_and_the_rest_of_the_day_share_every_minute(
    since: int, length: int, now_s: int
) -> None:
    until = (since + length) % (24 * 60)
    ends = [f"{minute // 60:02}:{minute % 60:02}" for minute in (since, until)]
    one = span(TimeConfig(hours="-".join(ends)))
    rest = span(TimeConfig(hours="-".join(reversed(ends))))
    assert one(now_s) is not rest(now_s)
