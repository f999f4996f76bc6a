"""Keys on every frontend: what they may ask for, whose it is, and when it ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import anthropic
import grpc
import openai
import pytest
import rtrelay
from rtrelay.v1 import GenerateRequest
from structlog.testing import capture_logs
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from relay.governance.failure_throttle import BURST
from relay.governance.token_text import Minted, mint
from relay.store import schema
from relay.store.base import StoreUnavailable
from relay.store.directory_rows import Changes
from tests.fakes.converse_client import Conversation, prompt, reason_of, start, status_of
from tests.fakes.h2_server import H2Server, answer, stream_chunks
from tests.fakes.keyed_relay import KeyedRelay, keyed_relay
from tests.fakes.keyed_relay import keyed as keyed_document
from tests.fakes.keys import NOW_US
from tests.fakes.relay_under_test import (
    Document,
    answer_chunks,
    chat_body,
    eventually,
    provider,
    relay_under_test,
)
from tests.fakes.tls import CertAuthority
from tests.fakes.websocket_provider import WebSocketProvider

pytestmark = pytest.mark.sockets

CHAT = "/v1/chat/completions"
FAST = ["fast", "slow", "lab/small", "lab/big"]


def document(upstream: H2Server, ca_file: str, socket_url: str = "") -> Document:
    more = {"passthrough": True, "models": ["small", "big"], "caches_prompts": True}
    rows = {"lab": provider(upstream.url, ca_file=ca_file, **more)}
    if socket_url:
        sockets = provider(socket_url, ca_file=ca_file, passthrough=True, warm_connections=0)
        rows["sockets"] = sockets
    return {
        "server": {"http": {"responses_store": {}}},
        "providers": rows,
        "models": {
            "fast": {"tags": ["eu"], "candidates": [{"provider": "lab", "model": "small"}]},
            "slow": {"tags": ["us"], "candidates": [{"provider": "lab", "model": "big"}]},
        },
    }


@pytest.fixture
async def keyed(tmp_path: Path, upstream: H2Server, ca_file: str) -> AsyncIterator[KeyedRelay]:
    upstream.routes[CHAT] = stream_chunks(answer_chunks("Hel", "lo"))
    upstream.routes["/v1/files"] = answer(200, b'{"data": []}')
    async with keyed_relay(tmp_path, document(upstream, ca_file)) as running:
        yield running
        await running.relay.settled()


async def status_of_chat(keyed: KeyedRelay, key: str, model: str = "fast", **more: Any) -> int:
    body = chat_body(model, stream=False, **more)
    told = await keyed.relay.chat(body, authorization=f"Bearer {key}")
    return told.status_code


async def reason_of_generate(keyed: KeyedRelay, key: str, **more: Any) -> str:
    """ "" for a clean end."""
    call = keyed.relay.stub.Generate(
        GenerateRequest(start=start(**more)), metadata=(("authorization", f"Bearer {key}"),)
    )
    try:
        frames = [frame async for frame in call]
    except grpc.aio.AioRpcError as error:
        return reason_of(status_of(error))
    assert frames[-1].WhichOneof("frame") == "end"
    return ""


def talk(keyed: KeyedRelay, key: str, **setup: Any) -> Conversation:
    return Conversation(keyed.relay.channel, {"authorization": f"Bearer {key}"}, **setup)


# --- everywhere -----------------------------------------------------------------------------------


async def test_clients_as_people_have_them(keyed: KeyedRelay) -> None:
    key = await keyed.key(tags=("team-a",))
    messages: list[Any] = [{"role": "user", "content": "Hello"}]
    with capture_logs() as lines:
        async with keyed.relay.openai(api_key=key) as client:
            said = await client.chat.completions.create(model="fast", messages=messages)
            assert said.choices[0].message.content == "Hello"
            assert [model.id async for model in client.models.list()] == FAST
            kept = await client.responses.create(model="fast", input="Hello")
            assert (await client.responses.retrieve(kept.id)).output_text == "Hello"
        azure = openai.AsyncAzureOpenAI(
            azure_endpoint=f"http://127.0.0.1:{keyed.relay.worker.http_port}",
            api_key=key,
            api_version="2024-10-21",
            http_client=openai.DefaultAsyncHttpxClient(trust_env=False),
        )
        async with azure:
            said = await azure.chat.completions.create(model="fast", messages=messages)
            assert said.choices[0].message.content == "Hello"
        async with keyed.relay.anthropic(api_key=key) as claude:
            counted = await claude.messages.count_tokens(model="fast", messages=messages)
            assert counted.input_tokens > 0
            answered = await claude.messages.create(model="fast", messages=messages, max_tokens=9)
            assert answered.content[0].text == "Hello"  # type: ignore[union-attr]
        address = f"127.0.0.1:{keyed.relay.worker.grpc_port}"
        relay_client = rtrelay.Client(address, key=key, model="fast")
        async with relay_client, relay_client.session() as session:
            assert await session.start("Hello").text() == "Hello"
        assert await reason_of_generate(keyed, key) == ""
        await keyed.relay.settled()
    ends = [line for line in lines if line["event"] == "generation"]
    assert len(ends) == 6
    assert {line["wish"]["tenant"] for line in ends} == {"team_1"}
    assert {line["key"] for line in ends} == {"key_1"}
    assert {line["tags"] for line in ends} == {("team-a",)}
    assert key not in repr(lines)


async def test_refusals_are_what_clients_know(keyed: KeyedRelay) -> None:
    stranger = mint("virtual key").text
    messages: list[Any] = [{"role": "user", "content": "Hello"}]
    async with keyed.relay.openai(api_key=stranger) as client:
        with pytest.raises(openai.AuthenticationError) as refused:
            await client.chat.completions.create(model="fast", messages=messages)
        assert refused.value.code == "invalid_api_key"
    async with keyed.relay.anthropic(api_key=stranger) as claude:
        with pytest.raises(anthropic.AuthenticationError) as told:
            await claude.messages.create(model="fast", messages=messages, max_tokens=9)
        assert told.value.body["error"]["type"] == "authentication_error"  # type: ignore[index]
    address = f"127.0.0.1:{keyed.relay.worker.grpc_port}"
    relay_client = rtrelay.Client(address, key=stranger, model="fast")
    with pytest.raises(rtrelay.RelayError) as said:
        async with relay_client, relay_client.session() as session:
            await session.start("Hello").text()
    assert said.value.code is grpc.StatusCode.UNAUTHENTICATED


# --- what a key may ask for -----------------------------------------------------------------------


async def test_models_of_a_key(keyed: KeyedRelay, upstream: H2Server) -> None:
    key = await keyed.key(scopes={"models": ["lab/small"], "model_tags": ["eu"]})
    headers = {"authorization": f"Bearer {key}"}
    listed = (await keyed.relay.http.get("/v1/models", headers=headers)).json()
    assert [row["id"] for row in listed["data"]] == ["fast", "lab/small"]
    claude = {**headers, "anthropic-version": "2023-06-01"}
    listed = (await keyed.relay.http.get("/v1/models", headers=claude)).json()
    assert [row["id"] for row in listed["data"]] == ["fast", "lab/small"]
    described = (await keyed.relay.http.get("/openapi.json", headers=headers)).text
    assert '"model":"fast"' in described
    for model in ("fast", "lab/small", "small"):
        assert await status_of_chat(keyed, key, model) == 200
        shown = await keyed.relay.http.get(f"/v1/models/{model}", headers=headers)
        assert shown.status_code == 200
    before = len(upstream.requests(CHAT))
    words = set()
    for model in ("slow", "slaw", "lab/big", "lib/x"):
        body = chat_body(model, stream=False)
        for path, kind in ((CHAT, body), ("/v1/messages", {**body, "max_tokens": 5})):
            refused = await keyed.relay.http.post(path, json=kind, headers=headers)
            assert refused.status_code == 403
            words.add(refused.json()["error"]["message"].replace(model, "MODEL"))
        listed = await keyed.relay.http.get(f"/v1/models/{model}", headers=headers)
        assert listed.status_code == 403
        words.add(listed.json()["error"]["message"].replace(model, "MODEL"))
        count = await keyed.relay.http.post(
            "/v1/messages/count_tokens",
            json={"model": model, "messages": body["messages"]},
            headers=headers,
        )
        assert count.status_code == 403
        assert await reason_of_generate(keyed, key, model=model) == "PERMISSION_DENIED"
    assert len(words) == 1, "there or not: the same"
    async with talk(keyed, key, model="fast") as session:
        await session.start("g1")
        assert (await session.ended("g1")).text == "Hello"
        await session.start("g2", model="slow")
        end = (await session.ended("g2")).end
        assert end is not None
        assert reason_of(end.error) == "PERMISSION_DENIED"
    assert len(upstream.requests(CHAT)) == before + 1


async def test_tags_of_requests(keyed: KeyedRelay) -> None:
    key = await keyed.key(scopes={"request_tags": ["prod"]}, tags=("team-a",))
    for tags, status in ((["prod"], 200), (["prod", "dev"], 403), ([], 200), (["team-a"], 200)):
        assert await status_of_chat(keyed, key, relay={"tags": tags}) == status
    assert await reason_of_generate(keyed, key, tags=["dev"]) == "PERMISSION_DENIED"


async def test_what_is_handed_through(keyed: KeyedRelay, upstream: H2Server) -> None:
    plain = await keyed.key()
    trusted = await keyed.key("key_2", scopes={"passthrough": True})
    for path in ("/v1/files", "/pass/lab/files", "/pass/none/files"):
        told = await keyed.relay.http.get(path, headers={"api-key": plain})
        assert told.status_code == 403
        assert "lab" not in told.text
    assert not upstream.requests("/v1/files")
    with capture_logs() as lines:
        told = await keyed.relay.http.get("/v1/files", headers={"api-key": trusted})
        await eventually(lambda: [line for line in lines if line["event"] == "passthrough"])
    assert told.status_code == 200
    named = {"api-key": trusted, "host": "relay.test"}  # with a key any name will do
    assert (await keyed.relay.http.get("/v1/files", headers=named)).status_code == 200
    assert upstream.requests("/v1/files")[0].header("api-key") is None
    (line,) = [line for line in lines if line["event"] == "passthrough"]
    assert (line["tenant"], line["key"]) == ("team_1", "key_2")
    missing = await keyed.relay.http.get("/pass/none/files", headers={"api-key": trusted})
    assert missing.status_code == 404


async def test_a_prompt_is_warmed_for_the_alias_that_was_asked_for(
    keyed: KeyedRelay, upstream: H2Server
) -> None:
    key = await keyed.key(scopes={"models": ["fast"]})
    async with talk(keyed, key, model="fast", prewarm_prompt=prompt("You are brief.")):
        await upstream.request(CHAT)
    async with talk(keyed, key, model="slow", prewarm_prompt=prompt("You are brief.")) as session:
        assert session.ready is not None
        await keyed.relay.settled()
    assert len(upstream.requests(CHAT)) == 1


async def test_a_team_has_its_own_responses_and_a_key_its_own_repeats(
    keyed: KeyedRelay, upstream: H2Server
) -> None:
    mine, colleague = await keyed.key(), await keyed.key("key_2")
    keyed.desk.found("org_2", "team_2")
    stranger = await keyed.key("key_3", "team_2")
    async with keyed.relay.openai(api_key=mine) as client:
        kept = await client.responses.create(model="fast", input="Hello")
    path = f"/v1/responses/{kept.id}"
    statuses = [
        (await keyed.relay.http.get(path, headers={"api-key": key})).status_code
        for key in (mine, colleague, stranger)
    ]
    assert statuses == [200, 200, 404]
    before = len(upstream.requests(CHAT))
    body = chat_body(stream=False)
    for key in (mine, mine, colleague, stranger):
        headers = {"api-key": key, "idempotency-key": "k"}
        assert (await keyed.relay.http.post(CHAT, json=body, headers=headers)).status_code == 200
    assert len(upstream.requests(CHAT)) == before + 3


# --- when it ends ---------------------------------------------------------------------------------


async def until_refused(ask: Any, within_s: float = 1.0) -> None:
    """Ask on and on until the answer is that of a key that does not hold."""
    began_s = time.monotonic()
    while await ask():
        assert time.monotonic() - began_s < within_s
        await asyncio.sleep(0.01)


async def test_a_revoked_key_is_refused_within_a_second(keyed: KeyedRelay) -> None:
    key = await keyed.key()
    async with talk(keyed, key, model="fast") as session:
        await session.start("g0")
        assert (await session.ended("g0")).text == "Hello"
        keyed.desk.change(schema.keys, "key_1", revoked_at_us=NOW_US)
        # The relay's own looks, not ours.
        await until_refused(lambda: passes(keyed, key))
        await session.start("g1")
        end = (await session.ended("g1")).end
        assert end is not None
        assert reason_of(end.error) == "UNAUTHENTICATED"
    assert await reason_of_generate(keyed, key) == "UNAUTHENTICATED"


async def passes(keyed: KeyedRelay, key: str) -> bool:
    return await status_of_chat(keyed, key) == 200


async def test_a_revocation_holds_on_every_worker(
    keyed: KeyedRelay, tmp_path: Path, upstream: H2Server, ca_file: str
) -> None:
    key = await keyed.key()
    async with relay_under_test(keyed_document(tmp_path, document(upstream, ca_file))) as second:
        other = KeyedRelay(second, keyed.desk)
        assert await passes(keyed, key)
        assert await passes(other, key)
        keyed.desk.change(schema.teams, "team_1", archived_at_us=NOW_US)
        await asyncio.gather(
            until_refused(lambda: passes(keyed, key)), until_refused(lambda: passes(other, key))
        )


async def test_a_secret_takes_anothers_place(keyed: KeyedRelay) -> None:
    old: Minted = keyed.desk.key()
    new = keyed.desk.credential()
    await keyed.heard()
    assert await passes(keyed, old.text)
    assert await passes(keyed, new.text)
    keyed.desk.change(schema.credentials, old.id, expires_at_us=time.time_ns() // 1000)
    await keyed.heard()
    assert not await passes(keyed, old.text)
    assert await passes(keyed, new.text)


async def test_a_websocket_ends_with_its_key(
    tmp_path: Path, upstream: H2Server, ca_file: str, authority: CertAuthority
) -> None:
    lab = WebSocketProvider(tls=authority.server_context(alpn=("http/1.1",)))
    async with lab, keyed_relay(tmp_path, document(upstream, ca_file, lab.url)) as keyed:
        url = f"ws://127.0.0.1:{keyed.relay.worker.http_port}/pass/sockets/realtime"
        plain = await keyed.key("key_2")
        with pytest.raises(InvalidStatus) as refused:
            async with connect(url, proxy=None, additional_headers={"api-key": plain}):
                pass
        assert refused.value.response.status_code == 403
        key = await keyed.key(scopes={"passthrough": True})
        browser = [f"openai-insecure-api-key.{key}", "realtime"]
        options: Mapping[str, Any] = {"proxy": None, "subprotocols": browser}
        async with connect(url, **options) as socket:
            await socket.send("hello")
            assert await socket.recv() == "hello"
            keyed.desk.change(schema.keys, "key_1", revoked_at_us=NOW_US)
            began_s = time.monotonic()
            with pytest.raises(ConnectionClosed):
                await asyncio.wait_for(socket.recv(), 5)
            assert time.monotonic() - began_s < 1
            assert socket.close_code == 1008
            assert "not valid" in (socket.close_reason or "")
        await keyed.relay.settled()


# --- a store that cannot be read, and those who guess ---------------------------------------------


async def test_an_outage_is_503_and_never_401(keyed: KeyedRelay) -> None:
    key, stranger = await keyed.key(), mint("virtual key").text

    class Away:
        def changes(self, since: int | None) -> Changes:
            raise StoreUnavailable("away")

    reader, keyed.access.sync._reader = keyed.access.sync._reader, Away()
    await eventually(lambda: keyed.access.directory.is_behind)
    assert await passes(keyed, key)
    told = await keyed.relay.chat(chat_body(), authorization=f"Bearer {stranger}")
    assert told.status_code == 503
    assert told.headers["retry-after"] == "1"
    assert told.json()["error"]["code"] == "ledger_unavailable"
    assert await reason_of_generate(keyed, stranger) == "LEDGER_UNAVAILABLE"
    async with talk(keyed, stranger, setup=None) as session:
        error = await session.over()
        assert error is not None
        assert error.code() is grpc.StatusCode.UNAVAILABLE
    keyed.access.directory._looked_s = time.monotonic() - 61
    assert await status_of_chat(keyed, key) == 503
    keyed.access.sync._reader = reader
    await eventually(lambda: not keyed.access.directory.is_behind)
    assert await passes(keyed, key)
    assert await status_of_chat(keyed, stranger) == 401


async def test_a_store_that_is_away_at_the_start(
    tmp_path: Path, upstream: H2Server, ca_file: str, unused_tcp_port: int
) -> None:
    url = f"postgresql://relay:canary@127.0.0.1:{unused_tcp_port}/relay"
    asked = {**document(upstream, ca_file), "store": {"url": url}}
    with capture_logs() as lines:
        async with relay_under_test(keyed_document(tmp_path, asked)) as relay:
            ready = await relay.http.get("/readyz")
            assert (ready.status_code, ready.json()) == (503, {"status": "no keys yet"})
            headers = {"api-key": mint("virtual key").text}
            assert (await relay.http.get("/v1/models", headers=headers)).status_code == 503
            assert (await relay.http.get("/v1/models")).status_code == 401, "which needs no store"
    assert "canary" not in repr(lines)


async def test_those_who_guess_wait_and_a_good_key_beside_them_does_not(
    keyed: KeyedRelay, upstream: H2Server
) -> None:
    key = await keyed.key()
    statuses = []
    for _ in range(BURST + 5):
        headers = {"api-key": mint("virtual key").text}
        told = await keyed.relay.http.get("/v1/models", headers=headers)
        statuses.append(told.status_code)
    assert statuses == [401] * BURST + [429] * 5
    assert int(told.headers["retry-after"]) >= 1
    assert told.headers["x-should-retry"] == "false"
    assert await passes(keyed, key)
    assert await reason_of_generate(keyed, key) == ""
    assert await reason_of_generate(keyed, mint("virtual key").text) == "LIMIT_EXCEEDED"
