"""No plan leaves its zones: whatever targets, keys, states and sessions there are.

Worlds are drawn (hypothesis), requests go through what every path goes through (`grants.granted`)
and are planned by the planner that serves. What a target's zone is, is worked out here once more
from the world as it was drawn, so that a zone which the relay gets wrong is found.

`RELAY_FULL=1`: 36,000 worlds of 40 requests, over 10^6 plans; they are counted and printed.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.config import ConfigError, parse
from relay.content import Budgets, GenerateRequest, HedgeWish, Message, Policy, Role, TextPart
from relay.credentials.static import StaticCredential
from relay.errors import DeadlineExceeded, PermissionDenied
from relay.governance import grants
from relay.governance.gate import Gate, Identity
from relay.governance.key_view import KeyView
from relay.governance.limits import KeyLimits
from relay.governance.scopes import Scopes
from relay.planner import Planner
from relay.race_plan import RacePlan
from relay.resilience.latency import LatencySketch
from relay.routing.catalog import Catalog
from relay.routing.route import Route
from relay.routing.target import Target
from relay.target_state import TargetState, TargetStates
from tests.fakes.properties import IS_FULL, examples

PLANS: Final = 40 if IS_FULL else 20
"""Requests of a world; of those that are refused there is no plan."""
WORLDS: Final = 200
FULL_WORLDS: Final = 36_000
ZONES: Final = ("eu", "us", "ch")
BEDROCK: Final = ("anthropic.claude-haiku-4-5-20251001-v1:0", "meta.llama3-3-70b-instruct-v1:0")
PROFILES: Final = ("", "eu.", "us.", "global.")
PRICES: Final = {
    "input": 1.0,
    "cached_input": 0.1,
    "output": 5.0,
    "tiers": {"priority": {"input": 1.5, "cached_input": 0.15, "output": 8.0}},
}

seen: Counter[str] = Counter()
"""What the plans of this run were."""


@dataclass(frozen=True)
class Row:
    """A provider and the models of it that the alias may list."""

    zone: str
    is_bedrock: bool
    profile: str
    caches: bool

    @property
    def model(self) -> str:
        return self.profile + BEDROCK[0] if self.is_bedrock else "m"

    @property
    def true_zone(self) -> str:
        """Where its model answers."""
        return self.profile.removesuffix(".") if self.is_bedrock and self.profile else self.zone


@dataclass(frozen=True)
class World:
    """As it was drawn."""

    rows: tuple[Row, ...]
    fallbacks: int
    """So many of them are fallbacks, the last ones."""
    route_zones: tuple[str, ...] | None
    key_zones: tuple[tuple[str, ...] | None, ...]
    mode: str
    escalates: bool
    warms: bool
    attempts: int
    seed: int

    @property
    def zone_of(self) -> Mapping[str, str]:
        """By place."""
        return {f"p{n}/{row.model}": row.true_zone for n, row in enumerate(self.rows)}

    def document(self) -> dict[str, Any]:
        providers: dict[str, Any] = {}
        for number, row in enumerate(self.rows):
            shared: dict[str, Any] = {
                "caches_prompts": row.caches,
                "service_tiers": ["priority"],
                "prices": {row.model: PRICES},
                "same_as": {} if row.is_bedrock else {"m": "claude-haiku-4-5"},
                "models": [row.model],
            }
            if row.zone:
                shared["data_zone"] = row.zone
            if row.is_bedrock:
                shared |= {"door": "bedrock_openai", "region": "eu-west-1", "api_key": "${KEY}"}
                shared["base_url"] = f"https://p{number}.test"
            else:
                shared |= {"wire": "openai_chat", "auth": "none"}
                shared["base_url"] = f"https://p{number}.test/v1"
            providers[f"p{number}"] = shared
        listed = [{"provider": f"p{n}", "model": row.model} for n, row in enumerate(self.rows)]
        cut = len(listed) - self.fallbacks
        alias: dict[str, Any] = {
            "candidates": listed[:cut],
            "fallbacks": listed[cut:],
            "choose": {"mode": self.mode},
            "hedge": {"mode": "active", "max_attempts": self.attempts, "max_extra_requests": 1.0},
        }
        if self.route_zones is not None:
            alias["zones"] = list(self.route_zones)
        if self.escalates:
            alias["hedge"]["escalate"] = {"tier": "priority"}
        if self.warms:
            alias["hedge"]["keep_second_warm"] = "auto"
        return {"providers": providers, "models": {"fast": alias}}


ROWS = st.builds(
    Row,
    zone=st.sampled_from(("", *ZONES)),
    is_bedrock=st.integers(0, 3).map(lambda number: number == 0),
    profile=st.sampled_from(PROFILES),
    caches=st.booleans(),
)
SOME_ZONES = st.lists(st.sampled_from((*ZONES, "global")), min_size=1, max_size=3, unique=True)
ZONE_SETS = st.none() | SOME_ZONES.map(tuple)


@st.composite
def worlds(draw: st.DrawFn) -> World:
    rows = tuple(draw(st.lists(ROWS, min_size=2, max_size=8)))
    return World(
        rows,
        fallbacks=draw(st.integers(0, min(2, len(rows) - 1))),
        route_zones=draw(ZONE_SETS),
        key_zones=(None, draw(ZONE_SETS), tuple(draw(SOME_ZONES))),
        mode=draw(st.sampled_from(("ordered", "balanced", "tail"))),
        escalates=draw(st.booleans()),
        warms=draw(st.booleans()),
        attempts=draw(st.integers(1, 3)),
        seed=draw(st.integers(0, 2**32)),
    )


class Keys(Gate):
    """Each key has the zones of its place."""

    needs_keys = True
    is_ready = True

    def __init__(self, key_zones: tuple[tuple[str, ...] | None, ...]) -> None:
        self._views = [
            KeyView(f"{n}", "team", "org", Scopes(zones=zones), (), KeyLimits(), ())
            for n, zones in enumerate(key_zones)
        ]

    def identify(self, bearer: str, names: Any = (), peer: str = "") -> Identity:
        raise NotImplementedError

    def view(self, key_id: str) -> KeyView | None:
        return self._views[int(key_id)]


class Waiting(StaticCredential):
    """A credential that cannot be used for a while."""

    def __init__(self, wait_s: float) -> None:
        super().__init__((), "none")
        self._wait_s = wait_s

    def wait_s(self, now_s: float) -> float:
        return self._wait_s


def _sketch() -> dict[str, Any]:
    """Of a target that is known; the same for all, made once: a thousand samples cost more than a
    world does."""
    draw = random.Random(7)
    sketch = LatencySketch()
    for _ in range(400):
        sketch.record(draw.lognormvariate(-0.7, 0.5), 0, 0, 0.0)
    return sketch.to_dict(0.0)


KNOWN: Final = _sketch()


class Watched:
    """One world in which requests are planned, and each plan is looked at."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.draw = random.Random(world.seed)
        self.now_s = 1000.0
        self.catalog = Catalog(parse(world.document(), {"KEY": "k"}))
        self.gate = Keys(world.key_zones)
        states = TargetStates(draw=self.draw.random)
        self.planner = Planner(states, lambda: self.now_s, draw=self.draw.random)
        self.planner.sticky.turns = 500.0  # so that a second place is worth it as a rule
        route = self.catalog.routes["fast"]
        self.targets = [*route.candidates, *route.fallbacks, *route.escalated.values()]
        self.zone_of = world.zone_of

    def check_upkeep(self) -> None:
        """What is asked without a request: of an alias with zones nobody outside them."""
        for target in self.targets:
            self.must_be_in(target, self.world.route_zones, "upkeep")

    def must_be_in(self, target: Target, zones: Any, what: str) -> None:
        zone = self.zone_of[target.place]
        assert target.zone == zone
        assert zones is None or (zone and zone in zones), f"{what}: {target.name} is in {zone!r}"

    def upset(self) -> None:
        """Something happens to a target."""
        target = self.draw.choice(self.targets)
        state = self.planner.states.of(target, self.now_s)
        what = self.draw.randrange(10)
        if what == 0:  # ejected, and brought back as time goes by
            for _ in range(12):
                permit = state.breaker.permit(self.now_s, forced=True)
                if permit is not None:
                    permit.failure(self.now_s)
        elif what == 1:
            state.breaker.suspect("other", 1, self.now_s, 6.0)
        elif what == 2:
            state.headroom.refused(self.draw.choice((None, 0.5, 30.0)), self.now_s)
        elif what == 3:
            state.push_back.said(5.0, self.now_s)
        elif what == 4:  # as many in flight as it takes
            while state.limiter.acquire(self.now_s) is not None:
                pass
        elif what == 5:
            self._know(state)
        elif what == 6:
            self.planner.refresh_pair(self.catalog.routes["fast"], self.now_s)
        elif what == 7:  # its credential is not there, or there again
            wait_s = self.draw.choice((0.0, 5.0))
            object.__setattr__(target.endpoint, "credential", Waiting(wait_s))
        else:
            self.now_s += self.draw.choice((0.1, 3.0, 30.0, 301.0))

    def _know(self, state: TargetState) -> None:
        state.latency = LatencySketch.from_dict(KNOWN, self.now_s, away_s=0.0)
        state.refresh(self.now_s)

    def request(self) -> GenerateRequest:
        draw = self.draw
        name = "fast"
        if draw.random() < 0.2:
            name = draw.choice(list(self.zone_of))
        wish = draw.choice((HedgeWish(), HedgeWish(), HedgeWish("race"), HedgeWish("off")))
        if draw.random() < 0.2:
            wish = HedgeWish(delay_s=0.1)
        session = f"s{draw.randrange(3)}" if draw.random() < 0.5 else ""
        if session and draw.random() < 0.3:  # its cache is anywhere, as before a key was changed
            place = draw.choice(list(self.zone_of))
            named = ("", session)
            self.planner.sticky.won(named, place, self.now_s, prompt_tokens=900, was_first=True)
            other = draw.choice(list(self.zone_of))
            self.planner.sticky.warmed(named, other, self.now_s, prompt_tokens=900)
        asked_as = ""
        if name == "fast" and draw.random() < 0.15:  # as a prefix that is sent ahead
            name, asked_as = draw.choice(list(self.zone_of)), "fast"
        return GenerateRequest(
            model=name,
            messages=(Message(Role.USER, (TextPart("Hello"),)),),
            service_tier=draw.choice(("", "", "", "default", "flex")),
            asked_as=asked_as,
            policy=Policy(
                key_id=f"{draw.randrange(3)}",
                hedge=wish,
                session_id=session,
                speculative=draw.random() < 0.1,
                budgets=Budgets(first_token_s=draw.choice((None, None, 2.0))),
            ),
        )

    def plan(self) -> None:
        """One request, and all that may come of it."""
        request = self.request()
        world, policy = self.world, request.policy
        alias = "fast" in (request.model, request.asked_as)
        allowed = _both(world.route_zones if alias else None, world.key_zones[int(policy.key_id)])
        try:
            grant = grants.granted(self.gate, self.catalog, request)
        except PermissionDenied as error:
            seen["refused"] += 1
            assert allowed is not None
            refused = error.metadata["field"] == "zones"
            assert refused
            places = list(self.zone_of) if request.model == "fast" else [request.model]
            if not request.asked_as:
                assert not any(self.zone_of[place] in allowed for place in places)
            return
        assert grant.request.policy.zones == allowed
        route = grant.route
        self.must_be_in(self.planner.first(route), allowed, "prewarm")
        self._second_to_warm(route, allowed)
        try:
            plan = self.planner.plan(route, grant.request, prompt_tokens=900, elapsed_s=0.0)
        except DeadlineExceeded:
            seen["hopeless"] += 1
            return
        self._look(plan, route, allowed)
        plan.withdrawn()

    def _second_to_warm(self, route: Route, allowed: Any) -> None:
        second = self.planner.second_to_warm(route, route.candidates[0], 900)
        if second is not None:
            seen["warmed"] += 1
            self.must_be_in(second, allowed, "second to warm")

    def _look(self, plan: RacePlan, route: Route, allowed: Any) -> None:
        seen["plans"] += 1
        seen["bounded"] += allowed is not None
        seen["narrowed"] += allowed is not None and len(route.candidates) < len(self.world.rows)
        for step in plan.attempts:
            self.must_be_in(step.target, allowed, "fallback" if step.is_fallback else "attempt")
        for start in plan.hedges:
            if start.step is not None:
                self.must_be_in(start.step.target, allowed, "hedge")
                seen["hedged"] += 1
                if self.draw.random() < 0.5:
                    plan.may_hedge(start.step)
                seen["escalated"] += bool(start.step.target.service_tier)
        seen[f"hedge {plan.hedge.reason}"] += 1
        if plan.hedge.second is not None:
            place = plan.hedge.second.partition("#")[0]
            assert allowed is None or self.zone_of[place] in allowed
        again = plan.attempts[0].target
        assert plan.cached_tokens(again) in (0, 900)


