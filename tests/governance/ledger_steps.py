"""Random days of a house with budgets: what an operation is, for machines of any kind.

`Draws` is where chance comes from: hypothesis, which makes a failing run short, or a seed, which
makes a long run cheap.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Protocol, TypeVar

from hypothesis import strategies as st

from relay.governance import periods
from relay.governance.budget_scopes import BudgetRow, holds
from relay.store.base import Hold
from tests.governance.ledger_pair import LONG_US, WORKERS, LedgerPair
from tests.governance.ledger_worlds import LedgerWorld

T = TypeVar("T")

BEGIN_US: Final = int(datetime(2026, 3, 28, 22, 30, tzinfo=UTC).timestamp()) * 1_000_000
"""The night before clocks are put forward in Berlin, and three days before the month ends."""
SECOND_US: Final = 1_000_000
ZONES: Final = ("UTC", "Europe/Berlin")
KEYS: Final = {"key_a": "team_x", "key_b": "team_x", "key_c": "team_y"}
TEAMS: Final = ("team_x", "team_y")


class Draws(Protocol):
    """Chance."""

    def integer(self, least: int, most: int) -> int: ...

    def one_of(self, values: Sequence[T]) -> T: ...


class SeededDraws:
    """Of a seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def integer(self, least: int, most: int) -> int:
        return self.random.randint(least, most)

    def one_of(self, values: Sequence[T]) -> T:
        return self.random.choice(values)


class DataDraws:
    """Of hypothesis."""

    def __init__(self, data: st.DataObject) -> None:
        self._data = data

    def integer(self, least: int, most: int) -> int:
        return self._data.draw(st.integers(least, most))

    def one_of(self, values: Sequence[T]) -> T:
        return self._data.draw(st.sampled_from(values))


def chain(period: str, zone: str) -> list[BudgetRow]:
    """Budgets of one period on every key, its team and the organisation, never archived: what the
    parents spend is what the children do (M7)."""
    rows = [_row(f"{period}-{key}", "key", key, period, zone, 3_000) for key in KEYS]
    rows += [_row(f"{period}-{team}", "team", team, period, zone, 5_000) for team in TEAMS]
    return [*rows, _row(f"{period}-org", "organisation", "org_1", period, zone, 8_000)]


def _row(
    budget_id: str, scope: str, scope_id: str, period: str, zone: str, limit: int
) -> BudgetRow:
    return BudgetRow(budget_id, scope, scope_id, "org_1", period, zone, limit, True, (), False)


