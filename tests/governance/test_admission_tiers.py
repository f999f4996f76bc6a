"""What is put aside where a hedge may ask the dearer tier."""

from __future__ import annotations

from typing import Any, cast

import pytest

from relay.config import parse
from relay.content import GenerateRequest, HedgeWish, Message, Policy, Role, TextPart
from relay.governance.admission import Admission
from relay.routing.catalog import Catalog
from relay.routing.route import Route
from relay.routing.target import Target

PRICES = {"m": {"input": 1, "output": 5, "tiers": {"priority": {"input": 2, "output": 10}}}}
ROW = {
    "wire": "openai_chat",
    "base_url": "https://a.test/v1",
    "auth": "none",
    "service_tiers": ["priority"],
    "prices": PRICES,
}


def route(**hedge: Any) -> Route:
    alias = {"candidates": [{"provider": "a", "model": "m"}], "hedge": {"mode": "active", **hedge}}
    return Catalog(parse({"providers": {"a": ROW}, "models": {"fast": alias}})).routes["fast"]


def amounts(found: Route, *, tier: str = "", hedge: str = "auto", unpriced: str = "") -> list[int]:
    request = GenerateRequest(
        model="fast",
        messages=(Message(Role.USER, (TextPart("Hello"),)),),
        service_tier=tier,
        policy=Policy(hedge=HedgeWish(mode=cast("Any", hedge))),
    )

    def bound_micro(target: Target) -> int | None:
        if target.service_tier == unpriced and unpriced:
            return None
        return 200 if target.service_tier else 100

    return Admission._amounts(cast("Admission", None), found, request, bound_micro)


ESCALATES = {"escalate": {"tier": "priority"}}


def test_beside_the_first_there_is_the_dearer_one() -> None:
    assert amounts(route()) == [200, 100]
    assert amounts(route(**ESCALATES)) == [300, 100]
    assert amounts(route(max_attempts=3, **ESCALATES)) == [500, 100]


@pytest.mark.parametrize(
    ("more", "expected"),
    [({"tier": "flex"}, [200, 100]), ({"tier": "default"}, [300, 100]), ({"hedge": "off"}, [100])],
)
def test_where_none_is_asked_none_is_put_aside(more: Any, expected: list[int]) -> None:
    assert amounts(route(**ESCALATES), **more) == expected


def test_a_tier_that_the_accounts_know_no_price_of_refuses_no_request() -> None:
    assert amounts(route(**ESCALATES), unpriced="priority") == [200, 100]
