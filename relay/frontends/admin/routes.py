"""Every route of the administration, as a table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from relay.administration import administrators, budgets, keys, teams
from relay.administration.desk import Desk
from relay.administration.faults import Invalid
from relay.administration.roles import PERMISSIONS, Actor
from relay.frontends.admin import schemas
from relay.frontends.admin.audit_list import audit_list
from relay.frontends.admin.route import BASE, Asked, Route, Schema
from relay.frontends.admin.shown import made, named, page_asked, page_shown, shown
from relay.frontends.admin.usage_routes import USAGE_ROUTES
from relay.governance.money import micro_from_dollars

_Lister = Callable[..., list[dict[str, Any]]]
_Shower = Callable[[Desk, Actor, str], dict[str, Any]]


def _list(rows: _Lister, among: str = "") -> Callable[[Desk, Actor, Asked], Any]:
    """Of names; `among`: the parameter that says of which one."""

    def act(desk: Desk, actor: Actor, asked: Asked) -> Any:
        page = page_asked(asked)
        args = (asked.query.get(among, ""),) if among else ()
        found = rows(desk, actor, *args, page)
        return page_shown(page, found, lambda row: named(actor, row))

    return act


def _show(show: _Shower, name: str) -> Callable[[Desk, Actor, Asked], Any]:
    def act(desk: Desk, actor: Actor, asked: Asked) -> Any:
        return named(actor, show(desk, actor, asked.path[name]))

    return act


def _change(
    change: Callable[..., None], show: _Shower, name: str
) -> Callable[[Desk, Actor, Asked], Any]:
    """Change what is named in the body, and show what there is then."""

    def act(desk: Desk, actor: Actor, asked: Asked) -> Any:
        if not asked.body:
            raise Invalid("name at least one field to change")
        change(desk, actor, asked.path[name], **asked.body)
        return named(actor, show(desk, actor, asked.path[name]))

    return act


def _do(do: Callable[[Desk, Actor, str], None], name: str) -> Callable[[Desk, Actor, Asked], Any]:
    def act(desk: Desk, actor: Actor, asked: Asked) -> None:
        do(desk, actor, asked.path[name])

    return act


# --- those that are not like the others -----------------------------------------------------


def _create_organisation(desk: Desk, actor: Actor, asked: Asked) -> Any:
    row = teams.create_organisation(desk, actor, **asked.body)
    return named(actor, teams.show_organisation(desk, actor, row["id"]))


def _create_team(desk: Desk, actor: Actor, asked: Asked) -> Any:
    body = dict(asked.body)
    row = teams.create_team(desk, actor, body.pop("organisation_id"), **body)
    return named(actor, teams.show_team(desk, actor, row["id"]))


def _create_key(desk: Desk, actor: Actor, asked: Asked) -> Any:
    body = dict(asked.body)
    return _with_secret(desk, actor, keys.create_key(desk, actor, body.pop("team_id"), **body))


def _rotate_key(desk: Desk, actor: Actor, asked: Asked) -> Any:
    made_key = keys.rotate_key(desk, actor, asked.path["key_id"], **asked.body)
    return _with_secret(desk, actor, made_key)


def _with_secret(desk: Desk, actor: Actor, made_key: keys.MadeKey) -> Any:
    row = named(actor, keys.show_key(desk, actor, made_key.row["id"]))
    return {**row, "secret": made_key.secret}


def _bind(desk: Desk, actor: Actor, asked: Asked) -> None:
    keys.bind_certificate(desk, actor, asked.path["key_id"], asked.body["subject"])


def _unbind(desk: Desk, actor: Actor, asked: Asked) -> None:
    keys.unbind_certificate(desk, actor, asked.path["key_id"], asked.body["subject"])


def _amount(body: dict[str, Any], *, is_needed: bool) -> dict[str, Any]:
    """With `limit_micro`, whichever way the amount was given."""
    values = dict(body)
    if "limit_usd" in values:
        if "limit_micro" in values:
            raise Invalid("name limit_usd or limit_micro, not both", "limit_usd")
        try:
            values["limit_micro"] = micro_from_dollars(values.pop("limit_usd"))
        except ValueError as error:
            raise Invalid(f"limit_usd: {error}", "limit_usd") from None
    if is_needed and "limit_micro" not in values:
        raise Invalid("limit_usd or limit_micro is missing", "limit_usd")
    return values


def _create_budget(desk: Desk, actor: Actor, asked: Asked) -> Any:
    values = _amount(asked.body, is_needed=True)
    organisation = values.pop("organisation_id", "")
    scope, name = values.pop("scope"), values.pop("scope_id")
    if organisation and scope != "tag":
        raise Invalid("organisation_id is for tags; others know theirs", "organisation_id")
    row = budgets.create_budget(desk, actor, scope, name, organisation=organisation, **values)
    return shown(budgets.show_budget(desk, actor, row["id"]))


def _change_budget(desk: Desk, actor: Actor, asked: Asked) -> Any:
    if not asked.body:
        raise Invalid("name at least one field to change")
    values = _amount(asked.body, is_needed=False)
    budgets.change_budget(desk, actor, asked.path["budget_id"], **values)
    return shown(budgets.show_budget(desk, actor, asked.path["budget_id"]))


def _show_budget(desk: Desk, actor: Actor, asked: Asked) -> Any:
    return shown(budgets.show_budget(desk, actor, asked.path["budget_id"]))


def _budgets(desk: Desk, actor: Actor, asked: Asked) -> Any:
    page = page_asked(asked)
    return page_shown(page, budgets.budgets(desk, actor, page))


def _create_administrator(desk: Desk, actor: Actor, asked: Asked) -> Any:
    body = dict(asked.body)
    return made(
        administrators.create_administrator(
            desk,
            actor,
            body["name"],
            body["role"],
            organisation=body.get("organisation_id", ""),
            team=body.get("team_id", ""),
            expires_at_us=body.get("expires_at_us"),
        )
    )


def _administrators(desk: Desk, actor: Actor, asked: Asked) -> Any:
    page = page_asked(asked)
    return page_shown(page, administrators.administrators(desk, actor, page))


def _rotate_administrator(desk: Desk, actor: Actor, asked: Asked) -> Any:
    id_ = asked.path["administrator_id"]
    return made(administrators.rotate_administrator(desk, actor, id_, **asked.body))


def _me(desk: Desk, actor: Actor, _: Asked) -> Any:
    may = [permission for permission in PERMISSIONS if actor.may(permission)]
    return {**shown(administrators.myself(desk, actor)), "permissions": may}


def _rotate_me(desk: Desk, actor: Actor, asked: Asked) -> Any:
    id_ = actor.credential_id
    return made(administrators.rotate_administrator(desk, actor, id_, **asked.body))


# --- the table ------------------------------------------------------------------------------


def _get(path: str, permission: str, summary: str, act: Any, answer: Schema, **query: Any) -> Route:
    return Route("GET", BASE + path, permission, summary, act, answer, query=query)


def _post(
    path: str,
    permission: str,
    summary: str,
    act: Any,
    answer: Schema | None = None,
    body: Schema | None = None,
    *,
    status: int = 200,
    **example: Any,
) -> Route:
    return Route(
        "POST",
        BASE + path,
        permission,
        summary,
        act,
        answer,
        body=body,
        status=status if answer else 204,
        example=example,
    )


def _patch(
    path: str, permission: str, summary: str, act: Any, answer: Schema, body: Schema, **example: Any
) -> Route:
    return Route("PATCH", BASE + path, permission, summary, act, answer, body=body, example=example)


_ORGANISATION, _TEAM, _KEY = (
    "/organisations/{organisation_id}",
    "/teams/{team_id}",
    "/keys/{key_id}",
)
_BUDGET, _ADMINISTRATOR = "/budgets/{budget_id}", "/administrators/{administrator_id}"
_PAGE = schemas.PAGE

ROUTES: Final[tuple[Route, ...]] = (
    _get(
        "/organisations",
        "organisation.read",
        "Organisations",
        _list(teams.organisations),
        schemas.page_of(schemas.ORGANISATION),
        **_PAGE,
    ),
    _post(
        "/organisations",
        "organisation.write",
        "Make an organisation",
        _create_organisation,
        schemas.ORGANISATION,
        schemas.ORGANISATION_GIVEN,
        status=201,
        name="acme",
        limits={"rpm": 6000},
    ),
    _get(
        _ORGANISATION,
        "organisation.read",
        "One organisation",
        _show(teams.show_organisation, "organisation_id"),
        schemas.ORGANISATION,
    ),
    _patch(
        _ORGANISATION,
        "organisation.write",
        "Change its name or limits; limits are replaced as a whole",
        _change(teams.change_organisation, teams.show_organisation, "organisation_id"),
        schemas.ORGANISATION,
        schemas.changes(schemas.NAMED),
        limits={"rpm": 12000},
    ),
    _post(
        f"{_ORGANISATION}/archive",
        "organisation.write",
        "Its keys and administrators are good no more; what they spent stays",
        _do(teams.archive_organisation, "organisation_id"),
    ),
    _get(
        "/teams",
        "team.read",
        "Teams",
        _list(teams.teams, "organisation_id"),
        schemas.page_of(schemas.TEAM),
        organisation_id=schemas.ID,
        **_PAGE,
    ),
    _post(
        "/teams",
        "team.write",
        "Make a team",
        _create_team,
        schemas.TEAM,
        schemas.TEAM_GIVEN,
        status=201,
        organisation_id="org_0123456789abcdef",
        name="voice",
    ),
    _get(_TEAM, "team.read", "One team", _show(teams.show_team, "team_id"), schemas.TEAM),
    _patch(
        _TEAM,
        "team.write",
        "Change its name or limits; limits are replaced as a whole",
        _change(teams.change_team, teams.show_team, "team_id"),
        schemas.TEAM,
        schemas.changes(schemas.NAMED),
        limits={"generations": 50},
    ),
    _post(
        f"{_TEAM}/archive",
        "team.write",
        "Its keys and administrators are good no more; what they spent stays",
        _do(teams.archive_team, "team_id"),
    ),
    _get(
        "/keys",
        "key.read",
        "Keys, without secrets",
        _list(keys.keys, "team_id"),
        schemas.page_of(schemas.KEY),
        team_id=schemas.ID,
        **_PAGE,
    ),
    _post(
        "/keys",
        "key.write",
        "Make a key; its secret is shown this once",
        _create_key,
        schemas.KEY_MADE,
        schemas.KEY_GIVEN,
        status=201,
        team_id="team_0123456789abcdef",
        name="agent",
        scopes={"models": ["fast"]},
        limits={"rpm": 60},
    ),
    _get(
        _KEY,
        "key.read",
        "One key, with its credentials and certificates",
        _show(keys.show_key, "key_id"),
        schemas.KEY_SHOWN,
    ),
    _patch(
        _KEY,
        "key.write",
        "Change a key; each field that is named is replaced as a whole",
        _change(keys.change_key, keys.show_key, "key_id"),
        schemas.KEY_SHOWN,
        schemas.KEY_CHANGED,
        tags=["pilot"],
    ),
    _post(
        f"{_KEY}/rotate",
        "key.write",
        "Another secret, shown this once; the old one is good for overlap_s yet (0: no more)",
        _rotate_key,
        schemas.KEY_MADE,
        schemas.OVERLAP,
        overlap_s=3600,
    ),
    _post(
        f"{_KEY}/revoke",
        "key.write",
        "Good no more, everywhere within a second; cannot be undone",
        _do(keys.revoke_key, "key_id"),
    ),
    _post(
        f"{_KEY}/certificates/bind",
        "certificate.write",
        "Client certificates with this name stand for the key",
        _bind,
        body=schemas.SUBJECT,
        subject="DNS:agent.example",
    ),
    _post(
        f"{_KEY}/certificates/unbind",
        "key.write",
        "They stand for it no more",
        _unbind,
        body=schemas.SUBJECT,
        subject="DNS:agent.example",
    ),
    _get(
        "/budgets",
        "budget.read",
        "Budgets, with what is spent and put aside of their present period",
        _budgets,
        schemas.page_of(schemas.BUDGET),
        **_PAGE,
    ),
    _post(
        "/budgets",
        "budget.write",
        "Make a budget",
        _create_budget,
        schemas.BUDGET,
        schemas.BUDGET_GIVEN,
        status=201,
        scope="team",
        scope_id="team_0123456789abcdef",
        period="month",
        time_zone="Europe/Berlin",
        limit_usd="250",
        alert_percents=[80, 100],
    ),
    _get(_BUDGET, "budget.read", "One budget", _show_budget, schemas.BUDGET),
    _patch(
        _BUDGET,
        "budget.write",
        "Change its amount, whether it stops, or its alerts; holds for what is reserved from then",
        _change_budget,
        schemas.BUDGET,
        schemas.BUDGET_CHANGED,
        limit_usd="300",
    ),
    _post(
        f"{_BUDGET}/archive",
        "budget.write",
        "It counts no more",
        _do(budgets.archive_budget, "budget_id"),
    ),
    _get(
        "/administrators",
        "administrator.read",
        "Administrators, without secrets",
        _administrators,
        schemas.page_of(schemas.ADMINISTRATOR),
        **_PAGE,
    ),
    _post(
        "/administrators",
        "administrator.write",
        "Make an administrator, who has no more than whoever makes him; the token is shown once",
        _create_administrator,
        schemas.ADMINISTRATOR_MADE,
        schemas.ADMINISTRATOR_GIVEN,
        status=201,
        name="jo",
        role="viewer",
    ),
    _post(
        f"{_ADMINISTRATOR}/rotate",
        "administrator.write",
        "Another token with the same rights and end; the old one is good for overlap_s yet",
        _rotate_administrator,
        schemas.ADMINISTRATOR_MADE,
        schemas.OVERLAP,
        overlap_s=3600,
    ),
    _post(
        f"{_ADMINISTRATOR}/revoke",
        "administrator.write",
        "The token is good no more, at once",
        _do(administrators.revoke_administrator, "administrator_id"),
    ),
    _get("/me", "self.read", "Whose token this is, and what it may", _me, schemas.ME),
    _post(
        "/me/rotate",
        "self.rotate",
        "Another token for oneself",
        _rotate_me,
        schemas.ADMINISTRATOR_MADE,
        schemas.OVERLAP,
        overlap_s=3600,
    ),
    _get(
        "/audit",
        "audit.read",
        "The audit log, newest first",
        audit_list,
        schemas.page_of(schemas.AUDIT_ENTRY),
        actor=schemas.ID,
        action=schemas.noted(schemas.ID, "`key.*` for all that begin so"),
        organisation_id=schemas.ID,
        outcome={"type": "string", "enum": ["done", "denied", "failed"]},
        **_PAGE,
    ),
    *USAGE_ROUTES,
)
