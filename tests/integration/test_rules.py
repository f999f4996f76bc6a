"""Rules, tags and keys in a whole worker: who reaches what, what the accounts say of it, what a
reload changes."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from relay.config import parse
from tests.fakes.h2_server import H2Server, stream_chunks
from tests.fakes.keyed_relay import KeyedRelay, keyed, keyed_relay
from tests.fakes.relay_under_test import answer_chunks, chat_body, provider

CHAT = "/v1/chat/completions"

ACCOUNTS = "SELECT * FROM generations WHERE state != 'void' ORDER BY admitted_at_us"

pytestmark = pytest.mark.sockets


def document(upstream: H2Server, ca_file: str, *rules: dict[str, Any]) -> dict[str, Any]:
    def alias(model: str, *tags: str) -> dict[str, Any]:
        return {"candidates": [{"provider": "lab", "model": model}], "tags": list(tags)}

    return {
        "providers": {"lab": provider(upstream.url, ca_file=ca_file)},
        "models": {
            "fast": alias("m1", "cheap"),
            "accurate": alias("m2"),
            "other": alias("m3", "cheap"),
        },
        "policies": {"rules": list(rules)},
    }


RULES: list[dict[str, Any]] = [
    {"name": "barred", "when": {"user": "barred"}, "refuse": "not for this user"},
    {"name": "better", "when": {"model": "fast", "json": True}, "use": "accurate"},
    {"name": "auto", "when": {"model": "auto"}, "use": "other", "set": {"tags": ["spoken"]}},
]
JSON = {"response_format": {"type": "json_object"}}


class World:
    """A relay with keys and these rules, in front of one provider."""

    def __init__(self, keys: KeyedRelay, upstream: H2Server, path: Path) -> None:
        self.keys = keys
        self.relay = keys.relay
        self._upstream = upstream
        self._path = path

    async def ask(self, key: str, model: str, **more: Any) -> tuple[int, str]:
        """Status, and the upstream model that was asked."""
        before = len(self._upstream.requests(CHAT))
        body = chat_body(model, **more)
        answer = await self.relay.chat(body, authorization=f"Bearer {key}")
        asked = [json.loads(one.body)["model"] for one in self._upstream.requests(CHAT)[before:]]
        return answer.status_code, "".join(asked)

    def booked(self) -> list[dict[str, Any]]:
        """The accounts, oldest first."""
        connection = sqlite3.connect(self._path)
        try:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(ACCOUNTS)]
        finally:
            connection.close()


@pytest.fixture
async def world(upstream: H2Server, ca_file: str, tmp_path: Path) -> AsyncIterator[World]:
    upstream.routes[CHAT] = stream_chunks(answer_chunks("Hello"))
    async with keyed_relay(tmp_path, document(upstream, ca_file, *RULES)) as keys:
        yield World(keys, upstream, tmp_path / "relay.db")


async def test_a_limited_key_reaches_no_other_model_by_a_tag(world: World) -> None:
    key = await world.keys.key(scopes={"models": ["other"]})
    assert await world.ask(key, "tag:cheap") == (200, "m3")
    assert await world.ask(key, "other") == (200, "m3")
    for name in ("fast", "accurate", "auto", "tag:none", "tag:", "none"):
        assert await world.ask(key, name) == (403, "")
    whole = await world.keys.key("key_2")
    assert await world.ask(whole, "tag:cheap") == (200, "m1")
    assert await world.ask(whole, "tag:none") == (404, "")


async def test_leave_is_for_the_name_that_was_asked_for(world: World) -> None:
    key = await world.keys.key(scopes={"models": ["fast", "auto"], "request_tags": []})
    assert await world.ask(key, "fast", **JSON) == (200, "m2")
    assert await world.ask(key, "auto") == (200, "m3")
    assert await world.ask(key, "accurate") == (403, "")
    listed = await world.relay.http.get("/v1/models", headers={"authorization": f"Bearer {key}"})
    assert {row["id"] for row in listed.json()["data"]} == {"fast", "auto"}


async def test_what_was_decided_is_in_the_accounts(world: World) -> None:
    key = await world.keys.key()
    await world.ask(key, "auto")
    await world.ask(key, "tag:cheap")
    await world.ask(key, "accurate")
    assert await world.ask(key, "fast", user="barred") == (403, "")
    ruled, tagged, plain = world.booked()
    assert json.loads(ruled["decision"]) == {"asked": "auto", "rule": "auto"}
    assert json.loads(tagged["decision"]) == {"asked": "tag:cheap"}
    assert plain["decision"] in ("", None)
    assert json.loads(ruled["tags"]) == ["spoken"]
    assert [row["alias"] for row in (ruled, tagged, plain)] == ["other", "fast", "accurate"]


async def test_a_reload_changes_rules(
    world: World,
    upstream: H2Server,
    ca_file: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    key = await world.keys.key()
    changed = document(upstream, ca_file, {"when": {"model": "auto"}, "use": "accurate"})
    assert await world.ask(key, "auto") == (200, "m3")
    worker = world.relay.worker
    server = worker._config.server
    config = parse(keyed(tmp_path, changed)).model_copy(update={"server": server})
    monkeypatch.setattr(worker, "_reload_config", lambda: config)
    worker._reload()
    assert await world.ask(key, "auto") == (200, "m2")
    assert await world.ask(key, "fast", **JSON) == (200, "m1")
