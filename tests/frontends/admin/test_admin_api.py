"""The administration's API: who is let in, what is refused and how, pages, outages."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from relay.administration.administrators import identify
from relay.frontends.admin import api as admin_api
from relay.frontends.admin.problems import PROBLEMS
from relay.frontends.admin.route import Raw, Route
from relay.frontends.admin.routes import ROUTES
from relay.frontends.admin.schemas import LIMITS, SCOPES_GIVEN
from relay.governance.failure_throttle import BURST
from relay.governance.limits import NAMES
from relay.governance.scopes import Scopes
from relay.governance.token_text import mint
from relay.store import schema
from relay.store.engine import writing
from tests.fakes.admin_world import Clock, Office, World, office_over
from tests.fakes.json_schema import faults

ERROR = {
    "type": "object",
    "required": ["code", "message", "request_id"],
    "properties": {
        "code": {"type": "string", "enum": sorted(PROBLEMS)},
        "message": {"type": "string"},
        "request_id": {"type": "string"},
        "field": {"type": "string"},
    },
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(f"sqlite:///{tmp_path_factory.mktemp('world') / 'relay.db'}")


@pytest.fixture
async def office(world: World, tmp_path: Path) -> AsyncIterator[Office]:
    async with office_over(world.copy(tmp_path / "relay.db")) as made:
        yield made


def error_of(told: Any) -> dict[str, Any]:
    document: dict[str, Any] = told.json()["error"]
    assert faults(ERROR, document) == []
    assert told.headers["x-request-id"] == document["request_id"]
    return document


# --- who is let in ----------------------------------------------------------------------------


async def test_what_is_no_good_token_has_one_answer(office: Office, world: World) -> None:
    owner = world.tokens["owner", "whole"]
    body = {"name": "x", "role": "viewer"}
    ended = await office.ask("POST", "/administrators", owner, body)
    revoked = ended.json()
    path = f"/administrators/{revoked['id']}/revoke"
    assert (await office.ask("POST", path, owner)).status_code == 204
    wrong = {
        "unknown": mint("administrator").text,
        "revoked": revoked["secret"],
        "cut": owner[:-1],
        "another secret": owner[:21] + mint("administrator").text[21:],
        "a virtual key": world.places["own"]["secret"],
        "words": "any",
    }
    told = {name: await office.ask("GET", "/keys", token) for name, token in wrong.items()}
    assert {answer.status_code for answer in told.values()} == {401}
    assert {error_of(answer)["message"] for answer in told.values()} == {"the token is not valid"}
    for answer in told.values():
        assert answer.headers["www-authenticate"].startswith("Bearer ")
    notes = [note for note in office.told.notes if note["action"] == "admin.denied"]
    assert {note["actor"] for note in notes} == {"address:192.0.2.7"}
    assert len(notes) == len(wrong)
    assert owner not in repr(office.told.notes)


async def test_without_a_token_nothing_is_told_of_what_there_is(office: Office) -> None:
    for method, path in (("GET", "/keys"), ("GET", "/nothing"), ("PUT", "/keys")):
        told = await office.ask(method, path)
        assert (told.status_code, error_of(told)["code"]) == (401, "unauthenticated")
    for headers in ({"authorization": "Basic abc"}, {"x-api-key": "rta_x"}):
        told = await office.client.get("/admin/v1/keys", headers=headers)
        assert told.status_code == 401


async def test_an_ended_token_and_one_of_an_archived_organisation(
    world: World, tmp_path: Path
) -> None:
    clock = Clock()
    async with office_over(world.copy(tmp_path / "relay.db"), clock=clock) as office:
        owner = world.tokens["owner", "whole"]
        body = {"name": "x", "role": "viewer", "expires_at_us": clock.now_us + 60_000_000}
        short = (await office.ask("POST", "/administrators", owner, body)).json()["secret"]
        assert (await office.ask("GET", "/me", short)).status_code == 200
        clock.now_us += 60_000_000
        assert (await office.ask("GET", "/me", short)).status_code == 401
        bound = world.tokens["viewer", "team"]
        assert (await office.ask("GET", "/me", bound)).status_code == 200
        path = f"/organisations/{world.places['own']['organisation_id']}/archive"
        assert (await office.ask("POST", path, owner)).status_code == 204
        assert (await office.ask("GET", "/me", bound)).status_code == 401


async def test_who_guesses_is_told_to_wait_and_a_good_token_is_not(
    office: Office, world: World
) -> None:
    for _ in range(BURST):
        assert (await office.ask("GET", "/keys", mint("administrator").text)).status_code == 401
    told = await office.ask("GET", "/keys", mint("administrator").text)
    assert (told.status_code, error_of(told)["code"]) == (429, "too_many_failures")
    assert int(told.headers["retry-after"]) >= 1
    assert (await office.ask("GET", "/keys", world.tokens["owner", "whole"])).status_code == 200


async def test_a_store_that_is_away_is_503_and_never_401(office: Office, world: World) -> None:
    with writing(office.desk.engine) as connection:
        connection.exec_driver_sql("ALTER TABLE administrators RENAME TO gone")
    for token in (world.tokens["owner", "whole"], mint("administrator").text):
        told = await office.ask("GET", "/keys", token)
        assert (told.status_code, error_of(told)["code"]) == (503, "unavailable")
        assert "retry-after" in told.headers
        assert "administrators" not in told.text


async def test_a_token_that_is_revoked_meanwhile_finishes_nothing(
    office: Office, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look at the token and the act it was revoked."""
    token = world.tokens["admin", "organisation"]
    revoke = schema.administrators.update().where(
        schema.administrators.c.id == token.removeprefix("rta_").partition(".")[0]
    )

    def and_revoke(*args: Any) -> Any:
        actor = identify(*args)
        with writing(office.desk.engine) as connection:
            connection.execute(revoke.values(revoked_at_us=1))
        return actor

    monkeypatch.setattr(admin_api, "identify", and_revoke)
    body = {"team_id": world.places["own"]["team_id"], "name": "late"}
    told = await office.ask("POST", "/keys", token, body)
    assert (told.status_code, error_of(told)["code"]) == (403, "permission_denied")
    listed = await office.ask("GET", "/keys", world.tokens["owner", "whole"])
    assert "late" not in {row["name"] for row in listed.json()["data"]}


