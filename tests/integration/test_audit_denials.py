"""Whatever is refused to a key is in the audit log, by whichever door it was asked for."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from rtrelay.v1 import GenerateRequest

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
        (gets("/v1/files"), "/v1/files", "passthrough"),
        (generate, "secret", "generate"),
        (converse, "secret", "converse"),
        (prewarm, "secret", "prewarm"),
    ],
    ids=["chat", "count", "model", "files", "generate", "converse", "prewarm"],
)
async def test_a_model_that_is_denied(
    keyed: KeyedRelay, tmp_path: Path, ask: Any, subject: str, surface: str
) -> None:
    key = await keyed.key(scopes={"models": ["fast"]})
    await ask(keyed, key)
    (told,) = await entries(tmp_path / "relay.db", "model.denied")
    assert (told["actor"], told["subject"], told["outcome"]) == ("key:key_1", subject, "denied")
    assert json.loads(told["detail"])["surface"].startswith(surface)


async def entries(database: Path, action: str) -> list[dict[str, Any]]:
    """As soon as there are any; one is written some 50 ms after it was told."""
    sql = "SELECT actor, subject, outcome, detail FROM audit WHERE action = ?"
    with closing(sqlite3.connect(database)) as connection:
        connection.row_factory = sqlite3.Row
        found: list[dict[str, Any]] = []
        with suppress(TimeoutError):
            async with asyncio.timeout(3):
                while not found:
                    await asyncio.sleep(0.02)
                    found = [dict(row) for row in connection.execute(sql, (action,))]
    return found
