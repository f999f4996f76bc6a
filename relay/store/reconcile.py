"""Our side of an invoice: what attempts at a provider cost, by day and model.

A row is one request to the provider, which is what it bills; a generation may have several.

Blocking: called in a thread.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import Final

from sqlalchemy import BigInteger, Connection, and_, case, func, literal, or_, select

from relay.governance.invoice import Key, Ours
from relay.governance.periods import zone
from relay.store.schema import attempts, generations
from relay.store.usage_fields import Selection, UsageError, generation_conditions
from relay.store.usage_time import HOUR_S, TimeColumns

_US: Final = 1_000_000
_LONGEST_US: Final = HOUR_S * _US
"""From the admission of a generation to its last attempt."""


def ours(
    connection: Connection, provider: str, selection: Selection, time_zone: str = "UTC"
) -> dict[Key, Ours]:
    """
    Args:
        provider: the row of `providers` that the invoice is for.
        selection: of generations; a range at least.
        time_zone: whose days the invoice has.

    Raises:
        UsageError: no such time zone, or no range.
    """
    try:
        where = zone(time_zone)
    except ValueError as error:
        raise UsageError(f"time_zone: {error}") from None
    since_us, until_us = selection.since_us, selection.until_us
    if since_us is None or until_us is None or since_us >= until_us:
        raise UsageError("range: a beginning and a later end are expected")
    of = attempts.c
    # A generation admitted before midnight may ask a provider after it.
    wider = replace(selection, since_us=since_us - _LONGEST_US)
    at_us = generations.c.admitted_at_us + of.started_us
    times = TimeColumns(where, since_us, until_us)
    day = times.column("day", at_us)
    before = times.column("day", at_us - literal(HOUR_S * _US, BigInteger))
    after = times.column("day", at_us + literal(HOUR_S * _US, BigInteger))
    cost = func.coalesce(of.cost_micro, 0)
    # What the provider has certainly not billed it does not count as a request either.
    is_billed = of.state != "free"

    each = (
        select(
            day.label("day"),
            or_(before != day, after != day).label("is_edge"),
            of.model,
            of.state,
            cost.label("cost_micro"),
            func.coalesce(of.upper_micro, cost).label("upper_micro"),
            func.coalesce(of.prompt_tokens, 0).label("prompt"),
            func.coalesce(of.cached_tokens, 0).label("cached"),
            func.coalesce(of.cache_write_tokens, 0).label("written"),
            func.coalesce(of.output_tokens, 0).label("output"),
        )
        .join(generations, and_(generations.c.id == of.generation_id))
        .where(
            *generation_conditions(connection, wider),
            at_us >= since_us,
            at_us < until_us,
            of.provider == provider,
            generations.c.state != "open",
            is_billed,
        )
        .subquery("each")
    )
    one = each.c
    rows = connection.execute(
        select(
            one.day,
            one.model,
            func.sum(one.cost_micro),
            func.sum(one.prompt),
            func.sum(one.prompt - one.cached - one.written),
            func.sum(one.cached),
            func.sum(one.output),
            func.count(),
            func.sum(one.upper_micro),
            func.sum(case((one.state == "estimated", 1), else_=0)),
            func.sum(case((one.state == "unpriced", 1), else_=0)),
            func.sum(case((one.is_edge, one.cost_micro), else_=0)),
        ).group_by(one.day, one.model)
    )
    return {
        (date.fromisoformat(times.label("day", row[0])), row[1]): Ours(*map(int, row[2:]))
        for row in rows
    }


def providers(connection: Connection, selection: Selection) -> list[str]:
    """Those that anything was asked of in the selection."""
    query = (
        select(attempts.c.provider)
        .join(generations, generations.c.id == attempts.c.generation_id)
        .where(*generation_conditions(connection, selection))
        .distinct()
    )
    return sorted(connection.scalars(query))