# --- what is refused --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "team_id"),
        ({"team_id": "T"}, "name"),
        ({"team_id": "T", "name": 5}, "name"),
        ({"team_id": "T", "name": "k", "role": "owner"}, "role"),
        ({"team_id": "T", "name": "k", "limits": {"rpm": 0}}, "limits.rpm"),
        ({"team_id": "T", "name": "k", "limits": {"rpm": True}}, "limits.rpm"),
        ({"team_id": "T", "name": "k", "limits": {"rpn": 1}}, "limits.rpn"),
        ({"team_id": "T", "name": "k", "scopes": {"models": "fast"}}, "scopes.models"),
        ({"team_id": "T", "name": "k", "scopes": {"models": [1]}}, "scopes.models[0]"),
        ({"team_id": "T", "name": "k", "scopes": {"may_hedge": 1}}, "scopes.may_hedge"),
        ({"team_id": "T", "name": "k", "expires_at_us": 1}, "expires_at_us"),
        ({"team_id": "T", "name": " k"}, "name"),
        ([], ""),
        ("text", ""),
    ],
)
async def test_a_wrong_body_names_its_field(
    office: Office, world: World, body: Any, field: str
) -> None:
    if isinstance(body, dict) and body.get("team_id") == "T":
        body = {**body, "team_id": world.places["own"]["team_id"]}
    told = await office.ask("POST", "/keys", world.tokens["owner", "whole"], body)
    assert told.status_code == 400
    error = error_of(told)
    assert (error["code"], error.get("field", "")) == ("invalid", field)


