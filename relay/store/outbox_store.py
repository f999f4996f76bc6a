"""The outbox and the look for thresholds, on either database.

A threshold is taken by raising `budget_periods.alerted_percent`, which of several workers one can
do, in the transaction that writes what is to be told. A message is claimed by moving the moment at
which it is due: a worker that dies with it loses it to the others when that moment comes. So every
message is told at least once, and twice only by a worker that died between telling it and noting
so; `dedupe` tells the receiver.

Blocking: called in a thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import orjson
from sqlalchemy import Connection, Engine, Row, select, tuple_
from sqlalchemy.dialects import postgresql, sqlite

from relay.governance.alerts import KIND, Crossing, Message, crossed
from relay.store import schema
from relay.store.engine import reading, writing

LOOK_BACK_S: Final = 40 * 86_400
"""Periods that began before are not looked at any more: what settles this late is days old."""
MOST_AT_ONCE: Final = 1_000


class OutboxStore:
    """
    Args:
        engine: of `relay.store.engine`; its owner disposes of it.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def notice(self, now_us: int, payload: Callable[[Crossing, int], str] | None) -> list[Crossing]:
        """Look for thresholds that were come to, and write down what is to be told of each.

        Args:
            payload: makes the message; None where nobody is to be told outside, so that they are
                only marked.

        Returns:
            Those that this call was the first to notice.

        Raises:
            StoreUnavailable: some of them may be written; the others are found the next time.
        """
        found: list[Crossing] = []
        for row in self._near_thresholds(now_us):
            percents = _percents(row.alert_percents)
            due = crossed(row.settled_micro, row.limit_micro, percents, row.alerted_percent)
            if due:
                # Each on its own: rows of several budgets in one transaction would have to be
                # taken in the order in which the accounts take them.
                found += self._take(row, due, now_us, payload)
        return found

    def _near_thresholds(self, now_us: int) -> Iterator[Row[Any]]:
        """Page by page: of thousands that are near one, no few may hide the others."""
        after = ("", -1)
        while True:
            with reading(self._engine) as connection:
                rows = connection.execute(_near_a_threshold(now_us, *after)).all()
            yield from rows
            if len(rows) < MOST_AT_ONCE:
                return
            after = (rows[-1].id, rows[-1].period_start_s)

    def _take(
        self,
        row: Row[Any],
        due: tuple[int, ...],
        now_us: int,
        payload: Callable[[Crossing, int], str] | None,
    ) -> list[Crossing]:
        crossings = [_crossing(row, percent) for percent in due]
        table = schema.budget_periods
        with writing(self._engine) as connection:
            taken = connection.execute(
                table.update()
                .where(
                    table.c.budget_id == row.id,
                    table.c.period_start_s == row.period_start_s,
                    table.c.alerted_percent == row.alerted_percent,
                )
                .values(alerted_percent=due[-1])
            )
            if taken.rowcount == 0:  # another worker was first
                return []
            if payload is not None:
                for crossing in crossings:
                    _put(connection, KIND, crossing.dedupe, payload(crossing, now_us), now_us)
        return crossings

    def claim(self, now_us: int, hold_us: int, limit: int) -> list[Message]:
        """Take messages that are due, the oldest first.

        Args:
            hold_us: how long they are this worker's; after that they are due again.

        Raises:
            StoreUnavailable
        """
        table = schema.outbox
        columns = table.c
        due = (
            select(columns.id)
            .where(
                columns.delivered_at_us.is_(None),
                columns.given_up_at_us.is_(None),
                columns.due_at_us <= now_us,
            )
            .order_by(columns.due_at_us)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        with writing(self._engine) as connection:
            ids = list(connection.scalars(due))
            if not ids:
                return []
            rows = connection.execute(
                table.update()
                .where(columns.id.in_(ids))
                .values(due_at_us=now_us + hold_us, tries=columns.tries + 1)
                .returning(
                    columns.id,
                    columns.kind,
                    columns.dedupe,
                    columns.payload,
                    columns.created_at_us,
                    columns.tries,
                )
            ).all()
        return sorted(Message(*row) for row in rows)

    def delivered(self, message_id: int, now_us: int) -> None:
        """It was told. Raises StoreUnavailable."""
        self._mark(message_id, delivered_at_us=now_us)

    def postpone(self, message_id: int, due_at_us: int) -> None:
        """It could not be told, and is due again then. Raises StoreUnavailable."""
        self._mark(message_id, due_at_us=due_at_us)

    def give_up(self, message_id: int, now_us: int) -> None:
        """It will not be told any more. Raises StoreUnavailable."""
        self._mark(message_id, given_up_at_us=now_us)

    def _mark(self, message_id: int, **values: int) -> None:
        table = schema.outbox
        with writing(self._engine) as connection:
            connection.execute(
                table.update()
                .where(table.c.id == message_id, table.c.delivered_at_us.is_(None))
                .values(**values)
            )

    def forget(self, before_us: int) -> int:
        """Delete messages that were made before and are done with; how many.

        Raises:
            StoreUnavailable
        """
        table = schema.outbox
        is_done = table.c.delivered_at_us.is_not(None) | table.c.given_up_at_us.is_not(None)
        with writing(self._engine) as connection:
            deleted = connection.execute(
                table.delete().where(is_done, table.c.created_at_us < before_us)
            )
        return deleted.rowcount


def _near_a_threshold(now_us: int, after_id: str, after_start_s: int) -> Any:
    """Counters of budgets that have thresholds, as far as they may have come to a new one; a page
    of them."""
    budgets, periods = schema.budgets.c, schema.budget_periods.c
    since_s = now_us // 1_000_000 - LOOK_BACK_S
    # Divided before it is multiplied, so that no limit is too large for 64 bits.
    next_micro = budgets.limit_micro // 100 * (periods.alerted_percent + 1)
    return (
        select(
            budgets.id,
            budgets.scope,
            budgets.scope_id,
            budgets.organisation_id,
            budgets.period,
            budgets.time_zone,
            budgets.limit_micro,
            budgets.is_hard,
            budgets.alert_percents,
            periods.period_start_s,
            periods.settled_micro,
            periods.reserved_micro,
            periods.alerted_percent,
        )
        .join(schema.budget_periods, periods.budget_id == budgets.id)
        .where(
            budgets.archived_at_us.is_(None),
            budgets.alert_percents != "[]",
            periods.settled_micro > 0,
            periods.settled_micro >= next_micro,
            (periods.period_start_s >= since_s) | (periods.period_start_s == 0),
            tuple_(budgets.id, periods.period_start_s) > tuple_(after_id, after_start_s),
        )
        .order_by(budgets.id, periods.period_start_s)
        .limit(MOST_AT_ONCE)
    )


def _percents(text: str) -> tuple[int, ...]:
    """Of a row; what is no list of numbers has no thresholds."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return ()
    return tuple(one for one in value if type(one) is int) if isinstance(value, list) else ()


def _crossing(row: Row[Any], percent: int) -> Crossing:
    return Crossing(
        budget_id=row.id,
        scope=row.scope,
        scope_id=row.scope_id,
        organisation_id=row.organisation_id,
        period=row.period,
        time_zone=row.time_zone,
        limit_micro=row.limit_micro,
        is_hard=bool(row.is_hard),
        period_start_s=row.period_start_s,
        spent_micro=row.settled_micro,
        reserved_micro=row.reserved_micro,
        percent=percent,
    )


def _put(connection: Connection, kind: str, dedupe: str, payload: str, now_us: int) -> None:
    """Nothing where it is there."""
    dialect: Any = postgresql if connection.dialect.name == "postgresql" else sqlite
    connection.execute(
        dialect.insert(schema.outbox)
        .values(kind=kind, dedupe=dedupe, payload=payload, created_at_us=now_us, due_at_us=now_us)
        .on_conflict_do_nothing(index_elements=[schema.outbox.c.dedupe])
    )
