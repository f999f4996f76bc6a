"""What a plan asks when a hedge would start, and what it learns at the end: edge by edge."""

from __future__ import annotations

from dataclasses import replace

import pytest

from relay.content import Policy, Sampling, Usage
from relay.errors import (
    ConnectError,
    PoolExhausted,
    Reason,
    RelayError,
    StreamReset,
    UpstreamStatus,
)
from relay.outcome import AttemptOutcome, AttemptRecord, AttemptRole, GenerationEnd, refused
from relay.prices import UNSET_OUTPUT_TOKENS
from relay.race_plan import MIN_FAILOVERS, AliasState, RacePlan, has_room
from relay.resilience.common_mode import CommonMode
from relay.resilience.hedge_budget import HedgeBudget
from relay.resilience.hedge_policy import HedgeReason
from relay.routing.choose import Survival
from tests.fakes.memory_transport import FakeEndpoint
from tests.fakes.scenario import Scenario, answer, request
from tests.fakes.virtual_time import now_s, on_virtual_time

PRICES = {"prices": {"m": {"input": 1.0, "output": 5.0}}}


def scenario(mode: str = "active", delay: int | str = 500) -> Scenario:
    row = FakeEndpoint(chunks=answer("Hello"))
    hedge = {"mode": mode, "delay": delay, "max_extra_requests": 1.0, "max_extra_cost": 1.0}
    return Scenario(
        {"a": row, "b": row, "c": row},
        rows_more=dict.fromkeys("abc", PRICES),
        alias_more={"hedge": hedge},
    )


def alias_of(one: Scenario) -> AliasState:
    return one.services.planner.alias("fast")


def common_of(one: Scenario) -> CommonMode:
    return one.services.planner._shared.common_mode


def tried(name: str, outcome: str, role: str = "primary", **more: object) -> AttemptRecord:
    """One attempt; `outcome` may be `won`."""
    has_won = outcome == "won"
    given: dict[str, object] = {
        "provider": name,
        "model": "m",
        "started_us": 0,
        "outcome": AttemptOutcome.SUCCESS if has_won else AttemptOutcome(outcome),
        "is_winner": has_won,
        "is_loser": outcome == "ignored",
        "role": AttemptRole(role),
        **more,
    }
    return AttemptRecord(**given)  # type: ignore[arg-type]


def end_of(*records: AttemptRecord, usage: Usage | None = None) -> GenerationEnd:
    is_answered = any(record.is_winner for record in records)
    return replace(
        refused(RelayError("none")),
        error=None if is_answered else StreamReset("it broke"),
        usage=usage,
        attempts=records,
    )


def judged(common: CommonMode, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bool]]:
    """What common mode is told, as it is told."""
    told: list[tuple[str, bool]] = []

    def note(group: str, now_s: float, *, is_beyond: bool) -> None:
        told.append((group, is_beyond))

    monkeypatch.setattr(CommonMode, "judged", lambda _, *args, **more: note(*args, **more))
    return told


# --- the end ----------------------------------------------------------------------------------


@on_virtual_time
async def test_withdrawn_ends_the_request_once_and_teaches_nothing() -> None:
    one = scenario()
    other, plan = one.plan(), one.plan()
    retries = alias_of(one).retries
    assert retries.active == 2
    plan.withdrawn()
    plan.withdrawn()
    plan.ended(end_of(tried("a", "won")))
    assert retries.active == 1
    assert alias_of(one).counters.requests == 0
    other.ended(end_of(tried("a", "won")))
    other.ended(end_of(tried("a", "won")))
    other.withdrawn()
    assert (retries.active, alias_of(one).counters.requests) == (0, 1)


@on_virtual_time
async def test_only_whole_answers_with_a_count_teach_their_length() -> None:
    one = scenario()
    before = alias_of(one).output_tokens
    one.plan().ended(end_of(tried("a", "failure"), usage=Usage(10, 9000, 9010)))
    one.plan().ended(end_of(tried("a", "won"), usage=None))
    assert alias_of(one).output_tokens == before
    one.plan().ended(end_of(tried("a", "won"), usage=Usage(10, 0, 10)))
    assert alias_of(one).output_tokens == pytest.approx(before * 0.98)


