"""What the words of others do to a breaker, and above all what they do not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from relay.resilience.breaker import (
    TRIAL_SHARE,
    Breaker,
    BreakerSettings,
    BreakerState,
    Permit,
    TripReason,
)
from relay.resilience.suspicion import MAX_TELLERS, MAX_WORD_S, REFUTED_BY, TRIAL_S, Suspicion
from tests.fakes.properties import examples

CLOSED, OPEN, HALF_OPEN, RAMP = BreakerState
LASTS_S = 6.0


def breaker(**changes: Any) -> Breaker:
    return Breaker(replace(BreakerSettings(jitter=0.0), **changes), lambda: 0.5)


def permit(one: Breaker, now_s: float) -> Permit:
    taken = one.permit(now_s)
    assert taken is not None
    return taken


def suspected(now_s: float = 0.0, *, is_slow: bool = False) -> Breaker:
    one = breaker()
    assert one.suspect("a", 1, now_s, LASTS_S, is_slow=is_slow)
    return one


def answer_in_time(one: Breaker, now_s: float, times: int = 1) -> None:
    for _ in range(times):
        taken = permit(one, now_s)
        taken.observe(0.5, 0.5, now_s)
        taken.success(now_s)


# --- what a word does -------------------------------------------------------------------------


def test_the_first_failure_opens_it_for_a_shorter_while() -> None:
    one = suspected()
    assert (one.state, one.share(1.0), one.is_suspected(1.0)) == (CLOSED, 1.0, True)
    permit(one, 1.0).failure(1.0)
    assert (one.state, one.reason, one.retry_at_s) == (OPEN, TripReason.HINT, 11.0)
    assert one.is_hearsay
    # One failure is little to go by: an answer brings it back at once, with all of its traffic.
    permit(one, 11.0).success(11.0)
    assert (one.state, one.share(11.0)) == (CLOSED, 1.0)


def test_a_failed_probe_after_it_is_evidence_of_our_own() -> None:
    one = suspected()
    permit(one, 1.0).failure(1.0)
    permit(one, 11.0).failure(11.0)
    assert (one.state, one.retry_at_s) == (OPEN, 41.0)
    permit(one, 41.0).success(41.0)
    assert (one.state, one.share(41.0)) == (RAMP, 0.10)


def test_what_failed_before_the_word_counts_with_it() -> None:
    one = breaker()
    permit(one, 0.0).failure(0.0)
    one.suspect("a", 1, 0.1, LASTS_S)
    assert one.state is CLOSED  # one in a row may be chance
    two = breaker()
    for _ in range(2):
        permit(two, 0.0).failure(0.0)
    two.suspect("a", 1, 0.1, LASTS_S)
    assert (two.state, two.reason) == (OPEN, TripReason.HINT)
    three = breaker()
    for _ in range(4):
        permit(three, 0.0).failure(0.0)
    three.suspect("a", 1, 60.0, LASTS_S)  # they are a minute old
    assert three.state is CLOSED


def test_slow_is_believed_after_two_late_ones() -> None:
    one = suspected(is_slow=True)
    permit(one, 1.0).failure(1.0)
    assert one.state is CLOSED  # nobody said that it fails
    permit(one, 1.0).observe(3.0, 1.0, 1.0)
    assert one.state is CLOSED
    permit(one, 2.0).observe(3.0, 1.0, 2.0)
    assert (one.state, one.reason) == (OPEN, TripReason.HINT)
    two = suspected(is_slow=True)
    for now_s, ttft in enumerate((3.0, 0.9, 3.0)):
        permit(two, now_s).observe(ttft, 1.0, now_s)
    assert two.state is CLOSED


def test_the_next_request_is_a_trial_and_others_go_elsewhere_meanwhile() -> None:
    one = suspected()
    assert one.wants_trial(1.0)
    trial = permit(one, 1.0)
    assert (trial.is_trial, trial.is_probe) == (True, False)
    assert (one.wants_trial(1.0), one.share(1.0)) == (False, TRIAL_SHARE)
    other = permit(one, 1.0)  # nobody is refused
    assert not other.is_trial
    trial.observe(0.5, 0.5, 1.5)  # it speaks, long before its end
    assert (one.wants_trial(1.5), one.share(1.5)) == (True, 1.0)


@pytest.mark.parametrize("end", ["success", "ignored", "overload"])
def test_a_trial_that_ends_makes_way(end: str) -> None:
    one = suspected()
    getattr(permit(one, 1.0), end)(1.1)
    assert (one.wants_trial(1.1), one.share(1.1)) == (True, 1.0)


def test_a_trial_that_got_lost_makes_way() -> None:
    one = breaker()
    one.suspect("a", 1, 0.0, MAX_WORD_S)
    permit(one, 1.0)
    assert one.share(1.0 + TRIAL_S - 0.1) == TRIAL_SHARE
    assert (one.share(1.0 + TRIAL_S), one.wants_trial(1.0 + TRIAL_S)) == (1.0, True)


def test_on_the_ramp_one_failure_is_enough_too() -> None:
    one = breaker()
    for _ in range(5):
        permit(one, 0.0).failure(0.0)
    permit(one, 30.0).success(30.0)
    assert one.state is RAMP
    one.suspect("a", 1, 31.0, LASTS_S)
    assert not one.wants_trial(31.0)  # its share is small as it is
    permit(one, 32.0).failure(32.0)
    assert (one.state, one.reason) == (OPEN, TripReason.HINT)


def test_who_is_ejected_already_hears_nothing() -> None:
    one = breaker()
    for _ in range(5):
        permit(one, 0.0).failure(0.0)
    assert not one.suspect("a", 1, 1.0, LASTS_S)
    assert (one.retry_at_s, one.is_hearsay, one.is_suspected(1.0)) == (30.0, False, False)


# --- what ends it -----------------------------------------------------------------------------


def test_answers_in_time_refute_it_and_the_same_opening_stays_refuted() -> None:
    one = suspected()
    answer_in_time(one, 1.0, REFUTED_BY)
    assert not one.is_suspected(1.0)
    assert not one.suspect("a", 1, 2.0, LASTS_S)  # told again
    assert not one.is_suspected(2.0)
    assert one.suspect("a", 2, 3.0, LASTS_S)  # it has opened again there
    assert one.is_suspected(3.0)


def test_the_row_of_good_answers_is_broken_by_a_late_one() -> None:
    one = suspected()
    answer_in_time(one, 1.0, REFUTED_BY - 1)
    permit(one, 1.0).observe(9.0, 1.0, 1.0)
    answer_in_time(one, 1.0, REFUTED_BY - 1)
    assert one.is_suspected(1.0)


def test_it_is_forgotten_unless_it_is_told_again() -> None:
    one = suspected(0.0)
    assert one.is_suspected(LASTS_S - 0.1)
    assert not one.is_suspected(LASTS_S)
    one.suspect("a", 1, 5.0, LASTS_S)
    assert one.is_suspected(LASTS_S)
    permit(one, 11.0).failure(11.0)  # that one is over too
    assert one.state is CLOSED


def test_each_takes_back_his_own_word() -> None:
    one = suspected()
    one.suspect("b", 7, 0.0, LASTS_S)
    one.unsuspect("a", 1)
    assert one.is_suspected(1.0)
    one.unsuspect("b", 6)  # of an older opening
    assert one.is_suspected(1.0)
    one.unsuspect("b", 7)
    assert not one.is_suspected(1.0)
    one.suspect("b", 7, 1.0, LASTS_S)  # told before it was taken back, and late
    assert not one.is_suspected(1.0)


def test_nobody_is_believed_for_longer_than_the_most() -> None:
    one = breaker()
    one.suspect("a", 1, 0.0, 1e9)
    assert not one.is_suspected(MAX_WORD_S)


@examples(100)
@given(
    st.lists(
        st.tuples(st.integers(0, 200), st.integers(0, 5), st.floats(-5, 100), st.booleans()),
        max_size=200,
    )
)
def test_a_storm_costs_no_memory(words: list[tuple[int, int, float, bool]]) -> None:
    one = Suspicion()
    for index, (teller, episode, lasts_s, is_slow) in enumerate(words):
        one.hear(str(teller), episode, index * 0.1, lasts_s, is_slow=is_slow)
        assert len(one._words) <= MAX_TELLERS
    assert not one.is_on(len(words) * 0.1 + MAX_WORD_S)


# --- any order of events ----------------------------------------------------------------------


class SuspicionMachine(RuleBasedStateMachine):
    """One breaker that hears words, beside a twin that hears none; the same attempts at both."""

    def __init__(self) -> None:
        super().__init__()
        self.hearing, self.deaf = breaker(), breaker()
        self.now_s = 0.0
        self.told_until_s = 0.0
        """When the last word is over, had nobody answered."""
        self.failures = 0
        """In a row."""

    @rule(teller=st.sampled_from("abc"), episode=st.integers(1, 4), lasts_s=st.floats(0.5, 8.0))
    def hear(self, teller: str, episode: int, lasts_s: float) -> None:
        before = self.hearing.state
        self.hearing.suspect(teller, episode, self.now_s, lasts_s)
        self.told_until_s = max(self.told_until_s, self.now_s + lasts_s)
        if self.hearing.state is not before:
            assert self.failures >= 2, "a word alone has ejected it"

    @rule(teller=st.sampled_from("abc"), episode=st.integers(1, 4))
    def take_back(self, teller: str, episode: int) -> None:
        before = self.hearing.state
        self.hearing.unsuspect(teller, episode)
        assert self.hearing.state is before

    @rule(seconds=st.sampled_from([0.1, 1.0, 3.0, 10.0]))
    def wait(self, seconds: float) -> None:
        self.now_s += seconds

    @rule(times=st.integers(1, 4))
    def answer(self, times: int) -> None:
        """In time: whatever was said, it stays, and is believed in the end."""
        before = self.hearing.state
        for one in (self.hearing, self.deaf):
            if one.admits(self.now_s):
                for _ in range(times):
                    answer_in_time(one, self.now_s)
        self.failures = 0
        if before is CLOSED:
            assert self.hearing.state is CLOSED
            if times >= REFUTED_BY:
                assert not self.hearing.is_suspected(self.now_s)

    @rule()
    def fail(self) -> None:
        before, was_suspected = self.hearing.state, self.hearing.is_suspected(self.now_s)
        for one in (self.hearing, self.deaf):
            if one.admits(self.now_s):
                permit(one, self.now_s).failure(self.now_s)
        self.failures += 1
        if before is CLOSED:
            if was_suspected:
                assert self.hearing.state is OPEN
            if self.hearing.reason is TripReason.HINT and self.hearing.state is OPEN:
                assert was_suspected

    @invariant()
    def only_who_was_told_is_suspicious(self) -> None:
        if self.hearing.is_suspected(self.now_s):
            assert self.now_s < self.told_until_s

    @invariant()
    def a_closed_one_refuses_nobody(self) -> None:
        if self.hearing.state is CLOSED:
            assert self.hearing.admits(self.now_s)
            assert self.hearing.share(self.now_s) > 0

    @invariant()
    def hearsay_is_told_apart(self) -> None:
        if self.hearing.state is OPEN and self.deaf.trips == 0:
            assert self.hearing.is_hearsay

    @invariant()
    def nothing_is_wedged(self) -> None:
        assert self.hearing.admits(self.now_s + 3600.0)


SuspicionMachine.TestCase.settings = hypothesis_settings(
    max_examples=80, stateful_step_count=40, deadline=None
)
TestSuspicionMachine = SuspicionMachine.TestCase
