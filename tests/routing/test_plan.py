"""The order of a plan: candidates, then fallbacks, nobody twice."""

from __future__ import annotations

from typing import Any

from relay.config import parse
from relay.routing.catalog import Catalog
from relay.routing.plan import RoutePlan, make_plan
from tests.fakes.scenario import request

ROW = {"wire": "openai_chat", "base_url": "https://x.test/v1", "auth": "none"}


def plan(candidates: list[str], fallbacks: list[str]) -> RoutePlan:
    """A plan over `provider/model` names."""

    def rows(names: list[str]) -> list[dict[str, Any]]:
        pairs = [name.split("/") for name in names]
        return [{"provider": provider, "model": model} for provider, model in pairs]

    document = {
        "providers": {"a": ROW, "b": ROW},
        "models": {"fast": {"candidates": rows(candidates), "fallbacks": rows(fallbacks)}},
    }
    return make_plan(Catalog(parse(document)).resolve("fast"), request())


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


def test_limits_are_those_of_the_route() -> None:
    assert plan(["a/x"], []).timeouts.connect_s == 1.0
