"""When a credential is fetched anew, and whether it serves: bounds that hold whatever happens."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.credentials.schedule import (
    MARGIN_S,
    MAX_BACKOFF_S,
    REFUSED_AGAIN_S,
    SAME_AGAIN_S,
    RenewalSchedule,
)
from tests.credentials.token_world import chances
from tests.fakes.properties import examples

NOW_S = 5000.0


def renewed(life_s: float, chance: float = 0.0, *, is_new: bool = True) -> RenewalSchedule:
    schedule = RenewalSchedule(chances(chance))
    schedule.renewed(NOW_S, NOW_S, life_s, is_new=is_new)
    return schedule


def test_nothing_yet_is_due_at_once_and_not_usable() -> None:
    schedule = RenewalSchedule()
    assert schedule.due_s(NOW_S) == 0
    assert schedule.wait_s(NOW_S) == 0.001
    assert schedule.unusable_for_s(NOW_S) is None
    assert schedule.expires_in_s(NOW_S) is None


@pytest.mark.parametrize(
    ("life_s", "chance", "due_s"),
    [(3600, 0.0, 3300), (3600, 0.999, 3240.06), (4, 0.0, 2.0), (4, 0.5, 1.8), (300, 0.0, 150)],
)
def test_renewed_well_before_the_end(life_s: float, chance: float, due_s: float) -> None:
    assert renewed(life_s, chance).due_s(NOW_S) == pytest.approx(due_s)


def test_life_counts_from_when_it_was_asked_for() -> None:
    schedule = RenewalSchedule(chances(0.0))
    schedule.renewed(NOW_S + 9, NOW_S, 3600, is_new=True)
    assert schedule.expires_in_s(NOW_S + 9) == 3591


@pytest.mark.parametrize(("life_s", "margin_s"), [(3600, MARGIN_S), (4, 0.4)])
def test_serves_until_shortly_before_its_end(life_s: float, margin_s: float) -> None:
    schedule = renewed(life_s)
    assert schedule.wait_s(NOW_S + life_s - margin_s - 0.01) == 0
    assert schedule.wait_s(NOW_S + life_s - margin_s + 0.01) > 0
    assert schedule.unusable_for_s(NOW_S + life_s) == pytest.approx(margin_s)


def test_the_same_again_is_asked_for_in_half_a_minute() -> None:
    schedule = renewed(290, is_new=False)
    assert schedule.due_s(NOW_S) == SAME_AGAIN_S
    assert renewed(8, is_new=False).due_s(NOW_S) == 2.0, "and sooner where it would end"


def test_the_same_with_much_of_its_life_left_is_no_reason_to_hurry() -> None:
    assert renewed(80_000, is_new=False).due_s(NOW_S) == 80_000 - 300


def test_one_without_an_end_is_never_due() -> None:
    schedule = renewed(math.inf)
    assert schedule.due_s(NOW_S) == math.inf
    assert schedule.expires_in_s(NOW_S) is None
    assert schedule.wait_s(NOW_S + 1e9) == 0


def test_failures_back_off_with_full_jitter() -> None:
    schedule = RenewalSchedule(chances(0.999))
    waits = []
    for _ in range(9):
        schedule.failed(NOW_S)
        waits.append(round(schedule.due_s(NOW_S)))
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    schedule.renewed(NOW_S, NOW_S, 3600, is_new=True)
    schedule.failed(NOW_S)
    assert schedule.due_s(NOW_S) < 1, "from the beginning"
    assert schedule.failures == 10


def test_a_refusal_makes_it_due_but_not_again_and_again() -> None:
    schedule = renewed(3600)
    assert schedule.refused(NOW_S + 1)
    assert schedule.due_s(NOW_S + 1) == 0
    schedule.renewed(NOW_S + 2, NOW_S + 2, 3600, is_new=True)
    assert not schedule.refused(NOW_S + 3)
    assert schedule.due_s(NOW_S + 3) > 3000
    assert schedule.refused(NOW_S + 1 + REFUSED_AGAIN_S)


def test_a_refusal_does_not_shorten_a_backoff() -> None:
    schedule = renewed(3600)
    schedule.failed(NOW_S)
    before_s = schedule.due_s(NOW_S)
    assert not schedule.refused(NOW_S)
    assert schedule.due_s(NOW_S) == before_s


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["new", "same", "fail", "refuse", "pass"]),
        st.floats(0.01, 4000),
        st.floats(0.5, 90_000),
    ),
    max_size=30,
)


@given(events=EVENTS, chance=st.floats(0, 0.999))
@examples(60, full=5000)
def test_bounds(events: list[tuple[str, float, float]], chance: float) -> None:
    schedule = RenewalSchedule(chances(chance))
    now_s, ends_s = NOW_S, -math.inf
    for what, passes_s, life_s in events:
        now_s += passes_s
        if what in ("new", "same"):
            schedule.renewed(now_s, now_s, life_s, is_new=what == "new")
            ends_s = now_s + life_s
            due_s = schedule.due_s(now_s)
            assert due_s > 0, "never in a circle"
            assert due_s < life_s or life_s < 1, "before its end"
            if what == "new" and life_s >= 1:
                assert due_s <= life_s - min(300, life_s / 2) + 1e-6
                assert due_s >= life_s - min(300, life_s / 2) - min(60, life_s / 10) - 1e-6
        elif what == "fail":
            schedule.failed(now_s)
            assert 0 < schedule.due_s(now_s) <= MAX_BACKOFF_S
        elif what == "refuse":
            schedule.refused(now_s)
        # Whatever happened: never sent after its end, and always a time for the next try.
        assert schedule.is_usable(now_s) == (schedule.wait_s(now_s) == 0)
        assert not schedule.is_usable(now_s) or now_s < ends_s
        assert schedule.is_usable(now_s) or schedule.wait_s(now_s) >= 0.001
