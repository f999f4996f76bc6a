"""A key with zones on every way to a provider: generations, hedges, failovers, prefixes, counts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from relay.content import HedgeWish, Policy
from relay.errors import PermissionDenied
from relay.governance.gate import Gate, Identity
from relay.governance.key_view import KeyView
from relay.governance.ledger import NullLedger
from relay.governance.limits import KeyLimits
from relay.governance.scopes import Scopes
from relay.prewarm import Prewarm
from relay.prompt_count import count_prompt
from relay.session import check_acceptable
from tests.fakes.memory_transport import FakeEndpoint
from tests.fakes.scenario import Scenario, answer, request
from tests.fakes.virtual_time import on_virtual_time

SPEAKS = FakeEndpoint(headers_s=0.25, chunks=answer("Hi"))
SLOW = FakeEndpoint(headers_s=2.0, chunks=answer("Hi"))
FAILS = FakeEndpoint(status=500, chunks=[(0.0, b"{}")])
ROWS = {"us": SPEAKS, "eu": SPEAKS, "dark": SPEAKS, "eu2": SPEAKS, "us2": SPEAKS}
PLACES = {
    name: {"caches_prompts": True, **({"data_zone": name[:2]} if name != "dark" else {})}
    for name in ROWS
}
HEDGE = {"mode": "active", "delay": 500, "max_attempts": 3, "max_extra_requests": 1.0}


class OneKey(Gate):
    """Everybody has this key."""

    needs_keys = True
    is_ready = True

    def __init__(self, *zones: str) -> None:
        self.zones: tuple[str, ...] | None = zones or None

    def identify(self, bearer: str, names: Any = (), peer: str = "") -> Identity:
        return Identity("team", "key")

    def view(self, key_id: str) -> KeyView:
        return KeyView("key", "team", "org", Scopes(zones=self.zones), (), KeyLimits(), ())


class World:
    """A relay whose alias goes first to `us`, and last to `us2`."""

    def __init__(self, *zones: str, **rows: FakeEndpoint) -> None:
        self.gate = OneKey(*zones)
        self.scenario = Scenario(
            {**ROWS, **rows},
            fallbacks=["eu2", "us2"],
            rows_more=PLACES,
            alias_more={"hedge": HEDGE},
            ledger=NullLedger(self.gate),
        )
        self.scenario.services.gate = self.gate

    @property
    def asked(self) -> set[str]:
        return {name for name, _ in self.scenario.started}

    async def settled(self) -> None:
        await self.scenario.settled()
        self.scenario.check()


@on_virtual_time
async def test_a_failure_inside_the_zones_asks_nobody_outside() -> None:
    world = World("eu", eu=FAILS, eu2=FAILS)
    _, end = await world.scenario.generate()
    await world.settled()
    assert end.error is not None
    assert world.asked == {"eu", "eu2"}


@pytest.mark.parametrize("mode", ["auto", "race"])
def test_a_slow_first_is_hedged_inside_the_zones_or_by_itself(mode: Any) -> None:
    @on_virtual_time
    async def check() -> None:
        world = World("eu", eu=SLOW)
        wish = Policy(hedge=HedgeWish(mode=mode))
        _, end = await world.scenario.generate(request(policy=wish))
        await world.settled()
        assert (end.error, world.asked) == (None, {"eu"})

    check()


@on_virtual_time
async def test_without_zones_everybody_is_asked() -> None:
    world = World(us=FAILS, eu=FAILS, dark=FAILS, eu2=FAILS, us2=FAILS)
    await world.scenario.generate()
    await world.settled()
    assert world.asked == set(ROWS)


@on_virtual_time
async def test_a_session_is_not_held_where_it_may_not_be_any_more() -> None:
    world = World()
    policy = Policy(session_id="call")
    await world.scenario.generate(request(policy=policy))
    assert world.asked == {"us"}
    world.gate.zones = ("eu",)
    _, end = await world.scenario.generate(request(policy=policy))
    await world.settled()
    assert (end.provider, world.asked) == ("eu", {"us", "eu"})


@on_virtual_time
async def test_a_prefix_and_a_count_go_to_the_zones() -> None:
    world = World("eu")
    prewarm = Prewarm(world.scenario.services, request(), "pre_1")
    assert prewarm.task is not None
    await prewarm.task
    assert world.asked == {"eu"}
    count = await count_prompt(world.scenario.services, request(), "count_1")
    assert count.target.name == "eu/m"
    await world.settled()


@on_virtual_time
async def test_where_nothing_is_left_it_is_said_before_a_start_and_nothing_is_sent() -> None:
    world = World("ch")
    services = world.scenario.services
    with pytest.raises(PermissionDenied, match=r"\(ch\)"):
        check_acceptable(services, request(), "req_1", "test")
    _, end = await world.scenario.generate()
    assert isinstance(end.error, PermissionDenied)
    assert Prewarm(services, request(), "pre_1").task is None
    with pytest.raises(PermissionDenied):
        await count_prompt(services, request(), "count_1")
    named = replace(request(), model="us/m")
    _, end = await world.scenario.generate(named)
    assert isinstance(end.error, PermissionDenied)
    await world.settled()
    assert world.scenario.started == []
