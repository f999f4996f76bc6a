"""Copies over real sockets: what of a request arrives there, and what a stopping worker does."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.fakes.books import Books
from tests.fakes.h2_server import H2Server, hang, stream_chunks
from tests.fakes.relay_under_test import (
    answer_chunks,
    chat_body,
    provider,
    relay_under_test,
)

pytestmark = pytest.mark.sockets

CHAT = "/v1/chat/completions"


def document(upstream: H2Server, spare: H2Server, ca_file: str, **more: Any) -> dict[str, Any]:
    upstream.routes[CHAT] = stream_chunks(answer_chunks("Hello"))
    spare.routes[CHAT] = stream_chunks(answer_chunks("Hello"))
    return {
        "providers": {
            "lab": provider(upstream.url, ca_file=ca_file),
            "other": provider(spare.url, ca_file=ca_file),
        },
        "models": {
            "voice": {"candidates": [{"provider": "lab", "model": "m"}]},
            "candidate": {"candidates": [{"provider": "other", "model": "n"}]},
        },
        "policies": {
            "shadows": {
                "s": {
                    "model": "voice",
                    "use": "candidate",
                    "share": 1.0,
                    "max_cost_micro_per_day": 0,
                }
            }
        },
        **more,
    }


async def test_what_arrives_there_says_nothing_of_who_asked(
    upstream: H2Server, spare: H2Server, ca_file: str
) -> None:
    async with relay_under_test(document(upstream, spare, ca_file)) as relay:
        body = chat_body("voice", "Say it", user="anna", metadata={"call": "anna"}, seed=7)
        told = await relay.chat(body, x_relay_session_id="anna")
        assert told.status_code == 200
        copied = await spare.request(CHAT)
        await relay.settled()
    (original,) = upstream.requests(CHAT)
    there, here = orjson.loads(copied.body), orjson.loads(original.body)
    assert here["user"] == "anna"
    assert there["model"] == "n"
    assert there["messages"] == here["messages"]
    assert there["seed"] == 7
    assert b"anna" not in bytes(copied.body)


async def test_what_guardrails_took_out_does_not_arrive_there_either(
    upstream: H2Server, spare: H2Server, ca_file: str
) -> None:
    rail = {"scan": {"kind": "denied", "terms": ["swordfish"]}, "action": "redact"}
    made = document(upstream, spare, ca_file, guardrails={"rails": {"words": rail}})
    async with relay_under_test(made) as relay:
        assert (await relay.chat(chat_body("voice", "Say swordfish to me"))).status_code == 200
        copied = await spare.request(CHAT)
        await relay.settled()
    assert b"swordfish" not in bytes(copied.body)
    assert b"Say " in bytes(copied.body)


async def test_a_stopping_worker_does_not_wait_for_a_copy(
    upstream: H2Server, spare: H2Server, ca_file: str, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path / 'relay.db'}"
    made = document(upstream, spare, ca_file, store={"url": url})

    spare.routes[CHAT] = hang()
    async with relay_under_test(made) as relay:
        assert (await relay.chat(chat_body("voice"))).status_code == 200
        await spare.request(CHAT)
        async with asyncio.timeout(2):
            await relay.worker.drain()
    books = Books(url)
    try:
        rows = books.rows("SELECT surface, state, reason FROM generations ORDER BY admitted_at_us")
    finally:
        books.close()
    assert [row["surface"] for row in rows] == ["chat_completions", "shadow"]
    assert rows[1]["state"] != "open"
    assert rows[1]["reason"] == "DRAINING"