@pytest.mark.parametrize(
    ("amount", "micro"),
    [
        ({"limit_usd": "12.50"}, 12_500_000),
        ({"limit_usd": "0.000001"}, 1),
        ({"limit_micro": 7}, 7),
        ({"limit_usd": "0.0000001"}, None),
        ({"limit_usd": "-1"}, None),
        ({"limit_usd": "NaN"}, None),
        ({"limit_usd": 1.5}, None),
        ({"limit_micro": 1.5}, None),
        ({"limit_micro": 2**62 + 1}, None),
        ({"limit_usd": "1", "limit_micro": 1}, None),
        ({}, None),
    ],
)
async def test_amounts_are_exact(
    office: Office, world: World, amount: dict[str, Any], micro: int | None
) -> None:
    body = {"scope": "tag", "scope_id": "pilot", "period": "total", **amount}
    told = await office.ask("POST", "/budgets", world.tokens["billing", "whole"], body)
    if micro is None:
        assert told.status_code == 400
        assert error_of(told)["field"] in ("limit_usd", "limit_micro")
    else:
        assert told.json()["limit_micro"] == micro
        again = await office.ask("POST", "/budgets", world.tokens["billing", "whole"], body)
        assert (again.status_code, error_of(again)["code"]) == (409, "conflict")


async def test_requests_that_cannot_be_read(office: Office, world: World) -> None:
    token = world.tokens["owner", "whole"]
    json_type = {"content-type": "application/json"}

    async def post(content: bytes, **headers: str) -> Any:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await office.client.post(
            "/admin/v1/organisations",
            content=content,
            headers={"authorization": f"Bearer {token}", **named},
        )

    assert error_of(await post(b"{", **json_type))["message"] == "the body is no JSON"
    assert error_of(await post(b'{"name": "a"}'))["field"] == "content-type"
    large = await post(b" " * (admin_api.MAX_BODY_BYTES + 1), **json_type)
    assert (large.status_code, error_of(large)["code"]) == (413, "too_large")
    zipped = await post(b"{}", content_encoding="gzip", **json_type)
    assert error_of(zipped)["field"] == "content-encoding"
    for path, field in (
        ("/keys?limit=0", "limit"),
        ("/keys?limit=x", "limit"),
        ("/keys?limit=1&limit=2", "limit"),
        ("/keys?colour=red", "colour"),
        ("/keys?cursor=drop", "cursor"),
        ("/audit?cursor=x", "cursor"),
        ("/audit?outcome=maybe", "outcome"),
    ):
        told = await office.ask("GET", path, token)
        assert (told.status_code, error_of(told)["field"]) == (400, field), path
    told = await office.ask("DELETE", "/keys", token)
    assert (told.status_code, told.headers["allow"]) == (405, "GET, POST")
    empty = await office.ask("PATCH", f"/keys/{world.places['own']['key_id']}", token, {})
    assert empty.status_code == 400
    odd = await office.ask("GET", "/keys/a%2F..%2Fb", token)
    assert odd.status_code == 404


def test_the_schemas_have_the_fields_that_there_are() -> None:
    assert set(LIMITS["properties"]) == set(NAMES)
    assert set(SCOPES_GIVEN["properties"]) == set(Scopes.__dataclass_fields__)


# --- what is answered -------------------------------------------------------------------------


async def test_a_list_goes_on_from_page_to_page(office: Office, world: World) -> None:
    token, team_id = world.tokens["owner", "whole"], world.places["own"]["team_id"]
    for number in range(6):
        body = {"team_id": team_id, "name": f"k{number}"}
        assert (await office.ask("POST", "/keys", token, body)).status_code == 201
    seen: list[str] = []
    cursor = ""
    while True:
        path = f"/keys?team_id={team_id}&limit=3" + (f"&cursor={cursor}" if cursor else "")
        page = (await office.ask("GET", path, token)).json()
        seen += [row["name"] for row in page["data"]]
        if page["next_cursor"] is None:
            break
        assert len(page["data"]) == 3
        cursor = page["next_cursor"]
    assert seen == ["key", *(f"k{number}" for number in range(6))]
    newest = (await office.ask("GET", "/audit?limit=2&action=key.*", token)).json()
    assert [row["detail"]["name"] for row in newest["data"]] == ["k5", "k4"]
    path = f"/audit?limit=2&action=key.*&cursor={newest['next_cursor']}"
    older = (await office.ask("GET", path, token)).json()
    assert [row["detail"]["name"] for row in older["data"]] == ["k3", "k2"]


