"""Hedging through real sockets: who answers, who is reset, and what client and log are told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
from structlog.testing import capture_logs

from relay.resilience.common_mode import CommonMode
from tests.fakes.askers import ASKERS, Ask
from tests.fakes.h2_server import CANCEL, H2Server, ServerStream, stream_chunks
from tests.fakes.relay_under_test import (
    Document,
    RelayUnderTest,
    answer_chunks,
    chat_body,
    chunk,
    eventually,
    provider,
    relay_under_test,
)

pytestmark = pytest.mark.sockets

CHAT = "/v1/chat/completions"
ROLE = chunk({"role": "assistant", "content": ""})
DELAY_MS = 20


async def thinks(stream: ServerStream) -> None:
    """Its head comes, a role and a comment; then it thinks for ever."""
    await stream.send_headers()
    await stream.send(ROLE)
    await stream.send(b": processing\n\n")
    await stream.hang()


async def says_nothing(stream: ServerStream) -> None:
    await stream.hang()


def document(upstream: H2Server, spare: H2Server, ca_file: str, delay_ms: int) -> Document:
    """The first candidate is `upstream`, the second `spare`."""
    return {
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
                "hedge": {"mode": "active", "delay": delay_ms},
            }
        },
    }


@pytest.fixture
async def relay(upstream: H2Server, spare: H2Server, ca_file: str) -> AsyncIterator[RelayUnderTest]:
    upstream.routes[CHAT] = thinks
    spare.routes[CHAT] = stream_chunks(answer_chunks("Hel", "lo", "!"))
    async with relay_under_test(document(upstream, spare, ca_file, DELAY_MS)) as running:
        yield running


async def was_reset(server: H2Server) -> ServerStream:
    """The only request that the server has seen, once it was reset and nothing closed for it."""
    stream = await server.request(CHAT)
    await server.until(lambda: stream.reset_code is not None)
    assert stream.reset_code == CANCEL
    assert not server.seen("closed"), "a loser costs its stream, never the connection"
    return stream


def line_of(lines: list[Any]) -> Mapping[str, Any]:
    """The log line of the only generation."""
    (line,) = [line for line in lines if line["event"] == "generation"]
    return dict(line)


@pytest.mark.parametrize("first", [thinks, says_nothing], ids=lambda script: script.__name__)
@pytest.mark.parametrize("ask", ASKERS.values(), ids=ASKERS)
async def test_the_hedge_wins(
    relay: RelayUnderTest, upstream: H2Server, spare: H2Server, ask: Ask, first: Any
) -> None:
    upstream.routes[CHAT] = first
    with capture_logs() as lines:
        reply = await ask(relay, "fast")
        await relay.settled()
    assert reply.is_clean
    assert reply.text == "Hello!"
    assert reply.provider == "quick"
    assert reply.attempts == 2
    await was_reset(upstream)
    assert len(spare.requests(CHAT)) == 1
    line = line_of(lines)
    assert line["status"] == "OK"
    assert [(a["target"], a["role"], a["outcome"]) for a in line["attempts"]] == [
        ("slow/m1", "primary", "lost"),
        ("quick/m2", "hedge", "success"),
    ]
    loser, winner = line["attempts"]
    assert loser["first_content_us"] is None
    assert winner["started_us"] >= loser["started_us"] + DELAY_MS * 1000
    assert loser["started_us"] < loser["ended_us"] <= winner["ended_us"]
    hedge = line["hedge"]
    assert (hedge["reason"], hedge["delay_us"]) == ("fixed", DELAY_MS * 1000)
    assert (hedge["second"], hedge["fired"], hedge["won"]) == ("quick/m2", 1, True)


@pytest.mark.parametrize("ask", ASKERS.values(), ids=ASKERS)
async def test_the_first_overtakes_its_hedge(
    relay: RelayUnderTest, upstream: H2Server, spare: H2Server, ask: Ask
) -> None:
    async def answers_late(stream: ServerStream) -> None:
        await spare.request(CHAT)
        await stream_chunks(answer_chunks("Good", "bye"))(stream)

    upstream.routes[CHAT], spare.routes[CHAT] = answers_late, thinks
    with capture_logs() as lines:
        reply = await ask(relay, "fast")
        await relay.settled()
    assert (reply.text, reply.provider, reply.attempts) == ("Goodbye", "slow", 2)
    await was_reset(spare)
    line = line_of(lines)
    assert [(a["role"], a["outcome"]) for a in line["attempts"]] == [
        ("primary", "success"),
        ("hedge", "lost"),
    ]
    assert line["hedge"]["fired"] == 1
    assert line["hedge"]["won"] is False


@pytest.mark.parametrize("ask", ASKERS.values(), ids=ASKERS)
async def test_a_first_that_is_in_time_is_asked_alone(
    upstream: H2Server, spare: H2Server, ca_file: str, ask: Ask
) -> None:
    upstream.routes[CHAT] = stream_chunks(answer_chunks("Hi"))
    async with relay_under_test(document(upstream, spare, ca_file, 5000)) as relay:
        reply = await ask(relay, "fast")
        await relay.settled()
    assert (reply.text, reply.provider, reply.attempts) == ("Hi", "slow", 1)
    assert spare.requests(CHAT) == []


# --- the client goes away while both run --------------------------------------------------------


async def hang_up_sse(relay: RelayUnderTest, ready: asyncio.Event) -> None:
    task = asyncio.ensure_future(relay.chat(chat_body()))
    await ready.wait()
    task.cancel()
    await asyncio.wait([task])


async def hang_up_json(relay: RelayUnderTest, ready: asyncio.Event) -> None:
    task = asyncio.ensure_future(relay.chat(chat_body(stream=False)))
    await ready.wait()
    task.cancel()
    await asyncio.wait([task])


async def cancel_rpc(relay: RelayUnderTest, ready: asyncio.Event) -> None:
    task = asyncio.ensure_future(ASKERS["generate"](relay, "fast"))
    await ready.wait()
    task.cancel()
    await asyncio.wait([task])


async def barge_in(relay: RelayUnderTest, ready: asyncio.Event) -> None:
    async with relay.talk() as talk:
        await talk.start("g", model="fast")
        await ready.wait()
        await talk.cancel("g")
        await talk.ended("g")
        await talk.half_close()
        assert await talk.over() is None


@pytest.mark.parametrize("leave", [hang_up_sse, hang_up_json, cancel_rpc, barge_in])
async def test_who_leaves_during_the_race_takes_both_along(
    relay: RelayUnderTest, upstream: H2Server, spare: H2Server, leave: Any
) -> None:
    spare.routes[CHAT] = says_nothing
    ready = asyncio.Event()

    async def watch() -> None:
        await upstream.request(CHAT)
        await spare.request(CHAT)
        ready.set()

    with capture_logs() as lines:
        watcher = asyncio.ensure_future(watch())
        await asyncio.wait_for(leave(relay, ready), 10)
        await watcher
        await was_reset(upstream)
        await was_reset(spare)
        await relay.settled()
        await eventually(lambda: any(line["event"] == "generation" for line in lines))
    line = line_of(lines)
    assert line["reason"] == "CLIENT_CANCELLED"
    assert [(a["role"], a["outcome"]) for a in line["attempts"]] == [
        ("primary", "ignored"),
        ("hedge", "ignored"),
    ], "nobody won, nobody lost"
    assert all(a["ended_us"] > a["started_us"] for a in line["attempts"])
    for state in relay.worker.services.planner.states.items():
        assert state[1].limiter.in_flight == 0


async def test_targets_are_shown_in_the_state(relay: RelayUnderTest) -> None:
    await relay.chat(chat_body("fast"))
    await relay.settled()
    async with relay.admin() as admin:
        targets = (await admin.get("/admin/state")).json()["targets"]
    assert list(targets) == ["slow/m1", "quick/m2"]
    quick = targets["quick/m2"]
    assert quick["breaker"]["state"] == "closed"
    assert (quick["samples"], quick["learned"], quick["in_flight"]) == (1, False, 0)
    assert quick["p95_ms"] == quick["p50_ms"] > 0


async def test_a_worker_s_dials_are_told_to_common_mode(
    upstream: H2Server, spare: H2Server, ca_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[str, float]] = []
    monkeypatch.setattr(
        CommonMode, "connected", lambda _, group, took_s, now_s: told.append((group, took_s))
    )
    async with relay_under_test(document(upstream, spare, ca_file, DELAY_MS)):
        pass
    assert sorted(group for group, _ in told) == ["quick", "slow"]
    assert all(0 < took_s < 3 for _, took_s in told)
