"""Two organisations with all that belongs to one, administrators of every role and part, and the
administration's API over them."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
from sqlalchemy import Engine

from relay.administration import budgets, keys, teams
from relay.administration.administrators import create_administrator
from relay.administration.desk import Desk
from relay.administration.roles import ROLES, Actor
from relay.frontends.admin.api import AdminApi
from relay.frontends.admin.route import Route
from relay.frontends.admin.routes import ROUTES
from relay.governance.audit_chain import AuditKey
from relay.store.audit_store import AuditStore
from relay.store.engine import engine_for, make_ready
from tests.fakes.keys import PEPPER, PEPPERS

OPERATOR = Actor("cli:tests", "owner")
KEY = AuditKey(PEPPER.key("audit"))
NOW_US = 1_790_000_000_000_000

PARTS = ("whole", "organisation", "team")
"""What an administrator is bound to: nothing, `own`, or `own`'s first team."""


class Clock:
    """Microseconds since 1970; every look is one later, so that rows have an order."""

    def __init__(self, now_us: int = NOW_US + 3_600_000_000) -> None:
        self.now_us = now_us

    def __call__(self) -> int:
        self.now_us += 1
        return self.now_us


class Told:
    """A trail that remembers."""

    def __init__(self) -> None:
        self.notes: list[dict[str, Any]] = []

    def learn(self, secrets: object) -> None:
        """Nothing."""

    def note(self, action: str, **more: Any) -> None:
        self.notes.append({"action": action, **more})


def desk_over(engine: Engine, clock: Clock | None = None) -> Desk:
    """One that audits, with the pepper of the tests."""
    return Desk(engine, audit=AuditStore(engine, KEY), pepper=PEPPER, now_us=clock or Clock())


class World:
    """What is there, by its ids: `places["own"]["team_id"]`; tokens by role and part."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.places: dict[str, dict[str, str]] = {}
        self.tokens: dict[tuple[str, str], str] = {}
        make_ready(url)
        engine = engine_for(url)
        try:
            self._fill(desk_over(engine, Clock(NOW_US)))
        finally:
            engine.dispose()

    def _fill(self, desk: Desk) -> None:
        for name in ("own", "other"):
            self.places[name] = {
                "organisation_id": teams.create_organisation(desk, OPERATOR, name)["id"]
            }
        for name, above in (("own", "own"), ("beside", "own"), ("other", "other")):
            place = self.places.setdefault(name, dict(self.places[above]))
            organisation = place["organisation_id"]
            team = teams.create_team(desk, OPERATOR, organisation, f"team of {name}")
            key = keys.create_key(desk, OPERATOR, team["id"], name="key")
            keys.bind_certificate(desk, OPERATOR, key.row["id"], f"DNS:{name}.example")
            budget = budgets.create_budget(
                desk, OPERATOR, "key", key.row["id"], period="day", limit_micro=1_000_000
            )
            clerk = create_administrator(
                desk, OPERATOR, f"clerk of {name}", "viewer", team=team["id"]
            )
            place |= {
                "team_id": team["id"],
                "key_id": key.row["id"],
                "secret": key.secret,
                "subject": f"DNS:{name}.example",
                "budget_id": budget["id"],
                "administrator_id": clerk.row["id"],
            }
        own = self.places["own"]
        bound: dict[str, dict[str, Any]] = {
            "whole": {},
            "organisation": {"organisation": own["organisation_id"]},
            "team": {"team": own["team_id"]},
        }
        for role in ROLES:
            for part, where in bound.items():
                made = create_administrator(desk, OPERATOR, f"{role} {part}", role, **where)
                self.tokens[role, part] = made.secret

    @property
    def file(self) -> Path:
        return Path(self.url.removeprefix("sqlite:///"))

    def copy(self, target: Path) -> str:
        """Address of a copy of its SQLite file."""
        shutil.copy(self.file, target)
        return f"sqlite:///{target}"


class Office:
    """The API over a database, and a client for it."""

    def __init__(self, api: AdminApi, desk: Desk, told: Told, client: httpx2.AsyncClient) -> None:
        self.api = api
        self.desk = desk
        self.told = told
        self.client = client

    async def ask(
        self, method: str, path: str, token: str = "", body: Any = None, **more: Any
    ) -> httpx2.Response:
        """One request; paths begin after `/admin/v1`, unless they begin with `/admin/`."""
        whole = path if path.startswith("/admin/") else f"/admin/v1{path}"
        headers = {"authorization": f"Bearer {token}"} if token else {}
        if body is not None:
            more["json"] = body
        return await self.client.request(method, whole, headers=headers, **more)


@asynccontextmanager
async def office_over(
    url: str, *, routes: tuple[Route, ...] = ROUTES, clock: Clock | None = None
) -> AsyncIterator[Office]:
    """Leaving the block closes it all."""
    engine = engine_for(url)
    told = Told()
    desk = desk_over(engine, clock)
    seconds = clock or Clock()
    api = AdminApi(desk, PEPPERS, routes, told, lambda: seconds.now_us / 1e6)
    transport = httpx2.ASGITransport(app=api, client=("192.0.2.7", 4))
    try:
        async with httpx2.AsyncClient(transport=transport, base_url="http://admin") as client:
            yield Office(api, desk, told, client)
    finally:
        await api.aclose()
        engine.dispose()
