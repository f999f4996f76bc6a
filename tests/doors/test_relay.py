"""The relay at each door: what it makes of the clouds' refusals, in answers and in mid-stream.

Behind a row of every kind of credential, with the emulator scripted.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.doors.conversation import CHAT_TURNS, TEXT
from tests.doors.test_shapes import CASES
from tests.doors.world import Refused, Relay, World

DOORS = [name for name, case in CASES.items() if not case.model]
SIGNED = ["converse", "bedrock-messages"]

RATE, OVERLOADED, FAILED = "UPSTREAM_RATE_LIMITED", "UPSTREAM_OVERLOADED", "UPSTREAM_FAILED"
MISCONFIGURED = "UPSTREAM_MISCONFIGURED"


@pytest.fixture(scope="module")
def relay(world: World) -> Relay:
    """One relay with all rows."""
    return start(world, {name: CASES[name].row(world) for name in DOORS})


def start(world: World, rows: dict[str, Any]) -> Relay:
    return world.start_relay(
        {
            "server": {name: {"address": "127.0.0.1:0"} for name in ("grpc", "http", "admin")},
            "providers": rows,
        }
    )


def ask(relay: Relay, name: str, model: str) -> list[dict[str, Any]]:
    return relay.chat({"model": f"{name}/{model}", "messages": CHAT_TURNS, "max_tokens": 50})


def text_of(chunks: list[dict[str, Any]]) -> str:
    return "".join(
        choice["delta"].get("content") or ""
        for chunk in chunks
        for choice in chunk.get("choices", [])
    )


def reason_of(error: Refused) -> str:
    return str(json.loads(error.body)["error"]["x_relay"]["reason"])


@pytest.mark.parametrize("kind", ["rate", "unavailable", "server", "permission", "not_found"])
@pytest.mark.parametrize("name", DOORS)
def test_refusals(world: World, relay: Relay, name: str, kind: str) -> None:
    expected = {
        "rate": RATE,
        "unavailable": OVERLOADED,
        "server": FAILED,
        "permission": "UPSTREAM_PERMISSION_DENIED",
        "not_found": "UPSTREAM_MODEL_NOT_FOUND",
    }
    with pytest.raises(Refused) as raised:
        ask(relay, name, world.scripted(fault=f"error:{kind}"))
    assert reason_of(raised.value) == expected[kind]


@pytest.mark.parametrize("kind", ["rate", "unavailable", "server"])
@pytest.mark.parametrize("name", DOORS)
def test_an_error_in_mid_stream(world: World, relay: Relay, name: str, kind: str) -> None:
    chunks = ask(relay, name, world.scripted(text=TEXT, fault=f"error-mid@3:{kind}"))
    said = text_of(chunks)
    assert said
    assert TEXT.startswith(said)
    assert "error" in chunks[-1], chunks[-1]


@pytest.mark.parametrize("name", SIGNED)
def test_a_bad_checksum(world: World, relay: Relay, name: str) -> None:
    chunks = ask(relay, name, world.scripted(text=TEXT, fault="bad-frame@3"))
    assert TEXT.startswith(text_of(chunks))
    assert "error" in chunks[-1]


@pytest.mark.parametrize("name", SIGNED)
@pytest.mark.parametrize("skew_s", [400, -4000])
def test_a_wrong_clock_costs_one_try(world: World, name: str, skew_s: float) -> None:
    relay = start(world, {name: CASES[name].row(world)})
    world.order("clock", skew_s=skew_s)
    try:
        since = world.last_request()
        assert text_of(ask(relay, name, world.scripted(text=TEXT))) == TEXT
        assert len(world.requests(since)) == 2
        since = world.last_request()
        assert text_of(ask(relay, name, world.scripted(text=TEXT))) == TEXT
        assert len(world.requests(since)) == 1
    finally:
        world.order("clock")


def test_revoked_keys_of_aws(world: World) -> None:
    keys = world.order("keys", expires_in_s=600)
    credential = {
        "kind": "aws_sigv4",
        **{name: world.secret(value) for name, value in keys.items()},
    }
    row: dict[str, object] = {
        "door": "bedrock",
        "region": "us-east-1",
        "base_url": world.url,
        "credential": credential,
    }
    relay = start(world, {"bedrock": row})
    assert ask(relay, "bedrock", world.scripted())
    world.order("revoke", value=keys["access_key_id"])
    with pytest.raises(Refused) as raised:
        ask(relay, "bedrock", world.scripted())
    assert reason_of(raised.value) == MISCONFIGURED
    said = "\n".join([raised.value.body, *relay.log()])
    for value in (keys["secret_access_key"], keys["session_token"]):
        assert value not in said


def test_many_keys_of_one_row(world: World) -> None:
    """The first that is not refused serves."""
    row: dict[str, object] = {
        "door": "bedrock",
        "region": "us-east-1",
        "base_url": world.url,
        "api_keys": [world.secret("bad-key"), world.secret("a-key")],
    }
    relay = start(world, {"bedrock": row})
    since = world.last_request()
    assert text_of(ask(relay, "bedrock", world.scripted(text=TEXT))) == TEXT
    assert text_of(ask(relay, "bedrock", world.scripted(text=TEXT))) == TEXT
    assert len(world.requests(since)) == 3
