"""Copies of requests (`relay.shadow`), on the virtual clock."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from relay.config.experiments import ShadowConfig
from relay.content import (
    Budgets,
    GenerateRequest,
    HedgeWish,
    Message,
    Policy,
    Role,
    Sampling,
    TextPart,
)
from relay.course import PolicyCourse
from relay.outcome import Ended
from relay.shadow import Heard, Shadows
from tests.fakes.memory_transport import FakeEndpoint
from tests.fakes.relay_under_test import DONE, chunk
from tests.fakes.scenario import Scenario, answer, request
from tests.fakes.virtual_time import now_s, on_virtual_time

PRICES = {"prices": {"m": {"prompt_per_million": 1, "completion_per_million": 2}}}


class World:
    """A relay whose alias asks `a`; copies go to `b`."""

    def __init__(self, b: FakeEndpoint | None = None, **fields: Any) -> None:
        self.scenario = Scenario(
            {
                "a": FakeEndpoint(chunks=answer("Hello", " there", first_s=0.2)),
                "b": b or FakeEndpoint(chunks=answer("Hello", " there", first_s=0.5)),
            },
            fallbacks=["b"],
        )
        services = self.scenario.services
        row = {"model": "fast", "use": "b/m", "share": 1.0, "max_cost_micro_per_day": 0, **fields}
        self.shadows = Shadows({"new": ShadowConfig.model_validate(row)}, services)
        self.told: list[Ended] = []
        services.record = self.shadows.recording(None)
        services.on_ended = [self.told.append, self.shadows.ended]

    async def ask(self, **fields: Any) -> None:
        """One generation, to its end."""
        await self.scenario.generate(**fields)

    async def over(self) -> Ended:
        """The copy's end."""
        await self.scenario.settled()
        assert len(self.told) == 2
        return self.told[1]


@on_virtual_time
async def test_a_copy_is_told_with_whose_it_is_and_how_they_compare() -> None:
    world = World()
    await world.ask()
    assert world.scenario.started == [("a", 0.0)], "nothing begins before the answer's end"
    copied = await world.over()
    assert (copied.frontend, copied.end.error, copied.end.provider) == ("shadow", None, "b")
    decision = copied.end.decision
    assert decision is not None
    told = decision.shadow
    assert told["name"] == "new"
    assert told["of"] == "gen_1"
    assert copied.generation_id == f"gen_1-{world.shadows.plans['new'].mark}"
    assert told["of_first_content_us"] == 200_000
    assert copied.first_content_us == 500_000
    assert (told["of_finish"], told["finish"]) == ("STOP", "STOP")
    assert (told["of_chars"], told["chars"]) == (11, 11)
    assert told["is_equal"]
    assert told["likeness"] == 1.0
    assert decision.as_dict() == {"shadow": told}
    world.scenario.check()


@on_virtual_time
async def test_another_answer_is_another() -> None:
    world = World(FakeEndpoint(chunks=answer("Hello", " you")))
    await world.ask()
    decision = (await world.over()).end.decision
    assert decision is not None
    assert decision.shadow["is_equal"] is False
    assert decision.shadow["likeness"] == 0.0


@on_virtual_time
async def test_texts_are_compared_where_that_is_wanted() -> None:
    world = World(compare_text=False)
    services = world.scenario.services
    assert services.record is not None
    assert services.record(request(), "gen_1") is None
    await world.ask()
    decision = (await world.over()).end.decision
    assert decision is not None
    assert "likeness" not in decision.shadow
    assert decision.shadow["chars"] == 11


