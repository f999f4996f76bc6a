"""Rows of the store as the administration answers them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from relay.administration.keys import MadeKey
from relay.administration.reach import Page, cursor
from relay.administration.roles import Actor
from relay.frontends.admin.route import Asked
from relay.governance.money import dollars

DEFAULT_PAGE: Final = 50
_NOT_SHOWN: Final = frozenset({"changed", "mac", "pepper_id", "key_id"})
_AS_JSON: Final = ("limits", "scopes", "tags", "alert_percents")
_DETAILS: Final = frozenset(
    {"limits", "scopes", "tags", "created_by", "credentials", "certificates"}
)
"""What takes `detail.read` beside the permission to see a name."""


def shown(row: Mapping[str, Any]) -> dict[str, Any]:
    """Without what is the store's alone; JSON that is kept as text is JSON again."""
    # `str`: SQLAlchemy names columns by a kind of its own, which is no key of JSON.
    found = {str(name): value for name, value in row.items() if name not in _NOT_SHOWN}
    for name in _AS_JSON:
        if isinstance(found.get(name), str):
            found[name] = orjson.loads(found[name])
    for name in ("credentials", "certificates"):
        if name in found:
            found[name] = [shown(one) for one in found[name]]
    if "is_hard" in found:
        found["is_hard"] = bool(found["is_hard"])
        found["limit_usd"] = dollars(found["limit_micro"])
    return found


def named(actor: Actor, row: Mapping[str, Any]) -> dict[str, Any]:
    """An organisation, team or key, as far as the actor may see it."""
    found = shown(row)
    if actor.may("detail.read"):
        return found
    return {name: value for name, value in found.items() if name not in _DETAILS}


def made(row: MadeKey) -> dict[str, Any]:
    """With its secret."""
    return {**shown(row.row), "secret": row.secret}


def page_asked(asked: Asked) -> Page:
    """One row more than is shown, which says whether there are more."""
    limit: int = asked.query.get("limit", DEFAULT_PAGE)
    return Page(asked.query.get("cursor", ""), limit + 1)


def page_shown(page: Page, rows: Sequence[dict[str, Any]], show: Any = shown) -> dict[str, Any]:
    """Of what `page_asked` found."""
    assert page.limit is not None  # noqa: S101 - as `page_asked` made it
    some = rows[: page.limit - 1]
    more = cursor(some[-1]) if len(rows) > len(some) else None
    return {"data": [show(row) for row in some], "next_cursor": more}