@dataclass
class House:
    """Three keys in two teams, with budgets everywhere, and two workers."""

    world: LedgerWorld
    budgets: dict[str, BudgetRow] = field(default_factory=dict)
    steps: int = 0

    def __post_init__(self) -> None:
        rows = [*chain("day", "Europe/Berlin"), *chain("total", "UTC")]
        rows.append(_row("tag-batch", "tag", "batch", "month", "UTC", 4_000))
        rows.append(_row("tag-soft", "tag", "soft", "day", "UTC", 1_000)._replace(is_hard=False))
        self.budgets = {row.id: row for row in rows}
        self.pair = LedgerPair(self.world, BEGIN_US)

    def close(self) -> None:
        self.pair.close()

    # --- what can happen ------------------------------------------------------------------------

    def admit(self, draws: Draws) -> None:
        """A generation is reserved for; sometimes one that is there already, asked for twice."""
        pair = self.pair
        again = draws.integer(0, 9) == 0 and bool(pair.ids)
        generation_id = draws.one_of(pair.ids) if again else pair.new_id()
        holds = self._holds(draws)
        wanted = self._amount(draws, holds, 1_200)
        amounts = sorted({wanted, self._amount(draws, holds, wanted)}, reverse=True)
        lease_us = draws.one_of((LONG_US, LONG_US, 60 * SECOND_US))
        place = draws.integer(0, WORKERS - 1)
        got = pair.reserve(place, generation_id, holds, amounts, lease_us)
        if got is not None and draws.integer(0, 3):
            self._attempts(draws, generation_id)

    def open_free(self, draws: Draws) -> None:
        """One that no budget counts."""
        pair = self.pair
        pair.open(draws.integer(0, WORKERS - 1), pair.new_id())

    def burst(self, draws: Draws) -> None:
        """Many at once on both workers."""
        self.pair.burst(self._holds(draws), draws.integer(1, 900), draws.integer(2, 12))

    def start_attempts(self, draws: Draws) -> None:
        """A hedge, a failover."""
        if found := self._open_one(draws):
            self._attempts(draws, found)

    def extend(self, draws: Draws) -> None:
        """A cascade needs more; sometimes one that is over asks."""
        ids = self.pair.ids if draws.integer(0, 7) == 0 else self.pair.open_ids
        if ids:
            found = draws.one_of(ids)
            holds = self.pair.model.generations[found].holds
            self.pair.extend(found, self._amount(draws, holds, 600))

    def settle(self, draws: Draws) -> None:
        """The usual end; now and then more than was reserved, or of one that is over."""
        pair = self.pair
        found = self._open_one(draws)
        if found is None:
            return
        reserved = pair.model.generations[found].reserved
        over = draws.integer(0, 9) == 0
        micro = draws.integer(0, reserved + (400 if over else 0))
        pair.settle(found, draws.one_of(("settled", "settled", "estimated")), micro)

    def void(self, draws: Draws) -> None:
        """Nothing was spent; also of a generation that was never written."""
        found = self._open_one(draws) or "never-written"
        self.pair.settle(found, "void", 0)

    def settle_again(self, draws: Draws) -> None:
        """Replays, also with other numbers, change nothing (M5, M9)."""
        over = list(self.pair.model.finals)
        if over:
            found = draws.one_of(over)
            for _ in range(draws.integer(1, 3)):
                state = draws.one_of(("settled", "estimated", "void"))
                self.pair.settle(found, state, draws.integer(0, 500))

    def sweep(self, draws: Draws) -> None:
        self.pair.sweep(draws.integer(0, WORKERS - 1))

    def replace_worker(self, draws: Draws) -> None:
        """A worker goes; what it had open is settled by a sweep, at once or later."""
        self.pair.flush()
        place = draws.integer(0, WORKERS - 1)
        self.pair.replace(place)

    def change_limit(self, draws: Draws) -> None:
        """Up or down, also below what is spent."""
        row = self.budgets[draws.one_of(list(self.budgets))]
        self.budgets[row.id] = row._replace(limit_micro=draws.integer(0, 9_000))

    def harden(self, draws: Draws) -> None:
        """A budget that was only told of stops, or the other way about."""
        row = self.budgets["tag-soft"]
        self.budgets[row.id] = row._replace(is_hard=not row.is_hard)

    def archive(self, draws: Draws) -> None:
        """Of a tag, since parents are the sum only of children that count."""
        row = self.budgets["tag-batch"]
        self.budgets[row.id] = row._replace(archived=not row.archived)

    def wait(self, draws: Draws) -> None:
        """Seconds, hours; or the clock is put back."""
        self.pair.advance(draws.one_of((1, 61, 3_600, 7_200, -1_800, -90)) * SECOND_US)

    def roll_over(self, draws: Draws) -> None:
        """To just before, at or after the next midnight of a zone."""
        now_us = self.pair.now_us
        end_us = periods.end_s("day", draws.one_of(ZONES), now_us) * SECOND_US
        self.pair.advance(end_us - now_us + draws.one_of((-1, 0, 1)))

    # --- what must hold -------------------------------------------------------------------------

    def check(self) -> None:
        """The database against the list, and parents against their children (M7)."""
        self.pair.compare()
        sums = self.world.rows().periods
        for period in ("day", "total"):
            starts = {start for budget_id, start in sums if budget_id.startswith(f"{period}-")}
            for start in starts:

                def spent(name: str, period: str = period, start: int = start) -> list[int]:
                    return list(sums.get((f"{period}-{name}", start), (0, 0, 0)))

                for team in TEAMS:
                    keys = [spent(key) for key, owner in KEYS.items() if owner == team]
                    assert spent(team) == [sum(one) for one in zip(*keys, strict=True)]
                teams = [spent(team) for team in TEAMS]
                assert spent("org") == [sum(one) for one in zip(*teams, strict=True)]

    # --- inside ---------------------------------------------------------------------------------

    def _holds(self, draws: Draws) -> tuple[Hold, ...]:
        key = draws.one_of(list(KEYS))
        tags = draws.one_of(((), (), ("batch",), ("soft",), ("batch", "soft")))
        mine = (key, KEYS[key], "org_1", *tags)
        rows = [row for row in self.budgets.values() if row.scope_id in mine]
        return holds(rows, self.pair.now_us)

    def _amount(self, draws: Draws, holds: tuple[Hold, ...], most: int) -> int:
        """Any; now and then just what is left of one of the budgets, or one more."""
        hard = [hold for hold in holds if hold.cap_micro is not None]
        if hard and draws.integer(0, 3) == 0:
            left = min(self.pair.model.left(hold) for hold in hard)
            return max(0, left + draws.integer(0, 1))
        return draws.integer(0, most)

    def _open_one(self, draws: Draws) -> str | None:
        ids = self.pair.open_ids
        return draws.one_of(ids) if ids else None

    def _attempts(self, draws: Draws, generation_id: str) -> None:
        reserved = self.pair.model.generations[generation_id].reserved
        for ordinal in range(draws.integer(1, 2)):
            upper = draws.one_of((reserved // 2, reserved, None))
            self.pair.attempt(generation_id, ordinal, upper)


WEIGHTS: Final[dict[str, int]] = {
    "admit": 30,
    "settle": 22,
    "start_attempts": 4,
    "extend": 5,
    "void": 4,
    "settle_again": 4,
    "open_free": 2,
    "burst": 2,
    "sweep": 4,
    "replace_worker": 1,
    "change_limit": 3,
    "harden": 1,
    "archive": 1,
    "wait": 5,
    "roll_over": 2,
}
"""How often each happens in a seeded run."""


def drive(
    world: LedgerWorld, seed: int, operations: int, *, check_every: int = 1, episode: int = 300
) -> int:
    """Run so many operations, in episodes of a fresh database each; how many there were.

    The list is added up at each operation, so that long episodes would cost their square.
    """
    draws = SeededDraws(seed)
    names = list(WEIGHTS)
    weights = list(WEIGHTS.values())
    done = 0
    while done < operations:
        house = House(world)
        try:
            for step in range(min(episode, operations - done)):
                name = draws.random.choices(names, weights)[0]
                act: Any = getattr(house, name)
                act(draws)
                if step % check_every == 0:
                    house.check()
                done += 1
            house.check()
        finally:
            house.close()
            world.clear()
    return done
