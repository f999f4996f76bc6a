"""Priors: what a worker makes of them when it starts."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from relay.measuring.priors import MIN_KEPT, require_usable, save, states_of
from relay.measuring.samples import DoorResult, Sample
from relay.store import learned
from relay.store.learned import StoreError
from relay.target_state import Kept, TargetState, TargetStates
from tests.fakes.memory_transport import FakeEndpoint
from tests.measuring.world import World, sample

BASE_S, PER_1000_S = 0.4, 0.06


def drawn(count: int, *, is_cold: bool = False) -> list[Sample]:
    """First tokens of a door whose prompts add 60 ms per 1,000 tokens."""
    rng = random.Random(5)
    return [
        sample(
            (BASE_S + PER_1000_S * tokens / 1000) * rng.lognormvariate(0, 0.1),
            prompt=tokens,
            is_long=tokens > 1000,
            is_cold=is_cold,
            at_s=10.0 + number,
        )
        for number in range(count)
        for tokens in [2100 if number % 2 else 100]
    ]


def result_of(world: World, samples: list[Sample]) -> DoorResult:
    return DoorResult(world.doors[0], asked=len(samples), samples=samples)


def taken_up(path: Path, world: World, worker: int = 0) -> TargetState:
    """As `Upkeep.start` and the first request of a worker do it."""
    states = TargetStates()
    wall_s = time.time()
    states.keep(
        {
            name: [Kept(row.state, wall_s - row.saved_at_s, row.is_own) for row in rows]
            for name, rows in learned.load(path, worker).items()
        },
        5000.0,
    )
    return states.of(world.doors[0].target, 5000.0)


@pytest.fixture
def world() -> World:
    return World({"a": FakeEndpoint()})


def test_a_worker_begins_with_what_was_measured(tmp_path: Path, world: World) -> None:
    path = tmp_path / "relay.db"
    save(path, states_of([result_of(world, drawn(200))], 250.0))
    state = taken_up(path, world)
    assert state.latency.known == 200
    assert state.is_learned
    assert state.usual_s is not None
    assert state.survival is not None
    assert state.usual_s == pytest.approx(BASE_S, rel=0.06), "as with an empty prompt"
    assert state.latency.slope == pytest.approx(PER_1000_S / BASE_S, rel=0.25)
    longest = state.usual_s * state.latency.scale(2100)
    assert longest == pytest.approx(BASE_S + PER_1000_S * 2.1, rel=0.06)
    assert state.prompt_tokens(1000) == 1000, "the words were not those of anybody's prompts"


def test_a_slow_door_keeps_its_slope(world: World) -> None:
    """The default belief of 0.6 s would cut the first samples of one that takes 5 s."""
    slow = [s._replace(ttft_s=10 * s.ttft_s) for s in drawn(18)]
    (state,) = states_of([result_of(world, slow)], 250.0).values()
    assert state["latency"]["slope"] > 0.045


def test_every_worker_takes_it_up_and_none_keeps_it_again(tmp_path: Path, world: World) -> None:
    path = tmp_path / "relay.db"
    save(path, states_of([result_of(world, drawn(120))], 250.0))
    for worker in (0, 3):
        state = taken_up(path, world, worker)
        assert state.latency.known == 120
        kept = state.to_dict(5000.0)["latency"]["parts"]
        assert kept == [], "it would be counted twice at the next start"


def test_another_measuring_takes_the_place_of_the_last(tmp_path: Path, world: World) -> None:
    path = tmp_path / "relay.db"
    save(path, states_of([result_of(world, drawn(150))], 250.0))
    learned.save(path, 0, {"a/m": {"latency": {}, "tokens_ratio": 1.0}}, time.time())
    save(path, states_of([result_of(world, drawn(40))], 250.0))
    assert taken_up(path, world, worker=5).latency.known == 40
    assert len(learned.load(path, 0)["a/m"]) == 2, "rows of workers stay"


def test_too_few_or_cold_samples_are_not_kept(world: World) -> None:
    assert states_of([result_of(world, drawn(MIN_KEPT - 1))], 250.0) == {}
    assert states_of([result_of(world, drawn(50, is_cold=True))], 250.0) == {}
    assert list(states_of([result_of(world, drawn(MIN_KEPT))], 250.0)) == ["a/m"]


def test_a_file_that_cannot_be_written_is_found_before(tmp_path: Path) -> None:
    require_usable(tmp_path / "new.db")
    broken = tmp_path / "broken.db"
    broken.write_bytes(b"no database" * 1000)
    with pytest.raises(StoreError, match=r"broken\.db"):
        require_usable(broken)
    with pytest.raises(StoreError, match="there is no folder"):
        require_usable(tmp_path / "none" / "relay.db")