async def test_secrets_are_shown_once_and_kept_by_nobody(office: Office, world: World) -> None:
    token, key_id = world.tokens["owner", "whole"], world.places["own"]["key_id"]
    made = await office.ask("POST", f"/keys/{key_id}/rotate", token, {"overlap_s": 0})
    assert made.headers["cache-control"] == "no-store"
    secret = made.json()["secret"]
    assert secret.startswith("rtk_")
    old, new = made.json()["credentials"]
    assert old["revoked_at_us"] is not None, "no clock of a worker can let it live on"
    assert (new["revoked_at_us"], new["last4"]) == (None, secret[-4:])
    inner = secret.partition(".")[2]
    for path in (f"/keys/{key_id}", "/keys", "/audit", "/administrators"):
        text = (await office.ask("GET", path, token)).text
        assert inner not in text
        assert '"mac"' not in text


async def test_everybody_changes_his_own_token(office: Office, world: World) -> None:
    before = world.tokens["viewer", "team"]
    me = (await office.ask("GET", "/me", before)).json()
    assert (me["role"], me["team_id"]) == ("viewer", world.places["own"]["team_id"])
    assert "key.write" not in me["permissions"]
    made = (await office.ask("POST", "/me/rotate", before, {"overlap_s": 0})).json()
    assert (await office.ask("GET", "/me", before)).status_code == 401
    after = (await office.ask("GET", "/me", made["secret"])).json()
    same = ("name", "role", "team_id", "organisation_id", "expires_at_us", "permissions")
    assert {name: after[name] for name in same} == {name: me[name] for name in same}


async def test_more_at_once_than_threads_can_hold_is_told(
    office: Office, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admin_api, "MOST_WAITING", 2)
    gate = threading.Event()

    def slow(*args: Any) -> Any:
        gate.wait(5)
        return identify(*args)

    monkeypatch.setattr(admin_api, "identify", slow)
    token = world.tokens["owner", "whole"]
    waiting = [asyncio.create_task(office.ask("GET", "/me", token)) for _ in range(2)]
    while office.api._waiting < 2:
        await asyncio.sleep(0)
    told = await office.ask("GET", "/me", token)
    assert (told.status_code, error_of(told)["code"]) == (503, "busy")
    gate.set()
    assert [answer.status_code for answer in await asyncio.gather(*waiting)] == [200, 200]


async def test_further_routes_have_permissions_too_and_may_stream(
    world: World, tmp_path: Path
) -> None:
    def export(*_: Any) -> Raw:
        return Raw((b"%d\n" % n for n in range(3)), "text/csv", "usage.csv")

    def fails(*_: Any) -> Raw:
        raise RuntimeError("a bug")

    text = {"type": "string"}
    base = "/admin/v1/further"
    more = (
        Route(
            "GET", f"{base}/export", "usage.export", "CSV", export, text, content_type="text/csv"
        ),
        Route("GET", f"{base}/bug", "usage.read", "Bug", fails, text),
    )
    url = world.copy(tmp_path / "relay.db")
    async with office_over(url, routes=(*ROUTES, *more)) as office:
        told = await office.ask("GET", "/further/export", world.tokens["billing", "whole"])
        assert (told.text, told.headers["content-type"]) == ("0\n1\n2\n", "text/csv")
        assert 'filename="usage.csv"' in told.headers["content-disposition"]
        viewer = world.tokens["viewer", "whole"]
        assert (await office.ask("GET", "/further/export", viewer)).status_code == 403
        told = await office.ask("GET", "/further/bug", viewer)
        assert (told.status_code, error_of(told)["code"]) == (500, "internal")
        assert "a bug" not in told.text
