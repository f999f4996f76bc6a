"""Keys, budgets and accounts of a whole worker, over its sockets and a SQLite file."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from relay.http_server import StartError
from relay.store.engine import engine_for, make_ready
from tests.fakes.directory_rows import PEPPER, Rows
from tests.fakes.h2_server import H2Server, answer, stream_chunks
from tests.fakes.relay_under_test import (
    RelayUnderTest,
    answer_chunks,
    chat_body,
    chunk,
    eventually,
    provider,
    relay_under_test,
)

pytestmark = pytest.mark.sockets

CHAT = "/v1/chat/completions"
USAGE = {
    "prompt_tokens": 100,
    "completion_tokens": 10,
    "total_tokens": 110,
    "prompt_tokens_details": {"cached_tokens": 40},
}
PRICES = {"m1": {"input": 1.0, "cached_input": 0.5, "output": 10.0}}
COST_MICRO = 60 + 20 + 100


class Accounts:
    """A relay with keys, and its database."""

    def __init__(self, relay: RelayUnderTest, engine: Engine, path: Path) -> None:
        self.relay = relay
        self.rows = Rows(engine)
        self._path = path

    def ask(self, sql: str) -> list[dict[str, Any]]:
        connection = sqlite3.connect(self._path)
        try:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(sql)]
        finally:
            connection.close()

    async def known(self, key: str) -> None:
        """Wait until the relay lets a key in."""

        async def lets_in() -> bool:
            answer = await self.relay.http.get(
                "/v1/models", headers={"authorization": f"Bearer {key}"}
            )
            return answer.status_code == 200

        async with asyncio.timeout(5):
            while not await lets_in():
                await asyncio.sleep(0.01)


@pytest.fixture
async def accounts(
    upstream: H2Server, ca_file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Accounts]:
    monkeypatch.setenv("THE_PEPPER", PEPPER)
    path = tmp_path / "relay.db"
    url = f"sqlite:///{path}"
    make_ready(url)
    upstream.routes[CHAT] = stream_chunks(
        [*answer_chunks("Hel", "lo", "!")[:-1], chunk(usage=USAGE), b"data: [DONE]\n\n"]
    )
    document = {
        "store": {"url": url},
        "auth": {"pepper": "${THE_PEPPER}", "sync_ms": 50},
        "audit": {"anchor": str(tmp_path / "audit.anchor")},
        "budgets": {"default_max_tokens": 100},
        "providers": {
            "lab": provider(upstream.url, ca_file=ca_file, prices=PRICES, passthrough=True)
        },
        "models": {"fast": {"candidates": [{"provider": "lab", "model": "m1"}]}},
    }
    engine = engine_for(url)
    try:
        async with relay_under_test(document) as running:
            yield Accounts(running, engine, path)
    finally:
        engine.dispose()


@pytest.mark.parametrize("with_keys", [True, False])
@pytest.mark.parametrize("content", ["damaged", "of another program"])
async def test_refuses_to_start_over_a_database_that_is_not_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, with_keys: bool
) -> None:
    monkeypatch.setenv("THE_PEPPER", PEPPER)
    path = tmp_path / "relay.db"
    if content == "damaged":
        path.write_bytes(b"SQLite format 3\0" + b"no page of any database" * 400)
    else:
        connection = sqlite3.connect(path)
        connection.execute("CREATE TABLE alembic_version (version_num TEXT)")
        connection.execute("INSERT INTO alembic_version VALUES ('9f3c')")
        connection.commit()
        connection.close()
    before = path.read_bytes()
    document: dict[str, Any] = {"store": {"url": f"sqlite:///{path}"}}
    if with_keys:
        document["auth"] = {"pepper": "${THE_PEPPER}"}
        document["audit"] = {"anchor": str(tmp_path / "audit.anchor")}
    with pytest.raises(StartError, match="relay store restore"):
        async with relay_under_test(document):
            pass
    if content == "damaged":
        assert path.read_bytes() == before, "it is never made anew"
    else:
        connection = sqlite3.connect(path)
        tables = connection.execute("SELECT name FROM sqlite_master").fetchall()
        connection.close()
        assert tables == [("alembic_version",)], "nothing of ours is put into it"


async def chat(accounts: Accounts, key: str, **more: Any) -> Any:
    return await accounts.relay.chat(
        chat_body(**more), authorization=f"Bearer {key}" if key else ""
    )


async def test_generation_and_attempt_are_booked(accounts: Accounts) -> None:
    rows = accounts.rows
    organisation_id = rows.organisation()
    team_id = rows.team(organisation_id)
    key_id, key = rows.key(team_id, tags=["voice"])
    await accounts.known(key)
    answer = await chat(accounts, key)
    assert answer.status_code == 200
    (generation,) = accounts.ask("SELECT * FROM generations")
    assert generation["id"] == answer.headers["x-relay-request-id"]
    assert generation["state"] == "settled"
    assert generation["key_id"] == key_id
    assert generation["team_id"] == team_id
    assert generation["organisation_id"] == organisation_id
    assert generation["tags"] == '["voice"]'
    assert generation["settled_micro"] == COST_MICRO
    assert generation["reserved_micro"] == 0
    (attempt,) = accounts.ask("SELECT * FROM attempts")
    assert attempt["state"] == "actual"
    assert attempt["cost_micro"] == COST_MICRO
    assert (attempt["prompt_tokens"], attempt["cached_tokens"], attempt["output_tokens"]) == (
        100,
        40,
        10,
    )
    assert attempt["price_version"].startswith("configured ")


async def test_a_session_is_booked_by_generation(accounts: Accounts) -> None:
    rows = accounts.rows
    team_id = rows.team(rows.organisation())
    key_id, key = rows.key(team_id)
    await accounts.known(key)
    authorization = {"authorization": f"Bearer {key}"}
    async with accounts.relay.talk(metadata=authorization, model="fast") as call:
        for name in ("g1", "g2"):
            await call.start(name)
            assert (await call.ended(name)).text == "Hello!"
    booked = accounts.ask("SELECT key_id, surface, state FROM generations")
    assert booked == [{"key_id": key_id, "surface": "converse", "state": "settled"}] * 2


async def test_hard_budget_stops_exactly(accounts: Accounts, upstream: H2Server) -> None:
    rows = accounts.rows
    team_id = rows.team(rows.organisation())
    budget_id = rows.budget("team", team_id, 10_000)  # before the key: whoever knows that knows it
    _, key = rows.key(team_id)
    await accounts.known(key)
    answers = await asyncio.gather(*[chat(accounts, key) for _ in range(40)])
    statuses = [answer.status_code for answer in answers]
    assert set(statuses) == {200, 429}
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert refused.json()["error"]["code"] == "budget_exceeded"
    assert refused.headers["x-should-retry"] == "false"
    assert len(upstream.requests(CHAT)) == statuses.count(200), "what is refused asks nobody"
    (period,) = accounts.ask("SELECT * FROM budget_periods")
    assert period["budget_id"] == budget_id
    assert period["reserved_micro"] == 0
    assert period["settled_micro"] == statuses.count(200) * COST_MICRO <= 10_000
    # With room again nobody is refused who could pay.
    left = (10_000 - period["settled_micro"]) // COST_MICRO
    assert left > 0
    assert (await chat(accounts, key)).status_code == 200


async def test_revoked_key_is_refused_within_a_second(accounts: Accounts) -> None:
    from relay.store import schema

    rows = accounts.rows
    key_id, key = rows.key(rows.team(rows.organisation()))
    await accounts.known(key)
    rows.change(schema.keys, key_id, revoked_at_us=1)

    async def is_refused() -> bool:
        return bool((await chat(accounts, key)).status_code == 401)

    async with asyncio.timeout(1):
        while not await is_refused():
            await asyncio.sleep(0.01)


async def test_nothing_is_left_open(accounts: Accounts) -> None:
    rows = accounts.rows
    team_id = rows.team(rows.organisation())
    rows.budget("team", team_id, 1_000_000)
    _, key = rows.key(team_id)
    await accounts.known(key)
    tasks = [asyncio.create_task(chat(accounts, key)) for _ in range(10)]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await eventually(lambda: not accounts.ask("SELECT * FROM generations WHERE state = 'open'"))
    assert accounts.ask("SELECT sum(reserved_micro) AS r FROM budget_periods") == [{"r": 0}]


async def test_sessions_and_what_is_handed_through_have_limits_and_rows(
    accounts: Accounts, upstream: H2Server
) -> None:
    rows = accounts.rows
    key_id, key = rows.key(
        rows.team(rows.organisation()),
        limits={"sessions": 1, "rpm": 2},
        scopes={"passthrough": True},
    )
    await accounts.known(key)
    authorization = {"authorization": f"Bearer {key}"}
    talk = partial(accounts.relay.talk, metadata=authorization, model="fast")
    async with talk():
        with pytest.raises(AssertionError, match="sessions at once of key"):
            async with talk():
                pass
    async with talk() as third:
        assert third.ready is not None
    url = "/pass/lab/files"
    upstream.routes["/v1/files"] = answer(200, b"{}")
    answers = [await accounts.relay.http.get(url, headers=authorization) for _ in range(3)]
    assert [one.status_code for one in answers] == [200, 200, 429]
    booked = [{"key_id": key_id, "surface": "passthrough", "state": "estimated"}] * 2
    sql = "SELECT key_id, surface, state FROM generations"
    await eventually(lambda: accounts.ask(sql) == booked)
    rows.budget("key", key_id, 1_000_000)

    async def is_refused() -> bool:
        refused = await accounts.relay.http.get(url, headers=authorization)
        return "budget" in refused.text

    async with asyncio.timeout(2):
        while not await is_refused():
            await asyncio.sleep(0.01)


async def test_a_count_of_tokens_is_a_request_of_its_key(accounts: Accounts) -> None:
    rows = accounts.rows
    _, key = rows.key(rows.team(rows.organisation()), limits={"rpm": 3, "generations": 1})
    await accounts.known(key)
    headers = {"x-api-key": key}
    body = {"model": "fast", "messages": [{"role": "user", "content": "Hello"}]}

    async def count() -> Any:
        url = "/v1/messages/count_tokens"
        return await accounts.relay.http.post(url, json=body, headers=headers)

    counted = [await count() for _ in range(3)]
    assert [one.status_code for one in counted] == [200] * 3, "no generation at once"
    remaining = [one.headers["anthropic-ratelimit-requests-remaining"] for one in counted]
    assert remaining == ["2", "1", "0"]
    refused = await count()
    assert refused.status_code == 429
    assert refused.json()["error"]["type"] == "rate_limit_error"
    assert int(refused.headers["retry-after"]) > 0
    assert (await accounts.relay.chat(chat_body("fast"), **headers)).status_code == 429
    assert accounts.ask("SELECT * FROM generations") == [], "nothing is booked of it"


async def test_a_budget_of_a_key_s_tag_holds_for_what_is_handed_through(
    accounts: Accounts, upstream: H2Server
) -> None:
    rows, scopes = accounts.rows, {"passthrough": True}
    team_id = rows.team(rows.organisation())
    _, free = rows.key(team_id, scopes=scopes, tags=["free"])
    _, bound = rows.key(team_id, scopes=scopes, tags=["bound"])
    rows.budget("tag", "bound", 1_000_000)
    await accounts.known(free)
    await accounts.known(bound)
    upstream.routes["/v1/files"] = answer(200, b"{}")
    statuses = [
        (await accounts.relay.http.get("/v1/files", headers={"x-api-key": key})).status_code
        for key in (free, bound)
    ]
    assert statuses == [200, 403]
    assert len(upstream.requests("/v1/files")) == 1
    sql = "SELECT tags FROM generations"
    await eventually(lambda: accounts.ask(sql) == [{"tags": '["free"]'}])
