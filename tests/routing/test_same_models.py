"""Which targets are one model."""

from __future__ import annotations

from relay.config import parse
from relay.routing.catalog import Catalog
from relay.routing.same_models import are_same
from relay.routing.target import Target

ROW = {"wire": "openai_chat", "base_url": "https://x.test/v1", "auth": "none"}
CATALOG = Catalog(
    parse(
        {
            "providers": {
                "openai": ROW,
                "openai-eu": {**ROW, "door": "openai"},
                "lab": ROW,
                "shop": {**ROW, "same_as": {"m": "gpt-4o-mini", "llama": "llama-70b"}},
                "other": {**ROW, "same_as": {"llama-fp8": "llama-70b"}},
            }
        }
    )
)


def target(name: str) -> Target:
    return CATALOG.resolve(name).candidates[0]


def same(one: str, other: str) -> bool:
    assert are_same(target(one), target(other)) == are_same(target(other), target(one))
    return are_same(target(one), target(other))


def test_by_class_and_not_by_name() -> None:
    assert same("openai/gpt-4o-mini", "shop/m")
    assert same("openai/gpt-4o-mini-2024-07-18", "shop/m")
    assert same("shop/llama", "other/llama-fp8"), "the operator says so"
    assert not same("shop/llama", "lab/llama"), "a host of open weights, of which nobody says it"
    assert not same("lab/llama", "other/llama")


def test_without_a_class_the_same_name_at_the_same_door_is_one() -> None:
    assert same("openai/gpt-9", "openai-eu/gpt-9")
    assert not same("openai/gpt-9", "lab/gpt-9")
    assert not same("openai/gpt-9", "openai-eu/gpt-8")


def test_a_tier_is_the_same_model() -> None:
    for name in ("openai/gpt-4o-mini", "lab/llama"):
        usual = target(name)
        assert are_same(usual, Target(usual.endpoint, usual.model, "priority"))
