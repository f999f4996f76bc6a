"""Rates that policy compares targets with: by door, and by service tier."""

from __future__ import annotations

import pytest
from genai_prices.data_snapshot import get_snapshot

from relay.config import known_providers
from relay.prices import PROVIDER_IDS, context_window, known_price

HAIKU = "anthropic.claude-haiku-4-5-20251001-v1:0"


def test_doors_and_names_of_the_data_are_there() -> None:
    assert PROVIDER_IDS.keys() <= known_providers().keys()
    assert set(PROVIDER_IDS.values()) <= {provider.id for provider in get_snapshot().providers}


@pytest.mark.parametrize(
    ("door", "model"),
    [
        ("azure", "gpt-4o-mini"),
        ("azure_deployments", "gpt-4.1-mini"),
        ("foundry_anthropic", "claude-haiku-4-5"),
        ("bedrock", HAIKU),
        ("bedrock_messages", f"eu.{HAIKU}"),
        ("bedrock_openai", "openai.gpt-oss-120b-1:0"),
        ("vertex", "gemini-2.5-flash"),
        ("vertex_anthropic", "claude-haiku-4-5@20251001"),
    ],
)
def test_doors_have_prices(door: str, model: str) -> None:
    price = known_price(door, model)
    assert price is not None
    assert 0 < price.cached_input <= price.input < price.output


def test_a_door_has_its_own_price() -> None:
    direct = known_price("anthropic", "claude-haiku-4-5-20251001")
    regional, everywhere = (known_price("bedrock", p + HAIKU) for p in ("eu.", "global."))
    assert direct is not None
    assert regional is not None
    assert everywhere == direct
    assert regional.input == pytest.approx(1.1 * direct.input)


def test_tiers_have_prices_of_their_own() -> None:
    usual, dear, slow = (known_price("openai", "gpt-5-mini", t) for t in ("", "priority", "flex"))
    assert usual is not None
    assert dear is not None
    assert slow is not None
    assert slow.input < usual.input < dear.input
    assert slow.output < usual.output < dear.output
    assert slow.cached_input < usual.cached_input < dear.cached_input


@pytest.mark.parametrize("tier", ["", "auto", "default", "standard"])
def test_words_for_the_usual_tier(tier: str) -> None:
    assert known_price("openai", "gpt-5-mini", tier) == known_price("openai", "gpt-5-mini")


@pytest.mark.parametrize(
    ("door", "model", "tier"),
    [
        ("azure", "gpt-4.1-mini", "priority"),  # OpenAI's list lends Azure the model, not its tiers
        ("bedrock", HAIKU, "priority"),
        ("openai", "gpt-4o-mini", "flex"),
        ("openai", "no-such-model", "priority"),
        ("lab", "gpt-4o-mini", "priority"),
        ("lab", "gpt-4o-mini", ""),
    ],
)
def test_an_unknown_price_is_none(door: str, model: str, tier: str) -> None:
    assert known_price(door, model, tier) is None


def test_context_windows_by_door() -> None:
    assert context_window("vertex_anthropic", "claude-haiku-4-5@20251001")
    assert context_window("lab", "claude-haiku-4-5@20251001") is None
