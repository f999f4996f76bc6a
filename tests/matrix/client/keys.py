"""Clients with keys that are none, and with hosts of their own (rows C12 and C13)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import orjson
import pytest
from sqlalchemy import Engine, event

import relay.frontends.body_fields
import relay.frontends.http_generation
from relay.errors import Unauthenticated
from relay.frontends.request_policy import read_policy
from relay.governance import token_text
from relay.governance.directory import Directory
from relay.governance.failure_throttle import BURST, FailureThrottle
from relay.governance.token_text import mint
from relay.store import schema
from tests.fakes.converse_client import generate, reason_of, start, status_of
from tests.fakes.h2_server import stream_chunks
from tests.fakes.relay_under_test import chat_body
from tests.matrix.client.raw import key_of
from tests.matrix.row import Part, Row, Stage
from tests.matrix.world import CHAT, World, whole_answer, world

HEADERS = ("authorization", "x-api-key", "api-key")


async def refusal(here: World, key: str, face: str) -> tuple[Any, ...]:
    """Code, reason and text of what a key is told."""
    if face == "generate":
        told = await generate(
            here.relay.channel, start("g", "alone"), metadata={"authorization": f"Bearer {key}"}
        )
        status = status_of(told.error)
        return status.code, reason_of(status), status.message
    name = face
    headers = {"authorization": "", name: f"Bearer {key}" if name == "authorization" else key}
    headers = {name: value for name, value in headers.items() if value}
    async with fresh(here) as client:
        answer = await client.get("/v1/models", headers=headers)
    error = answer.json()["error"]
    return answer.status_code, error["x_relay"]["reason"], error["message"]


@asynccontextmanager
async def fresh(here: World) -> AsyncIterator[Any]:
    """A client without the world's key."""
    url = f"http://127.0.0.1:{here.relay.worker.http_port}"
    async with httpx2.AsyncClient(base_url=url, trust_env=False, timeout=20) as client:
        yield client


async def known(here: World) -> None:
    access = here.relay.worker.accounts.access
    assert access is not None
    assert await access.sync.look()


async def every_bad_key_is_told_the_same(stage: Stage) -> None:
    face = stage.draw.choice((*HEADERS, "generate"))
    async with world(stage) as here:
        good = key_of(here)
        team = here.rows.team(here.rows.organisation())
        revoked_id, revoked = here.rows.key(team)
        _, expired = here.rows.key(team, expires_at_us=1)
        here.rows.change(schema.keys, revoked_id, revoked_at_us=int(time.time() * 1e6) - 1)
        await known(here)
        other = mint("virtual key")
        bad = {
            "unknown": other.text,
            "wrong_checksum": good[:-1] + ("A" if good[-1] != "A" else "B"),
            "cut": good[:-7],
            "others_secret": _with_id(good, other),
            "revoked": revoked,
            "expired": expired,
            "administrators": mint("administrator").text,
            "no_key": "sk-" + "x" * 48,
        }
        told = {name: await refusal(here, key, face) for name, key in bad.items()}
        assert len(set(told.values())) == 1, told
        ((code, reason, _),) = set(told.values())
        assert (code, reason) in ((401, "UNAUTHENTICATED"), (16, "UNAUTHENTICATED"))
        assert not here.lab.requests(CHAT)
        await here.booked(0)


def _with_id(good: str, other: token_text.Minted) -> str:
    """Of an id that is there, with a secret of somebody else; its checksum is right."""
    head = f"{good[: 4 + token_text.ID_CHARACTERS]}.{other.secret}"
    return head + token_text.checksum(head)


async def guessing(stage: Stage) -> None:
    statements: list[str] = []

    def seen(*given: Any) -> None:
        statements.append(str(given[2]))

    has_checksum = stage.draw.random() < 0.5
    async with world(stage, {"auth": {"sync_ms": 900}}) as here:
        here.lab.routes[CHAT] = stream_chunks(whole_answer("fine"))
        event.listen(Engine, "before_cursor_execute", seen)
        try:
            async with fresh(here) as client:
                statuses = []
                for _ in range(BURST + 30):
                    key = mint("virtual key").text
                    key = key if has_checksum else key[:-1] + "!"
                    told = await client.get("/v1/models", headers={"api-key": key})
                    statuses.append(told.status_code)
        finally:
            event.remove(Engine, "before_cursor_execute", seen)
        asked = [one for one in statements if "credentials" in one]
        assert not asked, asked
        assert statuses[:BURST] == [401] * BURST
        # A second of a slow machine lets one more be told.
        assert statuses[BURST:].count(429) >= 25, statuses
        assert told.status_code != 429 or int(told.headers["retry-after"]) >= 1
        reply = await here.ask(here.face(), "alone")
        assert reply.text == "fine", "a good key beside them waits for nothing"
        await here.booked(1)


def bad_keys_are_told_apart(patch: pytest.MonkeyPatch) -> None:
    """That all keys which are not good are told the same."""
    identify = Directory.identify

    def says_more(directory: Directory, bearer: str, now_us: int) -> Any:
        try:
            return identify(directory, bearer, now_us)
        except Unauthenticated:
            if token_text.read(bearer) is None:
                raise Unauthenticated("that is no key") from None
            raise

    patch.setattr(Directory, "identify", says_more)


def nobody_waits(patch: pytest.MonkeyPatch) -> None:
    """The throttle of an address and of an id."""
    patch.setattr(FailureThrottle, "failed", lambda *_: 0.0)


# --- C13 --------------------------------------------------------------------------------------

