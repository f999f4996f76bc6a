"""What users think of answers, over HTTP and gRPC, with keys and without."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc
import pytest
import rtrelay
from rtrelay.v1 import FeedbackRequest, RelayServiceStub

from tests.fakes.converse_client import start
from tests.fakes.h2_server import H2Server, stream_chunks
from tests.fakes.keyed_relay import KeyedRelay, keyed_relay
from tests.fakes.relay_under_test import (
    RelayUnderTest,
    answer_chunks,
    chat_body,
    provider,
    relay_under_test,
)

pytestmark = pytest.mark.sockets

PATH = "/v1/feedback"


def document(upstream: H2Server, ca_file: str) -> dict[str, Any]:
    upstream.routes["/v1/chat/completions"] = stream_chunks(answer_chunks("Hello"))
    return {
        "providers": {"lab": provider(upstream.url, ca_file=ca_file)},
        "models": {"fast": {"candidates": [{"provider": "lab", "model": "m"}]}},
    }


@pytest.fixture
async def keyed(tmp_path: Path, upstream: H2Server, ca_file: str) -> AsyncIterator[KeyedRelay]:
    async with keyed_relay(tmp_path, document(upstream, ca_file)) as running:
        yield running


@pytest.fixture
async def plain(upstream: H2Server, ca_file: str) -> AsyncIterator[RelayUnderTest]:
    async with relay_under_test(document(upstream, ca_file)) as running:
        yield running


def written(folder: Path) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(folder / "relay.db")) as connection:
        return connection.execute(
            "SELECT generation_id, team_id, key_id, score, label, comment FROM feedback"
        ).fetchall()


async def asked(relay: RelayUnderTest, key: str = "any") -> str:
    """One answer; its request id."""
    told = await relay.chat(chat_body(), authorization=f"Bearer {key}")
    assert told.status_code == 200
    return str(told.headers["x-relay-request-id"])


async def give(relay: RelayUnderTest, key: str = "any", **body: Any) -> Any:
    headers = {"authorization": f"Bearer {key}"}
    return await relay.http.post(PATH, json=body, headers=headers)


async def test_the_last_word_of_a_team_is_kept(keyed: KeyedRelay, tmp_path: Path) -> None:
    key, other = await keyed.key(), await keyed.key("key_2")
    request_id = await asked(keyed.relay, key)
    told = await give(keyed.relay, key, request_id=request_id, score=0, comment="no")
    assert told.status_code == 200
    assert told.json() == {
        "object": "feedback",
        "request_id": request_id,
        "counts_for_experiment": False,
    }
    told = await give(keyed.relay, other, request_id=request_id, score=1, label="yes")
    assert told.status_code == 200
    assert written(tmp_path) == [(request_id, "team_1", "key_2", 1.0, "yes", "")]


async def test_another_team_has_no_say_and_learns_nothing(
    keyed: KeyedRelay, tmp_path: Path
) -> None:
    keyed.desk.found("org_2", "team_2")
    mine, theirs = await keyed.key(), await keyed.key("key_2", "team_2")
    request_id = await asked(keyed.relay, mine)
    words = []
    for name in (request_id, "req_unknown"):
        told = await give(keyed.relay, theirs, request_id=name, score=1)
        assert told.status_code == 400
        words.append(told.json()["error"]["message"].replace(name, "X"))
    assert words[0] == words[1]
    assert written(tmp_path) == []


async def test_without_a_key_nobody_has_a_say(keyed: KeyedRelay) -> None:
    told = await keyed.relay.http.post(PATH, json={"request_id": "x", "score": 1})
    assert told.status_code == 401
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await keyed.relay.stub.Feedback(FeedbackRequest(request_id="x", score=1.0))
    assert raised.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_without_a_store_answers_are_remembered(plain: RelayUnderTest) -> None:
    request_id = await asked(plain)
    assert (await give(plain, request_id=request_id, label="good")).status_code == 200
    assert (await give(plain, "another", request_id=request_id, score=1)).status_code == 400


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"score": 1}, "request_id"),
        ({"request_id": "x", "score": 7}, "score"),
        ({"request_id": "x"}, "score"),
        ({"request_id": "x", "score": 1, "stars": 5}, "stars"),
    ],
)
async def test_what_is_wrong_is_named(
    plain: RelayUnderTest, body: dict[str, Any], field: str
) -> None:
    told = await give(plain, **body)
    assert told.status_code == 400
    assert told.json()["error"]["param"] == field


async def test_other_methods_and_large_bodies_are_refused(plain: RelayUnderTest) -> None:
    assert (await plain.http.get(PATH)).status_code == 405
    told = await give(plain, request_id="x", score=1, comment="x" * 70_000)
    assert told.status_code == 413


async def test_by_the_python_client(plain: RelayUnderTest) -> None:
    nowhere = "127.0.0.1:1"
    async with rtrelay.Client(
        [nowhere, f"127.0.0.1:{plain.worker.grpc_port}"], model="fast"
    ) as client:
        answer = client.generate("Hello")
        assert await answer.text() == "Hello"
        request_id = (await answer.ended()).request_id
        assert await client.feedback(request_id, score=0.5, label="so-so") is False
        with pytest.raises(rtrelay.RelayError, match="from 0 to 1"):
            await client.feedback(request_id, score=2)
    with pytest.raises(RuntimeError, match="closed"):
        await client.feedback(request_id, score=1)


async def test_over_grpc(plain: RelayUnderTest) -> None:
    generated = await plain.generate(start("fast"))
    assert generated.answer.end is not None
    request_id = generated.answer.end.request_id
    stub: Any = RelayServiceStub(plain.channel)
    told = await stub.Feedback(FeedbackRequest(request_id=request_id, score=0.0))
    assert told.counts_for_experiment is False
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await stub.Feedback(FeedbackRequest(request_id=request_id))
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "a score from 0 to 1" in str(raised.value.details())
