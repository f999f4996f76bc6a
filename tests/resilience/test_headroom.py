"""How much a target may be asked, on a clock that is an argument."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from relay.resilience.headroom import MAX_HOLD_S, Headroom


class Said(NamedTuple):
    remaining: float | None
    reset_s: float
    limit: float | None = None


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


# --- what is left -------------------------------------------------------------------------------


def test_nothing_known_is_all_left() -> None:
    assert Headroom().left_share(0.0) == 1.0
    assert Headroom(rpm=10, tpm=1000).left_share(5.0) == 1.0


def test_the_tightest_window_counts_until_its_reset() -> None:
    headroom = Headroom()
    headroom.observe([Said(5, 2.0, 100), Said(300, 40.0, 2000), Said(90, 50.0, 100)], 10.0)
    assert headroom.left_share(11.9) == 0.05
    assert headroom.left_share(12.0) == 0.15
    assert headroom.left_share(50.0) == 0.9
    assert headroom.left_share(60.0) == 1.0
    assert headroom.upstream_wait_s(10.0) == 0.0, "a primary is not kept away"


@pytest.mark.parametrize("limit", [None, 0.0, -1.0, 5.0, 7.0])
def test_a_window_without_a_limit_that_fits_says_no_share(limit: float | None) -> None:
    headroom = Headroom()
    headroom.observe([Said(7, 30.0, limit)], 0.0)
    assert headroom.left_share(0.0) == 1.0


def test_an_empty_window_needs_no_limit_to_be_empty() -> None:
    headroom = Headroom()
    headroom.observe([Said(0, 30.0)], 0.0)
    assert headroom.left_share(29.9) == 0.0
    assert headroom.left_share(30.0) == 1.0
    headroom.refused(None, 40.0)
    assert headroom.left_share(40.5) == 0.0


def test_last_share_counts() -> None:
    headroom = Headroom()
    headroom.observe([Said(5, 30.0, 100)], 0.0)
    headroom.observe([], 1.0)  # says nothing
    assert headroom.left_share(1.0) == 0.05
    headroom.observe([Said(50, 30.0, 100)], 2.0)
    assert headroom.left_share(2.0) == 0.5


def test_a_window_of_a_day_that_is_nearly_empty_is_asked_again_after_a_minute() -> None:
    headroom = Headroom()
    headroom.observe([Said(1, 86_400.0, 1000)], 0.0)
    assert headroom.left_share(MAX_HOLD_S - 0.1) == 0.001
    assert headroom.left_share(MAX_HOLD_S) == 1.0


def test_own_limits_tell_what_is_left() -> None:
    headroom = Headroom(rpm=10, tpm=1000)
    for _ in range(9):
        headroom.take(0.0)
    assert headroom.left_share(0.0) == pytest.approx(0.1)
    assert headroom.left_share(6.0) == pytest.approx(0.2)
    assert headroom.own_wait_s(0.0) == 0.0
    headroom.spend(950, 0.0)
    assert headroom.left_share(0.0) == pytest.approx(0.05)
    headroom.spend(500, 0.0)
    assert headroom.left_share(0.0) == 0.0
    headroom.limit(None, None)
    assert headroom.left_share(0.0) == 1.0


tokens = st.none() | st.floats(-10.0, 2000.0)
windows = st.lists(st.builds(Said, tokens, st.floats(0.0, 200.0), tokens), max_size=4)


class LeftMachine(RuleBasedStateMachine):
    """Against all that was said, kept whole: the share is the least that is still held, and where
    a request must wait for a provider there is none."""

    def __init__(self) -> None:
        super().__init__()
        self.headroom = Headroom()
        self.now_s = 0.0
        self.said: list[Said] = []
        self.said_s = 0.0
        self.full_until_s = 0.0

    @rule(gap_s=st.floats(0.0, 50.0))
    def wait(self, gap_s: float) -> None:
        self.now_s += gap_s

    @rule(said=windows)
    def observe(self, said: list[Said]) -> None:
        self.headroom.observe(said, self.now_s)
        if any(one.remaining is not None for one in said):
            self.said, self.said_s, self.full_until_s = said, self.now_s, 0.0

    @rule(retry_after_s=st.none() | st.floats(0.0, 100.0))
    def refuse(self, retry_after_s: float | None) -> None:
        self.headroom.refused(retry_after_s, self.now_s)
        hold_s = 1.0 if retry_after_s is None else min(retry_after_s, MAX_HOLD_S)
        self.full_until_s = max(self.full_until_s, self.now_s + hold_s)

    @invariant()
    def least_is_left(self) -> None:
        least = 0.0 if self.full_until_s > self.now_s else 1.0
        for one in self.said:
            if one.remaining is None or self.said_s + min(one.reset_s, MAX_HOLD_S) <= self.now_s:
                continue
            if one.remaining <= 0:
                least = 0.0
            elif one.limit is not None and one.limit > 0:
                least = min(least, one.remaining / one.limit)
        assert self.headroom.left_share(self.now_s) == least
        if self.headroom.wait_s(self.now_s) > 0:
            assert least == 0.0


LeftMachine.TestCase.settings = hypothesis_settings(
    max_examples=50, stateful_step_count=30, deadline=None
)
TestLeftMachine = LeftMachine.TestCase
