"""From the relay's own log lines to a replay, against the relay doing what was replayed."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from structlog.testing import capture_logs

from relay.content import Budgets, HedgeWish, Policy, Sampling
from relay.whatif.draws import Draws
from relay.whatif.recorded import Kind, Log, Recorded, read_log
from relay.whatif.simulation import simulate
from tests.fakes.memory_transport import FakeEndpoint
from tests.fakes.scenario import Scenario, answer, request
from tests.fakes.virtual_time import now_s, run

PRICES = {"prices": {"m": {"input": 1.0, "output": 4.0}}}
REQUESTS = 60
HEAD_START = 100
"""Requests that the second answers by itself, so that the log knows it."""


def world(mode: str, billing: str, first_s: list[float]) -> Scenario:
    return Scenario(
        {
            "a": [
                FakeEndpoint(headers_s=time_s, chunks=answer("Hello", "you")) for time_s in first_s
            ],
            "b": FakeEndpoint(headers_s=0.25, chunks=answer("Hi", "there")),
        },
        rows_more={name: {**PRICES, "cancel_billing": billing} for name in "ab"},
        alias_more={"hedge": {"mode": mode, "delay": 500, "max_extra_requests": 0.2}},
    )


def log_of(scenario: Scenario, *wanted: Any) -> Log:
    """What the relay's log says of these requests, one after the other."""
    lines: list[bytes] = []

    async def play() -> None:
        for one in wanted:
            with capture_logs() as told:
                await scenario.generate(one)
            at = datetime.fromtimestamp(now_s(), tz=UTC).isoformat()
            lines.extend(orjson.dumps({**line, "timestamp": at}) for line in told)
            await asyncio.sleep(0.01)  # what one teaches is known when the next one comes
        await scenario.settled()

    run(play())
    return read_log(lines)


def turns(log: Log) -> list[Recorded]:
    return [one for one in log.requests if one.asked == "fast"]


@pytest.mark.parametrize("billing", ["stops", "unknown", "full"])
def test_a_replay_of_shadow_mode_is_what_active_mode_does(billing: str) -> None:
    draw = random.Random(3)
    first_s = [draw.choice((0.2, 0.3, 0.7, 1.0)) for _ in range(REQUESTS)]
    wanted = [request(model="b/m")] * HEAD_START + [request()] * REQUESTS
    shadow, active = world("shadow", billing, first_s), world("active", billing, first_s)
    recorded = log_of(shadow, *wanted)
    truth = turns(log_of(active, *wanted))
    replayed = [
        one
        for one in simulate(active.services.catalog, recorded.requests, Draws(recorded.requests))
        if one.recorded.asked == "fast"
    ]
    assert [one.ttft_s for one in replayed] == [one.ttft_s for one in truth]
    assert [one.winner for one in replayed] == [one.winner for one in truth]
    assert any(one.hedges for one in replayed)
    assert not all(one.hedges for one in replayed if one.ttft_s and one.ttft_s > 0.5)  # the budget
    assert [[(r.role.value, r.cost, r.cost_upper) for r in one.attempts] for one in replayed] == [
        [(t.role, t.cost, t.cost_upper) for t in one.tried] for one in truth
    ]
    # And what shadow mode noted by itself is the same.
    noted = [one.shadow.would_fire for one in turns(recorded)]
    assert noted == [bool(one.hedges) for one in replayed]
    added = sum(one.added_cost for one in truth)
    assert added > 0
    assert sum(one.shadow.would_cost for one in turns(recorded)) == pytest.approx(added, rel=0.02)
    assert sum(one.hedge.added_cost or 0.0 for one in replayed) == pytest.approx(added, rel=1e-6)


def test_a_line_of_the_log_has_all_that_a_request_asked() -> None:
    wanted = request(
        sampling=Sampling(max_output_tokens=77),
        policy=Policy(
            budgets=Budgets(first_token_s=9.0),
            hedge=HedgeWish("race", 0.125, 2),
            session_id="call-1",
            tenant="t",
        ),
    )
    scenario = world("active", "stops", [1.0])
    (one,) = log_of(scenario, wanted).requests
    assert (one.asked, one.max_output_tokens, one.first_token_s) == ("fast", 77, 9.0)
    assert (one.hedge, one.delay_s, one.max_attempts) == ("race", 0.125, 2)
    assert (one.session, one.tenant, one.prompt_estimate) == ("call-1", "t", 6)
    assert [(t.target, t.role, t.kind) for t in one.tried] == [
        ("a/m", "primary", Kind.LEFT),
        ("b/m", "hedge", Kind.READY),
    ]


def test_a_request_that_asked_for_nothing_says_little() -> None:
    (one,) = log_of(world("active", "stops", [0.2]), request()).requests
    assert (one.session, one.hedge, one.is_speculative, one.commit_on) == (
        "",
        "auto",
        False,
        "first_content",
    )


def test_a_speculation_is_hedged_from_its_commit_on_in_the_replay_too() -> None:
    scenario = world("active", "stops", [2.0])
    lines: list[bytes] = []

    async def play() -> None:
        for name in ["a/m"] * HEAD_START + ["b/m"] * HEAD_START + ["fast"]:
            policy = Policy(speculative=name == "fast")
            generation = scenario.generation(request(model=name, policy=policy))
            if policy.speculative:
                asyncio.get_running_loop().call_later(0.75, generation.wanted)
            with capture_logs() as told:
                async with generation:
                    if await generation.commit():
                        async for _ in generation:
                            generation.released()
            at = datetime.fromtimestamp(now_s(), tz=UTC).isoformat()
            lines.extend(orjson.dumps({**line, "timestamp": at}) for line in told)
            await asyncio.sleep(0.01)
        await scenario.settled()

    run(play())
    log = read_log(lines)
    (one,) = turns(log)
    assert (one.is_speculative, one.committed_s) == (True, 0.75)
    assert [tried.role for tried in one.tried] == ["primary", "hedge"]
    requests = log.requests
    replayed = simulate(scenario.services.catalog, requests, Draws(requests))[-1]
    roles = [(r.role.value, r.started_us) for r in replayed.attempts]
    assert roles[0] == ("primary", 0)
    assert roles[1][0] == "hedge"
    assert roles[1][1] == pytest.approx(750_000, abs=60_000)
