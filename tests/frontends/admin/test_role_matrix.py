"""Who may do what: every route, by every role, in its own part and in others'.

The table is written out here once more, by routes: a route that is in no row fails, and so does a
change of `relay.administration.roles` that nobody meant.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest

from relay.administration.roles import PERMISSIONS, ROLES, Actor
from relay.frontends.admin.api import OPENAPI
from relay.frontends.admin.route import Route
from relay.frontends.admin.routes import ROUTES
from tests.fakes.admin_world import PARTS, Office, World, office_over
from tests.fakes.json_schema import faults

ALL: Final = "owner admin billing auditor viewer"
CHANGES: Final = "owner admin"
MONEY: Final = "owner admin billing"
KEEPS: Final = "owner admin auditor"

MATRIX: Final[dict[str, tuple[str, str]]] = {
    # route: roles, and the parts in which they have it
    "GET /organisations": (ALL, "whole organisation team"),
    "POST /organisations": ("owner", "whole"),
    "GET /organisations/{organisation_id}": (ALL, "whole organisation team"),
    "PATCH /organisations/{organisation_id}": ("owner", "whole"),
    "POST /organisations/{organisation_id}/archive": ("owner", "whole"),
    "GET /teams": (ALL, "whole organisation team"),
    "POST /teams": (CHANGES, "whole organisation"),
    "GET /teams/{team_id}": (ALL, "whole organisation team"),
    "PATCH /teams/{team_id}": (CHANGES, "whole organisation"),
    "POST /teams/{team_id}/archive": (CHANGES, "whole organisation"),
    "GET /keys": (ALL, "whole organisation team"),
    "POST /keys": (CHANGES, "whole organisation team"),
    "GET /keys/{key_id}": (ALL, "whole organisation team"),
    "PATCH /keys/{key_id}": (CHANGES, "whole organisation team"),
    "POST /keys/{key_id}/rotate": (CHANGES, "whole organisation team"),
    "POST /keys/{key_id}/revoke": (CHANGES, "whole organisation team"),
    "POST /keys/{key_id}/certificates/bind": (CHANGES, "whole"),
    "POST /keys/{key_id}/certificates/unbind": (CHANGES, "whole organisation team"),
    "GET /budgets": (ALL, "whole organisation team"),
    "POST /budgets": (MONEY, "whole organisation team"),
    "GET /budgets/{budget_id}": (ALL, "whole organisation team"),
    "PATCH /budgets/{budget_id}": (MONEY, "whole organisation team"),
    "POST /budgets/{budget_id}/archive": (MONEY, "whole organisation team"),
    "GET /administrators": (KEEPS, "whole organisation team"),
    "POST /administrators": (CHANGES, "whole organisation team"),
    "POST /administrators/{administrator_id}/rotate": (CHANGES, "whole organisation team"),
    "POST /administrators/{administrator_id}/revoke": (CHANGES, "whole organisation team"),
    "GET /usage": (ALL, "whole organisation team"),
    "GET /usage/export": ("owner admin billing auditor", "whole organisation team"),
    "POST /usage/forget": ("owner", "whole organisation team"),
    "GET /me": (ALL, "whole organisation team"),
    "POST /me/rotate": (ALL, "whole organisation team"),
    "GET /audit": ("owner auditor", "whole"),
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(f"sqlite:///{tmp_path_factory.mktemp('world') / 'relay.db'}")


def name_of(route: Route) -> str:
    return f"{route.method} {route.path.removeprefix('/admin/v1')}"


def test_every_route_is_in_the_table() -> None:
    assert {name_of(route) for route in ROUTES} == set(MATRIX)
    assert {route.permission for route in ROUTES} <= set(PERMISSIONS)


def sees(part: str, place: str) -> bool:
    """Whether who is bound to this part of `own` sees what is there."""
    return part == "whole" or place == "own" or (part == "organisation" and place == "beside")


def body_for(route: Route, place: dict[str, str], number: int) -> dict[str, Any] | None:
    """The example, about what is in a place."""
    if route.body is None:
        return None
    body = dict(route.example)
    for field in ("organisation_id", "team_id", "subject"):
        if field in body:
            body[field] = place[field]
    if "name" in body:
        body["name"] = f"new {number}"
    if "scope" in body:
        body |= {"scope": "key", "scope_id": place["key_id"]}
    if route.permission == "administrator.write" and "role" in body:
        body["team_id"] = place["team_id"]
    if route.path.endswith("/bind"):
        body["subject"] = f"DNS:new{number}.example"
    return body


def is_about_something(route: Route, body: dict[str, Any] | None) -> bool:
    about = {"organisation_id", "team_id", "scope_id"}
    return bool(route.names) or bool(about & (body or {}).keys())


@pytest.mark.parametrize("route", ROUTES, ids=name_of)
async def test_a_route_by_everybody_everywhere(route: Route, world: World, tmp_path: Path) -> None:
    roles, parts = MATRIX[name_of(route)]
    cases = list(itertools.product(PARTS, ROLES, world.places.items()))
    async with office_over(world.copy(tmp_path / "untouched.db")) as untouched:
        for number, (part, role, (place, ids)) in enumerate(cases):
            may = role in roles.split() and part in parts.split()
            body = body_for(route, ids, number)
            is_seen = sees(part, place) or not is_about_something(route, body)
            if place == "beside" and "/organisations" in route.path:
                is_seen = True  # of the same organisation
            case = f"{role} of {part} on {place}"
            if may and is_seen and route.method != "GET":
                async with office_over(world.copy(tmp_path / "relay.db")) as office:
                    told = await ask(office, route, ids, world.tokens[role, part], body)
            else:
                told = await ask(untouched, route, ids, world.tokens[role, part], body)
            denied = [note["action"] for note in untouched.told.notes]
            untouched.told.notes.clear()
            if not may:
                assert told.status_code == 403, case
                assert told.json()["error"]["code"] == "permission_denied"
                assert denied == ["admin.denied"], case
            elif not is_seen:
                assert told.status_code == 404, f"{case}: {told.text}"
                assert "there is no" in told.json()["error"]["message"]
            else:
                expected = 204 if route.answer is None else route.status
                assert told.status_code == expected, f"{case}: {told.text}"
                if route.answer is not None and route.content_type == "application/json":
                    assert faults(route.answer, told.json()) == [], case


async def ask(
    office: Office, route: Route, ids: dict[str, str], token: str, body: dict[str, Any] | None
) -> httpx2.Response:
    return await office.ask(route.method, route.path.format(**ids), token, body)


@pytest.mark.parametrize("part", PARTS)
async def test_lists_have_what_one_sees_and_nothing_else(world: World, part: str) -> None:
    async with office_over(world.url) as office:
        for path, field in (
            ("/organisations", "organisation_id"),
            ("/teams", "team_id"),
            ("/keys", "key_id"),
            ("/budgets", "budget_id"),
            ("/administrators", "administrator_id"),
        ):
            told = await office.ask("GET", path, world.tokens["admin", part])
            ids = {row["id"] for row in told.json()["data"]}
            for place, there in world.places.items():
                is_seen = sees(part, place)
                if field == "organisation_id":
                    is_seen = is_seen or place == "beside"
                assert (there[field] in ids) == is_seen, (path, place)


async def test_what_is_elsewhere_is_told_as_what_is_nowhere(world: World) -> None:
    """Also by filters and by names: no answer says that others have it."""
    token, other = world.tokens["admin", "organisation"], world.places["other"]
    nowhere = {"team_id": "team_00", "organisation_id": "org_00", "key_id": "key_00"}
    async with office_over(world.url) as office:
        for path in ("/keys?team_id={team_id}", "/teams?organisation_id={organisation_id}"):
            for ids in (other, nowhere):
                told = await office.ask("GET", path.format(**ids), token)
                assert told.status_code == 404
        wanted = {"name": "k", "team_id": "team of other"}
        by_name = await office.ask("POST", "/keys", token, wanted)
        assert by_name.json()["error"]["message"] == "there is no team 'team of other'"


async def test_a_viewer_sees_names_alone(world: World) -> None:
    hidden = {"limits", "scopes", "tags", "created_by", "credentials", "certificates"}
    async with office_over(world.url) as office:
        path = f"/keys/{world.places['own']['key_id']}"
        for role, is_hidden in (("viewer", True), ("billing", False)):
            row = (await office.ask("GET", path, world.tokens[role, "team"])).json()
            assert row["name"] == "key"
            assert hidden.isdisjoint(row) == is_hidden


async def test_what_is_in_no_table_is_refused_for_everybody(world: World) -> None:
    odd = Route("GET", "/admin/v1/odd", "odd.read", "Odd", lambda *_: {}, {"type": "object"})
    with pytest.raises(ValueError, match=r"'odd\.read' is no permission"):
        async with office_over(world.url, routes=(*ROUTES, odd)):
            pass
    with pytest.raises(ValueError, match="two routes"):
        async with office_over(world.url, routes=(*ROUTES, ROUTES[0])):
            pass
    assert not Actor("admin:1", "king").may("key.read")
    async with office_over(world.url) as office:
        assert (await office.ask("GET", OPENAPI, world.tokens["viewer", "team"])).status_code == 200
        told = await office.ask("GET", "/nothing", world.tokens["owner", "whole"])
        assert told.status_code == 404


async def test_what_holds_for_oneself_is_set_by_who_is_above(world: World) -> None:
    own = world.places["own"]
    async with office_over(world.url) as office:
        for part, scope in (("team", "team"), ("organisation", "organisation")):
            budget = {
                "scope": scope,
                "scope_id": own[f"{scope}_id"],
                "period": "month",
                "limit_usd": "1",
            }
            for role in ("admin", "billing"):
                told = await office.ask("POST", "/budgets", world.tokens[role, part], budget)
                assert told.status_code == 403
                assert "who is above you" in told.json()["error"]["message"]
