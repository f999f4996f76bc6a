"""A session's prefix, sent ahead: once, to one target, and nobody's trouble whatever happens."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import orjson
import pytest
from structlog.testing import capture_logs

from relay.errors import ConnectError
from relay.prewarm import OUTPUT_TOKENS, TOTAL_S, Prewarm
from tests.fakes.memory_transport import FakeEndpoint
from tests.fakes.scenario import Rows, Scenario, answer, request
from tests.fakes.virtual_time import on_virtual_time, since_start_s

SPEAKS = FakeEndpoint(headers_s=0.25, chunks=answer("One", " two", first_s=0.25, gap_s=0.25))
CACHES = {"caches_prompts": True}


class World:
    """Providers of which some cache prompts, and one prefix on its way."""

    def __init__(self, rows: Rows, *caching: str, model: str = "fast", **more: Any) -> None:
        self.scenario = Scenario(rows, rows_more=dict.fromkeys(caching, CACHES))
        with capture_logs() as self.logs:
            self.prewarm = Prewarm(self.scenario.services, request(model=model, **more), "pre_1")

    async def finished(self) -> None:
        with capture_logs() as logs:
            if self.prewarm.task is not None:
                await self.prewarm.task
            await self.scenario.settled()
        self.logs += logs
        self.scenario.check()


@on_virtual_time
async def test_the_first_candidate_is_asked_for_a_few_tokens() -> None:
    world = World({"a": SPEAKS, "b": SPEAKS}, "a", "b")
    await world.finished()
    (attempt,) = world.scenario.transport.attempts
    assert attempt.host == "a.test"
    body = orjson.loads(attempt.request.body)
    assert body["max_tokens"] == OUTPUT_TOKENS
    assert body["messages"] == [{"role": "user", "content": "Hello"}]
    assert world.scenario.services.prewarms == 1
    (line,) = [line for line in world.logs if line["event"] == "generation"]
    assert (line["frontend"], line["id"], line["status"]) == ("prewarm", "pre_1", "OK")


@on_virtual_time
async def test_a_provider_that_keeps_nothing_is_not_asked() -> None:
    world = World({"a": SPEAKS, "b": SPEAKS}, "b")
    await world.finished()
    assert world.prewarm.task is None
    assert world.scenario.transport.attempts == []
    assert world.scenario.services.prewarms == 0
    assert [line["event"] for line in world.logs] == ["prewarm_useless"]


@on_virtual_time
async def test_an_unknown_model_is_only_logged() -> None:
    world = World({"a": SPEAKS}, "a", model="nobody")
    await world.finished()
    assert world.scenario.transport.attempts == []
    assert [(line["event"], line["reason"]) for line in world.logs] == [
        ("prewarm_refused", "UNKNOWN_MODEL")
    ]


@pytest.mark.parametrize(
    ("endpoint", "reason"),
    [
        (FakeEndpoint(status=500, chunks=[(0.0, b"{}")]), "UPSTREAM_FAILED"),
        (FakeEndpoint(fault=ConnectError("no"), fault_at="connect"), "UPSTREAM_UNREACHABLE"),
        (FakeEndpoint(chunks=[(0.0, b"<html>")]), "UPSTREAM_PROTOCOL"),
    ],
)
def test_failure_is_only_logged_and_nobody_else_is_asked(
    endpoint: FakeEndpoint, reason: str
) -> None:
    @on_virtual_time
    async def check() -> None:
        world = World({"a": endpoint, "b": SPEAKS}, "a", "b")
        await world.finished()
        assert {attempt.host for attempt in world.scenario.transport.attempts} == {"a.test"}
        (line,) = [line for line in world.logs if line["event"] == "generation"]
        assert (line["frontend"], line["reason"]) == ("prewarm", reason)

    check()


@on_virtual_time
async def test_it_ends_with_its_session() -> None:
    world = World({"a": SPEAKS}, "a")
    await asyncio.sleep(0.375)
    world.prewarm.stop()
    world.prewarm.stop()
    await world.finished()
    assert world.scenario.aborted == [("a", 0.375)]


@on_virtual_time
async def test_it_does_not_wait_for_ever() -> None:
    silent = FakeEndpoint(headers_s=math.inf)
    world = World({"a": silent}, "a")
    await world.finished()
    assert since_start_s() <= TOTAL_S
    assert world.scenario.transport.unfinished == []


@on_virtual_time
async def test_a_worker_that_stops_sends_nothing_ahead() -> None:
    scenario = Scenario({"a": SPEAKS}, rows_more={"a": CACHES})
    scenario.services.is_draining = True
    prewarm = Prewarm(scenario.services, request(), "pre_1")
    assert prewarm.task is not None
    await prewarm.task
    assert scenario.transport.attempts == []
