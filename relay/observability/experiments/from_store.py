"""Answers of an experiment out of the accounts, on SQLite and PostgreSQL alike.

Blocking: called by a command.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import orjson
from sqlalchemy import Engine, and_, exists, func, or_, select

from relay.observability.experiments.rows import Copied, Notes, Observed, copied_of
from relay.observability.report.rows import ABANDONED
from relay.store.engine import reading
from relay.store.schema import attempts, feedback, generations

PAGE_ROWS: Final = 2000
_OF: Final = generations.c
_UNPRICED: Final = exists().where(
    attempts.c.generation_id == _OF.id, attempts.c.state == "unpriced"
)


def names_in(engine: Engine, since_us: int, until_us: int) -> list[str]:
    """Of the experiments that answers belong to; raises StoreUnavailable."""
    found: set[str] = set()
    query = select(_OF.decision).where(
        _OF.decision.contains('"experiment":"', autoescape=True),
        _OF.admitted_at_us >= since_us,
        _OF.admitted_at_us < until_us,
    )
    with reading(engine) as connection:
        for (text,) in connection.execute(query):
            if decision := _decision(text):
                found.add(str(decision.get("experiment")))
    return sorted(found)


def observed_in(
    engine: Engine, name: str, since_us: int, until_us: int, notes: Notes
) -> Iterator[Observed]:
    """In the order they were admitted, a page at a time.

    Args:
        notes: told of what is not over.

    Raises:
        StoreUnavailable: also in the midst of it.
    """
    mine = _OF.decision.contains(f'"experiment":"{name}"', autoescape=True)
    within = and_(_OF.admitted_at_us >= since_us, _OF.admitted_at_us < until_us)
    with reading(engine) as connection:
        still = select(func.count()).select_from(generations).where(within, _OF.state == "open")
        notes.open = connection.scalar(still) or 0
    after: tuple[int, str] | None = None
    while True:
        query = (
            select(
                _OF.id,
                _OF.admitted_at_us,
                _OF.reason,
                _OF.ttft_us,
                _OF.wall_us,
                _OF.settled_micro,
                _OF.session_id,
                _OF.decision,
                _UNPRICED.label("is_unpriced"),
                feedback.c.score,
            )
            .select_from(generations.outerjoin(feedback, feedback.c.generation_id == _OF.id))
            .where(mine, within, _OF.state != "open")
            .order_by(_OF.admitted_at_us, _OF.id)
            .limit(PAGE_ROWS)
        )
        if after is not None:
            at_us, id_ = after
            query = query.where(
                or_(_OF.admitted_at_us > at_us, and_(_OF.admitted_at_us == at_us, _OF.id > id_))
            )
        with reading(engine) as connection:
            rows = connection.execute(query).all()
        for row in rows:
            if (found := _observed(row, name)) is not None:
                yield found
        if len(rows) < PAGE_ROWS:
            return
        after = rows[-1].admitted_at_us, rows[-1].id


def copied_in(
    engine: Engine, since_us: int, until_us: int, notes: Notes
) -> dict[str, list[Copied]]:
    """Copies of shadows, by shadow; raises StoreUnavailable."""
    found: dict[str, list[Copied]] = {}
    query = select(
        _OF.id,
        _OF.reason,
        _OF.ttft_us,
        _OF.wall_us,
        _OF.settled_micro,
        _OF.decision,
        _UNPRICED.label("is_unpriced"),
    ).where(
        _OF.surface == "shadow",
        _OF.state != "open",
        _OF.wall_us.is_not(None),
        _OF.admitted_at_us >= since_us,
        _OF.admitted_at_us < until_us,
    )
    with reading(engine) as connection:
        for row in connection.execute(query):
            told = _decision(row.decision or "{}").get("shadow")
            if not isinstance(told, dict):
                continue
            cost = None if row.is_unpriced else row.settled_micro
            try:
                one = copied_of(row.id, row.reason or "", row.ttft_us, row.wall_us, cost, told)
            except TypeError:
                notes.unreadable += 1
                continue
            found.setdefault(str(told.get("name", "")), []).append(one)
    return found


def _decision(text: str) -> dict[str, Any]:
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def _observed(row: Any, name: str) -> Observed | None:
    decision = _decision(row.decision)
    if decision.get("experiment") != name:
        return None
    return Observed(
        generation_id=row.id,
        arm=str(decision.get("arm", "")),
        unit=str(decision.get("unit") or row.id),
        at_us=row.admitted_at_us,
        reason=ABANDONED if row.wall_us is None else row.reason or "",
        ttft_us=row.ttft_us,
        wall_us=row.wall_us or 0,
        cost_micro=None if row.is_unpriced else row.settled_micro,
        finish=str(decision.get("finish", "")),
        score=row.score,
    )
