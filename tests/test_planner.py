"""The planner's own memory: aliases, sessions, and who is tried to learn of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest

from relay.config import ConfigError, parse
from relay.content import Policy
from relay.planner import MAX_ALIAS_PAIRS, MAX_DIRECT
from relay.resilience.headroom import Headroom
from relay.routing.route import Route
from tests.fakes.memory_transport import FakeEndpoint
from tests.fakes.scenario import Scenario, answer, request
from tests.fakes.virtual_time import now_s, on_virtual_time

FAST = FakeEndpoint(headers_s=0.25, chunks=answer("Hi"))
SLOW = FakeEndpoint(headers_s=0.75, chunks=answer("Hi"))


@on_virtual_time
async def test_names_that_callers_make_up_do_not_push_out_what_is_known_of_an_alias() -> None:
    scenario = Scenario({"a": FAST})
    planner, catalog = scenario.services.planner, scenario.services.catalog

    def plan(route: Route) -> None:
        planner.plan(route, request(), prompt_tokens=1, elapsed_s=0.0).withdrawn()

    plan(catalog.resolve("fast"))
    known = planner.alias("fast")
    for number in range(MAX_DIRECT + 10):
        plan(catalog.resolve(f"a/model-{number}"))
    assert planner.alias("fast") is known
    assert len(planner._direct) == MAX_DIRECT


def test_a_price_without_end_is_refused() -> None:
    row = {"wire": "openai_chat", "base_url": "https://a.test/v1", "auth": "none"}
    with pytest.raises(ConfigError, match=r"providers\.a\.prices\.m\.input"):
        parse({"providers": {"a": {**row, "prices": {"m": {"input": float("inf"), "output": 1}}}}})


@on_virtual_time
async def test_a_session_does_not_move_to_who_was_tried_to_learn_of_it() -> None:
    scenario = Scenario({"a": FAST, "b": SLOW}, alias_more={"choose": {"mode": "tail"}})
    planner = scenario.services.planner
    state = planner.states.of(scenario.services.catalog.resolve("a/m").candidates[0], now_s())
    for _ in range(150):
        state.latency.record(0.25, 0, 0, now_s())
    state.refresh(now_s())
    planner.refresh_pair(scenario.services.catalog.routes["fast"], now_s())
    tried = set()
    for number in range(60):  # one in five begins at `b`
        policy = Policy(session_id=f"call-{number}")
        _, end = await scenario.generate(request(policy=policy))
        tried.add(end.provider)
        stay = planner.sticky.of(("", f"call-{number}"), now_s())
        assert (stay is None) == (end.provider == "b")
    assert tried == {"a", "b"}
    await scenario.settled()


@on_virtual_time
async def test_who_stands_by_is_nobody_that_others_speak_ill_of() -> None:
    hedged = {"hedge": {"mode": "active"}, "choose": {"mode": "ordered"}}
    scenario = Scenario({"a": FAST, "b": FAST, "c": FAST}, alias_more=hedged)
    candidates = scenario.services.catalog.routes["fast"].candidates
    a, b, c = (scenario.services.planner.states.of(each, now_s()).breaker for each in candidates)

    def planned() -> tuple[str, str | None]:
        plan = scenario.plan()
        plan.withdrawn()
        return plan.attempts[0].target.name, plan.hedge.second

    assert planned() == ("a/m", "b/m")
    b.suspect("i_1", 1, now_s(), 6.0)
    assert planned() == ("a/m", "c/m")
    a.suspect("i_1", 1, now_s(), 6.0)
    plan = scenario.plan()
    plan.withdrawn()
    assert (plan.hedge.reason, plan.hedge.second, plan.hedge.delay_us) == ("suspect", "c/m", 0)
    c.suspect("i_1", 1, now_s(), 6.0)
    assert planned() == ("a/m", "b/m")  # better one of them than none
    assert a.permit(now_s()) is not None  # it is being looked at: the others go elsewhere
    assert planned()[0] == "b/m"


@on_virtual_time
async def test_an_only_target_is_asked_whatever_others_say() -> None:
    scenario = Scenario({"a": FAST}, alias_more={"hedge": {"mode": "active"}})
    [only] = scenario.services.catalog.routes["fast"].candidates
    breaker = scenario.services.planner.states.of(only, now_s()).breaker
    breaker.suspect("i_1", 1, now_s(), 6.0)
    plan = scenario.plan()
    plan.withdrawn()
    assert plan.attempts[0].target is only
    assert plan.hedge.reason != "suspect"  # nobody else could stand by
    assert plan.hedge.delay_us != 0


# --- the same model, and the dearer tier ------------------------------------------------------

PRICED = {
    "m": {
        "input": 1.0,
        "cached_input": 0.1,
        "output": 5.0,
        "tiers": {"priority": {"input": 1.5, "cached_input": 0.15, "output": 8.0}},
    }
}
TIERED = {"service_tiers": ["priority"], "prices": PRICED, "caches_prompts": True}
ESCALATES = {"mode": "active", "escalate": {"tier": "priority"}}


def learn(scenario: Scenario, name: str, median_s: float, tier: str = "") -> None:
    """A target becomes known: it answers at the median, one time in forty at tenfold."""
    target = scenario.services.catalog.resolve(name).candidates[0]
    state = scenario.services.planner.states.of(replace(target, service_tier=tier), now_s())
    for number in range(200):
        state.latency.record(median_s * (10.0 if number % 40 == 0 else 1.0), 0, 0, now_s())
    state.refresh(now_s())


def second_of(scenario: Scenario, **fields: Any) -> tuple[str, str | None]:
    plan = scenario.plan(request(**fields))
    plan.withdrawn()
    step = plan.hedges[0].step if plan.hedges else None
    assert step is None or step.target.name == plan.hedge.second
    return plan.attempts[0].target.name, plan.hedge.second


@on_virtual_time
async def test_the_second_is_of_the_same_class_though_another_name() -> None:
    same = {"same_as": {"m": "gpt-4o-mini"}}
    for rows_more, second in (({}, "b/m"), ({"a": same, "c": same}, "c/m")):
        scenario = Scenario(
            {"a": FAST, "b": FAST, "c": FAST},
            alias_more={"hedge": {"mode": "active"}},
            rows_more=rows_more,
        )
        for name in ("a", "b", "c"):
            learn(scenario, f"{name}/m", 0.25)
        assert second_of(scenario) == ("a/m", second)


@on_virtual_time
async def test_an_only_target_is_hedged_at_its_dearer_tier() -> None:
    scenario = Scenario({"a": FAST}, rows_more={"a": TIERED}, alias_more={"hedge": ESCALATES})
    assert second_of(scenario) == ("a/m", "a/m#priority")
    for tier in ("auto", "default"):
        assert second_of(scenario, service_tier=tier) == ("a/m", "a/m#priority")
    for tier in ("flex", "priority"):  # the caller has chosen: at its tier again
        assert second_of(scenario, service_tier=tier) == ("a/m", "a/m")
    plain = Scenario({"a": FAST}, rows_more={"a": TIERED}, alias_more={"hedge": {"mode": "active"}})
    assert second_of(plain) == ("a/m", "a/m")


@on_virtual_time
async def test_door_or_tier_is_chosen_by_tail_then_price() -> None:
    rows = {"a": {**TIERED, "same_as": {"m": "x"}}, "b": {**TIERED, "same_as": {"m": "x"}}}
    for b_s, tier_s, second in ((0.25, 0.25, "b/m"), (0.75, 0.25, "a/m#priority")):
        scenario = Scenario({"a": FAST, "b": FAST}, rows_more=rows, alias_more={"hedge": ESCALATES})
        learn(scenario, "a/m", 0.25)
        learn(scenario, "b/m", b_s)
        learn(scenario, "a/m", tier_s, "priority")
        assert second_of(scenario) == ("a/m", second)


@on_virtual_time
async def test_who_is_suspected_or_full_is_not_escalated() -> None:
    scenario = Scenario(
        {"a": FAST, "b": FAST}, rows_more={"a": TIERED}, alias_more={"hedge": ESCALATES}
    )
    planner = scenario.services.planner
    (target,) = scenario.services.catalog.routes["fast"].escalated.values()
    state = planner.states.of(target, now_s())
    learn(scenario, "a/m", 0.25)
    learn(scenario, "b/m", 2.0)
    learn(scenario, "a/m", 0.25, "priority")
    assert second_of(scenario) == ("a/m", "a/m#priority")
    state.headroom.refused(30.0, now_s())
    assert second_of(scenario) == ("a/m", "b/m")
    state.headroom = Headroom()
    first = planner.states.of(scenario.services.catalog.resolve("a/m").candidates[0], now_s())
    first.breaker.suspect("i_1", 1, now_s(), 6.0)
    assert second_of(scenario) == ("a/m", "b/m"), "its provider is what is spoken ill of"


@on_virtual_time
async def test_an_escalation_asks_at_its_tier_and_the_session_stays() -> None:
    slow = FakeEndpoint(headers_s=1.5, chunks=answer("Slow"))
    quick = FakeEndpoint(headers_s=0.25, chunks=answer("Quick"))
    hedge = {**ESCALATES, "delay": 250, "max_extra_requests": 1.0, "max_extra_cost": 10.0}
    scenario = Scenario({"a": [slow, quick]}, rows_more={"a": TIERED}, alias_more={"hedge": hedge})
    policy = Policy(session_id="call")
    _, end = await scenario.generate(request(policy=policy))
    await scenario.settled()
    first, second = scenario.transport.attempts
    assert "service_tier" not in orjson.loads(first.request.body)
    assert orjson.loads(second.request.body)["service_tier"] == "priority"
    assert end.hedge is not None
    assert (end.hedge.won, end.hedge.second) == (True, "a/m#priority")
    stay = scenario.services.planner.sticky.of(("", "call"), now_s())
    assert stay is not None
    assert stay.target == "a/m"
    assert scenario.services.planner.states.known("a/m#priority") is not None


@on_virtual_time
async def test_keys_of_other_zones_have_a_pair_of_their_own() -> None:
    rows = {name: {"data_zone": zone} for name, zone in (("a", "us"), ("b", "eu"), ("c", "eu"))}
    scenario = Scenario(
        dict.fromkeys("abc", FAST), rows_more=rows, alias_more={"choose": {"mode": "tail"}}
    )
    planner, route = scenario.services.planner, scenario.services.catalog.routes["fast"]
    inside = route.within(frozenset({"eu"}))
    assert inside is not None
    for name, median_s in (("a/m", 0.25), ("b/m", 0.75), ("c/m", 0.5)):
        learn(scenario, name, median_s)
    planner.refresh_pair(route, now_s())
    assert planner.alias("fast").pairs.keys() == {("a/m", "b/m", "c/m"), ("b/m", "c/m")}

    def first(among: Route) -> str:
        plan = planner.plan(among, request(), prompt_tokens=1, elapsed_s=0.0)
        plan.withdrawn()
        return plan.attempts[0].target.name

    assert (first(route), first(inside)) == ("a/m", "c/m")


@on_virtual_time
async def test_pairs_of_an_alias_do_not_pile_up() -> None:
    scenario = Scenario(
        {f"p{n}": FAST for n in range(6)},
        rows_more={f"p{n}": {"data_zone": f"z{n}"} for n in range(6)},
        alias_more={"choose": {"mode": "tail"}},
    )
    planner, route = scenario.services.planner, scenario.services.catalog.routes["fast"]
    for n in range(6):
        learn(scenario, f"p{n}/m", 0.25)
    for mask in range(1, 40):
        route.within(frozenset(f"z{n}" for n in range(6) if mask >> n & 1))
    planner.refresh_pair(route, now_s())
    assert len(planner.alias("fast").pairs) <= MAX_ALIAS_PAIRS


@on_virtual_time
async def test_where_a_second_place_is_kept_warm() -> None:
    hedge = {"mode": "active", "keep_second_warm": "auto", "max_extra_requests": 1.0}
    rows = {"a": TIERED, "b": TIERED, "c": {}, "d": {**TIERED, "data_zone": "eu"}}
    scenario = Scenario(dict.fromkeys("abcd", FAST), rows_more=rows, alias_more={"hedge": hedge})
    planner, route = scenario.services.planner, scenario.services.catalog.routes["fast"]
    for name in "abcd":
        learn(scenario, f"{name}/m", 0.25)

    def second(among: Route = route) -> str | None:
        found = planner.second_to_warm(among, among.candidates[0], 3000)
        return None if found is None else found.name

    assert second() is None, "no hedges so far"
    for _ in range(4):
        plan = scenario.plan()
        assert plan.may_hedge(plan.attempts[1])
        plan.withdrawn()
    assert second() == "b/m"
    inside = route.within(frozenset({"eu"}))
    assert inside is not None
    assert second(inside) is None, "nobody is left beside the first"
    planner.sticky.turns = 1.0
    assert second() is None, "too short a session"
    off = Scenario(dict.fromkeys("ab", FAST), rows_more=rows, alias_more={"hedge": ESCALATES})
    same = off.services.catalog.routes["fast"]
    assert off.services.planner.second_to_warm(same, same.candidates[0], 3000) is None
