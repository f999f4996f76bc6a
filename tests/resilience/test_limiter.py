"""The concurrency limit of a target: its formula by hand, its slots by a model."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from relay.resilience.limiter import Limiter, LimiterSettings, Slot


def limiter(**changes: Any) -> Limiter:
    """One with the defaults, but for a small limit."""
    defaults = replace(LimiterSettings(), initial_limit=20)
    return Limiter(replace(defaults, **changes))


def slot(one: Limiter, now_s: float = 0.0, *, forced: bool = False) -> Slot:
    taken = one.acquire(now_s, forced=forced)
    assert taken is not None
    return taken


def window(one: Limiter, rtt: float, now_s: float, in_flight: int = 20) -> None:
    """One window: ten successes, with so many in flight, over more than its second."""
    slots = [slot(one, now_s, forced=True) for _ in range(in_flight)]
    for taken in slots[:10]:
        taken.success(rtt, now_s + 1.5)
    for taken in slots[10:]:
        taken.ignored(now_s + 1.5)


def test_refuses_at_its_limit() -> None:
    one = limiter(initial_limit=4)
    slots = [slot(one) for _ in range(4)]
    assert one.acquire(0.0) is None
    assert one.utilisation == 1.0
    slots[0].ignored(0.0)
    assert one.acquire(0.0) is not None


def test_force_goes_over_it() -> None:
    one = limiter(initial_limit=4)
    slots = [slot(one, forced=True) for _ in range(6)]
    assert (one.in_flight, one.utilisation) == (6, 1.5)
    slots.pop().ignored(0.0)
    assert one.acquire(0.0) is None  # still over


def test_first_end_of_a_slot_counts() -> None:
    one = limiter()
    taken = slot(one)
    taken.ignored(0.0)
    taken.dropped(0.0)
    taken.success(1.0, 0.0)
    assert (one.in_flight, one.limit) == (0, 20)


def test_grows_by_0_8_a_window_while_all_is_well() -> None:
    one = limiter()
    for second in range(0, 20, 2):
        window(one, 1.0, second)
    assert one._limit == pytest.approx(20 + 10 * 0.8)


def test_does_not_grow_while_under_used() -> None:
    one = limiter()
    for second in range(0, 200, 2):
        window(one, 1.0, second, in_flight=10)  # half of it at first: may grow, once
    assert one._limit == pytest.approx(20.8)


def test_what_was_in_flight_in_an_earlier_window_is_no_use_now() -> None:
    one = limiter(initial_limit=30)
    window(one, 1.0, 0.0, in_flight=30)  # ended while 20 were still there
    window(one, 1.0, 2.0, in_flight=10)
    assert one._limit == pytest.approx(30 + 2 * 0.8)
    window(one, 1.0, 4.0, in_flight=10)
    assert one._limit == pytest.approx(30 + 2 * 0.8)


def test_stops_at_the_most() -> None:
    one = limiter(max_limit=22)
    for second in range(0, 20, 2):
        window(one, 1.0, second)
    assert one._limit == 22


def test_formula() -> None:
    """Two windows by hand: averages 1.0 and 4.0."""
    one = limiter()
    window(one, 1.0, 0.0)
    window(one, 4.0, 2.0)
    long = (1.0 + 4.0) / 2
    gradient = 1.5 * long / 4.0
    assert one._limit == pytest.approx(0.8 * 20.8 + 0.2 * (gradient * 20.8 + 4))


def test_one_window_shrinks_it_by_a_tenth_at_most() -> None:
    one = limiter(initial_limit=200, queue=0.0)
    for second in range(0, 200, 2):
        window(one, 1.0, second, in_flight=150)
    assert one._limit == 200.0
    window(one, 1000.0, 300.0, in_flight=150)
    assert one._limit == pytest.approx(180.0)


def test_long_average_is_plain_at_first_and_then_slow() -> None:
    one = limiter()
    for second in range(0, 40, 4):
        window(one, 1.0, second)
        window(one, 3.0, second + 2)
    assert one._long == pytest.approx(2.0, abs=0.02)
    before = one._long
    window(one, 3.0, 100.0)
    assert one._long - before == pytest.approx((3.0 - before) * 2 / 601)


def test_a_bad_hour_is_soon_forgotten() -> None:
    one = limiter()
    for second in range(0, 20, 2):
        window(one, 10.0, second)
    for second in range(100, 140, 2):
        window(one, 1.0, second)
    assert one._long < 2.0


def test_a_window_takes_ten_samples_and_a_second() -> None:
    one = limiter()
    slots = [slot(one, 0.0) for _ in range(20)]
    for taken in slots[:10]:
        taken.success(1.0, 0.5)
    assert one._windows == 0
    slots[10].success(1.0, 1.0)
    assert one._windows == 1
    for taken in slots[11:]:
        taken.success(1.0, 9.0)
    assert one._windows == 1


def test_fifty_refused_together_are_one_refusal() -> None:
    one = limiter(initial_limit=100)
    slots = [slot(one) for _ in range(60)]
    for taken in slots[:50]:
        taken.dropped(0.0)
    assert one._limit == pytest.approx(90.0)
    slot(one).dropped(1.0)  # asked after the cut, and refused again
    assert one._limit == pytest.approx(81.0)
    for taken in slots[50:]:
        taken.dropped(2.0)
    assert one._limit == pytest.approx(81.0)


def test_refusals_stop_at_the_least() -> None:
    one = limiter()
    for second in range(100):
        slot(one, second).dropped(second)
    assert one.limit == 4
    slots = [slot(one, 100.0) for _ in range(4)]
    assert one.acquire(100.0) is None
    del slots


def test_useless_times_are_not_taken() -> None:
    one = limiter()
    for rtt in (0.0, -1.0, float("nan")):
        slots = [slot(one, 0.0) for _ in range(20)]
        for taken in slots:
            taken.success(rtt, 2.0)
    assert (one.in_flight, one._windows) == (0, 0)


def test_clock_that_goes_back_holds_no_window_open() -> None:
    one = limiter()
    window(one, 1.0, 1000.0)
    window(one, 1.0, 0.0)
    assert one._windows == 2


@pytest.mark.parametrize(
    "wrong",
    [
        {"min_limit": 0},
        {"initial_limit": 2},
        {"max_limit": 10},
        {"smoothing": 0.0},
        {"drop_factor": 1.0},
        {"tolerance": 0.9},
        {"queue": -1.0},
    ],
)
def test_settings_that_make_no_limiter(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        limiter(**wrong)


def served(capacity: int, seconds: int, initial_limit: int) -> list[tuple[int, float]]:
    """A target that serves `capacity` at once in a second each and queues the rest, under callers
    that fill whatever the limiter admits; (limit, time taken) at each second."""
    one = limiter(initial_limit=initial_limit)
    seen = []
    for second in range(seconds):
        slots = []
        while (taken := one.acquire(second)) is not None:
            slots.append(taken)
        rtt = max(1.0, len(slots) / capacity)
        for taken in slots:
            taken.success(rtt, second + rtt)
        seen.append((one.limit, rtt))
    return seen


def test_grows_to_the_queue_and_then_slows_down() -> None:
    """Up to 60 nothing queues, up to 90 it is tolerated; beyond, the limit follows the long average
    only, which takes minutes: unlimited growth would be at 259 by the end."""
    history = served(capacity=60, seconds=300, initial_limit=20)
    assert history[87][0] == 90
    assert 90 <= history[-1][0] <= 145


def test_shrinks_from_far_beyond_the_queue() -> None:
    """What was quick becomes four times as slow: down a tenth a second, before any 429."""
    one = limiter(initial_limit=200)
    for second in range(0, 60, 2):
        window(one, 1.0, second, in_flight=180)
    before = one.limit
    for second in range(60, 80, 2):
        window(one, 4.0, second, in_flight=180)
    assert before > 200
    assert one.limit < 0.5 * before


class LimiterMachine(RuleBasedStateMachine):
    """Any order of slots and ends, against a list of those that are held."""

    SETTINGS = LimiterSettings(
        initial_limit=5, min_limit=2, max_limit=12, window_samples=2, window_s=1.0
    )

    def __init__(self) -> None:
        super().__init__()
        self.limiter = Limiter(self.SETTINGS)
        self.now_s = 0.0
        self.held: list[tuple[Slot, int]] = []
        self.done: list[Slot] = []
        self.cuts = 0

    @rule(seconds=st.sampled_from([-3.0, 0.0, 0.5, 1.0, 10.0]))
    def wait(self, seconds: float) -> None:
        self.now_s += seconds

    @rule(count=st.integers(1, 15), forced=st.sampled_from([False, False, True]))
    def acquire(self, count: int, forced: bool) -> None:
        for _ in range(count):
            before = self.limiter.limit
            taken = self.limiter.acquire(self.now_s, forced=forced)
            assert (taken is not None) == (forced or len(self.held) < before)
            assert self.limiter.limit == before
            if taken is not None:
                self.held.append((taken, self.cuts))

    @rule(
        count=st.integers(1, 8),
        index=st.integers(0, 20),
        how=st.sampled_from(["success", "success", "dropped", "ignored"]),
        rtt=st.sampled_from([0.5, 1.0, 1.0, 5.0, 1000.0]),
    )
    def end(self, count: int, index: int, how: str, rtt: float) -> None:
        for _ in range(min(count, len(self.held))):
            taken, cuts = self.held.pop(index % len(self.held))
            self.done.append(taken)
            before = self.limiter._limit
            if how == "success":
                taken.success(rtt, self.now_s)
                grown = self.limiter._limit - before
                assert -0.1 * before <= grown + 1e-9
                assert grown <= 0.8 + 1e-9
            elif how == "ignored":
                taken.ignored(self.now_s)
                assert self.limiter._limit == before
            else:
                taken.dropped(self.now_s)
                expected = before
                if cuts == self.cuts:
                    self.cuts += 1
                    expected = max(0.9 * before, 2.0)
                assert self.limiter._limit == expected

    @rule(index=st.integers(0, 20))
    def end_again(self, index: int) -> None:
        if self.done:
            before = (self.limiter._limit, self.limiter.in_flight, self.limiter._window_count)
            taken = self.done[index % len(self.done)]
            taken.dropped(self.now_s)
            taken.success(9.0, self.now_s)
            taken.ignored(self.now_s)
            after = (self.limiter._limit, self.limiter.in_flight, self.limiter._window_count)
            assert before == after

    @invariant()
    def in_flight_are_the_held(self) -> None:
        assert self.limiter.in_flight == len(self.held)
        assert self.limiter.utilisation == len(self.held) / self.limiter.limit

    @invariant()
    def limit_is_within_bounds(self) -> None:
        assert 2 <= self.limiter._limit <= 12

    def teardown(self) -> None:
        while self.held:
            self.end(1, 0, "ignored", 1.0)
        assert self.limiter.in_flight == 0


LimiterMachine.TestCase.settings = hypothesis_settings(
    max_examples=100, stateful_step_count=40, deadline=None
)
TestLimiterMachine = LimiterMachine.TestCase
