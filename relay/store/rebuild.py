"""Counters of budgets set to the sums that they must be (`relay.store.counters`).

Rows of generations are written once and never changed, counters often: after any doubt about the
two, the rows decide. What was told of a budget (`alerted_percent`) stays.

Blocking: called in a thread.
"""

from __future__ import annotations

from sqlalchemy import Connection, text

from relay.store.counters import Difference, differences
from relay.store.schema import budget_periods

_COLUMNS = {
    "settled": budget_periods.c.settled_micro,
    "reserved": budget_periods.c.reserved_micro,
    "overrun": budget_periods.c.overrun_micro,
}


def drifts(connection: Connection, *, kept_since_s: int = 0) -> list[Difference]:
    """Counters that are not their sums.

    Args:
        connection: in a transaction that shows one moment's state (`relay.store.engine.reading`).
        kept_since_s: of periods that began earlier, `total` among them, generations may have been
            deleted by other means than `relay.store.retention`, which keeps their sums, so that
            nothing can be said of them; 0 where none ever were.
    """
    return [one for one in differences(connection) if one.period_start_s >= kept_since_s]


def repair(connection: Connection, *, kept_since_s: int = 0) -> list[Difference]:
    """Write the sums in place of the counters that differ; those are returned.

    Args:
        connection: in a transaction that writes (`relay.store.engine.writing`) and that its owner
            commits. Nobody else writes to its end: SQLite has one writer, on PostgreSQL the tables
            are locked, in the order in which the accounts take rows of them. Workers that run wait,
            and read again what they remember of counters.
        kept_since_s: as of `drifts`.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("LOCK TABLE budget_periods, generations IN EXCLUSIVE MODE"))
    found = drifts(connection, kept_since_s=kept_since_s)
    for one in found:
        values = {_COLUMNS[one.counter].name: one.sum_micro}
        changed = connection.execute(
            budget_periods.update()
            .where(
                budget_periods.c.budget_id == one.budget_id,
                budget_periods.c.period_start_s == one.period_start_s,
            )
            .values(**values)
        )
        if changed.rowcount == 0:
            connection.execute(
                budget_periods.insert().values(
                    budget_id=one.budget_id, period_start_s=one.period_start_s, **values
                )
            )
    return found
