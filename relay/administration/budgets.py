"""Budgets: made, changed, archived; shown with what is spent of their present period."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import Connection, select

from relay.administration.desk import Desk, add_row, found, new_id, one, set_row
from relay.administration.faults import Conflict, Denied, Invalid, NotFound
from relay.administration.reach import ALL, Page, within
from relay.administration.roles import Actor
from relay.administration.teams import Row
from relay.governance import periods
from relay.governance.budget_scopes import SCOPES
from relay.store import schema

FIELDS: Final = ("limit_micro", "is_hard", "alert_percents")
_MOST_MICRO: Final = 10**18
_TABLES: Final = {
    "key": schema.keys,
    "team": schema.teams,
    "organisation": schema.organisations,
}


def _kept(values: Mapping[str, Any]) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for field, value in values.items():
        is_number = isinstance(value, int) and not isinstance(value, bool)
        if field == "limit_micro":
            if not is_number or not 0 <= value <= _MOST_MICRO:
                raise Invalid("limit_micro must be whole micro-dollars", field)
            kept[field] = value
        elif field == "is_hard":
            if not isinstance(value, bool):
                raise Invalid("is_hard must be true or false", field)
            kept[field] = int(value)
        elif field == "alert_percents":
            is_list = isinstance(value, list | tuple) and len(value) <= 16
            if not is_list or not all(type(p) is int and 1 <= p <= 1000 for p in value):
                raise Invalid("alert_percents must be whole numbers from 1 to 1000", field)
            kept[field] = json.dumps(sorted(set(value)))
        else:
            raise Invalid(f"{field} is not known; there are {', '.join(FIELDS)}", field)
    return kept


def create_budget(
    desk: Desk,
    actor: Actor,
    scope: str,
    name: str,
    *,
    period: str,
    time_zone: str = "UTC",
    organisation: str = "",
    **values: Any,
) -> Row:
    """
    Args:
        scope: key, team, organisation, tag.
        name: id or name of what it is of; the tag itself.
        organisation: whose tag it is; "" for the tag of anybody.
        values: `limit_micro`, and what else of `FIELDS` it has.

    Raises:
        Denied, NotFound, Invalid, StoreUnavailable
    """
    if scope not in SCOPES:
        raise Invalid(f"scope must be one of {', '.join(SCOPES)}", "scope")
    try:
        periods.start_s(period, time_zone, desk.now_us())
    except ValueError as error:
        raise Invalid(str(error), "period" if "period" in str(error) else "time_zone") from None
    kept = _kept({"limit_micro": None, "is_hard": True, "alert_percents": (), **values})
    with desk.look() as connection:
        place = _place(connection, scope, name, organisation, actor)
    scope_id, organisation_id, team_id = place
    actor.require("budget.write", organisation_id, team_id)
    _require_below(actor, scope)
    row = {
        "id": new_id("bud"),
        "scope": scope,
        "scope_id": scope_id,
        "organisation_id": organisation_id or None,
        "period": period,
        "time_zone": time_zone,
        "created_at_us": desk.now_us(),
        **kept,
    }
    with desk.change(actor, "budget.created", row["id"], organisation_id) as change:
        change.detail.update({n: v for n, v in row.items() if n != "created_at_us"})
        _require_new(change.connection, row)
        add_row(change, schema.budgets, **row)
    return row


def _require_below(actor: Actor, scope: str) -> None:
    """
    Raises:
        Denied: the budget is of what the actor himself is bound to: who is above sets it.
    """
    bound = "team" if actor.team_id else "organisation" if actor.organisation_id else ""
    if scope == bound:
        raise Denied(f"a budget of the {bound} that you are bound to is set by who is above you")


def _require_new(connection: Connection, row: Row) -> None:
    """
    Raises:
        Conflict: there is one of the same thing and period, that would be meant by a change.
    """
    table = schema.budgets
    same = ("scope", "scope_id", "organisation_id", "period", "time_zone", "is_hard")
    query = select(table.c.id).where(table.c.archived_at_us.is_(None))
    for name in same:
        query = query.where(table.c[name].is_not_distinct_from(row[name]))
    found_id = connection.scalar(query.limit(1))
    if found_id is not None:
        raise Conflict(f"there is {found_id} of the same scope and period: change that", "scope_id")


def _place(
    connection: Connection, scope: str, name: str, organisation: str, actor: Actor
) -> tuple[str, str, str]:
    """What it is of, and the organisation and team that has."""
    if scope == "tag":
        if not 0 < len(name) <= 128:
            raise Invalid("a tag has 1 to 128 characters", "scope_id")
        if not organisation:
            return name, "", ""
        above = found(connection, schema.organisations, "organisation", organisation, actor)
        return name, above["id"], ""
    row = found(connection, _TABLES[scope], scope, name, actor)
    if row.get("archived_at_us", row.get("revoked_at_us")) is not None:
        raise Conflict(f"the {scope} is archived or revoked", "scope_id")
    if scope == "organisation":
        return row["id"], row["id"], ""
    if scope == "team":
        return row["id"], row["organisation_id"], row["id"]
    above = one(connection, schema.teams, "team", id=row["team_id"])
    return row["id"], above["organisation_id"], above["id"]


def _team_of(connection: Connection, row: Mapping[str, Any]) -> str:
    if row["scope"] == "team":
        return str(row["scope_id"])
    if row["scope"] == "key":
        return str(one(connection, schema.keys, "key", id=row["scope_id"])["team_id"])
    return ""


def budgets(desk: Desk, actor: Actor, page: Page = ALL, only: str = "") -> list[Row]:
    """Those that the actor sees, with `settled_micro` and `reserved_micro` of the present period,
    and when it began and ends (seconds since 1970).

    Args:
        only: id of the only one.
    """
    actor.require("budget.read", actor.organisation_id, actor.team_id)
    table, counters = schema.budgets, schema.budget_periods
    query = page.of(select(table).where(*within(actor, table)), table)
    if only:
        query = query.where(table.c.id == only)
    shown: list[Row] = []
    with desk.look() as connection:
        for row in [dict(found_row) for found_row in connection.execute(query).mappings()]:
            start_s, end_s = periods.bounds_s(row["period"], row["time_zone"], desk.now_us())
            spent = connection.execute(
                select(counters.c.settled_micro, counters.c.reserved_micro).where(
                    counters.c.budget_id == row["id"], counters.c.period_start_s == start_s
                )
            ).first()
            shown.append(
                {
                    **row,
                    "settled_micro": spent[0] if spent else 0,
                    "reserved_micro": spent[1] if spent else 0,
                    "period_start_s": start_s,
                    "period_end_s": end_s if row["period"] != "total" else None,
                }
            )
    return shown


def show_budget(desk: Desk, actor: Actor, budget_id: str) -> Row:
    """One, as `budgets` shows it; raises NotFound."""
    shown = budgets(desk, actor, only=budget_id)
    if not shown:
        raise NotFound("there is no such budget", "budget")
    return shown[0]


def change_budget(desk: Desk, actor: Actor, budget_id: str, **values: Any) -> None:
    """
    Args:
        values: of `FIELDS`. A lower limit holds for what is reserved from then on.
    """
    kept = _kept(values)
    organisation_id = _require(desk, actor, budget_id)
    with desk.change(actor, "budget.changed", budget_id, organisation_id) as change:
        change.detail.update(kept)
        set_row(change, schema.budgets, budget_id, **kept)


def archive_budget(desk: Desk, actor: Actor, budget_id: str) -> None:
    """It counts no more."""
    organisation_id = _require(desk, actor, budget_id)
    with desk.change(actor, "budget.archived", budget_id, organisation_id) as change:
        set_row(change, schema.budgets, budget_id, archived_at_us=desk.now_us())


def _require(desk: Desk, actor: Actor, budget_id: str) -> str:
    with desk.look() as connection:
        row = one(connection, schema.budgets, "budget", actor, id=budget_id)
        team_id = _team_of(connection, row)
    organisation_id = row["organisation_id"] or ""
    actor.require("budget.write", organisation_id, team_id)
    _require_below(actor, row["scope"])
    if row["archived_at_us"] is not None:
        raise Conflict("the budget is archived: make another one", "budget")
    return organisation_id
