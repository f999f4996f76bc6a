"""Usage added up: by any dimensions, over any selection, on either database.

    query = UsageQuery(by=("team", "day"), selection=Selection(since_us=...), time_zone="UTC")
    with reading(engine) as connection:
        report = ask(connection, query)

Money, tokens and attempts are sums over rows of attempts: over the groups of any dimension but
`tag` they add up to the whole. A generation is counted as one request in every group that has a
part of it, so requests by provider, model, role, outcome or charge, and all sums by tag, may add up
to more. What is open has not cost anything yet and is only counted, with what is put aside for it.

Percentiles are those of the nearest rank: a value that was measured, the same on both databases.

Blocking: called in a thread.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Label,
    Select,
    Subquery,
    and_,
    case,
    func,
    literal,
    select,
    true,
)

from relay.governance.periods import zone
from relay.store import schema
from relay.store.schema import attempts, generations
from relay.store.usage_fields import (
    OF_ATTEMPT,
    TIMES,
    Selection,
    UsageError,
    attempt_conditions,
    checked,
    generation_column,
    generation_conditions,
    tags_of,
)
from relay.store.usage_time import TimeColumns

MAX_BY: Final = 6
MAX_GROUPS: Final = 10_000
PERCENTILES: Final = {"ttft_p50_us": 50, "ttft_p95_us": 95}
SUMS: Final = (
    "requests",
    "cancelled",
    "failed",
    "open",
    "open_reserved_micro",
    "attempts",
    "hedges",
    "unpriced",
    "cost_micro",
    "upper_micro",
    "estimated_micro",
    "losers_micro",
    "prompt_tokens",
    "cached_tokens",
    "cache_write_tokens",
    "output_tokens",
    "reasoning_tokens",
)
"""In the order in which they are shown.

