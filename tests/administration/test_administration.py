"""Organisations, teams, keys, budgets and administrators: what is done, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select, text

from relay.administration import administrators, budgets, keys, teams
from relay.administration.desk import Desk
from relay.administration.faults import Conflict, Denied, Fault, Invalid, NotFound
from relay.administration.roles import PERMISSIONS, ROLES, Actor
from relay.governance import token_text
from relay.governance.audit_chain import AuditKey
from relay.governance.audit_verify import Verifier
from relay.governance.pepper import Pepper, Peppers
from relay.store import schema
from relay.store.audit_store import AuditStore, read_head, read_rows
from relay.store.engine import engine_for, make_ready, reading, writing
from tests.fakes.properties import examples

PEPPER = Pepper("pepper-of-the-tests-0123456789abcdef")
KEY = AuditKey(PEPPER.key("audit"))
OWNER = Actor("cli:me", "owner")


class Clock:
    now_us = 1_790_000_000_000_000

    def __call__(self) -> int:
        return self.now_us


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    url = f"sqlite:///{tmp_path / 'relay.db'}"
    make_ready(url)
    yield from desk_of(url)


@pytest.fixture(params=["sqlite", "postgresql"])
def any_desk(request: pytest.FixtureRequest) -> Iterator[Desk]:
    """Over each database."""
    if request.param == "sqlite":
        yield request.getfixturevalue("desk")
    else:
        yield from desk_of(request.getfixturevalue("postgres_url"))


def desk_of(url: str) -> Iterator[Desk]:
    engine = engine_for(url)
    yield Desk(engine, audit=AuditStore(engine, KEY), pepper=PEPPER, now_us=Clock())
    engine.dispose()


def told(desk: Desk) -> list[tuple[str, str, dict[str, Any]]]:
    with reading(desk.engine) as connection:
        return [
            (row.entry.action, row.entry.actor, json.loads(row.entry.detail))
            for row in read_rows(connection)
        ]


def test_a_key_from_organisation_to_revocation(any_desk: Desk) -> None:
    desk = any_desk
    organisation = teams.create_organisation(desk, OWNER, "acme")
    team = teams.create_team(desk, OWNER, "acme", "voice", {"rpm": 60})
    made = keys.create_key(desk, OWNER, "voice", name="bot", scopes={"models": ["fast"]})
    assert made.secret.startswith("rtk_")
    keys.change_key(desk, OWNER, "bot", limits={"rpm": 5}, tags=["a"])
    rotated = keys.rotate_key(desk, OWNER, "bot", overlap_s=60)
    assert rotated.secret != made.secret
    shown = keys.show_key(desk, OWNER, made.row["id"])
    old, new = sorted(shown["credentials"], key=lambda one: one["expires_at_us"] is None)
    assert old["expires_at_us"] == Clock.now_us + 60_000_000
    assert new["expires_at_us"] is None
    assert (shown["limits"], shown["tags"]) == ('{"rpm": 5}', '["a"]')
    keys.bind_certificate(desk, OWNER, "bot", "DNS:agent.example")
    keys.unbind_certificate(desk, OWNER, "bot", "DNS:agent.example")
    keys.revoke_key(desk, OWNER, "bot")
    with pytest.raises(Conflict, match="revoked"):
        keys.rotate_key(desk, OWNER, "bot")
    assert [action for action, _, _ in told(desk)] == [
        "organisation.created",
        "team.created",
        "key.created",
        "key.changed",
        "key.rotated",
        "certificate.bound",
        "certificate.unbound",
        "key.revoked",
    ]
    assert {actor for _, actor, _ in told(desk)} == {"cli:me"}
    for secret in (made.secret, rotated.secret):
        assert secret not in repr(told(desk))
    verifier = Verifier([KEY], [])
    with reading(desk.engine) as connection:
        for row in read_rows(connection):
            verifier.take(row)
        assert verifier.report(read_head(connection)).status == 0
        numbers = [
            connection.execute(select(table.c.changed)).scalars().all()
            for table in (schema.organisations, schema.teams, schema.keys, schema.credentials)
        ]
    assert team["organisation_id"] == organisation["id"]
    assert numbers == [[1], [2], [8], [5, 5]], "each change has a number of its own"


def test_nothing_is_done_that_cannot_be_audited(desk: Desk) -> None:
    with writing(desk.engine) as connection:
        connection.execute(text("DROP TABLE audit_head"))
    with pytest.raises(Exception, match="audit_head"):
        teams.create_organisation(desk, OWNER, "acme")
    assert teams.organisations(desk, OWNER) == []


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "x" * 129}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"name": "k", "scopes": {"nodels": []}}, "scopes"),
        ({"name": "k", "scopes": []}, "scopes"),
        ({"name": "k", "limits": {"rpm": 0}}, "limits"),
        ({"name": "k", "limits": {"rpn": 1}}, "limits"),
        ({"name": "k", "tags": ["a", 1]}, "tags"),
        ({"name": "k", "tags": "a"}, "tags"),
        ({"name": "k", "expires_at_us": 5}, "expires_at_us"),
        ({"name": "k", "expires_at_us": True}, "expires_at_us"),
        ({"name": "k", "role": "owner"}, "role"),
        ({}, "name"),
    ],
)
def test_a_wrong_key_names_its_field(desk: Desk, values: dict[str, Any], field: str) -> None:
    teams.create_organisation(desk, OWNER, "acme")
    teams.create_team(desk, OWNER, "acme", "voice")
    with pytest.raises(Invalid) as raised:
        keys.create_key(desk, OWNER, "voice", **values)
    assert raised.value.field == field
    assert keys.keys(desk, OWNER) == []


def test_names_are_unique_where_they_are_looked_up(any_desk: Desk) -> None:
    desk = any_desk
    teams.create_organisation(desk, OWNER, "acme")
    teams.create_organisation(desk, OWNER, "other")
    with pytest.raises(Conflict):
        teams.create_organisation(desk, OWNER, "acme")
    for organisation in ("acme", "other"):
        teams.create_team(desk, OWNER, organisation, "voice")
    with pytest.raises(Conflict, match="several"):
        keys.create_key(desk, OWNER, "voice", name="k")
    with pytest.raises(NotFound, match="no team 'vice'"):
        keys.create_key(desk, OWNER, "vice", name="k")


def test_budgets_show_what_is_spent(any_desk: Desk) -> None:
    desk = any_desk
    teams.create_organisation(desk, OWNER, "acme")
    team = teams.create_team(desk, OWNER, "acme", "voice")
    row = budgets.create_budget(desk, OWNER, "team", "voice", period="total", limit_micro=5_000_000)
    with writing(desk.engine) as connection:
        connection.execute(
            schema.budget_periods.insert().values(
                budget_id=row["id"], period_start_s=0, settled_micro=7, reserved_micro=3
            )
        )
    (shown,) = budgets.budgets(desk, OWNER)
    assert (shown["settled_micro"], shown["reserved_micro"]) == (7, 3)
    assert (shown["scope_id"], shown["is_hard"]) == (team["id"], 1)
    budgets.change_budget(desk, OWNER, row["id"], limit_micro=9, is_hard=False)
    budgets.archive_budget(desk, OWNER, row["id"])
    (shown,) = budgets.budgets(desk, OWNER)
    assert (shown["limit_micro"], shown["is_hard"]) == (9, 0)
    assert shown["archived_at_us"] == Clock.now_us


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"period": "year"}, "period"),
        ({"period": "day", "time_zone": "Mars/Base"}, "time_zone"),
        ({"period": "day", "limit_micro": -1}, "limit_micro"),
        ({"period": "day", "limit_micro": 1.5}, "limit_micro"),
        ({"period": "day", "limit_micro": 1, "alert_percents": [0]}, "alert_percents"),
        ({"period": "day"}, "limit_micro"),
    ],
)
def test_a_wrong_budget_names_its_field(desk: Desk, more: dict[str, Any], field: str) -> None:
    teams.create_organisation(desk, OWNER, "acme")
    with pytest.raises(Invalid) as raised:
        budgets.create_budget(desk, OWNER, "organisation", "acme", **more)
    assert raised.value.field == field


def test_an_administrator_is_known_by_his_token(any_desk: Desk) -> None:
    desk = any_desk
    teams.create_organisation(desk, OWNER, "acme")
    made = administrators.create_administrator(desk, OWNER, "ann", "admin", organisation="acme")
    peppers = Peppers(PEPPER)
    actor = administrators.identify(desk, peppers, made.secret)
    assert actor is not None
    assert (actor.role, actor.name) == ("admin", f"admin:{made.row['id']}")
    assert actor.organisation_id == made.row["organisation_id"]
    for bad in ("", "rta_x", made.secret[:-1] + "0", made.secret.replace("rta_", "rtk_")):
        assert administrators.identify(desk, peppers, bad) is None or bad == made.secret
    other = Peppers(Pepper("another-pepper-0123456789abcdef-0123"))
    assert administrators.identify(desk, other, made.secret) is None
    old = Peppers(Pepper("another-pepper-0123456789abcdef-0123"), [PEPPER])
    assert administrators.identify(desk, old, made.secret) == actor
    administrators.revoke_administrator(desk, OWNER, "ann")
    assert administrators.identify(desk, peppers, made.secret) is None


def test_others_do_not_exist_for_who_is_bound(any_desk: Desk) -> None:
    desk = any_desk
    mine = teams.create_organisation(desk, OWNER, "mine")
    teams.create_organisation(desk, OWNER, "theirs")
    teams.create_team(desk, OWNER, "theirs", "their team")
    key = keys.create_key(desk, OWNER, "their team", name="k")
    budget = budgets.create_budget(
        desk, OWNER, "organisation", "theirs", period="day", limit_micro=1
    )
    admin = Actor("admin:1", "admin", mine["id"])
    refused: list[Any] = [
        lambda: teams.create_team(desk, admin, "theirs", "t"),
        lambda: teams.change_team(desk, admin, "their team", name="x"),
        lambda: teams.archive_organisation(desk, admin, "theirs"),
        lambda: keys.create_key(desk, admin, "their team", name="x"),
        lambda: keys.show_key(desk, admin, key.row["id"]),
        lambda: keys.rotate_key(desk, admin, key.row["id"]),
        lambda: keys.revoke_key(desk, admin, key.row["id"]),
        lambda: budgets.change_budget(desk, admin, budget["id"], limit_micro=5),
        lambda: budgets.archive_budget(desk, admin, budget["id"]),
        lambda: administrators.create_administrator(
            desk, admin, "x", "viewer", organisation="theirs"
        ),
    ]
    before = told(desk)
    for act in refused:
        with pytest.raises(NotFound):
            act()
    assert told(desk) == before
    assert [row["name"] for row in teams.organisations(desk, admin)] == ["mine"]
    assert teams.teams(desk, admin) == keys.keys(desk, admin) == budgets.budgets(desk, admin) == []


ACTORS = st.builds(
    Actor,
    st.just("admin:1"),
    st.sampled_from(ROLES),
    st.sampled_from(["", "org_1", "org_2"]),
    st.just(""),
) | st.builds(
    Actor, st.just("admin:1"), st.sampled_from(ROLES), st.just("org_1"), st.sampled_from(["team_1"])
)
PLACES = st.sampled_from([("", ""), ("org_1", ""), ("org_1", "team_1"), ("org_2", "")])


@given(ACTORS, st.sampled_from(ROLES), PLACES, st.sampled_from(sorted(PERMISSIONS)), PLACES)
@examples(300)
def test_nobody_makes_somebody_who_has_more(
    actor: Actor, role: str, bound: tuple[str, str], permission: str, where: tuple[str, str]
) -> None:
    """Whatever the new one may do, whoever made him may do."""
    try:
        actor.require("administrator.write", *bound)
        actor.require_grant(role, *bound)
    except Fault:
        return
    child = Actor("admin:2", role, *bound)
    try:
        child.require(permission, *where)
    except Fault:
        return
    actor.require(permission, *where)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("permission", sorted(PERMISSIONS))
def test_the_table_of_roles_is_what_holds(role: str, permission: str) -> None:
    actor = Actor("admin:1", role)
    if role in PERMISSIONS[permission]:
        actor.require(permission)
    else:
        with pytest.raises(Denied):
            actor.require(permission)
    with pytest.raises(Denied):
        actor.require("nothing.known")


def test_a_key_taken_for_a_name_is_not_told_again(desk: Desk) -> None:
    token = token_text.mint("virtual key")
    with pytest.raises(NotFound) as told:
        keys.revoke_key(desk, OWNER, token.text)
    assert str(told.value) == f"there is no key '{token.text.partition('.')[0]}.***'"


@pytest.mark.parametrize(
    "name", ["", " a", "a\n", "a\x1b[2J", "a\x9b2J", "a\u202eb", "a\u2028b", "\udc80"]
)
def test_names_do_nothing_to_a_terminal(desk: Desk, name: str) -> None:
    with pytest.raises(Invalid, match="printable"):
        teams.create_organisation(desk, OWNER, name)
    assert told(desk) == []


def test_names_of_any_script(desk: Desk) -> None:
    for name in ("Zürich 2", "東京", "a" * 128, "☎ calls"):
        teams.create_organisation(desk, OWNER, name)
    assert len(told(desk)) == 4
