"""Whom a worker with too much to do refuses: by table, and by properties on their own clock."""

from __future__ import annotations

from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from relay.resilience.overload import (
    CALM_LOOKS,
    CALM_S,
    CUT_EVERY_S,
    LATE_LOOKS,
    LOOKS,
    MEMORY_BACK,
    MEMORY_BANDS,
    Bounds,
    Cause,
    OverloadPolicy,
    RequestClass,
)
from tests.fakes.properties import examples

BATCH, NEW, LIVE = RequestClass
LOOK_S = 0.05
LATE_S, BADLY_LATE_S = 0.06, 0.2
GIB = 1 << 30


class Clock:
    """Looks at the loop of a policy, one after the other."""

    def __init__(self, policy: OverloadPolicy) -> None:
        self.policy = policy
        self.now_s = 0.0

    def looks(self, count: int, lag_s: float, in_flight: int) -> None:
        """So many, each so late."""
        for _ in range(count):
            self.now_s += LOOK_S + lag_s
            self.policy.looked(lag_s, in_flight, self.now_s)


# --- what is in flight --------------------------------------------------------------------------


def test_each_class_has_its_share_of_the_bound() -> None:
    policy = OverloadPolicy(Bounds(max_generations=100))
    assert policy.caps == {BATCH: 60, NEW: 80, LIVE: 100}
    assert policy.admits(BATCH, 59)
    assert not policy.admits(BATCH, 60)
    assert policy.admits(NEW, 79)
    assert not policy.admits(NEW, 80)
    assert policy.admits(LIVE, 99)
    assert not policy.admits(LIVE, 100)
    assert policy.cause(LIVE, 100) is Cause.GENERATIONS


def test_room_is_given_the_moment_it_is_there() -> None:
    policy = OverloadPolicy(Bounds(max_generations=10))
    assert not policy.admits(NEW, 8)
    assert policy.admits(NEW, 7)


def test_a_worker_with_one_place_gives_it() -> None:
    policy = OverloadPolicy(Bounds(max_generations=1))
    assert all(policy.admits(kind, 0) and not policy.admits(kind, 1) for kind in RequestClass)


def test_without_a_bound_all_are_let_in() -> None:
    policy = OverloadPolicy(Bounds(max_generations=0, max_sessions=0, max_loop_lag_s=0))
    clock = Clock(policy)
    clock.looks(LOOKS, 5.0, 10_000)
    policy.measured_memory(1 << 50)
    assert all(policy.admits_session(kind, 1_000_000, 1_000_000) for kind in RequestClass)


def test_sessions_have_a_bound_of_their_own() -> None:
    policy = OverloadPolicy(Bounds(max_generations=100, max_sessions=3))
    assert policy.admits_session(NEW, 0, 2)
    assert not policy.admits_session(NEW, 0, 3)
    assert not policy.admits_session(NEW, 80, 0), "and are new requests too"
    assert policy.admits(NEW, 0), "single generations are not held by it"
    assert policy.cause(NEW, 0) is Cause.SESSIONS


# --- how late the loop is -----------------------------------------------------------------------


def test_a_late_loop_lets_fewer_in_than_run_and_open_sessions_go_on() -> None:
    policy = OverloadPolicy(Bounds(max_generations=1000, min_generations=10))
    Clock(policy).looks(LATE_LOOKS, LATE_S, 400)
    assert policy.limit == 360
    assert not policy.admits(NEW, 400)
    assert not policy.admits(BATCH, 300)
    assert policy.admits(LIVE, 400)
    assert policy.cause(NEW, 400) is Cause.LOOP_LAG


def test_a_loop_that_is_badly_late_refuses_open_sessions_too() -> None:
    policy = OverloadPolicy(Bounds(max_generations=1000, min_generations=10))
    Clock(policy).looks(LATE_LOOKS, BADLY_LATE_S, 400)
    assert not policy.admits(LIVE, 400)


def test_a_loop_that_is_only_late_refuses_no_open_session_however_long() -> None:
    """Of a worker that has calls and nothing else: its lateness is no reason to be silent there."""
    policy = OverloadPolicy(Bounds(max_generations=1000, min_generations=10))
    clock = Clock(policy)
    clock.looks(1000, LATE_S, 400)
    assert not policy.admits(NEW, 400)
    assert policy.admits(LIVE, 999)
    assert policy.cause(LIVE, 1000) is Cause.GENERATIONS
    clock.looks(2 * LATE_LOOKS, BADLY_LATE_S, 400)
    assert 200 < policy.caps[LIVE] < 400
    assert policy.cause(LIVE, 400) is Cause.LOOP_LAG
    clock.looks(round(60 / LOOK_S), 0.001, 300)
    assert policy.caps == {BATCH: 600, NEW: 800, LIVE: 1000}


def test_one_long_pause_or_two_refuse_nobody() -> None:
    policy = OverloadPolicy(Bounds(max_generations=1000, min_generations=10))
    clock = Clock(policy)
    clock.looks(LOOKS, 0.001, 400)
    clock.looks(LATE_LOOKS - 1, 3.0, 400)
    clock.looks(LOOKS, 0.001, 400)
    assert policy.limit == 800


