"""The breaker of a target: exact times of its transitions, and a model of all of them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from relay.resilience.breaker import (
    Breaker,
    BreakerSettings,
    BreakerState,
    Permit,
    TripReason,
)

CLOSED, OPEN, HALF_OPEN, RAMP = BreakerState

LEGAL = {
    (CLOSED, OPEN),
    (OPEN, HALF_OPEN),
    (HALF_OPEN, OPEN),
    (HALF_OPEN, RAMP),
    (RAMP, OPEN),
    (RAMP, CLOSED),
}


def breaker(draw: float = 0.5, **changes: Any) -> Breaker:
    """One with the defaults and, at a draw of a half, no jitter."""
    return Breaker(replace(BreakerSettings(), **changes), lambda: draw)


def permit(one: Breaker, now_s: float, *, forced: bool = False) -> Permit:
    taken = one.permit(now_s, forced=forced)
    assert taken is not None
    return taken


def succeed(one: Breaker, now_s: float, times: int = 1) -> None:
    for _ in range(times):
        permit(one, now_s).success(now_s)


def fail(one: Breaker, now_s: float, times: int = 1) -> None:
    for _ in range(times):
        permit(one, now_s).failure(now_s)


def tripped(now_s: float = 0.0, **changes: Any) -> Breaker:
    one = breaker(**changes)
    fail(one, now_s, times=5)
    assert one.state is OPEN
    return one


def ramping(now_s: float = 30.0, **changes: Any) -> Breaker:
    one = tripped(now_s - 30.0, **changes)
    succeed(one, now_s)
    assert one.state is RAMP
    return one


# --- trips ------------------------------------------------------------------------------------


def test_five_failures_in_a_row_trip() -> None:
    one = breaker()
    fail(one, 1.0, times=4)
    assert (one.state, one.share(1.0)) == (CLOSED, 1.0)
    fail(one, 2.0)
    assert (one.state, one.share(2.0)) == (OPEN, 0.0)
    assert (one.reason, one.trips) == (TripReason.CONSECUTIVE, 1)
    assert (one.opened_at_s, one.retry_at_s) == (2.0, 32.0)


def test_a_success_breaks_the_row() -> None:
    one = breaker()
    fail(one, 0.0, times=4)
    succeed(one, 0.0)
    fail(one, 0.0, times=4)
    assert one.state is CLOSED


def test_answers_that_began_before_an_outage_do_not_end_its_row() -> None:
    one = breaker()
    long = [permit(one, 0.0) for _ in range(4)]
    for each in long:
        each.observe(0.5, 0.5, 0.5)
    for second in range(1, 5):
        fail(one, second)
        long.pop().success(second)
    assert one.state is CLOSED
    fail(one, 5.0)
    assert one.reason is TripReason.CONSECUTIVE


def test_a_first_token_ends_the_row_of_failures_before_one() -> None:
    one = breaker()
    fail(one, 0.0, times=4)
    permit(one, 0.0).observe(0.5, None, 0.5)
    fail(one, 1.0, times=4)
    assert one.state is CLOSED


def test_answers_that_break_off_trip_too() -> None:
    one = breaker()
    for second in range(5):
        assert one.state is CLOSED
        broken = permit(one, second)
        broken.observe(0.5, 0.5, second + 0.5)
        broken.failure(second + 0.9)
    assert one.reason is TripReason.CONSECUTIVE


def test_half_of_twenty_in_the_window_trip() -> None:
    one = breaker()
    for _ in range(9):
        succeed(one, 1.0)
        fail(one, 1.0)
    succeed(one, 1.0)
    assert one.state is CLOSED  # 9 of 19
    fail(one, 1.0)
    assert (one.state, one.reason) == (OPEN, TripReason.RATIO)


@pytest.mark.parametrize(("later_s", "state"), [(26.0, OPEN), (30.0, CLOSED)])
def test_outcomes_older_than_the_window_do_not_count(later_s: float, state: BreakerState) -> None:
    one = breaker()
    for _ in range(9):
        succeed(one, 0.0)
        fail(one, 0.0)
    succeed(one, later_s)
    fail(one, later_s)
    assert one.state is state


@pytest.mark.parametrize("ttft", [2.1, 30.0])
def test_slow_first_tokens_trip(ttft: float) -> None:
    """More than half of the last ten, however slow they are."""
    one = breaker()
    for late in (False, True) * 5:
        permit(one, 0.0).observe(ttft if late else 1.0, 1.0, 0.0)
    assert one.state is CLOSED  # five of ten
    permit(one, 1.0).observe(1.0, 1.0, 1.0)
    permit(one, 1.0).observe(ttft, 1.0, 1.0)
    permit(one, 1.0).observe(ttft, 1.0, 1.0)
    assert (one.state, one.reason) == (OPEN, TripReason.SLOW)


def test_ten_first_tokens_are_needed_within_the_window() -> None:
    one = breaker()
    permit(one, 0.0).observe(9.0, 1.0, 0.0)
    for _ in range(9):
        permit(one, 30.0).observe(9.0, 1.0, 30.0)
    assert one.state is CLOSED
    permit(one, 30.0).observe(9.0, 1.0, 30.0)
    assert one.state is OPEN


def test_nobody_is_slow_without_a_baseline() -> None:
    one = breaker()
    for _ in range(20):
        permit(one, 0.0).observe(99.0, None, 0.0)
    assert one.state is CLOSED


def test_censored_first_tokens_count_once_they_are_late() -> None:
    """A target that loses every race looks no faster for it."""
    one = breaker()
    for _ in range(10):
        permit(one, 0.0).observe(0.3, 1.0, 0.0, is_censored=True)
        permit(one, 0.0).observe(2.5, 1.0, 0.0, is_censored=True)
    assert one.reason is TripReason.SLOW


def test_what_is_overdue_is_late_before_it_comes() -> None:
    one = breaker()
    for _ in range(10):
        permit(one, 0.0).overdue(2.0, 1.0, 0.0)  # not late yet: nothing is said
    out = [permit(one, 0.0) for _ in range(10)]
    for each in out[:9]:
        each.overdue(2.1, 1.0, 1.0)
    assert one.state is CLOSED
    out[9].overdue(2.1, 1.0, 1.0)
    assert (one.state, one.reason) == (OPEN, TripReason.SLOW)


def test_what_is_overdue_counts_once_and_may_still_speak() -> None:
    """Its first token ends a row of failures, as any does; its latency is known."""
    one = breaker(slow_samples=2)
    late = permit(one, 0.0)
    late.overdue(9.0, 1.0, 0.0)
    late.overdue(10.0, 1.0, 0.0)
    fail(one, 0.0, times=4)
    late.observe(11.0, 1.0, 0.0)
    fail(one, 0.0, times=4)
    assert one.state is CLOSED
    late.failure(0.0)  # after its first token: a row of its own
    assert one.state is CLOSED


def test_a_permit_has_one_latency() -> None:
    one = breaker(slow_samples=2)
    taken = permit(one, 0.0)
    taken.observe(9.0, 1.0, 0.0)
    taken.observe(9.0, 1.0, 0.0)
    assert one.state is CLOSED
    done = permit(one, 0.0)
    done.success(0.0)
    done.observe(9.0, 1.0, 0.0)
    assert one.state is CLOSED


def test_overloads_and_ignored_ends_leave_it_as_it_is() -> None:
    one = breaker()
    fail(one, 0.0, times=4)
    for _ in range(100):
        permit(one, 0.0).overload(0.0)
        permit(one, 0.0).ignored(0.0)
    assert one.state is CLOSED
    assert one.describe(0.0)["window"] == {"successes": 0, "failures": 4}
    fail(one, 0.0)
    assert one.state is OPEN  # and they broke no row


# --- open and half-open -----------------------------------------------------------------------


def test_open_admits_nobody_until_its_time() -> None:
    one = tripped()
    assert not one.admits(29.9)
    assert one.permit(29.9) is None
    assert one.wants_probe(30.0)
    probe = permit(one, 30.0)
    assert probe.is_probe
    assert one.state is HALF_OPEN
    assert not one.wants_probe(30.0)
    assert one.permit(30.0) is None
    assert one.share(30.0) == 0.0


def test_open_periods_double_up_to_the_longest() -> None:
    one = tripped()
    periods = []
    for _ in range(6):
        assert one.opened_at_s is not None
        assert one.retry_at_s is not None
        periods.append(one.retry_at_s - one.opened_at_s)
        permit(one, one.retry_at_s).failure(one.retry_at_s)
    assert periods == [30.0, 30.0, 60.0, 120.0, 240.0, 300.0]
    assert one.trips == 1
    assert one.edges[HALF_OPEN, OPEN] == 6


@pytest.mark.parametrize(("draw", "period_s"), [(0.0, 24.0), (0.5, 30.0), (0.999999, 36.0)])
def test_jitter(draw: float, period_s: float) -> None:
    one = breaker(draw)
    fail(one, 0.0, times=5)
    assert one.retry_at_s == pytest.approx(period_s, abs=1e-3)


def test_a_429_fails_the_probe() -> None:
    one = tripped()
    permit(one, 30.0).overload(31.0)
    assert (one.state, one.retry_at_s) == (OPEN, 61.0)


def test_a_lost_race_frees_the_probe() -> None:
    one = tripped()
    permit(one, 30.0).ignored(31.0)
    assert one.state is HALF_OPEN
    assert one.wants_probe(31.0)
    permit(one, 31.0).success(32.0)
    assert one.state is RAMP


def test_a_probe_that_got_lost_does_not_wedge() -> None:
    one = tripped()
    lost = permit(one, 30.0)
    assert one.permit(89.9) is None
    second = permit(one, 90.0)
    assert second.is_probe
    lost.ignored(90.0)  # comes late, and frees nobody else's slot
    assert one.permit(90.0) is None
    second.success(91.0)
    assert one.state is RAMP


def test_results_of_before_the_trip_say_nothing_after_it() -> None:
    one = breaker()
    early = [permit(one, 0.0) for _ in range(20)]
    for one_permit in early[:5]:
        one_permit.failure(0.0)
    early[5].observe(9.0, 1.0, 1.0)
    early[5].success(1.0)
    probe = permit(one, 30.0)
    early[6].success(30.0)
    early[7].failure(30.0)
    assert one.state is HALF_OPEN
    probe.success(30.5)
    for one_permit in early[8:]:
        one_permit.observe(9.0, 1.0, 31.0)
        one_permit.failure(31.0)
    assert one.state is RAMP


def test_a_slow_target_has_to_answer_its_probe_in_time() -> None:
    one = breaker(slow_samples=1)
    permit(one, 0.0).observe(9.0, 1.0, 0.0)
    assert one.reason is TripReason.SLOW
    probe = permit(one, 30.0)
    probe.observe(5.0, 1.0, 35.0)
    probe.success(36.0)
    assert (one.state, one.retry_at_s) == (OPEN, 65.0)
    probe = permit(one, 95.0)
    probe.observe(1.5, 1.0, 96.0)
    probe.success(97.0)
    assert one.state is RAMP


def test_a_failed_target_may_answer_its_probe_slowly() -> None:
    one = tripped()
    probe = permit(one, 30.0)
    probe.observe(5.0, 1.0, 35.0)
    probe.success(36.0)
    assert one.state is RAMP


# --- the last of its class --------------------------------------------------------------------


def test_force_opens_every_door() -> None:
    one = tripped()
    assert not permit(one, 1.0, forced=True).is_probe
    assert one.state is OPEN
    assert permit(one, 30.0, forced=True).is_probe  # it is as good a probe
    assert not permit(one, 30.0, forced=True).is_probe
    assert one.permit(30.0) is None


def test_forced_successes_cut_the_open_period_short() -> None:
    one = tripped()
    for _ in range(4):
        permit(one, 1.0, forced=True).success(1.0)
    permit(one, 2.0, forced=True).failure(2.0)
    for _ in range(4):
        permit(one, 3.0, forced=True).success(3.0)
    assert not one.wants_probe(3.0)
    permit(one, 4.0, forced=True).success(4.0)
    assert one.wants_probe(4.0)
    assert one.state is OPEN


def test_forced_failures_do_not_make_it_longer() -> None:
    one = tripped()
    for _ in range(50):
        permit(one, 29.0, forced=True).failure(29.0)
    assert (one.retry_at_s, one.trips) == (30.0, 1)


@pytest.mark.parametrize(("is_well", "state"), [(True, RAMP), (False, OPEN)])
def test_first_witness_of_half_open_decides(is_well: bool, state: BreakerState) -> None:
    one = tripped()
    probe = permit(one, 30.0)
    witness = permit(one, 30.0, forced=True)
    if is_well:
        witness.success(31.0)
        probe.failure(32.0)
    else:
        witness.failure(31.0)
        probe.success(32.0)
    assert one.state is state


# --- the way back -----------------------------------------------------------------------------


def test_ramp_at_its_fastest() -> None:
    """Full share 45 s after the probe, closed 15 s later: 75 and 90 s after the trip."""
    one = ramping(30.0)
    seen: list[tuple[int, float, BreakerState]] = []
    for second in range(30, 100):
        share = one.share(second)
        if not seen or seen[-1][1:] != (share, one.state):
            seen.append((second, share, one.state))
        succeed(one, second)
    assert seen == [
        (30, 0.10, RAMP),
        (45, 0.25, RAMP),
        (60, 0.50, RAMP),
        (75, 1.0, RAMP),
        (91, 1.0, CLOSED),  # at 90 by the permit
    ]
    assert one.edges == {
        (CLOSED, OPEN): 1,
        (OPEN, HALF_OPEN): 1,
        (HALF_OPEN, RAMP): 1,
        (RAMP, CLOSED): 1,
    }


def test_full_share_within_90_s_of_recovery_at_2_1_requests_a_second() -> None:
    """The worst case: it recovers just after the trip, and the draw is the longest."""
    one = breaker(draw=1.0)
    fail(one, 0.0, times=5)
    rate, now_s, credit, probes = 2.1, 0.0, 0.0, 0
    while one.share(now_s) < 1.0:
        now_s += 1 / rate
        credit += one.share(now_s)
        if one.wants_probe(now_s):
            succeed(one, now_s)
            probes += 1
        elif credit >= 1.0:
            credit -= 1.0
            succeed(one, now_s)
    assert probes == 1
    assert 81.0 <= now_s <= 91.0


def test_a_step_needs_successes_in_a_row() -> None:
    one = ramping(30.0)
    succeed(one, 31.0, times=4)
    fail(one, 31.0)
    succeed(one, 50.0, times=4)
    assert one.share(50.0) == 0.10
    succeed(one, 52.0)
    assert one.share(52.0) == 0.25  # its time was over long ago
    assert one.share(51.0) == 0.25  # readings do not go back
    succeed(one, 53.0, times=5)
    assert one.share(66.9) == 0.25
    assert one.share(67.0) == 0.50  # 15 s at this share, from 52


def test_a_step_begins_when_it_was_due_whoever_asked_when() -> None:
    one = ramping(30.0)
    succeed(one, 31.0, times=5)
    succeed(one, 50.0, times=5)  # the first that is heard of it since 45
    assert one.share(59.9) == 0.25
    assert one.share(60.0) == 0.50


def test_evidence_of_one_share_is_none_for_the_next() -> None:
    one = ramping(30.0)
    succeed(one, 31.0, times=9)
    permit(one, 45.0).ignored(45.0)
    assert one.share(1000.0) == 0.25


def test_three_failures_in_a_row_end_the_ramp() -> None:
    one = ramping(30.0)
    fail(one, 31.0, times=2)
    succeed(one, 31.0)
    fail(one, 31.0, times=2)
    assert one.state is RAMP
    fail(one, 32.0)
    assert (one.state, one.trips, one.retry_at_s) == (OPEN, 2, 62.0)


def test_periods_start_over_once_it_was_closed() -> None:
    one = ramping(30.0)
    for second in range(30, 100):
        succeed(one, second)
    fail(one, 100.0, times=5)
    assert one.retry_at_s == 130.0


def test_no_ramp_wanted() -> None:
    one = tripped(ramp_shares=())
    succeed(one, 30.0)
    assert (one.state, one.share(30.0)) == (CLOSED, 1.0)


# --- the clock, the settings, the page ----------------------------------------------------------


def test_clock_that_runs_backwards_admits_nobody_early_and_breaks_nothing() -> None:
    one = tripped(100.0)
    assert one.permit(0.0) is None
    assert one.wants_probe(0.0) is False
    probe = permit(one, 130.0)
    probe.success(-1e9)
    assert one.state is RAMP
    succeed(one, -1e9, times=5)
    assert one.share(-1e9) == 0.10
    assert one.share(145.0) == 0.25


def test_page() -> None:
    one = tripped(100.0)
    assert one.describe(110.0) == {
        "state": "open",
        "share": 0.0,
        "wants_probe": False,
        "reason": "consecutive",
        "trips": 1,
        "suspected": False,
        "retry_in_s": 20.0,
        "consecutive_failures": 0,
        "window": {"successes": 0, "failures": 0},
        "edges": {"closed->open": 1},
    }


@pytest.mark.parametrize(("later_s", "failures"), [(28.0, 3), (31.0, 1), (34.0, 0), (9e9, 0)])
def test_page_shows_the_window_of_now(later_s: float, failures: int) -> None:
    one = breaker()
    fail(one, 1.0, times=2)
    fail(one, 3.5)
    assert one.describe(later_s)["window"] == {"successes": 0, "failures": failures}


@pytest.mark.parametrize(
    "wrong",
    [
        {"consecutive_failures": 0},
        {"ramp_evidence": 0},
        {"window_s": 0.0},
        {"max_open_s": 29.0},
        {"failure_ratio": 0.0},
        {"jitter": 1.0},
        {"slow_factor": 0.5},
        {"ramp_shares": (0.1, 0.0)},
    ],
)
def test_settings_that_make_no_breaker(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        breaker(**wrong)


# --- the model ----------------------------------------------------------------------------------

SMALL = BreakerSettings(
    consecutive_failures=3,
    failure_ratio=0.5,
    min_samples=6,
    window_s=10.0,
    slow_factor=2.0,
    slow_samples=3,
    open_s=8.0,
    max_open_s=32.0,
    jitter=0.5,
    probe_timeout_s=20.0,
    ramp_shares=(0.25, 1.0),
    ramp_evidence=2,
    ramp_step_s=5.0,
    ramp_failures=2,
)
"""Small enough for a machine to get anywhere; times and draws in powers of two, so exact."""


READINGS = st.sampled_from([0.0, 0.0, 0.0, 1.0, 100.0])
"""How far a reading of the clock lies back."""

KINDS = ["success", "success", "failure", "failure", "overload", "ignored"]


@dataclass
class Held:
    """A permit and what the model remembers of it."""

    permit: Permit
    era: int
    is_probe: bool
    taken_s: float
    has_latency: bool = False
    has_token: bool = False


@dataclass
class Era:
    """All that was learnt since the last opening, half-opening or recovery, as it came."""

    state: BreakerState
    """That it began with; an era of ramp may have closed since."""
    since_s: float
    results: list[tuple[float, bool]] = field(default_factory=list)
    lates: list[tuple[float, bool]] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    """Of first tokens and ends: token, success, mute success, failure, mute failure."""

    def row(self) -> int:
        """The longer one of the two rows of failures."""
        since = {"mute failure": {"token", "mute success"}, "failure": {"success", "mute success"}}
        rows = []
        for kind, enders in since.items():
            last = max((i for i, each in enumerate(self.tokens) if each in enders), default=-1)
            rows.append(self.tokens[last + 1 :].count(kind))
        return max(rows)

    def trailing(self, is_success: bool) -> int:
        count = 0
        for _, result in reversed(self.results):
            if result is not is_success:
                break
            count += 1
        return count

    def steps(self, now_s: float) -> int:
        """How far a ramp has come: all of its results told again."""
        step, since_s, streak, evident_s = 0, self.since_s, 0, 0.0

        def passes(at_s: float) -> bool:
            return (
                step < len(SMALL.ramp_shares)
                and streak >= SMALL.ramp_evidence
                and at_s >= max(since_s + SMALL.ramp_step_s, evident_s)
            )

        for at_s, result in self.results:
            if passes(at_s):
                step, since_s, streak = step + 1, max(since_s + SMALL.ramp_step_s, evident_s), 0
            streak = streak + 1 if result else 0
            if streak == SMALL.ramp_evidence:
                evident_s = at_s
        return step + passes(now_s)


class BreakerMachine(RuleBasedStateMachine):
    """Any order of permits, outcomes, latencies and clock readings, against lists of all events."""

    def __init__(self) -> None:
        super().__init__()
        self.draws: list[float] = []
        self.breaker = Breaker(SMALL, self.draw)
        self.now_s = 0.0
        self.latest_s = 0.0
        self.eras = [Era(CLOSED, 0.0)]
        self.live: list[Held] = []
        self.done: list[Held] = []
        self.due_s = 0.0
        self.openings = 0
        """Since it was last closed."""
        self.trips: list[TripReason] = []
        self.probe: Held | None = None

    def draw(self) -> float:
        draw = (0.0, 0.5)[len(self.draws) % 2]
        self.draws.append(draw)
        return draw

    # what the model believes

    @property
    def era(self) -> Era:
        return self.eras[-1]

    def state(self, now_s: float) -> BreakerState:
        era = self.era
        if era.state is RAMP and era.steps(now_s) == len(SMALL.ramp_shares):
            return CLOSED
        return era.state

    def share(self, now_s: float) -> float:
        if self.state(now_s) is RAMP:
            return SMALL.ramp_shares[self.era.steps(now_s)]
        return 1.0 if self.state(now_s) is CLOSED else 0.0

    def wants_probe(self, now_s: float) -> bool:
        if self.era.state is OPEN:
            return now_s >= self.due_s
        return self.era.state is HALF_OPEN and (
            self.probe is None or now_s >= self.probe.taken_s + SMALL.probe_timeout_s
        )

    # what happens in it

    def begin(self, state: BreakerState) -> None:
        self.eras.append(Era(state, self.latest_s))
        self.probe = None

    def open(self, reason: TripReason | None) -> None:
        if reason is not None:
            if self.state(self.latest_s) is CLOSED:
                self.openings = 0
            self.trips.append(reason)
        length_s = min(SMALL.open_s * 2 ** max(0, self.openings - 1), SMALL.max_open_s)
        self.openings += 1
        self.due_s = self.latest_s + length_s * (0.5 if len(self.draws) % 2 else 1.0)
        self.begin(OPEN)

    def arrive(self, back_s: float) -> float:
        """A clock reading, maybe older than others; what the model makes of it is `latest_s`."""
        self.latest_s = max(self.latest_s, self.now_s - back_s)
        return self.now_s - back_s

    def outcome(self, held: Held, kind: str) -> None:
        if self.probe is held:
            self.probe = None
        if held.era != len(self.eras) - 1 or kind == "ignored":
            return
        state = self.state(self.latest_s)
        if state is HALF_OPEN:
            if kind == "success":
                self.begin(RAMP)
            else:
                self.open(None)
        elif kind != "overload":
            era, is_success = self.era, kind == "success"
            era.results.append((self.latest_s, is_success))
            era.tokens.append(kind if held.has_token else f"mute {kind}")
            if state is OPEN:
                if era.trailing(True) >= SMALL.ramp_evidence:
                    self.due_s = min(self.due_s, self.latest_s)
            elif not is_success:
                recent = [ok for at_s, ok in era.results if at_s // 1 > self.latest_s // 1 - 10]
                row = SMALL.ramp_failures if state is RAMP else SMALL.consecutive_failures
                if era.row() >= row:
                    self.open(TripReason.CONSECUTIVE)
                elif len(recent) >= 6 and recent.count(False) * 2 >= len(recent):
                    self.open(TripReason.RATIO)

    # rules: `serve` and `pass_time` go where random steps of a generator seldom come

    @rule(seconds=st.sampled_from([0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 30.0]))
    def wait(self, seconds: float) -> None:
        self.now_s += seconds

    @rule(short_s=st.sampled_from([0.0, 0.0, 0.0, 0.25]))
    def pass_time(self, short_s: float) -> None:
        """Until something is due, or nearly."""
        due_s = {
            OPEN: self.due_s,
            HALF_OPEN: self.probe.taken_s + SMALL.probe_timeout_s if self.probe else 0.0,
            RAMP: self.now_s + SMALL.ramp_step_s,
            CLOSED: self.now_s + SMALL.window_s,
        }[self.state(self.latest_s)]
        self.now_s = max(self.now_s, due_s - short_s)

    @rule(forced=st.booleans(), back_s=READINGS)
    def take(self, forced: bool, back_s: float) -> None:
        self.take_permit(forced, back_s)

    @rule(index=st.integers(0, 9), kind=st.sampled_from(KINDS), back_s=READINGS)
    def end(self, index: int, kind: str, back_s: float) -> None:
        if self.live:
            held = self.live.pop(index % len(self.live))
            self.done.append(held)
            getattr(held.permit, kind)(self.arrive(back_s))
            self.outcome(held, kind)

    @rule(kind=st.sampled_from(["success", "failure", "overload", "ignored"]))
    def end_the_probe(self, kind: str) -> None:
        if self.probe is not None:
            self.end(self.live.index(self.probe), kind, 0.0)

    @rule(seconds=st.sampled_from([0.0, 2.0]))
    def trip_and_recover(self, seconds: float) -> None:
        """To ramp, likewise."""
        self.serve(["failure"] * 3, False, None)
        self.pass_time(0.0)
        self.serve(["success"], False, None)
        self.now_s += seconds

    @rule()
    def come_back(self) -> None:
        """To closed, if nothing that is out interferes."""
        for _ in range(4):
            self.pass_time(0.0)
            self.serve(["success", "success"], False, None)

    @rule(index=st.integers(0, 9), kind=st.sampled_from(KINDS))
    def end_again(self, index: int, kind: str) -> None:
        """What has had its outcome changes nothing, not even the time."""
        if self.done:
            held = self.done[-1 - index % len(self.done)]
            getattr(held.permit, kind)(self.now_s + 1000.0)
            held.permit.observe(9.0, 1.0, self.now_s + 1000.0)
            held.permit.overdue(9.0, 1.0, self.now_s + 1000.0)

    @rule(
        kinds=st.one_of(
            st.lists(st.sampled_from(["success", "failure"]), max_size=8),
            st.sampled_from([["failure"] * 3, ["success"] * 2]),
        ),
        forced=st.booleans(),
        late=st.sampled_from([None, None, False, True]),
    )
    def serve(self, kinds: list[str], forced: bool, late: bool | None) -> None:
        """Attempts of no length, the ordinary case."""
        for kind in kinds:
            held = self.take_permit(forced, 0.0)
            if held is not None:
                index = self.live.index(held)
                if late is not None:
                    self.observe(index, 9.0 if late else 1.0, 1.0, False)
                self.end(index, kind, 0.0)

    @rule(
        index=st.integers(0, 9),
        ttft=st.sampled_from([1.0, 2.0, 2.5, 9.0]),
        baseline=st.sampled_from([None, 1.0, 1.0, 1.0]),
        is_censored=st.booleans(),
    )
    def observe(self, index: int, ttft: float, baseline: float | None, is_censored: bool) -> None:
        if not self.live:
            return
        held = self.live[index % len(self.live)]
        if held.has_latency:
            held.permit.observe(ttft, baseline, self.now_s + 1000.0, is_censored=is_censored)
            if not (is_censored or held.has_token):  # it was overdue, and has come
                held.has_token = True
                if held.era == len(self.eras) - 1:
                    self.era.tokens.append("token")
            return
        held.permit.observe(ttft, baseline, self.arrive(0.0), is_censored=is_censored)
        held.has_latency, held.has_token = True, not is_censored
        self.took(held, ttft, baseline, is_censored)

    @rule(
        index=st.integers(0, 9),
        age=st.sampled_from([1.0, 2.0, 2.5, 9.0]),
        baseline=st.sampled_from([None, 1.0, 1.0, 1.0]),
    )
    def overdue(self, index: int, age: float, baseline: float | None) -> None:
        """Not late yet: as if nothing had been said, not even the time."""
        if not self.live:
            return
        held = self.live[index % len(self.live)]
        if held.has_latency or baseline is None or age <= 2 * baseline:
            held.permit.overdue(age, baseline, self.now_s + 1000.0)
            return
        held.permit.overdue(age, baseline, self.arrive(0.0))
        held.has_latency = True
        self.took(held, age, baseline, True)

    def took(self, held: Held, ttft: float, baseline: float | None, is_censored: bool) -> None:
        if held.era != len(self.eras) - 1:
            return
        if not is_censored:
            self.era.tokens.append("token")
        if baseline is None:
            return
        state, is_late = self.state(self.latest_s), ttft > 2 * baseline
        if is_censored and not is_late:
            return
        if state is HALF_OPEN:
            if is_late and self.trips[-1] is TripReason.SLOW:
                self.open(None)
        elif state is not OPEN:
            lates = self.era.lates
            lates.append((self.latest_s, is_late))
            last = [late for at_s, late in lates[-3:] if at_s > self.latest_s - SMALL.window_s]
            # The median of three is late, and a late one is what trips.
            if is_late and len(last) == 3 and sorted(last)[1]:
                self.open(TripReason.SLOW)

    def take_permit(self, forced: bool, back_s: float) -> Held | None:
        permit = self.breaker.permit(self.arrive(back_s), forced=forced)
        state, is_probe = self.state(self.latest_s), self.wants_probe(self.latest_s)
        assert (permit is not None) == (forced or is_probe or state in (CLOSED, RAMP))
        if permit is None:
            return None
        assert permit.is_probe == is_probe
        if is_probe and state is OPEN:
            self.begin(HALF_OPEN)
        held = Held(permit, len(self.eras) - 1, is_probe, self.latest_s)
        if is_probe:
            assert all(  # B2: there is one probe, but for those that got lost
                one.era != held.era or one.taken_s + SMALL.probe_timeout_s <= self.latest_s
                for one in self.live
                if one.is_probe
            )
            self.probe = held
        self.live.append(held)
        return held

    # what holds

    @invariant()
    def both_are_in_the_same_state(self) -> None:
        now_s = max(self.now_s, self.latest_s)
        assert self.breaker.share(self.now_s) == self.share(now_s)
        assert self.breaker.wants_probe(self.now_s) == self.wants_probe(now_s)
        assert self.breaker.state is self.state(self.latest_s)
        assert self.breaker.generation == len(self.eras) - 1
        assert self.breaker.trips == len(self.trips)
        assert self.breaker.reason is (self.trips[-1] if self.trips else None)
        if self.era.state is OPEN:
            assert self.breaker.opened_at_s == self.era.since_s
            assert self.breaker.retry_at_s == self.due_s

    @invariant()
    def edges_are_legal(self) -> None:
        assert set(self.breaker.edges) <= LEGAL
        assert self.breaker.edges.get((HALF_OPEN, OPEN), 0) + len(self.trips) == len(self.draws)

    @invariant()
    def nothing_is_wedged(self) -> None:
        """However it is, and whatever got lost: an hour later it takes somebody."""
        assert self.breaker.admits(self.now_s + 3600.0)


BreakerMachine.TestCase.settings = hypothesis_settings(
    max_examples=150, stateful_step_count=50, deadline=None
)
TestBreakerMachine = BreakerMachine.TestCase
