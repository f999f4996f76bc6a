"""Which targets are meant."""

from __future__ import annotations

from typing import Any

import pytest

from relay.commands.doors_view import named_targets
from relay.config import parse
from relay.errors import UnknownModel
from relay.measuring.choice import ChoiceError, Named, doors_of
from relay.measuring.samples import Door
from relay.routing.catalog import Catalog

CLAUDE = "claude-haiku-4-5"
DOCUMENT: dict[str, Any] = {
    "providers": {
        "openai": {"api_key": "${K}"},
        "azure-eu": {
            "door": "azure",
            "resource": "r",
            "api_key": "${K}",
            "same_as": {"mini": "gpt-4o-mini"},
        },
        "anthropic": {"api_key": "${K}"},
        "bedrock-us": {"door": "bedrock_messages", "region": "us-east-1", "api_key": "${K}"},
    },
    "models": {
        "fast": {
            "candidates": [
                {"provider": "azure-eu", "model": "mini"},
                {"provider": "openai", "model": "gpt-4o-mini"},
            ],
            "fallbacks": [{"provider": "openai", "model": "gpt-4.1-mini"}],
        }
    },
}


def chosen(**named: list[str]) -> list[Door]:
    config = parse(DOCUMENT, {"K": "some-secret"})
    catalog = Catalog(config)
    return doors_of(catalog, list(named_targets(config, catalog)), Named(**named))


def names(**named: list[str]) -> list[str]:
    return [door.target.name for door in chosen(**named)]


def test_an_alias_is_all_its_targets() -> None:
    every = ["azure-eu/mini", "openai/gpt-4o-mini", "openai/gpt-4.1-mini"]
    assert names(models=["fast"]) == every
    assert names(models=["fast"], providers=["openai"]) == every[1:]
    assert names(models=["fast", "azure-eu/mini"]) == every, "each once"


def test_a_model_has_its_own_name_at_each_provider() -> None:
    both = ["openai/gpt-4o-mini", "azure-eu/mini"]
    assert names(models=["gpt-4o-mini"], providers=["openai", "azure-eu"]) == both
    assert names(models=["mini"], providers=["azure-eu", "openai"])[0] == "azure-eu/mini"
    bedrock = "bedrock-us/anthropic.claude-haiku-4-5-20251001-v1:0"
    assert names(models=[CLAUDE], providers=["anthropic", "bedrock-us"]) == [
        f"anthropic/{CLAUDE}",
        bedrock,
    ]
    assert names(models=["odd"], providers=["openai"]) == ["openai/odd"], "it may exist there"


def test_a_class_is_every_door_that_has_it() -> None:
    assert names(classes=["gpt-4o-mini"]) == ["openai/gpt-4o-mini", "azure-eu/mini"]
    assert len(names(classes=[CLAUDE])) == 2
    assert names(classes=[CLAUDE], providers=["anthropic"]) == [f"anthropic/{CLAUDE}"]


def test_tiers_are_targets_of_their_own_with_their_price() -> None:
    usual, dear = chosen(models=["openai/gpt-4.1-mini"], tiers=["default", "priority"])
    assert (usual.target.name, dear.target.name) == (
        "openai/gpt-4.1-mini",
        "openai/gpt-4.1-mini#priority",
    )
    assert usual.price is not None
    assert dear.price is not None
    assert dear.price.input > usual.price.input


def test_the_tier_of_a_row_is_what_it_costs() -> None:
    document = {"providers": {"openai": {"api_key": "${K}", "service_tier": "priority"}}}
    config = parse(document, {"K": "some-secret"})
    catalog = Catalog(config)
    (door,) = doors_of(catalog, [], Named(models=["openai/gpt-4.1-mini"]))
    (usual,) = chosen(models=["openai/gpt-4.1-mini"])
    assert door.price is not None
    assert usual.price is not None
    assert door.price.input > usual.price.input


@pytest.mark.parametrize(
    ("named", "told"),
    [
        ({}, "say what to measure"),
        ({"providers": ["openai"]}, "say what to measure"),
        ({"providers": ["opnai"], "models": ["m"]}, "--provider opnai: the file has no such row"),
        ({"classes": ["gpt-9"]}, "a model of this class; it has "),
        ({"models": ["anthropic/x"], "tiers": ["priority"]}, "anthropic has no such tier"),
    ],
)
def test_what_is_not_there_is_told(named: dict[str, list[str]], told: str) -> None:
    with pytest.raises(ChoiceError, match=told):
        chosen(**named)


def test_a_name_that_is_none_is_told_as_to_a_client() -> None:
    with pytest.raises(UnknownModel):
        chosen(models=["gpt-4o-minny"])
