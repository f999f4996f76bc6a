"""Administration of a running relay: a key from the desk to the data port, and back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml

from relay.admin_port import AdminPort
from relay.administering import desk_of
from relay.administration.administrators import create_administrator
from relay.administration.roles import OPERATOR, Actor
from relay.config import load, parse
from relay.store.engine import engine_for, make_ready
from relay.supervisor import Supervisor
from tests.fakes.h2_server import H2Server, stream_chunks
from tests.fakes.keyed_relay import keyed
from tests.fakes.relay_under_test import (
    Document,
    RelayUnderTest,
    answer_chunks,
    chat_body,
    chunk,
    provider,
    relay_under_test,
)

pytestmark = pytest.mark.sockets

CHAT = "/v1/chat/completions"
USAGE = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
COST_MICRO = 100 + 100


def audited(folder: Path) -> Document:
    return {"audit": {"anchor": str(folder / "audit.anchor")}}


def owner_of(document: Document) -> str:
    """Token of an owner, made as `relay admins create` makes it."""
    url = document["store"]["url"]
    make_ready(url)
    engine = engine_for(url)
    try:
        desk = desk_of(parse({**document, "server": {}}), engine)
        return create_administrator(desk, Actor("cli:tests", OPERATOR), "root", "owner").secret
    finally:
        engine.dispose()


class Client:
    """Asks the admin listener as somebody."""

    def __init__(self, http: httpx2.AsyncClient, token: str) -> None:
        self.http = http
        self._headers = {"authorization": f"Bearer {token}"}

    async def post(self, path: str, **body: Any) -> Any:
        told = await self.http.post(f"/admin/v1{path}", json=body, headers=self._headers)
        assert told.status_code < 300, told.text
        return told.json() if told.content else None

    async def get(self, path: str) -> Any:
        told = await self.http.get(path, headers=self._headers)
        assert told.status_code == 200, told.text
        return told.json()


@pytest.fixture
def document(tmp_path: Path, upstream: H2Server, ca_file: str) -> Document:
    upstream.routes[CHAT] = stream_chunks(
        [*answer_chunks("Hel", "lo")[:-1], chunk(usage=USAGE), b"data: [DONE]\n\n"]
    )
    prices = {"m1": {"input": 1.0, "output": 10.0}}
    rows = {
        "providers": {"lab": provider(upstream.url, ca_file=ca_file, prices=prices)},
        "models": {"fast": {"candidates": [{"provider": "lab", "model": "m1"}]}},
        "budgets": {"default_max_tokens": 100},
    }
    return keyed(tmp_path, {**rows, **audited(tmp_path)})


@pytest.fixture
async def running(document: Document) -> AsyncIterator[tuple[RelayUnderTest, Client]]:
    token = await asyncio.to_thread(owner_of, document)
    async with relay_under_test(document) as relay, relay.admin() as http:
        yield relay, Client(http, token)


async def status(relay: RelayUnderTest, secret: str) -> int:
    told = await relay.chat(chat_body(max_tokens=10), authorization=f"Bearer {secret}")
    return told.status_code


async def within_a_second(relay: RelayUnderTest, secret: str, wanted: int) -> float:
    """Seconds until a secret is answered so.

    Raises:
        TimeoutError: it was not.
    """
    began_s = time.monotonic()
    async with asyncio.timeout(1.0):
        while await status(relay, secret) != wanted:
            await asyncio.sleep(0.01)
    return time.monotonic() - began_s


async def test_a_key_is_made_used_rotated_and_revoked(
    running: tuple[RelayUnderTest, Client],
) -> None:
    relay, admin = running
    organisation = await admin.post("/organisations", name="acme")
    team = await admin.post("/teams", organisation_id=organisation["id"], name="voice")
    key = await admin.post("/keys", team_id=team["id"], name="bot", scopes={"models": ["fast"]})
    await within_a_second(relay, key["secret"], 200)

    rotated = await admin.post(f"/keys/{key['id']}/rotate", overlap_s=3600)
    await within_a_second(relay, rotated["secret"], 200)
    assert await status(relay, key["secret"]) == 200, "both hold for a while"
    last = await admin.post(f"/keys/{key['id']}/rotate", overlap_s=0)
    await within_a_second(relay, key["secret"], 401)
    assert await status(relay, rotated["secret"]) == 401
    assert await status(relay, last["secret"]) == 200

    await admin.post(f"/keys/{key['id']}/revoke")
    await within_a_second(relay, last["secret"], 401)
    log = await admin.get("/admin/v1/audit?action=key.*")
    assert [row["action"] for row in log["data"] if row["outcome"] == "done"] == [
        "key.revoked",
        "key.rotated",
        "key.rotated",
        "key.created",
    ]
    assert {row["actor"][:6] for row in log["data"] if row["outcome"] == "done"} == {"admin:"}


async def test_a_budget_is_made_and_hit(running: tuple[RelayUnderTest, Client]) -> None:
    relay, admin = running
    organisation = await admin.post("/organisations", name="acme")
    team = await admin.post("/teams", organisation_id=organisation["id"], name="voice")
    budget = await admin.post(
        "/budgets", scope="team", scope_id=team["id"], period="total", limit_usd="0.02"
    )
    key = await admin.post("/keys", team_id=team["id"], name="bot")  # known after its budget
    await within_a_second(relay, key["secret"], 200)
    await relay.settled()
    shown = await admin.get(f"/admin/v1/budgets/{budget['id']}")
    assert (shown["settled_micro"], shown["reserved_micro"]) == (COST_MICRO, 0)
    told = await admin.http.patch(
        f"/admin/v1/budgets/{budget['id']}", json={"limit_micro": 201}, headers=admin._headers
    )
    assert told.json()["limit_usd"] == "0.000201"
    await within_a_second(relay, key["secret"], 429)
    await admin.post(f"/budgets/{budget['id']}/archive")
    await within_a_second(relay, key["secret"], 200)


async def test_each_port_has_its_own_sort_of_token(
    running: tuple[RelayUnderTest, Client],
) -> None:
    relay, admin = running
    organisation = await admin.post("/organisations", name="acme")
    team = await admin.post("/teams", organisation_id=organisation["id"], name="voice")
    key = await admin.post("/keys", team_id=team["id"], name="bot")
    await within_a_second(relay, key["secret"], 200)
    token = admin._headers["authorization"].partition(" ")[2]
    assert await status(relay, token) == 401
    for path in ("/admin/v1/keys", "/admin/state", "/admin/openapi.json"):
        for headers in ({}, {"authorization": f"Bearer {key['secret']}"}):
            assert (await admin.http.get(path, headers=headers)).status_code == 401
    assert (await admin.get("/admin/state"))["accounts"]["needs_keys"] is True
    assert (await admin.get("/admin/openapi.json"))["openapi"].startswith("3.1")
    for path in ("/healthz", "/readyz"):
        assert (await admin.http.get(path)).status_code == 200


async def test_the_supervisor_serves_it_too(tmp_path: Path) -> None:
    path = tmp_path / "relay.yaml"
    server = {"server": {"admin": {"address": "127.0.0.1:0"}}}
    document = keyed(tmp_path, {**server, **audited(tmp_path)})
    path.write_text(yaml.safe_dump(document))
    token = await asyncio.to_thread(owner_of, document)
    port = await AdminPort.open(load(path), path, Supervisor(path, 2))
    url = f"http://127.0.0.1:{port.number}"
    try:
        async with httpx2.AsyncClient(base_url=url, trust_env=False) as http:
            assert (await http.get("/admin/state")).status_code == 401
            assert (await http.get("/readyz")).status_code == 503, "no worker is there yet"
            admin = Client(http, token)
            assert "workers" in await admin.get("/admin/state")
            assert (await admin.post("/organisations", name="acme"))["name"] == "acme"
    finally:
        await port.aclose()
    engine = engine_for(document["store"]["url"])
    with engine.connect() as connection:
        actions = list(connection.exec_driver_sql("SELECT action, outcome FROM audit ORDER BY seq"))
    engine.dispose()
    assert ("organisation.created", "done") in [tuple(row) for row in actions]


async def test_without_keys_there_is_no_administration(upstream: H2Server, ca_file: str) -> None:
    document = {"providers": {"lab": provider(upstream.url, ca_file=ca_file)}}
    async with relay_under_test(document) as relay, relay.admin() as http:
        assert (await http.get("/admin/v1/keys")).status_code == 404
        assert (await http.get("/admin/state")).status_code == 200
