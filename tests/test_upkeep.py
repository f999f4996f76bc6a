"""What was learnt is taken up at the start and kept at the end, by a real file."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from relay.store.learned import load, save
from relay.target_state import TargetState
from relay.upkeep import Upkeep
from tests.fakes.memory_transport import FakeEndpoint
from tests.fakes.scenario import Scenario
from tests.fakes.virtual_time import START_S

SAVED_S = 1_790_000_000.0


def state_of(scenario: Scenario, name: str) -> TargetState:
    target = scenario.services.catalog.resolve(f"{name}/m").candidates[0]
    return scenario.services.planner.states.of(target, START_S)


def worker() -> Scenario:
    scenario = Scenario({"a": FakeEndpoint(), "b": FakeEndpoint()})
    scenario.services.clock = lambda: START_S
    return scenario


async def run(scenario: Scenario, file: Path) -> None:
    """From start to end."""
    upkeep = Upkeep(scenario.services, file, 0)
    await upkeep.start()
    await upkeep.aclose()


@pytest.mark.parametrize(
    ("later_s", "samples"),
    [(5 * 3600, [200, 200]), (7 * 3600, [200, 0]), (12 * 3600, [0, 0]), (-86_400, [200, 200])],
    ids=["both", "one is too old", "and the other", "the clock went back"],
)
async def test_rows_are_taken_up_with_their_own_age(
    later_s: float, samples: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, first = tmp_path / "relay.db", worker()
    for name in "ab":
        for _ in range(200):
            state_of(first, name).latency.record(0.3, 0, 0, START_S)
    monkeypatch.setattr(time, "time", lambda: SAVED_S)
    await run(first, file)
    # The next run ended five hours later and had asked one of them only.
    save(file, 0, {"a/m": load(file, 0)["a/m"][0].state}, SAVED_S + 5 * 3600)
    monkeypatch.setattr(time, "time", lambda: SAVED_S + later_s)
    again = worker()
    await run(again, file)
    assert [state_of(again, name).latency.samples for name in "ab"] == samples


async def test_a_file_that_cannot_be_read_is_no_reason_not_to_start(tmp_path: Path) -> None:
    file = tmp_path / "relay.db"
    file.write_bytes(b"no database" * 1000)
    await run(worker(), file)
    assert file.read_bytes() == b"no database" * 1000
