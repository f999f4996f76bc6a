"""A session's prefix, sent ahead: once, to one target, and nobody's trouble whatever happens."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import orjson
import pytest
from structlog.testing import capture_logs

from relay.content import Message, Policy, Role, TextPart
from relay.errors import ConnectError
from relay.prewarm import TOTAL_S, Prewarm
from relay.routing.keep_warm import EVERY_S, OUTPUT_TOKENS
from tests.fakes.memory_transport import FakeEndpoint
from tests.fakes.scenario import Rows, Scenario, answer, request
from tests.fakes.virtual_time import now_s, on_virtual_time, since_start_s

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


# --- a second place ---------------------------------------------------------------------------

PRICED = {**CACHES, "prices": {"m": {"input": 1.0, "cached_input": 0.1, "output": 5.0}}}
HEDGED = {"mode": "active", "keep_second_warm": "auto", "max_extra_requests": 1.0}


class TwoPlaces:
    """A relay whose sessions are worth a second place, and the prefix of one on its way."""

    def __init__(self, *, turns: float = 100.0, second: FakeEndpoint = SPEAKS) -> None:
        self.scenario = Scenario(
            {"a": SPEAKS, "b": second},
            rows_more={"a": PRICED, "b": PRICED},
            alias_more={"hedge": HEDGED},
        )
        planner = self.scenario.services.planner
        planner.sticky.turns = turns
        for _ in range(3):
            plan = self.scenario.plan()
            assert plan.may_hedge(plan.attempts[1])
            plan.withdrawn()
        words = "".join(f"word {number} " for number in range(2000))
        prefix = request(
            policy=Policy(session_id="call"),
            messages=(Message(Role.USER, (TextPart(words),)),),
        )
        self.prewarm = Prewarm(self.scenario.services, prefix, "pre_1")

    @property
    def asked(self) -> list[str]:
        return [attempt.host[0] for attempt in self.scenario.transport.attempts]

    async def over(self) -> None:
        self.prewarm.stop()
        assert self.prewarm.task is not None
        await self.prewarm.task
        await self.scenario.settled()
        self.scenario.check()


@on_virtual_time
async def test_the_second_place_is_kept_warm_while_the_session_lasts() -> None:
    world = TwoPlaces()
    await asyncio.sleep(5.0)
    assert world.asked == ["a", "b"]
    planner = world.scenario.services.planner
    warm = planner.sticky.of(("", "call"), now_s())
    assert warm is not None
    assert (warm.target, warm.second) == ("a/m", "b/m")
    assert warm.second_tokens > 0
    plan = world.scenario.plan(request(policy=Policy(session_id="call")))
    plan.withdrawn()
    assert [step.target.name for step in plan.attempts] == ["a/m", "b/m"], "it moves nobody"
    assert [plan.cached_tokens(step.target) > 0 for step in plan.attempts] == [True, True]
    await asyncio.sleep(EVERY_S)
    assert world.asked == ["a", "b", "b"]
    await world.over()
    assert world.asked == ["a", "b", "b"]


@on_virtual_time
async def test_a_session_that_is_over_is_asked_for_no_more() -> None:
    world = TwoPlaces()
    await asyncio.sleep(5.0)
    await world.over()
    await asyncio.sleep(2 * EVERY_S)
    assert world.asked == ["a", "b"]


@on_virtual_time
async def test_where_it_is_dearer_there_is_no_second_place() -> None:
    world = TwoPlaces(turns=1.0)
    assert world.prewarm.task is not None
    await world.prewarm.task
    assert world.asked == ["a"]


@on_virtual_time
async def test_a_second_place_that_fails_is_left() -> None:
    world = TwoPlaces(second=FakeEndpoint(status=500, chunks=[(0.0, b"{}")]))
    assert world.prewarm.task is not None
    await world.prewarm.task
    assert world.asked == ["a", "b"]
    warm = world.scenario.services.planner.sticky.of(("", "call"), now_s())
    assert warm is not None
    assert warm.second == ""
    await world.scenario.settled()
