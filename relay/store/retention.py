"""Accounts that are deleted when they are old, and what says who somebody was taken out of them.

`Retention` deletes generations with their attempts and what was said of them, a few hundred at a
time, each batch a short transaction of its own, so that whoever books is never kept waiting. What
is open stays. What budgets were charged stays too, as sums in `deleted_sums`, written by the
transaction that deletes: counters can still be checked and rebuilt (`relay.store.rebuild`).

`forget` is for a person's request: labels, session, turn and trace of the generations that are
selected are blanked, in what is open too, with the comments on them and the name by which an
experiment knows whose they are; who paid how much for what stays. Backups, exports and the audit
log are not touched.

Blocking: called in a thread. Several may run at once.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import orjson
from sqlalchemy import Connection, Engine, delete, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from relay.store.engine import writing
from relay.store.schema import attempts, deleted_sums, feedback, generations
from relay.store.usage_fields import Selection, UsageError, generation_conditions

BATCH_ROWS: Final = 200
"""Generations a transaction: some milliseconds."""
PAUSE_S: Final = 0.02
"""After a batch, for others who wait for the lock."""
DAY_US: Final = 86_400_000_000
_BLANK: Final = {"labels": "{}", "session_id": "", "turn_id": "", "trace_id": ""}
_UNIT: Final = '"unit":'
"""In a decision: whose requests are in one arm of an experiment."""
FORGOTTEN_BY: Final = ("organisation", "team", "key", "session")
"""What may be forgotten by, and `label:NAME`."""

Pause = Callable[[float], object]


class Retention:
    """Deletes what is older than a number of days.

    Args:
        engine: of the store; stays its owner's.
        days: 1 or more, counted back from `step`'s moment, by when generations were admitted.
        pause: waits between batches; raises to end the work.
    """

    def __init__(self, engine: Engine, days: int, pause: Pause = time.sleep) -> None:
        if days < 1:
            raise ValueError("days: 1 or more is expected")
        self._engine = engine
        self._days = days
        self._pause = pause

    def step(self, now_us: int) -> int:
        """Delete all that is too old now.

        Returns:
            How many generations.

        Raises:
            StoreUnavailable: the batches before stay done.
        """
        return purge(self._engine, now_us - self._days * DAY_US, pause=self._pause)


def purge(
    engine: Engine, before_us: int, *, batch_rows: int = BATCH_ROWS, pause: Pause = time.sleep
) -> int:
    """Delete generations that were admitted before a moment and are not open; returns how many.

    Raises:
        StoreUnavailable: the batches before stay done.
    """
    deleted = 0
    while True:
        with _erasing(engine) as connection:
            count = _purge_batch(connection, before_us, batch_rows)
        deleted += count
        if count < batch_rows:
            return deleted
        pause(PAUSE_S)


def _purge_batch(connection: Connection, before_us: int, batch_rows: int) -> int:
    of = generations.c
    rows = connection.execute(
        select(of.id, of.holds, of.settled_micro, of.reserved_micro)
        .where(of.admitted_at_us < before_us, of.state != "open")
        .order_by(of.admitted_at_us)
        .limit(batch_rows)
        # Of PostgreSQL: what another deletes now is his to keep the sums of.
        .with_for_update(skip_locked=True)
    ).all()
    sums: dict[tuple[str, int], list[int]] = defaultdict(lambda: [0, 0, 0])
    for _, holds, settled_micro, reserved_micro in rows:
        for budget_id, period_start_s in orjson.loads(holds or "[]"):
            one = sums[budget_id, period_start_s]
            one[0] += settled_micro or 0
            one[1] += max(0, (settled_micro or 0) - reserved_micro)
            one[2] += 1
    for (budget_id, period_start_s), amounts in sorted(sums.items()):
        _keep(connection, budget_id, period_start_s, amounts)
    ids = [row.id for row in rows]
    connection.execute(delete(attempts).where(attempts.c.generation_id.in_(ids)))
    connection.execute(delete(feedback).where(feedback.c.generation_id.in_(ids)))
    connection.execute(delete(generations).where(of.id.in_(ids)))
    return len(ids)


def _keep(connection: Connection, budget_id: str, period_start_s: int, amounts: list[int]) -> None:
    names = ("settled_micro", "overrun_micro", "generations")
    insert = postgres_insert if connection.dialect.name == "postgresql" else sqlite_insert
    adding = insert(deleted_sums).values(
        budget_id=budget_id,
        period_start_s=period_start_s,
        **dict(zip(names, amounts, strict=True)),
    )
    connection.execute(
        adding.on_conflict_do_update(
            index_elements=["budget_id", "period_start_s"],
            set_={name: deleted_sums.c[name] + adding.excluded[name] for name in names},
        )
    )


def counted_before(connection: Connection, before_us: int) -> int:
    """How many generations `purge` would delete."""
    of = generations.c
    query = select(func.count()).where(of.admitted_at_us < before_us, of.state != "open")
    return int(connection.scalar(query) or 0)


# --- a person's request ---------------------------------------------------------------------


def forget(
    engine: Engine,
    selection: Selection,
    *,
    batch_rows: int = BATCH_ROWS,
    pause: Pause = time.sleep,
) -> int:
    """Blank labels, session, turn and trace of the generations selected; returns how many changed.

    A session that is still going on writes more of them: end it first, or call again.

    Raises:
        UsageError: nothing but a range is selected, or something other than `FORGOTTEN_BY`.
        StoreUnavailable: the batches before stay done.
    """
    checked_forget(selection)
    of, said = generations.c, feedback.c
    forgotten = 0
    after = ""
    while True:
        with _erasing(engine) as connection:
            rows = connection.execute(
                select(of.id, of.decision)
                .where(of.id > after, *generation_conditions(connection, selection))
                .where(
                    or_(
                        *(of[name] != blank for name, blank in _BLANK.items()),
                        of.decision.contains(_UNIT, autoescape=True),
                        of.id.in_(select(said.generation_id).where(said.comment != "")),
                    )
                )
                .order_by(of.id)
                .limit(batch_rows)
            ).all()
            ids = [row.id for row in rows]
            connection.execute(update(generations).where(of.id.in_(ids)).values(**_BLANK))
            connection.execute(
                update(feedback).where(said.generation_id.in_(ids)).values(comment="")
            )
            for id_, decision in rows:
                if decision and _UNIT in decision:
                    blanked = _without_unit(decision)
                    connection.execute(
                        update(generations).where(of.id == id_).values(decision=blanked)
                    )
        forgotten += len(ids)
        if len(ids) < batch_rows:
            return forgotten
        after = ids[-1]
        pause(PAUSE_S)


def _without_unit(decision: str) -> str:
    told = orjson.loads(decision)
    told.pop("unit", None)
    return orjson.dumps(told).decode()


def checked_forget(selection: Selection) -> None:
    """
    Raises:
        UsageError
    """
    allowed = ", ".join((*FORGOTTEN_BY, "label:NAME"))
    named = [name for name in selection.where if name not in ("organisation", "team")]
    if not named:
        raise UsageError(f"where: name whom to forget by one of {allowed}")
    for name, values in selection.where.items():
        if name not in FORGOTTEN_BY and not name.startswith("label:"):
            raise UsageError(f"{name[:64]!r} is none of {allowed}")
        if "" in values:
            raise UsageError(f"{name}: an empty value would be everybody who has none")


@contextmanager
def _erasing(engine: Engine) -> Iterator[Connection]:
    """A transaction that writes; SQLite overwrites with zeros what is deleted in it, else it would
    stay readable in the file (https://sqlite.org/pragma.html#pragma_secure_delete)."""
    with writing(engine) as connection:
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("PRAGMA secure_delete = ON")
        yield connection