def test_lateness_alone_leaves_a_few_places() -> None:
    policy = OverloadPolicy(Bounds(max_generations=1000, min_generations=50))
    Clock(policy).looks(1000, BADLY_LATE_S, 400)
    assert policy.limit == 50
    assert policy.admits(NEW, 49)


def test_one_bout_of_lateness_is_answered_once() -> None:
    # Looks of before a cut say nothing of what it did.
    policy = OverloadPolicy(Bounds(max_generations=1000, min_generations=10))
    clock = Clock(policy)
    clock.looks(LATE_LOOKS, LATE_S, 400)
    assert policy.limit == 360
    clock.looks(CALM_LOOKS - 1, 0.02, 360)
    assert policy.limit == 360


def test_room_comes_back_slowly_at_first_then_quickly() -> None:
    policy = OverloadPolicy(Bounds(max_generations=1000, min_generations=10))
    clock = Clock(policy)
    clock.looks(LATE_LOOKS, LATE_S, 100)
    assert policy.limit == 90
    clock.looks(CALM_LOOKS, 0.001, 90)
    assert 90 < policy.limit < 100
    clock.looks(round(9 / LOOK_S), 0.001, 90)
    slowly = policy.limit
    assert slowly < 320
    clock.looks(round(9 / LOOK_S), 0.001, 90)
    assert policy.limit == 800


def test_a_loop_that_is_neither_late_nor_on_time_changes_nothing() -> None:
    policy = OverloadPolicy(Bounds(max_generations=1000, min_generations=10))
    clock = Clock(policy)
    clock.looks(LATE_LOOKS, LATE_S, 400)
    clock.looks(10 * LOOKS, 0.022, 360)
    assert policy.limit == 360


def test_a_closed_loop_settles_near_the_most_it_carries() -> None:
    """A worker whose loop is late by a fifth of a millisecond for each generation, and three times
    as many that want in as it carries: lateness stays below its bound, and it is not starved."""
    policy = OverloadPolicy(Bounds(max_generations=2000, min_generations=20))
    now_s, running, lags, counts = 0.0, 0.0, [], []
    for _ in range(4000):
        lag_s = max(0.0, 0.0002 * (running - 50))
        now_s += LOOK_S + lag_s
        running -= running * (LOOK_S + lag_s) / 2.0  # each takes two seconds
        wanting = 600 * (LOOK_S + lag_s)
        running += min(wanting, max(0.0, policy.caps[NEW] - running))
        policy.looked(lag_s, int(running), now_s)
        if now_s > 20:
            lags.append(lag_s)
            counts.append(running)
    lags.sort()
    assert lags[int(0.99 * len(lags))] < 0.05
    assert sum(counts) / len(counts) > 100, "it could carry 175 before it is late by half the bound"


# --- memory -------------------------------------------------------------------------------------


def test_memory_refuses_class_after_class() -> None:
    policy = OverloadPolicy(Bounds(max_generations=100, max_rss_bytes=GIB))
    for share, refused in (
        (0.84, []),
        (0.86, [BATCH]),
        (0.93, [BATCH, NEW]),
        (1.0, [*RequestClass]),
    ):
        policy.measured_memory(int(share * GIB) + 1)
        assert [kind for kind in RequestClass if not policy.admits(kind, 0)] == refused, share
        assert all(policy.cause(kind, 0) is Cause.MEMORY for kind in refused)


def test_a_band_of_memory_is_left_below_where_it_was_entered() -> None:
    policy = OverloadPolicy(Bounds(max_generations=100, max_rss_bytes=GIB))
    policy.measured_memory(int(0.93 * GIB))
    for share in (0.91, 0.93, 0.90, 0.88):
        policy.measured_memory(int(share * GIB))
        assert not policy.admits(NEW, 0), share
    policy.measured_memory(int((0.92 - MEMORY_BACK - 0.001) * GIB))
    assert policy.admits(NEW, 0)
    assert not policy.admits(BATCH, 0)
    policy.measured_memory(int((0.85 - MEMORY_BACK - 0.001) * GIB))
    assert policy.admits(BATCH, 0)
    assert not policy.is_short_of_memory


# --- what is told -------------------------------------------------------------------------------


def test_the_level_rises_at_once_and_falls_after_the_calm() -> None:
    policy = OverloadPolicy(Bounds(max_generations=10))
    assert policy.refused(BATCH, 1.0)
    assert not policy.refused(BATCH, 1.1), "it is told once"
    assert policy.refused(NEW, 2.0)
    assert policy.level == 2
    assert not policy.refused(BATCH, 6.0)
    assert not policy.looked(0.0, 0, 2.0 + CALM_S - 0.01)
    assert policy.looked(0.0, 0, 2.0 + CALM_S)
    assert policy.level == 1, "batch was refused since"
    assert policy.looked(0.0, 0, 6.0 + CALM_S)
    assert policy.level == 0


# --- properties ---------------------------------------------------------------------------------


