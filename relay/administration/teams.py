"""Organisations and their teams."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import select

from relay.administration.desk import Desk, add_row, checked_name, found, new_id, set_row
from relay.administration.faults import Conflict, Invalid
from relay.administration.reach import ALL, Page, within
from relay.administration.roles import Actor
from relay.governance.limits import Limits
from relay.store import schema

Row = dict[str, Any]


def limits_of(given: object) -> str:
    """As the tables keep them.

    Raises:
        Invalid: naming the limit.
    """
    if given is None:
        return "{}"
    if not isinstance(given, Mapping):
        raise Invalid("limits must be an object of names and numbers", "limits")
    try:
        return Limits.from_mapping(dict(given)).to_json()
    except ValueError as error:
        raise Invalid(str(error), "limits") from None


# --- organisations --------------------------------------------------------------------------


def create_organisation(desk: Desk, actor: Actor, name: str, limits: object = None) -> Row:
    """
    Raises:
        Denied, Invalid, Conflict, StoreUnavailable
    """
    actor.require("organisation.write")
    checked_name(name)
    kept, id_ = limits_of(limits), new_id("org")
    with desk.change(actor, "organisation.created", id_, id_) as change:
        change.detail.update(name=name, limits=kept)
        row = {"id": id_, "name": name, "limits": kept, "created_at_us": desk.now_us()}
        add_row(change, schema.organisations, **row)
    return row


def organisations(desk: Desk, actor: Actor, page: Page = ALL) -> list[Row]:
    """Those that the actor sees, archived ones too."""
    actor.require("organisation.read", actor.organisation_id, actor.team_id)
    table = schema.organisations
    query = page.of(select(table).where(*within(actor, table)), table)
    with desk.look() as connection:
        return [dict(row) for row in connection.execute(query).mappings()]


def show_organisation(desk: Desk, actor: Actor, organisation: str) -> Row:
    """One, by its id or name."""
    actor.require("organisation.read", actor.organisation_id, actor.team_id)
    with desk.look() as connection:
        return found(connection, schema.organisations, "organisation", organisation, actor)


def change_organisation(desk: Desk, actor: Actor, organisation: str, **values: Any) -> None:
    """
    Args:
        values: `name`, `limits`.
    """
    _change(desk, actor, "organisation", organisation, values)


def archive_organisation(desk: Desk, actor: Actor, organisation: str) -> None:
    """Its keys are good no more; what they spent stays."""
    _archive(desk, actor, "organisation", organisation)


# --- teams ----------------------------------------------------------------------------------


def create_team(
    desk: Desk, actor: Actor, organisation: str, name: str, limits: object = None
) -> Row:
    """In an organisation, by its id or name."""
    checked_name(name)
    kept, id_ = limits_of(limits), new_id("team")
    with desk.look() as connection:
        above = found(connection, schema.organisations, "organisation", organisation, actor)
    actor.require("team.write", above["id"], actor.team_id)
    if above["archived_at_us"] is not None:
        raise Conflict(f"the organisation {above['name']!r} is archived", "organisation")
    with desk.change(actor, "team.created", id_, above["id"]) as change:
        change.detail.update(name=name, limits=kept)
        row = {
            "id": id_,
            "organisation_id": above["id"],
            "name": name,
            "limits": kept,
            "created_at_us": desk.now_us(),
        }
        add_row(change, schema.teams, **row)
    return row


def teams(desk: Desk, actor: Actor, organisation: str = "", page: Page = ALL) -> list[Row]:
    """Those that the actor sees; of one organisation, or of all."""
    actor.require("team.read", actor.organisation_id, actor.team_id)
    table = schema.teams
    query = page.of(select(table).where(*within(actor, table)), table)
    with desk.look() as connection:
        if organisation:
            above = found(connection, schema.organisations, "organisation", organisation, actor)
            query = query.where(table.c.organisation_id == above["id"])
        return [dict(row) for row in connection.execute(query).mappings()]


def show_team(desk: Desk, actor: Actor, team: str) -> Row:
    """One, by its id or name."""
    actor.require("team.read", actor.organisation_id, actor.team_id)
    with desk.look() as connection:
        return found(connection, schema.teams, "team", team, actor)


def change_team(desk: Desk, actor: Actor, team: str, **values: Any) -> None:
    """
    Args:
        values: `name`, `limits`.
    """
    _change(desk, actor, "team", team, values)


def archive_team(desk: Desk, actor: Actor, team: str) -> None:
    """Its keys are good no more; what they spent stays."""
    _archive(desk, actor, "team", team)


# --- both -----------------------------------------------------------------------------------

_TABLES = {"organisation": schema.organisations, "team": schema.teams}


def _place(what: str, row: Mapping[str, Any]) -> tuple[str, str]:
    return (row["id"], "") if what == "organisation" else (row["organisation_id"], row["id"])


def _change(desk: Desk, actor: Actor, what: str, name: str, values: dict[str, Any]) -> None:
    kept: dict[str, Any] = {}
    for field, value in values.items():
        if field == "name":
            kept["name"] = checked_name(value)
        elif field == "limits":
            kept["limits"] = limits_of(value)
        else:
            raise Invalid(f"{field} is not known; there are name, limits", field)
    with desk.look() as connection:
        row = found(connection, _TABLES[what], what, name, actor)
    actor.require(f"{what}.write", *_place(what, row))
    with desk.change(actor, f"{what}.changed", row["id"], _place(what, row)[0]) as change:
        change.detail.update(kept)
        set_row(change, _TABLES[what], row["id"], **kept)


def _archive(desk: Desk, actor: Actor, what: str, name: str) -> None:
    with desk.look() as connection:
        row = found(connection, _TABLES[what], what, name, actor)
    actor.require(f"{what}.write", *_place(what, row))
    with desk.change(actor, f"{what}.archived", row["id"], _place(what, row)[0]) as change:
        set_row(change, _TABLES[what], row["id"], archived_at_us=desk.now_us())