@on_virtual_time
async def test_a_copy_says_nothing_of_whose_it_is() -> None:
    world = World()
    policy = Policy(
        budgets=Budgets(first_token_s=1.0),
        tenant="team_1",
        key_id="key_1",
        session_id="call 7",
        labels={"room": "3"},
        tags=("vip",),
        zones=None,
        traceparent="00-" + "1" * 32 + "-" + "2" * 16 + "-01",
        hedge=HedgeWish(mode="race"),
        speculative=False,
    )
    wanted = request(
        policy=policy,
        user="anna",
        prompt_cache_key="anna",
        extra={"metadata": {"name": "anna"}, "user": "anna", "seed_text": "x", "models": ["z"]},
        native={"openai_chat": {"store": True, "verbosity": "low"}},
        sampling=Sampling(temperature=0.5),
    )
    await world.ask(wanted=wanted)
    copied = (await world.over()).request
    assert copied.model == "b/m"
    assert copied.user == copied.prompt_cache_key == ""
    assert copied.extra == {"seed_text": "x"}
    assert copied.native == {"openai_chat": {"verbosity": "low"}}
    assert (copied.messages, copied.sampling) == (wanted.messages, wanted.sampling)
    assert copied.policy == Policy(
        budgets=Budgets(total_s=60.0), hedge=HedgeWish(mode="off"), tenant="shadow"
    )


class Redacting:
    """`Guards` that take every prompt for another."""

    async def check(
        self, request: GenerateRequest, scope: Any, decision: Any, legs: Any
    ) -> GenerateRequest:
        return replace(request, messages=(Message(Role.USER, (TextPart("[secret]"),)),))

    def over(self, request: Any, scope: Any, decision: Any, legs: Any) -> None:
        return None

    def check_passthrough(self, scope: Any) -> None: ...

    async def aclose(self) -> None: ...


@on_virtual_time
async def test_what_guardrails_took_out_is_not_copied() -> None:
    world = World()
    world.scenario.services.course = PolicyCourse(guards=Redacting())
    await world.ask()
    copied = (await world.over()).request
    assert copied.messages[0].parts == (TextPart("[secret]"),)


@on_virtual_time
async def test_a_copy_goes_no_further_than_its_zones() -> None:
    world = World()
    zoned = request(policy=Policy(zones=frozenset({"eu"})))
    await world.ask()
    await world.over()
    world.told[0] = world.told[0]._replace(request=zoned, generation_id="gen_2")
    world.shadows.ended(world.told[0])
    await world.scenario.settled()
    refused = world.told[2]
    assert refused.end.error is not None
    assert refused.end.error.reason.name == "PERMISSION_DENIED"
    assert refused.end.attempts == ()


def left_early(ended: Ended) -> Ended:
    return ended._replace(end=ended.end.__class__(**{**_fields(ended.end), "error": _GONE}))


def _fields(end: Any) -> dict[str, Any]:
    return {name: getattr(end, name) for name in end.__dataclass_fields__}


_GONE = RuntimeError("gone")


@pytest.mark.parametrize(
    "changed",
    [
        lambda ended: ended._replace(frontend="prewarm"),
        lambda ended: ended._replace(frontend="shadow"),
        lambda ended: ended._replace(request=request(model="other")),
        left_early,
    ],
)
@on_virtual_time
async def test_what_is_not_copied(changed: Callable[[Ended], Ended]) -> None:
    world = World()
    world.scenario.services.on_ended = [world.told.append]
    await world.ask()
    world.shadows.ended(changed(world.told[0]))
    await world.scenario.settled()
    assert len(world.told) == 1
    assert world.shadows.describe()["new"]["started"] == 0


@on_virtual_time
async def test_a_copy_that_fails_harms_nobody() -> None:
    world = World(FakeEndpoint(status=500))
    for number in range(5):
        await world.ask(generation_id=f"gen_{number}")
        await world.scenario.settled()
    assert [ended.end.error is None for ended in world.told] == [True, False] * 5
    states = [
        dict(planner.states.items())["b/m"].describe(now_s())["breaker"]
        for planner in (world.shadows.planner, world.scenario.services.planner)
    ]
    assert states[0] != states[1], "copies have breakers of their own"
    assert world.shadows.describe()["new"]["failed"] == 5


@on_virtual_time
async def test_beyond_its_budget_nothing_is_sent() -> None:
    world = World(max_requests_per_min=2)
    for number in range(4):
        await world.ask(generation_id=f"gen_{number}")
        await world.scenario.settled()
    shown = world.shadows.describe()["new"]
    assert (shown["started"], shown["dropped"]) == (2, {"rate": 2})


