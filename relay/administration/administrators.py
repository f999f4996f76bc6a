"""Administrators: made, revoked, known by their tokens."""

from __future__ import annotations

import hmac
from typing import Any, Final

from sqlalchemy import select

from relay.administration.desk import (
    Change,
    Desk,
    add_row,
    checked_name,
    found,
    one,
    require_free,
    set_row,
)
from relay.administration.faults import Conflict, Invalid
from relay.administration.keys import DEFAULT_OVERLAP_S, MadeKey, overlap_us
from relay.administration.reach import ALL, Page, within
from relay.administration.roles import ROLES, Actor
from relay.administration.teams import Row
from relay.governance import token_text
from relay.governance.pepper import Peppers
from relay.store import schema

_DECOY: Final = "0" * (token_text.ID_CHARACTERS + 1 + token_text.SECRET_CHARACTERS)
_NO_MAC: Final = bytes(32)


def create_administrator(
    desk: Desk,
    actor: Actor,
    name: str,
    role: str,
    *,
    organisation: str = "",
    team: str = "",
    expires_at_us: int | None = None,
) -> MadeKey:
    """
    Args:
        organisation, team: by id or name, what he is bound to; "" for everything.

    Raises:
        Denied: he would have more than the actor. Invalid, NotFound, StoreUnavailable
    """
    checked_name(name)
    if role not in ROLES:
        raise Invalid(f"role must be one of {', '.join(ROLES)}", "role")
    if expires_at_us is not None and expires_at_us <= desk.now_us():
        raise Invalid("expires_at_us must be in time to come", "expires_at_us")
    organisation_id = team_id = ""
    with desk.look() as connection:
        if organisation:
            row = found(connection, schema.organisations, "organisation", organisation, actor)
            organisation_id = row["id"]
        if team:
            row = found(connection, schema.teams, "team", team, actor)
            team_id = row["id"]
            if organisation_id not in ("", row["organisation_id"]):
                raise Invalid("the team is of another organisation", "team")
            organisation_id = row["organisation_id"]
    if not actor.may("administrator.write"):
        actor.require("administrator.write", actor.organisation_id, actor.team_id)
    actor.require_grant(role, organisation_id, team_id, expires_at_us)
    minted = token_text.mint("administrator")
    values = {
        "name": name,
        "role": role,
        "organisation_id": organisation_id or None,
        "team_id": team_id or None,
        "expires_at_us": expires_at_us,
    }
    with desk.change(actor, "administrator.created", minted.id, organisation_id) as change:
        change.detail.update(name=name, role=role, team=team_id)
        require_free(change, schema.administrators, name)
        return _add(desk, actor, change, minted, values)


def _add(
    desk: Desk, actor: Actor, change: Change, minted: token_text.Minted, values: Row
) -> MadeKey:
    made: Row = {
        "id": minted.id,
        **values,
        "last4": minted.last4,
        "created_at_us": desk.now_us(),
        "created_by": actor.name[:128],
        "revoked_at_us": None,
    }
    mac = desk.pepper.mac(minted.kind, minted.signed)
    add_row(change, schema.administrators, **made, mac=mac, pepper_id=desk.pepper.id)
    return MadeKey(made, minted.text)


def administrators(
    desk: Desk, actor: Actor, page: Page = ALL, *, only: str | None = None
) -> list[Row]:
    """Those that the actor sees; no secrets.

    Args:
        only: id of the only one.
    """
    actor.require("administrator.read", actor.organisation_id, actor.team_id)
    return _shown(desk, actor, page, only)


def myself(desk: Desk, actor: Actor) -> Row:
    """The row of who asks; an empty one of whoever has the machine."""
    rows = _shown(desk, actor, ALL, actor.credential_id)
    return rows[0] if rows else {}


def _shown(desk: Desk, actor: Actor, page: Page, only: str | None) -> list[Row]:
    table = schema.administrators
    hidden = (table.c.mac, table.c.changed, table.c.pepper_id)
    columns = [column for column in table.c if column not in hidden]
    query = page.of(select(*columns).where(*within(actor, table)), table)
    if only is not None:
        query = query.where(table.c.id == only)
    with desk.look() as connection:
        return [dict(row) for row in connection.execute(query).mappings()]


