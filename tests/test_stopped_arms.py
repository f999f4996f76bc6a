"""Workers agree on stopped arms (`relay.stopped_arms`)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from relay.policy.experiments import Experiments
from relay.policy.guard_rail import Stop
from relay.stopped_arms import LOOK_S, StoppedArms
from relay.store.arm_rows import ArmRow
from relay.store.base import StoreUnavailable
from tests.fakes.relay_under_test import eventually
from tests.policy.worlds import experiments

STOP = Stop("new", "error_share", 12, 1, 9.5)
ROW = ArmRow("ab", "new", 1, "other", "error_share", 12, 1, 9.5, 7)


class Table:
    """The store's, in memory."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], ArmRow] = {}
        self.is_away = False
        self.looks = 0

    def all(self) -> list[ArmRow]:
        self.looks += 1
        if self.is_away:
            raise StoreUnavailable("away")
        return list(self.rows.values())

    def write(self, row: ArmRow) -> None:
        self.rows[row.experiment, row.arm] = row


class Worker:
    """One, with an experiment."""

    def __init__(self, table: Table, **fields: Any) -> None:
        self.experiments: Experiments | None = experiments(**fields)
        self.arms = StoppedArms(table, lambda: self.experiments, lambda: 7)

    @property
    def stopped(self) -> list[str]:
        assert self.experiments is not None
        return [stop.arm for _, stop in self.experiments.stops()]

    def stop(self) -> None:
        assert self.experiments is not None
        assert self.experiments.stop("ab", STOP)


async def test_what_one_stops_all_stop() -> None:
    table = Table()
    one, other = Worker(table), Worker(table)
    one.stop()
    await one.arms.look()
    assert table.rows == {("ab", "new"): ROW}
    await other.arms.look()
    assert other.stopped == ["new"]
    assert other.experiments is not None
    assert other.experiments.stops() == [("ab", STOP)]


async def test_a_worker_that_starts_has_it_from_the_beginning() -> None:
    table = Table()
    table.write(ROW)
    one = Worker(table)
    await one.arms.start()
    assert one.stopped == ["new"]
    await one.arms.aclose()
    await one.arms.aclose()


async def test_an_arm_that_was_taken_out_runs_again_everywhere() -> None:
    table = Table()
    one, other = Worker(table), Worker(table)
    one.stop()
    for worker in (one, other):
        await worker.arms.look()
    table.rows.clear()
    for worker in (one, other):
        await worker.arms.look()
    assert one.stopped == other.stopped == []
    assert table.rows == {}


async def test_a_row_of_what_the_arm_was_before_says_nothing() -> None:
    table = Table()
    table.write(ROW._replace(edition=2))
    one = Worker(table)
    await one.arms.look()
    assert one.stopped == []
    table.write(ROW._replace(use="another"))
    await one.arms.look()
    assert one.stopped == []
    one.stop()
    await one.arms.look()
    assert table.rows["ab", "new"] == ROW, "and is written over"


async def test_while_the_store_is_away_each_goes_by_its_own_word() -> None:
    table = Table()
    one = Worker(table)
    table.is_away = True
    one.stop()
    with pytest.raises(StoreUnavailable):
        await one.arms.look()
    assert one.stopped == ["new"]
    table.is_away = False
    await one.arms.look()
    assert table.rows == {("ab", "new"): ROW}


async def test_a_store_that_is_away_keeps_nobody_from_starting() -> None:
    table = Table()
    table.is_away = True
    one = Worker(table)
    await one.arms.start()
    table.is_away = False
    one.stop()
    one.arms.hurry()
    await eventually(lambda: table.rows)
    await one.arms.aclose()


async def test_without_experiments_nobody_looks() -> None:
    table = Table()
    one = Worker(table, enabled=False)
    await one.arms.look()
    one.experiments = None
    await one.arms.look()
    assert table.looks == 0
    assert LOOK_S <= 5


async def test_what_is_stopped_is_written_at_once() -> None:
    table = Table()
    one = Worker(table)
    await one.arms.start()
    one.stop()
    one.arms.hurry()
    async with asyncio.timeout(2):
        await eventually(lambda: table.rows)
    await one.arms.aclose()
