"""Entries of the audit log, a page at a time, newest first."""

from __future__ import annotations

from typing import Any, Final

import orjson

from relay.administration.desk import Desk
from relay.administration.faults import Invalid
from relay.administration.roles import Actor
from relay.frontends.admin.route import Asked
from relay.frontends.admin.shown import DEFAULT_PAGE
from relay.store.audit_store import Selection, read_rows

_MOST_DIGITS: Final = 18


def audit_list(desk: Desk, actor: Actor, asked: Asked) -> Any:
    """
    Raises:
        Denied, Invalid, StoreUnavailable
    """
    actor.require("audit.read")
    query = dict(asked.query)
    limit, cursor = query.pop("limit", DEFAULT_PAGE), query.pop("cursor", "")
    is_number = cursor.isascii() and cursor.isdigit() and len(cursor) <= _MOST_DIGITS
    if cursor and not is_number:
        raise Invalid("cursor is none that a list has given", "cursor")
    before = int(cursor) if cursor else None
    with desk.look() as connection:
        rows = read_rows(
            connection, Selection(**query), newest_first=True, limit=limit + 1, before=before
        )
        found = list(rows)
    some = found[:limit]
    following = str(some[-1].seq) if len(found) > len(some) else None
    data = [
        {"seq": row.seq, **row.entry._asdict(), "detail": _detail(row.entry.detail)} for row in some
    ]
    return {"data": data, "next_cursor": following}


def _detail(text: object) -> Any:
    try:
        found = orjson.loads(str(text))
    except orjson.JSONDecodeError:
        found = None
    return found if isinstance(found, dict) else {"text": str(text)}