@on_virtual_time
async def test_under_load_and_while_draining_nothing_is_sent() -> None:
    world = World(max_running=1)
    services = world.scenario.services
    services.live.add(object(), lambda cause: None)
    await world.ask()
    services.is_draining = True
    world.shadows.ended(world.told[0])
    assert world.shadows.describe()["new"]["dropped"] == {"load": 1, "draining": 1}
    assert world.scenario.started == [("a", 0.0)]


@on_virtual_time
async def test_a_drain_does_not_wait_for_copies_and_stops_them() -> None:
    world = World(FakeEndpoint(chunks=answer("Hello", first_s=3.0)))
    await world.ask()
    await asyncio.sleep(0.1)
    assert len(world.scenario.services.live) == 0
    assert len(world.shadows.live) == 1
    world.shadows.stop()
    copied = await world.over()
    assert copied.end.error is not None
    assert copied.end.error.reason.name == "DRAINING"
    assert [host for host, _ in world.scenario.aborted] == ["b"]
    world.scenario.check()


@on_virtual_time
async def test_a_copy_that_takes_too_long_is_ended() -> None:
    world = World(FakeEndpoint(chunks=answer("Hello", first_s=3.0)), timeout_ms=1000)
    await world.ask()
    copied = await world.over()
    assert copied.end.error is not None
    assert copied.end.wall_us == 1_000_000


@on_virtual_time
async def test_another_configuration_knows_what_was_spent() -> None:
    world = World(max_requests_per_min=1)
    await world.ask()
    await world.scenario.settled()
    row = world.shadows.plans["new"].config
    again = Shadows({"new": row}, world.scenario.services, before=world.shadows)
    again.ended(world.told[0])
    assert again.describe()["new"]["dropped"] == {"rate": 1}
    assert again.planner is world.shadows.planner
    assert not Shadows({}, world.scenario.services)
    assert again


@on_virtual_time
async def test_who_wants_to_see_answers_sees_them_all_the_same() -> None:
    class Other:
        def __init__(self) -> None:
            self.taken: list[Any] = []

        def take(self, events: Any) -> None:
            self.taken += events

    other = Other()
    world = World()
    services = world.scenario.services
    services.record = world.shadows.recording(lambda request, id_: other)
    await world.ask()
    recorded = world.told[0].recorded
    assert isinstance(recorded, Heard)
    assert recorded.beside is other
    assert other.taken
    await world.over()


@pytest.mark.parametrize(("name", "is_same"), [("look_up", True), ("call", False)])
@on_virtual_time
async def test_calls_of_tools_are_compared_by_name_and_go_nowhere(name: str, is_same: bool) -> None:
    world = World(FakeEndpoint(chunks=calling(name)))
    world.scenario.transport.set("a.test", FakeEndpoint(chunks=calling("look_up")))
    await world.ask()
    decision = (await world.over()).end.decision
    assert decision is not None
    assert decision.shadow["same_tools"] is is_same
    assert "likeness" not in decision.shadow
    assert decision.shadow["finish"] == "TOOL_CALLS"


def calling(name: str) -> list[tuple[float, bytes]]:
    """An answer that is one call of a tool."""
    call: dict[str, Any] = {"index": 0, "id": "c1", "type": "function"}
    call["function"] = {"name": name, "arguments": "{}"}
    told = [chunk({"tool_calls": [call]}), chunk(finish="tool_calls"), DONE]
    return [(0.0, each) for each in told]


def test_of_an_answer_its_beginning_is_kept() -> None:
    from relay.content import TextDelta
    from relay.shadow import MAX_KEPT_CHARS

    heard = Heard()
    for _ in range(3):
        heard.take([TextDelta("x" * 10_000), TextDelta("y", 1)])
    assert heard.chars == 30_000
    assert len(heard.text) == MAX_KEPT_CHARS
