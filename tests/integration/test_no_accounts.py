"""A relay with keys and without accounts: what nobody would hold is refused."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from rtrelay.v1 import GenerateRequest

from relay.store import schema
from tests.fakes.audited import audited
from tests.fakes.converse_client import start
from tests.fakes.h2_server import H2Server, answer, stream_chunks
from tests.fakes.keyed_relay import KeyedRelay, keyed_relay
from tests.fakes.relay_under_test import answer_chunks, chat_body, provider

pytestmark = pytest.mark.sockets

CHAT = "/v1/chat/completions"


@pytest.fixture
async def keyed(tmp_path: Path, upstream: H2Server, ca_file: str) -> AsyncIterator[KeyedRelay]:
    upstream.routes[CHAT] = stream_chunks(answer_chunks("Hello"))
    upstream.routes["/v1/files"] = answer(200, b"{}")
    document = {
        "store": {"url": f"sqlite:///{tmp_path / 'relay.db'}", "ledger": False},
        "providers": {"lab": provider(upstream.url, ca_file=ca_file, passthrough=True)},
        "models": {"fast": {"candidates": [{"provider": "lab", "model": "m"}]}},
    }
    async with keyed_relay(tmp_path, document) as running:
        yield running


def limits_of(table: Any, id_: str) -> Any:
    def limit(keyed: KeyedRelay) -> None:
        keyed.desk.change(table, id_, limits=json.dumps({"rpm": 1}))

    return limit


def budget_of(scope: str, scope_id: str, **more: Any) -> Any:
    def budget(keyed: KeyedRelay) -> None:
        keyed.desk.add(
            schema.budgets,
            id="bud_1",
            scope=scope,
            scope_id=scope_id,
            period="total",
            limit_micro=10**9,
            created_at_us=1,
            **more,
        )

    return budget


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        (limits_of(schema.teams, "team_1"), "limits apply"),
        (budget_of("tag", "prod", is_hard=0), "budgets apply"),
    ],
    ids=["limits", "budgets"],
)
async def test_what_would_not_be_held(
    keyed: KeyedRelay, upstream: H2Server, tmp_path: Path, limit: Any, words: str
) -> None:
    key = await keyed.key(scopes={"passthrough": True}, tags=("prod",))
    assert (await ask(keyed, key)).status_code == 200
    assert (await handed_through(keyed, key)).status_code == 200
    before = asked(upstream)
    limit(keyed)
    await keyed.heard()
    for told in (await ask(keyed, key), await handed_through(keyed, key)):
        assert told.status_code == 503
        assert words in told.text
        assert "store.ledger: false" in told.text
    call = keyed.relay.stub.Generate(
        GenerateRequest(start=start("g", "fast", "Hello")), metadata=(("x-api-key", key),)
    )
    with pytest.raises(grpc.aio.AioRpcError, match=words) as caught:
        async for _ in call:
            pass
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert asked(upstream) == before
    first, *_ = await audited(tmp_path / "relay.db", "unkept.refused")
    assert (first["actor"], first["organisation_id"]) == ("key:key_1", "org_1")


async def test_a_session_of_a_key_with_limits(keyed: KeyedRelay) -> None:
    key = await keyed.key()
    metadata = {"x-api-key": key}
    async with keyed.relay.talk(metadata=metadata, model="fast") as talk:
        await talk.start("g")
        assert (await talk.ended("g")).text == "Hello"
        limits_of(schema.keys, "key_1")(keyed)
        await keyed.heard()
        await talk.start("g2")
        end = (await talk.ended("g2")).end
        assert end is not None
        assert "limits apply" in end.error.message
    with pytest.raises(AssertionError, match="limits apply"):
        async with keyed.relay.talk(metadata=metadata, model="fast"):
            pass


async def ask(keyed: KeyedRelay, key: str) -> Any:
    return await keyed.relay.chat(chat_body("fast"), authorization=f"Bearer {key}")


async def handed_through(keyed: KeyedRelay, key: str) -> Any:
    return await keyed.relay.http.get("/v1/files", headers={"x-api-key": key})


def asked(upstream: H2Server) -> int:
    return len(upstream.requests(CHAT)) + len(upstream.requests("/v1/files"))
