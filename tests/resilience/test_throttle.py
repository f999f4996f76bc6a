"""The brakes on extra attempts, by table and against their definitions."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from relay.resilience.throttle import MAX_HOLD_S, PushBack, Retry, RetryBudget, RetryThrottle
from tests.fakes.properties import examples

# --- RetryThrottle ------------------------------------------------------------------------------


def test_five_failures_stop_extra_attempts() -> None:
    throttle = RetryThrottle()
    for left in (9, 8, 7, 6):
        throttle.failure()
        assert (throttle.tokens, throttle.admits) == (left, True)
    throttle.failure()
    assert (throttle.tokens, throttle.admits) == (5, False)


def test_one_success_admits_them_again_and_fifty_make_it_whole() -> None:
    throttle = RetryThrottle()
    for _ in range(5):
        throttle.failure()
    throttle.success()
    assert throttle.admits
    for _ in range(48):
        throttle.success()
    assert throttle.tokens == 9.9
    throttle.success()
    throttle.success()
    assert throttle.tokens == 10


def test_one_failure_in_eleven_can_go_on_for_ever() -> None:
    throttle = RetryThrottle()
    for _ in range(1000):
        throttle.failure()
        for _ in range(10):
            throttle.success()
    assert throttle.tokens == 10


def test_a_long_outage_is_paid_back_from_zero() -> None:
    throttle = RetryThrottle()
    for _ in range(1000):
        throttle.failure()
    for _ in range(50):
        throttle.success()
    assert not throttle.admits
    throttle.success()
    assert throttle.admits


@given(
    max_tokens=st.integers(1, 1000),
    ratio=st.sampled_from([Fraction(1, 1000), Fraction(1, 10), Fraction(1009, 1000), Fraction(2)]),
    outcomes=st.lists(st.booleans(), max_size=300),
)
@examples(100)
def test_throttle_is_that_of_a6(max_tokens: int, ratio: Fraction, outcomes: list[bool]) -> None:
    throttle = RetryThrottle(max_tokens, float(ratio))
    tokens = Fraction(max_tokens)
    for is_success in outcomes:
        if is_success:
            throttle.success()
            tokens = min(Fraction(max_tokens), tokens + ratio)
        else:
            throttle.failure()
            tokens = max(Fraction(0), tokens - 1)
        assert throttle.tokens == float(tokens)
        assert throttle.admits == (tokens > Fraction(max_tokens, 2))


@pytest.mark.parametrize(("tokens", "ratio"), [(0, 0.1), (1001, 0.1), (10, 0.0), (10, -1.0)])
def test_settings_that_make_no_throttle(tokens: int, ratio: float) -> None:
    with pytest.raises(ValueError):
        RetryThrottle(tokens, ratio)


# --- RetryBudget --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("active", "limit"), [(0, 3), (1, 3), (15, 3), (19, 3), (20, 4), (24, 4), (25, 5), (1000, 200)]
)
def test_a_fifth_of_the_active_and_three(active: int, limit: int) -> None:
    budget = RetryBudget()
    for _ in range(active):
        budget.begin()
    assert budget.limit == limit
    assert all(budget.take() is not None for _ in range(limit))
    assert budget.take() is None


def test_end_of_a_retry_makes_room_once() -> None:
    budget = RetryBudget()
    retries = [budget.take() for _ in range(3)]
    assert budget.take() is None
    for retry in retries[:1] * 3:
        assert retry is not None
        retry.end()
    assert budget.take() is not None
    assert budget.take() is None


def test_ending_what_has_not_begun_is_a_mistake() -> None:
    with pytest.raises(RuntimeError):
        RetryBudget().end()


@pytest.mark.parametrize(("percent", "least"), [(-1, 3), (101, 3), (20, -1)])
def test_settings_that_make_no_budget(percent: int, least: int) -> None:
    with pytest.raises(ValueError):
        RetryBudget(percent, least)


class BudgetMachine(RuleBasedStateMachine):
    """Requests and retries in any order: no retry begins beyond the limit of its moment."""

    def __init__(self) -> None:
        super().__init__()
        self.budget = RetryBudget()
        self.active = 0
        self.held: list[Retry] = []
        self.done: list[Retry] = []

    @rule(count=st.integers(1, 40))
    def begin(self, count: int) -> None:
        for _ in range(count):
            self.budget.begin()
        self.active += count

    @rule(count=st.integers(1, 40))
    def end(self, count: int) -> None:
        for _ in range(min(count, self.active)):
            self.budget.end()
            self.active -= 1

    @rule(count=st.integers(1, 10))
    def take(self, count: int) -> None:
        for _ in range(count):
            retry = self.budget.take()
            may = len(self.held) + 1 <= 3 or 5 * (len(self.held) + 1) <= self.active
            assert (retry is not None) == may
            if retry is not None:
                self.held.append(retry)

    @rule(index=st.integers(0, 50))
    def end_retry(self, index: int) -> None:
        if self.held:
            retry = self.held.pop(index % len(self.held))
            retry.end()
            self.done.append(retry)

    @rule(index=st.integers(0, 50))
    def end_again(self, index: int) -> None:
        if self.done:
            self.done[index % len(self.done)].end()

    @invariant()
    def counts_agree(self) -> None:
        assert (self.budget.active, self.budget.retries) == (self.active, len(self.held))


BudgetMachine.TestCase.settings = hypothesis_settings(
    max_examples=50, stateful_step_count=40, deadline=None
)
TestBudgetMachine = BudgetMachine.TestCase

# --- PushBack -----------------------------------------------------------------------------------


def test_holds_until_then() -> None:
    gate = PushBack()
    assert gate.admits(0.0)
    gate.said(2.5, 10.0)
    assert not gate.admits(12.4)
    assert gate.admits(12.5)


def test_no_delay_is_no_push_back() -> None:
    gate = PushBack()
    gate.said(0.0, 10.0)
    assert gate.admits(10.0)


def test_longest_word_counts() -> None:
    gate = PushBack()
    gate.said(20.0, 0.0)
    gate.said(1.0, 5.0)
    assert not gate.admits(19.0)
    gate.said(1.0, 19.5)
    assert not gate.admits(20.4)
    assert gate.admits(20.5)


@pytest.mark.parametrize("delay_s", [-1.0, float("nan"), float("inf"), 86_400.0])
@pytest.mark.parametrize("now_s", [0.0, 4.8999999999999995])  # + 60 - itself is over 60
def test_never_or_nonsense_holds_for_the_most(delay_s: float, now_s: float) -> None:
    gate = PushBack()
    gate.said(delay_s, now_s)
    assert not gate.admits(now_s)
    assert not gate.admits(now_s + MAX_HOLD_S - 0.01)
    assert gate.admits(now_s + MAX_HOLD_S + 0.01)


def test_clock_that_went_back_holds_nobody_for_ever() -> None:
    gate = PushBack()
    gate.said(10.0, 1e6)
    assert gate.admits(0.0)
    gate.said(10.0, 0.0)
    assert not gate.admits(9.0)
    assert gate.admits(10.0)
