"""Usage as administrators see it: within their own part, and told to the audit log where it counts.

What says who somebody is (sessions, labels) takes `detail.read` beside `usage.read`. What is
forgotten or exported is in the audit log by its dimensions, without the session or label: else the
log would be what remembers it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from relay.administration.desk import Desk
from relay.administration.faults import Denied, Invalid
from relay.administration.roles import Actor
from relay.governance import audit_actions as actions
from relay.store.retention import checked_forget, forget, purge
from relay.store.usage_export import Shape, export_rows
from relay.store.usage_fields import Selection, UsageError
from relay.store.usage_files import pieces
from relay.store.usage_query import UsageQuery, UsageReport, ask

_SECRETIVE = ("session", "label:")


def summary(desk: Desk, actor: Actor, query: UsageQuery) -> UsageReport:
    """
    Raises:
        Denied, Invalid, StoreUnavailable
    """
    actor.require("usage.read", actor.organisation_id, actor.team_id)
    _discreet(actor, (*query.by, *query.selection.where))
    bound = UsageQuery(
        query.by, _within(actor, query.selection), query.time_zone, query.order, query.limit
    )
    try:
        with desk.look() as connection:
            return ask(connection, bound)
    except UsageError as error:
        raise invalid(error) from None


def export(
    desk: Desk,
    actor: Actor,
    selection: Selection,
    shape: Shape,
    file_format: str,
    *,
    has_open: bool,
) -> Iterator[bytes]:
    """Pieces of the file; begun when they are asked for.

    Raises:
        Denied, Invalid, StoreUnavailable: also when pieces are asked for.
    """
    actor.require("usage.export", actor.organisation_id, actor.team_id)
    bound = _within(actor, selection)
    pages = export_rows(desk.engine, bound, shape, has_open=has_open)
    try:
        made = pieces(pages, shape, file_format)
        first = next(made)
    except UsageError as error:
        raise invalid(error) from None
    detail = {**told_of(bound), "format": file_format, "rows": shape}
    _tell(desk, actor, actions.USAGE_EXPORTED, detail)

    def every() -> Iterator[bytes]:
        yield first
        yield from made

    return every()


def forget_somebody(desk: Desk, actor: Actor, selection: Selection) -> int:
    """See `relay.store.retention.forget`.

    Raises:
        Denied, Invalid, StoreUnavailable
    """
    actor.require("usage.delete", actor.organisation_id, actor.team_id)
    bound = _within(actor, selection)
    try:
        checked_forget(bound)
        _tell(desk, actor, actions.USAGE_FORGOTTEN, told_of(bound))
        return forget(desk.engine, bound)
    except UsageError as error:
        raise invalid(error) from None


def purge_old(desk: Desk, actor: Actor, before_us: int) -> int:
    """See `relay.store.retention.purge`; for administrators of the whole.

    Raises:
        Denied, StoreUnavailable
    """
    actor.require("usage.delete", actor.organisation_id, actor.team_id)
    if actor.organisation_id:
        raise Denied("accounts of all organisations are deleted together")
    _tell(desk, actor, actions.USAGE_PURGED, {"before_us": before_us})
    return purge(desk.engine, before_us)


def told_of(selection: Selection) -> dict[str, Any]:
    """A selection for the audit log."""
    said: dict[str, Any] = {"by": sorted(selection.where)}
    if selection.since_us is not None:
        said["since_us"] = selection.since_us
    if selection.until_us is not None:
        said["until_us"] = selection.until_us
    for name in ("organisation", "team", "key"):
        if name in selection.where:
            said[name] = list(selection.where[name])[:20]
    return said


def _within(actor: Actor, selection: Selection) -> Selection:
    return selection.within(organisation=actor.organisation_id, team=actor.team_id)


def _discreet(actor: Actor, names: Iterable[str]) -> None:
    if not actor.may("detail.read") and any(name.startswith(_SECRETIVE) for name in names):
        raise Denied(f"the role {actor.role} may not see sessions and labels (detail.read)")


def _tell(desk: Desk, actor: Actor, action: str, detail: dict[str, Any]) -> None:
    """Before it is done: what cannot be written down is not done."""
    with desk.change(actor, action, "", actor.organisation_id) as change:
        change.detail.update(detail)


def invalid(error: UsageError) -> Invalid:
    """With the field that the message begins with."""
    field, _, rest = str(error).partition(":")
    return Invalid(str(error), field if rest and field.isidentifier() else "")
