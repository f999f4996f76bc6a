"""The timeline: phases are never negative and sum to the wall time, whatever happened."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.timeline import PHASES, STALL_S, AttemptMarks, Timeline
from tests.fakes.properties import examples


class HandClock:
    """A clock that is set by hand."""

    def __init__(self, now_s: float = 50.0) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s

    def advance(self, delay_s: float) -> float:
        self.now_s += delay_s
        return self.now_s


def marks(started_s: float, **at_s: float) -> AttemptMarks:
    made = AttemptMarks(started_s)
    made.at_s.update(at_s)
    return made


def whole_generation(clock: HandClock) -> Timeline:
    """1, 2, 3, ... ms for the phases up to the first output."""
    timeline = Timeline(clock)
    clock.advance(0.001)
    timeline.close("admission")
    clock.advance(0.002)
    timeline.close("route")
    won = marks(clock.advance(0.003))
    for ms, phase in enumerate(PHASES[3:7], 4):
        won.at_s[phase] = clock.advance(ms / 1000)
    timeline.adopt(won)
    clock.advance(0.008)
    timeline.close("relay_out")
    return timeline


def test_every_phase_is_told() -> None:
    clock = HandClock()
    timeline = whole_generation(clock)
    clock.advance(0.25)
    timeline.gap(0.2, clock())
    clock.advance(STALL_S + 0.1)
    timeline.gap(STALL_S + 0.1, clock())
    clock.advance(0.011)
    assert timeline.finish() == {
        "admission": 1000,
        "route": 2000,
        "race_wait": 3000,
        "pool_wait": 4000,
        "request_sent": 5000,
        "response_headers": 6000,
        "first_content": 7000,
        "relay_out": 8000,
        "stream": 250_000,
        "stalls": 600_000,
        "end": 11_000,
    }
    assert timeline.stall_count == 1
    assert timeline.longest_gap_s == STALL_S + 0.1


def test_relay_out_holds_no_waiting_for_the_provider() -> None:
    clock = HandClock()
    timeline = Timeline(clock)
    won = marks(clock())
    won.at_s["first_content"] = clock()
    timeline.adopt(won)
    clock.advance(0.002)
    timeline.gap(0.05, clock.advance(0.05))
    timeline.gap(STALL_S + 0.1, clock.advance(STALL_S + 0.1))
    clock.advance(0.003)
    timeline.close("relay_out")
    timeline.gap(0.04, clock.advance(0.04))
    phases = timeline.finish()
    told = {name: us for name, us in phases.items() if us}
    assert told == {"relay_out": 5_000, "stream": 90_000, "stalls": 600_000}


@pytest.mark.parametrize("closed", range(8))
def test_generation_that_ended_early_ends_in_its_phase(closed: int) -> None:
    clock = HandClock()
    timeline = Timeline(clock)
    for phase in PHASES[:closed]:
        clock.advance(0.001)
        timeline.close(phase)
    clock.advance(0.005)
    phases = timeline.finish()
    expected = [1000] * closed + [0] * (len(PHASES) - closed)
    last = closed if closed < 8 else PHASES.index("end")
    expected[last] = 5000
    assert [phases[name] for name in PHASES] == expected


def test_failed_attempts_before_the_winner_are_its_race_wait() -> None:
    clock = HandClock()
    timeline = Timeline(clock)
    timeline.close("admission")
    timeline.close("route")
    clock.advance(0.75)
    timeline.adopt(marks(clock()))
    assert timeline.finish()["race_wait"] == 750_000


def test_closing_a_phase_again_changes_nothing() -> None:
    clock = HandClock()
    timeline = whole_generation(clock)
    clock.advance(1.0)
    timeline.close("relay_out")
    timeline.close("admission")
    assert timeline.finish()["relay_out"] == 8000


def test_finish_is_idempotent_and_later_marks_are_ignored() -> None:
    clock = HandClock()
    timeline = Timeline(clock)
    clock.advance(0.001)
    before = timeline.is_finished
    first = timeline.finish()
    assert (before, timeline.is_finished) == (False, True)
    clock.advance(1.0)
    timeline.close("relay_out")
    assert timeline.finish() is first


def test_phases_until_the_first_content() -> None:
    clock = HandClock()
    assert Timeline(clock).until_first_content() == {}
    timeline = whole_generation(clock)
    assert list(timeline.until_first_content()) == list(PHASES[:7])
    assert list(timeline.until_first_content().values()) == [ms * 1000 for ms in range(1, 8)]


def test_received_before_it_was_made() -> None:
    clock = HandClock(50.0)
    timeline = Timeline(clock, received_s=49.5)
    timeline.close("admission")
    assert timeline.finish()["admission"] == 500_000


delays_s = st.floats(0, 10, allow_nan=False) | st.sampled_from([0.0, 0.4e-6, 0.5e-6, 1e-9, 1e-7])
steps = st.lists(
    st.tuples(
        st.sampled_from(["close", "adopt", "gap", "wait"]),
        st.sampled_from(PHASES[:8]),
        delays_s,
    ),
    max_size=30,
)


@examples(200)
@given(
    origin_s=st.floats(0, 1e7),
    steps=steps,
    missing=st.sets(st.sampled_from(PHASES[3:7])),
    last_s=delays_s,
)
def test_phases_are_never_negative_and_sum_to_the_wall_time(
    origin_s: float, steps: list[tuple[str, str, float]], missing: set[str], last_s: float
) -> None:
    clock = HandClock(origin_s)
    timeline = Timeline(clock)

    def adopt() -> None:
        won = marks(clock())
        for phase in PHASES[3:7]:
            if phase not in missing:
                won.at_s[phase] = clock.advance(0.001)
        timeline.adopt(won)

    for act, phase, delay_s in steps:
        clock.advance(delay_s)
        acts: dict[str, Callable[[], None]] = {
            "close": lambda phase=phase: timeline.close(phase),  # type: ignore[misc]
            "adopt": adopt,
            "gap": lambda waited_s=delay_s: timeline.gap(waited_s, clock()),  # type: ignore[misc]
            "wait": lambda: None,
        }
        acts[act]()
    clock.advance(last_s)
    phases = timeline.finish()
    assert list(phases) == list(PHASES)
    assert min(phases.values()) >= 0
    assert sum(phases.values()) == round((clock() - timeline.received_s) * 1e6)
    assert all(us >= 0 for us in timeline.until_first_content().values())
