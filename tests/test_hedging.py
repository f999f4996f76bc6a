"""Hedged generations from plan to settlement, on the virtual clock over in-memory providers."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest

from relay.content import Budgets, HedgeWish, Policy
from relay.errors import BreakerOpen, ConnectError, DeadlineExceeded, Reason, StreamReset
from relay.outcome import AttemptOutcome, AttemptRole, GenerationEnd
from relay.resilience.breaker import BreakerState
from relay.target_state import TargetState
from relay.upkeep import PROBE_GRACE_S, Upkeep
from tests.fakes.memory_transport import FakeEndpoint
from tests.fakes.relay_under_test import chunk
from tests.fakes.scenario import Rows, Scenario, answer, request, text_of
from tests.fakes.virtual_time import now_s, on_virtual_time, since_start_s

ACTIVE: dict[str, Any] = {"hedge": {"mode": "active", "delay": 1000}}
LEARNING: dict[str, Any] = {"hedge": {"mode": "active"}}
SHADOW: dict[str, Any] = {"hedge": {"mode": "shadow", "delay": 1000}}
FAST = FakeEndpoint(headers_s=0.25, chunks=answer("Hi", first_s=0.25))
SLOW = FakeEndpoint(headers_s=0.25, chunks=answer("Hi", first_s=2.75))
BROKEN = FakeEndpoint(fault=ConnectError("refused"), fault_at="connect")
PRICES = {
    "prices": {"m": {"input": 1.0, "cached_input": 0.1, "output": 10.0}},
    "cancel_billing": "stops",
}


def hedged(rows: Rows, more: dict[str, Any] | None = None, **fields: Any) -> Scenario:
    return Scenario(
        rows, alias_more=more or ACTIVE, rows_more=dict.fromkeys(rows, PRICES), **fields
    )


def state_of(scenario: Scenario, name: str) -> TargetState:
    return scenario.services.planner.states.of(
        scenario.services.catalog.resolve(f"{name}/m").candidates[0], now_s()
    )


def asked(scenario: Scenario) -> str:
    return "".join(name for name, _ in scenario.started)


def roles(end: GenerationEnd) -> list[tuple[str, AttemptRole, bool, bool]]:
    return [(r.provider, r.role, r.is_winner, r.is_loser) for r in end.attempts]


# --- one generation -------------------------------------------------------------------------------


@on_virtual_time
async def test_a_slow_first_is_overtaken_and_booked_as_a_loser() -> None:
    scenario = hedged({"a": SLOW, "b": FAST})
    batches, end = await scenario.generate()
    assert "".join(map(text_of, batches)) == "Hi"
    assert end.error is None
    assert roles(end) == [
        ("a", AttemptRole.PRIMARY, False, True),
        ("b", AttemptRole.HEDGE, True, False),
    ]
    loser, winner = end.attempts
    assert loser.outcome is AttemptOutcome.IGNORED
    assert winner.outcome is AttemptOutcome.SUCCESS
    assert scenario.aborted == [("a", 1.5)]
    assert end.phases_us["race_wait"] == 1_000_000
    assert end.hedge is not None
    assert (end.hedge.reason, end.hedge.fired, end.hedge.won) == ("fixed", 1, True)
    assert state_of(scenario, "a").breaker.state is BreakerState.CLOSED
    assert state_of(scenario, "a").limiter.in_flight == 0
    await scenario.settled()
    scenario.check()


@on_virtual_time
async def test_money_of_a_race_is_told_attempt_by_attempt() -> None:
    scenario = hedged({"a": SLOW, "b": FAST})
    _, end = await scenario.generate()
    loser, winner = end.attempts
    assert end.usage is not None
    prompt = loser.cost
    assert prompt is not None
    assert loser.cost_upper is not None
    assert prompt == 6.0, "six prompt tokens of a dollar a million, and no word was written"
    assert loser.cost_upper == 6.0 + 300 * 10.0, "a whole answer, had it not stopped"
    assert winner.cost == end.usage.prompt_tokens + 10.0 * end.usage.completion_tokens
    await scenario.settled()


@on_virtual_time
async def test_a_client_may_do_without_or_ask_for_all_at_once() -> None:
    for wish, started in (
        (HedgeWish(mode="off"), [("a", 0.0)]),
        (HedgeWish(mode="race"), [("a", 0.0), ("b", 0.0)]),
        (HedgeWish(delay_s=0.5), [("a", 0.0), ("b", 0.5)]),
        (HedgeWish(max_attempts=1), [("a", 0.0)]),
        (HedgeWish(max_attempts=9), [("a", 0.0), ("b", 1.0)]),
    ):
        scenario = hedged({"a": SLOW, "b": FAST, "c": FAST})
        began_s = since_start_s()
        await scenario.generate(request(policy=Policy(hedge=wish)))
        assert [(name, at_s - began_s) for name, at_s in scenario.started] == started, wish
        await scenario.settled()


@on_virtual_time
async def test_speculation_is_not_hedged() -> None:
    scenario = hedged({"a": SLOW, "b": FAST})
    _, end = await scenario.generate(request(policy=Policy(speculative=True)))
    assert asked(scenario) == "a"
    assert end.hedge is not None
    assert (end.hedge.fired, end.hedge.refused) == (0, "speculative")
    await scenario.settled()


@on_virtual_time
async def test_shadow_sends_nothing_and_says_what_it_would_have() -> None:
    scenario = hedged({"a": SLOW, "b": FAST}, SHADOW)
    _, end = await scenario.generate()
    assert asked(scenario) == "a"
    assert end.hedge is not None
    assert end.hedge.is_shadow
    assert end.hedge.would_fire is True
    assert end.hedge.second == "b/m"
    assert end.hedge.cost is not None
    assert end.hedge.cost > 0
    await scenario.settled()
    quick = hedged({"a": FAST, "b": FAST}, SHADOW)
    _, end = await quick.generate()
    assert end.hedge is not None
    assert end.hedge.would_fire is False
    await quick.settled()


@on_virtual_time
async def test_cancelled_by_the_client_both_are_stopped_at_once() -> None:
    scenario = hedged({"a": SLOW, "b": SLOW})
    generation = scenario.generation()

    async def run() -> None:
        async with generation:
            await generation.commit()

    task = asyncio.ensure_future(run())
    await asyncio.sleep(1.5)
    task.cancel()
    await asyncio.wait([task])
    await scenario.settled()
    assert scenario.aborted == [("a", 1.5), ("b", 1.5)]
    assert generation.end is not None
    assert not any(record.is_loser for record in generation.end.attempts), "nobody won"
    assert state_of(scenario, "a").limiter.in_flight == 0
    scenario.check()


@on_virtual_time
async def test_with_one_candidate_it_is_asked_again_over_another_connection() -> None:
    scenario = hedged({"a": [SLOW, FAST], "x": FAST}, fallbacks=("x",))
    _, end = await scenario.generate()
    assert asked(scenario) == "aa"
    assert [attempt.connection for attempt in scenario.transport.attempts] == [0, 1]
    assert roles(end) == [
        ("a", AttemptRole.PRIMARY, False, True),
        ("a", AttemptRole.HEDGE, True, False),
    ]
    assert end.hedge is not None
    assert (end.hedge.second, end.hedge.fired, end.hedge.won) == ("a/m", 1, True)
    await scenario.settled()
    scenario.check()


@on_virtual_time
async def test_nobody_is_asked_again_who_may_not_be_asked_for_more() -> None:
    said = [("content-type", "text/event-stream"), ("retry-after", "60")]
    full = FakeEndpoint(status=429, headers=said, chunks=[(0.0, b"{}")])
    scenario = hedged({"a": [full, SLOW]})
    await scenario.generate()
    _, end = await scenario.generate()
    assert asked(scenario) == "aa", "one each"
    assert end.hedge is not None
    assert end.hedge.reason == "alone"
    await scenario.settled()


@pytest.mark.parametrize(
    ("runs", "second"),
    [
        pytest.param(1, "a", id="each by itself"),
        pytest.param(30, "b", id="in runs"),
    ],
)
def test_a_warm_session_is_hedged_where_its_cache_is_unless_slowness_comes_in_runs(
    runs: int, second: str
) -> None:
    @on_virtual_time
    async def play() -> None:
        scenario = hedged({"a": [FAST, SLOW, FAST], "b": FAST})
        for name in ("a", "b"):
            state = state_of(scenario, name)
            for _ in range(300):
                state.latency.record(0.5, 0, 0, now_s())
            state.refresh(now_s())
        clusters = state_of(scenario, "a").clusters
        for at in range(3000):
            clusters.observe(at // runs % 10 == 0)
        wanted = request(policy=Policy(session_id="call"))
        await scenario.generate(wanted)
        _, end = await scenario.generate(wanted)
        assert asked(scenario) == "aa" + second
        assert end.hedge is not None
        assert end.hedge.fired == 1
        await scenario.settled()

    play()


# --- many generations -----------------------------------------------------------------------------


async def many(scenario: Scenario, count: int, every_s: float = 0.0, **fields: Any) -> None:
    for _ in range(count):
        await scenario.generate(request(**fields))
        if every_s:
            await asyncio.sleep(every_s)


async def refreshed(scenario: Scenario) -> None:
    await Upkeep(scenario.services, None, 0).refresh()


@on_virtual_time
async def test_the_delay_is_learned() -> None:
    scenario = hedged({"a": FAST, "b": FAST}, LEARNING)
    _, end = await scenario.generate()
    assert end.hedge is not None
    assert (end.hedge.reason, end.hedge.delay_us) == ("default", 2_000_000)
    await many(scenario, 600)
    await refreshed(scenario)
    _, end = await scenario.generate()
    assert end.hedge is not None
    assert end.hedge.reason == "learned"
    assert end.hedge.delay_us == pytest.approx(600_000, rel=0.03), "1.2 medians of half a second"
    await scenario.settled()


@on_virtual_time
async def test_the_budget_bounds_the_extra_requests() -> None:
    scenario = hedged({"a": SLOW, "b": FAST})
    await many(scenario, 400)
    hedges = asked(scenario).count("b")
    assert hedges <= 20, "five in a hundred"
    assert hedges >= 18
    _, end = await scenario.generate()
    assert end.hedge is not None
    assert end.hedge.refused in ("budget_requests", "budget_share")
    await scenario.settled()


@on_virtual_time
async def test_a_tight_limit_moves_the_hedge_earlier() -> None:
    scenario = hedged({"a": FAST, "b": FAST}, LEARNING)
    await many(scenario, 300)
    await refreshed(scenario)
    _, end = await scenario.generate(request(budgets=Budgets(first_token_s=1.05)))
    assert end.hedge is not None
    assert end.hedge.reason == "deadline"
    assert end.hedge.delay_us is not None
    assert end.hedge.delay_us < 600_000
    await scenario.settled()


@on_virtual_time
async def test_what_nobody_can_meet_is_refused_at_once() -> None:
    scenario = hedged({"a": FAST, "b": FAST}, LEARNING)
    await many(scenario, 300)
    for name in ("a", "b"):
        state = state_of(scenario, name)
        for _ in range(200):
            state.latency.record(0.5, 5, 0, now_s())
        state.refresh(now_s())
    before, asked_before = since_start_s(), len(scenario.started)
    _, end = await scenario.generate(request(budgets=Budgets(first_token_s=0.2)))
    assert isinstance(end.error, DeadlineExceeded)
    assert end.error.reason is Reason.FIRST_TOKEN_TIMEOUT
    assert since_start_s() == before
    assert len(scenario.started) == asked_before
    await scenario.settled()


@on_virtual_time
async def test_five_failures_in_a_row_send_everybody_elsewhere() -> None:
    scenario = hedged({"a": [BROKEN] * 5 + [FAST], "b": FAST}, {"hedge": {"mode": "disabled"}})
    await many(scenario, 8)
    assert asked(scenario) == "ab" * 5 + "b" * 3
    assert state_of(scenario, "a").breaker.state is BreakerState.OPEN
    await scenario.settled()


@on_virtual_time
async def test_the_last_one_is_never_left_alone() -> None:
    scenario = hedged({"a": BROKEN}, {"hedge": {"mode": "disabled"}})
    await many(scenario, 7)
    assert asked(scenario) == "a" * 7
    await scenario.settled()


@on_virtual_time
async def test_a_fallback_spares_the_one_that_is_ejected() -> None:
    scenario = hedged({"a": BROKEN, "x": FAST}, {"hedge": {"mode": "disabled"}}, fallbacks=("x",))
    await many(scenario, 5)
    _, end = await scenario.generate()
    assert asked(scenario) == "ax" * 5 + "x"
    assert isinstance(end.attempts[0].error, BreakerOpen)
    await scenario.settled()


@on_virtual_time
@pytest.mark.parametrize("mode", ["disabled", "active"])
async def test_a_fallback_comes_before_who_said_not_to_be_asked_now(mode: str) -> None:
    busy = FakeEndpoint(status=429, headers=[("retry-after", "9")])
    rows = {"a": [busy, FAST], "x": [FAST, FAST, BROKEN, FAST]}
    scenario = hedged(rows, {"hedge": {"mode": mode}}, fallbacks=("x",))
    await many(scenario, 2)
    assert asked(scenario) == "ax" + "x"
    _, end = await scenario.generate()
    assert asked(scenario) == "axx" + "xa", "asked all the same before nobody is"
    assert end.error is None
    await asyncio.sleep(9)
    await many(scenario, 1)
    assert asked(scenario) == "axxxa" + "a"
    await scenario.settled()
    scenario.check()


@on_virtual_time
async def test_who_refuses_without_a_word_of_time_stays_before_fallbacks() -> None:
    busy = FakeEndpoint(status=429)
    scenario = hedged({"a": [busy, FAST], "x": FAST}, fallbacks=("x",))
    await many(scenario, 2)
    assert asked(scenario) == "ax" + "a"
    await scenario.settled()
    scenario.check()


@on_virtual_time
async def test_a_probe_is_a_real_request_with_the_other_standing_by() -> None:
    scenario = hedged({"a": [BROKEN] * 5 + [SLOW, FAST], "b": FAST})
    await many(scenario, 5)
    await asyncio.sleep(37)  # 30 s, and a fifth of jitter
    before = len(scenario.started)
    _, end = await scenario.generate()
    assert [name for name, _ in scenario.started[before:]] == ["a", "b"]
    assert end.hedge is not None
    assert (end.hedge.reason, end.hedge.delay_us) == ("probe", 0)
    assert end.provider == "b", "the slow probe cost nobody anything"
    await scenario.settled()


@on_virtual_time
async def test_who_was_ejected_comes_back_by_steps() -> None:
    scenario = hedged({"a": [BROKEN] * 5 + [FAST], "b": FAST})
    await many(scenario, 5)
    await asyncio.sleep(37)
    await scenario.generate()
    breaker = state_of(scenario, "a").breaker
    assert breaker.state is BreakerState.RAMP
    shares = []
    for _ in range(60):
        await many(scenario, 20, every_s=0.05)
        shares.append(breaker.share(now_s()))
        if shares[-1] == 1.0:
            break
    assert sorted(set(shares)) == [0.1, 0.25, 0.5, 1.0]
    await scenario.settled()


@on_virtual_time
async def test_without_hedges_one_token_is_asked_of_who_was_ejected() -> None:
    scenario = hedged({"a": [BROKEN] * 5 + [FAST], "b": FAST}, {"hedge": {"mode": "disabled"}})
    upkeep = Upkeep(scenario.services, None, 0)
    await many(scenario, 5)
    await asyncio.sleep(37 + PROBE_GRACE_S)
    before = len(scenario.started)
    upkeep.probe()
    await asyncio.sleep(2)
    assert [name for name, _ in scenario.started[before:]] == ["a"]
    body = scenario.transport.attempts[-1].request.body
    assert b'"max_tokens":1' in body
    assert b"Hello" not in body, "never a copy of somebody's prompt"
    assert state_of(scenario, "a").breaker.state is BreakerState.RAMP
    await scenario.settled()


@pytest.mark.parametrize("gaps_s", [(math.inf,), (5.0,) * 100], ids=["silent", "endless"])
def test_a_probe_whose_answer_does_not_end_is_given_up(gaps_s: tuple[float, ...]) -> None:
    @on_virtual_time
    async def play() -> None:
        words = [(0.25, chunk({"content": "Hi"}))]
        words += [(gap_s, chunk({"content": "Hi"})) for gap_s in gaps_s]
        endless = FakeEndpoint(headers_s=0.25, chunks=[*words, (math.inf, b"")])
        scenario = hedged(
            {"a": [BROKEN] * 5 + [endless], "b": FAST}, {"hedge": {"mode": "disabled"}}
        )
        upkeep = Upkeep(scenario.services, None, 0)
        await many(scenario, 5)
        await asyncio.sleep(37 + PROBE_GRACE_S)
        upkeep.probe()
        await asyncio.sleep(121)
        assert not len(scenario.services.reaper), "it runs on"
        assert scenario.transport.attempts[-1].aborted_s is not None
        await scenario.settled()

    play()


@pytest.mark.parametrize("extra", [0.0, 1.0], ids=["nothing left to pay with", "hedged"])
def test_who_is_late_is_left_before_any_of_it_has_come(extra: float) -> None:
    @on_virtual_time
    async def play() -> None:
        more = {"mode": "active", "delay": 1000, "max_extra_requests": extra}
        scenario = hedged({"a": SLOW, "b": FAST}, {"hedge": more})
        state = state_of(scenario, "a")
        seen = []
        for _ in range(150):
            state.latency.record(0.25, 0, 0, now_s())
        state.refresh(now_s())
        asked_at_once = [asyncio.create_task(scenario.generate()) for _ in range(10)]
        for wait_s in (0.99, 0.02):
            await asyncio.sleep(wait_s)
            seen.append(state.breaker.state)
        # None has come before 3.0 s.
        assert seen == [BreakerState.CLOSED, BreakerState.OPEN]
        await asyncio.gather(*asked_at_once)
        assert state.breaker.trips == 1, "and each counts once"
        await scenario.settled()

    play()


@on_virtual_time
async def test_a_loser_never_trips_a_breaker() -> None:
    scenario = hedged(
        {"a": FakeEndpoint(headers_s=math.inf), "b": FAST},
        {"hedge": {"mode": "active", "delay": 10, "max_extra_requests": 1.0, "max_extra_cost": 10}},
    )
    await many(scenario, 60)
    breaker = state_of(scenario, "a").breaker
    # It says nothing of failures; that it never answers is another matter, and latency's.
    assert breaker.trips == 0 or breaker.reason is not None
    assert breaker.state is BreakerState.CLOSED
    await scenario.settled()


@on_virtual_time
async def test_a_session_stays_where_its_cache_is() -> None:
    scenario = hedged({"a": [SLOW, FAST], "b": FAST})
    policy = Policy(session_id="s1")
    await scenario.generate(request(policy=policy))
    assert asked(scenario) == "ab"
    await scenario.generate(request(policy=policy))
    # One win of a hedge does not move it, and it had no other home.
    assert asked(scenario)[2:] == "b"
    await scenario.generate(request())
    assert asked(scenario)[3:] == "a"
    await scenario.settled()


@on_virtual_time
async def test_a_probe_that_loses_still_shows_that_its_target_is_well() -> None:
    scenario = hedged({"a": [BROKEN] * 5 + [SLOW, FAST], "b": FAST})
    await many(scenario, 5)
    await asyncio.sleep(37)
    _, end = await scenario.generate()
    assert end.provider == "b"
    assert scenario.aborted == []
    assert state_of(scenario, "a").breaker.state is BreakerState.HALF_OPEN
    await asyncio.sleep(4)
    assert state_of(scenario, "a").breaker.state is BreakerState.RAMP
    assert len(scenario.aborted) == 1, "stopped at its first word"
    await scenario.settled()
    scenario.check()


@on_virtual_time
async def test_a_loser_that_is_paid_in_full_runs_to_its_first_word() -> None:
    rows = {"a": SLOW, "b": FAST}
    paid = {**PRICES, "cancel_billing": "full"}
    scenario = Scenario(rows, alias_more=ACTIVE, rows_more={"a": paid, "b": PRICES})
    await scenario.generate()
    await scenario.settled()
    assert scenario.aborted == [("a", 3.0)]
    assert state_of(scenario, "a").latency.raw_quantile_s(0.5) == pytest.approx(3.0, rel=0.03)
    assert state_of(scenario, "a").breaker.state is BreakerState.CLOSED
    scenario.check()


def spoken(*pieces: str, gap_s: float, first_s: float = 0.25) -> FakeEndpoint:
    """An answer whose pieces come so far apart."""
    return FakeEndpoint(chunks=answer(*pieces, first_s=first_s, gap_s=gap_s))


SPEAK = Policy(commit_on="first_segment")


@on_virtual_time
async def test_in_segment_mode_the_race_is_for_the_first_sentence() -> None:
    rows = {
        "a": spoken("Well", ", let me see. ", "Yes.", gap_s=4.0),
        "b": spoken("Of course. ", "Yes.", gap_s=0.5),
    }
    scenario = hedged(rows)
    batches, end = await scenario.generate(request(policy=SPEAK))
    assert "".join(map(text_of, batches)) == "Of course. Yes."
    assert end.provider == "b"
    assert scenario.aborted == [("a", 1.25)], "its first word had come, and was not heard"
    await scenario.settled()
    plain = hedged(rows)
    _, end = await plain.generate(request())
    assert end.provider == "a", "by its first word it would have won"
    await plain.settled()


@on_virtual_time
async def test_a_break_inside_the_first_sentence_is_never_heard() -> None:
    cut = FakeEndpoint(chunks=answer("Let me", " see", gap_s=0.5)[:3])
    scenario = hedged({"a": cut, "b": spoken("Yes. ", "Here.", gap_s=0.1)})
    batches, end = await scenario.generate(request(policy=SPEAK))
    assert "".join(map(text_of, batches)) == "Yes. Here."
    assert end.error is None
    assert [record.outcome for record in end.attempts] == [
        AttemptOutcome.FAILURE,
        AttemptOutcome.SUCCESS,
    ]
    await scenario.settled()


@on_virtual_time
async def test_an_answer_shorter_than_a_sentence_is_one() -> None:
    scenario = hedged({"a": spoken("Yes", gap_s=0.0), "b": FAST})
    batches, end = await scenario.generate(request(policy=SPEAK))
    assert "".join(map(text_of, batches)) == "Yes"
    assert end.error is None
    await scenario.settled()


@on_virtual_time
async def test_when_a_provider_dies_everybody_in_flight_is_answered_by_the_other() -> None:
    dies = FakeEndpoint(fault=ConnectError("gone"), fault_at="headers", headers_s=0.5)
    scenario = hedged({"a": dies, "b": FAST}, {"hedge": {"mode": "disabled"}})
    ends = await asyncio.gather(*(scenario.generate() for _ in range(60)))
    assert all(end.error is None for _, end in ends)
    await scenario.settled()


@on_virtual_time
async def test_when_all_are_failing_not_everybody_asks_everybody() -> None:
    dies = FakeEndpoint(fault=ConnectError("gone"), fault_at="headers", headers_s=0.5)
    scenario = hedged(dict.fromkeys("abcd", dies), {"hedge": {"mode": "disabled"}})
    ends = await asyncio.gather(*(scenario.generate() for _ in range(60)))
    asked_of_each = [
        sum(r.provider == name for _, e in ends for r in e.attempts) for name in "abcd"
    ]
    assert asked_of_each[:2] == [60, 60]
    assert asked_of_each[2] <= 60 * 0.2 + 1
    await scenario.settled()


@pytest.mark.parametrize(
    "broken",
    [
        FakeEndpoint(headers_s=2.0, fault=StreamReset("broken")),
        FakeEndpoint(headers_s=2.0, status=503, chunks=[(0.0, b"no healthy upstream")]),
    ],
    ids=["reset", "503"],
)
def test_a_loser_that_runs_on_and_fails_is_still_a_loser(broken: FakeEndpoint) -> None:
    @on_virtual_time
    async def play() -> None:
        paid = {**PRICES, "cancel_billing": "full"}
        more = {"hedge": {"mode": "active", "delay": 10, "max_extra_cost": 10}}
        rows_more = {"a": paid, "b": PRICES}
        scenario = Scenario({"a": broken, "b": FAST}, alias_more=more, rows_more=rows_more)
        await many(scenario, 6)
        await scenario.settled()
        assert asked(scenario) == "ab" * 6
        assert scenario.aborted == []
        assert state_of(scenario, "a").breaker.state is BreakerState.CLOSED

    play()
