"""Callers are told apart by their bearers, on every frontend: each spends its own hedges."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
import rtrelay
from rtrelay.v1 import GenerateRequest
from structlog.testing import capture_logs

from relay.resilience.hedge_budget import CAP_REQUESTS
from tests.fakes.askers import ask_sse
from tests.fakes.converse_client import start
from tests.fakes.h2_server import H2Server, ServerStream, stream_chunks
from tests.fakes.relay_under_test import RelayUnderTest, answer_chunks, provider, relay_under_test

pytestmark = pytest.mark.sockets

CHAT = "/v1/chat/completions"
MINE, OTHER = "sk-relay-mine-0123456789", "sk-relay-other-9876543210"
START_CREDIT = int(CAP_REQUESTS / 2)


async def is_slow(stream: ServerStream) -> None:
    """Later than its hedge, if there is one; else it is what answers."""
    await asyncio.sleep(0.05)
    await stream_chunks(answer_chunks("slow"))(stream)


@pytest.fixture
async def relay(upstream: H2Server, spare: H2Server, ca_file: str) -> AsyncIterator[RelayUnderTest]:
    upstream.routes[CHAT] = is_slow
    spare.routes[CHAT] = stream_chunks(answer_chunks("quick"))
    document = {
        "providers": {
            "slow": provider(upstream.url, ca_file=ca_file),
            "quick": provider(spare.url, ca_file=ca_file),
        },
        "models": {
            "fast": {
                "candidates": [
                    {"provider": "slow", "model": "m1"},
                    {"provider": "quick", "model": "m2"},
                ],
                "hedge": {
                    "mode": "active",
                    "delay": 1,
                    "max_extra_requests": 1.0,
                    "tenant_max_extra_requests": 0.02,
                },
            }
        },
    }
    async with relay_under_test(document) as running:
        yield running


async def ask(relay: RelayUnderTest, bearer: str) -> Mapping[str, Any]:
    """One request over SSE; its log line."""
    with capture_logs() as lines:
        reply = await ask_sse(relay, "fast", authorization=f"Bearer {bearer}")
        await relay.settled()
    assert reply.is_clean
    (line,) = [line for line in lines if line["event"] == "generation"]
    assert bearer not in repr(lines)
    return dict(line)


async def test_a_tenant_spends_its_own_hedges_and_leaves_others_theirs(
    relay: RelayUnderTest,
) -> None:
    for _ in range(START_CREDIT):
        line = await ask(relay, MINE)
        assert line["hedge"]["fired"] == 1
    spent = await ask(relay, MINE)
    assert (spent["hedge"]["fired"], spent["hedge"]["refused"]) == (0, "budget_requests")
    other = await ask(relay, OTHER)
    assert other["hedge"]["fired"] == 1
    names = [line["wish"]["tenant"] for line in (spent, other)]
    assert len(set(names)) == 2
    async with relay.admin() as admin:
        state = (await admin.get("/admin/state")).json()
    tenants = state["hedging"]["aliases"]["fast"]["tenants"]
    assert [*tenants] == names[::-1], "the latest first"
    assert [tenants[name]["hedges"] for name in names] == [START_CREDIT, 1]
    assert [tenants[name]["requests"] for name in names] == [START_CREDIT + 1, 1]
    assert not any(bearer in repr(state) for bearer in (MINE, OTHER))


async def test_a_bearer_is_one_tenant_on_every_frontend(relay: RelayUnderTest) -> None:
    shim = await ask(relay, MINE)
    with capture_logs() as lines:
        address = f"127.0.0.1:{relay.worker.grpc_port}"
        client = rtrelay.Client(address, key=MINE, model="fast")
        async with client, client.session() as session:
            assert await session.start("Hello").text() == "quick"
        call = relay.stub.Generate(
            GenerateRequest(start=start()), metadata=(("authorization", f"Bearer {MINE}"),)
        )
        assert [frame async for frame in call]
        await relay.settled()
    found = [line["wish"]["tenant"] for line in lines if line["event"] == "generation"]
    assert found == [shim["wish"]["tenant"]] * 2


async def test_without_a_bearer_they_are_one_more(relay: RelayUnderTest) -> None:
    reply = await ask_sse(relay, "fast")
    assert reply.is_clean
    await relay.settled()
    async with relay.admin() as admin:
        state = (await admin.get("/admin/state")).json()
    assert [*state["hedging"]["aliases"]["fast"]["tenants"]] == ["(no bearer)"]