def _both(one: Any, other: Any) -> frozenset[str] | None:
    if one is None or other is None:
        return None if one is other is None else frozenset(one or other)
    return frozenset(one) & frozenset(other)


def look_at(world: World) -> None:
    """Plan so many requests of a world.

    Raises:
        AssertionError: one left its zones.
    """
    try:
        watched = Watched(world)
    except ConfigError as error:
        seen["no route"] += 1
        is_expected = "no candidate is in" in str(error)
        assert is_expected
        listed = world.rows[: len(world.rows) - world.fallbacks]
        assert not any(row.true_zone in (world.route_zones or ()) for row in listed)
        return
    watched.check_upkeep()
    for _ in range(PLANS):
        for _ in range(watched.draw.randrange(3)):
            watched.upset()
        watched.plan()


@examples(WORLDS, full=FULL_WORLDS)
@given(worlds())
def every_world(world: World) -> None:
    look_at(world)


@pytest.mark.timeout(7200 if IS_FULL else 120)
def test_no_plan_leaves_its_zones(capsys: pytest.CaptureFixture[str]) -> None:
    """Of plans of every kind, else it would say little."""
    seen.clear()
    began_s = time.perf_counter()
    every_world()
    for kind in ("bounded", "narrowed", "refused", "hedged", "escalated", "warmed", "no route"):
        assert seen[kind] > 0, kind
    if IS_FULL:
        with capsys.disabled():
            took_s = time.perf_counter() - began_s
            print(f"\nplans in {took_s:.0f} s: {dict(sorted(seen.items()))}")


