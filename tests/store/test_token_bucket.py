"""A bucket against exact fractions: never more than they allow, and hardly ever less."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from relay.store.token_bucket import (
    FULL_AFTER_US,
    MAX_DEBT_MINUTES,
    MAX_LIMIT,
    MAX_STEP_BACK_US,
    MILLI,
    MINUTE_US,
    corrected,
    refilled,
    wait_us,
)
from tests.fakes.properties import examples

limits = st.one_of(st.integers(1, 100), st.integers(1, MAX_LIMIT))
steps_us = st.one_of(st.integers(0, 10), st.integers(0, 100_000), st.integers(0, 2 * MINUTE_US))

NOW_US = 1_800_000_000_000_000


@given(limits, st.lists(st.tuples(steps_us, st.floats(0, 1.2)), max_size=40))
@examples(300, full=5000)
def test_never_more_than_exact_fractions_and_less_than_a_thousandth_less_a_grant(
    limit: int, asked: list[tuple[int, float]]
) -> None:
    full = limit * MILLI
    level, at_us, now_us = full, NOW_US, NOW_US
    exact, grants = Fraction(full), 0
    for step_us, share in asked:
        now_us += step_us
        exact = min(Fraction(full), exact + Fraction(step_us * limit, 60_000))
        amount = round(share * limit)
        left, moment_us = refilled(level, at_us, limit, now_us)
        assert left <= exact
        assert exact - left < grants + 1
        if left >= amount * MILLI:
            level, at_us = left - amount * MILLI, moment_us
            exact -= amount * MILLI
            grants += 1


def test_a_bucket_that_is_asked_all_the_time_fills() -> None:
    level, at_us = 0, NOW_US
    for step in range(1, 200_001):  # a microsecond each; a thousandth comes every 60 ms
        level, at_us = refilled(level, at_us, 1, NOW_US + step)
    assert level == 3
    assert NOW_US + 200_000 - at_us == 200_000 - 180_000


@given(limits, st.integers(-MAX_DEBT_MINUTES * MILLI, MILLI), st.integers(1, MAX_LIMIT))
@examples(300, full=5000)
def test_after_the_wait_it_is_there_and_not_before(limit: int, share: int, amount: int) -> None:
    level = share * limit
    amount = min(amount, limit)
    us = wait_us(level, limit, amount)
    assert us <= FULL_AFTER_US
    assert refilled(level, NOW_US, limit, NOW_US + us)[0] >= amount * MILLI
    if us > 1:
        assert refilled(level, NOW_US, limit, NOW_US + us - 1)[0] < amount * MILLI
    if us == 0:
        assert level >= amount * MILLI


@given(limits, st.integers(0, MILLI), st.integers(-(10**15), 10**15))
@examples(200)
def test_a_correction_ends_at_full_and_at_an_hours_debt(limit: int, share: int, by: int) -> None:
    level = corrected(share * limit, limit, by)
    assert -MAX_DEBT_MINUTES * limit * MILLI <= level <= limit * MILLI
    assert refilled(level, NOW_US, limit, NOW_US + FULL_AFTER_US)[0] == limit * MILLI


def test_steps_of_the_clock() -> None:
    assert refilled(5, NOW_US, 60, NOW_US - 1) == (5, NOW_US)
    assert refilled(5, NOW_US, 60, NOW_US - MAX_STEP_BACK_US) == (5, NOW_US)
    too_far_us = NOW_US - MAX_STEP_BACK_US - 1
    assert refilled(5, NOW_US, 60, too_far_us) == (5, too_far_us)
    assert refilled(5, NOW_US, 60, NOW_US + 10**15) == (60_000, NOW_US + 10**15)


def test_a_lowered_limit_takes_what_is_over_it() -> None:
    assert refilled(50_000, NOW_US, 20, NOW_US) == (20_000, NOW_US)
