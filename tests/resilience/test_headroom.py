"""How much a target may be asked, on a clock that is an argument."""

from __future__ import annotations

from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from relay.resilience.headroom import MAX_HOLD_S, Headroom


class Said(NamedTuple):
    remaining: float | None
    reset_s: float


def test_nothing_known_means_no_wait() -> None:
    headroom = Headroom()
    assert headroom.upstream_wait_s(0.0) == 0.0
    assert [headroom.take(0.0) for _ in range(1000)] == [0.0] * 1000


def test_empty_window_holds_until_its_reset() -> None:
    headroom = Headroom()
    headroom.observe([Said(0, 7.5), Said(100, 30.0)], 10.0)
    assert headroom.upstream_wait_s(10.0) == 7.5
    assert headroom.upstream_wait_s(17.5) == 0.0


def test_last_word_counts() -> None:
    headroom = Headroom()
    headroom.observe([Said(0, 7.5)], 10.0)
    headroom.observe([], 11.0)  # says nothing
    assert headroom.upstream_wait_s(11.0) == 6.5
    headroom.observe([Said(3, 7.5)], 12.0)
    assert headroom.upstream_wait_s(12.0) == 0.0


def test_a_window_of_a_day_is_asked_again_after_a_minute() -> None:
    headroom = Headroom()
    headroom.observe([Said(0, 86_400.0)], 0.0)
    assert headroom.upstream_wait_s(0.0) == MAX_HOLD_S


def test_refusal_holds_as_long_as_it_says() -> None:
    headroom = Headroom()
    headroom.refused(None, 0.0)
    assert headroom.upstream_wait_s(0.0) == 1.0
    headroom.refused(20.0, 0.0)
    headroom.refused(2.0, 0.0)
    assert headroom.upstream_wait_s(0.0) == 20.0


def test_rpm_allows_a_minute_at_once_and_then_its_pace() -> None:
    headroom = Headroom(rpm=60)
    assert [headroom.take(5.0) for _ in range(60)] == [0.0] * 60
    assert headroom.take(5.0) == 1.0
    assert headroom.take(6.0) == 0.0
    assert headroom.take(6.0) == 1.0


def test_tokens_are_a_debt() -> None:
    headroom = Headroom(tpm=600)
    headroom.spend(900, 0.0)
    assert headroom.own_wait_s(0.0) == 30.0  # half a minute's worth over
    assert headroom.own_wait_s(30.0) == 0.0


def test_new_limits_keep_what_was_used() -> None:
    headroom = Headroom(rpm=1)
    assert headroom.take(0.0) == 0.0
    headroom.limit(2, None)
    assert headroom.take(0.0) == 30.0
    headroom.limit(None, None)
    assert headroom.take(0.0) == 0.0


@given(
    rpm=st.integers(1, 600),
    gaps_s=st.lists(st.floats(0.0, 20.0), min_size=1, max_size=200),
)
def test_requests_are_those_of_a_bucket(rpm: int, gaps_s: list[float]) -> None:
    """Against the textbook bucket: `rpm` units, refilled evenly; and a wait that is told is enough
    and no more than needed."""
    headroom = Headroom(rpm=rpm)
    level, now_s = float(rpm), 0.0
    for gap_s in gaps_s:
        now_s += gap_s
        level = min(float(rpm), level + gap_s * rpm / 60)
        wait_s = headroom.take(now_s)
        if wait_s == 0.0:
            assert level > 1 - 1e-6
            level -= 1
        else:
            assert level < 1
            assert abs(level + wait_s * rpm / 60 - 1) < 1e-6
