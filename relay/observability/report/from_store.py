"""Generations out of the accounts, on SQLite and PostgreSQL alike.

They are read a page at a time, each in a short transaction: a report over a year holds nothing that
the relay waits for, and its memory stays the same. Rows without an account of time (`open`) are
counted and left out.

Blocking: called in a thread, or by a command.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Any, Final

import orjson
from sqlalchemy import Connection, Engine, and_, func, or_, select

from relay.observability.report.rows import ABANDONED, Generation, SourceNotes, Tried
from relay.outcome import COPIES
from relay.store import schema
from relay.store.engine import reading
from relay.store.schema import attempts, generations
from relay.store.usage_fields import (
    Selection,
    UsageError,
    attempt_conditions,
    generation_conditions,
)

PAGE_ROWS: Final = 2000

_OF: Final = generations.c
_GENERATION: Final = (
    _OF.id,
    _OF.admitted_at_us,
    _OF.alias,
    _OF.team_id,
    _OF.key_id,
    _OF.reason,
    _OF.ttft_us,
    _OF.wall_us,
)
_AT: Final = attempts.c
_ATTEMPT: Final = (
    _AT.generation_id,
    _AT.provider,
    _AT.model,
    _AT.role,
    _AT.outcome,
    _AT.reason,
    _AT.http_status,
    _AT.is_winner,
    _AT.started_us,
    _AT.ended_us,
    _AT.phases,
    _AT.cost_micro,
    _AT.upper_micro,
    _AT.state,
)


_IS_ASKED: Final = _OF.surface != COPIES
"""By somebody: copies of requests burn nobody's objective."""


def generations_of(
    engine: Engine, selection: Selection, notes: SourceNotes, *, page_rows: int = PAGE_ROWS
) -> Iterator[Generation]:
    """In the order they were admitted.

    Args:
        selection: its dimensions are those of generations.
        notes: told of what is open, and of names.

    Raises:
        UsageError: attempts are selected, or a dimension is not there.
        StoreUnavailable: also in the midst of it.
    """
    if attempt_conditions(selection):
        raise UsageError(
            "where: provider, model, role, outcome and charge are of attempts; a report is of"
            " generations, and its scorecard has every provider"
        )
    with reading(engine) as connection:
        _look(connection, selection, notes)
    after: tuple[int, str] | None = None
    while True:
        with reading(engine) as connection:
            owners, page = _page(connection, selection, after, page_rows)
        yield from page
        if len(owners) < page_rows:
            return
        after = owners[-1].admitted_at_us, owners[-1].id


def _look(connection: Connection, selection: Selection, notes: SourceNotes) -> None:
    still = select(func.count()).select_from(generations).where(_OF.state == "open", _IS_ASKED)
    still = still.where(*generation_conditions(connection, selection))
    notes.open = connection.scalar(still) or 0
    for table in (schema.teams, schema.keys):
        for row in connection.execute(select(table.c.id, table.c.name)):
            notes.names[row.id] = f"{row.name} ({row.id})"


def _page(
    connection: Connection, selection: Selection, after: tuple[int, str] | None, page_rows: int
) -> tuple[list[Any], list[Generation]]:
    query = (
        select(*_GENERATION)
        .where(
            _OF.state != "open",
            _IS_ASKED,
            *generation_conditions(connection, selection),
        )
        .order_by(_OF.admitted_at_us, _OF.id)
        .limit(page_rows)
    )
    if after is not None:
        at_us, id_ = after
        is_later = or_(_OF.admitted_at_us > at_us, and_(_OF.admitted_at_us == at_us, _OF.id > id_))
        # The first says what the second does, in a form that an index is used for.
        query = query.where(_OF.admitted_at_us >= at_us, is_later)
    owners = list(connection.execute(query))
    asked = (
        select(*_ATTEMPT)
        .where(_AT.generation_id.in_([owner.id for owner in owners]))
        .order_by(_AT.generation_id, _AT.ordinal)
    )
    tried = {
        id_: tuple(_tried(row) for row in rows)
        for id_, rows in groupby(connection.execute(asked), key=lambda row: row[0])
    }
    return owners, [_generation(owner, tried.get(owner.id, ())) for owner in owners]


def _generation(owner: Any, tried: tuple[Tried, ...]) -> Generation:
    _, admitted_at_us, alias, team_id, key_id, reason, ttft_us, wall_us = owner
    if wall_us is None:  # its worker died
        wall_us, reason = 0, ABANDONED
    return Generation(
        received_us=admitted_at_us,
        alias=alias,
        team=team_id,
        key=key_id,
        reason=reason or "",
        ttft_us=ttft_us,
        wall_us=wall_us,
        tried=tried,
    )


def _tried(row: Any) -> Tried:
    (
        _,
        provider,
        model,
        role,
        outcome,
        reason,
        http_status,
        is_winner,
        started_us,
        ended_us,
        phases,
        cost_micro,
        upper_micro,
        state,
    ) = row
    return Tried(
        provider,
        model,
        role,
        outcome or "abandoned",
        reason or "",
        http_status or 0,
        bool(is_winner),
        started_us,
        started_us if ended_us is None else ended_us,
        _first_us(phases),
        None if state == "unpriced" else cost_micro,
        upper_micro,
        state == "estimated",
    )


def _first_us(phases: str | None) -> int | None:
    """Since its start, of an attempt that came to its first content."""
    if not phases or "first_content" not in phases:
        return None
    try:
        return int(sum(orjson.loads(phases).values()))
    except (orjson.JSONDecodeError, AttributeError, TypeError, ValueError):
        return None
