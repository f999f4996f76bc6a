"""When a worker is taken for stuck."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from relay.workers.watch import LOOK_S, OWN_PAUSE_S, START_LIMIT_S, Watch
from tests.fakes.properties import examples


def looked_at(watch: Watch, from_s: float, until_s: float) -> float | None:
    """Look every `LOOK_S`; when it was first called stuck."""
    now_s = from_s
    while now_s <= until_s:
        if watch.is_stuck(now_s):
            return now_s
        now_s += LOOK_S
    return None


def test_silence_beyond_the_limit() -> None:
    watch = Watch(0.0, 10.0)
    watch.beat(1.0)
    assert looked_at(watch, 1.0, 60.0) == 11.5
    assert watch.silent_s(11.5) == 10.5


def test_a_new_process_may_take_longer_until_its_loop_runs() -> None:
    watch = Watch(0.0, 10.0)
    assert looked_at(watch, 0.0, START_LIMIT_S) is None
    assert looked_at(watch, START_LIMIT_S, 100.0) == START_LIMIT_S + LOOK_S


def test_no_limit() -> None:
    watch = Watch(0.0, 0.0)
    watch.beat(0.0)
    assert looked_at(watch, 0.0, 1000.0) is None


def test_nobody_is_blamed_for_the_supervisor_s_own_pause() -> None:
    watch = Watch(0.0, 10.0)
    watch.beat(0.0)
    assert not watch.is_stuck(0.5)
    assert not watch.is_stuck(100.0)  # stopped for 99.5 s, and so was the worker perhaps
    assert looked_at(watch, 100.5, 200.0) == 110.5


@examples(200)
@given(
    gaps=st.lists(st.floats(0.01, 9.0), max_size=40),
    looks=st.lists(st.floats(0.01, 5 * OWN_PAUSE_S), max_size=40),
)
def test_who_beats_within_the_limit_is_never_stuck(gaps: list[float], looks: list[float]) -> None:
    watch = Watch(0.0, 10.0)
    events: list[tuple[float, bool]] = []
    for is_beat, steps in ((True, gaps), (False, looks)):
        at_s = 0.0
        for step in steps:
            at_s += step
            events.append((at_s, is_beat))
    last_beat_s = sum(gaps)
    watch.beat(0.0)
    for at_s, is_beat in sorted(events):
        if is_beat:
            watch.beat(at_s)
        else:
            assert not (watch.is_stuck(at_s) and at_s <= last_beat_s + 10.0)
