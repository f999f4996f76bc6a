"""The sketch of one target's TTFT: accuracy, sliding, normalising, censoring, keeping."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from relay.resilience.latency import (
    DEFAULT_SLOPE,
    KEEP_S,
    MAX_S,
    PART_MIN_SAMPLES,
    PART_SAMPLES,
    PARTS,
    RELATIVE_ERROR,
    LatencySketch,
    Prior,
)
from tests.fakes.properties import examples


def filled(values_s: list[float], *, every_s: float = 0.1) -> LatencySketch:
    sketch = LatencySketch()
    for at, value_s in enumerate(values_s):
        sketch.record(value_s, 0, 0, at * every_s)
    return sketch


@examples(100)
@given(
    st.lists(st.floats(0.001, MAX_S), min_size=1, max_size=300),
    st.floats(0.0, 1.0),
)
def test_quantiles_are_within_the_relative_error(values_s: list[float], share: float) -> None:
    count = len(values_s)
    # A share that is a hair below a rank is taken for it: the estimator multiplies fractions.
    exact_s = sorted(values_s)[int(share * (count - 1) + 1e-12 * count)]
    estimate_s = filled(values_s).raw_quantile_s(share)
    assert estimate_s is not None
    assert abs(estimate_s - exact_s) <= 2.1 * RELATIVE_ERROR * exact_s


def test_what_is_outside_the_range_is_kept_at_its_ends() -> None:
    sketch = filled([0.0, 1e-9, 1e9])
    assert sketch.raw_quantile_s(0.0) == pytest.approx(0.001)
    assert sketch.raw_quantile_s(1.0) == pytest.approx(MAX_S, rel=0.05)


def test_a_busy_target_forgets_after_six_parts() -> None:
    sketch = filled([4.0] * PART_SAMPLES + [0.4] * PART_SAMPLES * (PARTS - 1))
    assert sketch.raw_quantile_s(1.0) == pytest.approx(4.0, rel=0.03)
    sketch.record(0.4, 0, 0, 90.0)  # opens a seventh part
    assert sketch.raw_quantile_s(1.0) == pytest.approx(0.4, rel=0.03)


def test_a_quiet_target_keeps_its_samples_for_hours() -> None:
    sketch = filled([1.0] * 320, every_s=60.0)  # five hours
    assert PART_MIN_SAMPLES * (PARTS - 1) < sketch.samples <= PART_MIN_SAMPLES * PARTS
    kept = sketch.samples
    sketch.expire(320 * 60.0)
    assert sketch.samples == kept
    sketch.expire(320 * 60.0 + KEEP_S + 1)
    assert sketch.samples == 0


def test_twice_as_slow_is_followed_within_100_requests() -> None:
    rng = random.Random(3)
    sketch = LatencySketch()
    now_s = 0.0

    def feed(count: int, factor: float) -> None:
        nonlocal now_s
        for _ in range(count):
            now_s += 0.1
            sketch.record(factor * 0.5 * math.exp(rng.gauss(0, 0.5)), 0, 0, now_s)

    feed(900, 1.0)
    assert sketch.drift() == 1.0
    before_s = 0.5 * math.exp(0.5 * 1.751)  # p96 of what is drawn
    assert sketch.quantile_s(0.96) == pytest.approx(before_s, rel=0.15)
    feed(100, 2.0)
    assert 1.6 * before_s < sketch.quantile_s(0.96) * sketch.drift() < 2.8 * before_s
    feed(800, 2.0)
    assert 1.6 * before_s < sketch.quantile_s(0.96) * sketch.drift() < 2.2 * before_s
    assert sketch.drift() == 1.0
    feed(900, 1.0)  # one window later it is as it was
    assert sketch.quantile_s(0.96) * sketch.drift() == pytest.approx(before_s, rel=0.2)


def test_few_samples_count_little_against_the_prior() -> None:
    sketch = LatencySketch(Prior(p50_s=1.0, p95_s=4.0, p99_s=9.0))
    assert sketch.quantile_s(0.5) == 1.0
    assert sketch.quantile_s(0.95) == pytest.approx(4.0)
    assert sketch.quantile_s(0.99) == pytest.approx(9.0)
    assert sketch.quantile_s(0.999) == pytest.approx(9.0)
    assert 1.0 < sketch.quantile_s(0.7) < 4.0
    assert not sketch.is_learned
    for at in range(80):
        sketch.record(0.25, 0, 0, at)
    assert not sketch.is_learned
    # 80 samples against a belief of 84: nearly half each, in logarithms.
    assert sketch.quantile_s(0.5) == pytest.approx(0.25 ** (80 / 164), rel=0.03)
    for at in range(420):
        sketch.record(0.25, 0, 0, 80 + at * 0.1)
    assert sketch.quantile_s(0.5) == sketch.raw_quantile_s(0.5)


@examples(60)
@given(st.lists(st.floats(0.001, 100.0), min_size=1, max_size=300))
def test_what_is_known_of_one_is_believed_of_another(values_s: list[float]) -> None:
    known = filled(values_s)
    known.slope = 0.2
    prior = known.as_prior()
    assert prior.p50_s <= prior.p95_s <= prior.p99_s
    new = LatencySketch(prior)
    for share in (0.5, 0.95, 0.99):
        assert new.quantile_s(share) == pytest.approx(known.quantile_s(share))
    assert new.scale(1000) == known.scale(1000) == 1.2
    assert not new.is_learned
    assert new.samples == 0
    assert new.raw_quantile_s(0.5) is None


def test_the_slope_of_the_prior_fades_like_the_default() -> None:
    steep, flat = LatencySketch(Prior(slope=0.3)), LatencySketch()
    for sketch in (steep, flat):
        for at in range(100):
            sketch.record(0.5, 3000, 0, at)  # prompts of one length say nothing of the slope
        sketch.refit()
    assert steep.slope == pytest.approx(0.3, rel=0.2)
    assert flat.slope == pytest.approx(DEFAULT_SLOPE, rel=0.2)
    rng = random.Random(6)
    for at in range(2000):
        prompt = rng.choice([500, 20_000])
        steep.record(0.4 * (1 + 0.08 * prompt / 1000), prompt, 0, 100 + at * 0.1)
        if at % 30 == 0:
            steep.refit()
    assert steep.slope == pytest.approx(0.08, rel=0.25)


def test_long_prompts_are_no_stragglers() -> None:
    rng = random.Random(5)
    sketch = LatencySketch()
    for at in range(2000):
        prompt = rng.choice([500, 20_000])
        ttft_s = 0.4 * (1 + 0.08 * prompt / 1000) * math.exp(rng.gauss(0, 0.2))
        sketch.record(ttft_s, prompt, 0, at * 0.1)
        if at % 30 == 0:
            sketch.refit()
    assert sketch.slope == pytest.approx(0.08, rel=0.25)
    spread = sketch.quantile_s(0.95) / sketch.quantile_s(0.5)
    assert spread < 1.8, "without normalising the long prompts alone make it 2.6"
    assert sketch.quantile_s(0.5) * sketch.scale(20_000) == pytest.approx(1.04, rel=0.2)
    assert sketch.scale(20_000, 20_000) == 1.0


def test_prompts_of_one_length_say_nothing_of_the_slope() -> None:
    sketch = LatencySketch()
    for at in range(500):
        sketch.record(0.5 + 0.1 * (at % 5), 3000, 0, at)
    sketch.refit()
    assert sketch.slope == pytest.approx(DEFAULT_SLOPE, rel=0.2)


def test_a_given_up_attempt_does_not_hide_the_tail() -> None:
    """Cancelled at 1 s: below that nothing changes, above it Kaplan-Meier spreads the rest."""
    sketch = LatencySketch()
    for at in range(90):
        sketch.record(0.5, 0, 0, at)
    for at in range(8):
        sketch.record_censored(1.0, 0, 0, 90 + at)
    for at in range(2):
        sketch.record(4.0, 0, 0, 98 + at)
    assert sketch.survival(0.7) == pytest.approx(0.10)
    # The two that were waited for stand for all ten that were longer than a second.
    assert sketch.survival(2.0) == pytest.approx(0.10)
    assert sketch.survival(5.0) == pytest.approx(0.0)
    assert sketch.raw_quantile_s(0.89) == pytest.approx(0.5, rel=0.03)
    assert LatencySketch().survival(1.0) == 1.0


def test_one_that_mostly_loses_does_not_pass_for_fast() -> None:
    """A second: given up 50 to 500 ms after its start, whenever it had not answered by then."""
    rng = random.Random(4)
    sketch = LatencySketch()
    for at in range(3000):
        ttft_s, age_s = 0.5 * math.exp(rng.gauss(0, 0.5)), rng.uniform(0.05, 0.8)
        if ttft_s <= age_s:
            sketch.record(ttft_s, 0, 0, at)
        else:
            sketch.record_censored(age_s, 0, 0, at)
    assert sketch.known < 0.5 * sketch.samples
    assert sketch.raw_quantile_s(0.5) == pytest.approx(0.5, rel=0.08)
    assert sketch.raw_quantile_s(0.25) == pytest.approx(0.5 * math.exp(-0.5 * 0.674), rel=0.08)


def test_attempts_that_never_answered_teach_nothing() -> None:
    sketch = LatencySketch(Prior())
    for at in range(500):
        sketch.record_censored(0.05, 0, 0, at)
    assert not sketch.is_learned
    assert sketch.raw_quantile_s(0.5) is None
    assert sketch.quantile_s(0.5) == Prior().p50_s


@examples(60)
@given(
    st.lists(st.tuples(st.floats(0.001, 100), st.integers(0, 100_000), st.booleans()), max_size=400)
)
def test_what_is_kept_comes_back(samples: list[tuple[float, int, bool]]) -> None:
    sketch = LatencySketch()
    for at, (value_s, prompt, is_censored) in enumerate(samples):
        take = sketch.record_censored if is_censored else sketch.record
        take(value_s, prompt, 0, float(at))
    sketch.refit()
    now_s = float(len(samples))
    text = json.dumps(sketch.to_dict(now_s))
    again = LatencySketch.from_dict(json.loads(text), 5000.0, away_s=60.0)
    assert again.counts() == sketch.counts()
    assert again.samples == sketch.samples
    assert again.slope == sketch.slope
    assert again.quantile_s(0.95) == sketch.quantile_s(0.95)
    for _ in range(PART_SAMPLES * (PARTS + 1)):  # old parts can be dropped
        again.record(1.0, 0, 0, 5001.0)
    assert min(finished for _, finished, _ in again.counts()) > 0


# --- merging --------------------------------------------------------------------------------


def at_times(
    samples: list[tuple[float, bool]], begin_s: float = 0.0, every_s: float = 1.0
) -> LatencySketch:
    sketch = LatencySketch()
    for at, (value_s, is_censored) in enumerate(samples):
        take = sketch.record_censored if is_censored else sketch.record
        take(value_s, 1000 * (at % 3), 0, begin_s + at * every_s)
    sketch.refit()
    return sketch


def merged(one: LatencySketch, *others: LatencySketch) -> LatencySketch:
    """A copy of one, with the others in it."""
    copy = LatencySketch.from_dict(one.to_dict(5000.0), 5000.0, away_s=0.0)
    copy.merge(*others)
    return copy


def ranked_s(sketch: LatencySketch, share: float, up: bool) -> float:
    """The value at that rank, rounded down or up: few samples have few ranks."""
    count = sketch.samples
    rank = share * (count - 1)
    found = (math.ceil(rank - 1e-9) if up else math.floor(rank + 1e-9)) / max(1, count - 1)
    value_s = sketch.raw_quantile_s(found)
    assert value_s is not None
    return value_s


some_values = st.lists(st.floats(0.001, 100.0), min_size=1, max_size=300)
some_samples = st.lists(st.tuples(st.floats(0.001, 100.0), st.booleans()), max_size=400)


@examples(100)
@given(some_values, some_values, some_values, st.floats(0.0, 1.0))
def test_quantiles_of_a_merge_lie_between_those_of_its_parts(
    first: list[float], second: list[float], third: list[float], share: float
) -> None:
    sketches = [filled(values, every_s=1.0) for values in (first, second, third)]
    together = merged(*sketches)
    if together.samples < len(first + second + third):
        return  # the window held no more, and what is older may have been different
    value_s = together.raw_quantile_s(share)
    assert value_s is not None
    assert min(ranked_s(one, share, up=False) for one in sketches) <= value_s
    assert value_s <= max(ranked_s(one, share, up=True) for one in sketches)


@examples(100)
@given(some_samples, some_samples)
def test_merging_takes_no_side(
    first: list[tuple[float, bool]], second: list[tuple[float, bool]]
) -> None:
    one, other = at_times(first, 0.0), at_times(second, 0.4)
    ways = merged(one, other), merged(other, one)
    assert ways[0].counts() == ways[1].counts()
    assert (ways[0].samples, ways[0].known) == (ways[1].samples, ways[1].known)
    assert ways[0].slope == pytest.approx(ways[1].slope)
    for share in (0.5, 0.95, 0.99):
        assert ways[0].raw_quantile_s(share) == ways[1].raw_quantile_s(share)
        assert ways[0].quantile_s(share) == pytest.approx(ways[1].quantile_s(share))


def test_a_merge_is_what_one_that_counted_all_would_know() -> None:
    """Four workers with a quarter of the traffic each: fifteen minutes of it."""
    rng = random.Random(7)
    whole, quarters = LatencySketch(), [LatencySketch() for _ in range(4)]
    for at in range(1800):
        value_s = 0.5 * math.exp(rng.gauss(0, 0.5)) * (2.0 if at > 900 else 1.0)
        for sketch in (whole, quarters[at % 4]):
            sketch.record(value_s, 0, 0, at * 0.5)
    together = merged(*quarters)
    assert together.known <= PARTS * PART_SAMPLES
    assert together.known >= whole.known - 2 * PART_SAMPLES
    for share in (0.1, 0.5, 0.9):
        assert together.quantile_s(share) == pytest.approx(whole.quantile_s(share), rel=0.1)


def test_what_is_older_than_the_window_goes() -> None:
    """The one was asked an hour ago, the other now and enough for the whole window."""
    old = filled([4.0] * PART_SAMPLES * 2)
    new = LatencySketch()
    for at in range(PART_SAMPLES * PARTS):
        new.record(0.4, 0, 0, 3600 + at * 0.1)
    for together in (merged(old, new), merged(new, old)):
        assert together.known == PART_SAMPLES * PARTS
        assert together.raw_quantile_s(1.0) == pytest.approx(0.4, rel=0.03)


def test_what_is_merged_slides_out_and_is_not_kept() -> None:
    together = merged(filled([0.4] * 10), filled([4.0] * 200))
    assert together.known == 210
    assert together.to_dict(1.0)["parts"] == filled([0.4] * 10).to_dict(1.0)["parts"]
    for at in range(PART_SAMPLES * PARTS):
        together.record(0.4, 0, 0, 60 + at * 0.1)
    assert together.raw_quantile_s(1.0) == pytest.approx(0.4, rel=0.03)
    again = LatencySketch.from_dict(together.to_dict(200.0), 0.0, away_s=0.0)
    assert again.samples == together.samples


def test_merging_nothing_changes_nothing() -> None:
    one = at_times([(0.3, False), (0.2, True)] * 400)
    before = one.to_dict(900.0)
    one.merge()
    one.merge(LatencySketch())
    assert one.to_dict(900.0) == before
    assert one.prior == Prior()
    empty = LatencySketch()
    empty.merge(one)
    assert empty.counts() == one.counts()
    assert empty.slope == one.slope
    assert empty.to_dict(900.0)["parts"] == []


def test_others_tell_the_slope() -> None:
    steep = LatencySketch()
    for at in range(600):
        prompt = (500, 20_000)[at % 2]
        steep.record(0.4 * (1 + 0.08 * prompt / 1000), prompt, 0, at * 0.1)
        if at % 30 == 0:
            steep.refit()
    new = LatencySketch()
    new.merge(steep)
    assert new.slope == steep.slope
    for at in range(50):
        new.record(0.5, 3000, 0, 60 + at)  # prompts of one length say nothing of it
    new.refit()
    assert new.slope == pytest.approx(steep.slope, rel=0.2)


class WorkersMachine(RuleBasedStateMachine):
    """Workers that record, restart and take up the rows of all: every sample is in one row at most,
    what is read adds up, and nobody knows more than a window holds."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0
        self.recorded = 0
        self.workers = [LatencySketch() for _ in range(3)]
        self.rows = [worker.to_dict(0.0) for worker in self.workers]

    @rule(
        worker=st.integers(0, 2),
        count=st.integers(1, 120),
        value_s=st.floats(0.01, 50.0),
        is_censored=st.booleans(),
    )
    def record(self, worker: int, count: int, value_s: float, is_censored: bool) -> None:
        sketch = self.workers[worker]
        take = sketch.record_censored if is_censored else sketch.record
        for _ in range(count):
            self.now_s += 0.2
            take(value_s, 0, 0, self.now_s)
        self.recorded += count

    @rule(gap_s=st.floats(0.0, 2 * 3600.0))
    def wait(self, gap_s: float) -> None:
        self.now_s += gap_s
        for sketch in self.workers:
            sketch.expire(self.now_s)

    @rule(worker=st.integers(0, 2))
    def restart(self, worker: int) -> None:
        self.rows = [sketch.to_dict(self.now_s) for sketch in self.workers]
        rows = [
            LatencySketch.from_dict(json.loads(json.dumps(row)), self.now_s, away_s=0.0)
            for row in self.rows
        ]
        own = rows.pop(worker)
        mine = own.samples
        own.merge(*rows)
        assert own.samples <= mine + sum(row.samples for row in rows)
        self.workers[worker] = own

    @invariant()
    def each_sample_is_kept_once(self) -> None:
        kept = 0
        for sketch in self.workers:
            for row in sketch.to_dict(self.now_s)["parts"]:
                counts = [*row["finished"].values(), *row["censored"].values()]
                assert min(counts) > 0
                kept += sum(counts)
        assert kept <= self.recorded

    @invariant()
    def what_is_read_adds_up(self) -> None:
        for sketch in self.workers:
            counts = sketch.counts()
            assert all(finished >= 0 and censored >= 0 for _, finished, censored in counts)
            assert sketch.known == sum(finished for _, finished, _ in counts)
            assert sketch.samples == sketch.known + sum(censored for _, _, censored in counts)
            assert sketch.known <= PARTS * PART_SAMPLES
            assert sketch.samples <= self.recorded