`upper_micro` is the most that all can have cost, `estimated_micro` the part of `cost_micro` that is
an estimate, `losers_micro` the part of attempts that did not win; `unpriced` counts attempts of
which nobody knows what they cost."""
MEASURES: Final = (*SUMS, *PERCENTILES)
_NAMED: Final = {
    "organisation": schema.organisations,
    "team": schema.teams,
    "key": schema.keys,
}


@dataclass(frozen=True, slots=True)
class UsageQuery:
    """What is asked for."""

    by: tuple[str, ...] = ()
    selection: Selection = field(default_factory=Selection)
    time_zone: str = "UTC"
    order: str = ""
    """A dimension or a measure, `-` before it for the largest first; "": times in their order, else
    the dearest first."""
    limit: int = 100


class Group(NamedTuple):
    """One line of a report."""

    by: Mapping[str, str]
    """The value of each dimension; "" where rows have none."""
    sums: Mapping[str, int | None]
    """`MEASURES`; percentiles are None where nothing was measured."""
    names: Mapping[str, str]
    """Of organisations, teams and keys, where they are known."""


class UsageReport(NamedTuple):
    """What was found."""

    groups: tuple[Group, ...]
    total: Mapping[str, int | None]
    """Over everything selected, groups beyond the limit too; each generation once."""
    has_more: bool
    """There are more groups than the limit."""


def ask(connection: Connection, query: UsageQuery) -> UsageReport:
    """
    Args:
        connection: in a transaction of one moment's state (`relay.store.engine.reading`).

    Raises:
        UsageError: a dimension, measure, time zone or limit that is not there.
    """
    by = _checked(query)
    times = _times(connection, query)
    (total,) = connection.execute(_outer(_inner(connection, (), query.selection, None), ()))
    if not by:
        groups: Sequence[Any] = [total]
    else:
        asked = _outer(_inner(connection, by, query.selection, times), by)
        groups = connection.execute(_ordered(asked, query, by).limit(query.limit + 1)).all()
    kept = groups[: query.limit]
    names = _names(connection, by, kept)
    return UsageReport(
        tuple(_group(by, row, times, names) for row in kept),
        _sums(total, 0),
        len(groups) > query.limit,
    )


def as_data(report: UsageReport) -> dict[str, Any]:
    """For programs: JSON values."""
    return {
        "groups": [
            {"by": dict(group.by), "names": dict(group.names), **group.sums}
            for group in report.groups
        ],
        "total": dict(report.total),
        "has_more": report.has_more,
    }


def _checked(query: UsageQuery) -> tuple[str, ...]:
    by = tuple(checked(name) for name in query.by)
    if len(by) > MAX_BY or len(set(by)) != len(by):
        raise UsageError(f"by: at most {MAX_BY} dimensions, each once")
    if not 0 < query.limit <= MAX_GROUPS:
        raise UsageError(f"limit: 1 to {MAX_GROUPS} is expected")
    order = query.order.removeprefix("-")
    if order and order not in (*by, *MEASURES):
        raise UsageError(f"order: {order[:64]!r} is none of {', '.join((*by, *MEASURES))}")
    return by


def _times(connection: Connection, query: UsageQuery) -> TimeColumns | None:
    """Of the moments that there are in the selection."""
    try:
        where = zone(query.time_zone)
    except ValueError as error:
        raise UsageError(f"time_zone: {error}") from None
    if not set(query.by) & set(TIMES):
        return None
    at_us = generations.c.admitted_at_us
    ends = []
    for end in (func.min(at_us), func.max(at_us)):
        bounds = select(end)
        if query.selection.since_us is not None:
            bounds = bounds.where(at_us >= query.selection.since_us)
        if query.selection.until_us is not None:
            bounds = bounds.where(at_us < query.selection.until_us)
        ends.append(connection.scalar(bounds) or 0)
    return TimeColumns(where, *ends)


# --- the statement: one row a generation and group, then one a group ------------------------


def _inner(
    connection: Connection, by: Sequence[str], selection: Selection, times: TimeColumns | None
) -> Subquery:
    conditions = generation_conditions(connection, selection)
    of_attempts = attempt_conditions(selection)
    joined = generations.join(
        attempts,
        and_(attempts.c.generation_id == generations.c.id, *of_attempts),
        isouter=not of_attempts,
    )
    groups: list[ColumnElement[Any]] = [generations.c.id]
    columns: list[Label[Any]] = []
    for index, name in enumerate(by):
        column: ColumnElement[Any]
        if name in OF_ATTEMPT:
            groups.append(OF_ATTEMPT[name])
            column = func.coalesce(OF_ATTEMPT[name], "")
        elif name == "tag":
            tags = tags_of(connection, "of_tags")
            joined = joined.join(tags, true(), isouter=True)
            groups.append(tags.c.value)
            column = func.coalesce(tags.c.value, "")
        elif name in TIMES:
            assert times is not None  # noqa: S101 - as `_times` says
            column = times.column(name, generations.c.admitted_at_us)
        else:
            column = generation_column(connection, name)
        columns.append(column.label(f"by_{index}"))
    is_partial = bool(of_attempts) or bool(set(by) & OF_ATTEMPT.keys())
    found = select(*columns, *_of_generation(is_partial=is_partial), *_of_attempts())
    return found.select_from(joined).where(*conditions).group_by(*groups).subquery("each")


def _of_generation(*, is_partial: bool) -> list[Label[Any]]:
    """
    Args:
        is_partial: a row may have a part of a generation's attempts: what is of the generation as a
            whole goes to its first attempt's, and the time until it spoke to the winner's.
    """
    of, at = generations.c, attempts.c
    is_open = of.state == "open"
    reserved: ColumnElement[Any] = of.reserved_micro
    ttft_us: ColumnElement[Any] = of.ttft_us
    if is_partial:
        reserved = case((func.coalesce(at.ordinal, 0) == 0, reserved), else_=0)
        ttft_us = case((at.is_winner == 1, ttft_us))
    is_cancelled = of.reason == "CLIENT_CANCELLED"
    has_failed = ~is_cancelled & (func.coalesce(of.reason, "") != "")
    return [
        _one(~is_open).label("requests"),
        _one(~is_open & is_cancelled).label("cancelled"),
        _one(~is_open & has_failed).label("failed"),
        _one(is_open).label("open"),
        func.max(case((is_open, reserved), else_=0)).label("open_reserved_micro"),
        func.max(case((~is_open, ttft_us))).label("ttft_us"),
    ]


def _one(condition: ColumnElement[bool]) -> ColumnElement[int]:
    return case((condition, literal(1, BigInteger)), else_=literal(0, BigInteger))


def _of_attempts() -> list[Label[Any]]:
    of = attempts.c
    is_over = generations.c.state != "open"
    cost = func.coalesce(of.cost_micro, 0)

    def added(what: ColumnElement[Any], *conditions: ColumnElement[bool]) -> ColumnElement[Any]:
        return func.sum(case((and_(is_over, *conditions), func.coalesce(what, 0)), else_=0))

    one = literal(1, BigInteger)
    tokens = ("prompt", "cached", "cache_write", "output", "reasoning")
    return [
        added(one, of.ordinal.is_not(None)).label("attempts"),
        added(one, of.role == "hedge").label("hedges"),
        added(one, of.state == "unpriced").label("unpriced"),
        added(cost).label("cost_micro"),
        added(func.coalesce(of.upper_micro, cost)).label("upper_micro"),
        added(cost, of.state == "estimated").label("estimated_micro"),
        added(cost, func.coalesce(of.is_winner, 0) == 0).label("losers_micro"),
        *(added(of[f"{kind}_tokens"]).label(f"{kind}_tokens") for kind in tokens),
    ]


def _outer(each: Subquery, by: Sequence[str]) -> Select[Any]:
    keys = [each.c[f"by_{index}"] for index in range(len(by))]
    ttft_us = each.c.ttft_us
    ranked = select(
        *each.c,
        func.row_number()
        .over(partition_by=keys or None, order_by=(ttft_us.is_(None), ttft_us))
        .label("rank"),
        func.count(ttft_us).over(partition_by=keys or None).label("measured"),
    ).subquery("ranked")
    of = ranked.c
    keys = [of[f"by_{index}"] for index in range(len(by))]
    sums = [func.coalesce(func.sum(of[name]), 0).label(name) for name in SUMS]
    for name, percent in PERCENTILES.items():
        rank = (of.measured * percent + 99) // literal(100, BigInteger)
        # Where nothing was measured the rank is 0, which no row has.
        sums.append(func.max(case((of.rank == rank, of.ttft_us))).label(name))
    return select(*keys, *sums).group_by(*keys)


def _ordered(asked: Select[Any], query: UsageQuery, by: Sequence[str]) -> Select[Any]:
    columns = asked.selected_columns
    keys = [columns[f"by_{index}"] for index in range(len(by))]
    order = query.order or (by[0] if by[0] in TIMES else "-cost_micro")
    name = order.removeprefix("-")
    first = keys[by.index(name)] if name in by else columns[name]
    # SQLite and PostgreSQL disagree on where NULL belongs.
    by_first = first.desc() if order.startswith("-") else first.asc()
    return asked.order_by(first.is_(None), by_first, *keys)


# --- the answer -----------------------------------------------------------------------------


def _sums(row: Any, skip: int) -> dict[str, int | None]:
    values = row[skip:]
    return {
        name: None if value is None else int(value)
        for name, value in zip(MEASURES, values, strict=True)
    }


def _group(
    by: Sequence[str],
    row: Any,
    times: TimeColumns | None,
    names: Mapping[str, Mapping[str, str]],
) -> Group:
    values = {}
    for name, value in zip(by, row, strict=False):
        is_time = times is not None and name in TIMES
        values[name] = times.label(name, int(value)) if is_time else str(value)  # type: ignore[union-attr]
    known = {name: found[values[name]] for name, found in names.items() if values[name] in found}
    return Group(values, _sums(row, len(by)), known)


def _names(
    connection: Connection, by: Sequence[str], rows: Sequence[Any]
) -> dict[str, dict[str, str]]:
    found = {}
    for index, name in enumerate(by):
        if (table := _NAMED.get(name)) is not None:
            ids = sorted({row[index] for row in rows if row[index]})
            query = select(table.c.id, table.c.name).where(table.c.id.in_(ids))
            found[name] = {row[0]: row[1] for row in connection.execute(query)}
    return found
