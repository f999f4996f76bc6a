"""The pages' routes over real sockets: what they say to browsers, and who is let in."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

from relay.administration.administrators import create_administrator, revoke_administrator
from relay.administration.roles import PERMISSIONS, ROLES
from relay.observability.pages import feed_route
from relay.observability.pages.assets import assets
from tests.fakes.admin_world import OPERATOR
from tests.fakes.emulator_process import EmulatorProcess
from tests.fakes.relay_under_test import eventually
from tests.observability.pages.lab import (
    PAGE,
    document,
    governed_relay,
    open_relay,
    read_events,
    traffic,
)

pytestmark = pytest.mark.sockets

ASK = {"model": "chat", "prompt": "When do you open?"}


async def test_pages_say_what_a_browser_may_do(emulator: EmulatorProcess) -> None:
    async with open_relay(document(emulator, 9001)) as (_, admin):
        for path in ("/dashboard", "/dashboard/", "/dashboard/playground"):
            page = await admin.get(path)
            assert page.status_code == 200
            policy = page.headers["content-security-policy"]
            for rule in ("default-src 'none'", "script-src 'self'", "frame-ancestors 'none'"):
                assert rule in policy
            assert "unsafe" not in policy
            assert "require-trusted-types-for 'script'" in policy
            assert page.headers["x-content-type-options"] == "nosniff"
            assert page.headers["referrer-policy"] == "no-referrer"
        again = await admin.get("/dashboard", headers={"if-none-match": page.headers["etag"]})
        assert again.status_code == 200  # that was the other page's
        kept = {"if-none-match": again.headers["etag"]}
        again = await admin.get("/dashboard", headers=kept)
        assert (again.status_code, again.content) == (304, b"")
        head = await admin.head("/dashboard/static/style.css")
        assert head.status_code == 200
        assert head.headers["content-type"] == "text/css; charset=utf-8"
        for path in ("/dashboard/static/../app.py", "/dashboard/static/", "/dashboard/nothing"):
            assert (await admin.get(path)).status_code == 404
        assert (await admin.post("/dashboard")).status_code == 405
        denied = await admin.get("/dashboard/api/play")
        assert (denied.status_code, denied.headers["allow"]) == (405, "POST")


def test_no_page_loads_from_elsewhere_or_has_script_in_it() -> None:
    pages = [one.body.decode() for name, one in assets().items() if name.endswith(".html")]
    assert len(pages) == 2
    for page in pages:
        assert "http:" not in page
        assert "https:" not in page
        assert " style=" not in page
        assert not re.search(r"\son\w+\s*=", page)
        assert page.count("<script") == page.count("></script>")
    for name, one in assets().items():
        if name.endswith(".js") and not name.startswith("uplot/"):
            assert b"innerHTML" not in one.body
            assert b"insertAdjacentHTML" not in one.body


async def test_a_name_that_could_be_anybodys_sees_nothing(emulator: EmulatorProcess) -> None:
    async with open_relay(document(emulator, 9002)) as (_, admin):
        strange = {"host": "page.test:80"}
        for path in ("", "/api/access", "/api/picture", "/api/feed", "/api/models"):
            denied = await admin.get(f"/dashboard{path}", headers=strange)
            assert denied.status_code == 403, path
        asked = await admin.post("/dashboard/api/play", json=ASK, headers=strange | PAGE)
        assert asked.status_code == 403
        assert (await admin.get("/dashboard/api/picture")).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        PAGE | {"origin": "http://evil.test"},
        PAGE | {"origin": "null"},
        PAGE | {"origin": "http://["},
        PAGE | {"sec-fetch-site": "cross-site"},
        PAGE | {"sec-fetch-site": "same-site"},
    ],
)
async def test_another_site_spends_nothing(
    emulator: EmulatorProcess, headers: dict[str, str]
) -> None:
    async with open_relay(document(emulator, 9003)) as (relay, admin):
        denied = await admin.post("/dashboard/api/play", json=ASK, headers=headers)
        assert denied.status_code == 403
        assert not relay.worker.services.planner.states.to_dict(0.0)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "model"),
        ({"model": "chat"}, "prompt"),
        ({**ASK, "prompt": 7}, "prompt"),
        ({**ASK, "hedge": "maybe"}, "hedge"),
        ({**ASK, "max_tokens": 0}, "max_tokens"),
        ({**ASK, "max_tokens": True}, "max_tokens"),
        ({**ASK, "key_id": "key_1"}, "key_id"),
        ({**ASK, "tenant": "x"}, "tenant"),
        ([], ""),
    ],
)
async def test_what_is_wrong_is_named(emulator: EmulatorProcess, body: Any, field: str) -> None:
    async with open_relay(document(emulator, 9004)) as (_, admin):
        told = await admin.post("/dashboard/api/play", json=body, headers=PAGE)
        assert (told.status_code, told.json()["error"]["field"]) == (400, field)


async def test_the_picture_after_some_races(emulator: EmulatorProcess) -> None:
    async with open_relay(document(emulator, 9005)) as (relay, admin):
        await traffic(relay, "voice", 3)
        await traffic(relay, "chat", 2)
        picture = (await admin.get("/dashboard/api/picture")).json()
        assert picture["total"]["minute"]["generations"] == 5
        race = picture["aliases"]["voice"]["minute"]["race"]
        slow = next(row for name, row in race.items() if name.startswith("north/"))
        quick = next(row for name, row in race.items() if name.startswith("south/"))
        assert (slow["started"], slow["lost"]) == (3, 3)
        assert 100 < slow["lost_at_ms"] < 700
        assert (quick["hedges"], quick["won"]) == (3, 3)
        ends = [row for row in picture["recent"] if row["alias"] == "voice"]
        assert {row["fate"] for row in ends} == {"ok"}
        assert sum(ends[0]["phases_us"].values()) == ends[0]["wall_us"]
        assert [one["outcome"] for one in ends[0]["attempts"]] == ["lost", "won"]


async def test_the_feed_brings_what_ends(emulator: EmulatorProcess) -> None:
    async with (
        open_relay(document(emulator, 9006)) as (relay, admin),
        asyncio.timeout(10),
        admin.stream("GET", "/dashboard/api/feed") as response,
    ):
        assert response.headers["content-type"].startswith("text/event-stream")
        names: list[str] = []
        async for name, data in read_events(response):
            names.append(name)
            if name == "recent":
                await traffic(relay, "chat", 1)
            if name == "ends":
                assert data[0]["alias"] == "chat"
                break
        assert names[:2] == ["picture", "recent"]
        feed = relay.worker._dashboard
        assert feed is not None
        await response.aclose()
        await eventually(lambda: feed.feed.viewers == 0)


async def test_a_generation_of_the_playground(emulator: EmulatorProcess) -> None:
    async with open_relay(document(emulator, 9007)) as (relay, admin):
        models = (await admin.get("/dashboard/api/models")).json()
        assert set(models["aliases"]) == {"voice", "chat"}
        assert models["keys"] is None
        order = {**ASK, "model": "voice", "max_tokens": 12}
        pieces: list[str] = []
        names: list[str] = []
        async with admin.stream(
            "POST", "/dashboard/api/play", json=order, headers=PAGE
        ) as response:
            async for name, data in read_events(response):
                names.append(name)
                if name in ("more", "end"):
                    pieces += [text for _, _, text in data["pieces"]]
                    last = data
        assert names[0] == "begin"
        assert names[-1] == "end"
        assert len("".join(pieces)) > 20
        assert last["end"]["status"] == "OK"
        assert [one["outcome"] for one in last["end"]["attempts"]] == ["lost", "won"]
        assert last["hedge"]["won"]
        await relay.settled()


async def test_an_unknown_model_is_told_in_the_stream(emulator: EmulatorProcess) -> None:
    async with open_relay(document(emulator, 9008)) as (_, admin):
        order = {**ASK, "model": "nobody"}
        told = await admin.post("/dashboard/api/play", json=order, headers=PAGE)
        assert '"reason":"UNKNOWN_MODEL"' in told.text
        assert "event: end" in told.text


async def test_who_goes_away_cancels_it_upstream(emulator: EmulatorProcess) -> None:
    model = "emu:ttft=20,itl=20,tokens=400,seed=9009"
    alias = {"candidates": [{"provider": "south", "model": model}]}
    async with open_relay(document(emulator, 9009, long=alias)) as (relay, admin):
        order = {**ASK, "model": "long"}
        async with admin.stream(
            "POST", "/dashboard/api/play", json=order, headers=PAGE
        ) as response:
            async for _, data in read_events(response):
                if data.get("pieces"):
                    break
        await relay.settled()
        await asyncio.to_thread(emulator.wait_for_streams, model, "abandoned")
        ends = (await admin.get("/dashboard/api/picture")).json()["recent"]
        assert (ends[-1]["fate"], ends[-1]["frontend"]) == ("cancelled", "playground")


async def test_who_may_do_what(
    emulator: EmulatorProcess, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with governed_relay(tmp_path, document(emulator, 9010)) as world:
        open_to_all = await world.get("/dashboard/api/access")
        assert open_to_all.json()["needs_token"]
        assert (await world.get("/dashboard")).status_code == 200
        for path in ("picture", "feed", "models"):
            assert (await world.get(f"/dashboard/api/{path}")).status_code == 401
        for role in ROLES:
            token = world.tokens[role]
            access = (await world.get("/dashboard/api/access", token)).json()
            assert access["role"] == role
            may_look = role in PERMISSIONS["state.read"]
            may_spend = role in PERMISSIONS["playground.use"]
            assert (access["may_look"], access["may_spend"]) == (may_look, may_spend)
            looked = await world.get("/dashboard/api/picture", token)
            assert looked.status_code == (200 if may_look else 403)
            models = await world.get("/dashboard/api/models", token)
            assert models.status_code == (200 if may_spend else 403)
        bound = create_administrator(
            world.desk, OPERATOR, "bound", "owner", organisation="org_1"
        ).secret
        assert (await world.get("/dashboard/api/picture", bound)).status_code == 403
        assert (await world.get("/dashboard/api/models", bound)).status_code == 403
        key = await world.keyed.key()
        assert (await world.get("/dashboard/api/picture", key)).status_code == 401


async def test_a_token_that_is_revoked_ends_its_feed(
    emulator: EmulatorProcess, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_route, "RECHECK_S", 0.1)
    async with governed_relay(tmp_path, document(emulator, 9011)) as world:
        made = create_administrator(world.desk, OPERATOR, "leaves", "viewer")
        headers = {"authorization": f"Bearer {made.secret}"}
        async with (
            asyncio.timeout(10),
            world.admin.stream("GET", "/dashboard/api/feed", headers=headers) as response,
        ):
            names: list[str] = []
            async for name, _ in read_events(response):
                names.append(name)
                if name == "recent":
                    revoke_administrator(world.desk, OPERATOR, made.row["id"])
        assert names[-1] == "refused"


async def test_a_key_pays_for_the_playground(emulator: EmulatorProcess, tmp_path: Any) -> None:
    async with governed_relay(tmp_path, document(emulator, 9012)) as world:
        await world.keyed.key("key_1")
        owner = PAGE | {"authorization": f"Bearer {world.tokens['owner']}"}
        models = (await world.get("/dashboard/api/models", world.tokens["owner"])).json()
        assert models["keys"] == [{"id": "key_1", "name": "key_1"}]
        path = "/dashboard/api/play"
        without = await world.admin.post(path, json=ASK, headers=owner)
        assert (without.status_code, without.json()["error"]["field"]) == (400, "key_id")
        unknown = await world.admin.post(path, json={**ASK, "key_id": "key_9"}, headers=owner)
        assert unknown.status_code == 404
        paid = await world.admin.post(path, json={**ASK, "key_id": "key_1"}, headers=owner)
        assert '"status":"OK"' in paid.text
        picture = (await world.get("/dashboard/api/picture", world.tokens["viewer"])).json()
        assert picture["recent"][-1]["key"] == "key_1"
        assert picture["keys"] == {"key_1": "key_1"}
        assert picture["budgets"] == []
        viewer = PAGE | {"authorization": f"Bearer {world.tokens['viewer']}"}
        denied = await world.admin.post(path, json={**ASK, "key_id": "key_1"}, headers=viewer)
        assert denied.status_code == 403
        noted = (await world.get("/admin/v1/audit", world.tokens["owner"])).json()
        assert "playground.used" in str(noted)


async def test_scopes_of_the_key_hold(emulator: EmulatorProcess, tmp_path: Any) -> None:
    async with governed_relay(tmp_path, document(emulator, 9013)) as world:
        await world.keyed.key("key_1", scopes={"models": ["voice"]})
        owner = PAGE | {"authorization": f"Bearer {world.tokens['owner']}"}
        told = await world.admin.post(
            "/dashboard/api/play", json={**ASK, "key_id": "key_1"}, headers=owner
        )
        assert '"reason":"PERMISSION_DENIED"' in told.text
