"""How many resets a connection may have, by the share, by the number and by the minute."""

from __future__ import annotations

from dataclasses import replace

import pytest

from relay.transport.engine import TransportSettings
from relay.transport.resets import CALM_S, MIN_RESET_SHARE, ONE_EVENT_S, ResetLimit

SETTINGS = TransportSettings(
    max_reset_share=0.35, judged_from=25, reset_limit_from=100, early_rotations=2, max_resets=150
)


@pytest.mark.parametrize(
    ("streams", "resets", "replaces"),
    [
        (24, 24, False),
        (25, 8, False),
        (25, 9, True),
        (99, 34, False),
        (99, 35, True),
        (100, 35, True),
        (800, 149, False),
        (800, 150, True),
    ],
)
def test_share_and_number(streams: int, resets: int, replaces: bool) -> None:
    assert ResetLimit(SETTINGS).replaces(streams, resets, 0.0) is replaces


def test_early_ones_are_bounded_by_the_minute() -> None:
    limit = ResetLimit(SETTINGS)
    assert [limit.replaces(30, 30, now_s) for now_s in (0.0, 1.0, 2.0, 59.0)] == [
        True,
        True,
        False,
        False,
    ]
    assert limit.replaces(100, 100, 59.0), "where servers judge there is no choice"
    assert [limit.replaces(30, 30, now_s) for now_s in (60.0, 60.5, 61.0, 62.0)] == [
        True,
        False,
        True,
        False,
    ]


def test_no_early_ones_at_all() -> None:
    limit = ResetLimit(replace(SETTINGS, early_rotations=0))
    assert not limit.replaces(99, 99, 0.0)
    assert limit.replaces(100, 99, 0.0)


def test_asked_for_calm_it_allows_half_and_forgets_in_an_hour() -> None:
    limit = ResetLimit(SETTINGS)
    limit.calm(0.0)
    assert limit.share(0.0) == 0.175
    assert limit.replaces(100, 18, 0.0)
    assert not limit.replaces(100, 17, 0.0)
    limit.calm(ONE_EVENT_S - 1)  # the other streams of that connection
    assert (limit.share(ONE_EVENT_S), limit.calmed) == (0.175, 1)
    latest_s = 1800.0
    limit.calm(latest_s)
    assert (limit.share(latest_s), limit.calmed) == (MIN_RESET_SHARE, 2)
    limit.calm(latest_s + ONE_EVENT_S)
    latest_s += ONE_EVENT_S
    assert limit.share(latest_s) == MIN_RESET_SHARE
    assert limit.share(latest_s + CALM_S - 1) == MIN_RESET_SHARE
    assert limit.share(latest_s + CALM_S) == 0.35


def test_a_share_below_the_least_is_not_raised() -> None:
    limit = ResetLimit(replace(SETTINGS, max_reset_share=0.05))
    limit.calm(0.0)
    assert limit.share(0.0) == 0.05