WorkersMachine.TestCase.settings = hypothesis_settings(
    max_examples=40, stateful_step_count=30, deadline=None
)
TestWorkersMachine = WorkersMachine.TestCase


def test_what_is_too_old_is_not_taken_up() -> None:
    kept = filled([1.0] * 10).to_dict(1.0)
    assert LatencySketch.from_dict(kept, 0.0, away_s=KEEP_S + 5).samples == 0


def test_a_clock_that_went_back_makes_nothing_younger_than_now() -> None:
    kept = filled([1.0] * 10).to_dict(1.0)
    again = LatencySketch.from_dict(kept, 100.0, away_s=-1e6)
    assert again.samples == 10
    assert again.to_dict(100.0)["parts"][0]["age_s"] == 1.0
    again.expire(100.0 + KEEP_S)
    assert again.samples == 0


def part(**changes: object) -> dict[str, object]:
    return {"age_s": 0.0, "finished": {"7": 1}, "censored": {}, **changes}


def _broken(change: Callable[[dict[str, object]], object]) -> dict[str, object]:
    kept = filled([1.0] * 3).to_dict(1.0)
    change(kept)
    return kept


@pytest.mark.parametrize(
    "kept",
    [
        {},
        _broken(lambda kept: kept.update(buckets=7)),
        _broken(lambda kept: kept.update(slope="x")),
        _broken(lambda kept: kept.update(slope=math.nan)),
        _broken(lambda kept: kept.update(sums=[1.0])),
        _broken(lambda kept: kept.update(parts=[{"age_s": 0, "finished": {"9999": 1}}])),
        _broken(lambda kept: kept.update(parts=[{"age_s": 0, "finished": [1], "censored": {}}])),
        _broken(lambda kept: kept.update(parts=[3])),
        _broken(lambda kept: kept.update(parts=[part(age_s=math.nan)])),
        _broken(lambda kept: kept.update(parts=[part(age_s=-math.inf)])),
        _broken(lambda kept: kept.update(parts=[part(finished={"7": math.inf})])),
        _broken(lambda kept: kept.update(parts=[part(finished={"7": math.nan})])),
        _broken(lambda kept: kept.update(parts=[part(finished={"7": -1})])),
    ],
)
def test_what_is_no_sketch_is_refused(kept: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        LatencySketch.from_dict(kept, 0.0, away_s=0.0)


def test_several_quantiles_in_one_walk() -> None:
    sketch = LatencySketch()
    assert sketch.raw_quantiles_s((0.5, 0.9)) == ()
    for index in range(200):
        sketch.record(0.1 + index / 100, 0, 0, 0.0)
        sketch.record_censored(0.05 + index / 200, 0, 0, 0.0)
    shares = (0.0, 0.25, 0.5, 0.9, 0.95, 0.99, 1.0)
    alone = [sketch.raw_quantile_s(share) for share in shares]
    assert list(sketch.raw_quantiles_s(shares)) == alone
    assert alone == sorted(alone, key=lambda value: value or 0.0)
