"""The counters of budgets, added up again from the generations that they stand for.

`budget_periods` is a sum that is kept so that nobody has to add up; it must be what adding up
gives. `relay store check` compares, `--repair` writes what was found, and after any doubt about
either this decides: rows of generations are written once and never changed, counters often.

Blocking: called in a thread.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, TextClause, select, text

from relay.store import schema

_SQLITE: Final = """
SELECT hold.budget_id, hold.period_start_s,
    sum(CASE WHEN state = 'open' THEN 0 ELSE coalesce(settled_micro, 0) END),
    sum(CASE WHEN state = 'open' THEN reserved_micro ELSE 0 END),
    sum(CASE WHEN state = 'open' THEN 0
        ELSE max(0, coalesce(settled_micro, 0) - reserved_micro) END)
FROM generations JOIN (
    SELECT generations.id AS id,
        json_extract(one.value, '$[0]') AS budget_id,
        json_extract(one.value, '$[1]') AS period_start_s
    FROM generations, json_each(generations.holds) AS one
    WHERE generations.holds <> '[]'
) AS hold ON hold.id = generations.id
WHERE hold.period_start_s >= :kept_since_s
GROUP BY 1, 2
"""

_POSTGRESQL: Final = """
SELECT one ->> 0, (one ->> 1)::bigint,
    sum(CASE WHEN state = 'open' THEN 0 ELSE coalesce(settled_micro, 0) END)::bigint,
    sum(CASE WHEN state = 'open' THEN reserved_micro ELSE 0 END)::bigint,
    sum(CASE WHEN state = 'open' THEN 0
        ELSE greatest(0, coalesce(settled_micro, 0) - reserved_micro) END)::bigint
FROM generations, json_array_elements(generations.holds::json) AS one
WHERE generations.holds <> '[]' AND (one ->> 1)::bigint >= :kept_since_s
GROUP BY 1, 2
"""


class PeriodSums(NamedTuple):
    """Of one budget in one period, micro-dollars."""

    settled_micro: int = 0
    reserved_micro: int = 0
    overrun_micro: int = 0


class Drift(NamedTuple):
    """A period whose counters are not the sum of its generations."""

    budget_id: str
    period_start_s: int
    stored: PeriodSums
    summed: PeriodSums


def drifts(connection: Connection, *, kept_since_s: int = 0) -> list[Drift]:
    """Every period whose stored counters differ from the sum, in the order of budgets and periods.

    Args:
        connection: in a transaction that shows one moment's state (`relay.store.engine.reading`).
        kept_since_s: of periods that begin earlier, `total` among them, some generations may have
            been deleted, so that nothing is said of them; 0 where none ever were.
    """
    stored = _stored(connection, kept_since_s)
    summed = _summed(connection, kept_since_s)
    nothing = PeriodSums()
    return [
        Drift(*key, stored.get(key, nothing), summed.get(key, nothing))
        for key in sorted(stored.keys() | summed.keys())
        if stored.get(key, nothing) != summed.get(key, nothing)
    ]


def repair(connection: Connection, *, kept_since_s: int = 0) -> list[Drift]:
    """Write the sums in place of the counters that differ; those are returned.

    Args:
        connection: in a transaction that writes (`relay.store.engine.writing`), and that its owner
            commits. On PostgreSQL generations and counters are locked against writers to its end,
            on SQLite the transaction itself does it; a worker that runs waits, and remembers no
            counters that another has written.
        kept_since_s: as of `drifts`.
    """
    if connection.dialect.name == "postgresql":
        # In the order in which the ledger takes rows of them.
        connection.execute(text("LOCK TABLE budget_periods, generations IN EXCLUSIVE MODE"))
    found = drifts(connection, kept_since_s=kept_since_s)
    table = schema.budget_periods
    for drift in found:
        values = drift.summed._asdict()
        changed = connection.execute(
            table.update()
            .where(
                table.c.budget_id == drift.budget_id,
                table.c.period_start_s == drift.period_start_s,
            )
            .values(**values)
        )
        if changed.rowcount == 0:
            connection.execute(
                table.insert().values(
                    budget_id=drift.budget_id, period_start_s=drift.period_start_s, **values
                )
            )
    return found


def _stored(connection: Connection, kept_since_s: int) -> dict[tuple[str, int], PeriodSums]:
    columns = schema.budget_periods.c
    rows = connection.execute(
        select(
            columns.budget_id,
            columns.period_start_s,
            columns.settled_micro,
            columns.reserved_micro,
            columns.overrun_micro,
        ).where(columns.period_start_s >= kept_since_s)
    )
    return _by_key(rows)


def _summed(connection: Connection, kept_since_s: int) -> dict[tuple[str, int], PeriodSums]:
    rows = connection.execute(_statement(connection), {"kept_since_s": kept_since_s})
    return _by_key(rows)


def _statement(connection: Connection) -> TextClause:
    return text(_POSTGRESQL if connection.dialect.name == "postgresql" else _SQLITE)


def _by_key(rows: Any) -> dict[tuple[str, int], PeriodSums]:
    return {(row[0], int(row[1])): PeriodSums(*map(int, row[2:])) for row in rows}
