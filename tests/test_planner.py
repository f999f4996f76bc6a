"""The planner's own memory: aliases, sessions, and who is tried to learn of it."""

from __future__ import annotations

import pytest

from relay.config import ConfigError, parse
from relay.content import Policy
from relay.planner import MAX_DIRECT
from relay.routing.catalog import Route
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
        stay = planner.sticky.of(f"call-{number}", now_s())
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
