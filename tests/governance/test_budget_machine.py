"""M1 to M10 of budgets: every store beside a list that is added up, after every operation.

The hypothesis machine finds short failures; the seeded runs are long. In `make nightly` they are
10^6 operations in memory and 10^4 on each real store.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from hypothesis.stateful import run_state_machine_as_test as run_machine

from tests.fakes.properties import IS_FULL
from tests.governance.ledger_steps import WEIGHTS, DataDraws, House, drive
from tests.governance.ledger_worlds import LedgerWorld, MemoryWorld

NIGHT_S = 3600 if IS_FULL else 60
"""What one test may take."""


class BudgetMachine(RuleBasedStateMachine):
    """A house on a world that is given by a subclass."""

    world: LedgerWorld

    @initialize()
    def begin(self) -> None:
        self.house = House(self.world)

    @invariant()
    def holds(self) -> None:
        if hasattr(self, "house"):
            self.house.check()

    def teardown(self) -> None:
        if hasattr(self, "house"):
            self.house.close()
        self.world.clear()


def _rule(name: str) -> Callable[..., None]:
    def act(self: BudgetMachine, data: st.DataObject) -> None:
        getattr(self.house, name)(DataDraws(data))

    act.__name__ = name
    made: Callable[..., None] = rule(data=st.data())(act)
    return made


for _name in WEIGHTS:
    setattr(BudgetMachine, _name, _rule(_name))


def run_machine_on(world: LedgerWorld, count: int, steps: int) -> None:
    """Run so many examples of so many steps."""
    machine: Any = type("Machine", (BudgetMachine,), {"world": world})
    run_machine(
        machine,
        settings=settings(
            max_examples=count,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.timeout(NIGHT_S)
def test_machine_in_memory() -> None:
    run_machine_on(MemoryWorld(), 300 if IS_FULL else 25, 60 if IS_FULL else 30)


@pytest.mark.timeout(NIGHT_S)
def test_long_run_in_memory() -> None:
    operations = 1_000_000 if IS_FULL else 3_000
    assert drive(MemoryWorld(), 7, operations, episode=120) == operations