def _fails(count: int) -> bool:
    """Whether one of so many worlds is found out."""
    draw = random.Random(3)
    for _ in range(count):
        rows = tuple(Row(draw.choice(("", *ZONES)), False, "", False) for _ in range(4))
        keys = (None, ("eu",), ("us", "ch"))
        world = World(rows, 1, None, keys, "balanced", True, False, 2, draw.randrange(2**32))
        try:
            look_at(world)
        except AssertionError:
            return True
    return False


def test_a_route_that_is_not_narrowed_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not _fails(5)
    monkeypatch.setattr(grants, "_narrowed", lambda route, zones, asked: route)
    assert _fails(5)


def test_a_zone_that_is_taken_from_the_row_alone_is_found_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("relay.routing.target.zone_of", lambda door, data_zone, model: data_zone)
    rows = (Row("eu", True, "global.", False), Row("eu", False, "", False))
    with pytest.raises(AssertionError):
        look_at(World(rows, 0, None, (None, ("eu",), ("eu",)), "ordered", False, False, 2, 1))


def test_hedges_beside_the_route_are_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A planner that takes its second from elsewhere than the route it was given."""
    whole = Planner._hedge

    def hedge(self: Planner, plan: Any, route: Route, ordered: Any, *rest: Any) -> None:
        watched = others.get(id(self))
        if watched is not None:
            target = watched.draw.choice(watched.targets)
            ordered = [*ordered, ordered[0]._replace(target=target)]
            plan.attempts = (*plan.attempts, plan.attempts[0]._replace(target=target))
        whole(self, plan, route, ordered, *rest)

    others: dict[int, Watched] = {}
    begin = Watched.__init__

    def init(self: Watched, world: World) -> None:
        begin(self, world)
        others[id(self.planner)] = self

    monkeypatch.setattr(Planner, "_hedge", hedge)
    monkeypatch.setattr(Watched, "__init__", init)
    assert _fails(10)
