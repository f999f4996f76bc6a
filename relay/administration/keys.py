"""Virtual keys: made, changed, given another secret, revoked. A secret is shown to whoever makes it
and kept nowhere."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from sqlalchemy import select, update

from relay.administration.desk import (
    Change,
    Desk,
    add_row,
    checked_name,
    found,
    new_id,
    one,
    require_free,
    set_row,
)
from relay.administration.faults import Conflict, Invalid, NotFound
from relay.administration.reach import ALL, Page, within
from relay.administration.roles import Actor
from relay.administration.teams import Row, limits_of
from relay.governance import token_text
from relay.governance.roll import canonical_name
from relay.governance.scopes import BadScopes, Scopes
from relay.store import schema

MAX_TAGS: Final = 64
DEFAULT_OVERLAP_S: Final = 24 * 3600
"""How long the old secret is good beside the new one."""
FIELDS: Final = ("name", "scopes", "tags", "limits", "expires_at_us")


class MadeKey(NamedTuple):
    """A key with its new secret."""

    row: Row
    secret: str
    """Shown once."""


def _scopes(given: object) -> str:
    if given is None:
        return "{}"
    if not isinstance(given, Mapping):
        raise Invalid("scopes must be an object", "scopes")
    try:
        return Scopes.from_mapping(dict(given)).to_json()
    except BadScopes as error:
        raise Invalid(str(error), "scopes") from None


def _tags(given: object) -> str:
    if given is None:
        return "[]"
    texts = list(given) if isinstance(given, list | tuple) else [None]
    if len(texts) > MAX_TAGS or not all(isinstance(t, str) and 0 < len(t) <= 255 for t in texts):
        raise Invalid(f"tags must be a list of at most {MAX_TAGS} texts", "tags")
    return json.dumps(texts)


def _expiry(given: object, now_us: int) -> int | None:
    if given is None:
        return None
    if not isinstance(given, int) or isinstance(given, bool) or given <= now_us:
        words = "expires_at_us must be microseconds since 1970, in time to come"
        raise Invalid(words, "expires_at_us")
    return given


def _kept(values: Mapping[str, Any], now_us: int) -> dict[str, Any]:
    """Columns of fields, checked.

    Raises:
        Invalid
    """
    kept: dict[str, Any] = {}
    for field, value in values.items():
        if field == "name":
            kept[field] = checked_name(value)
        elif field == "scopes":
            kept[field] = _scopes(value)
        elif field == "tags":
            kept[field] = _tags(value)
        elif field == "limits":
            kept[field] = limits_of(value)
        elif field == "expires_at_us":
            kept[field] = _expiry(value, now_us)
        else:
            raise Invalid(f"{field} is not known; there are {', '.join(FIELDS)}", field)
    return kept


def create_key(desk: Desk, actor: Actor, team: str, **values: Any) -> MadeKey:
    """A key of a team, by the team's id or name.

    Args:
        values: `name`, and what else of `FIELDS` it has.

    Raises:
        Denied, NotFound, Invalid, Conflict, StoreUnavailable
    """
    now_us = desk.now_us()
    kept = _kept({"name": None, **values}, now_us)
    with desk.look() as connection:
        above = found(connection, schema.teams, "team", team, actor)
        top = one(connection, schema.organisations, "organisation", id=above["organisation_id"])
    actor.require("key.write", above["organisation_id"], above["id"])
    if above["archived_at_us"] is not None or top["archived_at_us"] is not None:
        raise Conflict(f"the team {above['name']!r}, or its organisation, is archived", "team")
    row = {
        "id": new_id("key"),
        "team_id": above["id"],
        "created_at_us": now_us,
        "created_by": actor.name[:128],
        "scopes": "{}",
        "tags": "[]",
        "limits": "{}",
        "expires_at_us": None,
        **kept,
    }
    with desk.change(actor, "key.created", row["id"], above["organisation_id"]) as change:
        change.detail.update({name: row[name] for name in FIELDS}, team=above["id"])
        require_free(change, schema.keys, kept["name"], team_id=above["id"])
        add_row(change, schema.keys, **row)
        minted = _credential(desk, change, row["id"])
    return MadeKey(row, minted.text)


def _credential(desk: Desk, change: Change, key_id: str) -> token_text.Minted:
    minted = token_text.mint("virtual key")
    change.detail["credential"] = minted.id
    add_row(
        change,
        schema.credentials,
        id=minted.id,
        key_id=key_id,
        mac=desk.pepper.mac(minted.kind, minted.signed),
        pepper_id=desk.pepper.id,
        last4=minted.last4,
        created_at_us=desk.now_us(),
    )
    return minted


def _found(desk: Desk, actor: Actor, key: str, permission: str) -> Row:
    """A key with its `organisation_id`, by its id or its name."""
    with desk.look() as connection:
        row = found(connection, schema.keys, "key", key, actor)
        above = connection.execute(
            select(schema.teams.c.organisation_id).where(schema.teams.c.id == row["team_id"])
        ).scalar_one()
    actor.require(permission, above, row["team_id"])
    return {**row, "organisation_id": above}


def show_key(desk: Desk, actor: Actor, key: str) -> Row:
    """A key with its credentials (no secrets: their last four characters) and certificates."""
    row = _found(desk, actor, key, "key.read")
    table, certificates = schema.credentials, schema.certificates
    hidden = (table.c.mac, table.c.changed)
    columns = [column for column in table.c if column not in hidden]
    with desk.look() as connection:
        query = select(*columns).where(table.c.key_id == row["id"]).order_by(table.c.created_at_us)
        row["credentials"] = [dict(each) for each in connection.execute(query).mappings()]
        query = select(certificates.c.subject, certificates.c.revoked_at_us)
        query = query.where(certificates.c.key_id == row["id"])
        row["certificates"] = [dict(each) for each in connection.execute(query).mappings()]
    return row


def keys(desk: Desk, actor: Actor, team: str = "", page: Page = ALL) -> list[Row]:
    """Those that the actor sees; of one team, or of all."""
    actor.require("key.read", actor.organisation_id, actor.team_id)
    table, above = schema.keys, schema.teams
    query = select(table, above.c.organisation_id).join(above, table.c.team_id == above.c.id)
    query = page.of(query.where(*within(actor, table)), table)
    with desk.look() as connection:
        if team:
            row = found(connection, above, "team", team, actor)
            query = query.where(table.c.team_id == row["id"])
        return [dict(each) for each in connection.execute(query).mappings()]


def change_key(desk: Desk, actor: Actor, key: str, **values: Any) -> None:
    """
    Args:
        values: of `FIELDS`; what is not named stays.
    """
    kept = _kept(values, desk.now_us())
    row = _found(desk, actor, key, "key.write")
    if row["revoked_at_us"] is not None:
        raise Conflict("the key is revoked: make another one", "key")
    with desk.change(actor, "key.changed", row["id"], row["organisation_id"]) as change:
        change.detail.update(kept)
        if "name" in kept:
            among = {"team_id": row["team_id"]}
            require_free(change, schema.keys, kept["name"], but=row["id"], **among)
        set_row(change, schema.keys, row["id"], **kept)


def overlap_us(now_us: int, overlap_s: object) -> int:
    """Until when the secret before is good.

    Raises:
        Invalid: no whole number of seconds from 0 to 90 days.
    """
    if type(overlap_s) is not int or not 0 <= overlap_s <= 90 * 86_400:
        raise Invalid("overlap_s must be whole seconds, 0 to 90 days", "overlap_s")
    return now_us + overlap_s * 1_000_000


def rotate_key(
    desk: Desk, actor: Actor, key: str, *, overlap_s: int = DEFAULT_OVERLAP_S
) -> MadeKey:
    """Give it another secret; those that it has are good for `overlap_s` yet (0: no more).

    Raises:
        Conflict: it is revoked.
    """
    until_us = overlap_us(desk.now_us(), overlap_s)
    row = _found(desk, actor, key, "key.write")
    if row["revoked_at_us"] is not None:
        raise Conflict("the key is revoked: make another one", "key")
    table = schema.credentials
    with desk.change(actor, "key.rotated", row["id"], row["organisation_id"]) as change:
        change.detail["overlap_s"] = overlap_s
        change.connection.execute(
            update(table)
            .where(table.c.key_id == row["id"], table.c.revoked_at_us.is_(None))
            .where(table.c.expires_at_us.is_(None) | (table.c.expires_at_us > until_us))
            # Revoked holds at once, whatever the clocks of the workers say; an end does not.
            .values(
                **({"expires_at_us": until_us} if overlap_s else {"revoked_at_us": until_us}),
                changed=change.number,
            )
        )
        minted = _credential(desk, change, row["id"])
    return MadeKey(row, minted.text)


def revoke_key(desk: Desk, actor: Actor, key: str) -> None:
    """It is good no more, on every worker and machine within a second. Cannot be undone."""
    row = _found(desk, actor, key, "key.write")
    with desk.change(actor, "key.revoked", row["id"], row["organisation_id"]) as change:
        set_row(change, schema.keys, row["id"], revoked_at_us=desk.now_us())


def bind_certificate(desk: Desk, actor: Actor, key: str, subject: str) -> None:
    """Let client certificates with this name (`DNS:...`, `URI:...`) stand for the key."""
    subject = canonical_name(subject)
    kind, _, rest = subject.partition(":")
    is_plain = len(subject) <= 255 and subject.isprintable()
    if kind not in ("DNS", "URI", "EMAIL", "CN") or not rest or not is_plain:
        raise Invalid("subject must be DNS:..., URI:..., EMAIL:... or CN:...", "subject")
    row = _found(desk, actor, key, "certificate.write")
    if row["revoked_at_us"] is not None:
        raise Conflict("the key is revoked: make another one", "key")
    table = schema.certificates
    with desk.change(actor, "certificate.bound", row["id"], row["organisation_id"]) as change:
        change.detail["subject"] = subject
        values = {"key_id": row["id"], "created_at_us": desk.now_us(), "revoked_at_us": None}
        again = change.connection.execute(  # one that stands for no key any more
            update(table)
            .where(table.c.subject == subject, table.c.revoked_at_us.is_not(None))
            .values(**values, changed=change.number)
        )
        if again.rowcount == 0:
            add_row(change, table, subject=subject, **values)


def unbind_certificate(desk: Desk, actor: Actor, key: str, subject: str) -> None:
    """It stands for the key no more."""
    subject = canonical_name(subject)
    row = _found(desk, actor, key, "key.write")
    table = schema.certificates
    with desk.change(actor, "certificate.unbound", row["id"], row["organisation_id"]) as change:
        change.detail["subject"] = subject
        done = change.connection.execute(
            update(table)
            .where(table.c.subject == subject, table.c.key_id == row["id"])
            .where(table.c.revoked_at_us.is_(None))
            .values(revoked_at_us=desk.now_us(), changed=change.number)
        )
        if done.rowcount != 1:
            raise NotFound("the key has no such certificate", "subject")