def rotate_administrator(
    desk: Desk, actor: Actor, administrator: str, *, overlap_s: int = DEFAULT_OVERLAP_S
) -> MadeKey:
    """Another token with the same rights and the same end; the old one is good for `overlap_s` yet
    (0: no more). Everybody may do so with his own.

    Raises:
        Denied: he has more than the actor, or a token that ends later: with the new one in hand the
            actor would outlive his own. Conflict: he is revoked. NotFound, StoreUnavailable
    """
    until_us = overlap_us(desk.now_us(), overlap_s)
    with desk.look() as connection:
        row = found(connection, schema.administrators, "administrator", administrator, actor)
    is_own = row["id"] == actor.credential_id and actor.may("self.rotate")
    if not is_own:
        _require(actor, row, row["expires_at_us"])
    kept = ("name", "role", "organisation_id", "team_id", "expires_at_us")
    minted = token_text.mint("administrator")
    above = row["organisation_id"] or ""
    with desk.change(actor, "administrator.rotated", row["id"], above) as change:
        table = schema.administrators
        row = one(change.connection, table, "administrator", id=row["id"])
        if row["revoked_at_us"] is not None:
            raise Conflict("the administrator is revoked: make another one", "administrator")
        change.detail.update(overlap_s=overlap_s, credential=minted.id)
        if not overlap_s:
            set_row(change, table, row["id"], revoked_at_us=until_us)
        elif row["expires_at_us"] is None or row["expires_at_us"] > until_us:
            set_row(change, table, row["id"], expires_at_us=until_us)
        return _add(desk, actor, change, minted, {name: row[name] for name in kept})


def _require(actor: Actor, row: Row, until_us: int | None) -> None:
    """
    Args:
        until_us: the end of a token that the actor gets by it.

    Raises:
        Denied: he has more than the actor, or the actor may change nobody.
    """
    organisation_id, team_id = row["organisation_id"] or "", row["team_id"] or ""
    actor.require("administrator.write", organisation_id, team_id)
    actor.require_grant(row["role"], organisation_id, team_id, until_us)


def revoke_administrator(desk: Desk, actor: Actor, administrator: str) -> None:
    """His token is good no more, at once."""
    with desk.look() as connection:
        row = found(connection, schema.administrators, "administrator", administrator, actor)
    organisation_id = row["organisation_id"] or ""
    _require(actor, row, actor.expires_at_us)  # he gets none
    with desk.change(actor, "administrator.revoked", row["id"], organisation_id) as change:
        set_row(change, schema.administrators, row["id"], revoked_at_us=desk.now_us())


def identify(desk: Desk, peppers: Peppers, bearer: str) -> Actor | None:
    """Whose token this is; None for nobody's. Reads the store each time, so that a revocation holds
    at once; the same is done for tokens that are unknown.

    Raises:
        StoreUnavailable
    """
    token = token_text.read(bearer)
    row: Any = None
    if token is not None and token.kind == "administrator":
        with desk.look() as connection:
            table = schema.administrators
            organisations, teams = schema.organisations, schema.teams
            is_archived = organisations.c.archived_at_us.is_not(
                None
            ) | teams.c.archived_at_us.is_not(None)
            query = (
                select(table, is_archived.label("is_archived"))
                .outerjoin(organisations, table.c.organisation_id == organisations.c.id)
                .outerjoin(teams, table.c.team_id == teams.c.id)
                .where(table.c.id == token.id)
            )
            row = connection.execute(query).mappings().first()
    pepper_id, kept = ("", _NO_MAC) if row is None else (row["pepper_id"], bytes(row["mac"]))
    signed = _DECOY if token is None else token.signed
    is_same = False
    for pepper in peppers.all:  # of each, whichever it was made with: as much is done for all
        mac = pepper.mac("administrator", signed)
        is_same |= hmac.compare_digest(mac, kept) & (pepper.id == pepper_id)
    if not is_same or row is None or row["revoked_at_us"] is not None:
        return None
    if row["is_archived"]:
        return None
    if row["expires_at_us"] is not None and row["expires_at_us"] <= desk.now_us():
        return None
    return Actor(
        f"admin:{row['id']}",
        row["role"],
        row["organisation_id"] or "",
        row["team_id"] or "",
        row["id"],
        row["expires_at_us"],
    )