NAMES = ("base_url", "api_base", "api_key", "api_version", "extra_headers")
HOST_HEADERS = (
    "x-portkey-custom-host",
    "x-litellm-api-base",
    "x-openai-base-url",
    "x-forwarded-host",
    "x-original-url",
    "x-custom-host",
    "forwarded",
)


class Elsewhere:
    """A host of the caller's, which nobody should come to."""

    def __init__(self) -> None:
        self.connects = 0

    async def __aenter__(self) -> Elsewhere:
        def came(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.connects += 1
            writer.close()

        self._server = await asyncio.start_server(came, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()


def _within(stage: Stage, value: dict[str, Any]) -> dict[str, Any]:
    """The value some levels deep, under names that gateways know."""
    for _ in range(stage.draw.randint(1, 4)):
        name = stage.draw.choice(
            ("extra_body", "user_config", "model_list", "litellm_params", "metadata", "config")
        )
        value = {name: [value] if stage.draw.random() < 0.3 else value}
    return value


async def hosts_in_bodies(stage: Stage) -> None:
    async with world(stage) as here, Elsewhere() as there:
        here.lab.routes[CHAT] = stream_chunks(whole_answer("fine"))
        names = {
            name: {"host": there.url} if name == "extra_headers" else there.url for name in NAMES
        }
        bodies = [
            {**chat_body("alone", stream=False), **names},
            {**chat_body("alone", stream=False), **_within(stage, names)},
            {**chat_body("alone", stream=False), "provider": {"base_url": there.url}},
        ]
        asked = 0
        for body in bodies:
            if stage.draw.random() < 0.5:
                answer = await here.relay.chat(body)
                assert answer.status_code in (200, 400), answer.text
                asked += answer.status_code == 200
            else:
                told = await here.relay.generate(
                    start("g", "", openai_chat_body=orjson.dumps(body))
                )
                asked += told.error is None
                assert told.error is None or status_of(told.error).code == 3
        sent = here.lab.requests(CHAT)
        assert len(sent) == asked >= 1
        for name in NAMES:
            assert f'"{name}"'.encode() not in sent[0].body, "top-level: it is the SDK's own"
        for stream in sent:
            assert (
                stream.header("authorization") == "Bearer canary-key-of-our-own-account-0123456789"
            )
        assert there.connects == 0
        await here.booked(asked)


async def hosts_in_heads(stage: Stage) -> None:
    async with world(stage) as here, Elsewhere() as there:
        here.lab.routes[CHAT] = stream_chunks(whole_answer("fine"))
        headers = dict.fromkeys(HOST_HEADERS, there.url)
        headers["host"] = there.url.removeprefix("http://")
        answer = await here.relay.http.post(
            CHAT, json=chat_body("alone", stream=False), headers=headers
        )
        assert answer.status_code == 200
        key = {"authorization": f"Bearer {key_of(here)}"}
        metadata = {**dict.fromkeys(HOST_HEADERS, there.url), **key}
        told = await generate(here.relay.channel, start("g", "alone"), metadata=metadata)
        assert told.text == "fine"
        ours = stage.draw.choice(("x-relay-base-url", "x-relay-provider-host", "x-relay-api-base"))
        answer = await here.relay.http.post(
            CHAT, json=chat_body("alone"), headers={ours: there.url}
        )
        assert answer.status_code == 400
        assert answer.json()["error"]["param"] == ours
        for stream in here.lab.requests(CHAT):
            sent = str(stream.headers)
            assert there.url.removeprefix("http://") not in sent
            for name in HOST_HEADERS:
                assert stream.header(name) is None
        assert there.connects == 0
        await here.booked(2)


def hosts_are_sent_on(patch: pytest.MonkeyPatch) -> None:
    """That names of hosts and keys are taken out of every body."""
    patch.setattr(relay.frontends.body_fields, "NEVER_SENT_ON", frozenset())


def policy_headers_may_be_any(patch: pytest.MonkeyPatch) -> None:
    """That a header of ours which is not known is refused."""

    def reads(scope: Any, body: Any, caller: Any) -> Any:
        scope["headers"] = [one for one in scope["headers"] if not one[0].startswith(b"x-relay-")]
        return read_policy(scope, body, caller)

    patch.setattr(relay.frontends.http_generation, "read_policy", reads)


C12 = Row(
    "C12",
    inject="guessed keys, wrong checksums, revoked and expired keys, a known id with another"
    " secret, an administrator's token on the data port",
    client="UNAUTHENTICATED with one text, then LIMIT_EXCEEDED with a hint; a good key beside them"
    " waits for nothing",
    accounting="none; the audit has samples",
    retry="after the hint; no key is looked up in the store",
    parts=(
        Part("one_text", every_bad_key_is_told_the_same, bad_keys_are_told_apart),
        Part("guessing", guessing, nobody_waits),
    ),
    also=("tests/integration/test_keys.py", "tests/integration/test_audit_denials.py"),
)
C13 = Row(
    "C13",
    inject="`base_url`, `api_base`, Host, `x-...-host` at any depth of a body, in headers and"
    " metadata",
    client="as without it, or INVALID_ARGUMENT",
    accounting="as without it",
    retry="the host that was named sees no connection",
    parts=(
        Part("bodies", hosts_in_bodies, hosts_are_sent_on),
        Part("heads", hosts_in_heads, policy_headers_may_be_any),
    ),
    also=("tests/integration/test_bad_input.py::test_caller_can_name_no_host_and_no_key",),
)
