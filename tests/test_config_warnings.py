"""What `relay check` warns of where targets are in zones, are one model, or have service tiers."""

from __future__ import annotations

from typing import Any

import pytest

from relay.config import parse
from relay.config.known import known_providers
from relay.config_warnings import warnings

ROWS: dict[str, dict[str, Any]] = {
    "openai": {"data_zone": "us"},
    "azure": {
        "headers": {"api-key": "k"},
        "resource": "corp",
        "data_zone": "eu",
        "same_as": {"mini": "gpt-4.1-mini"},
    },
    "lab": {"wire": "openai_chat", "base_url": "http://x.test"},
}
OPENAI = {"provider": "openai", "model": "gpt-4.1-mini"}
AZURE = {"provider": "azure", "model": "mini"}
LAB = {"provider": "lab", "model": "gpt-4.1-mini"}
ACTIVE = {"mode": "active"}


def told(alias: dict[str, Any], **rows: dict[str, Any]) -> list[str]:
    providers = {name: {**row, **rows.get(name, {})} for name, row in ROWS.items()}
    return warnings(parse({"providers": providers, "models": {"fast": alias}}))


def test_doors_of_one_model_are_nothing_to_warn_of() -> None:
    assert told({"candidates": [OPENAI, AZURE], "hedge": ACTIVE}) == []
    assert told({"candidates": [OPENAI, AZURE], "zones": ["eu", "us"]}) == []


def test_targets_that_zones_leave_out() -> None:
    found = told({"candidates": [AZURE, OPENAI], "fallbacks": [LAB], "zones": ["eu"]})
    assert found == [
        "models.fast.candidates[1]: openai/gpt-4.1-mini is in us, and `zones` are eu: it is never"
        " asked",
        "models.fast.fallbacks[0]: lab/gpt-4.1-mini is in no known zone"
        " (providers.lab.data_zone is not given), and `zones` are eu: it is never asked",
    ]


def test_a_hedge_to_another_model() -> None:
    prices = {"gpt-4.1-mini": {"input": 1, "output": 2}, "x": {"input": 1, "output": 2}}
    alias = {"candidates": [OPENAI, LAB], "hedge": ACTIVE}
    (found,) = told(alias, lab={"prices": prices, "models": ["x"]})
    assert "not one model: openai/gpt-4.1-mini (gpt-4.1-mini), lab/gpt-4.1-mini (no class)" in found
    same = {"gpt-4.1-mini": "gpt-4.1-mini"}
    assert told(alias, lab={"prices": prices, "models": ["x"], "same_as": same}) == []
    # Where no class is known nothing is: two models of one host.
    alias = {"candidates": [LAB, {"provider": "lab", "model": "x"}], "hedge": ACTIVE}
    assert told(alias, lab={"prices": prices}) == []
    assert told({"candidates": [OPENAI, LAB]}) == [], "and nothing is hedged"


@pytest.mark.parametrize(("word", "hint"), [("gpt-4.1-mni", "gpt-4.1-mini"), ("zzz", None)])
def test_a_class_of_one(word: str, hint: str | None) -> None:
    (found,) = told({"candidates": [AZURE]}, azure={"same_as": {"mini": word}})
    told_of = f"providers.azure.same_as.mini: nothing else is the same as {word!r}"
    assert found == told_of + (f"; did you mean {hint!r}?" if hint else "")


def test_a_class_of_the_operators_own() -> None:
    same = {"azure": {"same_as": {"mini": "ours"}}, "lab": {"same_as": {"x": "ours"}}}
    assert told({"candidates": [AZURE]}, **same) == []


def test_escalation() -> None:
    hedge = {"mode": "active", "escalate": {"tier": "priority"}}
    assert told({"candidates": [OPENAI, dict(OPENAI)], "hedge": hedge}) == []
    found = told({"candidates": [OPENAI, AZURE], "hedge": hedge})
    assert found == [
        "models.fast.hedge.escalate: no price is known of azure/mini at tier priority, so it is not"
        " asked; give providers.azure.prices.mini.tiers.priority"
    ]
    rates = {"input": 1, "output": 2}
    prices = {"mini": {**rates, "tiers": {"priority": rates}}}
    assert told({"candidates": [OPENAI, AZURE], "hedge": hedge}, azure={"prices": prices}) == []
    own = {"prices": {"gpt-4.1-mini": rates}, "same_as": {"gpt-4.1-mini": "gpt-4.1-mini"}}
    found = told({"candidates": [OPENAI, LAB], "hedge": hedge}, lab=own)
    assert found == [
        "models.fast.hedge.escalate: lab is not known to have a tier priority; it is not asked"
    ]


def test_the_dearer_tier_of_one_candidate_is_a_second_attempt() -> None:
    hedge = {"mode": "active", "escalate": {"tier": "priority"}}
    assert told({"candidates": [OPENAI], "hedge": hedge}) == []
    (found,) = told({"candidates": [AZURE], "hedge": hedge})
    assert "no price is known of azure/mini at tier priority" in found
    (found,) = told({"candidates": [OPENAI], "hedge": {**hedge, "max_attempts": 3}})
    assert "there are only 2 candidates to ask, the dearer tier of the first included" in found
    assert "only one candidate" in told({"candidates": [OPENAI], "hedge": ACTIVE})[0]


def test_a_second_cache_that_is_none() -> None:
    hedge = {"mode": "active", "escalate": {"tier": "priority"}, "keep_second_warm": "auto"}
    (found,) = told({"candidates": [OPENAI], "hedge": hedge})
    assert found.startswith("models.fast.hedge.keep_second_warm is auto, but there is no second")
    same = {"m": "gpt-4.1-mini", "n": "gpt-4.1-mini"}
    rates = {"m": {"input": 1, "output": 2}, "n": {"input": 1, "output": 2}}
    pair = [{"provider": "lab", "model": model} for model in ("m", "n")]
    warm = {**ACTIVE, "keep_second_warm": "auto"}
    lab = {"same_as": same, "prices": rates}
    assert told({"candidates": pair, "hedge": warm}, lab=lab) == [found]
    assert told({"candidates": pair, "hedge": warm}, lab={**lab, "caches_prompts": True}) == []


def test_a_tier_that_a_door_is_not_known_to_have() -> None:
    (found,) = told({"candidates": [AZURE]}, azure={"service_tier": "flex"})
    assert found == (
        "providers.azure.service_tier is flex, which it is not known to have: priority"
    )
    assert told({"candidates": [AZURE]}, azure={"service_tier": "priority"}) == []
    assert told({"candidates": [AZURE]}, azure={"service_tier": "default"}) == []


@pytest.mark.parametrize(
    ("door", "tier"),
    [("openai", "scale"), ("bedrock", "reserved"), ("groq", "performance"), ("gemini", "standard")],
)
def test_words_of_the_providers_for_tiers(door: str, tier: str) -> None:
    row = {"door": door, "service_tier": tier, "region": "us-east-1"}
    assert (
        told({"candidates": [OPENAI]}, lab={**row, "wire": known_providers()[door]["wire"]}) == []
    )


def test_a_row_whose_tier_has_no_known_price() -> None:
    alias = {"candidates": [OPENAI, AZURE], "hedge": ACTIVE}
    (found,) = told(alias, openai={"service_tier": "flex"})
    assert "no price is known of openai/gpt-4.1-mini" in found
