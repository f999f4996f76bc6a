"""Rate limits steer: who said that it is full, or is held to its row's limit, is asked last."""

from __future__ import annotations

import asyncio

import pytest

from relay.config import parse
from relay.errors import ConnectError, Reason
from relay.outcome import AttemptOutcome
from relay.routing.catalog import Catalog
from relay.target_state import TargetStates
from tests.fakes.memory_transport import FakeEndpoint
from tests.fakes.scenario import Scenario, answer
from tests.fakes.virtual_time import now_s, on_virtual_time

HELLO = FakeEndpoint(chunks=answer("Hello"))
SSE = ("content-type", "text/event-stream")


def asked(scenario: Scenario) -> str:
    """Who was asked, in order."""
    return "".join(name for name, _ in scenario.started)


@on_virtual_time
async def test_an_empty_window_sends_requests_elsewhere_until_its_reset() -> None:
    said = [SSE, ("x-ratelimit-remaining-requests", "0"), ("x-ratelimit-reset-requests", "20s")]
    scenario = Scenario({"a": FakeEndpoint(headers=said, chunks=answer("Hello")), "b": HELLO})
    await scenario.generate()
    await scenario.generate()
    await asyncio.sleep(19.5)
    await scenario.generate()
    await asyncio.sleep(0.5)
    await scenario.generate()
    assert asked(scenario) == "abba"
    await scenario.settled()


@on_virtual_time
async def test_a_429_is_remembered_for_as_long_as_it_says() -> None:
    full = FakeEndpoint(status=429, headers=[("retry-after", "5")], chunks=[(0.0, b"{}")])
    scenario = Scenario({"a": [full, HELLO], "b": HELLO})
    await scenario.generate()
    await scenario.generate()
    await asyncio.sleep(5.0)
    await scenario.generate()
    assert asked(scenario) == "abba"
    await scenario.settled()


@on_virtual_time
async def test_a_full_target_is_still_asked_when_there_is_no_other() -> None:
    said = [SSE, ("x-ratelimit-remaining-requests", "0"), ("x-ratelimit-reset-requests", "20s")]
    scenario = Scenario({"a": FakeEndpoint(headers=said, chunks=answer("Hello"))})
    for _ in range(2):
        _, end = await scenario.generate()
        assert end.error is None
    await scenario.settled()


@on_virtual_time
async def test_rpm_moves_traffic_on_and_then_refuses() -> None:
    scenario = Scenario({"a": HELLO, "b": HELLO}, rows_more={"a": {"rpm": 2}, "b": {"rpm": 1}})
    ends = [(await scenario.generate())[1] for _ in range(4)]
    assert asked(scenario) == "aab"
    refused = ends[3].error
    assert refused is not None
    assert refused.reason is Reason.LIMIT_EXCEEDED
    assert refused.retry_after_s == 30.0  # `a`, which opens first and so leads
    await asyncio.sleep(30.0)
    _, end = await scenario.generate()
    assert end.error is None
    assert asked(scenario) == "aaba"
    await scenario.settled()


@on_virtual_time
async def test_tpm_counts_what_answers_cost() -> None:
    scenario = Scenario({"a": HELLO, "b": HELLO}, rows_more={"a": {"tpm": 1}})
    _, end = await scenario.generate()
    assert end.usage is not None
    assert end.usage.total_tokens > 1
    await scenario.generate()
    await asyncio.sleep(60.0 * (end.usage.total_tokens - 1))
    await scenario.generate()
    assert asked(scenario) == "aba"
    await scenario.settled()


def test_states_are_bounded_and_outlive_a_reload() -> None:
    row = {"wire": "openai_chat", "base_url": "https://x.test", "auth": "none"}
    states = TargetStates(max_targets=2)

    def target(model: str, **limits: int) -> object:
        catalog = Catalog(parse({"providers": {"a": {**row, **limits}}}))
        return states.of(catalog.resolve(f"a/{model}").candidates[0], 0.0)

    first = target("x")
    assert target("x", rpm=7) is first
    target("y")
    target("x")
    target("z")
    assert len(states) == 2
    assert target("x") is first


# --- what people are shown --------------------------------------------------------------------


@on_virtual_time
async def test_a_target_is_described() -> None:
    scenario = Scenario({"a": HELLO}, rows_more={"a": {"rpm": 1}})
    state = scenario.services.planner.states.of(
        scenario.services.catalog.routes["fast"].candidates[0], now_s()
    )
    nothing_yet = {
        "breaker": {"state": "closed", "share": 1.0, "reason": None, "retry_in_s": 0, "trips": 0},
        "p50_ms": None,
        "p95_ms": None,
        "samples": 0,
        "learned": False,
        "limit": 100,
        "in_flight": 0,
        "wait_s": 0.0,
    }
    assert state.describe(now_s()) == nothing_yet
    await scenario.generate()
    assert state.describe(now_s())["wait_s"] == 60.0
    for time_s in (0.2,) * 300 + (1.0,) * 30:
        state.latency.record(time_s, 0, 0, now_s())
    state.refresh(now_s())
    ticket = state.admit(now_s() + 60.0, name="a/m", prompt_tokens=1)
    shown = state.describe(now_s() + 60.0)
    assert (shown["samples"], shown["learned"], shown["in_flight"]) == (331, True, 1)
    assert (shown["p50_ms"], shown["p95_ms"]) == pytest.approx((200, 1000), rel=0.03)
    ticket.end(AttemptOutcome.IGNORED, now_s() + 60.0)
    await scenario.settled()


@on_virtual_time
async def test_an_ejected_target_is_described() -> None:
    broken = FakeEndpoint(fault=ConnectError("refused"), fault_at="connect")
    scenario = Scenario({"a": broken, "b": HELLO})
    for _ in range(5):
        await scenario.generate()
    state = dict(scenario.services.planner.states.items())["a/m"]
    shown = state.describe(now_s())
    breaker = shown["breaker"]
    assert 24.0 <= breaker["retry_in_s"] <= 36.0
    assert shown["wait_s"] == breaker["retry_in_s"]
    assert {**breaker, "retry_in_s": 0} == {
        "state": "open",
        "share": 0.0,
        "reason": "consecutive",
        "retry_in_s": 0,
        "trips": 1,
    }
    await scenario.settled()
