"""Administrators: made, revoked, known by their tokens."""

from __future__ import annotations

import hmac
from typing import Any, Final

from sqlalchemy import select

from relay.administration.desk import Desk, add_row, checked_name, found, set_row
from relay.administration.faults import Invalid
from relay.administration.keys import MadeKey
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
            row = found(connection, schema.organisations, "organisation", organisation)
            organisation_id = row["id"]
        if team:
            row = found(connection, schema.teams, "team", team)
            team_id = row["id"]
            if organisation_id not in ("", row["organisation_id"]):
                raise Invalid("the team is of another organisation", "team")
            organisation_id = row["organisation_id"]
    actor.require("administrator.write", organisation_id, team_id)
    actor.require_grant(role, organisation_id, team_id)
    minted = token_text.mint("administrator")
    made: Row = {
        "id": minted.id,
        "name": name,
        "role": role,
        "organisation_id": organisation_id or None,
        "team_id": team_id or None,
        "last4": minted.last4,
        "created_at_us": desk.now_us(),
        "created_by": actor.name[:128],
        "expires_at_us": expires_at_us,
    }
    with desk.change(actor, "administrator.created", minted.id, organisation_id) as change:
        change.detail.update(name=name, role=role, team=team_id)
        add_row(
            change,
            schema.administrators,
            **made,
            mac=desk.pepper.mac(minted.kind, minted.signed),
            pepper_id=desk.pepper.id,
        )
    return MadeKey(made, minted.text)


def administrators(desk: Desk, actor: Actor) -> list[Row]:
    """Those that the actor sees; no secrets."""
    if not actor.may("administrator.read"):
        actor.require("administrator.read", actor.organisation_id, actor.team_id)
    table = schema.administrators
    columns = [column for column in table.c if column not in (table.c.mac, table.c.changed)]
    with desk.look() as connection:
        query = select(*columns).order_by(table.c.created_at_us)
        rows = [dict(row) for row in connection.execute(query).mappings()]
    return [row for row in rows if actor.sees(row["organisation_id"] or "", row["team_id"] or "")]


def revoke_administrator(desk: Desk, actor: Actor, administrator: str) -> None:
    """His token is good no more, at once."""
    with desk.look() as connection:
        row = found(connection, schema.administrators, "administrator", administrator)
    organisation_id, team_id = row["organisation_id"] or "", row["team_id"] or ""
    actor.require("administrator.write", organisation_id, team_id)
    actor.require_grant(row["role"], organisation_id, team_id)
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
            query = select(table).where(table.c.id == token.id)
            row = connection.execute(query).mappings().first()
    pepper_id, kept = ("", _NO_MAC) if row is None else (row["pepper_id"], bytes(row["mac"]))
    signed = _DECOY if token is None else token.signed
    is_same = False
    for pepper in peppers.all:  # of each, whichever it was made with: as much is done for all
        mac = pepper.mac("administrator", signed)
        is_same |= hmac.compare_digest(mac, kept) & (pepper.id == pepper_id)
    if not is_same or row is None or row["revoked_at_us"] is not None:
        return None
    if row["expires_at_us"] is not None and row["expires_at_us"] <= desk.now_us():
        return None
    return Actor(
        f"admin:{row['id']}", row["role"], row["organisation_id"] or "", row["team_id"] or ""
    )