class Worker(RuleBasedStateMachine):
    """Requests of all classes come and go, signals say what they like, and time passes."""

    @initialize(
        most=st.integers(0, 60),
        least=st.integers(1, 20),
        sessions=st.integers(0, 5),
        lag_ms=st.sampled_from([0, 50]),
        rss=st.sampled_from([0, 1000]),
    )
    def begin(self, most: int, least: int, sessions: int, lag_ms: int, rss: int) -> None:
        self.bounds = Bounds(most, sessions, lag_ms / 1000, least, rss)
        self.policy = OverloadPolicy(self.bounds)
        self.now_s = 0.0
        self.running = 0
        self.rss = 0
        self.drained = False
        self.at_drain = 0
        self.levels: list[tuple[float, int]] = []

    @rule(kind=st.sampled_from(RequestClass), count=st.integers(1, 10))
    def come(self, kind: RequestClass, count: int) -> None:
        for _ in range(count):
            if self.policy.admits(kind, self.running):
                assert not self.drained, "D1"
                for higher in RequestClass:
                    if higher > kind:
                        assert self.policy.admits(higher, self.running), "D2"
                self.running += 1
                continue
            if self.policy.refused(kind, self.now_s):
                self.levels.append((self.now_s, self.policy.level))
            for lower in RequestClass:
                if lower < kind:
                    assert not self.policy.admits(lower, self.running), "D2"

    @rule(count=st.integers(1, 30))
    def go(self, count: int) -> None:
        self.running = max(0, self.running - count)

    @rule(lag_ms=st.sampled_from([0, 1, 20, 30, 60, 150, 3000]), count=st.integers(1, 60))
    def look(self, lag_ms: int, count: int) -> None:
        for _ in range(count):
            self.now_s += LOOK_S + lag_ms / 1000
            before = self.policy.level
            if self.policy.looked(lag_ms / 1000, self.running, self.now_s):
                assert self.policy.level < before
                self.levels.append((self.now_s, self.policy.level))

    @rule(rss=st.integers(0, 1100))
    def measure(self, rss: int) -> None:
        self.policy.measured_memory(rss)
        self.rss = rss

    @rule()
    def drain(self) -> None:
        if not self.drained:
            self.drained, self.at_drain = True, self.running
        self.policy.drain()

    @invariant()
    def bounds_hold(self) -> None:
        if not hasattr(self, "policy"):
            return
        caps = self.policy.caps
        assert caps[BATCH] <= caps[NEW] <= caps[LIVE]
        if self.bounds.max_generations:
            assert self.running <= max(1, self.bounds.max_generations)
        if self.drained:
            assert self.running <= self.at_drain, "D1"
        elif not self.policy.is_short_of_memory:
            assert caps[NEW] >= 1
            most = max(1, int(0.8 * self.bounds.max_generations)) or 1
            least = self.bounds.min_generations
            if self.bounds.max_generations:
                least = min(least, most)
            assert caps[NEW] >= least, "lateness leaves so many"

    @invariant()
    def nothing_flaps(self) -> None:
        """Between a fall of the level and the rise before it there is a calm."""
        before, rose_s = 0, 0.0
        for at_s, level in getattr(self, "levels", []):
            if level > before:
                rose_s = at_s
            else:
                assert at_s - rose_s >= CALM_S - 1e-9
            before = level

    @rule()
    def recover(self) -> None:
        """However it was, an idle and calm minute gives everybody room again."""
        if self.drained:
            return
        self.running = 0
        self.policy.measured_memory(0)
        for _ in range(1200):
            self.now_s += LOOK_S
            if self.policy.looked(0.0, 0, self.now_s):
                self.levels.append((self.now_s, self.policy.level))
        fresh = OverloadPolicy(self.bounds)
        assert self.policy.caps == fresh.caps
        assert self.policy.level == 0


TestWorker = Worker.TestCase
TestWorker.settings = hypothesis_settings(examples(60, full=1000), stateful_step_count=40)


@given(
    st.lists(
        st.tuples(st.sampled_from([0.0, 0.02, 0.03, 0.2]), st.integers(0, 2000)),
        min_size=1,
        max_size=400,
    )
)
@examples(100, full=2000)
def test_cuts_are_apart_in_time_and_by_evidence(looks: list[tuple[float, int]]) -> None:
    policy = OverloadPolicy(Bounds(max_generations=2000, min_generations=1))
    now_s, last_cut_s, late_since = 0.0, 0.0, 0
    for lag_s, in_flight in looks:
        now_s += LOOK_S + lag_s
        late_since += lag_s >= 0.025
        before = policy.limit
        policy.looked(lag_s, in_flight, now_s)
        if policy.limit < before:
            assert now_s - last_cut_s >= CUT_EVERY_S - 1e-9
            assert late_since >= LATE_LOOKS
            last_cut_s, late_since = now_s, 0


def test_the_bands_of_memory_are_in_order() -> None:
    assert list(MEMORY_BANDS) == sorted(MEMORY_BANDS)
    assert len(MEMORY_BANDS) == len(RequestClass)
