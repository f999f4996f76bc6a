"""What the counters of budgets must be: sums over generations, which are the truth, and what is
kept of those that were deleted (`relay.store.retention`)."""

from __future__ import annotations

from collections import defaultdict
from typing import NamedTuple

import orjson
from sqlalchemy import Connection, case, func, select

from relay.store.schema import budget_periods, deleted_sums, generations


class Difference(NamedTuple):
    """One counter that is not its sum; micro-dollars."""

    budget_id: str
    period_start_s: int
    counter: str
    kept_micro: int
    sum_micro: int

    def __str__(self) -> str:
        return (
            f"budget {self.budget_id} in the period from {self.period_start_s}: {self.counter} is"
            f" {self.kept_micro}, and the sum of its accounts {self.sum_micro} micro-dollars"
        )


_NAMES = ("settled", "reserved", "overrun")
_Sums = dict[tuple[str, int], tuple[int, int, int]]


def differences(connection: Connection) -> list[Difference]:
    """Counters that are not their sums, in one moment of the database (`engine.reading`)."""
    kept = {
        (row[0], row[1]): (row[2], row[3], row[4])
        for row in connection.execute(
            select(
                budget_periods.c.budget_id,
                budget_periods.c.period_start_s,
                budget_periods.c.settled_micro,
                budget_periods.c.reserved_micro,
                budget_periods.c.overrun_micro,
            )
        )
    }
    summed = sums(connection)
    none = (0, 0, 0)
    return [
        Difference(key[0], key[1], name, is_kept, is_summed)
        for key in sorted(kept.keys() | summed.keys())
        for name, is_kept, is_summed in zip(
            _NAMES, kept.get(key, none), summed.get(key, none), strict=True
        )
        if is_kept != is_summed
    ]


def sums(connection: Connection) -> _Sums:
    """Settled, reserved and overrun of every budget in every period, by its generations and those
    that were deleted."""
    of = generations.c
    is_open = of.state == "open"
    beyond = of.settled_micro - of.reserved_micro
    rows = connection.execute(
        select(
            of.holds,
            func.sum(case((is_open, 0), else_=of.settled_micro)),
            func.sum(case((is_open, of.reserved_micro), else_=0)),
            func.sum(case((is_open, 0), (beyond > 0, beyond), else_=0)),
        )
        .where(of.holds != "[]")
        .group_by(of.holds)
    )
    found: dict[tuple[str, int], list[int]] = defaultdict(lambda: [0, 0, 0])
    for holds, *amounts in rows:
        for budget_id, period_start_s in orjson.loads(holds):
            one = found[budget_id, period_start_s]
            for index, amount in enumerate(amounts):
                one[index] += int(amount or 0)
    kept = deleted_sums.c
    for budget_id, period_start_s, settled_micro, overrun_micro in connection.execute(
        select(kept.budget_id, kept.period_start_s, kept.settled_micro, kept.overrun_micro)
    ):
        one = found[budget_id, period_start_s]
        one[0] += settled_micro
        one[2] += overrun_micro
    return {key: (one[0], one[1], one[2]) for key, one in found.items()}