def test_expected_lengths_move_by_a_fiftieth_and_a_miscount_by_little() -> None:
    alias = AliasState()
    alias.output_tokens = 100.0
    alias.answered(200)
    assert alias.output_tokens == pytest.approx(102.0)
    alias.answered(10**9)
    most = 10 * 102.0 + UNSET_OUTPUT_TOKENS
    assert alias.output_tokens == pytest.approx(102.0 + 0.02 * (most - 102.0))


def test_what_an_answer_may_become() -> None:
    alias = AliasState()
    alias.output_tokens = 49.6
    assert alias.output(request()) == (50, UNSET_OUTPUT_TOKENS)
    assert alias.output(request(sampling=Sampling(max_output_tokens=20))) == (20, 20)
    assert alias.output(request(sampling=Sampling(max_output_tokens=80))) == (50, 80)
    alias.output_tokens = 10_000.0
    assert alias.output(request()) == (10_000, 10_000)


@on_virtual_time
async def test_retries_in_flight_end_with_the_commit_and_never_twice() -> None:
    one = scenario()
    retries = alias_of(one).retries
    plan, ends_without = one.plan(), one.plan()
    for each in (plan, ends_without):
        assert each.may_fail_over(each.attempts[1])
        assert retries.retries == 0, "the first replacement is always made, and free"
        assert each.may_fail_over(each.attempts[2])
        assert retries.retries == 1
        if each is plan:
            plan.committed()
            assert retries.retries == 0
    ends_without.ended(end_of(tried("a", "failure")))
    plan.ended(end_of(tried("c", "won")))
    assert (retries.retries, retries.active) == (0, 0)


@on_virtual_time
async def test_a_second_failover_needs_room_in_the_retry_budget() -> None:
    one = scenario()
    held = [alias_of(one).retries.take() for _ in range(MIN_FAILOVERS)]
    assert None not in held
    plan = one.plan()
    assert plan.may_fail_over(plan.attempts[1])
    assert not plan.may_fail_over(plan.attempts[2])
    assert held[0] is not None
    held[0].end()
    assert plan.may_fail_over(plan.attempts[2])
    plan.withdrawn()


@pytest.mark.parametrize(
    ("error", "counts"),
    [
        (ConnectError("no route"), True),
        (None, True),
        (UpstreamStatus("no", reason=Reason.UPSTREAM_OVERLOADED, http_status=503), True),
        (UpstreamStatus("no", reason=Reason.UPSTREAM_REJECTED, http_status=400), False),
        (UpstreamStatus("no", reason=Reason.UPSTREAM_CONTENT_BLOCKED, http_status=400), False),
        (PoolExhausted("full"), False),
    ],
)
def test_which_failures_count_against_hedging(error: RelayError | None, counts: bool) -> None:
    @on_virtual_time
    async def play() -> None:
        one = scenario()
        one.plan().ended(end_of(tried("a", "failure", error=error)))
        assert alias_of(one).throttle.tokens == (9.0 if counts else 10.0)
        one.plan().ended(end_of(tried("a", "ignored"), tried("b", "won", "hedge")))
        assert alias_of(one).throttle.tokens == (9.1 if counts else 10.0)

    play()


