"""Rate limits steer: who said that it is full, or is held to its row's limit, is asked last."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from relay.config import parse
from relay.errors import ConnectError, InvalidRequest, Reason, UpstreamStatus
from relay.outcome import AttemptOutcome
from relay.race_plan import has_room
from relay.resilience.breaker import BreakerSettings, BreakerState
from relay.resilience.limiter import LimiterSettings
from relay.routing.catalog import Catalog
from relay.routing.target import Target
from relay.target_state import Kept, TargetState, TargetStates, Ticket
from tests.fakes.memory_transport import FakeEndpoint
from tests.fakes.scenario import Scenario, answer
from tests.fakes.virtual_time import now_s, on_virtual_time

HELLO = FakeEndpoint(chunks=answer("Hello"))
SSE = ("content-type", "text/event-stream")


def state() -> TargetState:
    return TargetState(breaker=BreakerSettings(), limiter=LimiterSettings(), draw=lambda: 0.5)


def refuse(
    one: TargetState,
    now_s: float,
    *,
    reason: Reason = Reason.UPSTREAM_RATE_LIMITED,
    http_status: int = 429,
    retry_after_s: float | None = None,
) -> None:
    """One attempt that the provider refuses at once."""
    error = UpstreamStatus(
        "no", reason=reason, http_status=http_status, retry_after_s=retry_after_s
    )
    ticket = one.admit(now_s, name="a/m", prompt_tokens=10, forced=True)
    ticket.end(AttemptOutcome.OVERLOAD, now_s, error=error)


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


# --- what a new one is taken for ----------------------------------------------------------------


def target(name: str) -> Target:
    provider = name.partition("/")[0]
    row = {"wire": "openai_chat", "base_url": "https://x.test", "auth": "none"}
    return Catalog(parse({"providers": {provider: row}})).resolve(name).candidates[0]


def learn(one: TargetState, ttft_s: float, samples: int = 600) -> None:
    for at in range(samples):
        one.latency.record(ttft_s, 0, 0, at * 0.1)
    one.refresh(samples * 0.1)


@pytest.mark.parametrize(
    ("known", "like_s"),
    [
        ({}, 0.6),
        ({"b/m": (0.2, 600)}, 0.2),
        ({"a/other": (0.3, 600)}, 0.3),
        ({"b/m": (0.2, 600), "a/other": (0.3, 600)}, 0.2),
        ({"b/m": (0.2, 600), "c/m": (0.4, 600)}, 0.4),
        ({"b/m": (0.2, 99), "a/other": (0.3, 600)}, 0.3),
        ({"b/other": (0.2, 600), "ab/x": (0.2, 600), "b/x/m": (0.2, 600)}, 0.6),
    ],
    ids=["nothing", "model", "provider", "model first", "used last", "few", "neither"],
)
def test_a_new_target_is_taken_for_the_nearest_known(
    known: dict[str, tuple[float, int]], like_s: float
) -> None:
    states = TargetStates()
    for name, (ttft_s, samples) in known.items():
        learn(states.of(target(name), 0.0), ttft_s, samples)
    new = states.of(target("a/m"), 60.0)
    assert new.p50_s == pytest.approx(like_s, rel=0.03)
    assert not new.is_learned
    assert new.survival is None
    assert new.usual_s is None, "lateness is measured by its own samples alone"


CLASSES: dict[str, Any] = {
    "providers": {
        name: {
            "wire": "openai_chat",
            "base_url": f"https://{name}.test",
            "auth": "none",
            "same_as": {model: "one-model"} if model != "m" else {},
        }
        for name, model in (("a", "deployment"), ("b", "m-2026"), ("c", "m"), ("d", "m"))
    }
}


@pytest.mark.parametrize(
    ("known", "like_s"),
    [
        (["b/m-2026", "a/other"], 0.1),
        (["b/m-2026", "c/deployment", "a/other"], 0.1),
        (["a/deployment", "b/m-2026"], 0.1),
        (["c/deployment", "a/other"], 0.1),
        (["a/other", "c/m"], 0.1),
        (["c/m", "d/other"], 0.6),
    ],
    ids=["class", "class before name", "place first", "name", "provider", "neither"],
)
@pytest.mark.parametrize("used_last", [True, False])
def test_the_same_class_elsewhere_is_nearer_than_the_same_name(
    known: list[str], like_s: float, used_last: bool
) -> None:
    """The first of these it is like, whichever was used last."""
    catalog, states = Catalog(parse(CLASSES)), TargetStates()
    for name in reversed(known) if used_last else known:
        (of,) = catalog.resolve(name).candidates
        learn(states.of(of, 0.0), 0.1 if name == known[0] and like_s == 0.1 else 0.9)
    (new,) = catalog.resolve("a/deployment").candidates
    tier = Target(new.endpoint, new.model, "priority")
    assert states.of(tier, 60.0).p50_s == pytest.approx(like_s, rel=0.03)


def test_a_tier_is_another_target_at_the_same_place() -> None:
    states = TargetStates()
    usual = target("a/m")
    tier = Target(usual.endpoint, usual.model, "priority")
    learn(states.of(usual, 0.0), 0.3)
    assert states.of(tier, 60.0).p50_s == pytest.approx(0.3, rel=0.03)
    learn(states.of(tier, 60.0), 0.1)
    assert states.of(usual, 60.0).p50_s == pytest.approx(0.3, rel=0.03)
    assert len(states) == 2


def test_what_was_kept_of_a_target_comes_before_what_it_is_like() -> None:
    before, states = TargetStates(), TargetStates()
    learn(before.of(target("a/m"), 0.0), 1.0)
    states.keep({"a/m": [Kept(before.to_dict(60.0)["a/m"], 10.0, is_own=True)]}, 0.0)
    learn(states.of(target("b/m"), 0.0), 0.2)
    again = states.of(target("a/m"), 60.0)
    assert again.is_learned
    assert again.p50_s == pytest.approx(1.0, rel=0.03)


# --- room for hedges ----------------------------------------------------------------------------


@on_virtual_time
@pytest.mark.parametrize(("left", "hedges"), [("19", "abaa"), ("20", "abab")])
async def test_a_nearly_empty_window_is_left_to_primaries(left: str, hedges: str) -> None:
    slow = FakeEndpoint(chunks=answer("Hello", first_s=3.0))
    said = [
        SSE,
        ("x-ratelimit-limit-tokens", "100"),
        ("x-ratelimit-remaining-tokens", left),
        ("x-ratelimit-reset-tokens", "30s"),
    ]
    full = FakeEndpoint(headers=said, chunks=answer("Hello"))
    more = {"hedge": {"mode": "active", "delay": 100, "max_extra_requests": 1.0}}
    scenario = Scenario({"a": slow, "b": full}, alias_more=more)
    await scenario.generate()
    await scenario.generate()
    assert asked(scenario) == hedges


# --- what people are shown --------------------------------------------------------------------


@on_virtual_time
async def test_a_target_is_described() -> None:
    scenario = Scenario({"a": HELLO}, rows_more={"a": {"rpm": 1}})
    state = scenario.services.planner.states.of(
        scenario.services.catalog.routes["fast"].candidates[0], now_s()
    )
    nothing_yet = {
        "breaker": {
            "state": "closed",
            "share": 1.0,
            "reason": None,
            "retry_in_s": 0,
            "trips": 0,
            "suspected": False,
        },
        "p50_ms": None,
        "p90_ms": None,
        "p95_ms": None,
        "p99_ms": None,
        "samples": 0,
        "learned": False,
        "limit": 100,
        "in_flight": 0,
        "asked": 0,
        "failed": 0,
        "overloaded": 0,
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
async def test_a_nearly_empty_window_keeps_no_primary_away() -> None:
    said = [SSE, ("x-ratelimit-limit-requests", "100"), ("x-ratelimit-remaining-requests", "1")]
    scenario = Scenario({"a": FakeEndpoint(headers=said, chunks=answer("Hello")), "b": HELLO})
    for _ in range(3):
        await scenario.generate()
    assert asked(scenario) == "aaa"
    await scenario.settled()


def test_what_was_asked_and_went_wrong_is_counted() -> None:
    one = state()

    def take() -> Ticket:
        return one.admit(0.0, name="a/m", prompt_tokens=1)

    take().end(AttemptOutcome.SUCCESS, 1.0)
    take().end(AttemptOutcome.IGNORED, 1.0)
    take().end(AttemptOutcome.FAILURE, 1.0, error=ConnectError("gone"))
    take().end(AttemptOutcome.FAILURE, 1.0, error=InvalidRequest("no"))
    take().end(AttemptOutcome.OVERLOAD, 1.0)
    take().withdraw(1.0)
    shown = one.describe(1.0)
    assert (shown["asked"], shown["failed"], shown["overloaded"]) == (5, 1, 1)


# --- what a refusal says ------------------------------------------------------------------------


def test_a_refusal_that_names_no_time_asks_for_nothing() -> None:
    """It is full for a second, as far as anybody knows, and not left alone for a minute."""
    one = state()
    refuse(one, 0.0)
    assert one.push_back.admits(0.0)
    assert one.headroom.upstream_wait_s(0.0) == 1.0
    assert not has_room(one, 0.9)
    assert has_room(one, 1.0)
    assert one.limiter.limit == 90, "too many at once, until it says otherwise"


def test_a_refusal_that_names_a_time_is_left_alone_until_then() -> None:
    one = state()
    refuse(one, 0.0, retry_after_s=20.0)
    refuse(one, 5.0)
    assert not one.push_back.admits(19.9)
    assert not has_room(one, 19.9)
    assert has_room(one, 20.0)


def test_a_refusal_of_now_is_no_hold() -> None:
    one = state()
    refuse(one, 0.0, retry_after_s=0.0)
    assert has_room(one, 0.0)


BARE_503: dict[str, Any] = {"reason": Reason.UPSTREAM_OVERLOADED, "http_status": 503}


@pytest.mark.parametrize(
    ("said", "is_failure"),
    [
        ({}, False),
        ({"retry_after_s": 1.0}, False),
        (BARE_503, True),
        ({**BARE_503, "retry_after_s": 1.0}, False),
        ({**BARE_503, "retry_after_s": 0.0}, False),
        ({**BARE_503, "http_status": 529}, False),
        ({**BARE_503, "http_status": 200}, False),
        ({**BARE_503, "reason": Reason.UPSTREAM_RATE_LIMITED}, False),
    ],
    ids=["429", "429 and when", "503", "503 and when", "and now", "529", "in a 200", "its words"],
)
def test_only_a_503_that_names_no_time_ejects(said: dict[str, Any], is_failure: bool) -> None:
    one = state()
    for at in range(5):
        assert one.breaker.state is BreakerState.CLOSED
        refuse(one, float(at), **said)
    assert (one.breaker.state is BreakerState.OPEN) == is_failure


def test_a_503_also_cuts_the_concurrency() -> None:
    one = state()
    refuse(one, 0.0, **BARE_503)
    assert one.limiter.limit == 90
    assert one.headroom.upstream_wait_s(0.0) == 1.0


@on_virtual_time
async def test_a_dead_host_behind_a_balancer_is_left_alone() -> None:
    gone = FakeEndpoint(status=503, chunks=[(0.0, b"no healthy upstream")])
    scenario = Scenario({"a": gone, "b": HELLO})
    for _ in range(8):
        await scenario.generate()
        await asyncio.sleep(1.0)
    assert asked(scenario) == "ab" * 5 + "b" * 3


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
        "suspected": False,
    }
    await scenario.settled()
