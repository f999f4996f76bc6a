"""The order of a plan: candidates, then fallbacks, nobody twice."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from relay.config import parse
from relay.routing.catalog import Catalog
from relay.routing.plan import RoutePlan, make_plan
from tests.fakes.scenario import request

ROW = {"wire": "openai_chat", "base_url": "https://x.test/v1", "auth": "none"}


def plan(
    candidates: list[str], fallbacks: list[str], waits_s: Mapping[str, float] = MappingProxyType({})
) -> RoutePlan:
    """A plan over `provider/model` names, some of which refuse for so long."""

    def rows(names: list[str]) -> list[dict[str, Any]]:
        pairs = [name.split("/") for name in names]
        return [{"provider": provider, "model": model} for provider, model in pairs]

    document = {
        "providers": {"a": ROW, "b": ROW},
        "models": {"fast": {"candidates": rows(candidates), "fallbacks": rows(fallbacks)}},
    }
    route = Catalog(parse(document)).resolve("fast")
    return make_plan(route, request(), lambda target: waits_s.get(target.name, 0.0))


def names(made: RoutePlan) -> list[tuple[str, bool]]:
    return [(step.target.name, step.is_fallback) for step in made.attempts]


def test_candidates_in_order_then_fallbacks() -> None:
    assert names(plan(["b/x", "a/x"], ["a/y", "b/y"])) == [
        ("b/x", False),
        ("a/x", False),
        ("a/y", True),
        ("b/y", True),
    ]


def test_target_that_stands_twice_is_tried_once() -> None:
    assert names(plan(["a/x", "a/x", "a/y"], ["a/x", "b/x", "b/x"])) == [
        ("a/x", False),
        ("a/y", False),
        ("b/x", True),
    ]


def test_who_will_refuse_comes_last_and_the_soonest_first() -> None:
    made = plan(["a/x", "a/y", "b/x"], ["b/y"], {"a/x": 30.0, "b/x": 2.0})
    assert names(made) == [("a/y", False), ("b/y", True), ("b/x", False), ("a/x", False)]


def test_limits_are_those_of_the_route() -> None:
    assert plan(["a/x"], []).timeouts.connect_s == 1.0