# --- sessions ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("is_tentative", "winner", "moves"),
    [(False, "first", True), (True, "first", False), (True, "second", True)],
)
def test_a_session_moves_to_the_winner_but_to_no_first_that_was_only_tried(
    is_tentative: bool, winner: str, moves: bool
) -> None:
    @on_virtual_time
    async def play() -> None:
        one = scenario()
        plan = one.plan(request(policy=Policy(session_id="s")))
        plan.is_tentative = is_tentative
        names = [step.target.endpoint.provider for step in plan.attempts]
        records = (
            (tried(names[0], "won"),)
            if winner == "first"
            else (tried(names[0], "ignored"), tried(names[1], "won", "hedge"))
        )
        plan.ended(end_of(*records, usage=Usage(70, 20, 90)))
        warm = one.services.planner.sticky.of(("", "s"), now_s())
        if moves:
            assert warm is not None
            assert warm.target == f"{names[0 if winner == 'first' else 1]}/m"
            assert warm.tokens == 70
        else:
            assert warm is None

    play()


@on_virtual_time
async def test_a_hedge_that_won_once_moves_no_session() -> None:
    one = scenario()
    wanted = request(policy=Policy(session_id="s"))
    plan = one.plan(wanted)
    first, second = (step.target.endpoint.provider for step in plan.attempts[:2])
    plan.ended(end_of(tried(first, "won")))
    plan = one.plan(wanted)
    assert plan.attempts[0].target.endpoint.provider == first
    plan.ended(end_of(tried(first, "ignored"), tried(second, "won", "hedge")))
    warm = one.services.planner.sticky.of(("", "s"), now_s())
    assert warm is not None
    assert warm.target == f"{first}/m"


@on_virtual_time
async def test_without_a_count_of_the_prompt_its_estimate_is_what_is_warm() -> None:
    one = scenario()
    plan = one.plan(request(policy=Policy(session_id="s")))
    plan.ended(end_of(tried(plan.attempts[0].target.endpoint.provider, "won")))
    warm = one.services.planner.sticky.of(("", "s"), now_s())
    assert warm is not None
    assert warm.tokens == plan.prompt_tokens == 10


@pytest.mark.parametrize(
    ("first", "second", "fired", "won"),
    [
        ("ignored", "won", 1, True),
        ("failure", "won", 1, False),
        ("won", "ignored", 1, False),
        ("ignored", "won", 0, False),
    ],
)
def test_whether_a_hedge_has_won(first: str, second: str, fired: int, won: bool) -> None:
    @on_virtual_time
    async def play() -> None:
        plan = scenario().plan()
        plan.hedge.fired = fired
        plan.ended(end_of(tried("a", first), tried("b", second, "hedge")))
        assert plan.hedge.won is won

    play()


