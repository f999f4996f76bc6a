"""Whatever is refused to a key is in the audit log, by whichever door it was asked for."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from rtrelay.v1 import GenerateRequest

from relay.store import schema
from tests.fakes.audited import audited
from tests.fakes.converse_client import prompt, start
from tests.fakes.h2_server import H2Server, answer, stream_chunks
from tests.fakes.keyed_relay import KeyedRelay, keyed_relay
from tests.fakes.relay_under_test import answer_chunks, chat_body, provider

pytestmark = pytest.mark.sockets

CHAT = "/v1/chat/completions"


@pytest.fixture(params=[True, False], ids=["ledger", "no ledger"])
async def keyed(
    request: pytest.FixtureRequest, tmp_path: Path, upstream: H2Server, ca_file: str
) -> AsyncIterator[KeyedRelay]:
    upstream.routes[CHAT] = stream_chunks(answer_chunks("Hello"))
    upstream.routes["/v1/files"] = answer(200, b"{}")
    document = {
        "store": {"url": f"sqlite:///{tmp_path / 'relay.db'}", "ledger": request.param},
        "providers": {"lab": provider(upstream.url, ca_file=ca_file, passthrough=True)},
        "models": {"fast": {"candidates": [{"provider": "lab", "model": "m"}]}},
    }
    async with keyed_relay(tmp_path, document) as running:
        yield running


async def chat(keyed: KeyedRelay, key: str) -> None:
    told = await keyed.relay.chat(chat_body("secret"), authorization=f"Bearer {key}")
    assert told.status_code == 403


def gets(path: str) -> Callable[[KeyedRelay, str], Awaitable[None]]:
    async def get(keyed: KeyedRelay, key: str) -> None:
        told = await keyed.relay.http.get(path, headers={"x-api-key": key})
        assert told.status_code == 403

    return get


async def count(keyed: KeyedRelay, key: str) -> None:
    body = {"model": "secret", "messages": [{"role": "user", "content": "Hello"}]}
    path = "/v1/messages/count_tokens"
    told = await keyed.relay.http.post(path, json=body, headers={"x-api-key": key})
    assert told.status_code == 403


async def generate(keyed: KeyedRelay, key: str) -> None:
    asked = GenerateRequest(start=start("g", "secret", "Hello"))
    call = keyed.relay.stub.Generate(asked, metadata=(("x-api-key", key),))
    with pytest.raises(grpc.aio.AioRpcError, match="may not use"):
        async for _ in call:
            pass


async def converse(keyed: KeyedRelay, key: str) -> None:
    async with keyed.relay.talk(metadata={"x-api-key": key}, model="fast") as talk:
        await talk.start("g", model="secret")
        await talk.ended("g")


async def prewarm(keyed: KeyedRelay, key: str) -> None:
    metadata = {"x-api-key": key}
    words = prompt("Be brief.")
    async with keyed.relay.talk(metadata=metadata, model="secret", prewarm_prompt=words) as talk:
        assert talk.ready is not None


@pytest.mark.parametrize(
    ("ask", "subject", "surface"),
    [
        (chat, "secret", "chat"),
        (count, "secret", "count_tokens"),
        (gets("/v1/models/secret"), "secret", "models"),
        (generate, "secret", "generate"),
        (converse, "secret", "converse"),
        (prewarm, "secret", "prewarm"),
    ],
    ids=["chat", "count", "model", "generate", "converse", "prewarm"],
)
async def test_a_model_that_is_denied(
    keyed: KeyedRelay, tmp_path: Path, ask: Any, subject: str, surface: str
) -> None:
    key = await keyed.key(scopes={"models": ["fast"]})
    await ask(keyed, key)
    (told,) = await audited(tmp_path / "relay.db", "model.denied")
    assert (told["actor"], told["subject"], told["outcome"]) == ("key:key_1", subject, "denied")
    assert told["organisation_id"] == "org_1"
    assert json.loads(told["detail"])["surface"].startswith(surface)


async def test_what_else_is_denied(keyed: KeyedRelay, tmp_path: Path) -> None:
    key = await keyed.key(scopes={"request_tags": ["prod"]})
    await gets("/v1/files")(keyed, key)
    body = chat_body("fast", relay={"tags": ["dev"]})
    tagged = await keyed.relay.chat(body, authorization=f"Bearer {key}")
    assert tagged.status_code == 403
    assert (await keyed.relay.chat(chat_body("fast"))).status_code == 401
    database = tmp_path / "relay.db"
    (told,) = await audited(database, "passthrough.denied")
    assert (told["subject"], told["organisation_id"]) == ("/v1/files", "org_1")
    (told,) = await audited(database, "tag.denied")
    assert (told["subject"], told["organisation_id"]) == ("fast", "org_1")
    assert "'dev'" in json.loads(told["detail"])["why"]
    (told,) = await audited(database, "key.denied")
    assert told["actor"] == "address:127.0.0.1"


with_ledger = pytest.mark.parametrize("keyed", [True], indirect=True, ids=[""])


@with_ledger
async def test_a_session_too_many(keyed: KeyedRelay, tmp_path: Path) -> None:
    key = await keyed.key()
    keyed.desk.change(schema.keys, "key_1", limits=json.dumps({"sessions": 1}))
    await keyed.heard()
    async with keyed.relay.talk(metadata={"x-api-key": key}, model="fast"):
        with pytest.raises(AssertionError, match="sessions at once"):
            async with keyed.relay.talk(metadata={"x-api-key": key}, model="fast"):
                pass
    (told,) = await audited(tmp_path / "relay.db", "limit.reached")
    assert (told["actor"], told["organisation_id"]) == ("key:key_1", "org_1")
    assert json.loads(told["detail"])["surface"] == "session"


@with_ledger
async def test_what_has_no_price(keyed: KeyedRelay, tmp_path: Path) -> None:
    keyed.desk.add(
        schema.budgets,
        id="bud_1",
        scope="organisation",
        scope_id="org_1",
        period="total",
        limit_micro=10**9,
        is_hard=0,
        created_at_us=1,
    )
    key, other = await keyed.key(), await keyed.key("key_2", scopes={"passthrough": True})
    chat = await keyed.relay.chat(chat_body("fast"), authorization=f"Bearer {key}")
    assert chat.status_code == 400
    await gets("/v1/files")(keyed, other)
    found = {"key:key_1": "fast", "key:key_2": "lab"}
    async with asyncio.timeout(3):
        while len(told := await audited(tmp_path / "relay.db", "unpriced.refused")) < len(found):
            await asyncio.sleep(0.01)
    assert {one["actor"]: one["subject"] for one in told} == found
    assert {one["organisation_id"] for one in told} == {"org_1"}