# --- common mode ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("late_s", "first", "told"),
    [
        (2.0, {"outcome": "won", "phases_us": {"first_content": 1_900_000}}, [False]),
        (2.0, {"outcome": "won", "phases_us": {"first_content": 2_000_000}}, [True]),
        (2.0, {"outcome": "won", "phases_us": {"pool_wait": 1_500_000, "x": 500_000}}, [True]),
        (2.0, {"outcome": "won", "started_us": 1_600_000, "phases_us": {"x": 300_000}}, [False]),
        (2.0, {"outcome": "ignored", "ended_us": 2_000_000}, [True]),
        (2.0, {"outcome": "ignored", "ended_us": 1_999_999}, []),
        (2.0, {"outcome": "ignored", "started_us": 500_000, "ended_us": 2_400_000}, []),
        (2.0, {"outcome": "failure", "ended_us": 9_000_000}, []),
        (None, {"outcome": "won", "phases_us": {"first_content": 9_000_000}}, []),
    ],
)
def test_a_first_is_judged_by_what_it_took_or_how_old_it_was_when_it_lost(
    late_s: float | None,
    first: dict[str, object],
    told: list[bool],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    @on_virtual_time
    async def play() -> None:
        one = scenario()
        seen = judged(common_of(one), monkeypatch)
        plan = one.plan()
        plan.late_after_s = late_s
        second = [] if first["outcome"] == "won" else [tried("b", "won", "hedge")]
        plan.ended(end_of(tried("a", **first), *second))  # type: ignore[arg-type]
        provider = plan.attempts[0].target.endpoint.provider
        assert seen == [(provider, beyond) for beyond in told]

    play()


@on_virtual_time
async def test_what_was_judged_when_the_hedge_started_is_not_judged_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one = scenario()
    seen = judged(common_of(one), monkeypatch)
    plan = one.plan()
    plan.late_after_s = 0.0  # its time has come already
    assert plan.may_hedge(plan.attempts[1])
    assert [beyond for _, beyond in seen] == [True]
    plan.ended(end_of(tried("a", "won", phases_us={"first_content": 5})))
    assert len(seen) == 1


@on_virtual_time
async def test_a_hedge_before_the_first_is_late_judges_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one = scenario()
    seen = judged(common_of(one), monkeypatch)
    plan = one.plan()
    plan.late_after_s = 0.001
    assert plan.may_hedge(plan.attempts[1])
    assert seen == []
    plan.withdrawn()


# --- what a hedge is refused for --------------------------------------------------------------


def suspend(one: Scenario) -> None:
    for group in ("x", "y"):
        common_of(one).connected(group, 5.0, now_s())
    assert common_of(one).is_suspended(now_s())


@on_virtual_time
async def test_common_mode_refuses_all_but_the_company_of_a_probe() -> None:
    one = scenario()
    suspend(one)
    plan, probe = one.plan(), one.plan()
    assert not plan.may_hedge(plan.attempts[1])
    assert plan.hedge.refused == HedgeReason.COMMON_MODE.value
    probe.hedge.reason = HedgeReason.PROBE.value
    assert probe.may_hedge(probe.attempts[1])
    assert (probe.hedge.refused, probe.hedge.fired) == ("", 1)
    for each in (plan, probe):
        each.withdrawn()


@on_virtual_time
async def test_a_probe_is_no_hedge_where_nothing_is_suspended() -> None:
    plan = scenario().plan()
    plan.hedge.reason = HedgeReason.PROBE.value
    assert plan.may_hedge(plan.attempts[1])
    plan.withdrawn()


@on_virtual_time
async def test_many_failures_refuse_it() -> None:
    one = scenario()
    for _ in range(5):
        alias_of(one).throttle.failure()
    plan = one.plan()
    assert not plan.may_hedge(plan.attempts[1])
    assert plan.hedge.refused == HedgeReason.THROTTLED.value
    plan.withdrawn()


@on_virtual_time
async def test_speculation_refuses_it_until_the_answer_is_wanted() -> None:
    one = scenario()
    plan = one.plan(request(policy=Policy(speculative=True)))
    before = budget(one).credit
    assert not plan.may_hedge(plan.attempts[1])
    assert plan.hedge.refused == HedgeReason.SPECULATIVE.value
    assert (plan.hedge.fired, budget(one).credit) == (0, before)
    plan.wanted()
    plan.wanted()
    assert plan.may_hedge(plan.attempts[1])
    assert (plan.hedge.refused, plan.hedge.fired) == ("", 1)
    plan.withdrawn()


@on_virtual_time
async def test_a_target_without_room_refuses_it_and_nothing_is_paid() -> None:
    one = scenario()
    plan = one.plan()
    step = plan.attempts[1]
    state = one.services.planner.states.of(step.target, now_s())
    assert has_room(state, now_s())
    state.push_back.said(5.0, now_s())
    assert not has_room(state, now_s())
    before = budget(one).credit
    assert not plan.may_hedge(step)
    assert (plan.hedge.refused, budget(one).credit) == ("no_headroom", before)
    plan.withdrawn()


@on_virtual_time
async def test_a_target_that_is_ejected_has_no_room() -> None:
    one = scenario()
    plan = one.plan()
    state = one.services.planner.states.of(plan.attempts[1].target, now_s())
    for _ in range(5):
        permit = state.breaker.permit(now_s())
        assert permit is not None
        permit.failure(now_s())
    assert not has_room(state, now_s())
    plan.withdrawn()


def budget(one: Scenario) -> HedgeBudget:
    return alias_of(one).budgets.operator


@pytest.mark.parametrize(("reason", "refused_for"), [("deadline", "deadline_share"), ("fixed", "")])
def test_deadlines_are_held_by_their_own_share(reason: str, refused_for: str) -> None:
    @on_virtual_time
    async def play() -> None:
        one = scenario()
        plan = one.plan()  # which has earned a request already
        while budget(one).take(0.0, by_deadline=True) is not None:
            pass
        plan.hedge.reason = reason
        assert plan.may_hedge(plan.attempts[1]) is (refused_for == "")
        assert plan.hedge.refused == (refused_for and f"budget_{refused_for}")
        plan.withdrawn()

    play()


# --- shadow mode ------------------------------------------------------------------------------


def shadowed(one: Scenario, *, after_s: float, survival: Survival | None, scale: float) -> RacePlan:
    """A plan whose hedge would have started so long after it, at a target like this."""
    plan = one.plan()
    assert plan.hedge.is_shadow
    assert not plan.may_hedge(plan.attempts[1])
    assert plan.hedge.would_fire
    assert plan._shadow is not None
    plan._shadow = plan._shadow._replace(after_s=after_s, survival=survival, scale=scale)
    return plan


HALF_BY_A_SECOND = Survival((1.0, 3.0), (0.5, 0.25))


@pytest.mark.parametrize(
    ("ready_us", "after_s", "scale", "would_win"),
    [
        (2_500_000, 0.5, 1.0, 0.5),  # 2 s are left for it: half of them make that
        (1_499_999, 0.5, 1.0, 0.0),
        (1_500_000, 0.5, 1.0, 0.5),
        (3_500_000, 0.5, 1.0, 0.75),
        (2_500_000, 0.5, 4.0, 0.0),  # the prompt stretches it
        (100_000, 0.5, 1.0, 0.0),  # it would have started after the answer
    ],
)
def test_in_shadow_mode_it_would_have_won_by_the_time_that_was_left(
    ready_us: int, after_s: float, scale: float, would_win: float
) -> None:
    @on_virtual_time
    async def play() -> None:
        plan = shadowed(scenario("shadow"), after_s=after_s, survival=HALF_BY_A_SECOND, scale=scale)
        first = tried("a", "won", started_us=1000, phases_us={"first_content": ready_us})
        plan.ended(end_of(first, usage=Usage(10, 20, 30)))
        assert plan.hedge.would_win == would_win
        assert plan.hedge.would_cost is not None
        assert plan.hedge.would_cost_upper is not None
        assert plan.hedge.would_cost <= plan.hedge.would_cost_upper

    play()


@on_virtual_time
async def test_in_shadow_mode_a_first_that_failed_would_have_been_replaced_for_nothing() -> None:
    plan = shadowed(scenario("shadow"), after_s=0.5, survival=HALF_BY_A_SECOND, scale=1.0)
    plan.ended(end_of(tried("a", "failure", error=ConnectError("reset")), tried("b", "won")))
    assert plan.hedge.would_win == 1.0
    assert (plan.hedge.would_cost, plan.hedge.would_cost_upper) == (0.0, 0.0)


@on_virtual_time
async def test_in_shadow_mode_a_first_that_broke_after_its_first_content_was_no_failure_yet() -> (
    None
):
    plan = shadowed(scenario("shadow"), after_s=0.5, survival=HALF_BY_A_SECOND, scale=1.0)
    broke = tried(
        "a", "failure", error=StreamReset("it broke"), phases_us={"first_content": 100_000}
    )
    plan.ended(end_of(broke))
    assert plan.hedge.would_win == 0.0


@on_virtual_time
async def test_in_shadow_mode_without_its_moment_nothing_would_have_fired() -> None:
    plan = scenario("shadow").plan()
    plan.ended(end_of(tried("a", "won")))
    assert plan.hedge.would_fire is False
    assert (plan.hedge.would_win, plan.hedge.would_cost) == (None, None)
